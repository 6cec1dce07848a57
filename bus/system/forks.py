"""What a forked child has of its parent's run: nothing that it may touch.

A child that is forked finds files, mappings, sockets and locks of the run as its parent has them,
but none of the threads that work with them. The run stays its parent's: whatever owns a part of it
gives that part up in the child, at once, and takes no lock to do so, because a thread that is not
there may hold it. Whoever would go on with the run in the child is refused.
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
    """Has something that is the process's own: a file, a thread, a socket, a signal's handler."""

    def leave_to_parent(self) -> None:
        """Called in a forked child, right after the fork: give up what is the parent's."""


def leave_when_forked(owner: Owner) -> None:
    """Have ``owner.leave_to_parent()`` called in every child that is forked while it lives."""
    _owners.add(owner)


def keep_when_forked(owner: Owner) -> None:
    """Call it no more: the owner has nothing that a child could touch."""
    _owners.discard(owner)


def is_loader_worker() -> bool:
    """Whether this process was forked to load data, somewhere above in its parents."""
    return _Process.loads_data


def refusal(what: str) -> ForkedChildError:
    """Why a forked child may not do something.

    Args:
        what: what it tried, a call say.
    """
    if _Process.loads_data:
        return ForkedChildError(
            f"{what} in a dataloader's worker, a forked process: the run is its parent's, and a "
            "value would be lost here. Return it with the batch, and put or log it in a hook; or "
            "load with num_workers=0"
        )
    return ForkedChildError(
        f"{what} in a process that was forked from the one that trains: the run is its parent's. "
        "Hand what you have to the parent, through a multiprocessing.Queue say, end the child with "
        "os._exit(), or give it a Trainer of its own"
    )


def child_process() -> str:
    """What this process is to the one that trains, for a message; empty if it is none's child."""
    if _Process.loads_data:
        return "a dataloader's worker"
    return "a child process" if multiprocessing.parent_process() is not None else ""


class _Process:
    """What is known of this process."""

    loads_data = False


_owners: weakref.WeakSet[Owner] = weakref.WeakSet()


def _leave_all_to_parent() -> None:
    _Process.loads_data = _Process.loads_data or _is_forked_by_loader()
    for owner in list(_owners):
        try:
            owner.leave_to_parent()
        except Exception:  # the others all the same; what a fork's hooks raise, Python only prints
            sys.excepthook(*sys.exc_info())


def _is_forked_by_loader() -> bool:
    """Whether a DataLoader starts its workers; asked where they fork."""
    frame = sys._getframe()
    while (outer := frame.f_back) is not None:
        frame = outer
        if str(frame.f_globals.get("__name__")).startswith(_LOADERS):
            return True
    return False


# -- signals that come while a process forks -----------------------------------------------------

# In a child they would reach the handlers of its parent's run, where Python drops them: a child
# that is ended right after it was forked would live on. So they wait until it has its own again.
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
