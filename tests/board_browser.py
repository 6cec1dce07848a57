"""The board's page in a real browser: boards that serve, pages that are opened, runs to look at."""

import io
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from board_asked import TOKEN, begun
from helpers import eventually
from PIL import Image
from recorded_runs import SECOND_NS, RecordedRun

import nightbus as nb
from nightbus.sinks.board.address import address_of, listening
from nightbus.sinks.board.page_files import page_files
from nightbus.sinks.board.server import serve
from nightbus.sinks.board.shelf import Shelf

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect

WAIT_MS = 180_000
Runs = dict[tuple[str, float], RecordedRun]
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


@contextmanager
def going_on(root: Path) -> Iterator[tuple[RecordedRun, Callable[[], bool]]]:
    """A run that records without a rest, later more than at first.

    Yields it, and whether it still goes on.
    """
    run, attempt = begun(root, {"lr": 0.5})
    stopped = threading.Event()

    def record() -> None:
        for number in itertools.count():
            if stopped.wait(0.05):
                return
            put_over(attempt, {"loss": [float(number)]}, number)
            if number > 60:
                note = ("note", "text", f"words {number}".encode(), ("loggers",), "training_step")
                attempt.add(nb.Media, *note)
                attempt.add(nb.ConsoleLine, "stdout", f"line {number}", 0)
                put_over(attempt, {"late": [1.0]}, number)

    recording = threading.Thread(target=record)
    recording.start()
    try:
        yield run, recording.is_alive
    finally:
        stopped.set()
        recording.join()


def six_runs(root: Path) -> Runs:
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


def _colours(locator: Any) -> list[tuple[int, Any]]:
    """How many pixels of each colour are seen."""
    picture = Image.open(io.BytesIO(locator.screenshot())).convert("RGB")
    return picture.getcolors(1 << 24) or []


def mix_of(locator: Any) -> list[int]:
    """How much of each colour is seen, for pictures that are drawn: large numbers first."""
    return sorted((count for count, _ in _colours(locator)), reverse=True)


def pixels_of(locator: Any, colour: str) -> int:
    """How many pixels of something are nearly of a colour, such as ``#0072b2``."""
    wanted = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return sum(
        count
        for count, its in _colours(locator)
        if all(abs(one - other) < 24 for one, other in zip(its, wanted, strict=True))
    )


def box_of(locator: Any) -> Any:
    """Where something is, also if it is just drawn anew."""
    return eventually(locator.bounding_box)


def drag(page: Any, locator: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Press the mouse at a place, in shares of width and height, and let it go at another."""
    box = box_of(locator)
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)]
    page.mouse.move(*places[0])
    page.mouse.down()
    page.mouse.move(*places[1], steps=5)
    page.mouse.up()


def hover(page: Any, locator: Any, x: float, y: float = 0.5) -> None:
    """Move the mouse over a place, in shares of width and height."""
    box = box_of(locator)
    page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
