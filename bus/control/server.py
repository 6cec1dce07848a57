"""ControlServer: the run's end of the control socket, on the bus thread.

Training never waits for it, and no client can block it: one request a connection, a deadline for
each part, a few connections at a time. A malformed request is answered with an error.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
import trio

from ..errors import ActorStoppedError, AskTimeoutError, ControlError
from ..events import Command
from ..mail.mailbox import Told
from ..mail.reply import Reply
from ..system.logging_setup import get_logger
from .named_command import Directory, encoded_reply, is_too_long, named_command
from .protocol import (
    COMMAND,
    MAX_LINE_BYTES,
    STATUS,
    Answer,
    Request,
    RunStatus,
    decode_request,
    encode_line,
)
from .socket import ListeningSocket, check_peer, listen
from .verbs import command_of

MAX_CONNECTIONS = 8
REQUEST_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 2.0
SENDER = "nightbus send"
"""How the name begins under which commands come from the socket."""

_log = get_logger("nightbus.control")


class Steered(NamedTuple):
    """The run as the socket sees it.

    Attributes:
        target: the actor that takes commands.
        takes_commands: it has safe points, where commands are taken.
        status: where the run is; called on the bus thread, so it only looks.
    """

    target: str
    takes_commands: bool
    status: Callable[[], RunStatus]


class Postbox(Protocol):
    """Delivers commands: the bus."""

    def post(self, target: str, command: Command, sender: str, reply: Reply | None) -> Told:
        """Deliver a command, or make a dead letter of it.

        Args:
            target: the address of the actor.
            command: the command.
            sender: the name of the sender.
            reply: where to set the reply; None if none is expected.

        Returns:
            An awaitable that waits for room in the mailbox.
        """


class ControlServer:
    """Serves one run's control socket.

    Args:
        folder: the run's folder.
        steered: the run.
        postbox: delivers commands.
        directory: knows who takes which commands.
    """

    def __init__(
        self, folder: Path, steered: Steered, postbox: Postbox, directory: Directory
    ) -> None:
        self._folder = folder
        self._steered = steered
        self._postbox = postbox
        self._directory = directory
        self._connections = 0
        self._unanswered: set[Reply] = set()
        self._listening: ListeningSocket | None = None

    async def run(self) -> None:
        """Serve until cancelled.

        If the socket cannot be created, a warning is logged and the run goes on.
        """
        try:
            listening = listen(self._folder)
        except (OSError, ControlError) as error:
            _log.warning("the run cannot be steered from outside", error=str(error))
            return
        self._listening = listening
        try:
            await self._serve(listening)
        finally:
            listening.close()

    def withdraw(self) -> None:
        """Remove the socket from another thread, because the thread that serves it is blocked.

        The run is over, and no client should connect.
        """
        if self._listening is not None:
            self._listening.withdraw()

    async def _serve(self, listening: ListeningSocket) -> None:
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening.socket))
        async with trio.open_nursery() as connections:
            try:
                await trio.serve_listeners(self._attend, [listener], handler_nursery=connections)
            finally:
                # The run is over: pending requests will not be done, and are answered so.
                for reply in self._unanswered:
                    reply.fail(ActorStoppedError("the run ended before it was done"))

    async def _attend(self, stream: trio.SocketStream) -> None:
        """Serve one connection; its errors do not go beyond this."""
        self._connections += 1
        try:
            async with stream:
                await self._converse(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as error:
            _log.debug("a control connection broke", error=str(error))
        except Exception as error:
            _log.warning("a control connection failed", exc_info=error)
        finally:
            self._connections -= 1

    async def _converse(self, stream: trio.SocketStream) -> None:
        try:
            peer = check_peer(stream.getsockopt)
        except ControlError as error:
            _log.warning("a control connection was refused", error=str(error))
            return
        if self._connections > MAX_CONNECTIONS:
            await _send(stream, Answer("busy", f"{MAX_CONNECTIONS} others are connected"))
            return
        try:
            request = decode_request(await _receive_line(stream))
        except ControlError as error:
            await _send(stream, Answer("refused", str(error)))
            return
        # The end of the run does not cut off an answer: all commands are taken or dead by then.
        with trio.CancelScope(shield=True):
            answer = await self._answer(stream, request, f"{SENDER} (pid {peer.pid})")
            if answer is not None:
                await _send(stream, answer)

    async def _answer(
        self, stream: trio.SocketStream, request: Request, sender: str
    ) -> Answer | None:
        """Return the answer to a request; None if the client has disconnected."""
        status, target = self._steered.status, self._steered.target
        if request.verb == STATUS:
            return Answer("done", status=status())
        try:
            if request.verb == COMMAND:
                target = request.to or target
                command = named_command(request, target, self._directory)
            else:
                command = command_of(request)
        except ControlError as error:
            return Answer("refused", str(error))
        waits = self._directory.waits_for_safe_point(target)
        if waits and not self._steered.takes_commands:
            reason = f"{status().fn} takes no commands; Ctrl-C ends it (kill -INT {status().pid})"
            return Answer("failed", reason, status())
        reply = Reply()
        self._unanswered.add(reply)
        try:
            told = self._postbox.post(target, command, sender, reply)
            has_reply, value = await _unless_hung_up(stream, reply, told, request.timeout_s)
        except AskTimeoutError:
            where = "the next safe point, which comes between two training batches"
            reason = (
                f"not done within {request.timeout_s:g} s; it waits for "
                f"{where if waits else f'{target} to take it, or to be done with it'}"
            )
            return Answer("late", reason, status())
        except Exception as error:  # the handler's own, which ends the run by itself
            return Answer("failed", str(error) or type(error).__name__, status())
        finally:
            self._unanswered.discard(reply)
        if not has_reply:
            return None
        if request.verb != COMMAND:
            return Answer("done", str(value), status())
        raw = encoded_reply(value)
        if is_too_long(raw):
            said = f"done; its reply takes {len(raw)} bytes, more than an answer takes"
            return Answer("done", said, status())
        return Answer("done", "", status(), msgspec.Raw(raw))


async def _unless_hung_up(
    stream: trio.SocketStream, reply: Reply, told: Told, timeout_s: float
) -> tuple[bool, Any]:
    """Return whether there is a reply, and the reply.

    There is none if the client disconnects or sends more before.

    Raises:
        AskTimeoutError: there is none in time.
        Exception: what the command's handler raised.
    """
    replied: tuple[bool, Any] = False, None
    failure: Exception | None = None

    async def wait() -> None:
        nonlocal replied, failure
        try:
            replied = True, await reply.wait_async(timeout_s, told)
        except Exception as error:
            failure = error
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        try:
            await stream.receive_some(1)
        except trio.BrokenResourceError as error:
            _log.debug("a control connection broke", error=str(error))
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return replied


async def _receive_line(stream: trio.SocketStream) -> bytes:
    """Return one line.

    Raises:
        ControlError: it is too long, cut off, or does not come.
    """
    received = bytearray()
    with trio.move_on_after(REQUEST_TIMEOUT_S):
        while len(received) <= MAX_LINE_BYTES:
            chunk = await stream.receive_some(MAX_LINE_BYTES + 1 - len(received))
            if not chunk:
                raise ControlError("the request ends before its line does")
            received += chunk
            line, newline, _ = received.partition(b"\n")
            if newline:
                return bytes(line)
        raise ControlError(f"the request is longer than {MAX_LINE_BYTES} bytes")
    raise ControlError(f"no whole request came within {REQUEST_TIMEOUT_S:g} s")


async def _send(stream: trio.SocketStream, answer: Answer) -> None:
    with trio.move_on_after(ANSWER_TIMEOUT_S) as scope:
        await stream.send_all(encode_line(answer))
    if scope.cancelled_caught:
        _log.debug("a client did not take an answer", kind=answer.kind)
