"""Parquet: one table of all puts, for data frames."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from ..bus.errors import MissingPackageError, SinkError
from ..bus.events import Put
from ..bus.runs.cursor import PlainState
from ..bus.system.atomic_file import atomic_file
from .file_sink import FileSink
from .growing_file import (
    GrowingFile,
    is_abandoned,
    refuse_all_but_files,
    remove_file,
    temporary_name,
)

_ROW_GROUP = 1 << 17  # rows
_CANNOT_HOLD = (OverflowError, ValueError, TypeError)  # what Arrow raises on an integer of 65 bits


class Parquet(FileSink):
    """A Parquet file with a row for each put; readable with pandas, polars or DuckDB.

    Columns: ``time`` (UTC), ``rank``, ``stage``, ``epoch``, ``step``, ``batch_idx``,
    ``dataloader_idx``, ``source``, ``hook``, ``name``, ``value`` (float64).

    A Parquet file cannot be added to, so rows are collected in a file beside it,
    ``<name>.arrows`` (an Arrow stream, which can be read while the run goes on), and the Parquet
    file is written when the run ends. After a kill, ``nightbus replay RUN --resume`` writes it.

    Needs the extra ``parquet``.

    Args:
        folder: where; the run's own by default.
        name: the file's name; ``metrics.parquet`` if not given.
        destination: takes puts with this label.

    Raises:
        MissingPackageError: pyarrow is missing.
    """

    default_name = "metrics.parquet"
    batch_size = 20_000

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        name: str | None = None,
        destination: str = "loggers",
    ) -> None:
        super().__init__(folder, name=name, destination=destination)
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise MissingPackageError("Parquet", "pyarrow", "parquet") from None
        self._arrow: Any = pyarrow
        self._schema = pyarrow.schema(
            [
                ("time", pyarrow.timestamp("us", tz="UTC")),
                *((name, pyarrow.int32()) for name in ("rank",)),
                ("stage", pyarrow.string()),
                *((n, pyarrow.int64()) for n in ("epoch", "step", "batch_idx", "dataloader_idx")),
                *((name, pyarrow.string()) for name in ("source", "hook", "name")),
                ("value", pyarrow.float64()),
            ]
        )
        self._rows = 0  # in the stream
        self._saved_rows: int | None = None  # in the Parquet file

    @property
    def _stream_path(self) -> Path:
        return self.path.with_name(f"{self.path.name}.arrows")

    def open(self, resumed: bool) -> None:
        """Begin a stream, or continue the one from before.

        Raises:
            SinkError: there is a file already, or the one to continue was changed.
        """
        if not resumed:
            self._rows, self._saved_rows = 0, None
            if self.path.exists():
                raise SinkError(
                    f"{self.path} exists already and is not overwritten; choose another folder"
                )
            self._file = GrowingFile.create(self._stream_path, self._head(), self.folder is None)
            return
        assert self._size is not None
        if self._stream_path.exists() or self._saved_rows is None:
            self._file = GrowingFile.reopen(self._stream_path, self._size)
        else:
            self._file = self._stream_of_saved()

    def _stream_of_saved(self) -> GrowingFile:
        """Rebuild the stream from the Parquet file that an earlier attempt wrote."""
        if not self.path.exists():
            raise SinkError(
                f"{self.path} is lost: to rewrite it, replay the run into another folder"
            )
        refuse_all_but_files(self.path)
        saved = self._arrow.parquet.read_table(self.path, schema=self._schema)
        if saved.num_rows < self._rows:
            raise SinkError(
                f"{self.path} has {saved.num_rows} rows, but {self._rows} were delivered before. "
                "The file was changed: to rewrite it, replay the run into another folder"
            )
        file = GrowingFile.create(self._stream_path, self._head(), self.folder is None)
        for batch in saved.slice(0, self._rows).to_batches(_ROW_GROUP):
            file.append(batch.serialize().to_pybytes())
        file.flush()
        return file

    def _is_there(self) -> bool:
        return super()._is_there() or os.path.lexists(self._stream_path)

    def _is_abandoned(self) -> bool:
        return not self.path.exists() and is_abandoned(self._stream_path, self._head())

    def discard(self) -> None:
        super().discard()
        remove_file(self._stream_path)

    def write(self, batch: list[Put]) -> None:
        assert self._file is not None
        try:
            rows = self._rows_of(batch)
        except _CANNOT_HOLD:  # at least one of them
            batch = [put for put in batch if self._can_hold(put)]
            rows = self._rows_of(batch)
        if not batch:
            return
        self._file.append(rows.serialize().to_pybytes())
        self._rows += len(batch)
        self._saved_rows = None

    def _rows_of(self, batch: list[Put]) -> Any:
        columns: list[list[Any]] = [
            [(put.time_ns + self._nightbus_wall_offset_ns) // 1000 for put in batch],
            *([getattr(put, name) for put in batch] for name in self._schema.names[1:-1]),
            [float(put.value) for put in batch],
        ]
        return self._arrow.record_batch(columns, schema=self._schema)

    def _can_hold(self, put: Put) -> bool:
        try:
            self._rows_of([put])
        except _CANNOT_HOLD as error:
            self.refuse([put.name], put.step, error)
            return False
        return True

    def finish(self) -> None:
        """Write the Parquet file atomically."""
        if self._file is None or self._saved_rows == self._rows:
            return
        self._file.flush()
        permissions = 0o600 if self.folder is None else 0o666
        with (
            atomic_file(self.path, temporary_name(self.path), permissions) as file,
            self._arrow.parquet.ParquetWriter(file, self._schema) as writer,
        ):
            for table in self._tables():
                writer.write_table(table)
        self._saved_rows = self._rows

    def _tables(self) -> Iterator[Any]:
        """Yield the stream's rows, in parts that make good row groups."""
        batches, rows = [], 0
        for batch in self._batches():
            batches.append(batch)
            rows += batch.num_rows
            if rows >= _ROW_GROUP:
                yield self._arrow.Table.from_batches(batches, self._schema)
                batches, rows = [], 0
        yield self._arrow.Table.from_batches(batches, self._schema)

    def _batches(self) -> Iterator[Any]:
        with self._arrow.OSFile(str(self._stream_path)) as file:
            yield from self._arrow.ipc.open_stream(file)

    def _head(self) -> bytes:
        return bytes(self._schema.serialize().to_pybytes())

    def close(self) -> None:
        super().close()
        if self._saved_rows == self._rows and self._stream_path.exists():
            self._stream_path.unlink()

    def state(self) -> PlainState:
        return {**super().state(), "rows": self._rows, "saved_rows": self._saved_rows}

    def load_state(self, state: PlainState) -> None:
        super().load_state(state)
        known = cast("Mapping[str, Any]", state)
        self._rows, self._saved_rows = known["rows"], known["saved_rows"]
