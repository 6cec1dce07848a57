"""Which parts of a run's recording are current.

Each attempt continues from a point of an earlier one.

A resumed attempt begins at the checkpoint that it was resumed from. It supersedes what its parent
recorded after that checkpoint, and every attempt that grew out of that::

    attempt 0   ----------s-----x        s: the checkpoint, x: killed
    attempt 1             `------------
    consistent  ----------s------------
"""

from collections.abc import Sequence
from itertools import islice, takewhile
from typing import NamedTuple, cast

from msgspec import structs

from ..errors import LogFormatError
from ..events import Event, Fork, RunStarted
from ..log.reader import LogReader
from ..log.segments import FolderStore, SegmentStore, Stretch, read_footer
from .cursor import AttemptLog, attempt_logs
from .run_folder import RunFolder, read_fork

_EVENTS_BEFORE = 1000  # more than are put at the end of an epoch


class _Start(NamedTuple):
    """How an attempt began, according to its log."""

    fn: str
    step: int
    fork: Fork | None


def consistent_logs(run: RunFolder, rank: int = 0) -> list[AttemptLog]:
    """Return the attempts of a run without superseded events, in order.

    An attempt that was resumed from a checkpoint supersedes what came after it. Another attempt
    continues from everything before. An evaluation of a current state is current.

    Args:
        run: the run.
        rank: of which process.
    """
    return logs_before(run, None, rank)


def logs_before(run: RunFolder, fork: Fork | None, rank: int = 0) -> list[AttemptLog]:
    """Return the parts of a run's attempts that are current for an attempt that begins now.

    Args:
        run: the run.
        fork: the checkpoint from which it continues, if any.
        rank: of which process.
    """
    logs = {log.attempt: log for log in attempt_logs(run, rank)}
    # Nothing comes before the first attempt, whatever it was resumed from.
    later = islice(logs.items(), 1, None)
    starts = {attempt: _start_of(log.store, rank) for attempt, log in later}
    views: dict[int, list[AttemptLog]] = {}  # attempt -> what was current at its end
    before: list[AttemptLog] = []
    for attempt, log in logs.items():
        its_fork = starts[attempt].fork if attempt in starts else None
        # A checkpoint of an attempt that is not here supersedes nothing of what is here.
        if its_fork is not None and its_fork.attempt in views:
            before = _forked(views, its_fork, starts, logs)
        before = views[attempt] = [*before, log]
    if fork is not None and fork.attempt in views:
        before = _forked(views, fork, starts, logs)
    return before


def _forked(
    views: dict[int, list[AttemptLog]],
    fork: Fork,
    starts: dict[int, _Start],
    logs: dict[int, AttemptLog],
) -> list[AttemptLog]:
    """Return what is current of the attempts before a resumed one."""
    parents = list(views[fork.attempt])
    parent = parents.pop()
    parents.append(parent._replace(until=fork.seq + 1))
    step = _step_at(parent.store, fork.seq)
    for attempt in views:
        if attempt <= fork.attempt:
            continue
        start = starts[attempt]
        if start.fn in ("", "fit") or start.step > step:
            break  # it trained further, or what it evaluated is superseded
        parents.append(logs[attempt])
    return parents


def _start_of(store: SegmentStore, rank: int) -> _Start:
    """Return an attempt's RunStarted, at the start of a rank's log.

    A killed attempt may have none, and one that went on with fewer ranks has no log of the others.
    """
    reader = LogReader(store)
    try:
        for event in reader.read("none"):
            if type(event) is RunStarted:
                return _Start(event.fn, event.step, event.fork)
    except LogFormatError:
        pass  # reported by the reader of its events
    finally:
        reader.close()
    fork = read_fork(store.folder.parent) if isinstance(store, FolderStore) else None
    if fork is None:
        return _Start("", 0, None)
    return _Start("fit", 0, structs.replace(fork, seq=dict(fork.gone).get(rank, fork.seq)))


def _step_at(store: SegmentStore, seq: int) -> int:
    """Return how many optimizer steps were completed at an event.

    Taken from the events before it, because a value put at the end of an epoch has the step before.
    """
    reader = LogReader(store)
    try:
        reader.seek(max(0, seq - _EVENTS_BEFORE))
        events = takewhile(lambda event: event.seq <= seq, reader.events())
        return max((event.step for event in events if isinstance(event, Event)), default=0)
    except LogFormatError:
        return 0
    finally:
        reader.close()


class Timeline:
    """Times of events in seconds since the run began, without the time between attempts.

    Args:
        logs: the attempts that are read.
    """

    def __init__(self, logs: Sequence[AttemptLog]) -> None:
        self._offset_ns: dict[int, int] = {}  # attempt -> offset added to its times
        now_ns = 0
        for log in logs:
            first_ns = _time_at(log.store, 0)
            if first_ns is None:
                continue
            self._offset_ns[log.attempt] = now_ns - first_ns
            if log is not logs[-1]:
                last_ns = _time_at(log.store, log.until - 1) if log.until else None
                if last_ns is None:
                    last_ns = _last_time(cast("FolderStore", log.store))
                now_ns += max(0, (first_ns if last_ns is None else last_ns) - first_ns)

    def seconds(self, attempt: int, event: Event) -> float:
        """Return when an event was recorded, in seconds since the run began.

        Args:
            attempt: the event's attempt.
            event: the event.
        """
        offset_ns = self._offset_ns.get(attempt)
        if offset_ns is None:  # the attempt began after the others were read
            offset_ns = self._offset_ns[attempt] = -event.time_ns
        return (event.time_ns + offset_ns) / 1e9


def _time_at(store: SegmentStore, seq: int) -> int | None:
    """Return when an event was recorded, in ns; None when it cannot be read."""
    reader = LogReader(store)
    try:
        if seq:
            reader.seek(seq)
        return next((event.time_ns for event in reader.read() if isinstance(event, Event)), None)
    except LogFormatError:
        return None
    finally:
        reader.close()


def _last_time(store: FolderStore) -> int | None:
    """Return when the last event was recorded, in ns; None when there is none."""
    for index in reversed(store.indices()):
        try:
            footer = read_footer(store, index)
        except LogFormatError:
            footer = None
        if footer is not None:
            return footer.summary.last_time_ns
        last_ns = None
        reader = LogReader(Stretch(store, index, index))
        try:
            for event in reader.events("latest"):
                last_ns = event.time_ns if isinstance(event, Event) else last_ns
        except LogFormatError:
            pass  # reported by the reader of its events
        finally:
            reader.close()
        if last_ns is not None:
            return last_ns
    return None
