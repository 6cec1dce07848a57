"""The one writer of a rank's log: collects a step's events, writes them at once."""

import contextlib
import os
import secrets
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple, Protocol, TypeVar
from zlib import crc32

import msgspec

from .codec import UNENCODABLE, encodable, encode_events
from .errors import MetricError, RunFolderError
from .events import EVENT_TYPES, SCHEMA_VERSION, Event, Fault, Gap, Put, Scalar
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
from .segment_file import SegmentFile, open_segment_file
from .segments import SegmentStore
from .statistics import LogStatistics
from .summary import HookTotal, Summary

DEFAULT_SEGMENT_BYTES = 16 << 20
# A step that emits much is written in parts; a long one is written while it goes on.
MAX_BUFFERED_EVENTS = 4096
MAX_BUFFERED_NS = 20_000_000
COUNT_EVENTS_AT_ONCE = 512
MAX_REASON_CHARS = 1_000
MAX_SYNC_WAIT_S = 64

_log = get_logger("nightbus.log")
_by_seq = attrgetter("seq")
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
        began_ns: when the first event arose, on that clock, if not now.

    Attributes:
        on_loss: called with the reason when the disk takes events for the first time; None for
            nobody.

    Raises:
        RunFolderError: the first segment cannot be made.
    """

    on_loss: Callable[[str], None] | None = None

    def __init__(
        self,
        store: SegmentStore,
        identity: LogIdentity,
        place: Place,
        segment_bytes: int = DEFAULT_SEGMENT_BYTES,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        began_ns: int | None = None,
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
        self._loss: Exception | None = None  # why the last of them are lost
        self.owner = threading.get_ident()
        self._inbox: deque[Callable[[], Event]] = deque()
        self._retired: deque[tuple[int, int]] = deque()  # (segment, fd) complete, to be synced
        self._store = store
        self._segment_bytes = segment_bytes
        self._rotate_at = segment_bytes  # size at which this segment is to end
        self._flushed_seq = 0
        self._readable_seq = 0  # the same without those at the end that are lost
        self._pending: deque[Put] = deque()  # those of the others whose value is on its way
        # The frame being written and how many buffered hooks and others it holds; seen by a flush
        # only after one that an interrupt ended.
        self._underway: tuple[bytes, int, int] | None = None
        self._sync_lock = threading.Lock()
        self._unsound: set[int] = set()  # fds of segments that the disk failed to make durable
        self._untold: deque[tuple[int, str]] = deque()  # (segment, why), to be said in the log
        self._sync_error = ""  # why, the last time
        self._failed_syncs = 0  # in a row
        self._sync_again_ns = 0  # not before
        self._named_fd = -1  # of the segment whose name is durable
        self.due_ns = clock_ns() + MAX_BUFFERED_NS  # when what is buffered should be written
        self._summary = Summary(first_time_ns=clock_ns() if began_ns is None else began_ns)
        self._uncounted: list[Event] = []  # written, but not yet in the summary
        self._index = 0
        try:
            fd, self._file, self._mark = self._begin_segment(0)
        except OSError as error:
            raise RunFolderError(
                f"cannot begin the event log: {error.strerror}; make room, choose another "
                "default_root_dir, or recording='off'"
            ) from error
        self._current = (0, fd)  # the segment being written; its fd is -1 once the log is closed
        # Else a power cut could leave the second segment without the first: a log that begins in
        # its middle, and looks whole. Without a later one it ends early, and says so.
        with contextlib.suppress(OSError):  # the first sync tries again, and tells
            store.sync_names()
            self._named_fd = fd
        # Segment and byte offset up to which live readers may read.
        self.committed = (0, self._file.size)
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

    def append_pending(self, event: Put) -> None:
        """Add an event whose ``value`` is a PendingValue; what follows waits for it in order."""
        self.others.append(event)
        self._pending.append(event)

    def _on_move(self, mark: PlaceMark) -> None:
        place = (len(self.hooks), *mark)
        if self.places[-1][0] == place[0]:
            self.places[-1] = place  # no hook arose where training was before
        else:
            self.places.append(place)

    def emit_from_any_thread(self, kind: type[Event], *fields: Any, source: str = "") -> None:
        """Have an event appended by the owner's next flush."""
        time_ns = self.clock_ns()
        self._inbox.append(lambda: self.event(kind, *fields, source=source, time_ns=time_ns))

    def ask_for_event(self, make: Callable[[], Event]) -> None:
        """Have an event appended by the owner's next flush, made only then; any thread may ask."""
        self._inbox.append(make)

    def take_from_inbox(self) -> Event:
        """The next event that another thread asked for, with its place in the order; append it."""
        return self._inbox.popleft()()

    @property
    def written_seq(self) -> int:
        """The sequence number of the first event that is not written yet."""
        return self._flushed_seq

    @property
    def readable_seq(self) -> int:
        """How far observers can read: ``written_seq``, unless the disk took not the last events."""
        return self._readable_seq

    @property
    def inbox_waiting(self) -> bool:
        """Whether other threads asked for events."""
        return bool(self._inbox)

    def statistics(self) -> LogStatistics:
        """How much is recorded, buffered and lost; any thread may ask."""
        segment, size = self.committed
        written = self._flushed_seq
        buffered = len(self.hooks) + len(self.others)
        return LogStatistics(
            events=written + buffered,
            buffered=buffered,
            asked_for=len(self._inbox),
            lost=self.lost_events,
            segment=segment,
            segment_bytes=size,
        )

    # -- writing -----------------------------------------------------------------------------

    def flush(self, wait: bool = False) -> None:
        """Write what was appended; afterwards observers may see it.

        An interrupt (Ctrl-C) may end it anywhere: the next flush goes on from there.

        Args:
            wait: also wait for pending values, so that everything is written.

        Raises:
            MetricError: an event is larger than a frame. It is left out, the others are written.
        """
        if self._underway is not None:
            self._finish_frame()
        if self._pending:
            self._take_arrived(wait)
            if self._pending:
                self._write_before(self._pending[0].seq)
                return
        hook_count, other_count = len(self.hooks), len(self.others)
        number = hook_count + other_count
        if not number:
            return
        try:
            payload = encode_events(self.places, self.hooks, self.others)
        except UNENCODABLE:
            self._write_before(self._flushed_seq + number)
            return
        if number > MAX_EVENTS_A_FRAME or len(payload) > MAX_PAYLOAD_BYTES:
            self._write_before(self._flushed_seq + number)
            return
        self._write_frame(payload, hook_count, other_count)

    def flush_end(self) -> bool:
        """Write the last of the events, for which some space was kept back.

        Returns:
            Whether the disk took them.
        """
        self._file.open_reserve()
        self.flush(wait=True)
        return self._readable_seq == self._flushed_seq

    def _write_before(self, limit: int) -> None:
        """Write what comes before a sequence number: as several frames where one would be too
        large.
        """
        refused: MetricError | None = None
        at_once = MAX_EVENTS_A_FRAME
        while self._flushed_seq < limit:
            number = min(at_once, limit - self._flushed_seq)
            other_count = bisect_left(self.others, self._flushed_seq + number, key=_by_seq)
            hook_count = number - other_count
            payload = self._encode_first(hook_count, other_count)
            if len(payload) <= MAX_PAYLOAD_BYTES:
                self._write_frame(payload, hook_count, other_count)
            elif number > 1:
                at_once = number // 2
            else:
                event = str(self.others[:other_count] or self.hooks[:hook_count])
                refused = MetricError(
                    f"one event takes more than {MAX_PAYLOAD_BYTES} bytes, the most a log takes: "
                    f"{event[:200]}..."
                )
                self._settle(hook_count, other_count, refused)
        if refused is not None:
            raise refused

    def _encode_first(self, hook_count: int, other_count: int) -> bytes:
        places = [place for place in self.places if place[0] < hook_count] or self.places[:1]
        hooks = self.hooks[:hook_count]
        try:
            return encode_events(places, hooks, self.others[:other_count])
        except UNENCODABLE:
            self.others[:other_count] = [encodable(event) for event in self.others[:other_count]]
            return encode_events(places, hooks, self.others[:other_count])

    def _write_frame(self, payload: bytes, hook_count: int, other_count: int) -> None:
        # Written out instead of calling log_format.pack_frame: four calls less are 1 us a step.
        time_ns = self.clock_ns()
        self.due_ns = time_ns + MAX_BUFFERED_NS
        checked = (
            CHECKED_HEAD.pack(
                len(payload),
                hook_count + other_count,
                KIND_EVENTS,
                HAS_OTHERS if other_count else 0,
                self._flushed_seq,
                time_ns,
            )
            + payload
        )
        frame = MARK_AND_CRC.pack(self._mark, crc32(checked)) + checked
        self._underway = frame, hook_count, other_count
        error = None
        try:
            self._file.append(frame)
        except OSError as failure:
            error = failure
        self._settle(hook_count, other_count, error)

    def _finish_frame(self) -> None:
        """Go on where an interrupt ended ``_write_frame``: with the same bytes at the same place,
        because another process may have read them already.
        """
        assert self._underway is not None
        frame, hook_count, other_count = self._underway
        error = None
        begin = self.committed[1]
        if self._file.size != begin + len(frame):
            self._file.size = begin
            try:
                self._file.append(frame)
            except OSError as failure:
                error = failure
        self._settle(hook_count, other_count, error)

    def _settle(self, hook_count: int, other_count: int, error: Exception | None) -> None:
        """Take the first events out of the buffers: they are written, or lost by an error."""
        hooks, others, place = self.hooks, self.others, self.place
        places: Sequence[tuple[int, int, int, int, int, str]]
        if hook_count == len(hooks):
            places = (
                (0, place.epoch, place.step, place.batch_idx, place.dataloader_idx, place.stage),
            )
        else:
            places = self._places_after(hook_count)
        number = hook_count + other_count
        if error is not None:
            lost_hooks = hooks[:hook_count]
            gap = [self._gap(number, others[:other_count], error)]

        # Python delivers an interrupt at calls and at the ends of loops. From here to the next
        # blank line there is neither, so all of it happens or nothing.
        self._flushed_seq += number
        self._underway = None
        self.places[:] = places
        del hooks[:hook_count]
        if error is None:
            self._uncounted += others[:other_count]
            self.committed = (self._index, self._file.size)
            self._readable_seq = self._flushed_seq
            del others[:other_count]
        else:
            del others[:other_count]
            others += gap
            first_loss = not self.lost_events
            self.lost_events += number
            self._loss = error

        if error is not None:
            self._count_hooks(lost_hooks, -1)
            if first_loss and isinstance(error, OSError) and self.on_loss is not None:
                self.on_loss(f"the event log cannot be written: {error}")
            elif first_loss and isinstance(error, OSError):
                _log.warning(
                    "the event log cannot be written; training goes on unrecorded until it can be",
                    error=str(error),
                )
            return
        if len(self._uncounted) > COUNT_EVENTS_AT_ONCE:
            self._count()
        if self._file.size >= self._rotate_at:
            self._rotate()

    def _places_after(self, hook_count: int) -> list[tuple[int, int, int, int, int, str]]:
        """The places of the hooks that come after the first ones."""
        holds = [place for place in self.places if place[0] <= hook_count][-1]
        later = [place for place in self.places if place[0] > hook_count]
        return [(0, *holds[1:]), *((place[0] - hook_count, *place[1:]) for place in later)]

    def _gap(self, number: int, lost: Sequence[Event], error: Exception) -> Gap:
        """What tells of lost events, also of those that a lost Gap told of."""
        unreported = sum(event.count for event in lost if type(event) is Gap)
        return self.event(Gap, number + unreported, str(error)[:MAX_REASON_CHARS])

    def _take_arrived(self, wait: bool) -> None:
        """Put values that have arrived where they belong, up to the first that has not."""
        others = self.others
        while self._pending:
            event = self._pending[0]
            value: PendingValue = event.value  # type: ignore[assignment]
            try:
                if not wait and not value.ready():
                    return
                arrived: Event = msgspec.structs.replace(event, value=value.result())
            except Exception as error:
                # The accelerator failed. Training will hear of it by itself; the log goes on.
                arrived = _never_arrived(event, error)
            others[bisect_left(others, event.seq, key=_by_seq)] = arrived
            self._pending.popleft()

    # -- the summary -------------------------------------------------------------------------

    def _count(self) -> None:
        """Bring the summary up to date; in batches, because a loop that stays in the caches costs
        a third of the same work done step by step.
        """
        counted = 0
        try:
            for event in self._uncounted:
                self._summary.add_other(event)  # type: ignore[arg-type]
                counted += 1
        finally:
            del self._uncounted[:counted]

    def _count_hooks(self, hooks: Sequence[tuple[str, int, int]], sign: int) -> None:
        for name, _, duration_ns in hooks:
            cell = self.hook_totals.setdefault(name, [0, 0])
            cell[0] += sign
            cell[1] += sign * duration_ns

    def _complete_summary(self) -> None:
        """All that the segment holds, now that nothing more will be written to it."""
        self._count()
        self._count_hooks(self.hooks, -1)  # run, but held back for a value: for the next segment
        summary, place = self._summary, self.place
        summary.last_time_ns = self.due_ns - MAX_BUFFERED_NS
        summary.epoch, summary.step = place.epoch, place.step
        for name, cell in self.hook_totals.items():
            if cell[0]:
                total = summary.hooks.setdefault(name, HookTotal())
                total.count += cell[0]
                total.total_ns += cell[1]
                cell[0] = cell[1] = 0
        self._count_hooks(self.hooks, 1)

    # -- segments ----------------------------------------------------------------------------

    def _begin_segment(self, index: int) -> tuple[int, SegmentFile, int]:
        """A new segment with its header: file descriptor, file and mark.

        Raises:
            RunFolderError: it cannot be created.
            OSError: there is no space for it.
        """
        fd = -1
        try:
            fd = self._store.create(index)
            file = open_segment_file(fd)
            mark = secrets.randbits(32) | 1  # never 0, which is what unwritten space holds
            header = SegmentHeader(
                format=(FORMAT_MAJOR, FORMAT_MINOR),
                run=self.identity.run,
                attempt=self.identity.attempt,
                rank=self.identity.rank,
                world_size=self.identity.world_size,
                segment=index,
                first_seq=self._flushed_seq,
                mark=mark,
                wall_ns=time.time_ns(),
                mono_ns=self.clock_ns(),
                schema=_SCHEMA,
                schema_version=SCHEMA_VERSION,
            )
            file.append(pack_header(header))
        except RunFolderError:
            raise  # there may be a file, but another writer's
        except BaseException:
            if fd >= 0:
                os.close(fd)
            if fd >= 0 or index > 0:
                self._store.discard(index)
            raise
        return fd, file, mark

    def _rotate(self) -> None:
        """Go on in a new segment and seal the old one; grow on while there is no room for one."""
        self._tell_of_failed_syncs()
        self._complete_summary()
        summary = Summary(first_time_ns=self.clock_ns())
        number, old_fd = self._current
        following = number + 1
        old = _Ended(number, old_fd, self._file, self._mark, self._summary)
        try:
            # Before the old one is sealed, so that there is always one to write to.
            fd, file, mark = self._begin_segment(following)
        except (RunFolderError, OSError) as error:
            _log.warning("cannot begin a new log segment; the last one grows on", error=str(error))
            self._rotate_at = self._file.size + self._segment_bytes
            return
        # All of it or nothing, as in _settle.
        self._index, self._current, self._file, self._mark = (
            number + 1,
            (number + 1, fd),
            file,
            mark,
        )
        self._summary, self._rotate_at = summary, self._segment_bytes
        self.committed = (self._index, file.size)

        try:
            self._seal(old)
        finally:
            self._retired.append((old.number, old.fd))

    def _seal(self, ended: "_Ended") -> None:
        """End a segment with its footer; without one, a reader finds its end by itself."""
        file = ended.file
        footer = Footer(self._flushed_seq, file.size, ended.summary)
        try:
            try:
                file.append(pack_footer(ended.mark, footer, file.size))
            finally:
                file.finish()
        except OSError as error:
            _log.warning("a log segment could not be sealed", error=str(error))

    def sync(self) -> None:
        """Make what is written durable. Any thread may call it.

        A segment that could not be made durable is not tried again: the system may since call
        clean what never reached the disk, and would say that all is well. The owner's next flush
        says so in the log, with a Fault, and goes on in a new segment. After failures in a row it
        takes longer until the next try, so that segments do not pile up.

        Raises:
            OSError: the disk failed.
        """
        with self._sync_lock:
            while self._retired:
                index, fd = self._retired.popleft()
                try:
                    if fd not in self._unsound:
                        self._sync_file(index, fd)
                        self.sealed.append(index)
                finally:
                    self._unsound.discard(fd)
                    self._named_fd = -1 if self._named_fd == fd else self._named_fd
                    os.close(fd)
            index, fd = self._current
            if fd < 0 or self.clock_ns() < self._sync_again_ns:
                return
            if fd not in self._unsound:
                self._sync_file(index, fd)
            if self._untold or fd in self._unsound:
                # Again: the owner may have begun a segment meanwhile, or had no room for one.
                self._rotate_at = 0

    def _sync_file(self, index: int, fd: int) -> None:
        try:
            os.fdatasync(fd)
            if fd != self._named_fd:
                self._store.sync_names()
                self._named_fd = fd
        except OSError as error:
            self._sync_error = error.strerror or str(error)
            self._unsound.add(fd)
            self._untold.append((index, self._sync_error))
            self._failed_syncs += 1
            wait_s = min(2**self._failed_syncs, MAX_SYNC_WAIT_S)
            self._sync_again_ns = self.clock_ns() + wait_s * 1_000_000_000
            self._rotate_at = 0
            raise
        self._failed_syncs = 0

    def _tell_of_failed_syncs(self) -> None:
        while self._untold:
            index, why = self._untold.popleft()
            message = (
                f"segment {index} could not be made durable: {why}; a power cut may lose it, and "
                "it is not tried again"
            )
            self.others.append(self.event(Fault, "OSError", message, "", "", source="log"))

    def close(self) -> None:
        """Write what is left, seal the last segment and make all durable."""
        self._flush_rest()
        self._sync_all()
        if self._current[1] in self._unsound:  # the log can still tell, in the next
            self._rotate()
        self._tell_of_failed_syncs()
        self._flush_rest()
        self._complete_summary()
        index, fd = self._current
        self._seal(_Ended(index, fd, self._file, self._mark, self._summary))
        self.committed = (index, self._file.size)
        self._store.discard_leftovers()
        self._sync_all()
        with self._sync_lock:
            os.close(fd)
            if fd not in self._unsound:
                self.sealed.append(index)
            self._current = (index, -1)

    def _sync_all(self) -> None:
        """Make all durable now, whatever was before."""
        for _ in range(len(self._retired) + 1):  # each failure is of another segment
            self._sync_again_ns = 0
            try:
                self.sync()
                return
            except OSError as error:
                _log.warning("the event log could not be made durable", error=str(error))

    def problems(self) -> list[str]:
        """What became of the log that its user should know at the run's end, a line each."""
        found = []
        if self.lost_events:
            found.append(
                f"{self.lost_events} events are missing in the event log: {self._loss}; make room, "
                "or choose another default_root_dir"
            )
        if self._sync_error:
            found.append(
                f"the event log could not be made durable at times: {self._sync_error}; check the "
                "disk, and copy the run elsewhere"
            )
        return found

    def _flush_rest(self) -> None:
        for _ in range(2):  # the second time for a Gap that tells what the first lost
            try:
                self.flush(wait=True)
            except MetricError as error:
                _log.warning("an event could not be recorded", error=str(error))


class _Ended(NamedTuple):
    """A segment that is complete but for its footer."""

    number: int
    fd: int
    file: SegmentFile
    mark: int
    summary: Summary


def _never_arrived(event: Put, error: Exception) -> Fault:
    """What stands in a value's place when it cannot be had."""
    head = [getattr(event, name) for name in Event.__struct_fields__]
    message = f"the value of {event.name!r} did not arrive: {error}"
    return Fault(*[*head, type(error).__name__, message[:MAX_REASON_CHARS], "", event.hook])


_SCHEMA = {tag: [kind.__name__, *kind.__struct_fields__] for tag, kind in EVENT_TYPES.items()}
