"""Checks that events are in the order of their numbers, and that their numbers are possible."""

from collections.abc import Iterator
from functools import cache
from typing import Any

from ..events import Event, Put
from ..log.codec import DecodedEvent
from ..log.format import Footer
from .recover import is_gap
from .salvage import REPEATS, Damage, SoundFrame

MAX_HOLES = 1_000
_SHOWN = 5
_MAY_BE_NEGATIVE = frozenset(["time_ns", "batch_idx", "seq", "offset_ns"])


class OrderOfEvents:
    """Checks a segment's frames in the order of the file.

    Args:
        next_seq: the event that the segment has to begin with; None if unknown.

    Attributes:
        next_seq: the event that comes next.
        frames: number of frames checked.
    """

    def __init__(self, next_seq: int | None) -> None:
        self.next_seq = 0 if next_seq is None else next_seq
        self.frames = 0
        self._is_known = next_seq is not None
        self._begin = 0
        self._holes: list[tuple[int, int]] = []  # numbers not seen yet
        self._is_stirred = False

    def add(self, sound: SoundFrame) -> Iterator[tuple[str, str]]:
        """Check a frame; yield problems as check and line."""
        first, end = sound.frame.first_seq, sound.next_seq
        if not self.frames:
            self._begin = first
            self.next_seq = self.next_seq if self._is_known else first
        self.frames += 1
        yield from self._in_frame(sound)
        if first < self.next_seq:
            yield from self._earlier(sound)
            return
        if first > self.next_seq and not is_gap(sound, self.next_seq):
            if len(self._holes) < MAX_HOLES:
                self._holes.append((self.next_seq, first))
            else:
                yield _missing(self.next_seq, first)
        self.next_seq = end

    def rest(self, until: int | None) -> Iterator[tuple[str, str]]:
        """Yield the problems known once all frames were checked.

        Args:
            until: the event after the last, as the footer says; None without one.
        """
        if self._is_stirred:
            yield "order", "frames do not lie in the order of events"
        for begin, end in self._holes:
            yield _missing(begin, end)
        if until is not None and until > self.next_seq:
            what = f"events {self.next_seq} to {until - 1}, which the footer counts, are missing"
            yield "gaps", what
            self.next_seq = until

    def _earlier(self, sound: SoundFrame) -> Iterator[tuple[str, str]]:
        first, end = sound.frame.first_seq, sound.next_seq
        for number, (begin, until) in enumerate(self._holes):
            if begin <= first and end <= until:
                parts = [(begin, first), (end, until)]
                self._holes[number : number + 1] = [part for part in parts if part[0] < part[1]]
                self._is_stirred = True
                return
        if first >= self._begin:
            damage = Damage(sound.frame.offset, sound.frame.end, REPEATS)
            yield "damage", damage.describe()
        else:
            yield "order", f"event {first} comes after event {self.next_seq - 1}"

    def _in_frame(self, sound: SoundFrame) -> Iterator[tuple[str, str]]:
        first, number = sound.frame.first_seq, sound.frame.number
        events = sound.events
        if len(events) == number and all(
            event.seq == seq for seq, event in enumerate(events, first)
        ):
            return
        seqs = [str(event.seq) for event in events[:_SHOWN]]
        shown = ", ".join(seqs) + (", ..." if len(events) > _SHOWN else "")
        yield (
            "order",
            f"a frame of {number:,} events from {first} on has {len(events):,}, with the numbers "
            f"{shown or 'of none'}",
        )


def wrong_in_event(event: DecodedEvent) -> Iterator[str]:
    """Yield the counts and measures in an event that are negative."""
    if not isinstance(event, Event):
        return
    for name in _counts(type(event)):
        value: Any = getattr(event, name)
        if isinstance(value, int) and value < 0:
            yield f"event {event.seq}, a {type(event).__name__}, has the {name} {value}"


@cache
def _counts(kind: type[Event]) -> tuple[str, ...]:
    left_out = _MAY_BE_NEGATIVE | ({"value"} if kind is Put else set())
    return tuple(
        name
        for name in kind.__struct_fields__
        if name not in left_out and "int" in str(kind.__annotations__.get(name, "int"))
    )


def wrong_in_footer(footer: Footer) -> Iterator[str]:
    """Yield the numbers in a footer that are negative."""
    summary = footer.summary
    counts = [
        ("the next event", footer.next_seq),
        *((f"{name} events", count) for name, count in summary.events.items()),
        *((f"the hook {name}", hook.count) for name, hook in summary.hooks.items()),
        *((f"the metric {name}", metric.count) for name, metric in summary.metrics.items()),
    ]
    for what, count in counts:
        if count < 0:
            yield f"the footer counts {count} of {what}"


def _missing(begin: int, end: int) -> tuple[str, str]:
    return "gaps", f"events {begin} to {end - 1} are missing, and no Gap says why"
