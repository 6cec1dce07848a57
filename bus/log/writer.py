"""LogWriter: the only writer of a rank's log, which writes a step's events at once."""

import contextlib
import os
import secrets
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from ..copies import StaysInRun
from ..errors import MetricError, RunFolderError
from ..events import EVENT_TYPES, SCHEMA_VERSION, Event, Fault, Gap, Put, Scalar
from ..statistics import LogStatistics
from ..system.forks import leave_when_forked, refusal
from ..system.logging_setup import get_logger
from ..system.uninterrupted import uninterrupted
from .codec import UNENCODABLE, encodable, encode_trace
from .codes import BEGIN, END, NUMBER, RAN
from .flight_recorder import MAX_STEP_NS, NOBODY, FlightRecorder
from .format import (
    FORMAT_MAJOR,
    FORMAT_MINOR,
    HAS_OTHERS,
    KIND_EVENTS,
    MAX_EVENTS_A_FRAME,
    MAX_PAYLOAD_BYTES,
    Footer,
    SegmentHeader,
    pack_footer,
    pack_frame,
    pack_header,
)
from .hook_recorder import AT_ONCE, NEVER, HookRecorder
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
# A step with many events is written in parts, and a long one before it has ended. Fast steps with
# only hooks are written several at once.
MAX_BUFFERED_EVENTS = 4096
MAX_BUFFERED_NS = 50_000_000
COUNT_EVENTS_AT_ONCE = 512
MAX_REASON_CHARS = 1_000

_log = get_logger("nightbus.log")
_by_seq = attrgetter("seq")
E_ = TypeVar("E_", bound=Event)


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


class LogWriter(StaysInRun):
    """Appends events to the segments of one log.

    Only the thread that created it may call ``flush`` and ``close`` or append events, and only
    while it is the ``owner``; others use ``emit_from_any_thread``. During these calls the owner is
    ``NOBODY``, so that code that interrupts them and puts something (a signal handler, ``__del__``
    or a trace function) is treated like another thread.

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
        owner: the thread that may append now; ``NOBODY`` while it does, and at the end.
        takes: other threads may request events, which ends once the end is recorded.

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
        # The step's buffers; emptied in place by flush.
        self.trace = HookTrace()
        self.others: list[Event] = []
        self.hooks = hooks
        self.place = place
        self.flight = flight
        self._counted_words = 0  # words of the trace counted so far,
        self._counted_hooks = 0  # and hooks in them
        self._singly = list[HookAt]()  # written hooks to be counted
        self._hook_totals: dict[str, list[int]] = {}  # name -> [count, total ns], this segment
        self.identity = identity
        self.clock_ns = clock_ns
        self.lost_events = 0
        self._loss: Exception | None = None  # why events were last lost
        self.owner = threading.get_ident()
        self.takes = True
        self._is_left = False  # in a forked child
        self.inbox: deque[Callable[[], Event]] = deque()  # create the events of other threads
        self._store = store
        self._segment_bytes = segment_bytes
        self._rotate_at = segment_bytes  # size at which this segment ends
        self._flushed_seq = 0
        self._readable_seq = 0  # the same without lost events at the end
        self._pending: deque[Put] = deque()  # puts whose value is still being copied
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
        if flight is not None:
            flight.on_kept = self._select
        elif hooks is None and not place.recorder.is_on:
            place.recorder = HookRecorder(place.origin(), clock_ns, self._flush_within_step)
            self.trace = place.recorder.trace
        self.recorder = place.recorder
        if self.trace is self.recorder.trace:
            self._set_due(self.recorder.clock_ns())
        leave_when_forked(self)

    def leave_to_parent(self) -> None:
        """Stop writing in a forked child, because the mapping is its parent's too."""
        self.takes, self.owner, self._is_left = False, NOBODY, True
        self._file.leave_to_parent()
        self._sync.leave_to_parent()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Treat code that interrupts meanwhile like another thread; not for the hot path."""
        owner, self.owner = self.owner, NOBODY
        try:
            yield
        finally:
            self.owner = owner

    # -- appending ---------------------------------------------------------------------------

    def event(
        self,
        kind: type[E_],
        *fields: Any,
        source: str = "",
        time_ns: int | None = None,
        step: int | None = None,
    ) -> E_:
        """Return the next event, which has to be appended before another is made.

        Args:
            kind: its class.
            *fields: its own fields, in order.
            source: the name of the actor it comes from.
            time_ns: its time, on the log's clock; now if not given.
            step: the step it belongs to; the present one if not given.
        """
        seq = self.next_seq()
        if time_ns is None:
            time_ns = self.clock_ns()
        return self.place.event(
            kind, seq, time_ns, self.place.step if step is None else step, source, *fields
        )

    def next_seq(self) -> int:
        """Sequence number of the next event."""
        if self.flight is not None and (self.hooks is None or self.hooks):
            self.flight.keep()  # which adds the hooks to be written
        return self._flushed_seq + self._count_recorded() + len(self.others)

    def _count_recorded(self) -> int:
        """Return how many hooks the trace holds, reading each word once."""
        words = self.trace.words
        number = len(words)
        if self._counted_words < number:
            count = count_hooks(shape_of(words[self._counted_words : number]))
            self._counted_words, self._counted_hooks = number, self._counted_hooks + count
        return self._counted_hooks

    def append(self, event: Event) -> None:
        """Add an event, to be written by the next flush."""
        self.others.append(event)
        if self.flight is not None:
            self.flight.add(event)
        if len(self.others) > MAX_BUFFERED_EVENTS:
            self.flush()
        self.recorder.flush_due_ns = AT_ONCE

    def append_pending(self, event: Put) -> None:
        """Add an event whose ``value`` is a PendingValue; later events wait for it."""
        self.others.append(event)
        self._pending.append(event)
        if self.flight is not None:
            self.flight.add(event)
        self.recorder.flush_due_ns = AT_ONCE

    def want_hooks(self, wanted: set[str] | None) -> None:
        """Write more of the hooks that ``flight`` records, from now on.

        Args:
            wanted: their names; None for all.
        """
        if self.hooks is None:
            return
        if self.flight is not None:
            self.flight.keep()  # what was recorded up to now is not wanted
            self.recorder.flush_due_ns = AT_ONCE
        self.hooks = None if wanted is None else self.hooks | wanted

    def _select(self, kept: HookTrace) -> None:
        """Add those of some recorded hooks that have to be written."""
        if self.hooks is None or self.hooks:
            some, mine = kept.selected(self.hooks), self.trace
            mine.names, mine.base_ns = some.names, some.base_ns
            if not mine.words:
                mine.origin = some.origin
            mine.words += some.words

    def add_hook(self, name: str, time_ns: int, duration_ns: int | None = None) -> None:
        """Add a hook that has ended.

        Args:
            name: the hook.
            time_ns: when it was done.
            duration_ns: how long its handlers took; None for one without.
        """
        trace = self.trace
        if duration_ns is None:
            trace.appender(RAN, name)(time_ns & NUMBER)
        else:
            trace.appender(BEGIN, name)(time_ns - duration_ns & NUMBER)
            trace.appender(END, name)(time_ns & NUMBER)

    def emit_from_any_thread(self, kind: type[Event], *fields: Any, source: str = "") -> bool:
        """Have the owner's next flush write an event.

        Args:
            kind: its class.
            *fields: its own fields, in order.
            source: the name of the actor it comes from.

        Returns:
            Whether it will be written; False if it is too late.
        """
        time_ns = self.clock_ns()
        return self.ask_for_event(lambda: self.event(kind, *fields, source=source, time_ns=time_ns))

    def ask_for_event(self, make: Callable[[], Event]) -> bool:
        """Have the owner's next flush create and write an event; any thread may call this.

        Returns:
            Whether it will be written; False if it is too late.
        """
        # Python switches threads at calls and at the ends of loops. There is neither between the
        # check and the append, so what is in the inbox is there when it is emptied at the end.
        if not self.takes:
            return False
        self.inbox.append(make)
        self.recorder.flush_due_ns = AT_ONCE
        return True

    def take_from_inbox(self) -> Event:
        """Return the next event requested by another thread, with its number, to be appended."""
        return self.inbox.popleft()()

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
        buffered = count_hooks(shape_of(self.trace.words)) + len(self.others)
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
            self.recorder.flush_due_ns = NEVER
            if self.hooks is None or self.hooks:
                self.flight.keep()
                self.recorder.flush_due_ns = self.recorder.clock_ns() + MAX_BUFFERED_NS
        if self._underway is not None:
            self._finish_underway()
        if self._pending:
            self._take_arrived(wait)
            if self._pending:
                self._write_before(self._pending[0].seq)
                return
        hook_count, other_count = self._count_recorded(), len(self.others)
        number = hook_count + other_count
        if not number:
            self._keep_rest(self.trace.cut(0).rest)  # changes of the place, without a hook
            return
        try:
            payload = encode_trace(self.trace, self.others)
        except (*UNENCODABLE, TooManyWords):
            self._write_before(self._flushed_seq + number)
            return
        if number > MAX_EVENTS_A_FRAME or len(payload) > MAX_PAYLOAD_BYTES:
            self._write_before(self._flushed_seq + number)
            return
        self._write_frame(payload, hook_count, other_count)

    def _flush_within_step(self) -> None:
        """Write a step before it has ended; the rest of it is written at its end."""
        with self.alone():
            self.flush()
        self.recorder.flush_due_ns = AT_ONCE

    def _set_due(self, time_ns: int) -> None:
        recorder = self.recorder
        recorder.flush_due_ns = time_ns + MAX_BUFFERED_NS
        recorder.flush_latest_ns = time_ns + MAX_STEP_NS

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
            other_count = bisect_left(self.others, self._flushed_seq + number, key=_by_seq)
            hook_count = number - other_count
            payload = self._encode_first(hook_count, other_count)
            if payload is not None and len(payload) <= MAX_PAYLOAD_BYTES:
                self._write_frame(payload, hook_count, other_count)
            elif number > 1:
                at_once = number // 2
            else:
                event = str(self.others[:other_count] or self.trace.cut(hook_count).hooks)
                refused = MetricError(
                    f"one event takes more than {MAX_PAYLOAD_BYTES} bytes, the most a log takes, "
                    f"or has a hook's name of more than {MAX_NAMES_BYTES}: "
                    f"{event[:200]}..."
                )
                self._finish_frame(hook_count, other_count, refused)
        if refused is not None:
            raise refused

    def _encode_first(self, hook_count: int, other_count: int) -> bytes | None:
        """Return a frame's payload; None if it would be too large."""
        trace = self.trace.cut(hook_count).first
        try:
            return encode_trace(trace, self.others[:other_count])
        except TooManyWords:
            return None
        except UNENCODABLE:
            self.others[:other_count] = [encodable(event) for event in self.others[:other_count]]
            return encode_trace(trace, self.others[:other_count])

    def _write_frame(self, payload: bytes, hook_count: int, other_count: int) -> None:
        time_ns = self._written_ns = self.clock_ns()
        if self.trace is self.recorder.trace:
            self._set_due(time_ns & NUMBER)
        flags = HAS_OTHERS if other_count else 0
        number, seq = hook_count + other_count, self._flushed_seq
        frame = pack_frame(self._mark, KIND_EVENTS, payload, number, seq, time_ns, flags)
        self._underway = frame, hook_count, other_count
        error = None
        try:
            self._file.append(frame)
        except OSError as failure:
            error = failure
        self._finish_frame(hook_count, other_count, error)

    def _finish_underway(self) -> None:
        """Continue where an interrupt ended ``_write_frame``, with the same bytes and place.

        Another process may have read them already.
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
        self._finish_frame(hook_count, other_count, error)

    def _finish_frame(self, hook_count: int, other_count: int, error: Exception | None) -> None:
        """Remove the first events from the buffers: they are written, or lost by an error."""
        number = hook_count + other_count
        gap: list[Event] = []
        if error is not None:  # first, because more hooks may be taken from the flight recorder
            gap.append(self._gap(number, self.others[:other_count], error))
        _, hooks, rest = self.trace.cut(hook_count)
        if error is not None:
            is_first_loss = not self.lost_events
            self._lose_frame(number, other_count, rest, error, gap)
            if is_first_loss and isinstance(error, OSError):
                self._report_loss(error)
            return
        self._commit_frame(number, other_count, hooks, rest)
        if max(len(self._uncounted), len(self._singly)) > COUNT_EVENTS_AT_ONCE:
            self._count()
        if self._file.size >= self._rotate_at:
            self._rotate()

    @uninterrupted
    def _commit_frame(
        self, number: int, other_count: int, hooks: list[HookAt], rest: HookTrace
    ) -> None:
        """Remove the first events, which are written.

        Args:
            number: their number.
            other_count: how many of them are not hooks.
            hooks: the hooks.
            rest: the trace after them.
        """
        trace, others = self.trace, self.others
        self._flushed_seq = self._readable_seq = self._flushed_seq + number
        self._underway = None
        self.committed = (self._index, self._file.size)
        self._singly += hooks
        self._uncounted += others[:other_count]
        del others[:other_count]
        trace.words[:] = rest.words
        trace.origin = rest.origin
        self._counted_words = self._counted_hooks = 0

    @uninterrupted
    def _lose_frame(
        self, number: int, other_count: int, rest: HookTrace, error: Exception, gap: list[Event]
    ) -> None:
        """Remove the first events, which are lost.

        Args:
            number: their number.
            other_count: how many of them are not hooks.
            rest: the trace after them.
            error: why they are lost.
            gap: the events that record the loss.
        """
        trace, others = self.trace, self.others
        self._flushed_seq += number
        self._underway = None
        self.lost_events += number
        self._loss = error
        del others[:other_count]
        others += gap
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
        trace.words[:] = rest.words
        trace.origin = rest.origin
        self._counted_words = self._counted_hooks = 0

    def _gap(self, number: int, lost: Sequence[Event], error: Exception) -> Gap:
        """Return a Gap for lost events, including those of a Gap that was lost."""
        unreported = sum(event.count for event in lost if type(event) is Gap)
        return self.event(Gap, number + unreported, str(error)[:MAX_REASON_CHARS])

    def _take_arrived(self, wait: bool) -> None:
        """Replace pending values that have arrived, up to the first that has not."""
        others = self.others
        while self._pending:
            event = self._pending[0]
            value: PendingValue = event.value  # type: ignore[assignment]
            try:
                if not wait and not value.ready():
                    return
                arrived: Event = msgspec.structs.replace(event, value=value.result())
            except Exception as error:
                # The accelerator failed. Training will notice; the log goes on.
                arrived = _never_arrived(event, error)
            others[bisect_left(others, event.seq, key=_by_seq)] = arrived
            self._pending.popleft()

    # -- the summary -------------------------------------------------------------------------

    def _count(self) -> None:
        """Update the summary.

        In batches, because a loop that stays in the caches costs a third of the same work step by
        step.
        """
        counted = 0
        try:
            for event in self._uncounted:
                self._summary.add_other(event)
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
            self.others.append(self.event(Fault, "OSError", message, "", "", source="log"))

    def close(self) -> None:
        """Write what is left, seal the last segment and make everything durable."""
        self._flush_rest()
        self._sync.sync_all()
        if self._sync.is_unsound:  # the log can still record it, in the next segment
            self._rotate()
        self._record_failed_syncs()
        self._flush_rest()
        if self.flight is not None:
            self.flight.on_kept = None
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
