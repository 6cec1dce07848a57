"""Records what hooks do as it happens: what loops and routes call."""

import sys
from collections.abc import Callable
from time import monotonic_ns

from ..copies import StaysInRun
from .marks import HookTrace, Origin

NEVER = sys.maxsize
AT_ONCE = -1


class HookRecorder(StaysInRun):
    """Adds a word to a trace for each thing that happens, and knows when that is to be written.

    Args:
        origin: where training is.
        clock_ns: monotonic clock.
        flush_within_step: writes the trace although a step goes on.

    Attributes:
        is_on: whether anything is recorded.
        trace: what happened since it was written last.
        record: adds a word: ``record(clock_ns() + code)``.
        clock_ns: monotonic clock, for the words.
        flush_due_ns: when the trace should be written at a step's end.
        flush_latest_ns: when it should be written although a step goes on.
        flush_within_step: does that.
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
    """A recorder for where nothing is recorded: it is never due, and what it is told is dropped."""
    recorder = HookRecorder(HookTrace().origin, monotonic_ns, _do_nothing)
    recorder.is_on = False
    recorder.record = _drop
    return recorder


def _drop(_: int) -> None:
    """What happens to a word that nobody wants."""


def _do_nothing() -> None:
    """How a trace is written that stays empty."""
