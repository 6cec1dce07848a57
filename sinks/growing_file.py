"""A file that only grows, and can be cut back to a known size."""

import fcntl
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ..bus.errors import SinkError
from ..bus.system.forks import keep_when_forked, leave_when_forked
from ..bus.system.plain_file import open_plain


class GrowingFile:
    """One file of a sink. Made by ``create`` or found by ``reopen``.

    Attributes:
        path: where it is.
        size: in bytes, with what is not flushed yet.
    """

    def __init__(self, path: Path, fd: int, size: int) -> None:
        self.path = path
        self.size = size
        self._fd = fd
        self._pending: list[bytes] = []  # appended, not flushed
        leave_when_forked(self)

    @classmethod
    def create(cls, path: Path, head: str | bytes = "", private: bool = False) -> "GrowingFile":
        """Make a new file that begins with ``head``, and its folder.

        Args:
            path: where.
            head: its first text.
            private: for its owner alone, as all that lies in a run's folder; else as the umask has
                it.

        Raises:
            SinkError: there is one already.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
            fd = os.open(path, flags, 0o600 if private else 0o666)
        except FileExistsError:
            raise SinkError(
                f"{path} exists already and is not overwritten; choose another folder, or remove it"
            ) from None
        file = cls(path, fd, 0)
        with suppress(OSError):  # a disk that knows no locks
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # for ``is_abandoned``
        try:
            file.append(head)
            file.flush()
        except BaseException:
            # Ours, and of no use: it would only stand in the way of the next try.
            file.close()
            path.unlink(missing_ok=True)
            raise
        return file

    @classmethod
    def reopen(cls, path: Path, size: int) -> "GrowingFile":
        """Go on with a file after its first ``size`` bytes; what follows them is cut off.

        Raises:
            SinkError: it has fewer.
        """
        refuse_all_but_files(path)
        _temporary_name(path).unlink(missing_ok=True)  # of a process that was killed
        found = path.stat().st_size if path.exists() else 0
        if not path.exists():
            raise lost(path)
        if found < size:
            raise SinkError(
                f"{path} has {found} bytes, but {size} were delivered before; it was changed: to "
                "write it anew, remove it and deliver the rest"
            )
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
        try:
            os.ftruncate(fd, size)
        except BaseException:
            os.close(fd)
            raise
        return cls(path, fd, size)

    def append(self, data: str | bytes) -> None:
        """Add text or bytes at the end."""
        if isinstance(data, str):
            data = data.encode()
        self.size += len(data)
        self._pending.append(data)

    def replace(self, chunks: Iterable[bytes]) -> None:
        """Put other content in the file's place, all at once."""
        self.flush()
        self.size = replace_file(self.path, chunks)
        os.close(self._fd)
        self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND)

    def flush(self) -> None:
        """Hand what was appended to the operating system."""
        if not self._pending:
            return
        data = memoryview(b"".join(self._pending))
        self._pending.clear()
        while data:  # a full disk takes a part, and refuses the rest
            data = data[os.write(self._fd, data) :]
        self._check_there()

    def _check_there(self) -> None:
        """Make sure that what is written can be found.

        Raises:
            SinkError: somebody removed or renamed the file.
        """
        refuse_lost(self.path, os.fstat(self._fd))

    def leave_to_parent(self) -> None:
        """A forked child writes nothing, and holds nothing open for a parent that is gone."""
        fd, self._fd = self._fd, -1
        with suppress(OSError):  # it was being replaced
            os.close(fd)

    def close(self) -> None:
        """Close the file; what was not flushed is dropped."""
        os.close(self._fd)
        keep_when_forked(self)


def refuse_lost(path: Path, mine: os.stat_result) -> None:
    """Make sure that an open file is the one at its path.

    Args:
        path: where it is to be.
        mine: what the system says of the open one.

    Raises:
        SinkError: somebody removed, renamed or replaced it.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        raise lost(path) from None
    if (found.st_dev, found.st_ino) != (mine.st_dev, mine.st_ino):
        raise lost(path)


def lost(path: Path) -> SinkError:
    """What there is to say of a file that is not there any more."""
    return SinkError(f"{path} was removed or renamed while it was written")


def is_abandoned(path: Path, head: bytes) -> bool:
    """Whether a file has no more than a part of its head, and no process that made it is there."""
    try:
        fd = open_plain(path, SinkError)
    except (OSError, SinkError):
        return False
    with open(fd, "rb") as file:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False  # whoever made it has it open, or nobody can know
        return head.startswith(file.read(len(head) + 1))


def refuse_all_but_files(path: Path) -> None:
    """Make sure that what is at a path, if anything, is a file itself: a stranger's run must not
    have us cut or write what a link in it leads to, nor wait for a pipe.

    Raises:
        SinkError: it is something else.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise SinkError(
            f"{path} is a link, a pipe or a folder, where a file is expected; put the file itself "
            "there, or replay the run into another folder"
        )


def remove_file(path: Path) -> None:
    """Remove a file, and what a process that was killed had begun to put in its place.

    Raises:
        SinkError: it is no file.
    """
    refuse_all_but_files(path)
    _temporary_name(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def replace_file(path: Path, chunks: Iterable[bytes]) -> int:
    """Put other content in a file's place; a reader sees all of the old or all of the new.

    Returns:
        The new size in bytes.
    """
    temporary = _temporary_name(path)
    try:
        temporary.unlink(missing_ok=True)  # of a process that was killed, or a stranger's link
        mode = stat.S_IMODE(path.stat().st_mode)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with open(os.open(temporary, flags, 0o600), "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())  # before the rename: a power cut must not leave it empty
            size = file.tell()
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return size


def _temporary_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")
