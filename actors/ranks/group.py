"""Group: what this rank's training thread exchanges with those of the other ranks."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from torch import Tensor

from ...bus.copies import StaysInRun
from ...bus.errors import RankLostError
from .link import Link
from .world import ALONE, World

T = TypeVar("T")


def nothing_to_check() -> None:
    """Check nothing."""


class Group(StaysInRun, ABC):
    """The ranks that train together, as this rank's training thread sees them.

    All ranks call each method in the same order; a rank that calls another one gets a
    RankMismatchError that names both. Plain values go over the store, tensors over the process
    group of torch, and nothing is pickled.

    Attributes:
        world: which rank this is.
        link: to the other ranks, by which they agree and hear who is lost; None if there are none.
        met: how often this rank has come to where all meet on the training thread, but for the
            methods that wait in the store; all ranks do in the same order.
        before_exchange: called before each exchange; raises if others wait for this rank elsewhere.
    """

    world: World
    link: Link | None = None
    met = 0
    before_exchange: Callable[[], None] = staticmethod(nothing_to_check)

    @abstractmethod
    def broadcast(self, what: str, value: Any, src: int = 0) -> Any:
        """Give all ranks the value of one.

        Args:
            what: what it is, for errors.
            value: plain data, as msgpack knows it; ignored on other ranks.
            src: the rank whose value it is.

        Returns:
            The value of that rank.
        """

    def decide(self, what: str, decide: Callable[[], T]) -> T:
        """Let rank 0 decide, and give all ranks its decision.

        Args:
            what: what is decided, for errors.
            decide: called on rank 0 only; returns plain data, as msgpack knows it.

        Returns:
            The decision of rank 0.

        Raises:
            RankLostError: it raised on rank 0, which passes its own exception on.
        """
        if self.world.rank == 0:
            try:
                decision = decide()
            except Exception as error:
                self.broadcast(what, [False, f"{type(error).__name__}: {error}"])
                raise
            self.broadcast(what, [True, decision])
            return decision
        is_decided, decision = self.broadcast(what, None)
        if not is_decided:
            raise RankLostError(0, f"rank 0 failed at {what}: {decision}")
        return decision

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
    def collect(self, what: str, data: bytes) -> list[bytes]:
        """Give rank 0 the bytes of all ranks, of any size.

        Args:
            what: what they are, for errors.
            data: of this rank.

        Returns:
            On rank 0, the bytes in the order of ranks; empty on the others.
        """

    @abstractmethod
    def wait_for_all(self, what: str) -> None:
        """Wait until all ranks are here, without a time limit.

        Args:
            what: what they wait for, for errors.
        """

    @abstractmethod
    def meets(self, what: str, within_s: float) -> bool:
        """Return whether all ranks call this, between the same two exchanges.

        Unlike the other methods, it may be called on some ranks only.

        Args:
            what: what they meet for; the same on all ranks.
            within_s: how long to wait for the others.

        Returns:
            The same on all ranks that call it; False if one did not in time.
        """

    @abstractmethod
    def note(self, what: str) -> None:
        """Say that something is so on this rank; the others need not call this.

        Args:
            what: under the same words on all ranks.
        """

    @abstractmethod
    def noted(self, what: str) -> int:
        """Return on how many ranks something is so, once all that it holds for have said so.

        Args:
            what: as it was noted, by this rank too.
        """

    @abstractmethod
    def share(self, tensors: Iterable[Tensor], src: int = 0) -> None:
        """Give all ranks the tensors of one, in place.

        Args:
            tensors: same number, shapes and dtypes on all ranks.
            src: the rank whose tensors they are.
        """

    @abstractmethod
    def stack(self, tensor: Tensor) -> Tensor:
        """Give all ranks the tensors of all.

        Args:
            tensor: same shape and dtype on all ranks.

        Returns:
            Tensor of shape (world_size, *shape), in the order of ranks.
        """

    @abstractmethod
    def lost(self, error: BaseException) -> RankLostError | None:
        """Tell the others of an exception that ends this rank, unless they have caused it.

        Args:
            error: the exception.

        Returns:
            What to raise instead, if another rank was lost first; None if it is this rank's own.
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

    def broadcast(self, what: str, value: Any, src: int = 0) -> Any:
        return value

    def gather(self, what: str, value: Any) -> Sequence[Any]:
        return [value]

    def collect(self, what: str, data: bytes) -> list[bytes]:
        return [data]

    def wait_for_all(self, what: str) -> None:
        pass

    def meets(self, what: str, within_s: float) -> bool:
        return True

    def note(self, what: str) -> None:
        pass

    def noted(self, what: str) -> int:
        return 1

    def share(self, tensors: Iterable[Tensor], src: int = 0) -> None:
        pass

    def stack(self, tensor: Tensor) -> Tensor:
        return tensor.unsqueeze(0)

    def lost(self, error: BaseException) -> RankLostError | None:
        return None

    def sum(self, values: Tensor) -> Tensor:
        return values

    def greatest(self, values: Tensor) -> Tensor:
        return values
