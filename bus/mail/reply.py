"""The reply to a command, which always comes: a value or a typed failure."""

import contextlib
import math
from collections.abc import Awaitable
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

import trio

from ..errors import AskTimeoutError, UsageError


class Reply:
    """The reply to one ``ask``: set once, from any thread."""

    def __init__(self) -> None:
        self._future: Future[Any] = Future()

    def set(self, value: object) -> None:
        """Set the reply; later ones are ignored."""
        with contextlib.suppress(InvalidStateError):  # set already: it may come from two threads
            self._future.set_result(value)

    def fail(self, error: Exception) -> None:
        """Set an error as the reply."""
        with contextlib.suppress(InvalidStateError):
            self._future.set_exception(error)

    def pass_on(self, other: "Reply") -> None:
        """Give another command the same reply, once it is there.

        Args:
            other: its reply.
        """

        def pass_on(found: Future[Any]) -> None:
            error = found.exception()
            if isinstance(error, Exception):
                other.fail(error)
            else:
                other.set(found.result())

        self._future.add_done_callback(pass_on)

    def wait(self, timeout_s: float) -> Any:
        """Block until the reply is there.

        Args:
            timeout_s: how long to wait, in s.

        Raises:
            AskTimeoutError: there was no reply in time.
        """
        try:
            return self._future.result(timeout_s)
        except FutureTimeoutError:
            if self._future.done():
                raise  # the handler's own TimeoutError
            raise _late(timeout_s) from None

    async def wait_async(self, timeout_s: float, posted: Awaitable[None] | None = None) -> Any:
        """Wait for the reply in a trio task.

        Args:
            timeout_s: how long to wait, in s.
            posted: awaited first, because the command may have to wait for room in a mailbox.

        Returns:
            The reply's value.

        Raises:
            AskTimeoutError: there was no reply in time.
        """
        arrived = trio.Event()
        token = trio.lowlevel.current_trio_token()

        def announce(_: object) -> None:
            with contextlib.suppress(trio.RunFinishedError):  # no task waits any more
                token.run_sync_soon(arrived.set)

        self._future.add_done_callback(announce)
        with trio.move_on_after(timeout_s):
            if posted is not None:
                await posted
            await arrived.wait()
        if not self._future.done():
            raise _late(timeout_s)
        return self._future.result()


def check_deadline(timeout_s: float) -> None:
    """Check that a wait has an end.

    Raises:
        UsageError: the timeout is not a finite number of seconds from 0.
    """
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float):
        raise UsageError(f"timeout_s={timeout_s!r}: expected seconds; an ask always has a deadline")
    if not 0 <= timeout_s < math.inf:
        raise UsageError(
            f"timeout_s={timeout_s}: expected seconds from 0; an ask always has a deadline, so "
            "infinity is none"
        )


def _late(timeout_s: float) -> AskTimeoutError:
    return AskTimeoutError(f"no reply within {timeout_s} s; the command may still be acted on")
