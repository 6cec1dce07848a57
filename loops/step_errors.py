"""Errors of a module's steps that would mean something else to the loops."""

from ..bus.errors import UsageError


def exhausted(step: str) -> UsageError:
    """Return the error for a StopIteration of a module's step, which would end its loop silently.

    Args:
        step: the step that raised it.
    """
    return UsageError(
        f"{step} raised StopIteration: an iterator that it reads with next() has ended; give "
        "next() a default, or begin the iterator again. To end an epoch early, return -1 from "
        "on_train_batch_start"
    )
