"""The last events of a run that keeps no full log, in memory: cheap to note, written when asked.

What a hook costs here is what noting it costs (marks.py), and a copy of the notes now and then.
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
from .marks import EVENT, NUMBER, SHIFT, HookAt, Notes, Walk, count_hooks, shape_of
from .place import AT_ONCE, Place
from .writer import MAX_STEP_NS, NOBODY

CAPACITY = 2000
MAX_KEPT_BYTES = 4096  # of the fields of a user's event
_WORDS_AN_EVENT = 2  # the most that are noted before they are taken up, about
_EVENT_MARK = bytes([EVENT >> SHIFT])


class FlightRecorder:
    """Keeps the last events.

    Any thread may add events; hooks are noted on the training thread.

    Args:
        place: where training is; it notes for the recorder from now on.
        capacity: how many events are kept; the older ones are forgotten.
        clock_ns: monotonic clock.

    Attributes:
        notes: what happened since it was taken up last.
        on_kept: called with what is taken up; None for nobody.
    """

    def __init__(
        self,
        place: Place,
        capacity: int = CAPACITY,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.capacity = capacity
        self.clock_ns = clock_ns
        self.notes = Notes()
        self.on_kept: Callable[[Notes], None] | None = None
        self._place = place
        self._owner = threading.get_ident()
        self._max_words = capacity * _WORDS_AN_EVENT
        self._started: RunStarted | None = None
        self._events: dict[int, Event] = {}  # the last ones, by the number in the notes
        self._numbers = itertools.count()
        self._kept: deque[tuple[Notes, int]] = deque()  # and how many events there are in them
        self._number = 0  # of events in all of them
        self._shape = b""  # of the last that were kept,
        self._count = 0  # and how many events that is
        place.note_in(self.notes, clock_ns, self._keep_late)
        place.late_ns = place.clock_ns() + MAX_STEP_NS

    def keep(self) -> None:
        """Take up the notes since the last time; only the thread that made the recorder may. What
        strikes in the middle of it leaves it be.
        """
        owner = self._owner
        if owner == NOBODY:
            return
        self._owner = NOBODY
        try:
            self._keep()
        finally:
            self._owner = owner

    def _keep(self) -> None:
        notes, place = self.notes, self._place
        words, kept = notes.words, notes.rest(notes.origin)
        kept.words = words[:]
        number, shape = len(kept.words), shape_of(kept.words)
        rest = array("Q")
        if shape != self._shape:
            self._count = count_hooks(shape) + shape.count(_EVENT_MARK)
            rest = kept.cut(count_hooks(shape)).rest.words
            self._shape = b"" if rest else shape
        count, origin = self._count, place.origin()
        place.late_ns = place.clock_ns() + MAX_STEP_NS
        # Python changes threads, and delivers interrupts, at calls and at the ends of loops. From
        # here to the next blank line there is neither, so that nobody finds half of it done.
        words[:number] = rest  # another thread may have added an event meanwhile
        notes.origin = origin
        if count:
            self._kept += ((kept, count),)
            self._number += count

        while self._kept and self._number - self._kept[0][1] >= self.capacity:
            self._number -= self._kept.popleft()[1]
        if self.on_kept is not None:
            self.on_kept(kept)

    def _keep_late(self) -> None:
        """Take up the notes of a step that goes on; the rest of it is due at its end."""
        self.keep()
        self._place.due_ns = AT_ONCE

    def add(self, event: Event) -> None:
        """Keep an event; images and the like, and users' events of their size, are not kept."""
        if type(event) is RunStarted:
            self._started = event
        elif type(event) is not Media and not (
            type(event) is PlainUserEvent and len(event.data) > MAX_KEPT_BYTES
        ):
            number = next(self._numbers)
            self._events[number] = event
            self._events.pop(number - self.capacity, None)
            words = self.notes.words
            if len(words) >= self._max_words:
                if threading.get_ident() == self._owner:
                    self.keep()
                elif shape_of(words[-1:]) == _EVENT_MARK:
                    return  # it is found behind that one
            words.append(EVENT | number)

    def emit(self, kind: type[Event], *fields: Any, source: str = "") -> None:
        """Keep an event that arises now."""
        place = self._place
        self.add(
            kind(
                0,  # its number is given when it is written
                self.clock_ns(),
                place.rank,
                place.stage,
                place.epoch,
                place.step,
                place.batch_idx,
                place.dataloader_idx,
                source,
                *fields,
            )
        )

    def last(self) -> list[Event | HookAt]:
        """The run's start, and the last events, oldest first; any thread may ask."""
        found: list[Event | HookAt] = []
        notes = self.notes
        # Without a call, as in keep.
        kept, words, origin, events = [*self._kept], notes.words[:], notes.origin, {**self._events}

        now = notes.rest(origin)
        now.words = words
        parts = [*(notes for notes, _ in kept), now]
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


def _events_behind(parts: Sequence[Notes], events: dict[int, Event]) -> dict[int, list[Event]]:
    """Which events a number in the notes stands for: its own, and those after it that have none."""
    noted = sorted(
        word & NUMBER for part in parts for word in part.words if word & ~NUMBER == EVENT
    )
    behind: dict[int, list[Event]] = {number: [] for number in noted}
    for number in sorted(events):
        at = bisect_right(noted, number)
        if at:
            behind[noted[at - 1]].append(events[number])
    return behind


def _arrived(event: Event) -> Event:
    """The event with its value, where that was still on its way from an accelerator."""
    if type(event) is not Put or isinstance(event.value, bool | int | float):
        return event
    try:
        if event.value.ready():
            return msgspec.structs.replace(event, value=event.value.result())
        missing = "had not arrived"
    except Exception as error:  # the accelerator failed, which may be why the run is looked at
        missing = f"did not arrive: {error}"
    head = [getattr(event, name) for name in Event.__struct_fields__]
    return Gap(*head, 1, f"the value of {event.name!r} {missing}")
