"""FastPath: when a shorter way to do a loop's iterations may be taken."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from .as_built import is_as_built

if TYPE_CHECKING:
    from ..context import LoopContext
    from ..loop import Loop


class FastPath(ABC):
    """Does iterations of a loop in a shorter way, as long as that comes to the same.

    A run of the loop makes one. Whether it comes to the same is worked out anew when hooks are
    handled by others than before, and when something is set on the loop or on those below it,
    which holds from the next batch on.

    Args:
        loop: whose iterations they are.
    """

    def __init__(self, loop: "Loop") -> None:
        self._trainer: LoopContext = loop.trainer
        self._routes, self._place = self._trainer.routes, self._trainer.place
        self._metrics, self._bus = self._trainer.metrics, self._trainer.bus
        self._is_possible = False
        self._version = -1
        self._states: list[dict[str, Any]] = []  # what is set on the loops,
        self._sizes: list[int] = []  # and how much that is
        self._recorder = self._place.recorder
        self._note, self._clock_ns = self._recorder.record, self._recorder.clock_ns

    def may_go(self) -> bool:
        """Whether iterations may be done in this way now."""
        if not self.is_current():
            self._choose()
        return self._is_possible

    def is_current(self) -> bool:
        """Whether all is as it was when it was worked out whether this way is possible."""
        return self._routes.version == self._version and self._sizes == [*map(len, self._states)]

    def _choose(self) -> None:
        loops = self._loops()
        self._version = self._routes.version
        self._states = [vars(loop) for loop in loops]
        self._sizes = [*map(len, self._states)]
        self._recorder = self._place.recorder
        self._note, self._clock_ns = self._recorder.record, self._recorder.clock_ns
        self._is_possible = all(map(is_as_built, loops)) and self._prepare()

    @abstractmethod
    def _loops(self) -> "list[Loop]":
        """The loops whose work this does."""

    @abstractmethod
    def _prepare(self) -> bool:
        """Work out what an iteration consists of; whether it comes to the same as the loops'."""

    @abstractmethod
    def run(self) -> bool:
        """Do iterations until the loop ends or it may not go on in this way.

        Returns:
            Whether there were any.
        """
