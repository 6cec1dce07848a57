"""Which loops of a run ran when."""

from bisect import bisect_right
from dataclasses import dataclass
from math import inf

from .evenly_many import EvenlyMany

MAX_LOOPS = 50  # names
MAX_SPANS = 500  # of a name; then every so many-th stays


@dataclass(slots=True)
class Span:
    """A loop, from its begin to its end, in seconds since the run began.

    Attributes:
        number: of all that began.
        name, total, unit: as it said when it began.
        began_s: when.
        ended_s: when; infinity while it runs.
    """

    number: int
    name: str
    total: int | None
    unit: str
    began_s: float
    ended_s: float = inf


class PastLoops:
    """The loops of a run: by name all that run, and of those that ended evenly many.

    An inner loop begins and ends thousands of times within one outer loop, which is kept all the
    same.
    """

    def __init__(self) -> None:
        self._running: dict[str, Span] = {}
        self._ended: dict[str, EvenlyMany[Span]] = {}
        self._number = 0

    def __len__(self) -> int:
        """Return how many are kept."""
        ended = list(self._ended.values())
        return len(self._running) + sum(len(each.kept) for each in ended)

    def begin(self, name: str, total: int | None, unit: str, time_s: float) -> None:
        """Take note that a loop begins.

        Args:
            name: of the loop.
            total: iterations that it expects; None if unknown.
            unit: what one is.
            time_s: when.
        """
        self.end(name, time_s)
        if name in self._ended or len(self._ended) < MAX_LOOPS:
            self._number += 1
            self._running[name] = Span(self._number, name, total, unit, time_s)
            self._ended.setdefault(name, EvenlyMany(MAX_SPANS))

    def end(self, name: str, time_s: float) -> None:
        """Take note that a loop ended.

        Args:
            name: of the loop.
            time_s: when.
        """
        if (span := self._running.get(name)) is not None:
            span.ended_s = time_s
            self._ended[name].add(span)
            del self._running[name]

    def end_all(self, time_s: float) -> None:
        """Take note that none runs any more: an attempt ended, perhaps without saying so.

        Args:
            time_s: when.
        """
        for name in list(self._running):
            self.end(name, time_s)

    def at(self, time_s: float) -> list[Span]:
        """Return the loops that ran at a time, the outermost first.

        Args:
            time_s: the time.
        """
        found = {}
        for span in list(self._running.values()):
            if span.began_s <= time_s:
                found[span.name] = span
        for name, ended in list(self._ended.items()):
            kept = ended.kept[:]
            until = bisect_right(kept, time_s, key=lambda span: span.began_s)
            if name not in found and until and time_s < kept[until - 1].ended_s:
                found[name] = kept[until - 1]
        return sorted(found.values(), key=lambda span: span.number)
