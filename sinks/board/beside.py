"""The program of the process in which the board of a run serves, beside training.

Its standard input is a pipe that only the training process holds: what to serve comes first, and
the end of the pipe is the end of that process, however it came.
"""

import os
import socket
import sys
from pathlib import Path

import msgspec
import trio

from .page_files import page_files
from .server import serve
from .shelf import Shelf

_NICE = 10  # training goes first
_LAST_LOOK_S = 2.0  # in which pages are told how the run ended


class Order(msgspec.Struct, frozen=True):
    """What to serve.

    Attributes:
        root: the folder of runs.
        page: the folder of the built page.
        fd: number of the socket that listens, which this process has inherited.
        host: the address or name that it listens on.
        token: what has to be sent with each question.
        stays: go on when the training process has ended.
        steers: pages may steer runs.
    """

    root: str
    page: str
    fd: int
    host: str
    token: str
    stays: bool
    steers: bool


async def _serve(order: Order) -> None:
    async def until_stopped() -> None:
        if order.stays:
            await trio.sleep_forever()
        async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as training:
            while await training.receive_some():
                pass
        await trio.sleep(_LAST_LOOK_S)

    with socket.socket(fileno=order.fd) as listener:
        shelf = Shelf(Path(order.root))
        files = page_files(Path(order.page))
        where = (shelf, files, listener, order.host, order.token)
        await serve(*where, until_stopped, order.steers)


if __name__ == "__main__":
    os.nice(_NICE)
    trio.run(_serve, msgspec.json.decode(sys.stdin.buffer.readline(), type=Order))
