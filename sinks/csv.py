"""CSV: a table with a column for each metric."""

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from ..bus.errors import SinkError
from ..bus.events import Put
from ..bus.runs.cursor import PlainState
from .file_sink import FileSink
from .growing_file import GrowingFile, refuse_all_but_files, replace_file

PLACE_COLUMNS = ("epoch", "step", "stage")
_CHUNK_BYTES = 1 << 20


class CSV(FileSink):
    """A table with a column for each metric, and a row for each place in training.

    Columns are ``epoch``, ``step`` and ``stage``, then the metrics as they first appear. Puts from
    one place share a row, until a name comes a second time. A metric that appears later gets a
    column at the end, and the rows before it are filled up. A metric that is itself called
    ``epoch``, ``step`` or ``stage`` gets the column ``epoch.1`` and so on.

    Numbers are written so that they come back to the bit, True as 1 and False as 0; a missing value
    is empty, while NaN is ``nan``. What the file holds depends on the puts alone: a replayed run
    gives the same bytes.

    Args:
        folder: where; the run's own by default.
        name: the file's name; ``metrics.csv`` if not given.
        destination: takes puts with this label.
    """

    default_name = "metrics.csv"

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        name: str | None = None,
        destination: str = "loggers",
    ) -> None:
        super().__init__(folder, name=name, destination=destination)
        self._begin()

    def _begin(self) -> None:
        self._columns: dict[str, None] = {}  # metrics, in order
        self._rows = 0  # written
        self._place: tuple[int, int, str] | None = None  # of the row not yet written
        self._row: dict[str, Any] = {}  # metric -> value, of that row
        # Size of the file without that row: at an attempt's end it is written, and the next attempt
        # may put more from the same place.
        self._size_without: int | None = None

    def open(self, resumed: bool) -> None:
        if not resumed:
            self._begin()
            self._file = GrowingFile.create(self.path, self._head(), self.folder is None)
            return
        assert self._size is not None
        self._drop_later_columns()
        self._file = GrowingFile.reopen(self.path, self._size)

    def _head(self) -> bytes:
        return _line(PLACE_COLUMNS).encode()

    def _drop_later_columns(self) -> None:
        """Undo columns added after the restored state.

        Adding columns rewrites all rows, so the file size in the state is of no use then.
        """
        path, header = self.path, _header(self._columns)
        refuse_all_but_files(path)
        found = _read_header(path)
        if not found or found == header:
            return
        if found[: len(header)] != header:
            raise SinkError(
                f"{path} begins with the columns {', '.join(found)}, where {', '.join(header)} "
                "were written. The file was changed: to rewrite it, replay the run into another "
                "folder"
            )
        filler = b"," * (len(found) - len(header)) + b"\n"
        lines = _body_lines(path, found, self._rows)
        narrow = (line.removesuffix(filler) + b"\n" for line in lines)
        replace_file(path, _chain(_line(header), narrow))

    def write(self, batch: list[Put]) -> None:
        assert self._file is not None
        if self._size_without is not None:
            self._file.cut(self._size_without)
            self._size_without = None
        row = self._row
        for put in batch:
            place = (put.epoch, put.step, put.stage)
            name = put.name
            if place != self._place or name in row:
                self._end_row()
                row = self._row
                self._place = place
            row[name] = put.value

    def finish(self) -> None:
        """Write the last row; it is written again if the next attempt adds to it."""
        if self._place is not None and self._size_without is None:
            self._size_without = self._append(self._place, self._row)

    def _end_row(self) -> None:
        if self._place is None:
            return
        row, self._row = self._row, {}
        place, self._place = self._place, None
        self._append(place, row)
        self._rows += 1

    def _append(self, place: tuple[int, int, str], row: dict[str, Any]) -> int:
        """Append a row, and return the file's size before it."""
        assert self._file is not None
        if not row.keys() <= self._columns.keys():
            self._add_columns([name for name in row if name not in self._columns])
        size = self._file.size
        cells = [repr(+row[name]) if name in row else "" for name in self._columns]
        self._file.append(f"{place[0]},{place[1]},{place[2]},{','.join(cells)}\n")
        return size

    def _add_columns(self, new: list[str]) -> None:
        assert self._file is not None
        self._file.flush()
        before = _header(self._columns)
        columns = self._columns | dict.fromkeys(new)
        self._file.replace(_chain(_line(_header(columns)), self._widened(before, len(new))))
        self._columns = columns  # only once the file has them

    def _widened(self, header: Sequence[str], number: int) -> Iterator[bytes]:
        """Yield the rows with ``number`` more empty cells.

        The file holds no quotes, so each line is a row.
        """
        filler = b"," * number + b"\n"
        with open(self.path, "rb") as file:
            file.seek(len(_line(header).encode()))
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk.replace(b"\n", filler)

    def close(self) -> None:
        super().close()
        if self._size_without is not None:
            self._size = self._size_without

    def state(self) -> PlainState:
        known = super().state()
        return {
            **known,
            "size": known["size"] if self._size_without is None else self._size_without,
            "columns": list(self._columns),
            "rows": self._rows,
            "place": None if self._place is None else list(self._place),
            "row_names": list(self._row),
            "row_values": list(self._row.values()),
        }

    def load_state(self, state: PlainState) -> None:
        super().load_state(state)
        known = cast("Mapping[str, Any]", state)
        self._columns = dict.fromkeys(known["columns"])
        self._rows = known["rows"]
        self._place = None if known["place"] is None else tuple(known["place"])
        self._row = dict(zip(known["row_names"], known["row_values"], strict=True))


def _header(metrics: Iterable[str]) -> list[str]:
    """Return the column titles; each is unique, and stays the same when more metrics follow."""
    titles = list(PLACE_COLUMNS)
    taken = set(titles)
    for metric in metrics:
        title, number = metric, 0
        while title in taken:
            number += 1
            title = f"{metric}.{number}"
        taken.add(title)
        titles.append(title)
    return titles


def _line(values: Iterable[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(values)
    return buffer.getvalue()


def _read_header(path: Path) -> list[str]:
    """Return the titles in a file; an empty list if it is missing or empty."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return next(csv.reader(file), [])
    except FileNotFoundError:
        return []


def _body_lines(path: Path, header: Sequence[str], number: int) -> Iterator[bytes]:
    """Yield the first rows of a file, each with its line end."""
    with open(path, "rb") as file:
        file.seek(len(_line(header).encode()))
        for line, _ in zip(file, range(number), strict=False):
            yield line


def _chain(head: str, rest: Iterable[bytes]) -> Iterator[bytes]:
    yield head.encode()
    yield from rest
