"""What a run looked like at a moment: progress, values, hooks, actors, console, system, faults."""

import time
from bisect import bisect_right
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from ...bus.events import Event, Hook, RunStarted, Unknown
from ...bus.runs.cursor import RunReader
from ...bus.runs.lineage import consistent_logs
from ...bus.runs.run_folder import RunFolder
from .answers import open_folder
from .asked import number_of
from .history import MAX_ACTORS, History
from .plain_values import plain
from .series_cache import SLICE_S, RunSeries, SeriesCache
from .shelf import Shelf
from .sparklines import STRETCHES
from .thinning import thinned

if TYPE_CHECKING:  # an export needs no server
    from starlette.requests import Request

MAX_METRICS = 300
MAX_LINES = 60
MAX_HOOKS = 300  # of a step
MAX_SAID = 50  # of a kind of what happened
_BEFORE, _AFTER = 3_000, 2_000  # hooks around a moment that are kept
_AFTER_S = 5.0  # how long what runs at a moment may go on to be seen
_READ_S = 1.0


class MomentQuestions:
    """Answers about one run in time.

    Args:
        shelf: the runs.
        cache: what was read of them.
    """

    def __init__(self, shelf: Shelf, cache: SeriesCache) -> None:
        self._shelf, self._cache = shelf, cache

    def history(self, request: "Request") -> bytes:
        """Answer how long a run took, what happened when, and what its system did.

        Args:
            request: the question.

        Raises:
            UnknownRunError: there is no such run.
        """
        series, _ = self._series(request)
        state = {"is_read": series.is_read, "problem": plain(series.problem)}
        return msgspec.json.encode({**history_of(series), **state})

    def moment(self, request: "Request") -> bytes:
        """Answer what a run looked like at a time.

        Args:
            request: the question.

        Raises:
            UsageError: it is wrong.
            UnknownRunError: there is no such run.
            LogError: the log cannot be read there.
        """
        time_s = number_of(request, "time", 0.0)
        series, folder = self._series(request)
        return msgspec.json.encode(moment_of(folder, series, time_s))

    def _series(self, request: "Request") -> tuple[RunSeries, RunFolder]:
        key = request.path_params["key"]
        folder = open_folder(self._shelf.run(key))
        self._cache.need_history(key, folder)
        return self._cache.read_on(key, folder, SLICE_S)[0], folder


def history_of(series: RunSeries) -> dict[str, Any]:
    """Return what happened in a run, and how its system did, over all of its time.

    Args:
        series: what was read of it.
    """
    history = series.history
    happened = [
        {"kind": kind, "time_s": round(time_s, 6), **said}
        for kind, its in list(history.happened.items())
        for time_s, said in list(its)
    ]
    return {
        "began_s": series.began_s,
        "last_s": history.last_s,
        "happened": sorted(happened, key=lambda each: each["time_s"]),
        "system": _system_curves(history),
    }


def _system_curves(history: History) -> dict[str, Any]:
    samples = history.samples.kept[:]
    names = list(dict.fromkeys(name for _, values in samples for name in values))
    curves: dict[str, Any] = {}
    for name in names[:MAX_METRICS]:
        pairs = [(time_s, values[name]) for time_s, values in samples if name in values]
        x, y = (np.array(column, np.float64) for column in zip(*pairs, strict=True))
        kept = thinned(x, y, 4 * STRETCHES)
        curves[plain(name)] = {
            "x": [round(time_s, 2) for time_s in x[kept].tolist()],
            "y": [plain(float(f"{value:.5g}")) for value in y[kept].tolist()],
        }
    return curves


def moment_of(folder: RunFolder, series: RunSeries, time_s: float) -> dict[str, Any]:
    """Return what a run looked like at a time.

    Args:
        folder: the run's.
        series: what was read of it.
        time_s: the time, in seconds since the run began.

    Raises:
        LogError: the log cannot be read there.
    """
    history = series.history
    around = _Around(folder, series, time_s)
    last, hooks = around.last, around.of_step()
    return {
        "time_s": time_s,
        "stage": "" if last is None else last.stage,
        "epoch": 0 if last is None else plain(last.epoch),
        "step": 0 if last is None else plain(last.step),
        "batch": -1 if last is None else plain(last.batch_idx),
        "attempt": around.attempt,
        "loops": _loops(history, time_s, last),
        "metrics": [
            {"name": plain(name), "value": plain(value), "step": plain(int(step))}
            for name, step, value in series.values_at(time_s, MAX_METRICS)
        ],
        "more_metrics": max(len(series.series) - MAX_METRICS, 0),
        "running": [each.said(time_s) for each in around.running(time_s)],
        "hooks": [each.said(time_s) for each in hooks],
        "hooks_step": hooks[0].place[1] if hooks else None,
        "actors": _actors(history, time_s),
        "console": _lines(history, time_s),
        "has_more_lines": history.has_more_lines,
        "system": _system(history, time_s),
        "happened": _happened(history, time_s),
    }


class _Ran(NamedTuple):
    """A hook that ran, from when to when, in seconds since the run began."""

    name: str
    stage: str
    place: tuple[int, int]  # epoch and step
    begin_s: float
    end_s: float

    def said(self, time_s: float) -> dict[str, Any]:
        begin_s, end_s = round(self.begin_s - time_s, 7), round(self.end_s - time_s, 7)
        name = plain(self.name)
        return {"name": name, "stage": self.stage, "begin_s": begin_s, "end_s": end_s}


class _Around:
    """The log around a moment.

    Attributes:
        last: the last event before it; None if there is none.
        attempt: of that event.
    """

    def __init__(self, folder: RunFolder, series: RunSeries, time_s: float) -> None:
        self.last: Event | None = None
        self.attempt = 0
        self._before: deque[_Ran] = deque(maxlen=_BEFORE)
        self._after: list[_Ran] = []
        place = series.place_before("time", time_s)
        self._began_ns, self._offset_ns = series.began_ns, place.offset_ns
        reader = RunReader(consistent_logs(folder), place.position)
        try:
            self._read(reader, time_s)
        finally:
            reader.close()

    def _read(self, reader: RunReader, time_s: float) -> None:
        until_s = time.monotonic() + _READ_S
        while time.monotonic() < until_s:
            before = reader.position
            events = reader.read("all")
            if not events and reader.position == before:
                return
            for event in events:
                if isinstance(event, Unknown):
                    continue
                if type(event) is RunStarted and self._began_ns is not None:
                    self._offset_ns = event.wall_ns - event.time_ns - self._began_ns
                at_s = (event.time_ns + self._offset_ns) / 1e9
                if at_s <= time_s:
                    self.last, self.attempt = event, reader.position.attempt
                if type(event) is Hook:
                    self._take(event, at_s, time_s)
                if at_s > time_s + _AFTER_S or len(self._after) >= _AFTER:
                    return

    def _take(self, event: Hook, end_s: float, time_s: float) -> None:
        place = event.epoch, event.step
        ran = _Ran(event.name, event.stage, place, end_s - event.duration_ns / 1e9, end_s)
        if end_s < time_s:
            self._before.append(ran)
        else:
            self._after.append(ran)

    def running(self, time_s: float) -> list[_Ran]:
        """Return the hooks that run at the moment, the outermost first."""
        found = [each for each in self._after if each.begin_s <= time_s <= each.end_s]
        return sorted(found, key=lambda each: each.begin_s)[:MAX_SAID]

    def of_step(self) -> list[_Ran]:
        """Return the hooks of the moment's step, or of the one before, as they began."""
        every = (*self._before, *self._after)
        own = None if self.last is None else (self.last.epoch, self.last.step)
        if self._before and all(each.place != own for each in every):
            own = self._before[-1].place
        found = [each for each in every if each.place == own]
        return sorted(found, key=lambda each: (each.begin_s, -each.end_s))[:MAX_HOOKS]


def _loops(history: History, time_s: float, last: Event | None) -> list[dict[str, Any]]:
    """Return the loops that run, the outermost first, and how far each is."""
    running = [
        {"name": each.name, "total": each.total, "unit": each.unit, "completed": None}
        for each in history.loops.at(time_s)
    ]
    for loop in running:
        if last is not None and loop["unit"] == "epoch":
            loop["completed"] = plain(last.epoch)
        elif last is not None and loop is running[-1]:
            loop["completed"] = plain(last.batch_idx + 1)
    return running


def _actors(history: History, time_s: float) -> list[dict[str, Any]]:
    lag, waiting = history.backlogs.at(time_s) or ({}, {})
    states: dict[str, dict[str, Any]] = {name: {"lag": count} for name, count in lag.items()}
    for name, count in waiting.items():
        states.setdefault(name, {})["waiting"] = count
    for name, its in list(history.actors.items()):
        state = states.pop(name, {})  # the order is that in which they began
        for at_s, change in list(its):
            if at_s <= time_s:
                state |= change
        if state:
            states[name] = state
    return [{"name": plain(name), **state} for name, state in states.items()][:MAX_ACTORS]


def _lines(history: History, time_s: float) -> list[dict[str, Any]]:
    lines = list(history.lines)
    until = bisect_right(lines, time_s, key=lambda line: line[0])
    part = lines[max(until - MAX_LINES, 0) : until]
    return [{"time_s": at_s, "stream": stream, "text": text} for at_s, stream, text in part]


def _system(history: History, time_s: float) -> dict[str, float]:
    values = history.samples.at(time_s) or {}
    return {plain(name): plain(value) for name, value in values.items()}


def _happened(history: History, time_s: float) -> dict[str, list[dict[str, Any]]]:
    """Return what has happened by then, of each kind the last ones, and how much there is."""
    found = {}
    for kind, its in list(history.happened.items()):
        past = [{"time_s": at_s, **said} for at_s, said in list(its) if at_s <= time_s]
        if past:
            found[kind] = past[-MAX_SAID:]
    return found
