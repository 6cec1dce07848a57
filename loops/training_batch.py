"""TrainingBatchLoop: what is done with one batch."""

from typing import Any

from .loop import Loop
from .optimizer import OptimizerLoop


class TrainingBatchLoop(Loop):
    """Hands a batch to the optimizer loop: one batch, one turn."""

    def __init__(self) -> None:
        self.optimizer_loop = OptimizerLoop()
        self._done = True
        self._output: Any = None

    @property
    def done(self) -> bool:
        return self._done

    def reset(self) -> None:
        self._done = False

    def advance(self, batch: Any, batch_idx: int) -> None:
        self._done = True
        self._output = self.optimizer_loop.run(batch, batch_idx)

    def on_run_end(self) -> Any:
        output, self._output = self._output, None
        return output

    def run(self, *args: Any, **kwargs: Any) -> Any:
        if type(self) is TrainingBatchLoop:  # a shorter way to the same
            return self.optimizer_loop.run(*args, **kwargs)
        return super().run(*args, **kwargs)
