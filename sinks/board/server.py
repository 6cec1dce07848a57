"""Serves the board on this machine until it is stopped."""

import logging
import signal
import socket
from collections.abc import Callable
from importlib import import_module
from typing import Any, cast

import trio

from ...bus.errors import MissingPackageError, UsageError
from .page_files import page_files
from .shelf import Shelf

HOST, PORT = "127.0.0.1", 7979
_GRACE_S = 0.2  # for answers under way, once it is stopped


def serve_board(
    shelf: Shelf, announce: Callable[[str], None], host: str = HOST, port: int | None = None
) -> None:
    """Serve the board until SIGINT or SIGTERM.

    Args:
        shelf: the runs.
        announce: is called with the address once it can be opened.
        host: the address or name to listen on.
        port: 0 for any free one; the usual one if not given, or any if that is in use.

    Raises:
        MissingPackageError: a package of the extra ``board`` is missing.
        UsageError: it cannot listen there, or the page is not built.
        RunFolderError: there is no such folder of runs.
    """
    refuse_missing_packages()
    files = page_files()
    shelf.table()
    listener = listening(host, port)
    trio.run(_serve, shelf, files, listener, host, announce)


def refuse_missing_packages() -> None:
    """Refuse to serve where a package of the extra ``board`` is missing.

    Raises:
        MissingPackageError: one is missing.
    """
    for package in ("starlette", "hypercorn"):
        try:
            import_module(package)
        except ImportError:
            raise MissingPackageError("nightbus board", package, "board") from None


def listening(host: str, port: int | None) -> socket.socket:
    """Return a socket that listens.

    Args:
        host: the address or name to listen on.
        port: 0 for any free one; the usual one if not given, or any if that is in use.

    Raises:
        UsageError: that is not possible; the message says why.
    """
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)[0]
        for each in (PORT, 0) if port is None else (port,):
            listener = socket.socket(family, kind)
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((place[0], each, *place[2:]))
                listener.listen(128)
                return listener
            except OSError:
                listener.close()
                if each == 0 or port is not None:
                    raise
        raise AssertionError("unreachable")
    except (OSError, OverflowError) as error:
        at = host if port is None else f"{host}:{port}"
        raise UsageError(f"the board cannot listen on {at}: {error}; choose another") from error


async def _serve(
    shelf: Shelf,
    files: Any,
    listener: socket.socket,
    host: str,
    announce: Callable[[str], None],
) -> None:
    from .guard import new_token

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:

        async def until_stopped() -> None:
            async for _ in signals:
                return

        token = new_token()
        async with trio.open_nursery() as nursery:
            await nursery.start(serve, shelf, files, listener, host, token, until_stopped)
            announce(address_of(listener, host, token))


def address_of(listener: socket.socket, host: str, token: str) -> str:
    """Return the address to open; what is behind the # is never sent to any server.

    Args:
        listener: the socket that listens.
        host: the address or name that was asked for.
        token: what the page has to send with each question.
    """
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}/#token={token}"


async def serve(
    shelf: Shelf,
    files: Any,
    listener: socket.socket,
    host: str,
    token: str,
    until_stopped: Callable[[], Any],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the board on a socket.

    Args:
        shelf: the runs.
        files: the page's.
        listener: the socket that listens.
        host: the address or name that was asked for.
        token: what has to be sent with each question.
        until_stopped: returns when it is to stop.
        task_status: is told when it serves.
    """
    from hypercorn.config import Config
    from hypercorn.trio import serve as serve_with_hypercorn

    from .app import BoardApp
    from .guard import Guard

    app = BoardApp(shelf, files)
    config = Config()
    config.bind = [f"fd://{listener.dup().detach()}"]
    config.include_server_header = False
    config.graceful_timeout = _GRACE_S
    config.errorlog = logging.getLogger("nightbus.board")
    config.accesslog = None

    guarded = cast("Any", Guard(app.starlette, token, host))
    async with trio.open_nursery() as nursery:

        async def listen(task_status: trio.TaskStatus[list[str]]) -> None:
            await serve_with_hypercorn(
                guarded, config, shutdown_trigger=until_stopped, task_status=task_status
            )
            nursery.cancel_scope.cancel()

        nursery.start_soon(app.live.watch)
        await nursery.start(listen)
        task_status.started()
