"""A disk under the saving of checkpoints, which fails at any call or loses power before it.

The calls by which the thread that saves changes files are let through to a real folder, counted,
and made to fail. What would be there if the power went out now is worked out from what was synced:
a file's bytes as of its last sync, a folder's names as of its own. Of anything newer, any part may
be there or not.
"""

import errno
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
import safetensors
import safetensors.torch

SECTOR_BYTES = 512
_CALLS = ("mkdir", "fchmod", "rename", "replace", "symlink", "link", "unlink", "rmdir")
_Entry = int | str  # an inode, or what a link leads to
Left = Literal["all", "synced"] | random.Random


class Disk:
    """Made by ``disk_below``.

    Attributes:
        calls: the calls that threads that save have made: which save, from 0, and their names.
        before_call: called in that thread before each of its calls; may raise what it answers.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls: list[tuple[int, str]] = []
        self.before_call: Callable[[str], None] = lambda name: None
        self._held: dict[int, int] = {}  # inode -> a descriptor, so that its number stays its own
        self._bytes: dict[int, bytes] = {}
        self._names: dict[int, dict[str, _Entry]] = {}
        self._lock = threading.Lock()
        self._is_asking = False
        self._savers: list[threading.Thread] = []

    def close(self) -> None:
        for fd in self._held.values():
            os.close(fd)

    def heed(self, name: str) -> None:
        """A call is about to be made, if by the thread that saves."""
        thread = threading.current_thread()
        if thread.name != "nightbus-checkpoint" or self._is_asking:
            return
        if thread not in self._savers:
            self._savers.append(thread)
        self.calls.append((len(self._savers) - 1, name))
        self._is_asking = True  # calls that before_call makes are not the run's
        try:
            self.before_call(name)
        finally:
            self._is_asking = False

    def sync(self, fd: int) -> None:
        """What is in a file or folder now outlives a power cut."""
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        if not path.is_relative_to(self.root):
            return
        with self._lock:
            inode = self._hold(path)
            if path.is_dir():
                self._names[inode] = self._entries(path)
            else:
                self._bytes[inode] = path.read_bytes()

    def _hold(self, path: Path) -> int:
        inode = path.lstat().st_ino
        if inode not in self._held:
            self._held[inode] = os.open(path, os.O_PATH | os.O_NOFOLLOW)
        return inode

    def _entries(self, folder: Path) -> dict[str, _Entry]:
        """Names of a folder; it may change meanwhile, by other threads."""
        found: dict[str, _Entry] = {}
        for path in folder.iterdir():
            if path.is_socket():
                continue  # nobody listens at it any more
            try:
                found[path.name] = os.readlink(path) if path.is_symlink() else self._hold(path)
            except FileNotFoundError:
                continue
        return found

    # -- power -----------------------------------------------------------------------------------

    def leave(self, left: Left, target: Path) -> None:
        """Put into ``target`` what would be there now after a kill, which loses nothing (``all``),
        or a power cut (``synced``; with a generator, and any part of the rest).
        """
        with self._lock:
            self._leave(self._hold(self.root), left, target)

    def _leave(self, inode: int, left: Left, target: Path) -> None:
        live = Path(f"/proc/self/fd/{self._held[inode]}")
        path = Path(os.readlink(live))
        if inode in self._names or live.is_dir():
            target.mkdir()
            before = self._names.get(inode, {})
            now = self._entries(path) if path.is_dir() else {}
            for name, entry in _names(before, now, left).items():
                if isinstance(entry, str):
                    (target / name).symlink_to(entry)
                else:
                    self._leave(entry, left, target / name)
        else:
            target.write_bytes(_bytes(self._bytes.get(inode, b""), live.read_bytes(), left))


def _names(before: dict[str, _Entry], now: dict[str, _Entry], left: Left) -> dict[str, _Entry]:
    if not isinstance(left, random.Random):
        return now if left == "all" else before
    found = {}
    for name in sorted({*before, *now}):
        entry = left.choice([before, now]).get(name)
        if entry is not None:
            found[name] = entry
    return found


def _bytes(before: bytes, now: bytes, left: Left) -> bytes:
    if not isinstance(left, random.Random):
        return now if left == "all" else before
    size = len(left.choice([before, now]))
    found = b""
    for at in range(0, size, SECTOR_BYTES):
        end = min(at + SECTOR_BYTES, size)
        found += left.choice([before, now])[at:end].ljust(end - at, b"\0")
    return found


@contextmanager
def disk_below(root: Path) -> Iterator[Disk]:
    """Let checkpoints below a folder be saved on a disk that may fail, while the block runs.

    Args:
        root: an empty folder.
    """
    disk = Disk(root)

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            disk.heed(name)
            return real(*arguments, **options)

        return call

    def synced(name: str) -> Callable[[int], None]:
        def sync(fd: int) -> None:
            if "checkpoints" in Path(os.readlink(f"/proc/self/fd/{fd}")).parts:  # not the log
                disk.heed(name)
            disk.sync(fd)

        return sync

    real_save = safetensors.torch.save_file

    def save_file(tensors: Any, path: Path) -> None:
        try:
            disk.heed("save_file")
        except OSError as error:
            path.write_bytes(b"half")
            raise safetensors.SafetensorError(f"I/O error: {error}") from None
        real_save(tensors, path)

    def half(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def write(path: Path, data: Any, *more: Any) -> Any:
            try:
                disk.heed(name)
            except OSError:
                real(path, data[: len(data) // 2], *more)  # a full disk takes a part
                raise
            return real(path, data, *more)

        return write

    with pytest.MonkeyPatch.context() as patch:
        for name in _CALLS:
            patch.setattr(os, name, counted(name, getattr(os, name)))
        for name in ("fsync", "fdatasync"):
            patch.setattr(os, name, synced(name))
        patch.setattr(safetensors.torch, "save_file", save_file)
        for name in ("write_bytes", "write_text"):
            patch.setattr(Path, name, half(name, getattr(Path, name)))
        try:
            yield disk
        finally:
            disk.close()


def answer_of(name: str) -> OSError:
    """What a disk that is full or broken answers to a call."""
    full = name in ("mkdir", "symlink", "link", "save_file", "write_bytes", "write_text")
    number = errno.ENOSPC if full else errno.EIO
    return OSError(number, os.strerror(number))
