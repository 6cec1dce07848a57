"""SQLite: puts, media and hyperparameters of one or several runs, to be queried with SQL."""

import ctypes
import os
import sqlite3
from pathlib import Path
from typing import Any

from ..bus.errors import SinkError
from ..bus.events import Event, Media, Plain, Put, RunEnded, RunStarted
from ..bus.runs.cursor import BEGINNING, PlainState, Position
from ..bus.system.forks import leave_when_forked
from ..bus.system.paths import as_path
from ..bus.system.plain_file import open_plain
from .growing_file import lost, refuse_all_but_files, refuse_lost
from .sink import Sink

_SCHEMA_VERSION = 1
SUPER_JOURNAL = bytes.fromhex("d9d505f920a163d7")  # ends a journal that names another file
_BUSY_TIMEOUT_S = 30.0  # other runs may write to the same file
_WHERE = """
    run TEXT NOT NULL, attempt INTEGER NOT NULL, rank INTEGER NOT NULL, seq INTEGER NOT NULL,
    time_ns INTEGER NOT NULL, stage TEXT NOT NULL, epoch INTEGER NOT NULL, step INTEGER NOT NULL,
    batch_idx INTEGER NOT NULL, dataloader_idx INTEGER NOT NULL, source TEXT NOT NULL,
    hook TEXT NOT NULL, name TEXT NOT NULL"""
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS runs (
    run TEXT NOT NULL, attempt INTEGER NOT NULL, fn TEXT NOT NULL, started_ns INTEGER NOT NULL,
    ended_ns INTEGER, how TEXT, reason TEXT, PRIMARY KEY (run, attempt)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hparams (
    run TEXT NOT NULL, name TEXT NOT NULL, value, PRIMARY KEY (run, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS metrics (
    {_WHERE}, value REAL, PRIMARY KEY (run, attempt, rank, seq)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS media (
    {_WHERE}, kind TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (run, attempt, rank, seq)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS metrics_by_name ON metrics (run, name, step);
PRAGMA user_version = {_SCHEMA_VERSION};
"""
_INSERT = {
    table: f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * number)})"
    for table, number in (("runs", 7), ("hparams", 3), ("metrics", 14), ("media", 15))
}

# What sqlite3 raises for a value that it cannot hold, such as an integer over 64 bits.
_CANNOT_HOLD = (OverflowError, UnicodeEncodeError, sqlite3.InterfaceError, sqlite3.DataError)
_DELETE_FROM = {
    table: f"DELETE FROM {table} WHERE run = ? AND (attempt > ? OR (attempt = ? AND seq >= ?))"
    for table in ("metrics", "media")
}


class SQLite(Sink):
    """A SQLite database with the tables ``metrics``, ``media``, ``hparams`` and ``runs``.

    Several runs may share a database, at the same time too; an event that is delivered again
    replaces itself. Times are in ns since 1970. SQLite has no NaN: a metric that is NaN is NULL.

    Args:
        folder: where; the run's own by default.
        name: the file's name; ``metrics.sqlite`` if not given.
        destination: takes puts with this label.
    """

    events: tuple[type[Event], ...] = (Put, Media, RunStarted, RunEnded)

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        name: str = "metrics.sqlite",
        destination: str = "loggers",
    ) -> None:
        self.folder = None if folder is None else as_path(folder)
        self.file_name = name
        self.destination = destination
        self._database: sqlite3.Connection | None = None
        self._opened: os.stat_result | None = None  # the file, when it was opened
        leave_when_forked(self)
        self._delivered = 0
        self._superseded: Position | None = None  # rows from here on are superseded

    @property
    def needs_run_folder(self) -> bool:
        """True if the database is in the run's folder."""
        return self.folder is None

    @property
    def path(self) -> Path:
        """Path of the database."""
        return (self.run_path if self.folder is None else self.folder) / self.file_name

    def is_lost(self, state: PlainState) -> bool:
        """Return whether the database no longer exists."""
        return not os.path.lexists(self.path)

    def take_back(
        self, first_superseded: Position, replacement_start: Position, state: PlainState
    ) -> Position:
        """Have superseded rows deleted when the database is open.

        The other rows are delivered again and replace themselves: a run that went back before may
        have restored rows that it had superseded then.
        """
        self.load_cursor_state(state)
        self._superseded = first_superseded
        return BEGINNING

    def open(self, resumed: bool) -> None:
        """Open the database, and create it if there is none.

        Raises:
            SinkError: the file is something else, or a later version wrote it.
        """
        if not resumed:
            self._delivered = 0
        if (
            resumed
            and self._delivered
            and self._superseded is None
            and not os.path.lexists(self.path)
        ):
            raise lost(self.path)  # a new one would have only the later rows
        self.path.parent.mkdir(parents=True, exist_ok=True)
        refuse_all_but_files(self.path)
        _refuse_journal_of_several(self.path)
        if self.folder is None:  # in the run's folder: readable by its owner alone
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
        # Each write may come from another thread, but never two at once.
        database = sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT_S, check_same_thread=False)
        try:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if version > _SCHEMA_VERSION or (version == 0 and tables):
                raise SinkError(
                    f"{self.path} is a database, but not one made by this version of SQLite(); "
                    "choose another name or folder"
                )
            # Triggers and the like in a stranger's database must not call functions with effects.
            database.execute("PRAGMA trusted_schema = OFF")
            database.execute("PRAGMA journal_mode = WAL")
            database.executescript(_SCHEMA)
            if self._superseded is not None:
                where = (self.run_id, self._superseded.attempt, *self._superseded)
                with database:
                    for table in ("metrics", "media"):
                        database.execute(_DELETE_FROM[table], where)
                self._superseded = None
        except sqlite3.DatabaseError as error:
            database.close()
            raise SinkError(f"{self.path} cannot be written as a database: {error}") from error
        except BaseException:
            database.close()
            raise
        self._database = database
        self._opened = self.path.stat()

    def leave_to_parent(self) -> None:
        """Keep the connection open in a forked child, and never use it.

        Closing it would undo, in memory shared with the parent, what the parent is writing.
        """
        if self._database is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._database))
            self._database = None

    def write(self, batch: list[Put | Media | RunStarted | RunEnded]) -> None:
        assert self._database is not None
        try:
            with self._database as database:  # one transaction
                self._insert(database, batch)
        except _CANNOT_HOLD:  # at least one of them, so one by one
            with self._database as database:
                for event in batch:
                    try:
                        self._insert(database, [event])
                    except _CANNOT_HOLD as error:
                        self.refuse(
                            [getattr(event, "name", type(event).__name__)], event.step, error
                        )
        assert self._opened is not None
        refuse_lost(self.path, self._opened)
        self._delivered += len(batch)

    def _insert(
        self, database: sqlite3.Connection, batch: list[Put | Media | RunStarted | RunEnded]
    ) -> None:
        rows: list[tuple[Any, ...]] = []
        insert = database.executemany
        for event in batch:
            if type(event) is Put:
                # As a float: SQLite takes no integer over 64 bits.
                rows.append((*self._where(event), float(event.value)))
            elif type(event) is Media:
                database.execute(_INSERT["media"], (*self._where(event), event.kind, event.data))
            elif type(event) is RunStarted:
                started = (event.run, event.attempt, event.fn, self.wall_ns(event))
                database.execute(_INSERT["runs"], (*started, None, None, None))
                insert(
                    _INSERT["hparams"],
                    [(event.run, name, _storable(value)) for name, value in event.hparams.items()],
                )
            elif type(event) is RunEnded:
                database.execute(
                    "UPDATE runs SET ended_ns = ?, how = ?, reason = ? "
                    "WHERE run = ? AND attempt = ?",
                    (self.wall_ns(event), event.how, event.reason, self.run_id, self.attempt),
                )
        insert(_INSERT["metrics"], rows)

    def _where(self, event: Put | Media) -> tuple[Any, ...]:
        return (
            self.run_id,
            self.attempt,
            event.rank,
            event.seq,
            event.time_ns + self._nightbus_wall_offset_ns,
            event.stage,
            event.epoch,
            event.step,
            event.batch_idx,
            event.dataloader_idx,
            event.source,
            event.hook,
            event.name,
        )

    def close(self) -> None:
        if self._database is not None:
            self._database.close()  # the last to close it removes the write-ahead log
            self._database = None

    def state(self) -> PlainState:
        folder = None if self.folder is None else str(self.folder.resolve())
        return {"folder": folder, "name": self.file_name, "delivered": self._delivered}

    def load_state(self, state: PlainState) -> None:
        # A file of a run never decides where to write.
        self._delivered = int(state["delivered"])  # type: ignore[arg-type]


def _storable(value: Plain) -> Plain:
    """Return a hyperparameter as SQLite can hold it: an integer over 64 bits becomes a text."""
    is_large = isinstance(value, int) and not -(1 << 63) <= value < 1 << 63
    return str(value) if is_large else value


def _refuse_journal_of_several(database: Path) -> None:
    """Check the journal beside a database, from which SQLite restores it when it opens it.

    A journal of several databases names a file, which SQLite then removes: in a stranger's run any.

    Raises:
        SinkError: it is such a journal.
    """
    journal = database.with_name(f"{database.name}-journal")
    try:
        with open(open_plain(journal, SinkError), "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - len(SUPER_JOURNAL)))
            end = file.read()
    except FileNotFoundError:
        return
    if end == SUPER_JOURNAL:
        raise SinkError(
            f"{journal} was not written by SQLite(): it names another file, which opening "
            f"{database.name} would remove; remove both, or choose another name or folder"
        )
