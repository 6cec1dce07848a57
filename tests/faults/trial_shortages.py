"""What a trial's training runs short of: file descriptors for some batches, or the thread beside
the step, which an actor keeps to itself.
"""

import contextlib
import resource
import time
from collections.abc import Iterator
from typing import Any, Literal

import nightbus as nb

Greed = Literal["", "holds", "tells itself"]


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """While it is entered, no file can be opened in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class NoDescriptors(nb.Callback):
    """From a batch on no file can be opened in this process, for some batches or up to the end.

    Args:
        after: how many batches of this process come before.
        number: for how many.
    """

    def __init__(self, after: int, number: int) -> None:
        self._after, self._until = after, after + number
        self._batches = 0
        self._soft, self._hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def on_train_batch_end(self, *_: Any) -> None:
        self._batches += 1
        if self._batches == self._after:
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, self._hard))
        if self._batches == self._until:
            self._end()

    def on_train_end(self, *_: Any) -> None:
        self._end()

    def on_exception(self, *_: Any) -> None:
        self._end()

    def _end(self) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (self._soft, self._hard))


class Holds(nb.Actor):
    """Sleeps where it should await."""

    name = "greedy"

    @nb.on(nb.Put, name="noise")
    async def hold(self, put: nb.Put) -> None:
        time.sleep(0.03)  # noqa: ASYNC251 - what it is here to show


class Again(nb.Command, frozen=True):
    """Do it again."""


class TellsItself(nb.Actor):
    """Has another command as soon as it has handled one."""

    name = "greedy"

    @nb.on(nb.RunStarted)
    async def begin(self, started: nb.RunStarted) -> None:
        self.tell(self.name, Again())

    @nb.on(Again)
    async def again(self, command: Again) -> None:
        self.tell(self.name, Again())


def greedy_actors(greed: Greed) -> list[nb.Actor]:
    """The actor of a trial with one."""
    if not greed:
        return []
    return [Holds() if greed == "holds" else TellsItself()]
