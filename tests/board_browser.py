"""The board's page in a real browser: boards that serve, pages that are opened, runs to look at."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio
from board_asked import TOKEN, begun
from recorded_runs import SECOND_NS, RecordedRun

import nightbus as nb
from nightbus.sinks.board.address import address_of, listening
from nightbus.sinks.board.page_files import page_files
from nightbus.sinks.board.server import serve
from nightbus.sinks.board.shelf import Shelf

WAIT_MS = 60_000
OPTIMIZERS, RATES = ("SGD", "Adam"), (0.1, 0.01, 0.001)


@contextmanager
def served(
    shelf: Shelf | Path, *, port: int = 0, steers: bool = False, token: str = TOKEN
) -> Iterator[str]:
    """A board that serves in another thread; yields its address."""
    begun_serving, stopping = threading.Event(), threading.Event()
    runs = Shelf(shelf) if isinstance(shelf, Path) else shelf
    with listening("127.0.0.1", port) as listener:

        async def run() -> None:
            async def until_stopped() -> None:
                await trio.to_thread.run_sync(stopping.wait)

            async with trio.open_nursery() as nursery:
                what = (runs, page_files(), listener, "127.0.0.1", token, until_stopped, steers)
                await nursery.start(serve, *what)
                begun_serving.set()

        thread = threading.Thread(target=trio.run, args=(run,))
        thread.start()
        try:
            assert begun_serving.wait(60)
            yield address_of(listener, "127.0.0.1", token)
        finally:
            stopping.set()
            thread.join()


@contextmanager
def opened(browser: Any, address: str, seen: list[str]) -> Iterator[Any]:
    """A page; what it loads and what goes wrong on it is added to ``seen``."""
    page = browser.new_page()
    page.set_default_timeout(WAIT_MS)
    page.on("request", lambda request: seen.append(request.url))
    page.on("pageerror", lambda error: seen.append(f"error: {error}"))
    page.on("console", lambda said: seen.extend([f"error: {said.text}"] * (said.type == "error")))
    page.goto(address)
    try:
        yield page
    finally:
        page.close()


OpenPage = Callable[..., Any]


def port_of(address: str) -> int:
    """The port in an address."""
    return int(address.rpartition(":")[2].partition("/")[0])


def put_over(attempt: Any, values: dict[str, list[float]], first: int = 0) -> None:
    """Record several metrics, a second and a step apart, ten steps an epoch."""
    for at in range(len(next(iter(values.values())))):
        attempt.now_ns += SECOND_NS
        attempt.place.move(step=first + at, epoch=(first + at) // 10)
        for name, its in values.items():
            attempt.add(nb.Put, name, its[at], ("loggers",), "training_step")
    attempt.writer.flush()


def six_runs(root: Path) -> dict[tuple[str, float], RecordedRun]:
    """Runs that ended, of two optimizers and three rates, the last newest.

    Of a run with a rate, val_loss goes down to the rate, train/loss to half of it.
    """
    found = {}
    for optimizer in OPTIMIZERS:
        for rate in RATES:
            run, attempt = begun(root, {"lr": rate, "optimizer": optimizer})
            down = [rate * (30 - step) for step in range(30)]
            put_over(attempt, {"val_loss": down, "train/loss": [value / 2 for value in down]})
            attempt.end()
            found[optimizer, rate] = run
    return found
