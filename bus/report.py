"""What a run was, in short: read from footers, and from what has none yet."""

import contextlib

import msgspec

from .errors import LogError
from .log_reader import EndKind, LogReader
from .run_folder import RunFolder
from .segments import read_footer
from .summary import Summary


class AttemptReport(msgspec.Struct):
    """One start of a run.

    Attributes:
        attempt: which.
        fn: fit, validate, test or predict.
        started_ns: wall clock, ns since 1970.
        duration_s: from the first event to the last.
        how: completed, stopped, interrupted, failed; ``running``, or ``cut off``.
        reason: one line for people.
        epochs, steps: completed at the end.
        summary: counts, metrics, hooks, faults.
    """

    attempt: int
    fn: str
    started_ns: int
    duration_s: float
    how: str
    reason: str
    epochs: int
    steps: int
    summary: Summary


class RunReport(msgspec.Struct):
    """A run.

    Attributes:
        id, name, path: which.
        created_ns: wall clock, ns since 1970.
        argv: the command line.
        attempts: its starts, in order.
        total: all attempts together.
    """

    id: str
    name: str
    path: str
    created_ns: int
    argv: list[str]
    attempts: list[AttemptReport]
    total: Summary


def summarise(run: RunFolder, rank: int = 0) -> RunReport:
    """Summarise a run without reading the segments that are sealed.

    Args:
        run: the run.
        rank: whose log.

    Raises:
        LogError: the log is damaged at its head, or from a newer major version.
    """
    attempts = [_attempt(run, attempt, rank) for attempt in run.attempts()]
    total = Summary()
    for attempt in attempts:
        total.merge(attempt.summary)
    info = run.info
    path = str(run.path)
    return RunReport(info.id, info.name, path, info.created_ns, info.argv, attempts, total)


def _attempt(run: RunFolder, attempt: int, rank: int) -> AttemptReport:
    store = run.store(attempt, rank)
    summary, next_seq, end = Summary(), 0, ""
    for index in store.indices():
        footer = None
        with contextlib.suppress(LogError):  # a damaged footer: the segment itself is read
            footer = read_footer(store, index)
        if footer is None:
            end = _scan(LogReader(store), next_seq, summary)
            break
        summary.merge(footer.summary)
        next_seq = footer.next_seq
    started, ended = summary.started, summary.ended
    if ended is not None:
        how, reason = str(ended.how), ended.reason
    elif run.is_being_written(attempt):
        how, reason = "running", ""
    else:
        how, reason = "cut off", end or "the process ended without a word"
    return AttemptReport(
        attempt,
        started.fn if started else "",
        started.wall_ns if started else 0,
        (summary.last_time_ns - summary.first_time_ns) / 1e9,
        how,
        reason,
        summary.epoch,
        summary.step,
        summary,
    )


def _scan(reader: LogReader, from_seq: int, summary: Summary) -> str:
    """Count events from a sequence number on; returns where and why the log ends."""
    reader.seek(from_seq)
    try:
        while True:
            before = reader.next_seq
            summary.add(reader.read())
            if reader.next_seq == before:
                break
        end = reader.end()
    finally:
        reader.close()
    if end.kind is EndKind.SEALED:
        return ""
    return f"the log ends at byte {end.offset} of segment {end.segment}: {end.reason}"
