"""What looking at runs takes: ``python tests/bench/board.py [--only NAME ...] [--data FOLDER]``.

- ``verbs``: nightbus ls of 10,000 runs without an index, when only their logs can be read and when
  they have kept their summaries, and with one; show, compare; that none of them loads torch.
- ``table``: nb.runs of them in one process, for the first time and again.
- ``page``: the size of the page; seconds from opening it to the first rows of 10,000 runs.
- ``events``: a run of 10,000,000 events: to the first points of its curve, and to all of it.
- ``zoom``: times between frames while a chart of 1,000,000 values is zoomed and moved.
- ``live``: from recording a value to the frame that shows it, with 50 runs drawn that go on; the
  server's memory with them.
- ``beside``: processor time of a training step with ten pages on the run, over that with none, of
  blocks that alternate within one training, with the 95 % confidence of its median.

Measured as the machine is; its load is printed. What needs a browser is left out where there is no
chromium. Data are made once where --data says, else in a folder that is removed.
"""

import argparse
import contextlib
import gzip
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import board_page
import torch
from board_data import HOOKS, METRIC, Line, Recording, end_all, long_runs, many_runs
from board_server import first_curve_s, serving
from common import quiet
from torch import Tensor

import nightbus as nb
from nightbus.bus.library.index import FILE
from nightbus.bus.runs.run_summary import SUMMARY
from nightbus.sinks.board.page_files import BUILT

ROUNDS = 3
LIVE_RUNS, VALUES = 50, 40
BLOCK_S, PAIRS, WARM = 0.5, 60, 2
DRAWN = 2000  # samples, for the confidence of a median
_HAS_TORCH = (
    "import sys; from nightbus.__main__ import main\n"
    "try: main()\nexcept SystemExit: pass\n"
    "sys.exit('torch' in sys.modules)"
)


def row(what: str, value: str, bar: str = "") -> None:
    """Print a line of the table."""
    print(f"{what:58} {value:>24}   {bar}", flush=True)


def command_s(folder: Path, *arguments: str, before: Callable[[], Any] = lambda: None) -> str:
    """The shortest of a few runs of a command, and its processor time; it must not load torch."""
    times = []
    for _ in range(ROUNDS):
        before()
        used, begin_s = os.times(), time.perf_counter()
        command = [sys.executable, "-c", _HAS_TORCH, *arguments]
        subprocess.run(
            command, check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        now = os.times()
        wall_s = time.perf_counter() - begin_s
        times.append((wall_s, now[2] - used[2] + now[3] - used[3]))
    wall_s, cpu_s = min(times)
    return f"{wall_s:.2f} s ({cpu_s:.2f} of CPU)"


def verbs(data: Path, options: argparse.Namespace) -> None:
    """``nightbus ls``, ``show`` and ``compare``."""
    runs = many_runs(data, options.runs)
    folder = runs.parent
    index = runs / FILE

    def without() -> None:
        for summary in runs.glob(f"*/{SUMMARY}"):
            summary.unlink()
        index.unlink(missing_ok=True)

    row("ls, no index, from logs alone", command_s(folder, "ls", before=without))
    row("a run keeps its summary, at its end", f"{end_all(runs) * 1e3:.1f} ms")
    first = command_s(folder, "ls", before=lambda: index.unlink(missing_ok=True))
    row("ls, no index", first, "1 s")
    row("ls", command_s(folder, "ls"), "0.5 s")
    one, other = sorted(path.name for path in runs.iterdir() if path.is_dir())[:2]
    row("show", command_s(folder, "show", one), "0.5 s")
    row("compare", command_s(folder, "compare", one, other), "0.5 s")


def table(data: Path, options: argparse.Namespace) -> None:
    """``nb.runs`` in one process."""
    runs = many_runs(data, options.runs)
    end_all(runs)
    (runs / FILE).unlink(missing_ok=True)
    times = []
    for _ in range(6):
        begin_s = time.perf_counter()
        nb.runs(runs)
        times.append(time.perf_counter() - begin_s)
    row("nb.runs, no index", f"{times[0]:.2f} s", "1 s")
    row("nb.runs again", f"{min(times[1:]):.2f} .. {max(times[1:]):.2f} s", "0.2 s")


def page(data: Path, options: argparse.Namespace) -> None:
    """The page's size, and its first rows."""
    files = [
        path.read_bytes() for path in BUILT.iterdir() if path.suffix in (".html", ".js", ".css")
    ]
    size = sum(len(gzip.compress(content)) for content in files)
    row("the page, compressed", f"{size / 1000:.0f} kB", "300 kB")
    runs = many_runs(data, options.runs)
    end_all(runs)
    with browsing() as browser, serving(runs) as board:
        for what, times_s in board_page.rows_s(browser, board).items():
            said = f"{statistics.median(times_s):.2f} s"
            if len(times_s) > 1:
                said += f" ({min(times_s):.2f} .. {max(times_s):.2f})"
            aim = {"first": "1 s", "reloaded": "0.2 s"}.get(what, "")
            row(f"rows of {options.runs:,} runs on the page, {what}", said, aim)


def events(data: Path, options: argparse.Namespace) -> None:
    """A run of very many events."""
    steps = options.events // (len(HOOKS) + 1)
    runs, (key,) = long_runs(data, "events", steps, HOOKS)
    with serving(runs) as board:
        first_s, all_s, cpu_s = first_curve_s(board, METRIC, key)
    row(f"{options.events:,} events: first points of a curve", f"{first_s:.2f} s", "1 s")
    row("    all of them", f"{all_s:.2f} s ({cpu_s:.2f} of CPU)")
    with browsing() as browser, serving(runs) as board:
        shown_s = board_page.first_curve_s(browser, board, key)
        row("    on the page, from opening it", f"{shown_s:.2f} s", "1 s")


def zoom(data: Path, options: argparse.Namespace) -> None:
    """Frames of a chart of very many values."""
    for number in (1, LIVE_RUNS):
        steps = options.values // number
        runs, keys = long_runs(data, f"values-{number}", steps, number=number)
        with browsing() as browser, serving(runs) as board:
            frames = board_page.frames_ms(browser, board, keys)
        middle, most, longest = board_page.quantiles(frames)
        said = f"{middle:.0f}, 95 % {most:.0f}, longest {longest:.0f} ms"
        row(f"frames of a chart of {number} x {steps:,} values", said, "17 ms")


def live(data: Path, options: argparse.Namespace) -> None:
    """A new value on the page, and the server's memory, with many runs that go on."""
    with tempfile.TemporaryDirectory() as name:
        runs = [Recording(Path(name) / "runs", "live") for _ in range(LIVE_RUNS)]
        for run in runs:
            run.steps(2000, HOOKS).put(0.5)
        try:
            with browsing() as browser, serving(Path(name) / "runs") as board:
                found = board_page.live_ms(browser, board, runs, VALUES)
                memory_mb = board.memory_mb
        finally:
            for run in runs:
                run.end()
    middle, most, longest = board_page.quantiles(found)
    said = f"{middle:.0f}, 95 % {most:.0f}, longest {longest:.0f} ms"
    row(f"a new value on the page, {LIVE_RUNS} runs drawn", said, "300 ms")
    row(f"the server's memory with {LIVE_RUNS} runs", f"{memory_mb:.0f} MB", "150 MB")


class Endless:
    """Batches, until the training is stopped."""

    def __iter__(self) -> Iterator[list[Tensor]]:
        batch = torch.randn(16, 4)
        while True:
            yield [batch]


class OpensPages(nb.Callback):
    """Has ten pages opened and closed between blocks of steps, and times the blocks.

    Attributes:
        us: processor time of a step, in each block: without pages and with ten.
    """

    def __init__(self) -> None:
        self.us: dict[str, list[float]] = {"close": [], "open": []}
        pairs = (["close", "open"] if pair % 2 else ["open", "close"] for pair in range(PAIRS))
        self._plan = ["open", "close", *(word for pair in pairs for word in pair)]
        self._number = 0
        self._steps, self._begin = 0, (0.0, 0.0)
        self._processes = contextlib.ExitStack()

    def _begin_block(self) -> None:
        pages = self._pages
        assert pages.stdin is not None
        assert pages.stdout is not None
        pages.stdin.write(f"{self._plan[self._number]}\n")
        pages.stdin.flush()
        pages.stdout.readline()
        self._steps, self._begin = 0, (time.perf_counter(), time.process_time())

    def on_train_start(self, trainer: Any, module: Any) -> None:
        run = trainer.run_folder.path
        board = self._processes.enter_context(serving(run.parent))
        program = str(Path(__file__).with_name("board_readers.py"))
        command = [sys.executable, program, board.address, METRIC, run.name]
        pipe = subprocess.PIPE
        self._pages = self._processes.enter_context(
            subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        )
        self._begin_block()

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        self._steps += 1
        begin_s, begin_cpu_s = self._begin
        if time.perf_counter() - begin_s < BLOCK_S:
            return
        spent_us = (time.process_time() - begin_cpu_s) / self._steps * 1e6
        if self._number >= WARM:
            self.us[self._plan[self._number]].append(spent_us)
        self._number += 1
        if self._number == len(self._plan):
            trainer.should_stop = True
            self._processes.close()
            self._number = 0
        else:
            self._begin_block()


def beside(data: Path, options: argparse.Namespace) -> None:
    """A training step with ten pages on the run, over that with none."""
    pages = OpensPages()
    with tempfile.TemporaryDirectory() as name, quiet():
        trainer = nb.Trainer(
            max_epochs=1,
            default_root_dir=name,
            enable_progress_bar=False,
            callbacks=[pages],
            enable_checkpointing=False,
        )
        trainer.fit(Line(), Endless())
    ratios = [ten / none for none, ten in zip(*pages.us.values(), strict=True)]
    draw, middle = random.Random(1), statistics.median(ratios)
    drawn = [statistics.median(draw.choices(ratios, k=len(ratios))) for _ in range(DRAWN)]
    low, *_, high = statistics.quantiles(drawn, n=40)
    said = f"{middle:.3f} ({low:.3f} .. {high:.3f})"
    row(f"a step of {statistics.median(pages.us['close']):.0f} us with ten pages, ratio", said, "1")


MEASURES = {each.__name__: each for each in (verbs, table, page, events, zoom, live, beside)}


@contextlib.contextmanager
def browsing() -> Iterator[Any]:
    """A chromium; where there is none, what the block measures is left out, with a line."""
    with board_page.browsing() as browser:
        if browser is None:
            raise NoBrowserError
        yield browser


class NoBrowserError(Exception):
    """There is no chromium, or no playwright."""


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=list(MEASURES))
    parser.add_argument("--data", type=Path, default=None, help="a folder that is kept")
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--values", type=int, default=1_000_000)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        data = options.data or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        row("", "measured", "aim")
        for name in options.only:
            try:
                MEASURES[name](data, options)
            except NoBrowserError:
                row(f"{name}: left out", "no chromium, or no playwright")
            row(f"    (load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)", "")


if __name__ == "__main__":
    main()
