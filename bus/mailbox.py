"""Commands waiting for an actor, and replies on their way back."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, NamedTuple

import trio

from .errors import AskTimeoutError
from .events import Command

MAILBOX_CAPACITY = 1000


class Reply:
    """The answer to one ``ask``: set once, from any thread."""

    def __init__(self) -> None:
        self._future: Future[Any] = Future()

    def set(self, value: object) -> None:
        """Give the answer; later ones are ignored."""
        if not self._future.done():
            self._future.set_result(value)

    def fail(self, error: Exception) -> None:
        """Say that there is no answer."""
        if not self._future.done():
            self._future.set_exception(error)

    def wait(self, timeout_s: float) -> Any:
        """Wait for the answer in a thread.

        Raises:
            AskTimeoutError: there was none in time.
        """
        try:
            return self._future.result(timeout_s)
        except FutureTimeoutError:
            raise _late(timeout_s) from None

    async def wait_async(self, timeout_s: float) -> Any:
        """Wait for the answer in a trio task.

        Raises:
            AskTimeoutError: there was none in time.
        """
        arrived = trio.Event()
        token = trio.lowlevel.current_trio_token()
        self._future.add_done_callback(lambda _: token.run_sync_soon(arrived.set))
        with trio.move_on_after(timeout_s):
            await arrived.wait()
        if not self._future.done():
            raise _late(timeout_s)
        return self._future.result()


def _late(timeout_s: float) -> AskTimeoutError:
    return AskTimeoutError(f"no reply within {timeout_s} s; the command may still be acted on")


class Envelope(NamedTuple):
    """A command on its way."""

    command: Command
    sender: str
    reply: Reply | None


class Mailbox:
    """Commands for one actor, in order; any thread may post, the actor's own thread takes.

    Args:
        arrived: called after each post, from the poster's thread; must not block.
    """

    def __init__(self, arrived: Callable[[], None] | None = None) -> None:
        self._waiting: deque[Envelope] = deque()
        self._arrived = arrived
        self.is_open = True

    def post(self, envelope: Envelope) -> str:
        """Add a command; returns why not, or an empty string."""
        if not self.is_open:
            return "the actor has stopped"
        if len(self._waiting) >= MAILBOX_CAPACITY:
            return f"the mailbox is full: {MAILBOX_CAPACITY} commands are waiting"
        self._waiting.append(envelope)
        if self._arrived is not None:
            self._arrived()
        return ""

    def take(self) -> Envelope | None:
        """The next command, or None."""
        try:
            return self._waiting.popleft()
        except IndexError:
            return None

    def close(self) -> list[Envelope]:
        """Refuse further commands; returns those nobody took."""
        self.is_open = False
        left = list(self._waiting)
        self._waiting.clear()
        return left

    def __len__(self) -> int:
        return len(self._waiting)
