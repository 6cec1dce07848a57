"""Which errors say that the process has run out of something that it may get back."""

import errno

NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)
_SHORT_OF = (*NO_DESCRIPTOR, errno.ENOMEM, errno.EAGAIN)


def is_shortage(error: BaseException) -> bool:
    """Whether an error says that there are no file descriptors, no memory or no threads now: it is
    nobody's fault, and what failed may be done later.
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
