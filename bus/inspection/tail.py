"""The last events of a run, and new ones while it is running.

Reads from the end: of a long run only the last segments are opened.
"""

import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from ..errors import LogFormatError
from ..event_kinds import EventKinds
from ..events import Media, Put, RunEnded
from ..log.codec import DecodedEvent, HookSelection
from ..log.format import BadFrame, SegmentHeader, unpack_header
from ..log.reader import EndKind, LogReader
from ..log.segments import FolderStore, Stretch
from ..runs.cursor import Position
from ..runs.run_folder import RunFolder

POLL_S = 0.1
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


class Tail(NamedTuple):
    """The present end of a run.

    Attributes:
        events: the last selected events, oldest first.
        after: where to continue reading.
        problems: why some events could not be read, a line each.
    """

    events: list[TailedEvent]
    after: Position
    problems: list[str]


def last_events(run: RunFolder, number: int, wanted: EventFilter) -> Tail:
    """Return the last events of a run.

    Args:
        run: the run.
        number: maximum number of events.
        wanted: selects the events.

    Raises:
        NewerFormatError: the log was written by a newer major version.
    """
    events: list[TailedEvent] = []
    problems: list[str] = []
    after: Position | None = None
    for attempt in reversed(run.attempts()):
        store = run.store(attempt)
        offset_ns = _wall_offset_ns(store)
        indices = store.indices()
        for index in reversed(indices):
            found: deque[TailedEvent] = deque(maxlen=max(number - len(events), 0))
            reader = LogReader(Stretch(store, index, index))
            try:
                _collect(reader, attempt, offset_ns, wanted, found)
                end = reader.end()
                if end.is_damage or (end.kind is EndKind.TORN and index != indices[-1]):
                    problems.append(f"segment {index} of attempt {attempt}: {end.reason}")
            except LogFormatError as error:
                problems.append(f"segment {index} of attempt {attempt}: {error}")
            finally:
                reader.close()
            if after is None and reader.next_seq:
                after = Position(attempt, reader.next_seq)
            events[:0] = found
            if len(events) >= number and after is not None:
                return Tail(events, after, problems)
        if after is None:
            after = Position(attempt, 0)
    return Tail(events, after or Position(0, 0), problems)


def _collect(
    reader: LogReader,
    attempt: int,
    offset_ns: int,
    wanted: EventFilter,
    found: "deque[TailedEvent]",
) -> None:
    for event in reader.events(wanted.hooks):
        if wanted.wants(event):
            found.append(_tailed(attempt, offset_ns, event))


def follow(run: RunFolder, start: Position, wanted: EventFilter) -> Iterator[list[TailedEvent]]:
    """Yield new events from a position until the run has ended; empty lists while there are none.

    Args:
        run: the run.
        start: where to begin.
        wanted: selects the events.

    Raises:
        LogError: the log's head is damaged, or it is from a newer major version.
    """
    attempt, seq = start
    while True:
        yield from _follow_attempt(run, attempt, seq, wanted)
        later = [number for number in run.attempts() if number > attempt]
        if not later:
            return
        attempt, seq = later[0], 0


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
    run: RunFolder, attempt: int, seq: int, wanted: EventFilter
) -> Iterator[list[TailedEvent]]:
    store = run.store(attempt)
    reader = LogReader(store)
    if seq:
        reader.seek(seq)
    try:
        offset_ns: int | None = None
        while True:
            # Asked before its log is read, so that what a run writes at its end is not missed.
            goes_on = run.is_being_written(attempt)
            before = reader.next_seq
            events = reader.read(wanted.hooks)
            if events:
                offset_ns = _wall_offset_ns(store) if offset_ns is None else offset_ns
                yield [
                    _tailed(attempt, offset_ns, event) for event in events if wanted.wants(event)
                ]
            elif reader.next_seq == before:
                if not goes_on:
                    return
                yield []
                time.sleep(POLL_S)
    finally:
        reader.close()


def _tailed(attempt: int, offset_ns: int, event: DecodedEvent) -> TailedEvent:
    return TailedEvent(attempt, getattr(event, "time_ns", 0) + offset_ns, event)


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
