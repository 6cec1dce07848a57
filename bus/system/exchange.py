"""Swaps two names on disk atomically."""

import ctypes
import errno
import os
from pathlib import Path

_HERE = -100  # AT_FDCWD
_EXCHANGE = 2  # RENAME_EXCHANGE
# Errors of kernels or file systems without this call.
_CANNOT = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM)


def exchange(first: Path, second: Path) -> bool:
    """Swap the names of two files or folders.

    Args:
        first: one of them.
        second: the other.

    Returns:
        Whether it was done; False if the system or the file system has no such call.

    Raises:
        OSError: one of them does not exist, or the disk failed.
    """
    # Looked up in each call: it is rare, and loading a library at import would slow every start.
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:  # not Linux, or a C library older than the call
        return False
    if call(_HERE, os.fsencode(first), _HERE, os.fsencode(second), _EXCHANGE) == 0:
        return True
    error = ctypes.get_errno()
    if error in _CANNOT:
        return False
    raise OSError(error, os.strerror(error), str(first), None, str(second))
