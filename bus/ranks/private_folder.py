"""PrivateFolder: where the socket of a desk lies, and only its user can enter.

A process that is killed leaves its folder behind, which the next desk on the machine removes: each
folder is locked as long as the process that uses it lives.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

PREFIX = "nightbus-desk-"
SOCKET = "desk"
_MAX_PATH_BYTES = 100  # of a socket, less than kernels allow
_LOCKED_WITHIN_S = 60.0  # of being made


class PrivateFolder:
    """A folder of its own for this process.

    Attributes:
        socket: the path for the socket.

    Raises:
        OSError: none can be made.
    """

    def __init__(self) -> None:
        self._path = Path(tempfile.mkdtemp(prefix=PREFIX))
        if len(os.fsencode(self._path / SOCKET)) > _MAX_PATH_BYTES:
            self._path.rmdir()
            self._path = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/tmp"))
        self.socket = self._path / SOCKET
        self._fd: int | None = os.open(self._path, os.O_RDONLY)
        with contextlib.suppress(OSError):  # a file system without locks; it is then in use, too
            fcntl.flock(self._fd, fcntl.LOCK_SH)
        with contextlib.suppress(OSError):  # the folder of such folders cannot be listed
            _remove_abandoned(self._path.parent)

    def remove(self) -> None:
        """Remove it, if it is there."""
        shutil.rmtree(self._path, ignore_errors=True)
        self.leave()

    def leave(self) -> None:
        """Leave it to the parent of a forked child, which would keep it locked."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


def _remove_abandoned(parent: Path) -> None:
    """Remove the folders here whose processes have ended."""
    before_s = time.time() - _LOCKED_WITHIN_S
    with os.scandir(parent) as entries:
        for entry in entries:
            if not entry.name.startswith(PREFIX):
                continue
            with contextlib.suppress(OSError):  # another user's, in use, or just removed
                if entry.stat(follow_symlinks=False).st_mtime < before_s:
                    _remove_if_abandoned(entry.path)


def _remove_if_abandoned(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(SOCKET, dir_fd=fd)
        os.rmdir(folder)
    finally:
        os.close(fd)
