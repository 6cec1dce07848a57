"""HookRecorder: records what hooks do; called by loops and routes."""

import sys
from collections.abc import Callable
from time import monotonic_ns

from ..copies import StaysInRun
from .codes import Origin
from .trace import HookTrace

NEVER = sys.maxsize
AT_ONCE = -1


class HookRecorder(StaysInRun):
    """Adds a word to a trace for each thing that happens, and keeps when the trace is due.

    Args:
        origin: the place in training.
        clock_ns: monotonic clock.
        flush_within_step: writes the trace before the step has ended.

    Attributes:
        is_on: something is recorded.
        trace: what happened since it was last written, or moved by a flight recorder.
        record: adds a word: ``record(clock_ns() + code)``.
        clock_ns: monotonic clock, for the words.
        flush_due_ns: when the trace should be written at a step's end.
        flush_latest_ns: when it should be written even before the step has ended.
        flush_within_step: does so.
    """

    __slots__ = (
        "clock_ns",
        "flush_due_ns",
        "flush_latest_ns",
        "flush_within_step",
        "is_on",
        "record",
        "trace",
    )

    def __init__(
        self,
        origin: Origin,
        clock_ns: Callable[[], int],
        flush_within_step: Callable[[], object],
    ) -> None:
        self.is_on = True
        self.trace = HookTrace(origin)
        self.record: Callable[[int], object] = self.trace.words.append
        self.clock_ns = self.trace.clock(clock_ns)
        self.flush_due_ns = self.flush_latest_ns = NEVER
        self.flush_within_step = flush_within_step


def recording_nothing() -> HookRecorder:
    """Return a recorder that drops everything and is never due."""
    recorder = HookRecorder(HookTrace().origin, monotonic_ns, _do_nothing)
    recorder.is_on = False
    recorder.record = _drop
    return recorder


def _drop(_: int) -> None:
    """Drop a word."""


def _do_nothing() -> None:
    """Write a trace that stays empty."""
