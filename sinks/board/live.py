"""What has changed, told to pages: one reading of a run for all that look at it.

Nothing is queued. A page is told how much there is now, and asks for what it shows of it; one that
falls behind is told once.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Iterable

import msgspec
import trio

from ...bus.errors import NightbusError
from ...bus.runs.run_summary import RunSummary
from .answers import UNREADABLE, open_folder
from .plain_values import plain
from .series_cache import SLICE_S, Latest, SeriesCache
from .shelf import Shelf

EVERY_S = 0.1
MAX_LATEST = 40  # metrics of a run, whose last values are told at once
_SILENCE_S = 15.0  # then the page is told that the board is still there
_GONE = -1  # in place of a table's number
_encode = msgspec.json.encode


class Live:
    """Follows the runs that pages look at, and the table, as long as one page listens.

    Args:
        shelf: the runs.
        cache: what was read of them.

    Attributes:
        is_gone: the folder of the runs could not be read the last time.
    """

    def __init__(self, shelf: Shelf, cache: SeriesCache) -> None:
        self._shelf, self._cache = shelf, cache
        self._followed: Counter[str] = Counter()
        self._pages = 0
        self._table, self.is_gone = 0, False
        self._going_on = 0  # runs of the table, also those that nobody looks at
        self._runs: dict[str, tuple[int, str]] = {}  # key -> number of values, ending
        self._latest: dict[str, Latest] = {}  # of those that go on
        self._changed = trio.Event()
        self._wanted = trio.Event()

    async def watch(self) -> None:
        """Read on whatever pages look at, until cancelled.

        The table is read by itself: of many runs that go on it takes longer than their values may.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_table)
            nursery.start_soon(self._watch_runs)

    async def _watch_table(self) -> None:
        while True:
            await self._until_wanted()
            await trio.to_thread.run_sync(self._read_table)
            await trio.sleep(EVERY_S)

    async def _until_wanted(self) -> None:
        if not self._pages:
            if self._wanted.is_set():
                self._wanted = trio.Event()
            await self._wanted.wait()

    async def _watch_runs(self) -> None:
        while True:
            await self._until_wanted()
            if await trio.to_thread.run_sync(self._read, list(self._followed)):
                self._changed.set()
                self._changed = trio.Event()
            await trio.sleep(EVERY_S)

    def look(self) -> None:
        """Have the table read again if it is old, though no page listens yet."""
        self._wanted.set()

    def _read_table(self) -> None:
        try:
            self._shelf.table()
            self.is_gone = False
        except (NightbusError, OSError):  # the folder is gone; the page is told why when it asks
            self.is_gone = True

    def _read(self, keys: list[str]) -> bool:
        """Read on the followed runs; return whether there is something new, also of the table."""
        before = self._table, dict(self._runs)
        if self.is_gone:
            self._table = _GONE
            return before[0] != _GONE
        table = self._shelf.known
        if table.number != self._table:
            self._going_on = sum(run.is_running for run in table.runs.summaries)
        self._table = table.number
        now = dict[str, tuple[int, str]]()
        for key in keys:
            if (run := table.by_key.get(key)) is None:
                continue
            values, _ = self._runs.get(key, (-1, ""))
            if values < 0 or run.is_running or run.ending != self._runs[key][1]:
                values = self._values(key, run)
            now[key] = (values, run.ending)
        self._runs = now
        self._latest = {key: found for key, found in self._latest.items() if key in now}
        return before != (self._table, self._runs)

    def _values(self, key: str, run: RunSummary) -> int:
        """Read on a run; one that has ended since is in the table as such at the next reading."""
        try:
            folder = open_folder(run)
            goes_on = run.is_running and folder.is_running()
            series, _ = self._cache.read_on(key, folder, SLICE_S)
        except UNREADABLE:  # the page is told why when it asks
            return 0
        if goes_on:
            self._latest[key] = series.latest(MAX_LATEST)
        else:
            self._latest.pop(key, None)
            if run.is_running:
                self._shelf.read_again()
        return series.values

    async def events(self, keys: Iterable[str]) -> AsyncGenerator[bytes, None]:
        """Yield server-sent events for one page, until it goes.

        Args:
            keys: of the runs that it looks at.
        """
        followed = Counter(set(keys))
        self._followed += followed
        self._pages += 1
        self._wanted.set()
        told: tuple[int, dict[str, tuple[int, str]]] = (-1, {})
        try:
            yield b"retry: 1000\n\n"
            while True:
                changed = self._changed
                now = self._table, {key: self._runs[key] for key in followed if key in self._runs}
                if now != told and now[0]:
                    moved = [key for key, what in now[1].items() if told[1].get(key) != what]
                    latest = {key: self._latest[key] for key in moved if key in self._latest}
                    told = now
                    there = self._shelf.known.by_key
                    said = {
                        "table": now[0],
                        "runs": now[1],
                        "latest": plain(latest),
                        "going_on": self._going_on,
                        "missing": [key for key in followed if key not in there],
                    }
                    yield b"data: " + _encode(said) + b"\n\n"
                with trio.move_on_after(_SILENCE_S) as silence:
                    await changed.wait()
                if silence.cancelled_caught:
                    yield b": still here\n\n"
        finally:
            self._pages -= 1
            self._followed -= followed
