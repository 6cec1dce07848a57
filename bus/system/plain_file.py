"""Opens files of a run only if they are regular files in the run's folder itself.

A run folder may be a stranger's. A link could lead out of it, and opening a pipe or a device could
wait for ever.
"""

import errno
import os
import stat
from pathlib import Path

from ..errors import NightbusError

MAX_SMALL_FILE_BYTES = 16 << 20
"""Maximum size of a file that is read as a whole, such as run.json."""

# NONBLOCK so that opening a pipe does not wait for its other end; regular files ignore it.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def open_plain(path: Path | str, error: type[NightbusError]) -> int:
    """Open a regular file for reading.

    Args:
        path: the file.
        error: the error to raise for anything else.

    Returns:
        The file descriptor.

    Raises:
        FileNotFoundError: there is no file.
        OSError: it cannot be opened.
        NightbusError: it is a link, a pipe, a device or a folder.
    """
    try:
        fd = os.open(path, _FLAGS)
    except OSError as failure:
        if failure.errno == errno.ELOOP:
            raise error(_refusal(path, "a link")) from None
        if failure.errno == errno.ENXIO:
            raise error(_refusal(path, "a socket")) from None
        raise
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        raise error(_refusal(path, "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"))
    return fd


def is_regular(path: Path | str) -> bool:
    """Return whether a path leads to a regular file, whatever stands for ``os.path.isfile``.

    ``Path.is_file`` asks that one from Python 3.14 on; it may take a checkpoint for a file.

    Args:
        path: the path.
    """
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def read_small(
    path: Path | str, error: type[NightbusError], most: int = MAX_SMALL_FILE_BYTES
) -> bytes:
    """Return the content of a small regular file.

    Args:
        path: the file.
        error: the error to raise for anything else.
        most: how many bytes it may have.

    Raises:
        FileNotFoundError: there is no file.
        OSError: it cannot be read.
        NightbusError: it is not a regular file, or larger.
    """
    with open(open_plain(path, error), "rb", buffering=0) as file:
        is_small = os.fstat(file.fileno()).st_size <= most
        data = file.readall() if is_small else b""
    if not is_small or len(data) > most:
        raise error(f"{path} has more than {most} bytes, the most that is read")
    return data


def refuse_link(folder: Path, error: type[NightbusError]) -> None:
    """Check that a folder inside a run is not a link.

    Args:
        folder: the folder.
        error: the error to raise.

    Raises:
        NightbusError: it is a link.
    """
    if folder.is_symlink():
        raise error(_refusal(folder, "a link"))


def _refusal(path: Path | str, what: str) -> str:
    return (
        f"{path} is {what}; files of a run are read only in its own folder, so put the file or "
        "folder itself there"
    )
