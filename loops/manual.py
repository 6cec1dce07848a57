"""ManualOptimization: the module's training_step does it all."""

from typing import Any

import torch

from ..actors.results import Result
from .outputs import kept_output
from .training_step import TrainingStepLoop


class ManualOptimization(TrainingStepLoop):
    """Runs one ``training_step``, which steps its optimizers itself."""

    def __init__(self) -> None:
        super().__init__()
        self._done = True
        self._output: Any = None

    @property
    def done(self) -> bool:
        return self._done

    def reset(self) -> None:
        self._done = False

    def advance(self, batch: Any, batch_idx: int) -> None:
        self._done = True
        with torch.enable_grad():
            output = self.training_step(batch, batch_idx, 0)
        trainer = self.trainer
        if isinstance(output, Result):
            keeps = trainer.wiring.logs_collected_training
            trainer.metrics.log_result(output, "training_step", keeps)
        if trainer.wiring.wants_training_outputs:
            self._output = kept_output(output)

    def on_run_end(self) -> Any:
        output, self._output = self._output, None
        return output
