"""Told: numbers that ranks tell each other with the gradients of a step."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...bus.copies import StaysInRun


class Told(StaysInRun):
    """A flag and numbers of each rank, of which all get the mean with the next gradients.

    They are the gradient of one more parameter, which no optimizer sees. They are written into it
    before the backward, which adds zero, so that no scale of the loss changes them, and a number
    that is not finite changes nothing but itself. They are as precise as the parameter.

    Args:
        size: how many, with the flag.
        dtype: of the module's parameters, or they would take an exchange of their own.

    Attributes:
        parameter: is to be averaged with those of the module.
    """

    def __init__(self, size: int, dtype: torch.dtype) -> None:
        self.parameter = nn.Parameter(torch.zeros(size, dtype=dtype))
        self._nothing = torch.zeros(size, dtype=dtype)
        self._gradient: Tensor | None = None
        self._row: Any = None  # the memory of the gradient

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
        row[0] = flag
        if len(row) > 1:
            row[1:] = numbers or 0.0

    def flagged(self) -> float:
        """Return the share of the ranks whose flag is set, after the backward."""
        return float(self._seen()[0])

    def heard(self) -> list[float]:
        """Return the mean of the ranks' numbers, after the backward."""
        found: list[float] = self._seen()[1:].tolist()
        return found

    def _seen(self) -> Any:
        """Return the memory of the gradient, which torch may have replaced."""
        gradient = self.parameter.grad
        if gradient is None:
            gradient = self.parameter.grad = torch.zeros_like(self._nothing)
        if gradient is not self._gradient:
            self._gradient, self._row = gradient, gradient.numpy()
        return self._row
