"""FlightRecorder: keeps the last events of a run without a full log in memory.

A hook costs what recording it costs (codes.py), and a copy of the trace now and then.
"""

import itertools
import threading
import time
from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from ..events import Event, Gap, Media, PlainUserEvent, Put, RunStarted
from ..system.uninterrupted import uninterrupted
from .codes import EVENT, NUMBER, SHIFT, Origin
from .hook_recorder import AT_ONCE, HookRecorder
from .place import Place
from .trace import HookAt, HookTrace, Walk, count_hooks, shape_of

CAPACITY = 2000
MAX_KEPT_BYTES = 4096  # of the fields of a user's event; the last events must not take much memory
MAX_STEP_NS = 100_000_000  # after which a step's trace is taken before it has ended
NOBODY = 0  # no thread's number
_WORDS_AN_EVENT = 2  # about the most recorded before they are taken
_EVENT_CODE = bytes([EVENT >> SHIFT])


class FlightRecorder:
    """Keeps the last events.

    Any thread may add events; hooks are recorded on the training thread.

    Args:
        place: the place in training, which has hooks recorded here from now on.
        capacity: number of events kept; older ones are dropped.
        clock_ns: monotonic clock.

    Attributes:
        recorder: records hooks.
        on_kept: called with each trace that is taken; None for no call.
    """

    def __init__(
        self,
        place: Place,
        capacity: int = CAPACITY,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.capacity = capacity
        self.clock_ns = clock_ns
        self.on_kept: Callable[[HookTrace], None] | None = None
        self._place = place
        self._owner = threading.get_ident()
        self._max_words = capacity * _WORDS_AN_EVENT
        self._started: RunStarted | None = None
        self._events: dict[int, Event] = {}  # the last ones, by the number in the trace
        self._numbers = itertools.count()
        self._kept: deque[tuple[HookTrace, int]] = deque()  # and how many events there are in them
        self._number = 0  # of events in all of them
        self._shape = b""  # of the last that were kept,
        self._count = 0  # and how many events that is
        self.recorder = HookRecorder(place.origin(), clock_ns, self._keep_within_step)
        self.recorder.flush_latest_ns = self.recorder.clock_ns() + MAX_STEP_NS
        place.recorder = self.recorder

    def keep(self, is_step_end: bool = False) -> None:
        """Take the trace since the last time; only on the thread that created the recorder.

        Code that interrupts it, such as a signal handler, does nothing.

        Args:
            is_step_end: whether a step has ended, so that outside hooks none is open.
        """
        owner = self._owner
        if owner == NOBODY:
            return
        self._owner = NOBODY
        try:
            self._keep(is_step_end and not self._place.hook)
        finally:
            self._owner = owner

    def _keep(self, all_ended: bool) -> None:
        trace = self.recorder.trace
        kept = trace.rest(trace.origin)
        kept.words = trace.words[:]
        number, shape = len(kept.words), shape_of(kept.words)
        rest = array("Q")
        if shape != self._shape:
            self._count = count_hooks(shape) + shape.count(_EVENT_CODE)
            # To walk the words for hooks that have not ended takes 1 us a step.
            if not all_ended:
                rest = kept.cut(count_hooks(shape)).rest.words
            self._shape = b"" if rest else shape
        origin = self._place.origin()
        self.recorder.flush_latest_ns = self.recorder.clock_ns() + MAX_STEP_NS
        self._take_up(kept, number, rest, origin)
        while self._kept and self._number - self._kept[0][1] >= self.capacity:
            self._number -= self._kept.popleft()[1]
        if self.on_kept is not None:
            self.on_kept(kept)

    @uninterrupted
    def _take_up(self, kept: HookTrace, number: int, rest: "array[int]", origin: Origin) -> None:
        """Move the first words of the trace to the kept ones.

        Args:
            kept: the words.
            number: how many they are; another thread may have added an event after them.
            rest: their replacement, for hooks that have not ended.
            origin: the place in training.
        """
        trace, count = self.recorder.trace, self._count
        trace.words[:number] = rest
        trace.origin = origin
        if count:
            self._kept += ((kept, count),)
            self._number += count

    def _keep_within_step(self) -> None:
        """Take the trace before the step has ended; the rest of it is due at its end."""
        self.keep()
        self.recorder.flush_due_ns = AT_ONCE

    def add(self, event: Event) -> None:
        """Keep an event; images and the like are not kept, which may be large."""
        kind = type(event)
        if kind is PlainUserEvent and len(event.data) > MAX_KEPT_BYTES:  # type: ignore[attr-defined]
            return
        if kind is RunStarted:
            self._started = event  # type: ignore[assignment]
        elif kind is not Media:
            number = next(self._numbers)
            self._events[number] = event
            self._events.pop(number - self.capacity, None)
            words = self.recorder.trace.words
            if len(words) >= self._max_words:
                if threading.get_ident() == self._owner:
                    self.keep()
                elif shape_of(words[-1:]) == _EVENT_CODE:
                    return  # it is found after that one
            words.append(EVENT | number)

    def emit(self, kind: type[Event], *fields: Any, source: str = "") -> None:
        """Keep an event that happens now.

        Args:
            kind: its class.
            fields: its own fields, in order.
            source: the name of the actor it comes from.
        """
        place = self._place
        # It gets its sequence number when it is written.
        self.add(place.event(kind, 0, self.clock_ns(), place.step, source, *fields))

    def last(self) -> list[Event | HookAt]:
        """Return the run's start, and the last events, oldest first; any thread may call this."""
        found: list[Event | HookAt] = []
        kept, words, origin, events = self._snapshot()
        now = self.recorder.trace.rest(origin)
        now.words = words
        parts = [*(trace for trace, _ in kept), now]
        behind = _events_behind(parts, events)
        for part in parts:
            walk = Walk(part.origin, part.names, part.base_ns)
            for word in part.words:
                if word & ~NUMBER == EVENT:
                    found += map(_arrived, behind[word & NUMBER])
                else:
                    found += walk.hooks((word,))
        start: list[Event | HookAt] = [] if self._started is None else [self._started]
        return start + found[-(self.capacity - len(start)) :]

    @uninterrupted
    def _snapshot(self) -> "_Snapshot":
        """Return everything kept, at one moment."""
        trace = self.recorder.trace
        return [*self._kept], trace.words[:], trace.origin, {**self._events}


_Snapshot = tuple[list[tuple[HookTrace, int]], "array[int]", Origin, dict[int, Event]]


def _events_behind(parts: Sequence[HookTrace], events: dict[int, Event]) -> dict[int, list[Event]]:
    """Return the events of each number in the trace: its own, and those after it without one."""
    recorded = sorted(
        word & NUMBER for part in parts for word in part.words if word & ~NUMBER == EVENT
    )
    behind: dict[int, list[Event]] = {number: [] for number in recorded}
    for number in sorted(events):
        at = bisect_right(recorded, number)
        if at:
            behind[recorded[at - 1]].append(events[number])
    return behind


def _arrived(event: Event) -> Event:
    """Return the event with its value, if that is still being copied from an accelerator."""
    if type(event) is not Put or isinstance(event.value, bool | int | float):
        return event
    try:
        if event.value.ready():
            return msgspec.structs.replace(event, value=event.value.result())
        missing = "had not arrived"
    except Exception as error:  # the accelerator failed, which may be what is being examined
        missing = f"did not arrive: {error}"
    head = [getattr(event, name) for name in Event.__struct_fields__]
    return Gap(*head, 1, f"the value of {event.name!r} {missing}")
