"""CSV: a table with a column for each metric."""

import csv
import io
import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from ..bus.cursor import PlainState
from ..bus.events import Put
from ..bus.run_folder import write_atomically
from .sink import Sink
from .text_file import TextFile

PLACE_COLUMNS = ("epoch", "step", "stage")


class CSV(Sink):
    """A table with a column for each metric, and a row for each place in training.

    Columns are ``epoch``, ``step`` and ``stage``, then the metrics as they first appear. Puts from
    one place share a row, until a name comes a second time. A metric that appears later gets a
    column at the end, and the rows before it are filled up. What the file holds depends on the
    puts alone: a replayed run gives the same bytes.

    Args:
        folder: where; the run's own by default.
        name: the file's name.
        destination: takes puts with this label.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        name: str = "metrics.csv",
        destination: str = "loggers",
    ) -> None:
        self.folder = None if folder is None else Path(folder)
        self.file_name = name
        self.destination = destination
        self._columns: list[str] = []
        self._file: TextFile | None = None
        self._size: int | None = None
        self._place: tuple[int, int, str] | None = None  # of the row that is not written yet
        self._rows = 0  # written
        self._row: dict[str, Any] = {}  # metric -> value, of that row

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
            self._drop_later_columns()
        self._file = TextFile(self.path, self._size if resumed else None)
        if not resumed:
            self._file.append(_line(PLACE_COLUMNS))

    def _drop_later_columns(self) -> None:
        """Undo what was written after the state that is gone on from, if it brought columns: then
        all rows were rewritten, and the size that the state knows means nothing.
        """
        header = (*PLACE_COLUMNS, *self._columns)
        if not self.path.exists():
            return
        with open(self.path, newline="") as file:
            table = csv.reader(file)
            if tuple(next(table, ())) == header:
                return
            rows = [row[: len(header)] for row in itertools.islice(table, self._rows)]
        if len(rows) == self._rows:
            write_atomically(self.path, "".join(map(_line, (header, *rows))).encode())

    def write(self, batch: list[Put]) -> None:
        row = self._row
        for put in batch:
            place = (put.epoch, put.step, put.stage)
            name = put.name
            if place != self._place or name in row:
                self._end_row()
                row = self._row
                self._place = place
            row[name] = put.value

    def flush(self) -> None:
        assert self._file is not None
        self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._size = self._file.size
            self._file.close()
            self._file = None

    def finish(self) -> None:
        """Write the row that nothing was added to any more: the attempt has ended."""
        self._end_row()

    def _end_row(self) -> None:
        if self._place is None or self._file is None:
            return
        row, self._row = self._row, {}
        place, self._place = self._place, None
        new = [name for name in row if name not in self._columns]
        if new:
            self._add_columns(new)
        self._rows += 1
        self._file.append(_line((*place, *(row.get(name, "") for name in self._columns))))

    def _add_columns(self, new: list[str]) -> None:
        assert self._file is not None
        table = csv.reader(io.StringIO(self._file.read()))
        next(table)
        self._columns += new
        lines = [_line((*PLACE_COLUMNS, *self._columns))]
        filler = [""] * len(new)
        lines += [_line((*row, *filler)) for row in table]
        self._file.replace("".join(lines))

    def state(self) -> PlainState:
        return {
            "folder": None if self.folder is None else str(self.folder.resolve()),
            "size": self._file.size if self._file else self._size,
            "columns": list(self._columns),
            "rows": self._rows,
            "place": None if self._place is None else list(self._place),
            "row_names": list(self._row),
            "row_values": list(self._row.values()),
        }

    def load_state(self, state: PlainState) -> None:
        known = cast("Mapping[str, Any]", state)
        if known["folder"] is not None:
            self.folder = Path(known["folder"])
        self._size = known["size"]
        self._columns = list(known["columns"])
        self._rows = known["rows"]
        self._place = None if known["place"] is None else tuple(known["place"])
        self._row = dict(zip(known["row_names"], known["row_values"], strict=True))


def _line(values: Any) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(values)
    return buffer.getvalue()
