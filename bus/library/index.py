"""An index of summaries beside the runs, so that a table of many opens at once.

It is derived: what is in it can be read from the runs again. A row holds for as long as the run's
folder has the same time of change, since a new attempt, new marks and most files of sinks change
it. What is not in it is read from the summary that a run keeps when it ends, or else from its log.
A run that goes on, or cannot be read, is read each time. What was changed a moment ago is not kept,
because a second change within the clock's resolution would not be seen.

The runs, and so the file, may be a stranger's. It is a line and records; only those of
folders as they are now are read, and if anything is strange it is written anew.
"""

import contextlib
import gc
import os
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from ..errors import MALFORMED, RunFolderError
from ..runs.kept_summary import LAYOUT, kept_summary
from ..runs.run_summary import RunSummary, read_summary
from ..system.atomic_file import atomic_file
from ..system.plain_file import open_plain

FILE = ".index"
MAX_RECORDS = 1 << 20
MAX_ROW_BYTES = 1 << 20
_MAX_NAME_BYTES = 1024
_SETTLED_NS = 2_000_000_000
_LAYOUT = LAYOUT
_LEFT_OVER = 1000  # records that may be there in vain, besides as many as there are rows
_record = struct.Struct("<IIq")  # bytes of name and row, the folder's time of change; both follow

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(RunSummary).decode


class _Index(NamedTuple):
    """What the index has.

    Attributes:
        rows: summaries by the folder's name, of those that have not changed since.
        can_grow: records can be added at its end.
        is_strange: it holds what it should not, and is to be written anew.
    """

    rows: dict[str, bytes]
    can_grow: bool = False
    is_strange: bool = False


def read_table(root: Path, use_index: bool = True) -> list[RunSummary]:
    """Return the runs of a folder, oldest first; an unreadable one is listed as such.

    Args:
        root: the folder of runs.
        use_index: read and write the index beside them.
    """
    folders, folder = dict(_folders(root)), str(root)
    index = _read_index(root / FILE, folders) if use_index else _Index({})
    found, fresh = [], dict[str, bytes]()
    with _without_collection():
        for name, changed_ns in folders.items():
            if (row := index.rows.get(name)) is not None:
                if (summary := _decoded(row)) is not None:
                    found.append(_moved(summary, f"{folder}/{name}"))
                    continue
                del index.rows[name]  # it is read again
                index = index._replace(can_grow=False, is_strange=True)
            summary = _read(f"{folder}/{name}", changed_ns)
            if summary is None:
                continue
            found.append(summary)
            is_settled = time.time_ns() - changed_ns > _SETTLED_NS
            if is_settled and summary.may_be_kept:
                with contextlib.suppress(UnicodeEncodeError):  # a path that is no text
                    fresh[name] = _encode(summary)
        found.sort(key=lambda run: (run.created_ns, run.id))
    if use_index and (fresh or index.is_strange):
        _write_index(root / FILE, index, fresh, folders)
    return found


def _decoded(row: bytes) -> RunSummary | None:
    """Return a row as a summary; None if none would be kept that is like it."""
    try:
        summary = _decode(row)
    except MALFORMED:
        return None
    return summary if summary.may_be_kept else None


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


def _read_index(path: Path, folders: Mapping[str, int]) -> _Index:
    """Return what the index has of folders as they are.

    Args:
        path: the file.
        folders: their names, and when each was changed.
    """
    try:
        with open(open_plain(path, RunFolderError), "rb") as file:
            if file.readline(len(_head())) != _head():
                return _Index({}, is_strange=True)
            rows, number, is_strange = dict[str, bytes](), 0, False
            while head := file.read(_record.size):
                names, size, changed_ns = _record.unpack(head)
                number += 1
                if not (
                    names <= _MAX_NAME_BYTES and size <= MAX_ROW_BYTES and number < MAX_RECORDS
                ):
                    return _Index(rows, is_strange=True)
                name = os.fsdecode(file.read(names))
                if folders.get(name) == changed_ns and name not in rows:
                    rows[name] = file.read(size)
                else:
                    file.seek(size, os.SEEK_CUR)
                    is_strange |= name not in folders
            is_strange |= file.tell() != os.fstat(file.fileno()).st_size  # its end is missing
    except FileNotFoundError:
        return _Index({})
    except (OSError, RunFolderError, struct.error):
        return _Index({}, is_strange=True)
    return _Index(rows, not is_strange and number < 2 * len(rows) + _LEFT_OVER, is_strange)


def _head() -> bytes:
    return f"nightbus index {_LAYOUT}\n".encode()


def _write_index(
    path: Path, index: _Index, fresh: Mapping[str, bytes], folders: Mapping[str, int]
) -> None:
    """Put rows into the index; where that is not possible, there is none, and all goes on."""
    rows = fresh if index.can_grow else {**index.rows, **fresh}
    records = b"".join(
        part
        for name, row in rows.items()
        if len(row) <= MAX_ROW_BYTES
        for part in (
            _record.pack(len(os.fsencode(name)), len(row), folders[name]),
            os.fsencode(name),
            row,
        )
    )
    with contextlib.suppress(OSError):
        if index.can_grow:
            flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with open(os.open(path, flags), "ab", buffering=0) as file:
                file.write(records)
            return
        temporary = path.with_name(f"{FILE}.{os.getpid()}-{threading.get_ident()}.tmp")
        with atomic_file(path, temporary, is_durable=False) as file:
            file.write(_head())
            file.write(records)
