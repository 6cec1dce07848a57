"""Counts events that a run's logs lack."""

from collections.abc import Sequence

from ..errors import LogFormatError
from ..events import Gap
from ..log.reader import LogReader
from ..log.segments import FolderStore, read_footer
from ..runs.cursor import AttemptLog


def missing_events(logs: Sequence[AttemptLog]) -> int:
    """Return how many events could not be written, according to Gaps, or are no longer in the logs.

    Their numbers are skipped, or come after what can be read.

    Args:
        logs: of the attempts; superseded events are not missed.
    """
    return sum(map(_missing_in, logs))


def _missing_in(log: AttemptLog) -> int:
    reader = LogReader(log.store)
    said = 0
    try:
        for event in reader.events("none"):
            if log.until is not None and reader.next_seq >= log.until and event.seq >= log.until:
                break
            if type(event) is Gap:
                said += max(0, event.count)
    except LogFormatError:
        pass  # the reader stops here
    finally:
        reader.close()
    return max(said, reader.passed_over) + max(0, _last_known(log) - reader.next_seq)


def _last_known(log: AttemptLog) -> int:
    """Return the last event that the log is known to have, from the footer of its last segment."""
    if log.until is not None:
        return log.until
    indices = log.store.indices()
    if not indices or not isinstance(log.store, FolderStore):
        return 0
    try:
        footer = read_footer(log.store, indices[-1])
    except LogFormatError:
        return 0
    return 0 if footer is None else footer.next_seq
