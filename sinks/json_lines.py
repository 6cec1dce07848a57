"""A sink that writes one JSON object for each put."""

import math
from datetime import UTC, datetime

import msgspec

from ..bus.events import Put, Scalar
from .file_sink import FileSink
from .growing_file import GrowingFile

_encode = msgspec.json.Encoder().encode


class JSONLines(FileSink):
    """Writes one JSON object a line for each put: time, place, name and value.

    NaN and infinities, which JSON has no numbers for, are the strings ``"NaN"``, ``"Infinity"``
    and ``"-Infinity"``. What the file holds depends on the puts alone: a replayed run gives the
    same bytes.

    Args:
        folder: where; the run's own by default.
        name: the file's name; ``metrics.jsonl`` if not given.
        destination: takes puts with this label.
    """

    default_name = "metrics.jsonl"

    def open(self, resumed: bool) -> None:
        if resumed:
            assert self._size is not None
            self._file = GrowingFile.reopen(self.path, self._size)
        else:
            self._file = GrowingFile.create(self.path, private=self.folder is None)

    def write(self, batch: list[Put]) -> None:
        assert self._file is not None
        lines = []
        for put in batch:
            try:
                lines.append(self._line(put))
            except (OverflowError, ValueError, OSError) as error:  # a time outside the calendar
                self.refuse([put.name], put.step, error)
        self._file.append("".join(lines))

    def _line(self, put: Put) -> str:
        record = {
            "time": _iso(self.wall_ns(put)),
            "epoch": put.epoch,
            "step": put.step,
            "stage": put.stage,
            "name": put.name,
            "value": _as_json(put.value),
            "source": put.source,
        }
        return _encode(record).decode() + "\n"


def _as_json(value: Scalar) -> Scalar | str:
    if math.isfinite(value):
        return +value  # True as 1, so that a column is of numbers
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _iso(wall_ns: int) -> str:
    seconds, ns = divmod(wall_ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ns // 1000:06d}Z"
