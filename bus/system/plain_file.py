"""Files of a run are opened as what they must be: plain files, in the run's folder itself.

A run folder may be a stranger's. A link would lead out of it, and a pipe or a device would keep
whoever opens it waiting for ever.
"""

import errno
import os
import stat
from pathlib import Path

from ..errors import NightbusError

MAX_SMALL_FILE_BYTES = 16 << 20
"""At most so much is read of a file that is read as a whole, such as run.json."""

# NONBLOCK so that opening a pipe does not wait for its other end; plain files do not mind it.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def open_plain(path: Path, error: type[NightbusError]) -> int:
    """Open a plain file for reading; returns its file descriptor.

    Args:
        path: the file.
        error: what to raise if there is something else.

    Raises:
        FileNotFoundError: there is nothing.
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


def read_small(path: Path, error: type[NightbusError]) -> bytes:
    """All of a small plain file.

    Raises:
        FileNotFoundError: there is nothing.
        OSError: it cannot be read.
        NightbusError: it is no plain file, or larger than MAX_SMALL_FILE_BYTES.
    """
    with open(open_plain(path, error), "rb") as file:
        data = file.read(MAX_SMALL_FILE_BYTES + 1)
    if len(data) > MAX_SMALL_FILE_BYTES:
        raise error(f"{path} takes more than {MAX_SMALL_FILE_BYTES} bytes, the most that is read")
    return data


def refuse_link(folder: Path, error: type[NightbusError]) -> None:
    """Make sure that a folder inside a run is no link.

    Raises:
        NightbusError: it is one.
    """
    if folder.is_symlink():
        raise error(_refusal(folder, "a link"))


def _refusal(path: Path, what: str) -> str:
    return (
        f"{path} is {what}; what a run folder holds is read only where it lies, so put the file or "
        "folder itself there"
    )
