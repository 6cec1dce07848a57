"""Whether a process of this machine runs, though nothing is heard of it."""

import socket
import struct
import sys
from pathlib import Path

_UCRED = struct.Struct("3i")  # Linux: pid, uid, gid


def pid_of(connected: socket.socket) -> int:
    """Return the process at the other end of a Unix socket, as the kernel knows it; 0 if unknown.

    Args:
        connected: the socket.
    """
    if connected.family != socket.AF_UNIX or sys.platform != "linux":
        return 0
    peer = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return int(_UCRED.unpack(peer)[0])


def runs(pid: int) -> bool:
    """Return whether a process is there and is not stopped; False if that cannot be known.

    Args:
        pid: its number; 0 if it is unknown.
    """
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    except OSError:
        return False
    return after_name.split()[0] not in ("T", "t", "Z", "X")
