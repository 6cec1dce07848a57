"""TrainingBatchLoop: trains on one batch, whole or split along time."""

from collections import deque
from typing import Any

from .loop import Loop
from .manual import ManualOptimization
from .optimizer import OptimizerLoop


class TrainingBatchLoop(Loop):
    """Passes a batch to automatic or manual optimization.

    It does::

        for split in module.tbptt_split_batch(batch):  # without truncated_bptt_steps, the batch
            outputs += [optimizer_loop.run(split, batch_idx)]  # or manual_loop.run

    With truncated back-propagation through time, each split of the batch along time has its turn,
    with the hidden states of the one before.
    """

    safe_points = False  # a batch is being processed

    def __init__(self) -> None:
        self.optimizer_loop = OptimizerLoop()
        self.manual_loop = ManualOptimization()
        self._splits: deque[Any] = deque()
        self._outputs: list[Any] = []

    @property
    def done(self) -> bool:
        return not self._splits

    def on_run_start(self, batch: Any, batch_idx: int) -> None:
        context = self._loop_context
        size = context.optimization.truncated_bptt_steps
        splits = context.lightning_module.tbptt_split_batch(batch, size) if size else [batch]
        self._splits = deque(splits)
        self._outputs = []
        self._inner.hiddens = None

    def advance(self, batch: Any, batch_idx: int) -> None:
        inner = self._inner
        inner.next_hiddens = inner.hiddens  # if the step is skipped, the next split gets these
        self._outputs.append(inner.run(self._splits.popleft(), batch_idx))
        inner.hiddens = inner.next_hiddens

    def on_run_end(self) -> Any:
        outputs, self._outputs = self._outputs, []
        return outputs if self._loop_context.optimization.truncated_bptt_steps else outputs[0]

    @property
    def _inner(self) -> Any:
        return (
            self.manual_loop if self._loop_context.optimization.is_manual else self.optimizer_loop
        )
