"""Serves the board on this machine until it is stopped."""

import logging
import signal
import socket
from collections.abc import Callable
from typing import Any, cast

import trio

from .address import HOST, address_of, listening, place_of
from .kept_token import token_for
from .packages import refuse_missing_packages
from .page_files import page_files
from .shelf import Shelf

_GRACE_S = 0.2  # for answers under way, once it is stopped


def serve_board(
    shelf: Shelf,
    announce: Callable[[str], None],
    host: str = HOST,
    port: int | None = None,
    steers: bool = False,
) -> None:
    """Serve the board until SIGINT or SIGTERM.

    Args:
        shelf: the runs.
        announce: is called with the address once it can be opened.
        host: the address or name to listen on.
        port: 0 for any free one; the usual one if not given, or any if that is in use.
        steers: pages may steer runs.

    Raises:
        MissingPackageError: a package of the extra ``board`` is missing.
        UsageError: it cannot listen there, or the page is not built.
        RunFolderError: there is no such folder of runs.
    """
    refuse_missing_packages()
    files = page_files()
    shelf.table()
    listener = listening(host, port)
    trio.run(_serve, shelf, files, listener, host, announce, steers)


async def _serve(
    shelf: Shelf,
    files: Any,
    listener: socket.socket,
    host: str,
    announce: Callable[[str], None],
    steers: bool,
) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:

        async def until_stopped() -> None:
            async for _ in signals:
                return

        token = token_for(host)
        async with trio.open_nursery() as nursery:
            await nursery.start(serve, shelf, files, listener, host, token, until_stopped, steers)
            announce(address_of(listener, host, token))


async def serve(
    shelf: Shelf,
    files: Any,
    listener: socket.socket,
    host: str,
    token: str,
    until_stopped: Callable[[], Any],
    steers: bool = False,
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
        steers: pages may steer runs.
        task_status: is told when it serves.
    """
    from hypercorn.config import Config
    from hypercorn.trio import serve as serve_with_hypercorn

    from .app import BoardApp
    from .guard import Guard
    from .steering import Steering

    steering = Steering() if steers else None
    app = BoardApp(shelf, files, steering)
    config = Config()
    config.bind = [f"fd://{listener.dup().detach()}"]
    config.include_server_header = False
    config.graceful_timeout = _GRACE_S
    config.errorlog = logging.getLogger("nightbus.board")
    config.accesslog = None

    secret = steering.token if steering else ""
    guarded = cast("Any", Guard(app.starlette, token, host, secret, place_of(listener)))
    async with trio.open_nursery() as nursery:

        async def listen(task_status: trio.TaskStatus[list[str]]) -> None:
            await serve_with_hypercorn(
                guarded, config, shutdown_trigger=until_stopped, task_status=task_status
            )
            nursery.cancel_scope.cancel()

        nursery.start_soon(app.live.watch)
        await nursery.start(listen)
        task_status.started()
