"""A disk that fails when it is told to, and that can lose power.

The calls of this process that change files are let through to a real folder, counted, and made to
fail. What a real disk would have kept if the power went out now is worked out from them: a file's
bytes as of its last fsync, a folder's names as of its own; anything newer may be there or not,
sector by sector. What is written through ``open(...).write`` is seen when it is synced.
"""

import errno
import mmap
import os
import random
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

SECTOR_BYTES = 512

# What a disk that is full, or broken, answers to a call.
ANSWERS: Mapping[str, int] = {
    "open": errno.ENOSPC,
    "mkdir": errno.ENOSPC,
    "posix_fallocate": errno.ENOSPC,
    "pwrite": errno.ENOSPC,
    "mmap": errno.ENOMEM,
    "ftruncate": errno.EIO,
    "fdatasync": errno.EIO,
    "fsync": errno.EIO,
    "rename": errno.EIO,
    "unlink": errno.EIO,
}
SYNCS = ("fdatasync", "fsync")


class FaultyDisk:
    """Stands between this process and what lies below a folder; made by ``faulty_disk``.

    Attributes:
        calls: the names of the calls so far, in order.
        synced_after_failure: files that were synced again after that had failed once.
        before_call: called with a call's name before it has any effect.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls: list[str] = []
        self.synced_after_failure: list[int] = []
        self.before_call: Callable[[str], None] = lambda name: None
        self._fails: Callable[[int, str], bool] = lambda number, name: False
        self._ids: dict[int, int] = {}  # inode -> our own number, because inodes are used again
        self._next_id = 0
        self._bytes: dict[int, bytes] = {}  # a file's number -> what is durable of it
        self._names: dict[int, dict[str, int]] = {}  # a folder's number -> names that are durable
        self._failed: set[int] = set()
        for path in (root, *root.rglob("*")):  # what is there is durable
            if path.is_dir():
                names = {entry.name: self._id_of(entry) for entry in path.iterdir()}
                self._names[self._id_of(path)] = names
            else:
                self._bytes[self._id_of(path)] = path.read_bytes()

    def fail(self, fails: Callable[[int, str], bool]) -> None:
        """Let those calls fail for which ``fails`` of their number, from 0 on, and name is true."""
        self.calls.clear()
        self._fails = fails

    # -- calls -----------------------------------------------------------------------------------

    def answer(self, name: str) -> None:
        """Count a call, and raise if it is to fail."""
        self.before_call(name)
        number = len(self.calls)
        self.calls.append(name)
        if self._fails(number, name):
            raise OSError(ANSWERS[name], os.strerror(ANSWERS[name]))

    def sync(self, name: str, fd: int, do: Callable[[int], None]) -> None:
        file = self._id_of(fd)
        is_folder = stat.S_ISDIR(os.fstat(fd).st_mode)
        if file in self._failed and not is_folder:
            self.synced_after_failure.append(file)
        try:
            self.answer(name)
        except OSError:
            self._failed.add(file)
            raise
        do(fd)
        if is_folder:
            self._names[file] = {name: self._id_of(fd, name) for name in os.listdir(fd)}
        else:
            if stat.S_ISREG(os.fstat(fd).st_mode):  # of a device such as /dev/full, reads never end
                self._bytes[file] = Path(f"/proc/self/fd/{fd}").read_bytes()  # also if write-only

    def forget(self, fd: int) -> None:
        """A new file may have the inode of one that was removed."""
        self._ids.pop(os.fstat(fd).st_ino, None)

    def _id_of(self, file: int | Path, name: str | None = None) -> int:
        found = os.stat(file) if name is None else os.stat(name, dir_fd=file)  # type: ignore[arg-type]
        if found.st_ino not in self._ids:
            self._ids[found.st_ino] = self._next_id
            self._next_id += 1
        return self._ids[found.st_ino]

    # -- power -----------------------------------------------------------------------------------

    def after_power_cut(self, target: Path, chance: random.Random | None = None) -> None:
        """Put into ``target`` what would be there had the power gone out now.

        Args:
            target: a folder, made here.
            chance: decides what is there of what was not synced; nothing of it if not given.
        """
        live = {self._id_of(path): path for path in [self.root, *self.root.rglob("*")]}
        self._restore(self._id_of(self.root), target, live, chance)

    def _restore(
        self, file: int, target: Path, live: dict[int, Path], chance: random.Random | None
    ) -> None:
        path = live.get(file)
        if file in self._names or (path is not None and path.is_dir()):
            target.mkdir()
            names = self._names.get(file, {})
            if chance is not None and path is not None:
                live_names = {entry.name: self._id_of(entry) for entry in path.iterdir()}
                names = _either(names, live_names, chance)
            for name, entry in names.items():
                self._restore(entry, target / name, live, chance)
            return
        durable = self._bytes.get(file, b"")
        newest = durable if path is None else path.read_bytes()
        target.write_bytes(durable if chance is None else _mixed(durable, newest, chance))


def _either(old: dict[str, int], new: dict[str, int], chance: random.Random) -> dict[str, int]:
    """A folder of which any of the changed names may have reached the disk."""
    found = {}
    for name in sorted({*old, *new}):
        entry = chance.choice([old, new]).get(name)
        if entry is not None:
            found[name] = entry
    return found


def _mixed(old: bytes, new: bytes, chance: random.Random) -> bytes:
    """A file of which any of the changed sectors may have reached the disk."""
    size = len(chance.choice([old, new]))
    share = chance.choice([0.1, 0.5, 0.9])
    sectors = []
    for at in range(0, size, SECTOR_BYTES):
        source = new if chance.random() < share else old
        end = min(at + SECTOR_BYTES, size)
        sectors.append(source[at:end].ljust(end - at, b"\0"))
    return b"".join(sectors)


@contextmanager
def faulty_disk(root: Path) -> Iterator[FaultyDisk]:
    """Let the files of this process lie on a faulty disk, while the block runs.

    Args:
        root: a folder; what lies in it already is durable.
    """
    disk = FaultyDisk(root)
    real_open, real_pwrite, real_mmap = os.open, os.pwrite, mmap.mmap

    def open_file(path: Any, flags: int, *mode: int, **options: Any) -> int:
        if not flags & os.O_CREAT:
            return real_open(path, flags, *mode, **options)
        disk.answer("open")
        is_new = not os.path.exists(path)
        fd = real_open(path, flags, *mode, **options)
        if is_new:
            disk.forget(fd)
        return fd

    def pwrite(fd: int, data: bytes, offset: int) -> int:
        try:
            disk.answer("pwrite")
        except OSError:
            real_pwrite(
                fd, data[: len(data) // 2], offset
            )  # a full disk takes what it has room for
            raise
        return real_pwrite(fd, data, offset)

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            disk.answer(name)
            return real(*arguments, **options)

        return call

    def syncing(name: str, real: Callable[[int], None]) -> Callable[[int], None]:
        return lambda fd: disk.sync(name, fd, real)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", open_file)
        patch.setattr(os, "pwrite", pwrite)
        patch.setattr(mmap, "mmap", counted("mmap", real_mmap))
        for name in ("mkdir", "posix_fallocate", "ftruncate", "rename", "unlink"):
            patch.setattr(os, name, counted(name, getattr(os, name)))
        for name in SYNCS:
            patch.setattr(os, name, syncing(name, getattr(os, name)))
        yield disk
