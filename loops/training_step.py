"""TrainingStepLoop: the base of automatic and manual optimization."""

from collections.abc import Mapping
from typing import Any

from ..actors.metrics.results import Result
from ..actors.trees import detached
from ..bus.errors import UsageError
from .loop import Loop


class TrainingStepLoop(Loop):
    """Runs ``training_step`` on one batch, or on one split of it.

    Attributes:
        hiddens: hidden states of the previous split, with truncated back-propagation; None at a
            batch's first split.
    """

    safe_points = False  # a batch is being processed

    def __init__(self) -> None:
        self.hiddens: Any = None
        self.next_hiddens: Any = None

    @property
    def asks_module(self) -> bool:
        """True if ``training_step`` is not overridden, and calls the module's."""
        return getattr(self.training_step, "__func__", None) is TrainingStepLoop.training_step

    def training_step(self, batch: Any, batch_idx: int, optimizer_idx: int) -> Any:
        """Return the output of the module's ``training_step``; override it for other losses.

        Args:
            batch: the batch, or a split of it.
            batch_idx: its number in the epoch.
            optimizer_idx: number of the optimizer; passed on if there are several.

        Returns:
            A loss of shape (), a dict with ``loss``, or None.
        """
        context = self._loop_context
        step: Any = context.routes.training_step
        if context.wiring.has_plain_training_step:
            if context.optimization.passes_optimizer_idx:
                return step(batch, batch_idx, optimizer_idx)
            return step(batch, batch_idx)
        arguments = [batch, batch_idx]
        if context.optimization.passes_optimizer_idx:
            arguments.append(optimizer_idx)
        if context.optimization.truncated_bptt_steps:
            arguments.append(self.hiddens)
        if context.device.wraps_steps:
            with context.device.forward_context():
                output = step(*arguments)
        else:
            output = step(*arguments)
        if context.wiring.has_training_step_end:
            output = context.routes.call("training_step_end", output)
        if context.optimization.truncated_bptt_steps and output is not None:
            self.next_hiddens = detached(_hiddens_of(output))
        return output


def _hiddens_of(output: Any) -> Any:
    if isinstance(output, Result):
        return output.hiddens
    if isinstance(output, Mapping) and "hiddens" in output:
        return output["hiddens"]
    is_dict = isinstance(output, Mapping)
    has = f"a dict with {sorted(map(str, output))}" if is_dict else type(output).__name__
    raise UsageError(
        "with truncated_bptt_steps, training_step returns a dict with 'loss' and 'hiddens', the "
        f"hidden states for the next split; it returned {has}"
    )
