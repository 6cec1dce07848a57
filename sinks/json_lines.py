"""JSON lines: one object for each put."""

import math
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import msgspec

from ..bus.cursor import PlainState
from ..bus.events import Put, Scalar
from .sink import Sink
from .text_file import TextFile

_encode = msgspec.json.Encoder().encode


class JSONLines(Sink):
    """One JSON object a line for each put: time, place, name and value.

    NaN and infinities, which JSON has no numbers for, are the strings ``"NaN"``, ``"Infinity"``
    and ``"-Infinity"``. What the file holds depends on the puts alone: a replayed run gives the
    same bytes.

    Args:
        folder: where; the run's own by default.
        name: the file's name.
        destination: takes puts with this label.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        name: str = "metrics.jsonl",
        destination: str = "loggers",
    ) -> None:
        self.folder = None if folder is None else Path(folder)
        self.file_name = name
        self.destination = destination
        self._file: TextFile | None = None
        self._size: int | None = None

    @property
    def needs_run_folder(self) -> bool:
        """Whether it writes into the run's folder."""
        return self.folder is None

    @property
    def path(self) -> Path:
        """The file."""
        return (self.run_path if self.folder is None else self.folder) / self.file_name

    def open(self, resumed: bool) -> None:
        if resumed:
            assert self._size is not None
            self._file = TextFile.reopen(self.path, self._size)
        else:
            self._file = TextFile.create(self.path)

    def write(self, batch: list[Put]) -> None:
        assert self._file is not None
        self._file.append("".join(self._line(put) for put in batch))

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

    def flush(self) -> None:
        assert self._file is not None
        self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._size = self._file.size
            self._file.close()
            self._file = None

    def state(self) -> PlainState:
        return {
            "folder": None if self.folder is None else str(self.folder.resolve()),
            "size": self._file.size if self._file else self._size,
        }

    def load_state(self, state: PlainState) -> None:
        known = cast("dict[str, Any]", state)
        if known["folder"] is not None:
            self.folder = Path(known["folder"])
        self._size = known["size"]


def _as_json(value: Scalar) -> Scalar | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _iso(wall_ns: int) -> str:
    seconds, ns = divmod(wall_ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ns // 1000:06d}Z"
