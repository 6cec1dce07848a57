"""A file that only grows, and can be cut back to a known size."""

import fcntl
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ..bus.errors import SinkError
from ..bus.system.atomic_file import atomic_file
from ..bus.system.forks import keep_when_forked, leave_when_forked
from ..bus.system.plain_file import open_plain


class GrowingFile:
    """One file of a sink, made by ``create`` or found by ``reopen``.

    Args:
        path: where the file is.
        fd: its file descriptor, open for writing; the object closes it.
        size: bytes in the file.

    Attributes:
        path: where the file is.
        size: bytes in the file, including those not flushed yet.
    """

    def __init__(self, path: Path, fd: int, size: int) -> None:
        self.path = path
        self.size = size
        self._fd = fd
        self._pending: list[bytes] = []  # appended, not flushed
        leave_when_forked(self)

    @classmethod
    def create(cls, path: Path, head: str | bytes = "", private: bool = False) -> "GrowingFile":
        """Create a file that begins with ``head``, and its folder.

        Args:
            path: where to create it.
            head: its first text or bytes.
            private: readable by its owner alone, like everything in a run's folder; otherwise the
                umask decides.

        Returns:
            The file, open for appending.

        Raises:
            SinkError: there is a file already.
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
        with suppress(OSError):  # a file system without locks
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # for ``is_abandoned``
        try:
            file.append(head)
            file.flush()
        except BaseException:
            # Ours, and useless: it would only make the next attempt fail.
            file.close()
            path.unlink(missing_ok=True)
            raise
        return file

    @classmethod
    def reopen(cls, path: Path, size: int) -> "GrowingFile":
        """Continue a file after its first ``size`` bytes; what follows them is cut off.

        Args:
            path: where the file is.
            size: bytes to keep.

        Returns:
            The file, open for appending.

        Raises:
            SinkError: the file has fewer bytes.
        """
        refuse_all_but_files(path)
        temporary_name(path).unlink(missing_ok=True)  # left by a killed process
        found = path.stat().st_size if path.exists() else 0
        if not path.exists():
            raise lost(path)
        if found < size:
            raise SinkError(
                f"{path} has {found} bytes, but {size} were delivered before. The file was "
                "changed: to rewrite it, remove it and deliver the rest"
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
        """Replace the file's content atomically."""
        self.flush()
        self.size = replace_file(self.path, chunks)
        os.close(self._fd)
        self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND)

    def cut(self, size: int) -> None:
        """Cut off what follows the first ``size`` bytes."""
        self.flush()
        os.ftruncate(self._fd, size)
        self.size = size

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
        """Check that what is written can be found.

        Raises:
            SinkError: the file was removed or renamed.
        """
        refuse_lost(self.path, os.fstat(self._fd))

    def leave_to_parent(self) -> None:
        """Close the descriptor in a forked child, which must not write to the file."""
        fd, self._fd = self._fd, -1
        with suppress(OSError):  # it was just being replaced
            os.close(fd)

    def close(self) -> None:
        """Close the file; what was not flushed is dropped."""
        os.close(self._fd)
        keep_when_forked(self)


def refuse_lost(path: Path, mine: os.stat_result) -> None:
    """Check that an open file is still the one at its path.

    Args:
        path: where it should be.
        mine: ``os.fstat`` of the open file.

    Raises:
        SinkError: the file was removed, renamed or replaced.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        raise lost(path) from None
    if (found.st_dev, found.st_ino) != (mine.st_dev, mine.st_ino):
        raise lost(path)


def lost(path: Path) -> SinkError:
    """Return the error for a file that no longer exists."""
    return SinkError(f"{path} was removed or renamed while it was written")


def is_abandoned(path: Path, head: bytes) -> bool:
    """Return whether a killed process left a file without events.

    Args:
        path: where the file is.
        head: what a new file begins with; a file with more than that has events.
    """
    try:
        fd = open_plain(path, SinkError)
    except (OSError, SinkError):
        return False
    with open(fd, "rb") as file:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False  # its process has it open, or locks do not work here
        return head.startswith(file.read(len(head) + 1))


def refuse_all_but_files(path: Path) -> None:
    """Check that a path holds nothing, or a regular file.

    A stranger's run must not make us cut or write what a link leads to, nor wait for a pipe.

    Raises:
        SinkError: the path is a link, a pipe or a folder.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise SinkError(
            f"{path} is a link, a pipe or a folder, where a file is expected; put the file itself "
            "there, or replay the run into another folder"
        )


def remove_file(path: Path) -> None:
    """Remove a file, and the temporary file that a killed process may have left beside it.

    Raises:
        SinkError: the path is not a regular file.
    """
    refuse_all_but_files(path)
    temporary_name(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def replace_file(path: Path, chunks: Iterable[bytes]) -> int:
    """Replace a file's content atomically: a reader sees all of the old or all of the new.

    Args:
        path: the file.
        chunks: the new content, in parts.

    Returns:
        The new size in bytes.
    """
    mode = stat.S_IMODE(path.stat().st_mode)
    with atomic_file(path, temporary_name(path)) as file:
        os.fchmod(file.fileno(), mode)
        file.writelines(chunks)
        return file.tell()


def temporary_name(path: Path) -> Path:
    """Return the name of a sink's file that becomes ``path`` once it is complete."""
    return path.with_name(f".{path.name}.tmp")
