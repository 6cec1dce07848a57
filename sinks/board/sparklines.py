"""Small curves of one metric, for the table of runs."""

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import msgspec

from ...bus.runs.run_summary import RunSummary
from .answers import UNREADABLE, open_folder
from .series_cache import RunSeries, SeriesCache
from .shelf import key_of

STRETCHES = 16  # of a curve, of about 4 points each
MAX_KEPT = 5_000
LARGEST_READ = 64 << 20  # bytes of a run that is read for this alone

_Version = tuple[str, int]


class Sparklines:
    """Curves with so few points that a table of them is small; those asked for last are kept.

    Args:
        cache: the metrics of runs.
    """

    def __init__(self, cache: SeriesCache) -> None:
        self._cache = cache
        self._kept: OrderedDict[tuple[str, str], tuple[_Version, msgspec.Raw]] = OrderedDict()
        self._lock = threading.Lock()

    def answer(self, runs: Sequence[RunSummary], metric: str, for_s: float) -> dict[str, Any]:
        """Return of each run its curve: whether all was read, steps, and values with None for gaps.

        Args:
            runs: the runs.
            metric: its name.
            for_s: read for so many seconds; what is left is asked for again.
        """
        until_s = time.monotonic() + for_s
        return {key_of(run): self._curve(run, metric, until_s) for run in runs}

    def _curve(self, run: RunSummary, metric: str, until_s: float) -> Any:
        if (total := run.metrics.get(metric)) is None:
            return _encoded(True, [], [])
        place, version = (key_of(run), metric), (run.ending, total.count)
        with self._lock:
            if (kept := self._kept.get(place)) is not None and kept[0] == version:
                self._kept.move_to_end(place)
                return kept[1]
        if run.size_bytes > LARGEST_READ and not self._cache.has(place[0]):
            return {**_curve_of([], []), "is_large": True}
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            return _encoded(False, [], [])
        try:
            folder = open_folder(run)
            series, _ = self._cache.read_on(place[0], folder, left_s, keeps_history=False)
        except UNREADABLE:  # the page shows elsewhere why
            return _encoded(True, [], [])
        return self._keep(place, version, series)

    def _keep(self, place: tuple[str, str], version: _Version, series: RunSeries) -> msgspec.Raw:
        rows = series.rows(place[1], STRETCHES)
        steps = [] if rows is None else [int(step) for step in rows[0]]
        values = [] if rows is None else [_rounded(value) for value in rows[3].tolist()]
        curve = _encoded(series.is_read, steps, values)
        if series.is_read:
            with self._lock:
                self._kept[place] = (version, curve)
                while len(self._kept) > MAX_KEPT:
                    self._kept.popitem(last=False)
        return curve


def _rounded(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None


def _curve_of(steps: list[int], values: list[float | None]) -> dict[str, Any]:
    return {"is_read": True, "x": steps, "y": values}


def _encoded(is_read: bool, steps: list[int], values: list[float | None]) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode({**_curve_of(steps, values), "is_read": is_read}))
