"""Two names change places on disk, without a moment in which one of them is free."""

import ctypes
import errno
import os
from pathlib import Path

_HERE = -100  # AT_FDCWD
_EXCHANGE = 2  # RENAME_EXCHANGE
# What a kernel or a file system answers that cannot do it.
_CANNOT = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM)


def exchange(first: Path, second: Path) -> bool:
    """Have each of two files or folders called as the other was.

    Returns:
        Whether it was done; False where the system or the file system has no such call.

    Raises:
        OSError: one of them is not there, or the disk failed.
    """
    # By name, in each call: it is rare, and a library that is loaded at import costs every start.
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:  # not Linux, or a C library that is older than the call
        return False
    if call(_HERE, os.fsencode(first), _HERE, os.fsencode(second), _EXCHANGE) == 0:
        return True
    error = ctypes.get_errno()
    if error in _CANNOT:
        return False
    raise OSError(error, os.strerror(error), str(first), None, str(second))
