"""ModelSummary: shows the parts of the module when fit begins."""

from typing import TYPE_CHECKING

from ...bus.errors import UsageError
from ...bus.system.streams import notify_user
from ..arguments import check_at_least
from ..callback import Callback

if TYPE_CHECKING:
    from ..module import LightningModule
    from ..trainer_type import Trainer


class ModelSummary(Callback):
    """Shows the module's parts with their numbers of parameters, on stderr.

    Args:
        max_depth: levels of nested parts to show: 1 for children only, -1 for all, 0 for none.

    Raises:
        UsageError: it is not such a number.
    """

    why_not_replayed = "it describes the model, which a log does not hold"

    def __init__(self, max_depth: int = 1) -> None:
        if max_depth is None:
            raise UsageError("max_depth=None: expected an int of at least -1")
        check_at_least("max_depth", max_depth, -1)
        self.max_depth = max_depth

    def on_fit_start(self, trainer: "Trainer", module: "LightningModule") -> None:
        """Show the summary."""
        if trainer.is_global_zero:
            notify_user(summarise(module, self.max_depth))


def summarise(module: "LightningModule", max_depth: int = 1) -> str:
    """Return the summary as text: a line for each part, then totals.

    Args:
        module: the module.
        max_depth: levels of nested parts to show; -1 for all.
    """
    rows = [
        (name, type(part).__name__, sum(p.numel() for p in part.parameters()))
        for name, part in module.named_modules()
        if name and (max_depth < 0 or name.count(".") < max_depth)
    ]
    total = sum(p.numel() for p in module.parameters())
    trainable = sum(p.numel() for p in module.parameters() if p.requires_grad)
    size_mb = sum(p.numel() * p.element_size() for p in module.parameters()) / 1e6
    name_width = max((len(name) for name, _, _ in rows), default=0)
    kind_width = max((len(kind) for _, kind, _ in rows), default=0)
    lines = [f"  {name:<{name_width}}  {kind:<{kind_width}}  {n:>12,}" for name, kind, n in rows]
    lines.append(f"  {total:,} parameters, {trainable:,} of them trainable, {size_mb:,.3f} MB")
    return "\n".join([type(module).__name__, *lines])
