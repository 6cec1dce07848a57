"""ModelSummary and RichModelSummary: show the parts of the module when fit begins."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...bus.errors import UsageError
from ...bus.system.import_rng_guard import random_numbers_elsewhere
from ...bus.system.streams import notify_user
from ..arguments import check_at_least
from ..callback import Callback

if TYPE_CHECKING:
    from ..module import LightningModule
    from ..trainer_type import Trainer

Columns = Sequence[tuple[str, Sequence[str]]]


class ModelSummary(Callback):
    """Shows the module's parts with their numbers of parameters, on stderr.

    Override ``summarize`` to show them in another way.

    Args:
        max_depth: levels of nested parts to show: 1 for children only, -1 for all, 0 for none.
        **summarize_kwargs: passed on to ``summarize``.

    Raises:
        UsageError: max_depth is not such a number.
    """

    why_not_replayed = "it describes the model, which a log does not hold"

    def __init__(self, max_depth: int = 1, **summarize_kwargs: Any) -> None:
        if max_depth is None:
            raise UsageError("max_depth=None: expected an int of at least -1")
        check_at_least("max_depth", max_depth, -1)
        self.max_depth = max_depth
        self._summarize_kwargs = summarize_kwargs

    def on_fit_start(self, trainer: "Trainer", module: "LightningModule") -> None:
        """Show the summary."""
        if not trainer.is_global_zero:
            return
        parameters = list(module.parameters())
        modes = [part.training for part in module.modules()]
        self.summarize(
            columns_of(module, self.max_depth),
            sum(p.numel() for p in parameters),
            sum(p.numel() for p in parameters if p.requires_grad),
            sum(p.numel() * p.element_size() for p in parameters) / 1e6,
            {"train": modes.count(True), "eval": modes.count(False)},
            0,
            **self._summarize_kwargs,
        )

    @staticmethod
    def summarize(
        summary_data: Columns,
        total_parameters: int,
        trainable_parameters: int,
        model_size: float,
        total_training_modes: dict[str, int],
        total_flops: int,
        **summarize_kwargs: Any,
    ) -> None:
        """Show the summary: a line for each part, then totals.

        Args:
            summary_data: title and cells of each column; the first row is the module.
            total_parameters: number of values of all parameters.
            trainable_parameters: number of those that require gradients.
            model_size: size of all, in MB.
            total_training_modes: number of parts in ``train`` and in ``eval`` mode.
            total_flops: 0: operations are not counted.
            **summarize_kwargs: as given to the callback.
        """
        columns = [cells for _, cells in summary_data]
        (_, kind, _), *rows = zip(*columns, strict=True)
        widths = [max((len(row[i]) for row in rows), default=0) for i in (0, 1)]
        lines = [f"  {name:<{widths[0]}}  {of:<{widths[1]}}  {n:>12}" for name, of, n in rows]
        notify_user(
            "\n".join([kind, *lines, _totals(total_parameters, trainable_parameters, model_size)])
        )


class RichModelSummary(ModelSummary):
    """ModelSummary as a table, drawn by rich.

    Args:
        max_depth: as for ModelSummary.
        **summarize_kwargs: options of ``rich.table.Table``.
    """

    @staticmethod
    def summarize(
        summary_data: Columns,
        total_parameters: int,
        trainable_parameters: int,
        model_size: float,
        total_training_modes: dict[str, int],
        total_flops: int,
        **summarize_kwargs: Any,
    ) -> None:
        with random_numbers_elsewhere():
            from rich.console import Console
            from rich.table import Table
        console = Console(stderr=True, highlight=False)
        table = Table(**{"header_style": "bold", **summarize_kwargs})
        for title, _ in summary_data:
            table.add_column(title, justify="right" if title == "Params" else "left")
        for row in zip(*(cells for _, cells in summary_data), strict=True):
            table.add_row(*row)
        console.print(table)
        console.print(_totals(total_parameters, trainable_parameters, model_size))


def columns_of(module: "LightningModule", max_depth: int) -> Columns:
    """Return the titles and cells of a summary; the first row is the module, without a name.

    Args:
        module: the module.
        max_depth: levels of nested parts; -1 for all.
    """
    parts = [
        (name, part)
        for name, part in module.named_modules()
        if not name or max_depth < 0 or name.count(".") < max_depth
    ]
    sizes = [sum(p.numel() for p in part.parameters()) for _, part in parts]
    return [
        ("Name", [name for name, _ in parts]),
        ("Type", [type(part).__name__ for _, part in parts]),
        ("Params", [f"{size:,}" for size in sizes]),
    ]


def _totals(total: int, trainable: int, size_mb: float) -> str:
    return f"  {total:,} parameters, {trainable:,} of them trainable, {size_mb:,.3f} MB"
