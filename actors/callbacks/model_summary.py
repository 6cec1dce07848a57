"""ModelSummary: what the module is made of, shown when fit begins."""

from typing import TYPE_CHECKING

from ...bus.streams import tell_user
from ..callback import Callback

if TYPE_CHECKING:
    from ...trainer import Trainer
    from ..module import LightningModule


class ModelSummary(Callback):
    """Shows the module's children with their numbers of parameters, on stderr."""

    why_not_replayed = "it describes the model, and a log holds none"

    def on_fit_start(self, trainer: "Trainer", module: "LightningModule") -> None:
        """Show the summary, on the first process."""
        if trainer.is_global_zero:
            tell_user(summarise(module))


def summarise(module: "LightningModule") -> str:
    """The summary as text: a line for each child, then totals."""
    rows = [
        (name, type(child).__name__, sum(p.numel() for p in child.parameters()))
        for name, child in module.named_children()
    ]
    total = sum(p.numel() for p in module.parameters())
    trainable = sum(p.numel() for p in module.parameters() if p.requires_grad)
    size_mb = sum(p.numel() * p.element_size() for p in module.parameters()) / 1e6
    name_width = max((len(name) for name, _, _ in rows), default=0)
    kind_width = max((len(kind) for _, kind, _ in rows), default=0)
    lines = [f"  {name:<{name_width}}  {kind:<{kind_width}}  {n:>12,}" for name, kind, n in rows]
    lines.append(f"  {total:,} parameters, {trainable:,} of them trainable, {size_mb:,.3f} MB")
    return "\n".join([type(module).__name__, *lines])
