"""Recognises errors of a process that has temporarily run out of something."""

import errno

NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)
_SHORT_OF = (*NO_DESCRIPTOR, errno.ENOMEM, errno.EAGAIN)


def is_shortage(error: BaseException) -> bool:
    """Return whether an error means that no file descriptor, memory or thread is available now.

    What failed so may succeed later.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or (
            isinstance(cause, OSError) and cause.errno in _SHORT_OF
        ):
            return True
        if isinstance(cause, RuntimeError) and "can't start new thread" in str(cause):
            return True
        if isinstance(cause, ImportError) and "Too many open files" in str(cause):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
