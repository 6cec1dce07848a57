"""FlightRecorder: keeps the last events of a run without a full log in memory.

A hook costs what recording it costs (codes.py), and a copy of the trace now and then. An event is
kept with its position in the trace: how many words were recorded before it.
"""

import time
from array import array
from collections import deque
from collections.abc import Callable
from operator import itemgetter
from typing import Any

import msgspec

from ..events import Event, Gap, Media, PlainUserEvent, Put, RunStarted
from ..system.uninterrupted import uninterrupted
from .codes import Origin
from .hook_recorder import HookRecorder
from .place import Place
from .trace import HookAt, HookTrace, Walk, count_hooks, may_be_open, shape_of, words_of_hooks

CAPACITY = 2000
MAX_KEPT_BYTES = 4096  # of the fields of a user's event; the last events must not take much memory
MAX_STEP_NS = 100_000_000  # after which a step's trace is taken before it has ended
NOBODY = 0  # no thread's number
_WORDS_AN_EVENT = 2  # about the most recorded before they are moved


class FlightRecorder:
    """Keeps the last events.

    Any thread may add events; hooks are recorded on the training thread.

    Args:
        place: the place in training, which has hooks recorded here from now on.
        capacity: number of events kept; older ones are dropped.
        clock_ns: monotonic clock.

    Attributes:
        recorder: records hooks.
    """

    def __init__(
        self,
        place: Place,
        capacity: int = CAPACITY,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.capacity = capacity
        self.clock_ns = clock_ns
        self._place = place
        self._started: RunStarted | None = None
        self._events: deque[tuple[int, Event]] = deque(maxlen=capacity)  # with their positions
        self._parts: list[tuple[int, HookTrace]] = []  # of the trace, by position
        self.recorder = HookRecorder(place.origin(), clock_ns, self.keep_within_step)
        self.recorder.flush_latest_ns = self.recorder.clock_ns() + MAX_STEP_NS
        place.recorder = self.recorder

    def keep_if_long(self) -> None:
        """Move a long trace to the kept parts."""
        if len(self.recorder.trace.words) > self.capacity * _WORDS_AN_EVENT:
            self.keep()

    def keep(self) -> None:
        """Move the trace to the kept parts; only on the training thread."""
        trace = self.recorder.trace
        kept = trace.rest(trace.origin)
        kept.words = trace.words[:]
        shape = shape_of(kept.words)
        rest = kept.cut(count_hooks(shape)).rest.words if may_be_open(shape) else array("Q")
        parts = [*self._parts]
        if words_of_hooks(shape):
            parts.append((trace.removed, kept))
        while sum(map(_words_of_hooks, parts[1:])) >= self.capacity:
            del parts[0]
        self._move(parts, len(shape), rest, len(shape) - len(rest), self._place.origin())

    @uninterrupted
    def _move(
        self, parts: "_Parts", number: int, rest: "array[int]", moved: int, origin: Origin
    ) -> None:
        """Keep parts, and replace a number of the trace's words, of which some are moved."""
        trace = self.recorder.trace
        trace.words[:number] = rest
        trace.origin = origin
        trace.removed += moved
        self._parts = parts

    def keep_within_step(self) -> None:
        """Move a long trace before the step has ended."""
        self.recorder.flush_latest_ns = self.recorder.clock_ns() + MAX_STEP_NS
        self.keep_if_long()

    def add(self, event: Event) -> None:
        """Keep an event; images and the like are not kept, which may be large."""
        kind = type(event)
        if kind is PlainUserEvent and len(event.data) > MAX_KEPT_BYTES:  # type: ignore[attr-defined]
            return
        if kind is RunStarted:
            self._started = event  # type: ignore[assignment]
        elif kind is not Media:
            self._append(event)

    def _append(self, event: Event) -> None:
        trace, moved = self.recorder.trace, -1
        words = trace.words
        while moved != trace.removed:  # they may be moved while another thread counts them
            moved = trace.removed
            number = len(words)
        self._events.append((moved + number, event))

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

    def put(self, source: str, name: str, value: Any, labels: tuple[str, ...]) -> None:
        """Keep a Put that happens now; like ``emit``, with fewer calls.

        Args:
            source: the name of the actor it comes from.
            name: the metric.
            value: the number, or one still being copied.
            labels: of its destinations.
        """
        place = self._place
        event = place.put_here(0, self.clock_ns(), place.step, source, name, value, labels)
        self._append(event)

    def last(self) -> list[Event | HookAt]:
        """Return the run's start, and the last events, oldest first; any thread may call this."""
        parts, words, origin, moved, events = self._snapshot()
        now = self.recorder.trace.rest(origin)
        now.words = words
        found: list[Event | HookAt] = []
        waiting = deque(sorted(events, key=itemgetter(0)))
        for begin, part in (*parts, (moved, now)):
            walk = Walk(part.origin, part.names, part.base_ns)
            for position, word in enumerate(part.words, begin):
                while waiting and waiting[0][0] <= position:
                    found.append(_arrived(waiting.popleft()[1]))
                found += walk.hooks((word,))
        found += [_arrived(event) for _, event in waiting]
        start: list[Event | HookAt] = [] if self._started is None else [self._started]
        return start + found[-(self.capacity - len(start)) :]

    @uninterrupted
    def _snapshot(self) -> "_Snapshot":
        """Return everything kept, at one moment."""
        trace = self.recorder.trace
        return self._parts, trace.words[:], trace.origin, trace.removed, [*self._events]


_Parts = list[tuple[int, HookTrace]]  # with the positions of their first words
_Snapshot = tuple[_Parts, "array[int]", Origin, int, list[tuple[int, Event]]]


def _words_of_hooks(part: tuple[int, HookTrace]) -> int:
    return words_of_hooks(shape_of(part[1].words))


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
