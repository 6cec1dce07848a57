"""The pace of a replay: as fast as events can be read, or recorded time at some rate."""

import math
import re
from typing import Literal, Protocol

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ..errors import UsageError

ClockName = Literal["recorded", "wall"]


def parse_rate(given: float | str) -> float:
    """Return how many recorded seconds pass in a second; infinite for as fast as possible.

    Args:
        given: ``max``, ``realtime``, a number, or ``x`` and a number.

    Raises:
        UsageError: it is none of these.
    """
    if given == "max":
        return math.inf
    if given == "realtime":
        return 1.0
    if isinstance(given, str) and re.fullmatch(r"x?\d+(\.\d+)?", given):
        given = float(given.removeprefix("x"))
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < math.inf:
        raise UsageError(
            f"rate={given!r}: expected max, realtime, or how many times faster, a number above 0 "
            "such as 10 or x0.5"
        )
    return float(given)


class Pace(Protocol):
    """Delays events until their time."""

    def is_due(self, seconds: float) -> bool:
        """Return whether an event's time has come, without waiting."""

    async def reach(self, seconds: float) -> None:
        """Wait for an event's time, given in seconds since the run began."""


class Jumping(trio.abc.Instrument):
    """Recorded time as fast as possible: the clock jumps from event to event.

    Only for a trio run with one observer, whose clock it is. A task that waits for a time between
    two events runs at that time.
    """

    def __init__(self) -> None:
        self.clock = MockClock(autojump_threshold=0)
        self._now_s = self.clock.current_time
        self._tasks = 0  # other than the observer's

    def begin(self) -> None:
        """Start counting tasks; called in the observer's task before it does anything."""
        self._tasks = 0

    # Counted here, because trio's statistics at each event would cost more than delivering it.
    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Count a new task."""
        self._tasks += 1

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        """Count a task that has ended."""
        self._tasks -= 1

    def is_due(self, seconds: float) -> bool:
        """Return whether the clock is there, or can jump there because no task waits."""
        ahead = seconds - self._now_s()
        if self._tasks:
            now = trio.lowlevel.current_statistics()
            if now.tasks_runnable or now.seconds_to_next_deadline <= ahead:
                return False
        if ahead > 0:
            self.clock.jump(ahead)
        return True

    async def reach(self, seconds: float) -> None:
        """Let the clock jump to a time, in seconds since the run began."""
        await trio.sleep_until(seconds)
        # Tasks due at the same time run first, so that the order does not depend on the scheduler.
        await wait_all_tasks_blocked()


class Waiting:
    """Events come as far apart as they were recorded, or at a multiple of that rate.

    Args:
        rate: recorded seconds that pass in a second.
        begin_s: recorded time at which the replay begins, in s.
        clock: whether trio's clock in the replay shows recorded or machine time.
    """

    def __init__(self, rate: float, begin_s: float, clock: ClockName) -> None:
        self.clock: MockClock | None = None
        self._begin_s = begin_s
        self._rate = 1.0
        self._wall_s: float | None = None  # the machine's time at begin_s
        if clock == "recorded":
            self.clock = MockClock(rate=rate)
            self.clock.jump(begin_s)
        else:
            self._rate = rate

    def is_due(self, seconds: float) -> bool:
        """Return whether an event's time has come."""
        return trio.current_time() >= self._at(seconds)

    async def reach(self, seconds: float) -> None:
        """Wait for an event's time, given in seconds since the run began."""
        await trio.sleep_until(self._at(seconds))

    def _at(self, seconds: float) -> float:
        """Return an event's time on trio's clock."""
        if self.clock is not None:
            return seconds
        if self._wall_s is None:
            self._wall_s = trio.current_time()
        return self._wall_s + (seconds - self._begin_s) / self._rate
