"""LogWriter: the only writer of a rank's log, which writes a step's events at once."""

import os
import secrets
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import NamedTuple, Protocol

import msgspec

from ..errors import MetricError, RunFolderError
from ..events import EVENT_TYPES, SCHEMA_VERSION, Event, Fault, Gap, Put, Scalar
from ..statistics import LogStatistics
from ..system.forks import leave_when_forked, refusal
from ..system.logging_setup import get_logger
from ..system.uninterrupted import uninterrupted
from .codec import UNENCODABLE, encodable, encode_trace
from .codes import NUMBER
from .event_buffer import EventBuffer
from .flight_recorder import NOBODY, FlightRecorder
from .format import (
    FORMAT_MAJOR,
    FORMAT_MINOR,
    HAS_RECORDS,
    KIND_EVENTS,
    MAX_EVENTS_A_FRAME,
    MAX_PAYLOAD_BYTES,
    Footer,
    SegmentHeader,
    pack_footer,
    pack_frame,
    pack_header,
)
from .layout import (
    MAX_NAMES_BYTES,
    TooManyWords,
)
from .place import Place
from .segment_file import SegmentFile, open_segment_file
from .segment_sync import SegmentSync
from .segments import SegmentStore
from .summary import HookTotal, Summary
from .trace import HookAt, HookTrace, count_hooks, shape_of

DEFAULT_SEGMENT_BYTES = 16 << 20
COUNT_EVENTS_AT_ONCE = 512
MAX_REASON_CHARS = 1_000

_log = get_logger("nightbus.log")
_by_seq = attrgetter("seq")


class LogIdentity(NamedTuple):
    """Identifies a log."""

    run: str
    attempt: int = 0
    rank: int = 0
    world_size: int = 1


class PendingValue(Protocol):
    """A number that is still being copied, for example from an accelerator."""

    def ready(self) -> bool:
        """Return whether ``result`` would return without waiting."""

    def result(self) -> Scalar:
        """Return the number, after waiting for it."""


class LogWriter(EventBuffer):
    """Appends events to the segments of one log.

    Args:
        store: the segments.
        identity: identifies the log.
        place: the place in training, which has hooks recorded here from now on, unless another
            recorder has them already.
        segment_bytes: size at which a segment is sealed and the next begins.
        clock_ns: monotonic clock.
        began_ns: time of the first event on that clock; now if not given.
        hooks: names of the hooks to write, of those that ``flight`` records; None for all.
        flight: records hooks instead, and keeps the last events; None if there is none.

    Attributes:
        on_loss: called with the reason when the disk fails to take events for the first time; None
            for no call.

    Raises:
        RunFolderError: the first segment cannot be created.
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
        hooks: set[str] | None = None,
        flight: FlightRecorder | None = None,
    ) -> None:
        super().__init__(place, clock_ns, hooks, flight)
        self._singly = list[HookAt]()  # written hooks to be counted
        self._hook_totals: dict[str, list[int]] = {}  # name -> [count, total ns], this segment
        self.identity = identity
        self.lost_events = 0
        self._loss: Exception | None = None  # why events were last lost
        self._is_left = False  # in a forked child
        self._store = store
        self._segment_bytes = segment_bytes
        self._rotate_at = segment_bytes  # size at which this segment ends
        self._readable_seq = 0  # the same without lost events at the end
        # The frame being written, with its numbers of hooks and others; a flush sees it only after
        # one that was interrupted.
        self._underway: tuple[bytes, int, int] | None = None
        self._written_ns = clock_ns()  # time of the last write
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
        self._sync = SegmentSync(store, clock_ns, fd, self._end_segment_soon)
        # Segment and byte offset up to which live readers may read.
        self.committed = (0, self._file.size)
        self._begin_recording()
        leave_when_forked(self)

    def leave_to_parent(self) -> None:
        """Stop writing in a forked child, because the mapping is its parent's too."""
        self.takes, self.owner, self._is_left = False, NOBODY, True
        self._file.leave_to_parent()
        self._sync.leave_to_parent()

    @property
    def written_seq(self) -> int:
        """Sequence number of the first event that is not written yet."""
        return self._flushed_seq

    @property
    def readable_seq(self) -> int:
        """Sequence number up to which observers can read, without lost events at the end."""
        return self._readable_seq

    def statistics(self) -> LogStatistics:
        """Return how much is recorded, buffered and lost; any thread may call this."""
        segment, size = self.committed
        written = self._flushed_seq
        buffered = count_hooks(shape_of(self.trace.words)) + len(self.records)
        return LogStatistics(
            events=written + buffered,
            buffered=buffered,
            asked_for=len(self.inbox),
            lost=self.lost_events,
            segment=segment,
            segment_bytes=size,
        )

    # -- writing -----------------------------------------------------------------------------

    def flush(self, wait: bool = False) -> None:
        """Write what was appended, so that observers can see it.

        An interrupt (Ctrl-C) may end it anywhere; the next flush continues from there.

        Args:
            wait: also wait for pending values, so that everything is written.

        Raises:
            MetricError: an event is larger than a frame. It is left out, the others are written.
            ForkedChildError: this is a forked child; the log is its parent's.
        """
        if self._is_left:
            raise refusal("the log was to be written")
        if self.flight is not None:
            if self._selects:
                self._select()
            self.flight.keep_if_long()
        if self._underway is not None:
            self._finish_underway()
        if self._pending:
            self._take_arrived(wait)
            if self._pending:
                self._write_before(self._pending[0].seq)
                return
        hook_count, record_count = self._count_recorded(), len(self.records)
        number = hook_count + record_count
        if not number:
            self._keep_rest(self.trace.cut(0).rest)  # changes of the place, without a hook
            self._set_due(self.recorder.clock_ns())
            return
        try:
            payload = encode_trace(self.trace, self.records)
        except (*UNENCODABLE, TooManyWords):
            self._write_before(self._flushed_seq + number)
            return
        if number > MAX_EVENTS_A_FRAME or len(payload) > MAX_PAYLOAD_BYTES:
            self._write_before(self._flushed_seq + number)
            return
        self._write_frame(payload, hook_count, record_count)

    def flush_end(self) -> bool:
        """Write the last events, for which some space was kept back.

        Returns:
            Whether the disk took them.
        """
        self._file.open_reserve()
        self.flush(wait=True)
        return self._readable_seq == self._flushed_seq

    def _write_before(self, limit: int) -> None:
        """Write the events before a sequence number, in several frames if needed."""
        refused: MetricError | None = None
        at_once = MAX_EVENTS_A_FRAME
        while self._flushed_seq < limit:
            number = min(at_once, limit - self._flushed_seq)
            record_count = bisect_left(self.records, self._flushed_seq + number, key=_by_seq)
            hook_count = number - record_count
            payload = self._encode_first(hook_count, record_count)
            if payload is not None and len(payload) <= MAX_PAYLOAD_BYTES:
                self._write_frame(payload, hook_count, record_count)
            elif number > 1:
                at_once = number // 2
            else:
                event = str(self.records[:record_count] or self.trace.cut(hook_count).hooks)
                refused = MetricError(
                    f"one event takes more than {MAX_PAYLOAD_BYTES} bytes, the most a log takes, "
                    f"or has a hook's name of more than {MAX_NAMES_BYTES}: "
                    f"{event[:200]}..."
                )
                self._finish_frame(hook_count, record_count, refused)
        if refused is not None:
            raise refused

    def _encode_first(self, hook_count: int, record_count: int) -> bytes | None:
        """Return a frame's payload; None if it would be too large."""
        trace = self.trace.cut(hook_count).first
        try:
            return encode_trace(trace, self.records[:record_count])
        except TooManyWords:
            return None
        except UNENCODABLE:
            self.records[:record_count] = [
                encodable(event) for event in self.records[:record_count]
            ]
            return encode_trace(trace, self.records[:record_count])

    def _write_frame(self, payload: bytes, hook_count: int, record_count: int) -> None:
        time_ns = self._written_ns = self.clock_ns()
        self._set_due(time_ns & NUMBER)
        flags = HAS_RECORDS if record_count else 0
        number, seq = hook_count + record_count, self._flushed_seq
        frame = pack_frame(self._mark, KIND_EVENTS, payload, number, seq, time_ns, flags)
        self._underway = frame, hook_count, record_count
        error = None
        try:
            self._file.append(frame)
        except OSError as failure:
            error = failure
        self._finish_frame(hook_count, record_count, error)

    def _finish_underway(self) -> None:
        """Continue where an interrupt ended ``_write_frame``, with the same bytes and place.

        Another process may have read them already.
        """
        assert self._underway is not None
        frame, hook_count, record_count = self._underway
        error = None
        begin = self.committed[1]
        if self._file.size != begin + len(frame):
            self._file.size = begin
            try:
                self._file.append(frame)
            except OSError as failure:
                error = failure
        self._finish_frame(hook_count, record_count, error)

    def _finish_frame(self, hook_count: int, record_count: int, error: Exception | None) -> None:
        """Remove the first events from the buffers: they are written, or lost by an error."""
        number = hook_count + record_count
        gap: list[Event] = []
        if error is not None:  # first, because more hooks may be taken from the flight recorder
            gap.append(self._gap(number, self.records[:record_count], error))
        _, hooks, rest = self.trace.cut(hook_count)
        if error is not None:
            is_first_loss = not self.lost_events
            self._lose_frame(number, record_count, rest, error, gap)
            if is_first_loss and isinstance(error, OSError):
                self._report_loss(error)
            return
        self._commit_frame(number, record_count, hooks, rest)
        if max(len(self._uncounted), len(self._singly)) > COUNT_EVENTS_AT_ONCE:
            self._count()
        if self._file.size >= self._rotate_at:
            self._rotate()

    @uninterrupted
    def _commit_frame(
        self, number: int, record_count: int, hooks: list[HookAt], rest: HookTrace
    ) -> None:
        """Remove the first events, which are written.

        Args:
            number: their number.
            record_count: how many of them are not hooks.
            hooks: the hooks.
            rest: the trace after them.
        """
        trace, records = self.trace, self.records
        self._flushed_seq = self._readable_seq = self._flushed_seq + number
        self._underway = None
        self.committed = (self._index, self._file.size)
        self._singly += hooks
        self._uncounted += records[:record_count]
        del records[:record_count]
        trace.removed = rest.removed
        trace.words[:] = rest.words
        trace.origin = rest.origin
        self._counted_words = self._counted_hooks = 0

    @uninterrupted
    def _lose_frame(
        self, number: int, record_count: int, rest: HookTrace, error: Exception, gap: list[Event]
    ) -> None:
        """Remove the first events, which are lost.

        Args:
            number: their number.
            record_count: how many of them are not hooks.
            rest: the trace after them.
            error: why they are lost.
            gap: the events that record the loss.
        """
        trace, records = self.trace, self.records
        self._flushed_seq += number
        self._underway = None
        self.lost_events += number
        self._loss = error
        del records[:record_count]
        records += gap
        trace.removed = rest.removed
        trace.words[:] = rest.words
        trace.origin = rest.origin
        self._counted_words = self._counted_hooks = 0

    def _report_loss(self, error: OSError) -> None:
        if self.on_loss is not None:
            self.on_loss(f"the event log cannot be written: {error}")
        else:
            _log.warning(
                "the event log cannot be written; training goes on unrecorded until it can be",
                error=str(error),
            )

    def _keep_rest(self, rest: HookTrace) -> None:
        trace = self.trace
        trace.removed = rest.removed
        trace.words[:] = rest.words
        trace.origin = rest.origin
        self._counted_words = self._counted_hooks = 0

    def _gap(self, number: int, lost: Sequence[Event], error: Exception) -> Gap:
        """Return a Gap for lost events, including those of a Gap that was lost."""
        unreported = sum(event.count for event in lost if type(event) is Gap)
        return self.event(Gap, number + unreported, str(error)[:MAX_REASON_CHARS])

    def _take_arrived(self, wait: bool) -> None:
        """Replace pending values that have arrived, up to the first that has not."""
        records = self.records
        while self._pending:
            event = self._pending[0]
            value: PendingValue = event.value  # type: ignore[assignment]
            try:
                if not wait and not value.ready():
                    return
                arrived: Put | Fault = msgspec.structs.replace(event, value=value.result())
            except Exception as error:
                # The accelerator failed. Training will notice; the log goes on.
                arrived = _never_arrived(event, error)
            records[bisect_left(records, event.seq, key=_by_seq)] = arrived
            self._pending.popleft()
            if isinstance(arrived, Put) and arrived.value - arrived.value != 0:
                self.not_finite(arrived)

    # -- the summary -------------------------------------------------------------------------

    def _count(self) -> None:
        """Update the summary.

        In batches, because a loop that stays in the caches costs a third of the same work step by
        step.
        """
        counted = 0
        try:
            for event in self._uncounted:
                self._summary.add_record(event)
                counted += 1
        finally:
            del self._uncounted[:counted]
        totals = self._totals_with((hook.name, 1, hook.duration_ns) for hook in self._singly)
        self._hook_totals = totals
        del self._singly[:]

    def _totals_with(self, more: Iterable[tuple[str, int, int]]) -> dict[str, list[int]]:
        """Return the hooks' totals and more as a new object: an interrupt must not count half."""
        totals = {name: list(cell) for name, cell in self._hook_totals.items()}
        for name, count, duration_ns in more:
            cell = totals.setdefault(name, [0, 0])
            cell[0] += count
            cell[1] += duration_ns
        return totals

    def _complete_summary(self) -> None:
        """Complete the summary of a segment to which nothing more will be written."""
        self._count()
        summary, place = self._summary, self.place
        summary.last_time_ns = self._written_ns
        summary.epoch, summary.step = place.epoch, place.step
        hooks = dict(summary.hooks)
        for name, (count, total_ns) in self._hook_totals.items():
            before = hooks.get(name, HookTotal())
            hooks[name] = HookTotal(before.count + count, before.total_ns + total_ns)
        self._hand_totals_over(hooks)

    @uninterrupted
    def _hand_totals_over(self, hooks: dict[str, HookTotal]) -> None:
        self._summary.hooks, self._hook_totals = hooks, {}

    # -- segments ----------------------------------------------------------------------------

    def _begin_segment(self, index: int) -> tuple[int, SegmentFile, int]:
        """Create a segment with its header; return file descriptor, file and mark.

        Raises:
            RunFolderError: it cannot be created.
            OSError: there is no space for it.
        """
        fd = -1
        try:
            fd = self._store.create(index)
            file = open_segment_file(fd)
            mark = secrets.randbits(32) | 1  # never 0, the content of unwritten space
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
        """Continue in a new segment and seal the old one, unless there is no room for one."""
        self._record_failed_syncs()
        self._complete_summary()
        summary = Summary(first_time_ns=self.clock_ns())
        ended = _Ended(self._index, self._file, self._mark, self._summary)
        _, ended_fd = self._sync.current
        try:
            # First, so that there is always a segment to write to.
            fd, file, mark = self._begin_segment(ended.number + 1)
        except (RunFolderError, OSError) as error:
            _log.warning("cannot begin a new log segment; the last one grows on", error=str(error))
            self._rotate_at = self._file.size + self._segment_bytes
            return
        try:
            self._go_on_in(fd, file, mark, summary)
        except BaseException:  # an interrupt before it began: the segment is useless
            os.close(fd)
            self._store.discard(ended.number + 1)
            raise
        try:
            self._seal(ended)
        finally:
            self._sync.retire(ended.number, ended_fd)

    @uninterrupted
    def _go_on_in(self, fd: int, file: SegmentFile, mark: int, summary: Summary) -> None:
        """Write to the next segment from now on."""
        self._index += 1
        self._sync.current = (self._index, fd)
        self._file, self._mark = file, mark
        self._summary, self._rotate_at = summary, self._segment_bytes
        self.committed = (self._index, file.size)

    def _seal(self, ended: "_Ended") -> None:
        """End a segment with its footer; a reader can find the end without one."""
        file = ended.file
        footer = Footer(self._flushed_seq, file.size, ended.summary)
        try:
            try:
                file.append(pack_footer(ended.mark, footer, file.size))
            finally:
                file.finish()
        except OSError as error:
            _log.warning("cannot seal a log segment", error=str(error))

    def sync(self) -> None:
        """Make what is written durable; see ``SegmentSync.sync``; any thread may call this.

        Raises:
            OSError: the disk failed.
            ForkedChildError: this is a forked child.
        """
        self._sync.sync()

    @property
    def sealed(self) -> deque[int]:
        """Durable segments, ready to be compressed."""
        return self._sync.sealed

    def _end_segment_soon(self) -> None:
        """Have the next flush continue in a new segment."""
        self._rotate_at = 0

    def _record_failed_syncs(self) -> None:
        while self._sync.untold:
            index, why = self._sync.untold.popleft()
            message = (
                f"segment {index} could not be made durable: {why}; a power cut may lose it, and "
                "it is not tried again"
            )
            self.records.append(self.event(Fault, "OSError", message, "", "", source="log"))

    def close(self) -> None:
        """Write what is left, seal the last segment and make everything durable."""
        self._flush_rest()
        self._sync.sync_all()
        if self._sync.is_unsound:  # the log can still record it, in the next segment
            self._rotate()
        self._record_failed_syncs()
        self._flush_rest()
        if self.flight is not None:
            self.recorder.flush_within_step = self.flight.keep_within_step
        self._complete_summary()
        self._seal(_Ended(self._index, self._file, self._mark, self._summary))
        self.committed = (self._index, self._file.size)
        self._store.discard_leftovers()
        self._sync.sync_all()
        self._sync.close()

    def problems(self) -> list[str]:
        """Return what the user should know about the log at the run's end, one line each."""
        found = []
        if self.lost_events:
            found.append(
                f"{self.lost_events} events are missing in the event log: {self._loss}; make room, "
                "or choose another default_root_dir"
            )
        if self._sync.last_error:
            found.append(
                f"the event log could not be made durable at times: {self._sync.last_error}; check "
                "the disk, and copy the run elsewhere"
            )
        return found

    def _flush_rest(self) -> None:
        for _ in range(2):  # the second time for a Gap about what the first lost
            try:
                self.flush(wait=True)
            except MetricError as error:
                _log.warning("cannot record an event", error=str(error))


class _Ended(NamedTuple):
    """A segment that is complete except for its footer."""

    number: int
    file: SegmentFile
    mark: int
    summary: Summary


def _never_arrived(event: Put, error: Exception) -> Fault:
    """Return the replacement of a value that could not be obtained."""
    head = [getattr(event, name) for name in Event.__struct_fields__]
    message = f"the value of {event.name!r} did not arrive: {error}"
    return Fault(*[*head, type(error).__name__, message[:MAX_REASON_CHARS], "", event.hook])


_SCHEMA = {tag: [kind.__name__, *kind.__struct_fields__] for tag, kind in EVENT_TYPES.items()}
