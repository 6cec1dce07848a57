"""Reduction: reduces an epoch's values to a mean, a sum, an extreme, or by a function."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ...bus.events import Scalar
from ..ranks.fused_reduce import Share
from .pending_scalar import PendingScalar
from .values import Value, resolved, to_scalar

# reduce_fx, unless it is a function -> how it is done.
REDUCTIONS: dict[Any, str] = {
    "mean": "mean",
    "avg": "mean",
    "sum": "sum",
    "min": "min",
    "max": "max",
    torch.mean: "mean",
    torch.sum: "sum",
    torch.min: "min",
    torch.max: "max",
}


_MAX_UNTAKEN = 1000  # maximum number of values waiting to be reduced
_MAX_WAITING = 32  # of a GPU's; above, those that have arrived are reduced


class Reduction:
    """The values of an epoch, reduced in their order.

    A signal handler may add a value at any point here without loss: it is queued, and the
    interrupted code takes it from the queue.
    """

    def __init__(self, how: str | Callable[[Tensor], Any]) -> None:
        self._how = how
        self._sum = 0.0
        self._weight = 0.0
        self._values: list[Scalar] = []
        self._untaken: deque[tuple[Scalar, float]] = deque()
        self._waiting: deque[tuple[PendingScalar, float]] = deque()  # for a GPU
        self._is_taking = False

    def add(self, value: Value, weight: float) -> None:
        """Add a value.

        Args:
            value: the value.
            weight: its weight, used only for means.
        """
        if type(value) is PendingScalar:
            self._waiting.append((value, weight))
            if len(self._waiting) > _MAX_WAITING:
                self._take_all()
            return
        untaken = self._untaken
        untaken.append((value, weight))  # type: ignore[arg-type]
        if len(untaken) > _MAX_UNTAKEN:
            self._take_all()

    def _take_all(self, waits: bool = False) -> None:
        """Reduce the queued values, those of a GPU as far as they have arrived.

        Args:
            waits: wait for values still being copied.
        """
        if self._is_taking:
            return  # the interrupted call goes on until the queue is empty
        self._is_taking = True
        try:
            while self._untaken:
                self._take(*self._untaken.popleft())
            while self._waiting and (waits or self._waiting[0][0].ready()):
                value, weight = self._waiting.popleft()
                self._take(value.result(), weight)
        finally:
            self._is_taking = False

    def _take(self, value: Scalar, weight: float) -> None:
        if self._how == "mean":
            self._sum += value * weight
            self._weight += weight
        elif self._how == "sum":
            self._sum += value
        else:
            self._values.append(value)
            if isinstance(self._how, str):
                self._values = [self._extreme()]

    def _extreme(self) -> Scalar:
        nan = [value for value in self._values if value != value]
        if nan:
            return nan[0]
        return min(self._values) if self._how == "min" else max(self._values)

    def reduce_with(self, how: str | Callable[[Tensor], Any]) -> None:
        """Use a function from now on, also for the values so far."""
        self._how = how

    def share(self) -> Share:
        """Return this rank's share of the value of all ranks."""
        self._take_all(waits=True)
        values = [float(value) for value in self._values]
        return Share(float(self._sum), self._weight if self._how == "mean" else 1.0, values)

    def state_dict(self) -> dict[str, Any]:
        """Return the values so far, as plain data."""
        self._take_all(waits=True)
        return {"sum": self._sum, "weight": self._weight, "values": list(self._values)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._sum, self._weight = state_dict["sum"], state_dict["weight"]
        self._values = list(state_dict["values"])

    def compute(self) -> Scalar:
        """Return the reduced value, after waiting for those being copied."""
        self._take_all(waits=True)
        if self._how == "mean":
            return self._sum / self._weight if self._weight else float("nan")
        if self._how == "sum":
            return self._sum
        if isinstance(self._how, str):
            return self._values[0]
        return resolved(to_scalar("reduce_fx", self._how(torch.tensor(self._values))))
