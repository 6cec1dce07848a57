"""Cursors: an observer's position in a run, committed with its state."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote

import msgspec

from ..errors import MALFORMED, RunFolderError
from ..events import Plain
from ..log.codec import DecodedEvent, HookSelection
from ..log.reader import LogReader
from ..log.segments import SegmentStore
from ..system.plain_file import read_small, refuse_link
from .run_folder import RunFolder, write_atomically
from .typed_events import all_typed

PlainState = dict[str, Plain | list[Plain]]
_OUTSIDE_PREFIX = ".nightbus-"  # of the files of cursors outside runs


class AttemptLog(NamedTuple):
    """The log of one attempt.

    Attributes:
        attempt: its number.
        store: its segments.
        limit: how much of it is committed, when this process is writing it.
        until: the first superseded event; None if there is none.
    """

    attempt: int
    store: SegmentStore
    limit: Callable[[], tuple[int, int]] | None = None
    until: int | None = None


class Position(NamedTuple):
    """The next event that an observer has to see."""

    attempt: int
    seq: int


BEGINNING = Position(0, 0)


class Cursor(msgspec.Struct, frozen=True):
    """A committed position.

    Attributes:
        attempt, seq: the next event to deliver.
        kind: the name of the observer's class, for people and for nightbus's own sinks.
        state: what the observer needs to continue from here: plain data, never code.
    """

    attempt: int
    seq: int
    kind: str
    state: PlainState = {}


class RunReader:
    """Reads the attempts of a run one after the other, from a position.

    Args:
        logs: the attempts, ascending; the last may still be growing.
        start: where to begin.
    """

    def __init__(self, logs: Sequence[AttemptLog], start: Position = BEGINNING) -> None:
        self._logs = [log for log in logs if log.attempt >= start.attempt]
        self._reader: LogReader | None = None
        self._start = start
        self.position = start

    def read(
        self, hooks: HookSelection = "all", max_bytes: int | None = None
    ) -> list[DecodedEvent]:
        """Return the next events, all of one attempt; an empty list if there are none now.

        Args:
            hooks: which hooks to return.
            max_bytes: stop after about this many bytes of log; the reader's default if not given.

        Raises:
            LogError: the log's head is damaged, or it is from a newer major version.
        """
        while self._logs:
            if self._reader is None:
                log = self._logs[0]
                self._reader = LogReader(log.store, log.limit)
                seq = self._start.seq if log.attempt == self._start.attempt else 0
                if seq:
                    self._reader.seek(seq)
                self.position = Position(log.attempt, seq)
            until = self._logs[0].until
            is_over = until is not None and self.position.seq >= until
            events = (
                [] if is_over else self._reader.read(hooks, *([max_bytes] if max_bytes else []))
            )
            next_seq = self._reader.next_seq
            if until is not None and next_seq > until:
                next_seq = until
                events = [event for event in events if event.seq < until]
            moved = next_seq > self.position.seq
            if moved:
                self.position = Position(self.position.attempt, next_seq)
            if events or moved or len(self._logs) == 1:
                return all_typed(events)
            self._reader.close()
            self._reader = None
            del self._logs[0]
        return []

    def events(self, hooks: HookSelection = "all") -> Iterator[DecodedEvent]:
        """Yield all events up to the present end."""
        while True:
            before = self.position
            events = self.read(hooks)
            yield from events
            if self.position == before and not events:
                return

    @property
    def has_more(self) -> bool:
        """True if the last read ended because it was full, or at the end of an attempt."""
        return len(self._logs) > 1 or (self._reader is not None and self._reader.has_more)

    @property
    def reader(self) -> LogReader | None:
        """Reader of the current attempt's log."""
        return self._reader

    def close(self) -> None:
        """Close the files."""
        if self._reader:
            self._reader.close()


class CursorFile:
    """The file of one observer's cursor, in the run's folder.

    Args:
        run: the run.
        observer: the observer's name.
        outside: a folder to keep it in instead, for a process that does not write the run.
    """

    def __init__(self, run: RunFolder, observer: str, outside: Path | None = None) -> None:
        # Quoted: a name may hold what a file name cannot, such as a slash.
        name = f"{quote(observer, safe=' ')}.json"
        if outside is None:
            self.path = run.path / "cursors" / name
        else:
            self.path = outside / f"{_OUTSIDE_PREFIX}{run.info.id}-{name}"
        self._is_outside = outside is not None

    def load(self) -> Cursor | None:
        """Return the committed cursor, or None.

        Raises:
            RunFolderError: the file is damaged.
        """
        return _load(self.path)

    def states_beside(self) -> list[PlainState]:
        """Return what other cursors keep in the same folder outside runs, whatever their runs.

        Raises:
            RunFolderError: one of their files is damaged.
        """
        if not self._is_outside:
            return []
        paths = sorted(self.path.parent.glob(f"{_OUTSIDE_PREFIX}*.json"))
        found = (_load(path) for path in paths if path != self.path)
        return [cursor.state for cursor in found if cursor is not None]

    def commit(self, cursor: Cursor) -> None:
        """Replace the committed cursor.

        Raises:
            RunFolderError: the folder of the cursors leads out of the run.
        """
        refuse_link(self.path.parent, RunFolderError)
        self.path.parent.mkdir(mode=0o700, exist_ok=True)
        state = _each(_as_json, cursor.state)
        write_atomically(
            self.path, msgspec.json.encode(msgspec.structs.replace(cursor, state=state))
        )


def _load(path: Path) -> Cursor | None:
    """Return the cursor that a file holds; None if there is no file."""
    try:
        refuse_link(path.parent, RunFolderError)
        data = read_small(path, RunFolderError)
        cursor = msgspec.json.decode(data, type=Cursor)
        return msgspec.structs.replace(cursor, state=_each(_from_json, cursor.state))
    except FileNotFoundError:
        return None
    except (*MALFORMED, OSError) as error:
        raise RunFolderError(
            f"{path} is damaged: {error}; delete it to deliver the run from its start"
        ) from error


_NOT_FINITE = {f"\0{value!r}": value for value in (math.inf, -math.inf, math.nan)}
"""Stand-ins for numbers that JSON does not have."""


def _each(convert: Callable[[Plain], Plain], state: PlainState) -> PlainState:
    """Return a state with every value converted."""
    return {
        name: [convert(each) for each in value] if isinstance(value, list) else convert(value)
        for name, value in state.items()
    }


def _as_json(value: Plain) -> Plain:
    is_odd = isinstance(value, float) and not math.isfinite(value)
    return f"\0{value!r}" if is_odd else value


def _from_json(value: Plain) -> Plain:
    return _NOT_FINITE.get(value, value) if isinstance(value, str) else value


def attempt_logs(run: RunFolder, rank: int = 0) -> list[AttemptLog]:
    """Return the recorded attempts of a run.

    Args:
        run: the run.
        rank: of which process.
    """
    return [AttemptLog(attempt, run.store(attempt, rank)) for attempt in run.attempts()]


def list_cursors(run: RunFolder) -> dict[str, Path]:
    """Return a run's cursor files by observer name.

    Raises:
        RunFolderError: their folder leads out of the run.
    """
    folder = run.path / "cursors"
    refuse_link(folder, RunFolderError)
    return {unquote(path.stem): path for path in sorted(folder.glob("*.json"))}
