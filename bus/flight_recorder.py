"""The last events of a run that keeps no full log, in memory: cheap to note, written when asked.

What a hook costs here is a place in a ring and at most two readings of the clock. Hooks that run
directly one after the other are one note.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from .events import Event, Gap, Media, Put, RunStarted
from .place import Place, PlaceMark

CAPACITY = 2000
_NOTES_AN_EVENT = 2  # itself, and where training was

Names = tuple[str, ...]
TimedNames = tuple[Names, int]
TimedHook = tuple[str, int, int]
# What stands in the ring, in any order: names of hooks that ran one after the other, at the time of
# what is before them or at a time in ns; one hook with the time when it was done and how long it
# took; where training is from then on; events.
Note = Names | TimedNames | TimedHook | PlaceMark | Event


@dataclass(slots=True)
class NotedHook:
    """One hook out of the ring.

    Attributes:
        name: the hook.
        time_ns: when it was done; of what the library does itself, of the note before.
        duration_ns: how long its handlers took.
        mark: where training was.
    """

    name: str
    time_ns: int
    duration_ns: int
    mark: PlaceMark


class FlightRecorder:
    """Keeps the last events.

    Any thread may add events; hooks are noted on the training thread.

    Args:
        place: where training is. Whoever is told of its moves goes on being told.
        capacity: how many events are kept; the older ones are forgotten.
        clock_ns: monotonic clock.

    Attributes:
        notes: oldest first; routes and the place append to it directly.
    """

    def __init__(
        self,
        place: Place,
        capacity: int = CAPACITY,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.capacity = capacity
        self.clock_ns = clock_ns
        self.notes: deque[Note] = deque(maxlen=capacity * _NOTES_AN_EVENT)
        self._place = place
        self._started: RunStarted | None = None

    def follow_place(self) -> None:
        """Hear of the place's moves from now on, besides whoever does already."""
        others, note = self._place.on_move, self.notes.append
        note(self._place.mark())
        if others is None or others == note:
            self._place.tell_moves(note)
            return
        told = others

        def on_move(mark: PlaceMark) -> None:
            note(mark)
            told(mark)

        self._place.tell_moves(on_move)

    def add(self, event: Event) -> None:
        """Keep an event; images and the like are not kept, which may be large."""
        if type(event) is RunStarted:
            self._started = event
        elif type(event) is not Media:
            self.notes.append(event)

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

    def last(self) -> list[Event | NotedHook]:
        """The run's start, and the last events, oldest first; any thread may ask."""
        found: list[Event | NotedHook] = []
        mark: PlaceMark | None = None
        at_ns = 0  # the last time that was read
        for note in list(self.notes):  # list() of a deque is one step of the interpreter
            if isinstance(note, Event):
                found.append(_arrived(note))
            elif isinstance(note[0], int):
                mark = note
            elif mark is None:
                continue  # the ring begins behind where training was
            elif isinstance(note[0], tuple):
                names, at_ns = note
                found += [NotedHook(name, at_ns, 0, mark) for name in names]
            elif isinstance(note[-1], int):
                name, at_ns, duration_ns = note
                found.append(NotedHook(name, at_ns, duration_ns, mark))
            else:
                found += [NotedHook(name, at_ns, 0, mark) for name in note]
        start: list[Event | NotedHook] = [] if self._started is None else [self._started]
        return start + found[-(self.capacity - len(start)) :]


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
