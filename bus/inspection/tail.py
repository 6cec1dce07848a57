"""The last events of a run, and new ones while it is running.

Reads from the end: of a long run only the last segments are opened.
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import NamedTuple

from ..errors import LogFormatError
from ..event_kinds import EventKinds
from ..events import Media, Put, RunEnded
from ..log.codec import DecodedEvent, HookSelection
from ..log.format import BadFrame, SegmentHeader, unpack_header
from ..log.reader import EndKind, LogReader
from ..log.segments import FolderStore, Stretch
from ..runs.run_folder import RunFolder
from .merged_log import MAX_OPEN_LOGS
from .rank_clocks import RankClock, corrected, last_clock

POLL_S = 0.1
# Both clocks are read together when a rank's log begins; on one machine they are apart by as much
# whoever reads them, but for a correction of the wall clock meanwhile.
_SAME_CLOCK_NS = 10_000_000_000
_MAX_HEADER_BYTES = (1 << 20) + 64


class TailedEvent(NamedTuple):
    """An event with its attempt and its wall clock in ns since 1970."""

    attempt: int
    wall_ns: int
    event: DecodedEvent


class EventFilter:
    """Selects events.

    Args:
        kinds: names of event types; empty for all but hooks, ``all`` for hooks too.
        metric: only puts and media of this name.

    Raises:
        UsageError: there is no such type.
    """

    def __init__(self, kinds: tuple[str, ...] = (), metric: str | None = None) -> None:
        if metric is not None and not kinds:
            kinds = (Put.__name__, Media.__name__)
        self._kinds = EventKinds(
            [kind for kind in kinds if kind != "all"], "there are no events of type {}"
        )
        self._wants_all = "all" in kinds or not kinds
        self._metric = metric
        wants_hooks = "all" in kinds or self._kinds.has_hooks
        self.hooks: HookSelection = "all" if wants_hooks else "none"

    def wants(self, event: DecodedEvent) -> bool:
        """Return whether an event is selected."""
        if not self._wants_all and event not in self._kinds:
            return False
        if self._metric is None:
            return True
        return isinstance(event, Put | Media) and event.name == self._metric


class TailPosition(NamedTuple):
    """Where to read on.

    Attributes:
        attempt: the attempt.
        seqs: the next event of each rank; those that are not named begin at their first.
    """

    attempt: int
    seqs: dict[int, int]


class Tail(NamedTuple):
    """The present end of a run.

    Attributes:
        events: the last selected events, oldest first.
        after: where to continue reading.
        problems: why some events could not be read, a line each.
    """

    events: list[TailedEvent]
    after: TailPosition
    problems: list[str]


def last_events(run: RunFolder, number: int, wanted: EventFilter, rank: int | None = None) -> Tail:
    """Return the last events of a run.

    Args:
        run: the run.
        number: maximum number of events.
        wanted: selects the events.
        rank: of which process; all in one if not given.

    Raises:
        NewerFormatError: the log was written by a newer major version.
    """
    events: list[TailedEvent] = []
    problems: list[str] = []
    after: TailPosition | None = None
    for attempt in reversed(run.attempts()):
        ranks = _ranks_of(run, attempt, rank)
        seqs, found = dict[int, int](), list[TailedEvent]()
        left = max(number - len(events), 0)
        for each in ranks:
            log = _RankEnd(run, attempt, each, len(ranks) > 1)
            found = in_order([found, log.last(left, wanted, problems)])
            del found[: max(len(found) - left, 0)]
            seqs[each] = log.next_seq
        after = TailPosition(attempt, seqs) if after is None else after
        events[:0] = found
        if len(events) >= number:
            break
    return Tail(events, after or TailPosition(0, {}), problems)


def in_order(logs: Iterable[Sequence[TailedEvent]]) -> list[TailedEvent]:
    """Return the events of several ranks in the order of time; those of each keep their order.

    Args:
        logs: the events of each.
    """
    filled = [log for log in logs if log]
    if len(filled) == 1:
        return [*filled[0]]
    entries = []
    for log in filled:
        latest: dict[int, int] = {}
        for at, tailed in enumerate(log):
            rank = getattr(tailed.event, "rank", 0)
            latest[rank] = time_ns = max(latest.get(rank, 0), tailed.wall_ns)
            entries.append((time_ns, rank, at, tailed))
    entries.sort(key=itemgetter(0, 1, 2))
    return [entry[-1] for entry in entries]


def _ranks_of(run: RunFolder, attempt: int, rank: int | None) -> list[int]:
    there = run.ranks(attempt) or [0]
    return there if rank is None else [each for each in there if each == rank]


class _RankEnd:
    """The end of one rank's log.

    Attributes:
        next_seq: the event after its last.
    """

    def __init__(self, run: RunFolder, attempt: int, rank: int, is_one_of_several: bool) -> None:
        self.next_seq = 0
        self._store = run.store(attempt, rank)
        self._dates = _Dates(run, attempt, rank)
        self._attempt = attempt
        self._of_rank = f" of rank {rank}" if is_one_of_several else ""

    def last(self, number: int, wanted: EventFilter, problems: list[str]) -> list[TailedEvent]:
        """Return the last events, adding to ``problems`` what could not be read."""
        events: list[TailedEvent] = []
        indices = self._store.indices()
        for index in reversed(indices):
            found: deque[TailedEvent] = deque(maxlen=max(number - len(events), 0))
            reader = LogReader(Stretch(self._store, index, index))
            problem = ""
            try:
                for event in reader.events(wanted.hooks):
                    if wanted.wants(event):
                        found.append(self._dates.tailed(event))
                end = reader.end()
                if end.is_damage or (end.kind is EndKind.TORN and index != indices[-1]):
                    problem = end.reason
            except LogFormatError as error:
                problem = str(error)
            finally:
                reader.close()
            if problem:
                problems.append(
                    f"segment {index}{self._of_rank} of attempt {self._attempt}: {problem}"
                )
            self.next_seq = self.next_seq or reader.next_seq
            events[:0] = found
            if len(events) >= number and self.next_seq:
                break
        return events


class _Dates:
    """Dates a rank's events by the wall clock of rank 0.

    Ranks of one machine have its clocks. What another machine's log does not say, how far its
    clock is from rank 0's, its own wall clock has to tell.
    """

    def __init__(self, run: RunFolder, attempt: int, rank: int) -> None:
        self._attempt = attempt
        store = run.store(attempt, rank)
        self._clock = RankClock() if rank == 0 else last_clock(store)
        own_ns, rank_0s_ns = _wall_offset_ns(store), _wall_offset_ns(run.store(attempt))
        is_other_clock = self._clock.is_rank_0s and abs(own_ns - rank_0s_ns) > _SAME_CLOCK_NS
        self._wall_offset_ns = own_ns if is_other_clock else rank_0s_ns

    def tailed(self, event: DecodedEvent) -> TailedEvent:
        """Return an event with its date."""
        event = corrected(event, self._clock)
        return TailedEvent(
            self._attempt, getattr(event, "time_ns", 0) + self._wall_offset_ns, event
        )


def follow(
    run: RunFolder, start: TailPosition, wanted: EventFilter, rank: int | None = None
) -> Iterator[list[TailedEvent]]:
    """Yield new events from a position until the run has ended; empty lists while there are none.

    Events of several ranks that are read at once come in the order of time.

    Args:
        run: the run.
        start: where to begin.
        wanted: selects the events.
        rank: of which process; all in one if not given.

    Raises:
        LogError: the log's head is damaged, or it is from a newer major version.
    """
    attempt, seqs = start
    while True:
        yield from _follow_attempt(run, TailPosition(attempt, seqs), wanted, rank)
        later = [number for number in run.attempts() if number > attempt]
        if not later:
            return
        attempt, seqs = later[0], {}


def killed_because(run: RunFolder) -> str:
    """Return why the log of a killed run ends; empty if the run is running or ended properly."""
    attempts = run.attempts()
    is_end_of_another = run.ends_because != RunFolder.ends_because  # a flight recorder's file
    if not attempts or is_end_of_another or run.is_running():
        return ""
    store = run.store(attempts[-1])
    for index in reversed(store.indices()):  # from the last
        reader = LogReader(Stretch(store, index, index))
        try:
            if any(isinstance(event, RunEnded) for event in reader.events("none")):
                return ""
        except LogFormatError:
            continue  # damage is reported elsewhere
        finally:
            reader.close()
        if reader.next_seq:
            break
    return run.ends_because


def _follow_attempt(
    run: RunFolder, start: TailPosition, wanted: EventFilter, rank: int | None
) -> Iterator[list[TailedEvent]]:
    logs: dict[int, _FollowedRank] = {}
    try:
        while True:
            # Asked before the logs are read, so that what a run writes at its end is not missed.
            goes_on = run.is_being_written(start.attempt)
            for each in _ranks_of(run, start.attempt, rank):
                if each not in logs:  # ranks come one after the other
                    logs[each] = _FollowedRank(run, start, each)
            found = [log.read(wanted) for log in logs.values()]
            if any(log.has_moved for log in logs.values()):
                yield in_order(found)
                if len(logs) > MAX_OPEN_LOGS:
                    for log in logs.values():
                        log.reader.let_go()
            elif not goes_on:
                return
            else:
                yield []
                time.sleep(POLL_S)
    finally:
        for log in logs.values():
            log.reader.close()


class _FollowedRank:
    """The log of one rank that is followed.

    Attributes:
        reader: reads it.
        has_moved: the last read found something, even if it was not wanted.
    """

    def __init__(self, run: RunFolder, start: TailPosition, rank: int) -> None:
        self.reader = LogReader(run.store(start.attempt, rank))
        self.has_moved = False
        self._of = run, start.attempt, rank
        self._dates: _Dates | None = None
        if seq := start.seqs.get(rank, 0):
            self.reader.seek(seq)

    def read(self, wanted: EventFilter) -> list[TailedEvent]:
        """Return the next wanted events."""
        before = self.reader.next_seq
        events = self.reader.read(wanted.hooks)
        self.has_moved = bool(events) or self.reader.next_seq != before
        if events and self._dates is None:
            self._dates = _Dates(*self._of)
        return [
            self._dates.tailed(event)
            for event in events
            if wanted.wants(event) and self._dates is not None
        ]


def _wall_offset_ns(store: FolderStore) -> int:
    """Return what to add to an event's time for the wall clock, from a segment's header."""
    for index in store.indices():
        header = read_header(store, index)
        if header is not None:
            return header.wall_ns - header.mono_ns
    return 0


def read_header(store: FolderStore, index: int) -> SegmentHeader | None:
    """Return a segment's header; None if it is damaged or gone.

    Args:
        store: the log's segments.
        index: the segment's number.
    """
    try:
        source = store.open(index)
    except (FileNotFoundError, LogFormatError):
        return None
    try:
        return unpack_header(memoryview(source.read_at(0, _MAX_HEADER_BYTES)))[0]
    except (BadFrame, LogFormatError):
        return None
    finally:
        source.close()
