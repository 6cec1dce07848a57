"""ManualOptimization: runs the module's training_step, which optimizes by itself."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..actors.arguments import described
from ..actors.metrics.results import Result
from ..bus.errors import UsageError
from .outputs import kept_output
from .step_errors import exhausted
from .training_step import TrainingStepLoop


class ManualOptimization(TrainingStepLoop):
    """Runs one ``training_step``, which steps its optimizers itself.

    It does::

        output = self.training_step(batch, batch_idx, 0)
    """

    _of_run: ClassVar[tuple[str, ...]] = ("_output",)
    _output: Any = None

    def __init__(self) -> None:
        super().__init__()
        self._done = True

    @property
    def done(self) -> bool:
        return self._done

    def reset(self) -> None:
        self._done = False

    def advance(self, batch: Any, batch_idx: int) -> None:
        self._done = True
        with torch.enable_grad():
            try:
                output = self.training_step(batch, batch_idx, 0)
            except StopIteration as error:
                raise exhausted("training_step") from error
        if output is not None and not isinstance(output, Tensor | Mapping | Result):
            raise UsageError(
                f"training_step returned {described(output)}; in manual optimization, expected a "
                "tensor, a dict, or nothing"
            )
        context = self._loop_context
        if isinstance(output, Result):
            keeps = context.wiring.logs_collected_training
            context.metrics.log_result(output, "training_step", keeps)
        if context.wiring.wants_training_outputs:
            self._output = kept_output(output)

    def on_run_end(self) -> Any:
        output, self._output = self._output, None
        return output
