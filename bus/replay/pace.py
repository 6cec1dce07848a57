"""How fast a recording comes: as fast as it can be read, or at its own pace or a multiple of it."""

import math
import re
from typing import Literal, Protocol

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from ..errors import UsageError

ClockName = Literal["recorded", "wall"]


def parse_rate(given: float | str) -> float:
    """How many recorded seconds go by in a second; infinite for as fast as possible.

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
    """Holds events back until it is their time."""

    def is_due(self, seconds: float) -> bool:
        """Whether it is time for an event, without waiting."""

    async def reach(self, seconds: float) -> None:
        """Wait until it is time for an event, recorded so long after the run's begin."""


class Jumping(trio.abc.Instrument):
    """Recorded time as fast as it can be: the clock jumps from event to event.

    Only for a trio run with one observer, whose clock it is. What waits for a time between two
    events gets its turn at that time.
    """

    def __init__(self) -> None:
        self.clock = MockClock(autojump_threshold=0)
        self._now_s = self.clock.current_time
        self._tasks = 0  # besides the observer's

    def begin(self) -> None:
        """Called in the observer's task, before it does anything."""
        self._tasks = 0

    # Asking trio for its statistics at each event would cost more than delivering it.
    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self._tasks += 1

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        self._tasks -= 1

    def is_due(self, seconds: float) -> bool:
        """Whether the clock is there, or can go there at once because nobody waits."""
        ahead = seconds - self._now_s()
        if self._tasks:
            now = trio.lowlevel.current_statistics()
            if now.tasks_runnable or now.seconds_to_next_deadline <= ahead:
                return False
        if ahead > 0:
            self.clock.jump(ahead)
        return True

    async def reach(self, seconds: float) -> None:
        await trio.sleep_until(seconds)
        # Others whose time it is too come first: not the scheduler says who does.
        await wait_all_tasks_blocked()


class Waiting:
    """Events come as far apart as they were recorded, or at a multiple of that rate.

    Args:
        rate: how many recorded seconds go by in a second.
        begin_s: the recorded time with which the replay begins.
        clock: whether trio's clock in the replay shows recorded time or the machine's.
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
        """Whether its time has come."""
        return trio.current_time() >= self._at(seconds)

    async def reach(self, seconds: float) -> None:
        await trio.sleep_until(self._at(seconds))

    def _at(self, seconds: float) -> float:
        """When it is an event's time, on trio's clock."""
        if self.clock is not None:
            return seconds
        if self._wall_s is None:
            self._wall_s = trio.current_time()
        return self._wall_s + (seconds - self._begin_s) / self._rate
