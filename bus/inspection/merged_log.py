"""The logs of an attempt's ranks as one, in the order of rank 0's clock, in bounded memory.

    each rank: its frames are decoded one after the other, into entries that wait
    the rank whose last waiting entry is the earliest is read on, a few thousand events in all
    no rank can have anything before the earliest of these last entries: up to it, all is in order

So there wait no more than those few thousand, and of each rank about a frame. With many ranks, a
file is closed as soon as a piece of it is read.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from heapq import heapify, heappop, heapreplace

from ..errors import LogFormatError, NewerFormatError
from ..events import Unknown
from ..log.codec import DecodedEvent, merge_parts
from ..log.reader import LogReader
from ..log.segments import FolderStore
from .rank_clocks import RankClock, corrected, whole_clock

MAX_OPEN_LOGS = 16
_EVENTS_AT_ONCE = 1 << 14
_MAX_BOUND_NS = 10_000_000  # of clocks; what one says beyond that is no measurement

_Entry = tuple[int, int, int, int, DecodedEvent]
"""What is sorted: the time, the step, the rank, a number within the rank; and the event."""


class MergedLog:
    """Reads the logs of several ranks at once.

    An event's time is that of rank 0's clock. What clocks cannot tell apart, because it is closer
    than their bound, is in the order of steps, then of ranks. The events of each rank keep their
    order.

    Args:
        stores: the segments of each rank.
        hooks: whether hooks are wanted.

    Attributes:
        problems: what could not be read so far, a line each.
    """

    def __init__(self, stores: Mapping[int, FolderStore], hooks: bool = True) -> None:
        clocks = {rank: whole_clock(store) for rank, store in stores.items()}
        bound_ns = max((clock.bound_ns for clock in clocks.values()), default=0)
        grain_ns = min(max(bound_ns, 1), _MAX_BOUND_NS)
        at_once = _EVENTS_AT_ONCE // max(len(stores), 1)
        self.problems: list[str] = []
        self._logs = [
            _RankLog(rank, store, clocks[rank], grain_ns, hooks, at_once, self.problems)
            for rank, store in stores.items()
        ]
        self._lets_go = len(self._logs) > MAX_OPEN_LOGS

    def batches(self) -> Iterator[list[DecodedEvent]]:
        """Yield all events in order, some thousand at a time.

        Raises:
            NewerFormatError: a log was written by a newer major version.
        """
        waiting = [(log.last, log) for log in self._logs if self._read_on(log)]
        heapify(waiting)
        try:
            while waiting:
                number = 0
                while waiting and number < _EVENTS_AT_ONCE:
                    log = waiting[0][1]
                    if more := self._read_on(log):
                        heapreplace(waiting, (log.last, log))
                        number += more
                    else:
                        heappop(waiting)
                yield self._take(waiting[0][0] if waiting else None)
        finally:
            self.close()

    def events(self) -> Iterator[DecodedEvent]:
        """Yield all events in order.

        Raises:
            NewerFormatError: a log was written by a newer major version.
        """
        for batch in self.batches():
            yield from batch

    def close(self) -> None:
        """Close the files."""
        for log in self._logs:
            log.reader.close()

    def _read_on(self, log: "_RankLog") -> int:
        number = log.read_on()
        if self._lets_go:
            log.reader.let_go()
        return number

    def _take(self, until: _Entry | None) -> list[DecodedEvent]:
        ready: list[_Entry] = []
        for log in self._logs:
            log.take(until, ready)
        ready.sort()
        return [entry[-1] for entry in ready]


class _RankLog:
    """The log of one rank.

    Attributes:
        reader: reads it.
        last: the last entry that was decoded.
    """

    def __init__(
        self,
        rank: int,
        store: FolderStore,
        clock: RankClock,
        grain_ns: int,
        hooks: bool,
        at_once: int,
        problems: list[str],
    ) -> None:
        self.reader = LogReader(store)
        self.last: _Entry | None = None
        self._rank = rank
        self._clock = clock
        self._grain_ns = grain_ns
        self._at_once = at_once
        self._problems = problems
        self._problem = ""  # why its frames ended early
        self._frames = self.reader.parts(hooks)
        self._waiting: list[_Entry] = []
        self._moment = self._step = self._number = 0

    def read_on(self) -> int:
        """Decode about ``at_once`` events more, at least a frame; return how many, 0 at the end."""
        before = len(self._waiting)
        try:
            for frame, parts in self._frames:
                self._add(merge_parts(parts, frame.first_seq, self._rank))
                if len(self._waiting) - before > self._at_once:
                    break
        except NewerFormatError:
            raise
        except LogFormatError as error:
            self._problem = str(error)
        number = len(self._waiting) - before
        if number:
            self.last = self._waiting[-1]
        else:
            self._report_damage()
        return number

    def take(self, until: _Entry | None, ready: list[_Entry]) -> None:
        """Move the entries up to one, or all, to those that are ready."""
        waiting = self._waiting
        number = len(waiting) if until is None else bisect_right(waiting, until)
        if number:
            ready += waiting[:number]
            del waiting[:number]

    def _report_damage(self) -> None:
        end = self.reader.end()
        if not self._problem and end.is_damage:
            self._problem = f"segment {end.segment}: {end.reason}"
        if self._problem:
            self._problems.append(f"rank {self._rank}: {self._problem}")

    def _add(self, events: list[DecodedEvent]) -> None:
        moment, step, number = self._moment, self._step, self._number
        rank, grain_ns, append = self._rank, self._grain_ns, self._waiting.append
        if not self._clock.is_rank_0s:
            events = [corrected(event, self._clock) for event in events]
        for event in events:
            if not isinstance(event, Unknown):
                # Neither goes back: the bus thread may record later what happened earlier, and a
                # value put at the end of an epoch has the step before.
                if (at := event.time_ns // grain_ns) > moment:
                    moment = at
                if (at := event.step) > step:
                    step = at
            append((moment, step, rank, number, event))
            number += 1
        self._moment, self._step, self._number = moment, step, number
