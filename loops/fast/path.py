"""FastPath: the base of fast paths, which decides when they are taken."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from ..context import LoopContext
from .as_built import is_as_built


class FastPath(ABC):
    """Runs iterations of a loop on a fast path, as long as the result is the same.

    A run of the loop creates one. The choice is made again when handlers of hooks change, and when
    something is set on the loop or on those below it, which takes effect from the next batch on.

    Args:
        context: the run.
    """

    def __init__(self, context: LoopContext) -> None:
        self._context = context
        self._routes, self._place = context.routes, context.place
        self._metrics, self._bus = context.metrics, context.bus
        self._is_possible = False
        self._version = -1
        self._states: list[dict[str, Any]] = []  # attributes set on the loops,
        self._sizes: list[int] = []  # and their number
        self._recorder = self._place.recorder
        self._note, self._clock_ns = self._recorder.record, self._recorder.clock_ns

    def may_go(self) -> bool:
        """Return whether iterations may take the fast path now."""
        if not self.is_current():
            self._choose()
        return self._is_possible

    def is_current(self) -> bool:
        """Return whether nothing has changed since the choice was made."""
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
    def _loops(self) -> Sequence[object]:
        """Return the loops that the fast path replaces."""

    @abstractmethod
    def _prepare(self) -> bool:
        """Determine the parts of an iteration; return whether the fast path is possible."""

    @abstractmethod
    def run(self) -> bool:
        """Run iterations until the loop ends or the fast path may not be taken any more.

        Returns:
            Whether there were any.
        """
