"""GradientsReady: records when a rank's own gradients are there, before it waits for others."""

from collections.abc import Iterable
from typing import Any

from torch.autograd import Variable
from torch.optim import Optimizer

from ...bus.copies import StaysInRun
from ...bus.log.codes import GRADIENTS_READY, ran
from ...bus.log.place import Place

_READY = ran(GRADIENTS_READY)


class GradientsReady(StaysInRun):
    """Records when the gradients of a backward are there, within ``backward``.

    DistributedDataParallel waits for the other ranks in a callback at the end of its backward,
    which it asks for with the last gradient. One that was asked for before comes first.

    Args:
        place: whose recorder it is recorded by.
    """

    def __init__(self, place: Place) -> None:
        self._place = place

    def watch(self, optimizers: Iterable[Optimizer]) -> None:
        """Record it in each backward that has a gradient for an optimizer's last parameter.

        What is asked for at a parameter's own node costs a seventh of what it costs at a loss,
        which is another in each step. DistributedDataParallel owns that node: the two end together.

        Args:
            optimizers: whose parameters DistributedDataParallel has been given.
        """
        for optimizer in optimizers:
            own = [p for group in optimizer.param_groups for p in group["params"]]
            last = next((p for p in reversed(own) if p.requires_grad), None)
            if last is not None:
                node: Any = last.expand_as(last).grad_fn
                node.next_functions[0][0].register_prehook(self._begin)

    def _begin(self, *_: Any) -> None:
        Variable._execution_engine.queue_callback(self._record)

    def _record(self) -> None:
        recorder = self._place.recorder
        recorder.record(recorder.clock_ns() + _READY)
