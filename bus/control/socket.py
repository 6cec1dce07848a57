"""The socket in a run's folder: created, found and checked with the standard library only.

A socket is reached only by its owner: its folder is 0700, it is 0600 before anyone can connect,
and both sides ask the kernel who the other one is.
"""

import contextlib
import os
import socket
import stat
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ControlError
from ..system.forks import keep_when_forked, leave_when_forked

SOCKET_NAME = "control.sock"
BACKLOG = 16
_BACKLOG_PAUSE_S = 0.01
# The kernels' limits, without the final NUL.
MAX_PATH_BYTES = (108 if sys.platform == "linux" else 104) - 1
_OPEN_FOLDERS = Path("/proc/self/fd")

_UCRED = struct.Struct("3i")  # Linux: pid, uid, gid
_XUCRED = struct.Struct("IIh2x16I")  # macOS: version, uid, number of groups, groups
_SOL_LOCAL, _LOCAL_PEERCRED, _LOCAL_PEERPID = 0, 1, 2  # macOS names that Python lacks


class Peer(NamedTuple):
    """The process at the other end, according to the kernel."""

    uid: int
    pid: int


def peer_of(getsockopt: Callable[..., Any]) -> Peer:
    """Return the process at the other end of the connection with this ``getsockopt``.

    Raises:
        OSError: the connection is gone.
    """
    if sys.platform == "linux":
        pid, uid, _ = _UCRED.unpack(getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
        return Peer(uid, pid)
    uid = _XUCRED.unpack(getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED.size))[1]
    return Peer(uid, getsockopt(_SOL_LOCAL, _LOCAL_PEERPID))


def check_peer(getsockopt: Callable[..., Any]) -> Peer:
    """Return the process at the other end, after checking that it is of the same user.

    Raises:
        ControlError: it is another user's.
        OSError: the connection is gone.
    """
    peer = peer_of(getsockopt)
    if peer.uid != os.geteuid():
        raise ControlError(
            f"user {peer.uid} is at the other end of the control socket, this is user "
            f"{os.geteuid()}; only its owner can steer a run"
        )
    return peer


class ListeningSocket:
    """A run's control socket, listening.

    Args:
        listening: the socket.
        path: its path.

    Attributes:
        socket: as given.
        path: as given.
    """

    def __init__(self, listening: socket.socket, path: Path) -> None:
        self.socket = listening
        self.path = path
        self._identity = _identity(path)
        leave_when_forked(self)

    def leave_to_parent(self) -> None:
        """Close the socket in a forked child, such as a dataloader worker."""
        self.socket.close()

    def close(self) -> None:
        """Stop listening, and remove the socket unless another one has replaced it."""
        keep_when_forked(self)
        self.socket.close()
        self.withdraw()

    def withdraw(self) -> None:
        """Remove the socket unless another one has replaced it."""
        if self._identity is not None and _identity(self.path) == self._identity:
            self.path.unlink(missing_ok=True)


def listen(folder: Path) -> ListeningSocket:
    """Create the control socket in a folder, replacing one that a killed process left.

    It is created under another name, closed to others, and renamed once it listens: no client finds
    it unfinished, and of two processes that begin at once neither removes the other's.

    Raises:
        ControlError: another process listens there, or something else has the name.
        OSError: the file system has no room for it, or no sockets.
    """
    path = folder / SOCKET_NAME
    _check_unused(path)
    temporary = folder / f"{SOCKET_NAME}.{os.getpid()}.tmp"
    temporary.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with reachable(temporary) as address:
            listening.bind(address)
        temporary.chmod(0o600)  # no client can connect before listen()
        listening.listen(BACKLOG)
        listening.setblocking(False)
        temporary.rename(path)
    except BaseException:
        listening.close()
        temporary.unlink(missing_ok=True)
        raise
    return ListeningSocket(listening, path)


def connect(folder: Path, timeout_s: float) -> socket.socket:
    """Return a connection to a run's control socket.

    Args:
        folder: the run's folder.
        timeout_s: how long to wait, in s.

    Raises:
        FileNotFoundError: the run has no socket.
        ConnectionRefusedError: no process listens, because it is gone.
        TimeoutError: the process that listens does not take connections.
        ControlError: it is not a socket, or another user's.
    """
    path = folder / SOCKET_NAME
    _check_is_socket(path)
    deadline_s = time.monotonic() + timeout_s
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout_s)
        while True:
            try:
                with reachable(path) as address:
                    connection.connect(address)
                break
            except BlockingIOError:  # the queue is full
                if time.monotonic() > deadline_s:
                    raise TimeoutError("the run takes no connections") from None
                time.sleep(_BACKLOG_PAUSE_S)
        check_peer(connection.getsockopt)  # before anything is sent
    except BaseException:
        connection.close()
        raise
    return connection


def is_listening(path: Path) -> bool:
    """Return whether a process listens at a socket."""
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    probe.setblocking(False)
    try:
        with reachable(path) as address:
            probe.connect(address)
    except BlockingIOError:
        return True  # the queue is full
    except (ConnectionRefusedError, FileNotFoundError):
        return False
    finally:
        probe.close()
    return True


def _check_unused(path: Path) -> None:
    try:
        _check_is_socket(path)
    except FileNotFoundError:
        return
    if is_listening(path):
        raise ControlError(
            f"another process, which runs another attempt of this run, listens at {path}; steer "
            "this one from its own process"
        )


def _check_is_socket(path: Path) -> None:
    # Not followed: a link in a stranger's run may lead to any socket of this machine.
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise ControlError(f"{path} is not a socket; move it away")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def reachable(path: Path) -> Iterator[str]:
    """Provide a name for a socket's path that is short enough for the kernel.

    Raises:
        ControlError: there is no short name.
    """
    if len(os.fsencode(path)) <= MAX_PATH_BYTES:
        yield str(path)
    elif _OPEN_FOLDERS.is_dir():
        fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield f"{_OPEN_FOLDERS}/{fd}/{path.name}"
        finally:
            os.close(fd)
    else:
        with tempfile.TemporaryDirectory(prefix="nb-") as folder:  # 0700
            link = Path(folder) / "r"
            link.symlink_to(path.parent.absolute(), target_is_directory=True)
            short = link / path.name
            if len(os.fsencode(short)) > MAX_PATH_BYTES:
                raise ControlError(
                    f"{short} is too long for a socket: {MAX_PATH_BYTES} bytes are possible; "
                    "choose a shorter folder for temporary files with TMPDIR"
                )
            yield str(short)
