"""The clock for callbacks: the machine's, or in replay the recorded one."""

import time
from collections.abc import Callable
from contextvars import ContextVar

_recorded_s: ContextVar[Callable[[], float] | None] = ContextVar("recorded_s", default=None)


def monotonic() -> float:
    """Return seconds on a clock that never goes back.

    In a run it is ``time.monotonic()``. In a replay it is the recorded time of the event being
    handled,
    in seconds since the run began, so that a callback measures what the run took.
    """
    recorded_s = _recorded_s.get()
    return time.monotonic() if recorded_s is None else recorded_s()


def follow_recording(recorded_s: Callable[[], float]) -> None:
    """Have ``monotonic``, in the current task, return what a function returns."""
    _recorded_s.set(recorded_s)
