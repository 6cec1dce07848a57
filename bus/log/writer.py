"""The one writer of a rank's log: collects a step's events, writes them at once."""

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
from .marks import (
    BEGIN,
    END,
    NOTICE,
    NUMBER,
    HookAt,
    HookTrace,
    count_hooks,
    shape_of,
)
from .place import Place
from .segment_file import SegmentFile, open_segment_file
from .segment_sync import SegmentSync
from .segments import SegmentStore
from .summary import HookTotal, Summary

DEFAULT_SEGMENT_BYTES = 16 << 20
# A step that emits much is written in parts, and a long one while it goes on. Of fast ones with
# nothing but hooks, several are written at once.
MAX_BUFFERED_EVENTS = 4096
MAX_BUFFERED_NS = 50_000_000
COUNT_EVENTS_AT_ONCE = 512
MAX_REASON_CHARS = 1_000

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


class LogWriter(StaysInRun):
    """Appends events to the segments of one log.

    Only the thread that made it may call ``flush`` and ``close`` or append events, and only while
    it is the ``owner``; others use ``emit_from_any_thread``. While it is at it, ``owner`` is
    nobody, so that what strikes in the middle and puts something, a signal's handler, ``__del__``
    or a trace function, goes the way of other threads.

    Args:
        store: where segments lie.
        identity: which log this is.
        place: where training is. It has what hooks do recorded here from now on, unless somebody
            else records it already.
        segment_bytes: size at which a segment is sealed and the next begins.
        clock_ns: monotonic clock.
        began_ns: when the first event arose, on that clock, if not now.
        hooks: names of the hooks to write, of those that ``flight`` records; None for all.
        flight: records hooks instead, and keeps the last events; None for nobody.

    Attributes:
        on_loss: called with the reason when the disk takes events for the first time; None for
            nobody.
        owner: the thread that may append now; ``NOBODY`` while it does, and when all is over.
        takes: whether others may ask for events; not any more once the end is recorded.

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
        hooks: set[str] | None = None,
        flight: FlightRecorder | None = None,
    ) -> None:
        # The step's buffers; emptied in place by flush.
        self.trace = HookTrace()
        self.others: list[Event] = []
        self.hooks = hooks
        self.place = place
        self.flight = flight
        self._counted_words = 0  # so many of the trace are counted,
        self._counted_hooks = 0  # and hold so many hooks
        self._singly = list[HookAt]()  # hooks that are written, to be counted
        self._hook_totals: dict[str, list[int]] = {}  # name -> [count, total ns], this segment
        self.identity = identity
        self.clock_ns = clock_ns
        self.lost_events = 0
        self._loss: Exception | None = None  # why the last of them are lost
        self.owner = threading.get_ident()
        self.takes = True
        self._is_left = False  # in a forked child
        self.inbox: deque[Callable[[], Event]] = deque()  # makers of other threads' events
        self._store = store
        self._segment_bytes = segment_bytes
        self._rotate_at = segment_bytes  # size at which this segment is to end
        self._flushed_seq = 0
        self._readable_seq = 0  # the same without those at the end that are lost
        self._pending: deque[Put] = deque()  # those of the others whose value is on its way
        # The frame being written and how many buffered hooks and others it holds; seen by a flush
        # only after one that an interrupt ended.
        self._underway: tuple[bytes, int, int] | None = None
        self._written_ns = clock_ns()  # when something was written last
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
        """A forked child writes nothing: what is mapped is its parent's too."""
        self.takes, self.owner, self._is_left = False, NOBODY, True
        self._file.leave_to_parent()
        self._sync.leave_to_parent()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Have whatever strikes meanwhile go the way of other threads; outside the hot path."""
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
        """Make the next event: it arises here, now if not at ``time_ns``, and is to be appended
        before another is made.
        """
        seq = self.next_seq()
        if time_ns is None:
            time_ns = self.clock_ns()
        return self.place.event(
            kind, seq, time_ns, self.place.step if step is None else step, source, *fields
        )

    def next_seq(self) -> int:
        """The sequence number of the event that is appended next."""
        if self.flight is not None and (self.hooks is None or self.hooks):
            self.flight.keep()  # which adds what is to be written of it
        return self._flushed_seq + self._count_recorded() + len(self.others)

    def _count_recorded(self) -> int:
        """How many hooks the trace holds; each word is looked at once."""
        words = self.trace.words
        number = len(words)
        if self._counted_words < number:
            count = count_hooks(shape_of(words[self._counted_words : number]))
            self._counted_words, self._counted_hooks = number, self._counted_hooks + count
        return self._counted_hooks

    def append(self, event: Event) -> None:
        """Add an event to what the next flush writes."""
        self.others.append(event)
        if self.flight is not None:
            self.flight.add(event)
        if len(self.others) > MAX_BUFFERED_EVENTS:
            self.flush()
        self.recorder.flush_due_ns = AT_ONCE

    def append_pending(self, event: Put) -> None:
        """Add an event whose ``value`` is a PendingValue; what follows waits for it in order."""
        self.others.append(event)
        self._pending.append(event)
        if self.flight is not None:
            self.flight.add(event)
        self.recorder.flush_due_ns = AT_ONCE

    def want_hooks(self, wanted: set[str] | None) -> None:
        """Write hooks too that ``flight`` records, from now on.

        Args:
            wanted: their names; None for all.
        """
        if self.hooks is None:
            return
        if self.flight is not None:
            self.flight.keep()  # what was recorded up to now is nothing that they want
            self.recorder.flush_due_ns = AT_ONCE
        self.hooks = None if wanted is None else self.hooks | wanted

    def _select(self, kept: HookTrace) -> None:
        """Add those of some recorded hooks that are to be written."""
        if self.hooks is None or self.hooks:
            some, mine = kept.selected(self.hooks), self.trace
            mine.names, mine.base_ns = some.names, some.base_ns
            if not mine.words:
                mine.origin = some.origin
            mine.words += some.words

    def add_hook(self, name: str, time_ns: int, duration_ns: int | None = None) -> None:
        """Add a hook that is over.

        Args:
            name: the hook.
            time_ns: when it was done.
            duration_ns: how long its handlers took; None for one without.
        """
        trace = self.trace
        if duration_ns is None:
            trace.appender(NOTICE, name)(time_ns & NUMBER)
        else:
            trace.appender(BEGIN, name)(time_ns - duration_ns & NUMBER)
            trace.appender(END, name)(time_ns & NUMBER)

    def emit_from_any_thread(self, kind: type[Event], *fields: Any, source: str = "") -> bool:
        """Have an event appended by the owner's next flush.

        Returns:
            Whether it will be; False when it is too late.
        """
        time_ns = self.clock_ns()
        return self.ask_for_event(lambda: self.event(kind, *fields, source=source, time_ns=time_ns))

    def ask_for_event(self, make: Callable[[], Event]) -> bool:
        """Have an event appended by the owner's next flush, made only then; any thread may ask.

        Returns:
            Whether it will be; False when it is too late.
        """
        # Python changes threads at calls and at the ends of loops. There is neither between the
        # look and the append, so whatever the inbox took is there when it is emptied at the end.
        if not self.takes:
            return False
        self.inbox.append(make)
        self.recorder.flush_due_ns = AT_ONCE
        return True

    def take_from_inbox(self) -> Event:
        """The next event that another thread asked for, with its place in the order; append it."""
        return self.inbox.popleft()()

    @property
    def written_seq(self) -> int:
        """The sequence number of the first event that is not written yet."""
        return self._flushed_seq

    @property
    def readable_seq(self) -> int:
        """How far observers can read: ``written_seq``, unless the disk took not the last events."""
        return self._readable_seq

    def statistics(self) -> LogStatistics:
        """How much is recorded, buffered and lost; any thread may ask."""
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
        """Write what was appended; afterwards observers may see it.

        An interrupt (Ctrl-C) may end it anywhere: the next flush goes on from there.

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
            self._keep_rest(self.trace.cut(0).rest)  # where training moved, without a hook
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
        """Write a step that goes on; the rest of it is then written at its end."""
        with self.alone():
            self.flush()
        self.recorder.flush_due_ns = AT_ONCE

    def _set_due(self, time_ns: int) -> None:
        recorder = self.recorder
        recorder.flush_due_ns = time_ns + MAX_BUFFERED_NS
        recorder.flush_latest_ns = time_ns + MAX_STEP_NS

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
        """A frame's payload; None where it would hold too much."""
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
        self._finish_frame(hook_count, other_count, error)

    def _finish_frame(self, hook_count: int, other_count: int, error: Exception | None) -> None:
        """Take the first events out of the buffers: they are written, or lost by an error."""
        number = hook_count + other_count
        gap: list[Event] = []
        if error is not None:  # first, because more hooks may be taken from the flight recorder
            gap.append(self._gap(number, self.others[:other_count], error))
        _, hooks, rest = self.trace.cut(hook_count)
        if error is not None:
            is_first_loss = not self.lost_events
            self._lose_frame(number, other_count, rest, error, gap)
            if is_first_loss and isinstance(error, OSError):
                self._say_loss(error)
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
        """The first events are written.

        Args:
            number: how many.
            other_count: how many of them were no hooks.
            hooks: the others.
            rest: what was recorded behind them.
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
        """The first events are lost.

        Args:
            number: how many.
            other_count: how many of them were no hooks.
            rest: what was recorded behind them.
            error: why.
            gap: what tells of them in the log.
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

    def _say_loss(self, error: OSError) -> None:
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
                self._summary.add_other(event)
                counted += 1
        finally:
            del self._uncounted[:counted]
        totals = self._totals_with((hook.name, 1, hook.duration_ns) for hook in self._singly)
        self._hook_totals = totals
        del self._singly[:]

    def _totals_with(self, more: Iterable[tuple[str, int, int]]) -> dict[str, list[int]]:
        """The hooks' totals and more, as something new: an interrupt must not count half of it."""
        totals = {name: list(cell) for name, cell in self._hook_totals.items()}
        for name, count, duration_ns in more:
            cell = totals.setdefault(name, [0, 0])
            cell[0] += count
            cell[1] += duration_ns
        return totals

    def _complete_summary(self) -> None:
        """All that the segment holds, now that nothing more will be written to it."""
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
        ended = _Ended(self._index, self._file, self._mark, self._summary)
        _, ended_fd = self._sync.current
        try:
            # Before the old one is sealed, so that there is always one to write to.
            fd, file, mark = self._begin_segment(ended.number + 1)
        except (RunFolderError, OSError) as error:
            _log.warning("cannot begin a new log segment; the last one grows on", error=str(error))
            self._rotate_at = self._file.size + self._segment_bytes
            return
        try:
            self._go_on_in(fd, file, mark, summary)
        except BaseException:  # an interrupt, before it began: the segment is of no use
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
        """Make what is written durable; see ``SegmentSync.sync``. Any thread may call it.

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
        """Have the next flush go on in a new segment."""
        self._rotate_at = 0

    def _tell_of_failed_syncs(self) -> None:
        while self._sync.untold:
            index, why = self._sync.untold.popleft()
            message = (
                f"segment {index} could not be made durable: {why}; a power cut may lose it, and "
                "it is not tried again"
            )
            self.others.append(self.event(Fault, "OSError", message, "", "", source="log"))

    def close(self) -> None:
        """Write what is left, seal the last segment and make all durable."""
        self._flush_rest()
        self._sync.sync_all()
        if self._sync.is_unsound:  # the log can still tell, in the next
            self._rotate()
        self._tell_of_failed_syncs()
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
        """What became of the log that its user should know at the run's end, a line each."""
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
        for _ in range(2):  # the second time for a Gap that tells what the first lost
            try:
                self.flush(wait=True)
            except MetricError as error:
                _log.warning("an event could not be recorded", error=str(error))


class _Ended(NamedTuple):
    """A segment that is complete but for its footer."""

    number: int
    file: SegmentFile
    mark: int
    summary: Summary


def _never_arrived(event: Put, error: Exception) -> Fault:
    """What stands in a value's place when it cannot be had."""
    head = [getattr(event, name) for name in Event.__struct_fields__]
    message = f"the value of {event.name!r} did not arrive: {error}"
    return Fault(*[*head, type(error).__name__, message[:MAX_REASON_CHARS], "", event.hook])


_SCHEMA = {tag: [kind.__name__, *kind.__struct_fields__] for tag, kind in EVENT_TYPES.items()}
