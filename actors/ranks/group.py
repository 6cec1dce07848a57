"""Group: what this rank's training thread exchanges with those of the other ranks."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ...bus.copies import StaysInRun
from .world import ALONE, World


class Group(StaysInRun, ABC):
    """The ranks that train together, as this rank's training thread sees them.

    All ranks call each method in the same order; a rank that calls another one gets a
    RankMismatchError that names both. Plain values go over the store, tensors over the process
    group of torch, and nothing is pickled.

    Attributes:
        world: which rank this is.
    """

    world: World

    @abstractmethod
    def broadcast(self, what: str, value: Any) -> Any:
        """Give all ranks the value of rank 0.

        Args:
            what: what it is, for errors.
            value: plain data, as msgpack knows it; ignored on other ranks.

        Returns:
            The value of rank 0.
        """

    @abstractmethod
    def gather(self, what: str, value: Any) -> Sequence[Any]:
        """Give all ranks the values of all.

        Args:
            what: what it is, for errors.
            value: plain data, as msgpack knows it.

        Returns:
            The values in the order of ranks.
        """

    @abstractmethod
    def wait_for_all(self, what: str) -> None:
        """Wait until all ranks are here, without a time limit.

        Args:
            what: what they wait for, for errors.
        """

    @abstractmethod
    def sum(self, values: Tensor) -> Tensor:
        """Add up a tensor over all ranks, in place.

        Args:
            values: same shape and dtype on all ranks.

        Returns:
            ``values``.
        """

    @abstractmethod
    def greatest(self, values: Tensor) -> Tensor:
        """Take the largest of each number over all ranks, in place.

        Args:
            values: same shape and dtype on all ranks.

        Returns:
            ``values``.
        """


class AloneGroup(Group):
    """The group of a process that trains alone: everything is its own."""

    world = ALONE

    def broadcast(self, what: str, value: Any) -> Any:
        return value

    def gather(self, what: str, value: Any) -> Sequence[Any]:
        return [value]

    def wait_for_all(self, what: str) -> None:
        pass

    def sum(self, values: Tensor) -> Tensor:
        return values

    def greatest(self, values: Tensor) -> Tensor:
        return values
