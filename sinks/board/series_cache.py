"""Metrics of runs in memory: read once, read on while a run goes on, bounded in bytes."""

import threading
import time
from array import array
from collections import OrderedDict
from itertools import count
from typing import Literal, NamedTuple

import numpy as np

from ...bus.errors import LogError
from ...bus.events import CheckpointSaved, Event, Fault, Media, Put, RunStarted, Unknown
from ...bus.inspection.plots import smoothed
from ...bus.log.codec import DecodedEvent
from ...bus.runs.cursor import BEGINNING, Position, RunReader
from ...bus.runs.lineage import consistent_logs
from ...bus.runs.run_folder import RunFolder
from .evenly_many import EvenlyMany
from .history import History
from .thinning import Numbers, between, kept_of_stretches, thinned

XAxis = Literal["step", "epoch", "time", "wall"]

SLICE_S = 0.2  # of reading at once
MAX_BYTES = 48 << 20
MAX_POINTS = 1 << 17  # of a series; then it is folded
FEWEST_POINTS = 1 << 12  # of a series that gives way to others
MAX_SERIES = 2_000  # of a run
MAX_CHECKPOINTS = 1_000  # of a run: the last ones
MAX_MARKS = 100  # of a run: the first ones
MAX_PLACES = 4_096  # of a log
MAX_MEDIA = 500  # of a run
MAX_OF_A_NAME = 500  # media; then every so many-th stays
HISTORY_KEPT_S = 60.0  # after it was last asked for
_PLACE_BYTES, _MEDIUM_BYTES, _CHECKPOINT_BYTES = 300, 300, 500  # about
_NARROWEST = 8  # values of a stretch, of which about 4 stay
_STEP, _EPOCH, _TIME, _VALUE, _NUMBER = range(5)
_clock = count(1)


class Mark(NamedTuple):
    """Something that happened, to be shown beside curves.

    Attributes:
        kind: ``attempt``, where a later one goes on, or ``fault``.
        step, epoch, time_s: when.
    """

    kind: str
    step: int
    epoch: int
    time_s: float


class Latest(NamedTuple):
    """Where a run is, in short.

    Attributes:
        step, epoch: of the last value.
        values: the last ones, by metric.
    """

    step: int
    epoch: int
    values: dict[str, float]


class Medium(NamedTuple):
    """Where an image, figure, histogram, text or table is recorded.

    Attributes:
        kind: which of these.
        position: of its event.
        step, epoch, time_s: when.
    """

    kind: str
    position: Position
    step: int
    epoch: int
    time_s: float


class Place(NamedTuple):
    """A place in a run's log from which it can be read again.

    Attributes:
        position: the next event.
        offset_ns: what to add to times of events for that since the run began.
        step, epoch, time_s: of the metric before it.
    """

    position: Position
    offset_ns: int
    step: float
    epoch: float
    time_s: float


class Picture(NamedTuple):
    """Points to draw.

    Attributes:
        x: where they are.
        y: their values, NaN and infinities among them.
        values: number of values that the metric has.
        is_exact: every value of the range was looked at; else only those that a fold has left.
    """

    x: Numbers
    y: Numbers
    values: int
    is_exact: bool


class Series:
    """One metric of a run, as it grows.

    Of many values, those that show how it went are left: of each stretch of so many values the
    first and last, lowest and highest. All stretches have one length, which doubles as it grows.

    Attributes:
        values: number of values that were put.
        asked: when it was last asked for, by a count.
    """

    def __init__(self) -> None:
        self.values = 0
        self.asked = 0
        self._rows = np.empty((5, 64))
        self._held = 0
        self._width = 1  # values of a stretch
        self._thin_until = 0  # the first point of the last stretch that was thinned

    def __len__(self) -> int:
        """Return the number of points that are held."""
        return self._held

    @property
    def size_bytes(self) -> int:
        """Memory that it takes."""
        return self._rows.nbytes

    @property
    def is_folded(self) -> bool:
        """Whether not all values are held."""
        return self._width > 1

    def add(self, rows: Numbers | list[tuple[float, float, float, float]]) -> None:
        """Append values.

        Args:
            rows: step, epoch, time and value of each.
        """
        end = self._held + len(rows)
        if end > self._rows.shape[1]:
            grown = np.empty((5, max(end, self._rows.shape[1] * 3 // 2)))
            grown[:, : self._held] = self._rows[:, : self._held]
            self._rows = grown
        self._rows[:_NUMBER, self._held : end] = np.asarray(rows, np.float64).T
        self._rows[_NUMBER, self._held : end] = np.arange(self.values, self.values + len(rows))
        self._held = end
        self.values += len(rows)
        if self.is_folded and end - self._thin_until > MAX_POINTS // 64:
            self._thin(self._thin_until)
        if self._held > MAX_POINTS:
            self.fold(MAX_POINTS // 2)

    @property
    def rows(self) -> Numbers:
        """Steps, epochs, times and values; float64 of shape (4, n)."""
        return self._rows[:_NUMBER, : self._held]

    def fold(self, most: int) -> None:
        """Make stretches longer, until few points are left.

        Args:
            most: so many points; at least the 6 of one stretch.
        """
        while self._held > most:
            self._width = max(2 * self._width, _NARROWEST)
            self._thin(0)
        self._rows = self._rows[:, : self._held].copy()

    def _thin(self, begin: int) -> None:
        """Thin the points from one on, which begins a stretch."""
        _, _, _, values, numbers = self._rows[:, begin : self._held]
        stretch = numbers // self._width
        kept = kept_of_stretches(stretch, values)
        self._held = begin + len(kept)
        self._rows[:, begin : self._held] = self._rows[:, begin + kept]
        # The last stretch goes on, and is thinned again with what comes.
        self._thin_until = begin + int(np.searchsorted(stretch[kept], stretch[-1]))

    def picture(
        self, x: XAxis, began_s: float, low: float, high: float, stretches: int, weight: float
    ) -> Picture:
        """Return the points that show it.

        Args:
            x: the axis.
            began_s: when the run began, in seconds since 1970.
            low: where the range begins.
            high: where it ends.
            stretches: as many as the picture has pixels in width.
            weight: of the values before, for exponential means; 0 for the values themselves.
        """
        self.asked = next(_clock)
        rows = self.rows
        along = rows[axis_of(x)]
        values = np.array(smoothed(rows[_VALUE].tolist(), weight)) if weight else rows[_VALUE]
        part = between(along, low, high) if len(along) else slice(0, 0)
        along, values = along[part], values[part]
        kept = thinned(along, values, stretches)
        shift = began_s if x == "wall" else 0.0
        return Picture(along[kept] + shift, values[kept], self.values, not self.is_folded)

    def points(self, x: XAxis, weight: float) -> tuple[Numbers, Numbers]:
        """Return all points that are held, as places and values.

        Args:
            x: the axis; the clock counts from when the run began.
            weight: of the values before, for exponential means; 0 for the values themselves.
        """
        self.asked = next(_clock)
        values = self.rows[_VALUE]
        values = np.array(smoothed(values.tolist(), weight)) if weight else values.copy()
        return self.rows[axis_of(x)].copy(), values


def axis_of(x: XAxis) -> int:
    """Return which row of a series an axis is.

    Args:
        x: the axis.
    """
    return {"step": _STEP, "epoch": _EPOCH}.get(x, _TIME)


class RunSeries:
    """The metrics of one run, read as far as its log goes, and read on when asked.

    Any thread may ask; one reads at a time.

    Args:
        folder: the run's.
        keeps_history: keep what else happened.

    Attributes:
        keeps_history: what else happened is kept.
        history_asked_s: when it was last asked for, on the monotonic clock.
        began_s: when the run began, in seconds since 1970.
        series: by metric, without superseded values; the first MAX_SERIES.
        checkpoints: the last that were saved.
        marks: where attempts went on, and exceptions; the first MAX_MARKS.
        history: what else happened.
        attempts: numbers of the attempts that were read.
        values: number of values of all metrics.
        is_read: all was read that the log had.
        problem: why it could not be read to its end; empty if it could.
    """

    def __init__(self, folder: RunFolder, keeps_history: bool = True) -> None:
        self._folder = folder
        self.keeps_history = keeps_history
        self.history_asked_s = -np.inf
        self._lock = threading.Lock()
        self.attempts: list[int] = []
        self._begin()

    def _begin(self) -> None:
        self.began_s = 0.0
        self.series: dict[str, Series] = {}
        self.checkpoints: list[CheckpointSaved] = []
        self.marks: list[Mark] = []
        self.history = History()
        self._media: dict[str, EvenlyMany[Medium]] = {}
        self.values = 0
        self.is_read = False
        self.problem = ""
        self._reader: RunReader | None = None
        self._began_ns: int | None = None
        self._offset_ns = 0
        self._goes_on = False  # a later attempt has begun, and put nothing yet
        self._places: list[Place] = []
        self._batches, self._every = 0, 1
        self._last: tuple[float, float, float] = (-np.inf, -np.inf, -np.inf)

    @property
    def size_bytes(self) -> int:
        """Memory that it takes, about."""
        series = sum(series.size_bytes for series in list(self.series.values()))
        media = sum(len(its.kept) for its in list(self._media.values()))
        return (
            series
            + self.history.size_bytes
            + media * _MEDIUM_BYTES
            + len(self._places) * _PLACE_BYTES
            + len(self.checkpoints) * _CHECKPOINT_BYTES
        )

    def read_on(self, for_s: float) -> bool:
        """Read what the log has more.

        Who comes while another thread reads waits for it, and reads no more if that has not come to
        the end: what there is by then is what is asked for.

        Args:
            for_s: stop after so many seconds; what is left is read the next time.

        Returns:
            Whether there was something.
        """
        is_first = self._lock.acquire(blocking=False)
        if not is_first:
            self._lock.acquire()
        try:
            if not is_first and not self.is_read:
                return True
            before = self.values, len(self.checkpoints), self.is_read, self.problem
            try:
                self._read(time.monotonic() + for_s)
            except (LogError, OSError) as error:
                self.is_read, self.problem = True, str(error)
            return before != (self.values, len(self.checkpoints), self.is_read, self.problem)
        finally:
            self._lock.release()

    def _read(self, until_s: float) -> None:
        attempts = self._folder.attempts()
        if attempts != self.attempts or self._reader is None:  # what is superseded has changed
            self.close()
            self._begin()
            self.attempts = attempts
            self._reader = RunReader(consistent_logs(self._folder))
        reader = self._reader
        while True:
            before = reader.position
            self._note_place(before)
            events = reader.read("none")
            self._take(events, reader.position.attempt)
            if not events and reader.position == before:
                self.is_read, self.problem = True, ""
                break
            if time.monotonic() >= until_s:
                break
        if reader.reader is not None:
            reader.reader.let_go()

    def _note_place(self, position: Position) -> None:
        """Keep a place, so that the log need not be read from its start for a part of it."""
        self._batches += 1
        if self._batches % self._every:
            return
        self._places.append(Place(position, self._offset_ns, *self._last))
        if len(self._places) > MAX_PLACES:
            del self._places[1::2]
            self._every *= 2

    def latest(self, most: int) -> Latest:
        """Return the last value of each metric, and where the run was then.

        Args:
            most: of so many metrics.
        """
        with self._lock:
            step, epoch, _ = self._last
            if not self.series:
                return Latest(0, 0, {})
            named = list(self.series.items())[:most]
            values = {name: float(series.rows[_VALUE, -1]) for name, series in named}
            return Latest(int(step), int(epoch), values)

    def place_before(self, x: XAxis, low: float) -> Place:
        """Return a place in the log before a part of an axis, with room for exponential means.

        Args:
            x: the axis.
            low: where the part begins; on the clock, in seconds since the run began.
        """
        with self._lock:
            passed = [place[2 + axis_of(x)] for place in self._places]
            along = np.maximum.accumulate(np.array(passed)) if passed else np.empty(0)
            at = int(np.searchsorted(along, low, "left")) - 2
            if at <= 0:
                return Place(BEGINNING, 0, *(-np.inf,) * 3)
            return self._places[at]

    @property
    def began_ns(self) -> int | None:
        """When the run began, in ns since 1970."""
        return self._began_ns

    def _take(self, events: list[DecodedEvent], attempt: int) -> None:
        fresh: dict[str, array[float]] = {}  # step, epoch, time, value, and so on
        for event in events:
            if type(event) is Put:
                time_s = (event.time_ns + self._offset_ns) / 1e9
                if (its := fresh.get(event.name)) is None:
                    its = fresh[event.name] = array("d")
                its.extend((event.step, event.epoch, time_s, float(event.value)))
                if self._goes_on:
                    self._mark(Mark("attempt", event.step, event.epoch, time_s))
                    self._goes_on = False
            elif not isinstance(event, Unknown):
                self._note(event, attempt)
        self._note_time(events)
        for name, its in fresh.items():
            rows = np.frombuffer(its).reshape(-1, 4)
            if (series := self.series.get(name)) is None:
                if len(self.series) >= MAX_SERIES:
                    continue
                series = self.series[name] = Series()
            series.add(rows)
            self.values += len(rows)
            self._last = (float(rows[-1, 0]), float(rows[-1, 1]), self._last[2])

    def _note(self, event: Event, attempt: int) -> None:
        """Keep what is no value of a metric."""
        if type(event) is RunStarted:
            if self._began_ns is None:
                self._began_ns = event.wall_ns
                self.began_s = event.wall_ns / 1e9
            else:
                self._goes_on = True
            self._offset_ns = event.wall_ns - event.time_ns - self._began_ns
        time_s = (event.time_ns + self._offset_ns) / 1e9
        if type(event) is CheckpointSaved:
            self.checkpoints.append(event)
            del self.checkpoints[:-MAX_CHECKPOINTS]
        elif type(event) is Media:
            self._note_medium(event, attempt, time_s)
        elif type(event) is Fault:
            self._mark(Mark("fault", event.step, event.epoch, time_s))
        if self.keeps_history:
            self.history.take(event, time_s)

    def _note_medium(self, event: Media, attempt: int, time_s: float) -> None:
        if (its := self._media.get(event.name)) is None:
            if len(self._media) >= MAX_MEDIA:
                return
            its = self._media[event.name] = EvenlyMany(MAX_OF_A_NAME)
        where = (event.step, event.epoch, time_s)
        its.add(Medium(event.kind, Position(attempt, event.seq), *where))
        self.values += 1

    def _note_time(self, events: list[DecodedEvent]) -> None:
        last = next((each for each in reversed(events) if not isinstance(each, Unknown)), None)
        if last is not None:
            time_s = (last.time_ns + self._offset_ns) / 1e9
            self._last = (*self._last[:2], time_s)
            self.history.last_s = max(self.history.last_s, time_s)

    def values_at(self, time_s: float, most: int) -> list[tuple[str, float, float]]:
        """Return of metrics their name, step and value at a moment.

        Args:
            time_s: the moment, in seconds since the run began.
            most: so many metrics.
        """
        with self._lock:
            found = []
            for name, series in list(self.series.items())[:most]:
                rows = series.rows
                at = int(np.searchsorted(rows[_TIME], time_s, "right")) - 1
                if at >= 0:
                    found.append((name, float(rows[_STEP, at]), float(rows[_VALUE, at])))
            return found

    def _mark(self, mark: Mark) -> None:
        if len(self.marks) < MAX_MARKS:
            self.marks.append(mark)

    def picture(
        self, metric: str, x: XAxis, low: float, high: float, stretches: int, weight: float
    ) -> Picture | None:
        """Return the points that show a metric; None if it is not there, or not read yet.

        Args:
            metric: its name.
            x: the axis.
            low: where the range begins, on that axis.
            high: where it ends.
            stretches: as many as the picture has pixels in width.
            weight: of the values before, for exponential means; 0 for the values themselves.
        """
        with self._lock:
            series = self.series.get(metric)
            if series is None:
                return None
            shift = self.began_s if x == "wall" else 0.0
            return series.picture(x, self.began_s, low - shift, high - shift, stretches, weight)

    def points(self, metric: str, x: XAxis, weight: float) -> tuple[Numbers, Numbers] | None:
        """Return all points of a metric that are held; None if it is not there, or not read yet.

        Args:
            metric: its name.
            x: the axis.
            weight: of the values before, for exponential means; 0 for the values themselves.
        """
        with self._lock:
            if (series := self.series.get(metric)) is None:
                return None
            along, values = series.points(x, weight)
            return along + (self.began_s if x == "wall" else 0.0), values

    def media(self) -> dict[str, list[Medium]]:
        """Return where media are, by name: the first MAX_MEDIA names, of each evenly many."""
        with self._lock:
            return {name: its.kept[:] for name, its in self._media.items()}

    def rows(self, metric: str, stretches: int) -> Numbers | None:
        """Return steps, epochs, times and values of the points that show a metric.

        None if it is not there, or not read yet.

        Args:
            metric: its name.
            stretches: in so many equal parts by number; about 4 points are of each.
        """
        with self._lock:
            if (series := self.series.get(metric)) is None:
                return None
            rows = series.rows
            kept = thinned(np.arange(rows.shape[1], dtype=np.float64), rows[_VALUE], stretches)
            return rows[:, kept]

    def fold(self, series: Series) -> bool:
        """Fold one of its series to few points; return whether that was possible.

        Args:
            series: the series.
        """
        if not self._lock.acquire(blocking=False):  # it is being read
            return False
        try:
            series.fold(FEWEST_POINTS)
            return True
        finally:
            self._lock.release()

    def let_history_go(self) -> bool:
        """Keep no longer what else happened; return whether that was possible."""
        if not self._lock.acquire(blocking=False):  # it is being read
            return False
        try:
            last_s = self.history.last_s
            self.history, self.keeps_history = History(), False
            self.history.last_s = last_s
            return True
        finally:
            self._lock.release()

    def close(self) -> None:
        """Close the log."""
        if self._reader is not None:
            self._reader.close()


class SeriesCache:
    """The metrics of the runs that were asked for last.

    Over the limit, histories go that nobody asks for; if that is not enough, the series that were
    not asked for the longest are folded, and then runs are let go. What is asked for again is read
    again.

    Args:
        max_bytes: memory that all runs together may take.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._runs: OrderedDict[str, RunSeries] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        """Memory that all runs take, about."""
        return sum(run.size_bytes for run in list(self._runs.values()))

    def has(self, key: str) -> bool:
        """Return whether a run's metrics are here.

        Args:
            key: of the run.
        """
        return key in self._runs

    def need_history(self, key: str, folder: RunFolder) -> None:
        """Begin to read a run anew if what else happened in it is not kept; keep that for a while.

        Args:
            key: of the run.
            folder: the run's.
        """
        with self._lock:
            run = self._runs.get(key)
            if run is None or not run.keeps_history:
                run = self._runs[key] = RunSeries(folder)
            run.history_asked_s = time.monotonic()

    def read_on(
        self, key: str, folder: RunFolder, for_s: float, keeps_history: bool = True
    ) -> tuple[RunSeries, bool]:
        """Return a run's metrics, read on, and whether there was something to read.

        Args:
            key: of the run.
            folder: the run's.
            for_s: stop reading after so many seconds.
            keeps_history: of a run that is not here yet, keep also what else happened.
        """
        with self._lock:
            run = self._runs.get(key)
            if run is None:
                run = self._runs[key] = RunSeries(folder, keeps_history)
            self._runs.move_to_end(key)
        has_moved = run.read_on(for_s)
        if has_moved:
            with self._lock:
                self._give_way(key)
        return run, has_moved

    def _give_way(self, key: str) -> None:
        size = self.size_bytes
        if size <= self._max_bytes:
            return
        lately_s = time.monotonic() - HISTORY_KEPT_S
        for other, run in self._runs.items():
            before = run.size_bytes
            if other != key and run.history_asked_s < lately_s and run.let_history_go():
                size -= before - run.size_bytes
            if size <= self._max_bytes:
                return
        all_series = [
            (series, run)
            for run in self._runs.values()
            for series in list(run.series.values())
            if len(series) > FEWEST_POINTS
        ]
        for series, run in sorted(all_series, key=lambda pair: pair[0].asked):
            before = series.size_bytes
            if run.fold(series):
                size -= before - series.size_bytes
            if size <= self._max_bytes:
                return
        while size > self._max_bytes and len(self._runs) > 1:
            oldest = next(each for each in self._runs if each != key)
            run = self._runs.pop(oldest)
            size -= run.size_bytes
            run.close()
