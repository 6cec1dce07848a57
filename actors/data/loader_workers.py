"""Keeps forked children from ending the workers of dataloaders."""

import multiprocessing.process
import weakref
from collections.abc import Iterator
from typing import Any

from ...bus.system.forks import leave_when_forked


def owned(iterator: Iterator[Any]) -> Iterator[Any]:
    """Return a pass over a loader, whose workers, if any, a forked child leaves alone."""
    if hasattr(iterator, "_shutdown_workers"):
        _passes.iterators.add(iterator)
    return iterator


class _Passes:
    """The current passes with workers."""

    def __init__(self) -> None:
        self.iterators: weakref.WeakSet[Any] = weakref.WeakSet()
        leave_when_forked(self)

    def leave_to_parent(self) -> None:
        """Keep a forked child from ending its parent's workers.

        A deleted iterator ends its workers, and so does a process that exits if it was not forked
        by multiprocessing.
        """
        for iterator in list(self.iterators):
            iterator._shutdown = True  # torch's flag: the workers were told already
            for worker in getattr(iterator, "_workers", ()):
                multiprocessing.process._children.discard(worker)  # type: ignore[attr-defined]
        self.iterators.clear()


_passes = _Passes()
