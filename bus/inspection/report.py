"""Summarises a run, from footers and from segments without one.

The report is for people and programs, so its parts have names, while the summaries in the log are
laid out to be small.
"""

import math
from collections.abc import Iterable
from itertools import islice
from typing import Literal

import msgspec

from ..errors import LogFormatError, NewerFormatError, RunFolderError
from ..events import (
    ActorTotals,
    DeadLetter,
    Ending,
    Event,
    Fault,
    Gap,
    Plain,
    RunEnded,
    RunStarted,
    Scalar,
)
from ..log.codec import DecodedEvent, HookSelection
from ..log.format import Footer
from ..log.reader import EndKind, LogEnd, LogReader
from ..log.segments import FolderStore, Stretch, read_footer
from ..log.summary import HookTotal, MetricTotal, Summary
from ..runs.cursor import CursorFile, list_cursors
from ..runs.flight_file import left_behind
from ..runs.lineage import consistent_logs
from ..runs.marks import read_marks
from ..runs.run_folder import RunFolder
from ..runs.run_summary import KILLED, RUNNING
from .rank_facts import RanksReport, ranks_report

MAX_LISTED = 20
MAX_ACTORS_LISTED = 100
MAX_MISSING_LISTED = 1_000

HowEnded = Ending | Literal["running", "killed"]


class MetricReport(msgspec.Struct, frozen=True):
    """One metric over the attempts.

    Attributes:
        count: number of values, including those that are not finite.
        last, last_epoch, last_step: the last value and its place.
        low, low_step, high, high_step: of the finite values; None if there are none.
        non_finite: number of values that are NaN or infinite.
    """

    count: int
    last: Scalar
    last_epoch: int
    last_step: int
    low: Scalar | None
    low_step: int | None
    high: Scalar | None
    high_step: int | None
    non_finite: int


class HookReport(msgspec.Struct, frozen=True):
    """One hook over the attempts; hooks nest, so the time of one may include that of others."""

    count: int
    total_ns: int
    mean_ns: float


class FaultReport(msgspec.Struct, frozen=True):
    """An exception in ``source`` and where it arose, from its Fault."""

    attempt: int
    epoch: int
    step: int
    source: str
    hook: str
    error: str
    message: str
    traceback: str


class DeadLetterReport(msgspec.Struct, frozen=True):
    """A command from ``source`` that never reached ``target``."""

    attempt: int
    step: int
    source: str
    target: str
    command: str
    reason: str


class GapReport(msgspec.Struct, frozen=True):
    """``count`` events that could not be written."""

    attempt: int
    step: int
    count: int
    reason: str


class ActorReport(msgspec.Struct, frozen=True):
    """What an actor did in an attempt, from its ActorTotals."""

    attempt: int
    name: str
    kind: str
    state: str
    events: int
    lag: int
    restarts: int
    faults: int
    sent: int
    delivered: int
    dropped: int
    dead: int
    most_waiting: int


class CursorReport(msgspec.Struct, frozen=True):
    """The position of one of the run's sinks, from its cursor.

    Attributes:
        name: the sink.
        kind: the name of its class.
        attempt, seq: the next event it gets.
        lag: number of recorded events still to be delivered to it.
    """

    name: str
    kind: str
    attempt: int
    seq: int
    lag: int


class ForkReport(msgspec.Struct, frozen=True):
    """Where a resumed attempt left its parent, from its Fork."""

    attempt: int
    seq: int
    checkpoint: str


class LogEndReport(msgspec.Struct, frozen=True):
    """Where and why the sound part of an attempt's log ends.

    Attributes:
        segment: number of the segment.
        offset: byte offset in it, uncompressed.
        reason: one line for people.
    """

    segment: int
    offset: int
    reason: str


class AttemptReport(msgspec.Struct, frozen=True):
    """One attempt of a run.

    Attributes:
        attempt: its number, from 0.
        fn: fit, validate, test or predict; empty when the log does not say.
        started_ns: wall clock, ns since 1970; None when the log does not say.
        duration_s: from the first event to the last.
        how: how it ended; ``running``; or ``killed``, if its process recorded no end.
        reason: one line for people.
        log_end: where the log ends, unless its writer closed it.
        epochs, steps: completed at the end, including those of the attempt that it resumed.
        events: number of events by type.
        fork: set when it was resumed from a checkpoint.
        missing_segments: numbers of segments missing before the last one; the first
            MAX_MISSING_LISTED.
        superseded_from: the first superseded event; 0 for the whole attempt, None if there is none.
        damage: parts of the log that cannot be read, a line each, as far as they were met: of most
            sealed segments only the footers are read.
        ranks: how many there are, on which hosts, and which were lost.
    """

    attempt: int
    fn: str
    started_ns: int | None
    duration_s: float
    how: HowEnded
    reason: str
    log_end: LogEndReport | None
    epochs: int
    steps: int
    events: dict[str, int]
    fork: ForkReport | None
    missing_segments: list[int]
    superseded_from: int | None = None
    damage: list[str] = []
    ranks: RanksReport = RanksReport()


class RunReport(msgspec.Struct, frozen=True):
    """A run.

    Attributes:
        id, name, path: of the run.
        created_ns: wall clock, ns since 1970.
        argv: the command line, secrets struck out.
        tags, notes, group: what is noted about it.
        parent: the run whose checkpoint it began from; empty for none.
        hparams: hyperparameters of module and datamodule.
        config: the Trainer's arguments that differ from their defaults.
        environment: the process, its machine and its code.
        versions: of Python and of the packages that were loaded.
        attempts: its attempts, in order.
        metrics, hooks: by name, in the order of their first appearance; superseded ones only on
            request.
        system: what the process and its machine used, by name, as metrics.
        faults, dead_letters, gaps: the first MAX_LISTED of each; ``events`` of an attempt counts
            them all.
        left_behind: files with the last events or the stacks that crashes, hangs and SIGQUIT left.
        actors: what actors did that worked on the bus thread or were sent commands; at most
            MAX_ACTORS_LISTED of an attempt, and only of attempts that ended.
        cursors: positions of its sinks.
    """

    id: str
    name: str
    path: str
    created_ns: int
    argv: list[str]
    tags: tuple[str, ...]
    notes: str
    group: str
    parent: str
    hparams: dict[str, Plain]
    config: dict[str, Plain]
    environment: dict[str, Plain]
    versions: dict[str, str]
    attempts: list[AttemptReport]
    metrics: dict[str, MetricReport]
    hooks: dict[str, HookReport]
    faults: list[FaultReport]
    dead_letters: list[DeadLetterReport]
    gaps: list[GapReport]
    left_behind: list[str]
    actors: list[ActorReport]
    cursors: list[CursorReport]
    system: dict[str, MetricReport] = {}


def summarise(run: RunFolder, rank: int = 0, all_attempts: bool = False) -> RunReport:
    """Summarise a run, reading a sealed segment only where a resumed attempt left its parent.

    Memory stays flat: of a segment that has to be read, a few hundred kilobytes at a time.

    Args:
        run: the run.
        rank: of which process; attempts that it has no log of are left out.
        all_attempts: also count superseded metrics and hooks.

    Returns:
        The report.

    Raises:
        LogError: a log is not one, or is from a newer major version.
    """
    attempts: list[AttemptReport] = []
    held, listed = Summary(), _Listed()
    ends = {log.attempt: log.until for log in consistent_logs(run, rank)}
    faults: list[FaultReport] = []
    recorded: dict[int, int] = {}  # attempt -> number of events
    started: RunStarted | None = None
    hparams: dict[str, Plain] = {}
    for attempt in run.attempts():
        if rank and rank not in run.ranks(attempt):
            continue
        # Asked before its log is read, so that a run that ends meanwhile is not called killed.
        is_written = run.is_being_written(attempt)
        log = _AttemptLog(run.store(attempt, rank), attempt, listed)
        log.read()
        until = ends.get(attempt, 0)
        of_log = _attempt_report(log, is_written, run.ends_because, until)
        attempts.append(msgspec.structs.replace(of_log, ranks=ranks_report(run, attempt)))
        faults += _fault_reports(log)
        started = log.summary.started or started
        hparams = (started.hparams if started else {}) or hparams
        recorded[attempt] = log.next_seq
        held.merge(log.summary if until is None or all_attempts else log.summary_until(until))
    info, marks = run.info, read_marks(run)
    config = {name: started.config.get(name) for name in started.changed} if started else {}
    return RunReport(
        id=info.id,
        name=marks.name,
        path=str(run.path),
        created_ns=info.created_ns,
        argv=info.argv,
        tags=marks.tags,
        notes=marks.notes,
        group=marks.group,
        parent=info.parent,
        hparams=hparams or info.hparams,
        config=config or info.config,
        environment=(started.environment if started else {}) or info.environment,
        versions=started.versions if started else {},
        attempts=attempts,
        metrics={name: _metric_report(metric) for name, metric in held.metrics.items()},
        hooks={name: _hook_report(hook) for name, hook in held.hooks.items() if hook.count},
        faults=faults[:MAX_LISTED],
        dead_letters=listed.dead_letters,
        gaps=listed.gaps,
        left_behind=[str(path) for path in left_behind(run.path)],
        actors=listed.actors,
        cursors=[] if rank else _cursor_reports(run, recorded),  # sinks read rank 0's log
        system={name: _metric_report(metric) for name, metric in held.system.items()},
    )


def _cursor_reports(run: RunFolder, recorded: dict[int, int]) -> list[CursorReport]:
    reports = []
    for name in list_cursors(run):
        try:
            cursor = CursorFile(run, name).load()
        except RunFolderError:  # doctor reports it; it does not change what was recorded
            continue
        if cursor is not None:
            later = sum(count for attempt, count in recorded.items() if attempt > cursor.attempt)
            lag = max(0, recorded.get(cursor.attempt, 0) - cursor.seq) + later
            reports.append(CursorReport(name, cursor.kind, cursor.attempt, cursor.seq, lag))
    return reports


class _Listed:
    """Collects the events that a report lists; footers only count them."""

    def __init__(self) -> None:
        self.dead_letters: list[DeadLetterReport] = []
        self.gaps: list[GapReport] = []
        self.actors: list[ActorReport] = []
        self._actors_of: dict[int, int] = {}  # attempt -> number listed

    def wants(self, counted: dict[str, int]) -> bool:
        """Return whether a segment with these counts holds an event to be listed."""
        return (
            counted.get("ActorTotals", 0) > 0
            or (counted.get("DeadLetter", 0) > 0 and len(self.dead_letters) < MAX_LISTED)
            or (counted.get("Gap", 0) > 0 and len(self.gaps) < MAX_LISTED)
        )

    def take(self, attempt: int, events: Iterable[DecodedEvent]) -> None:
        """Keep those of the events that the report lists."""
        for event in events:
            if type(event) is DeadLetter and len(self.dead_letters) < MAX_LISTED:
                letter = (event.source, event.target, event.command, event.reason)
                self.dead_letters.append(DeadLetterReport(attempt, event.step, *letter))
            elif type(event) is Gap and len(self.gaps) < MAX_LISTED:
                self.gaps.append(GapReport(attempt, event.step, event.count, event.reason))
            elif type(event) is ActorTotals:
                self._take_totals(attempt, event)

    def _take_totals(self, attempt: int, totals: ActorTotals) -> None:
        number = self._actors_of.get(attempt, 0)
        if number < MAX_ACTORS_LISTED:
            self._actors_of[attempt] = number + 1
            own = totals.__struct_fields__[len(Event.__struct_fields__) :]
            fields = {name: getattr(totals, name) for name in own}
            self.actors.append(ActorReport(attempt, totals.source, **fields))


class _AttemptLog:
    """The log of one attempt: its footers, and a count of the events in segments without one.

    Attributes:
        summary: what the log holds.
        ended: its RunEnded; observers that finish later may record events after it.
        end: where it ends, if reading was needed to find out.
        missing_segments: numbers of missing segments.
        unreadable: segment -> why it could not be read, before the end.
    """

    def __init__(self, store: FolderStore, attempt: int, listed: _Listed) -> None:
        self.attempt = attempt
        self.summary = Summary()
        self.ended: RunEnded | None = None
        self.end: LogEnd | None = None
        self.missing_segments: list[int] = []
        self.unreadable: dict[int, str] = {}
        self.next_seq = 0  # number of events in it
        self._store = store
        self._listed = listed

    def read(self) -> None:
        """Count everything.

        Raises:
            LogError: the first segment is not one, or a segment is from a newer major version.
        """
        indices = self._store.indices()
        if not indices:
            return
        first, last = indices[0], indices[-1]
        known = set(indices)
        missing = (index for index in range(first, last) if index not in known)
        self.missing_segments = list(islice(missing, MAX_MISSING_LISTED))
        for index in indices:
            footer = self._footer(index)
            if footer is None:
                # The reader knows whether a segment after one without a footer belongs to it.
                self._count_from(index, last)
                return
            self._merge(footer.summary)
            self.next_seq = footer.next_seq
            if self._listed.wants(footer.summary.events):
                self._list_from(index)

    def summary_until(self, until: int) -> Summary:
        """Return what the log holds before an event."""
        summary = Summary()
        indices = self._store.indices() if until else []
        for index in indices:
            footer = self._footer(index)
            if footer is not None and footer.next_seq <= until:
                summary.merge(footer.summary)
                continue
            reader = LogReader(Stretch(self._store, index, indices[-1]))
            try:
                for events in _batches(reader, "all"):
                    summary.add([event for event in events if event.seq < until])
                    if reader.next_seq >= until:
                        break
            except LogFormatError:
                pass  # reported at the end of the attempt
            finally:
                reader.close()
            break
        return summary

    def _footer(self, index: int) -> Footer | None:
        try:
            return read_footer(self._store, index)
        except LogFormatError as error:
            self.unreadable[index] = str(error)
            return None  # the segment's events may still be sound

    def _count_from(self, index: int, last: int) -> None:
        summary = Summary()
        reader = LogReader(Stretch(self._store, index, last))
        try:
            for events in _batches(reader, "all"):
                summary.add(events)
                self._listed.take(self.attempt, events)
            self.end = reader.end()
        except NewerFormatError:
            raise
        except LogFormatError as error:
            if index == self._store.indices()[0] and not reader.next_seq:
                raise  # it is not a log at all
            end = reader.end()
            at = max(index, end.segment)
            self.end = end._replace(kind=EndKind.TORN, segment=at, reason=str(error))
        finally:
            self.next_seq = max(self.next_seq, reader.next_seq)
            reader.close()
        self._merge(summary)

    def _merge(self, later: Summary) -> None:
        self.ended = later.ended or self.ended
        self.summary.merge(later)

    def _list_from(self, index: int) -> None:
        reader = LogReader(Stretch(self._store, index, index))
        try:
            for events in _batches(reader, "none"):
                self._listed.take(self.attempt, events)
            if reader.end().kind is EndKind.TORN:
                self.unreadable[index] = reader.end().reason
        except LogFormatError as error:
            self.unreadable[index] = str(error)  # what its footer counted stays valid
        finally:
            reader.close()


def _batches(reader: LogReader, hooks: HookSelection) -> Iterable[list[DecodedEvent]]:
    while True:
        before = reader.next_seq
        yield reader.read(hooks)
        if reader.next_seq == before:
            return


def _attempt_report(
    log: _AttemptLog, is_written: bool, ends_because: str, until: int | None
) -> AttemptReport:
    summary, end = log.summary, log.end
    started, ended = summary.started, log.ended
    how: HowEnded
    if ended is not None:
        how, reason = ended.how, ended.reason
    elif is_written:
        how, reason = RUNNING, ""
    else:
        how, reason = KILLED, ends_because
    fork = started.fork if started else None
    events = dict(summary.events)
    hooks = sum(hook.count for hook in summary.hooks.values())
    return AttemptReport(
        attempt=log.attempt,
        fn=started.fn if started else "",
        started_ns=started.wall_ns if started else None,
        duration_s=(summary.last_time_ns - summary.first_time_ns) / 1e9,
        how=how,
        reason=reason,
        log_end=None if how == RUNNING else _log_end_report(end),
        epochs=summary.epoch,
        steps=summary.step,
        events={"Hook": hooks, **events} if hooks else events,
        fork=ForkReport(fork.attempt, fork.seq, fork.checkpoint) if fork else None,
        missing_segments=log.missing_segments,
        superseded_from=until,
        damage=_damage(log, is_written),
    )


def _damage(log: _AttemptLog, is_written: bool) -> list[str]:
    """Return what cannot be read of a log, except the incomplete last frame that a kill leaves."""
    lines = [f"segment {index}: {reason}" for index, reason in log.unreadable.items()]
    end = log.end
    if log.missing_segments:
        lines.append(f"segments are missing: {', '.join(map(str, log.missing_segments))}")
    elif end is not None and end.is_damage and not is_written and end.segment not in log.unreadable:
        lines.append(f"segment {end.segment}: {end.reason}")
    return lines


def _log_end_report(end: LogEnd | None) -> LogEndReport | None:
    if end is None or end.kind is EndKind.SEALED:
        return None
    # The reader cannot tell a log that grows from one that was left; here the writer is gone.
    reason = end.reason if end.kind is EndKind.TORN else "after its last whole frame"
    return LogEndReport(end.segment, end.offset, reason)


def _fault_reports(log: _AttemptLog) -> list[FaultReport]:
    return [_fault_report(log.attempt, fault) for fault in log.summary.faults]


def _fault_report(attempt: int, fault: Fault) -> FaultReport:
    return FaultReport(
        attempt=attempt,
        epoch=fault.epoch,
        step=fault.step,
        source=fault.source,
        hook=fault.hook,
        error=fault.error,
        message=fault.message,
        traceback=fault.traceback,
    )


def _metric_report(total: MetricTotal) -> MetricReport:
    has_finite = math.isfinite(total.low)
    return MetricReport(
        count=total.count,
        last=total.last,
        last_epoch=total.last_epoch,
        last_step=total.last_step,
        low=total.low if has_finite else None,
        low_step=total.low_step if has_finite else None,
        high=total.high if has_finite else None,
        high_step=total.high_step if has_finite else None,
        non_finite=total.non_finite,
    )


def _hook_report(total: HookTotal) -> HookReport:
    return HookReport(total.count, total.total_ns, total.total_ns / total.count)
