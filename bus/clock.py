"""The clock that callbacks measure time with: the machine's, or in replay the recorded one."""

import time
from collections.abc import Callable
from contextvars import ContextVar

_recorded_s: ContextVar[Callable[[], float] | None] = ContextVar("recorded_s", default=None)


def monotonic() -> float:
    """Seconds on a clock that never goes back.

    In a run it is ``time.monotonic()``. In a replay it is when the event that is being handled was
    recorded, in seconds since the run began, so that what a callback measures is what the run took.
    """
    recorded_s = _recorded_s.get()
    return time.monotonic() if recorded_s is None else recorded_s()


def follow_recording(recorded_s: Callable[[], float]) -> None:
    """From now on, in the current task, ``monotonic`` is what this returns."""
    _recorded_s.set(recorded_s)
