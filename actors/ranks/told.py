"""Told: numbers that ranks tell each other with the gradients of a step."""

from array import array
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...bus.copies import StaysInRun


class Told(StaysInRun):
    """A flag and numbers of each rank, of which all get the mean with the next gradients.

    They are the gradient of one more parameter, which no optimizer sees. They are written into it
    before the backward, which adds zero, so that no scale of the loss changes them, and a number
    that is not finite changes nothing but itself. They are as precise as the parameter. Backward
    comes to it from the loss, which it is joined to, or as a root beside the loss, which takes
    four operations less.

    Args:
        size: how many, with the flag.
        dtype: of the module's parameters, or they would take an exchange of their own.

    Attributes:
        parameter: is to be averaged with those of the module.
        root: the parameter, and what the backward adds to its gradient.
    """

    def __init__(self, size: int, dtype: torch.dtype) -> None:
        self.parameter = nn.Parameter(torch.zeros(size, dtype=dtype))
        self._nothing = torch.zeros(size, dtype=dtype)
        self._zeros = [0.0] * (size - 1)
        self.root = (self.parameter, self._nothing)
        self._gradient: Tensor | None = None
        # The memory of the gradient; takes a third of the time of NumPy's.
        self._row: memoryview[float] = memoryview(array("f"))
        self._kind = "d" if dtype is torch.float64 else "f"

    def joined_to(self, loss: Tensor) -> Tensor:
        """Return the same loss, whose backward averages the numbers, too."""
        nothing = self.parameter.dot(self._nothing)
        return loss + (nothing if nothing.dtype is loss.dtype else nothing.to(loss.dtype))

    def tell(self, flag: bool, numbers: Sequence[float]) -> None:
        """Set the flag and the numbers of this rank, before the backward.

        Args:
            flag: the flag.
            numbers: as many as there is place for, or none, which means zeros.
        """
        row = self._seen()
        row[:] = array(self._kind, (flag, *(numbers or self._zeros)))

    def flagged(self) -> float:
        """Return the share of the ranks whose flag is set, after the backward."""
        return self._seen()[0]

    def heard(self) -> list[float]:
        """Return the mean of the ranks' numbers, after the backward."""
        found: Any = self._seen()[1:].tolist()  # of floats, which memoryview's type does not tell
        return found  # type: ignore[no-any-return]

    def _seen(self) -> "memoryview[float]":
        """Return the memory of the gradient, which torch may have replaced."""
        gradient = self.parameter.grad
        if gradient is None:
            gradient = self.parameter.grad = torch.zeros_like(self._nothing)
        if gradient is not self._gradient:
            memory: Any = gradient.numpy()
            self._gradient, self._row = gradient, memoryview(memory)
        return self._row
