"""Parts of long metrics, read again in full, because what is kept of the whole is folded."""

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Sequence

from ...bus.events import Put, RunStarted
from ...bus.log.codec import DecodedEvent
from ...bus.runs.cursor import RunReader
from ...bus.runs.lineage import consistent_logs
from ...bus.runs.run_folder import RunFolder
from .series_cache import FEWEST_POINTS, Picture, RunSeries, Series, XAxis, axis_of

MAX_PART_BYTES = 64 << 20  # of all parts together
KEPT_S = 60.0  # who waits for a part, or looks at it, asks again within this
BEFORE = 500  # values before a part, for exponential means

_Asked = tuple[str, str, str, float, float, int, tuple[int, ...]]
_Row = tuple[float, float, float, float]
_ROW_BYTES, _READER_BYTES = 200, 10_000  # about


class ExactParts:
    """The parts that were looked at last.

    A part with more values than a series may have is folded like the whole, and says so. Over
    the limit, parts go that nobody asks for any more; those of one question never drive each
    other out, however many, or none would ever be read to its end: they are folded.
    """

    def __init__(self) -> None:
        self._parts: OrderedDict[_Asked, _Part] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return the number of parts that are kept."""
        return len(self._parts)

    @property
    def size_bytes(self) -> int:
        """Memory that all parts take."""
        return sum(part.size_bytes for part in list(self._parts.values()))

    def picture(
        self,
        key: str,
        folder: RunFolder,
        run: RunSeries,
        metric: str,
        x: XAxis,
        span: tuple[float, float],
        stretches: int,
        weights: tuple[float, ...],
        for_s: float,
    ) -> tuple[list[Picture], bool] | None:
        """Return pictures of a part, and whether all of it was read; None if nothing is yet.

        Args:
            key: of the run.
            folder: the run's.
            run: what is kept of it.
            metric: its name.
            x: the axis.
            span: the part, on that axis.
            stretches: as many as a picture has pixels in width.
            weights: of the values before, for exponential means, a picture each.
            for_s: read for so many seconds; what is left is read the next time.

        Raises:
            LogError: the log cannot be read there.
        """
        began_s = run.began_s  # another thread may begin to read the run anew
        shift = began_s if x == "wall" else 0.0
        low, high = span[0] - shift, span[1] - shift
        place = (key, metric, x, low, high, id(run), tuple(run.attempts))
        with self._lock:
            if (part := self._parts.get(place)) is None:
                part = self._parts[place] = _Part(folder, run, metric, x, low, high)
            self._parts.move_to_end(place)
            part.asked_s = time.monotonic()
        with part.lock:
            part.read_on(for_s)
        self._give_way()
        with part.lock:
            if not len(part.series) and not part.is_read:
                return None
            if (whole := run.series.get(metric)) is None:
                return None
            drawn = [
                part.series.picture(x, began_s, low, high, stretches, weight) for weight in weights
            ]
            return [each._replace(values=whole.values) for each in drawn], part.is_read

    def _give_way(self) -> None:
        with self._lock:
            size = self.size_bytes
            lately_s = time.monotonic() - KEPT_S
            for place, part in list(
                self._parts.items()
            ):  # what was not asked for the longest first
                if size <= MAX_PART_BYTES:
                    return
                if not part.lock.acquire(blocking=False):  # it is being read
                    continue
                before = part.size_bytes
                try:
                    if part.asked_s < lately_s:
                        self._parts.pop(place).close()
                        size -= before
                    else:
                        part.series.fold(FEWEST_POINTS)
                        size -= before - part.size_bytes
                finally:
                    part.lock.release()


class _Part:
    def __init__(
        self, folder: RunFolder, run: RunSeries, metric: str, x: XAxis, low: float, high: float
    ) -> None:
        self.lock = threading.Lock()
        self.series = Series()
        self.is_read = False
        self.asked_s = 0.0
        place = run.place_before(x, low)
        self._metric, self._axis = metric, axis_of(x)
        self._low, self._high, self._along = low, high, -math.inf
        self._before: deque[_Row] = deque(maxlen=BEFORE)
        self._began_ns, self._offset_ns = run.began_ns, place.offset_ns
        self._reader: RunReader | None = RunReader(consistent_logs(folder), place.position)

    @property
    def size_bytes(self) -> int:
        """Memory that it takes, about."""
        return self.series.size_bytes + len(self._before) * _ROW_BYTES + _READER_BYTES

    def read_on(self, for_s: float) -> None:
        """Read up to the end of the part, or of the log; stop after so many seconds."""
        until_s = time.monotonic() + for_s
        while (reader := self._reader) is not None:
            before = reader.position
            events = reader.read("none")
            if self._take(events):
                self.is_read = True
                self.close()
                return
            self.is_read = not events and reader.position == before
            if self.is_read:
                self._add([])
            if self.is_read or time.monotonic() >= until_s:
                break
        if reader is not None and reader.reader is not None:
            reader.reader.let_go()

    def _take(self, events: Sequence[DecodedEvent]) -> bool:
        """Add the values of the part; return whether what follows lies behind it."""
        rows: list[_Row] = []
        for event in events:
            if type(event) is RunStarted and self._began_ns is not None:
                self._offset_ns = event.wall_ns - event.time_ns - self._began_ns
            if type(event) is not Put or event.name != self._metric:
                continue
            time_s = (event.time_ns + self._offset_ns) / 1e9
            row = (event.step, event.epoch, time_s, float(event.value))
            self._along = max(self._along, row[self._axis])
            if self._along < self._low:
                self._before.append(row)
                continue
            rows.append(row)
            if self._along > self._high:
                self._add(rows)
                return True
        if rows:
            self._add(rows)
        return False

    def _add(self, rows: list[_Row]) -> None:
        rows = [*self._before, *rows]
        self._before.clear()
        if rows:
            self.series.add(rows)

    def close(self) -> None:
        """Close the log."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None
