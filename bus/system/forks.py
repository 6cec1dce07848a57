"""Keeps forked children from touching their parent's run.

A forked child has the files, mappings, sockets and locks of the run, but none of the threads that
work with them. The run stays its parent's: each owner of a part of it gives that part up in the
child at once, without taking a lock, because a thread that does not exist there may hold it. Code
that tries to continue the run in the child gets an error.
"""

import multiprocessing
import os
import signal
import sys
import threading
import weakref
from typing import Protocol

from ..errors import ForkedChildError

_LOADERS = ("torch.utils.data", "torchdata")


class Owner(Protocol):
    """Owns something that belongs to one process: a file, thread, socket or signal handler."""

    def leave_to_parent(self) -> None:
        """Give up what is the parent's; called in a forked child, right after the fork."""


def leave_when_forked(owner: Owner) -> None:
    """Have ``owner.leave_to_parent()`` called in every child forked while the owner exists."""
    _owners.add(owner)


def keep_when_forked(owner: Owner) -> None:
    """Stop calling it: the owner has nothing left that a child could touch."""
    _owners.discard(owner)


def is_loader_worker() -> bool:
    """Return whether this process, or a parent of it, was forked to load data."""
    return _Process.loads_data


def refusal(what: str) -> ForkedChildError:
    """Return the error for something that a forked child may not do.

    Args:
        what: what it tried, such as a call.
    """
    if _Process.loads_data:
        return ForkedChildError(
            f"{what} in a dataloader's worker, a forked process: the run is its parent's, and a "
            "value would be lost here. Return it with the batch, and put or log it in a hook; or "
            "load with num_workers=0"
        )
    return ForkedChildError(
        f"{what} in a process that was forked from the one that trains: the run is its parent's. "
        "Send data to the parent, for example through a multiprocessing.Queue, end the child with "
        "os._exit(), or create a Trainer in it"
    )


def child_process() -> str:
    """Return what this process is to the training process, for a message; empty if no child."""
    if _Process.loads_data:
        return "a dataloader's worker"
    return "a child process" if multiprocessing.parent_process() is not None else ""


class _Process:
    """Facts about this process."""

    loads_data = False


_owners: weakref.WeakSet[Owner] = weakref.WeakSet()


def _leave_all_to_parent() -> None:
    _Process.loads_data = _Process.loads_data or _is_forked_by_loader()
    for owner in list(_owners):
        try:
            owner.leave_to_parent()
        except Exception:  # continue with the others; Python only prints what fork hooks raise
            sys.excepthook(*sys.exc_info())


def _is_forked_by_loader() -> bool:
    """Return whether a DataLoader is starting its workers; called where they fork."""
    frame = sys._getframe()
    while (outer := frame.f_back) is not None:
        frame = outer
        if str(frame.f_globals.get("__name__")).startswith(_LOADERS):
            return True
    return False


# -- signals that arrive during a fork -----------------------------------------------------------

# In a child they would reach the handlers of its parent's run, and Python would drop them: a child
# that is terminated right after the fork would live on. So they wait until it has its own handlers.
_WAITING = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP}
_forking = threading.local()


def _hold_signals() -> None:
    _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _WAITING)


def _let_signals_through() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _forking.mask)


def _begin_child() -> None:
    _leave_all_to_parent()
    _let_signals_through()


os.register_at_fork(
    before=_hold_signals, after_in_parent=_let_signals_through, after_in_child=_begin_child
)
