"""ModelSummary and RichModelSummary: show the parts of the module when fit begins."""

from collections.abc import Sequence
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

from ...bus.errors import UsageError
from ...bus.system.import_rng_guard import random_numbers_elsewhere
from ...bus.system.streams import notify_user
from ..arguments import check_at_least
from ..callback import Callback
from ..module_summary import ModuleSummary, as_text, totals

if TYPE_CHECKING:
    from ..module import LightningModule
    from ..trainer_type import Trainer

Columns = Sequence[tuple[str, Sequence[str]]]


class ModelSummary(Callback):
    """Shows the module's parts with their numbers of parameters, on stderr.

    If the module has an ``example_input_array``, forward is called with it, for the sizes of inputs
    and outputs and the number of operations. Override ``summarize`` to show all this in another
    way.

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

    def on_fit_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Show the summary."""
        if not trainer.is_global_zero:
            return
        summary = ModuleSummary(pl_module, self.max_depth)
        told: dict[str, Any] = {
            "summary_data": summary.columns(),
            "total_parameters": summary.total_parameters,
            "trainable_parameters": summary.trainable_parameters,
            "model_size": summary.model_size,
        }
        takes = signature(self.summarize).parameters  # an override of Lightning 1.x has no others
        has_all = any(each.kind is Parameter.VAR_KEYWORD for each in takes.values())
        for name in ("total_training_modes", "total_flops"):
            if has_all or name in takes:
                told[name] = getattr(summary, name)
        # Merged, for parsers made of signatures not to take what is told for arguments of ours.
        self.summarize(**(told | self._summarize_kwargs))

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
            summary_data: title and cells of each column: a number, ``Name``, ``Type``, ``Params``,
                ``Mode``, ``FLOPs``, and with an example input ``In sizes`` and ``Out sizes``.
            total_parameters: number of values of all parameters.
            trainable_parameters: number of those that require gradients.
            model_size: size of all, in MB.
            total_training_modes: number of parts in ``train`` and in ``eval`` mode.
            total_flops: operations of a forward pass; 0 without an example input.
            **summarize_kwargs: as given to the callback.
        """
        columns = [(title, [*cells]) for title, cells in summary_data]
        sums = total_parameters, trainable_parameters, model_size
        notify_user(as_text(columns, *sums, total_training_modes, total_flops))


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
            table.add_column(title, justify="right" if title in ("Params", "FLOPs") else "left")
        for row in zip(*(cells for _, cells in summary_data), strict=True):
            table.add_row(*row)
        console.print(table)
        sums = total_parameters, trainable_parameters, model_size
        console.print(totals(*sums, total_training_modes, total_flops))
