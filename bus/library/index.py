"""An index of summaries beside the runs, so that a table of many opens at once.

It is derived: what is in it can be read from the runs again. A row holds for as long as the run's
folder has the same time of change, since a new attempt, new marks and most files of sinks change
it. What is not in it is read from the summary that a run keeps when it ends, or else from its log.
A run that goes on, or cannot be read, is read each time. What was changed a moment ago is not kept,
because a second change within the clock's resolution would not be seen.
"""

import contextlib
import gc
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ..errors import MALFORMED
from ..runs.kept_summary import LAYOUT, kept_summary
from ..runs.run_summary import DAMAGED, RUNNING, RunSummary, read_summary

FILE = ".index.sqlite"
_WAIT_S = 2.0  # for another process that writes the index
_SETTLED_NS = 2_000_000_000
_LAYOUT = LAYOUT
_SCHEMA = "CREATE TABLE IF NOT EXISTS runs (id TEXT PRIMARY KEY, changed_ns INTEGER, row BLOB)"

_Rows = dict[str, tuple[int, bytes]]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(RunSummary).decode


def read_table(root: Path, use_index: bool = True) -> list[RunSummary]:
    """Return the runs of a folder, oldest first; an unreadable one is listed as such.

    Args:
        root: the folder of runs.
        use_index: read and write the index beside them.
    """
    rows = _read_rows(root / FILE) if use_index else {}
    found, fresh, folder = [], [], str(root)
    with _without_collection():
        for name, changed_ns in _folders(root):
            if (row := rows.pop(name, None)) is not None and row[0] == changed_ns:
                try:
                    found.append(_moved(_decode(row[1]), f"{folder}/{name}"))
                    continue
                except MALFORMED:  # it is read again
                    pass
            summary = _read(f"{folder}/{name}", changed_ns)
            if summary is None:
                continue
            found.append(summary)
            is_settled = time.time_ns() - changed_ns > _SETTLED_NS
            if is_settled and summary.ending not in (RUNNING, DAMAGED) and not summary.problem:
                fresh.append((name, changed_ns, _encode(summary)))
        found.sort(key=lambda run: (run.created_ns, run.id))
    if use_index and (fresh or rows):
        _write_rows(root / FILE, fresh, list(rows))
    return found


def _moved(summary: RunSummary, path: str) -> RunSummary:
    is_there = summary.path == path
    return summary if is_there else msgspec.structs.replace(summary, path=path)


def _read(folder: str, changed_ns: int) -> RunSummary | None:
    if (kept := kept_summary(folder, changed_ns)) is not None:
        return _moved(kept, folder)
    return read_summary(Path(folder)) if os.path.exists(f"{folder}/run.json") else None


def _folders(root: Path) -> Iterator[tuple[str, int]]:
    """Yield the names of the folders in a folder, and when each was changed."""
    with os.scandir(root) as entries:
        for entry in entries:
            try:
                if entry.is_dir():
                    yield entry.name, entry.stat().st_mtime_ns
            except OSError:  # just removed
                continue


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Make many objects without having the garbage collector look through them."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _read_rows(path: Path) -> _Rows:
    """Return what the index has; nothing if there is none, or one of another version."""
    if not path.is_file():
        return {}
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=_WAIT_S)) as index:
            if _layout_of(index) != _LAYOUT:
                return {}
            rows = index.execute("SELECT id, changed_ns, row FROM runs").fetchall()
    except sqlite3.Error:  # it is written again
        return {}
    return {name: (changed_ns, row) for name, changed_ns, row in rows}


def _layout_of(index: sqlite3.Connection) -> str:
    found = index.execute("SELECT value FROM about WHERE name = 'layout'").fetchone()
    return "" if found is None else str(found[0])


def _write_rows(path: Path, fresh: list[tuple[str, int, bytes]], gone: list[str]) -> None:
    """Put rows into the index; where that is not possible, there is none, and all goes on."""
    try:
        _update(path, fresh, gone)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):  # read-only, or written by another process
            return
        with contextlib.suppress(OSError, sqlite3.Error):  # it is damaged
            path.unlink()
            _update(path, fresh, [])


def _update(path: Path, fresh: list[tuple[str, int, bytes]], gone: list[str]) -> None:
    with contextlib.suppress(OSError):  # it is there, or the folder is read-only
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    with contextlib.closing(sqlite3.connect(path, timeout=_WAIT_S)) as index, index:
        index.execute("BEGIN IMMEDIATE")
        index.execute("CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT)")
        index.execute(_SCHEMA)
        if _layout_of(index) != _LAYOUT:
            index.execute("DELETE FROM runs")
            index.execute("INSERT OR REPLACE INTO about VALUES ('layout', ?)", (_LAYOUT,))
        index.executemany("INSERT OR REPLACE INTO runs VALUES (?, ?, ?)", fresh)
        index.executemany("DELETE FROM runs WHERE id = ?", [(name,) for name in gone])
