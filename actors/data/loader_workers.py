"""Worker processes of dataloaders, which end when their iterator does: not so in a forked child."""

import multiprocessing.process
import weakref
from collections.abc import Iterator
from typing import Any

from ...bus.system.forks import leave_when_forked


def owned(iterator: Iterator[Any]) -> Iterator[Any]:
    """A pass over a loader, whose workers, if it has any, a forked child leaves alone."""
    if hasattr(iterator, "_shutdown_workers"):
        _passes.iterators.add(iterator)
    return iterator


class _Passes:
    """The passes with workers that go on."""

    def __init__(self) -> None:
        self.iterators: weakref.WeakSet[Any] = weakref.WeakSet()
        leave_when_forked(self)

    def leave_to_parent(self) -> None:
        """An iterator that goes tells its workers to end, and a process that exits ends those of
        its parent, too, if it was not multiprocessing that forked it.
        """
        for iterator in list(self.iterators):
            iterator._shutdown = True  # torch's word for: it was told already
            for worker in getattr(iterator, "_workers", ()):
                multiprocessing.process._children.discard(worker)  # type: ignore[attr-defined]
        self.iterators.clear()


_passes = _Passes()
