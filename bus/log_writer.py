"""The one writer of a rank's log: collects a step's events, writes them at once."""

import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar
from zlib import crc32

import msgspec

from .codec import encode_events
from .errors import MetricError, RunFolderError
from .events import EVENT_TYPES, SCHEMA_VERSION, Event, Gap, Scalar
from .log_format import (
    CHECKED_HEAD,
    FORMAT_MAJOR,
    FORMAT_MINOR,
    HAS_OTHERS,
    KIND_EVENTS,
    MARK_AND_CRC,
    MAX_EVENTS_A_FRAME,
    MAX_PAYLOAD_BYTES,
    Footer,
    SegmentHeader,
    pack_footer,
    pack_header,
)
from .logging_setup import get_logger
from .place import Place, PlaceMark
from .segment_file import open_segment_file
from .segments import SegmentStore
from .summary import HookTotal, Summary

DEFAULT_SEGMENT_BYTES = 16 << 20
# A step that emits much is written in parts; a long one is written while it goes on.
MAX_BUFFERED_EVENTS = 4096
MAX_BUFFERED_NS = 20_000_000
COUNT_EVENTS_AT_ONCE = 512

_log = get_logger("nightbus.log")
E_ = TypeVar("E_", bound=Event)


class LogIdentity(NamedTuple):
    """Which log this is."""

    run: str
    attempt: int = 0
    rank: int = 0
    world_size: int = 1


class PendingValue(Protocol):
    """A number that is still on its way, from an accelerator say."""

    def ready(self) -> bool:
        """Whether ``result`` would return without waiting."""

    def result(self) -> Scalar:
        """The number; waits for it."""


class _Buffers(NamedTuple):
    """Events not yet written, laid out as the codec wants them."""

    places: list[tuple[int, int, int, int, int, str]]
    hooks: list[tuple[str, int, int]]
    others: list[Event]

    def cut(self, first_seq: int, limit: int) -> tuple["_Buffers", "_Buffers"]:
        """What comes before the sequence number ``limit``, and the rest."""
        others = sum(event.seq < limit for event in self.others)
        hooks = limit - first_seq - others
        holds = [place for place in self.places if place[0] <= hooks][-1]
        later = [(place[0] - hooks, *place[1:]) for place in self.places if place[0] > hooks]
        return (
            _Buffers(
                [place for place in self.places if place[0] < hooks or place[0] == 0],
                self.hooks[:hooks],
                self.others[:others],
            ),
            _Buffers([(0, *holds[1:]), *later], self.hooks[hooks:], self.others[others:]),
        )


class LogWriter:
    """Appends events to the segments of one log.

    Only the thread that made it may call ``flush`` and ``close`` or append to ``hooks`` and
    ``others``; other threads use ``emit_from_any_thread``.

    Args:
        store: where segments lie.
        identity: which log this is.
        place: what events copy their place from.
        segment_bytes: size at which a segment is sealed and the next begins.
        clock_ns: monotonic clock.

    Raises:
        RunFolderError: the first segment cannot be made.
    """

    def __init__(
        self,
        store: SegmentStore,
        identity: LogIdentity,
        place: Place,
        segment_bytes: int = DEFAULT_SEGMENT_BYTES,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        # The step's buffers, laid out as the codec wants them; emptied in place by flush.
        self.places: list[tuple[int, int, int, int, int, str]] = [(0, *place.mark())]
        self.hooks: list[tuple[str, int, int]] = []
        self.others: list[Event] = []
        self.hook_totals: dict[str, list[int]] = {}  # hook name -> [count, total ns], this segment
        self.place = place
        self.identity = identity
        self.clock_ns = clock_ns
        self.sealed: deque[int] = deque()  # durable segments, ready to be compressed
        self.lost_events = 0
        self.owner = threading.get_ident()
        self._inbox: deque[Callable[[], Event]] = deque()
        self._retired: deque[tuple[int, int]] = deque()  # (segment, fd) complete, to be synced
        self._store = store
        self._segment_bytes = segment_bytes
        self._flushed_seq = 0
        self._pending_seqs: deque[int] = deque()
        self._lost_unreported = 0  # sequence numbers missing since the last Gap was written
        self.due_ns = clock_ns() + MAX_BUFFERED_NS  # when what is buffered should be written
        self._summary = Summary()
        self._uncounted: list[Event] = []  # written, but not yet in the summary
        self._index = -1
        self._fd = -1
        self._mark = 0
        self.committed = (0, 0)  # segment and byte offset up to which live readers may read
        self._open_segment(store.create(0))
        place.tell_moves(self._on_move)

    # -- appending ---------------------------------------------------------------------------

    def event(
        self, kind: type[E_], *fields: Any, source: str = "", time_ns: int | None = None
    ) -> E_:
        """Make the next event: it arises here, now if not at ``time_ns``, and is to be appended
        before another is made.
        """
        place = self.place
        return kind(
            self.next_seq(),
            self.clock_ns() if time_ns is None else time_ns,
            place.rank,
            place.stage,
            place.epoch,
            place.step,
            place.batch_idx,
            place.dataloader_idx,
            source,
            *fields,
        )

    def next_seq(self) -> int:
        """The sequence number of the event that is appended next."""
        return self._flushed_seq + len(self.hooks) + len(self.others)

    def append(self, event: Event) -> None:
        """Add an event to what the next flush writes."""
        self.others.append(event)
        if len(self.others) > MAX_BUFFERED_EVENTS:
            self.flush()

    def append_pending(self, event: Event) -> None:
        """Add an event whose ``value`` is a PendingValue; what follows waits for it in order."""
        self._pending_seqs.append(event.seq)
        self.others.append(event)

    def _on_move(self, mark: PlaceMark) -> None:
        self.places.append((len(self.hooks), *mark))

    def emit_from_any_thread(self, kind: type[Event], *fields: Any, source: str = "") -> None:
        """Have an event appended by the owner's next flush."""
        time_ns = self.clock_ns()
        self._inbox.append(lambda: self.event(kind, *fields, source=source, time_ns=time_ns))

    def take_from_inbox(self) -> Event:
        """The next event that another thread asked for, with its place in the order; append it."""
        return self._inbox.popleft()()

    @property
    def written_seq(self) -> int:
        """The sequence number of the first event that is not written yet."""
        return self._flushed_seq

    @property
    def inbox_waiting(self) -> bool:
        """Whether other threads asked for events."""
        return bool(self._inbox)

    # -- writing -----------------------------------------------------------------------------

    def flush(self, wait: bool = False) -> None:
        """Write what was appended; afterwards observers may see it.

        Args:
            wait: also wait for pending values, so that everything is written.
        """
        if self._pending_seqs:
            self._flush_resolved(wait)
            return
        hooks, others = self.hooks, self.others
        number = len(hooks) + len(others)
        if not number:
            return
        payload = encode_events(self.places, hooks, others)
        if number > MAX_EVENTS_A_FRAME or len(payload) > MAX_PAYLOAD_BYTES:
            self._write_parts(self._take_buffers())
            return
        # Emptied before writing: an interrupt between the two must not write twice.
        written = others.copy()
        hooks.clear()
        others.clear()
        place = self.place
        self.places[:] = (
            (0, place.epoch, place.step, place.batch_idx, place.dataloader_idx, place.stage),
        )
        self._write_frame(payload, number, written)

    def _write_frame(self, payload: bytes, number: int, others: list[Event]) -> None:
        # Written out instead of calling log_format.pack_frame: four calls less are 1 us a step.
        time_ns = self.clock_ns()
        self.due_ns = time_ns + MAX_BUFFERED_NS
        first_seq = self._flushed_seq
        self._flushed_seq = first_seq + number
        flags = HAS_OTHERS if others else 0
        checked = (
            CHECKED_HEAD.pack(len(payload), number, KIND_EVENTS, flags, first_seq, time_ns)
            + payload
        )
        file = self._file
        try:
            file.append(MARK_AND_CRC.pack(self._mark, crc32(checked)) + checked)
        except OSError as error:
            self._lose(number, error)
            return
        self.committed = (self._index, file.size)
        if others:
            self._uncounted += others
            if len(self._uncounted) > COUNT_EVENTS_AT_ONCE:
                self._count()
            if self._lost_unreported and type(others[0]) is Gap:
                self._lost_unreported = 0
        if file.size >= self._segment_bytes:
            self._rotate()

    def _write(self, data: bytes) -> None:
        self._file.append(data)
        self.committed = (self._index, self._file.size)

    def _count(self) -> None:
        """Bring the summary up to date; in batches, because a loop that stays in the caches costs
        a third of the same work done step by step.
        """
        for event in self._uncounted:
            self._summary.add_other(event)  # type: ignore[arg-type]
        self._uncounted.clear()

    def _take_buffers(self) -> "_Buffers":
        taken = _Buffers(self.places.copy(), self.hooks.copy(), self.others.copy())
        self.hooks.clear()
        self.others.clear()
        self.places[:] = ((0, *self.place.mark()),)
        return taken

    def _flush_resolved(self, wait: bool) -> None:
        """Write what comes before the first value that is still on its way."""
        resolved: dict[int, Scalar] = {}
        waiting = {event.seq: event for event in self.others if event.seq in self._pending_seqs}
        while self._pending_seqs:
            seq = self._pending_seqs[0]
            value: PendingValue = waiting[seq].value  # type: ignore[attr-defined]
            if not wait and not value.ready():
                break
            resolved[seq] = value.result()
            self._pending_seqs.popleft()
        self.others[:] = [
            msgspec.structs.replace(event, value=resolved[event.seq])
            if event.seq in resolved
            else event
            for event in self.others
        ]
        if not self._pending_seqs:
            self.flush()
            return
        ready, held = self._take_buffers().cut(self._flushed_seq, self._pending_seqs[0])
        self.places[:] = held.places
        self.hooks.extend(held.hooks)
        self.others.extend(held.others)
        self._write_parts(ready)

    def _write_parts(self, buffers: "_Buffers") -> None:
        """Write buffers as one frame, or as several where one would be too large."""
        number = len(buffers.hooks) + len(buffers.others)
        if not number:
            return
        payload = encode_events(*buffers)
        if len(payload) <= MAX_PAYLOAD_BYTES and number <= MAX_EVENTS_A_FRAME:
            self._write_frame(payload, number, buffers.others)
        elif number == 1:
            raise MetricError(
                f"one event takes more than {MAX_PAYLOAD_BYTES} bytes, the most a log takes: "
                f"{str(buffers.others or buffers.hooks)[:200]}..."
            )
        else:
            early, late = buffers.cut(self._flushed_seq, self._flushed_seq + number // 2)
            self._write_parts(early)
            self._write_parts(late)

    def _lose(self, number: int, error: OSError) -> None:
        """Training goes on without these events; the log will say how many are missing."""
        if not self.lost_events:
            _log.warning(
                "the event log cannot be written; training goes on unrecorded until it can be",
                error=str(error),
            )
        self.lost_events += number
        self._lost_unreported += number
        self.others.append(self.event(Gap, self._lost_unreported, str(error)))

    # -- segments ----------------------------------------------------------------------------

    def _open_segment(self, fd: int) -> None:
        self._fd, self._index = fd, self._index + 1
        self._file = open_segment_file(fd)
        self._mark = secrets.randbits(32) | 1  # never 0, which is what unwritten space holds
        self._summary = Summary()
        header = SegmentHeader(
            format=(FORMAT_MAJOR, FORMAT_MINOR),
            run=self.identity.run,
            attempt=self.identity.attempt,
            rank=self.identity.rank,
            world_size=self.identity.world_size,
            segment=self._index,
            first_seq=self._flushed_seq,
            mark=self._mark,
            wall_ns=time.time_ns(),
            mono_ns=self.clock_ns(),
            schema=_SCHEMA,
            schema_version=SCHEMA_VERSION,
        )
        self._summary.first_time_ns = header.mono_ns
        self._write(pack_header(header))

    def _rotate(self) -> None:
        try:
            fd = self._store.create(self._index + 1)
        except RunFolderError as error:
            _log.warning("cannot begin a new log segment; the last one grows on", error=str(error))
            self._segment_bytes *= 2
            return
        self._seal()
        self._retired.append((self._index, self._fd))
        try:
            self._open_segment(fd)
        except OSError as error:
            self._lose(0, error)

    def _seal(self) -> None:
        """End the segment with its footer; without one, a reader finds its end by itself."""
        self._count()
        totals = self.hook_totals
        summary, place = self._summary, self.place
        summary.last_time_ns = self.due_ns - MAX_BUFFERED_NS
        summary.epoch, summary.step = place.epoch, place.step
        summary.hooks = {name: HookTotal(n, ns) for name, (n, ns) in totals.items() if n}
        for cell in totals.values():
            cell[0] = cell[1] = 0
        footer = Footer(self._flushed_seq, self._file.size, summary)
        try:
            self._write(pack_footer(self._mark, footer, self._file.size))
        except OSError as error:
            _log.warning("a log segment could not be sealed", error=str(error))
        self._file.finish()

    def sync(self) -> None:
        """Make what is written durable. Called from one thread only, which need not be the owner.

        Raises:
            OSError: the disk failed.
        """
        while self._retired:
            index, fd = self._retired.popleft()
            try:
                os.fdatasync(fd)
            finally:
                os.close(fd)
            self.sealed.append(index)
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Write what is left, seal the last segment and make all durable."""
        self.flush(wait=True)
        self._seal()
        try:
            self.sync()
        except OSError as error:
            _log.warning("the event log could not be made durable", error=str(error))
        os.close(self._fd)
        self._fd = -1
        self.sealed.append(self._index)


_SCHEMA = {tag: [kind.__name__, *kind.__struct_fields__] for tag, kind in EVENT_TYPES.items()}
