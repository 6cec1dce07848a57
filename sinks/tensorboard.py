"""TensorBoard: scalars, images, figures, histograms, texts, tables and hyperparameters."""

import os
import struct
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

from ..bus.errors import MissingPackageError
from ..bus.events import Event, Media, Plain, Put, RunEnded, RunStarted
from ..bus.media import decoded
from ..bus.runs.cursor import PlainState
from .file_sink import FileSink
from .growing_file import GrowingFile
from .step_rows import StepRow, StepRows

_CANNOT_HOLD = (OverflowError, ValueError, TypeError)  # what protobuf raises for a step of 65 bits
_PNG_SIZE = slice(16, 24)  # width and height in a PNG's first chunk


class TensorBoard(FileSink):
    """An event file for TensorBoard: ``tensorboard --logdir runs``.

    The step axis is the optimizer step, and time is the time of the put, live and in replay: a
    replayed run gives the same bytes. Hyperparameters that module and datamodule saved are shown
    under HPARAMS, a table is a text.

    Puts of one step share one record, which costs 1.2 us a scalar; ``SummaryWriter.add_scalar``
    of tensorboardX and of torch takes 33 to 42 us. Needs the extra ``tensorboard``; the viewer
    itself is the package ``tensorboard``.

    Args:
        folder: where; the run's own by default.
        name: the file's name, with ``tfevents`` in it, by which TensorBoard finds it.
        destination: takes puts with this label.

    Raises:
        MissingPackageError: tensorboardX or crc32c is missing.
    """

    default_name = "events.out.tfevents.nightbus"
    events: tuple[type[Event], ...] = (Put, Media, RunStarted, RunEnded)

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        name: str | None = None,
        destination: str = "loggers",
    ) -> None:
        super().__init__(folder, name=name, destination=destination)
        self._format = _Format()
        self._begin()

    def _begin(self) -> None:
        self._has_head = False
        self._rows = StepRows()

    def open(self, resumed: bool) -> None:
        if resumed:
            assert self._size is not None
            self._file = GrowingFile.reopen(self.path, self._size)
        else:
            self._begin()
            self._file = GrowingFile.create(self.path, private=self.folder is None)

    def write(self, batch: list[Put | Media | RunStarted | RunEnded]) -> None:
        add, wall_ns = self._rows.add, self.wall_ns
        for event in batch:
            if type(event) is Put:
                self._append_scalars(add(event, wall_ns(event)))
                continue
            self._append_scalars(self._rows.end())
            if type(event) is Media:
                try:
                    record = self._format.media(event, wall_ns(event))
                except _CANNOT_HOLD as error:
                    self.refuse([event.name], event.step, error)
                    continue
                self._append(record, wall_ns(event))
            elif type(event) is RunStarted:
                record = self._format.hyperparameters(event.hparams, wall_ns(event))
                self._append(record, wall_ns(event))
            elif type(event) is RunEnded:
                succeeded = event.how in ("completed", "stopped")
                self._append(self._format.session_end(succeeded, wall_ns(event)), wall_ns(event))

    def finish(self) -> None:
        """Write the last record, which is complete now."""
        self._append_scalars(self._rows.end())

    def _append_scalars(self, row: StepRow | None) -> None:
        if row is None:
            return
        try:
            record = self._format.scalars(row.values, row.step, row.wall_ns)
        except _CANNOT_HOLD as error:
            self.refuse(row.values, row.step, error)
            return
        self._append(record, row.wall_ns)

    def _append(self, record: bytes, wall_ns: int) -> None:
        assert self._file is not None
        if not self._has_head:
            self._has_head = True
            self._file.append(self._format.head(wall_ns))
        self._file.append(record)

    def state(self) -> PlainState:
        return {**super().state(), "has_head": self._has_head, **self._rows.state()}

    def load_state(self, state: PlainState) -> None:
        super().load_state(state)
        self._has_head = bool(state["has_head"])
        self._rows.load_state(state)


class _Format:
    """Encodes records of an event file: protocol buffers, each with its length and checksums."""

    def __init__(self) -> None:
        try:
            import crc32c  # noqa: F401  (tensorboardX takes it if it is there, 20 times as fast)
        except ImportError:
            raise MissingPackageError("TensorBoard", "crc32c", "tensorboard") from None
        try:
            from tensorboardX import summary
            from tensorboardX.proto import api_pb2, event_pb2, plugin_hparams_pb2, summary_pb2
            from tensorboardX.record_writer import masked_crc32c
        except ImportError:
            raise MissingPackageError("TensorBoard", "tensorboardX", "tensorboard") from None
        self._new_event: Any = event_pb2.Event
        self._summaries: Any = summary
        self._protos: Any = summary_pb2
        self._hparams: Any = plugin_hparams_pb2
        self._status: Any = api_pb2.Status
        self._checksum: Any = masked_crc32c

    def head(self, wall_ns: int) -> bytes:
        """Return the first record of a file."""
        return self._record(self._new_event(wall_time=wall_ns / 1e9, file_version="brain.Event:2"))

    def scalars(self, values: Mapping[str, float], step: int, wall_ns: int) -> bytes:
        """Return a record of the scalars of one step."""
        event = self._new_event(wall_time=wall_ns / 1e9, step=step)
        add = event.summary.value.add
        for name, value in values.items():
            add(tag=name, simple_value=value)
        return self._record(event)

    def media(self, event: Media, wall_ns: int) -> bytes:
        """Return a record of an image, figure, histogram, text or table."""
        name, content = event.name, decoded(event)
        if event.kind in ("image", "figure"):
            summary = self._image(name, content)
        elif event.kind == "histogram":
            summary = self._histogram(name, content["edges"], content["counts"])
        else:
            text = content if event.kind == "text" else markdown(**content)
            summary = self._summaries.text(name, text)
        return self._record(
            self._new_event(wall_time=wall_ns / 1e9, step=event.step, summary=summary)
        )

    def _image(self, name: str, png: bytes) -> Any:
        width, height = struct.unpack(">II", png[_PNG_SIZE])
        image = self._protos.Summary.Image(
            width=width, height=height, colorspace=4, encoded_image_string=png
        )
        return self._protos.Summary(value=[self._protos.Summary.Value(tag=name, image=image)])

    def _histogram(self, name: str, edges: list[float], counts: list[int]) -> Any:
        # The values themselves are not recorded: each counts as the middle of its bin.
        middles = [(low + high) / 2 for low, high in pairwise(edges)]
        weighted = list(zip(middles, counts, strict=True))
        return self._summaries.histogram_raw(
            name,
            min=edges[0],
            max=edges[-1],
            num=sum(counts),
            sum=sum(middle * count for middle, count in weighted),
            sum_squares=sum(middle * middle * count for middle, count in weighted),
            bucket_limits=edges[1:],
            bucket_counts=counts,
        )

    def hyperparameters(self, hparams: Mapping[str, Plain], wall_ns: int) -> bytes:
        """Return what HPARAMS shows of this run; TensorBoard finds the metrics by itself."""
        start = self._hparams.SessionStartInfo(start_time_secs=wall_ns / 1e9)
        for name, value in hparams.items():
            if isinstance(value, bool):
                start.hparams[name].bool_value = value
            elif isinstance(value, int | float):
                start.hparams[name].number_value = value
            else:
                start.hparams[name].string_value = str(value)
        info = self._hparams.HParamsPluginData(session_start_info=start, version=0)
        return self._session("_hparams_/session_start_info", info, wall_ns)

    def session_end(self, completed: bool, wall_ns: int) -> bytes:
        """Return how the run ended, for HPARAMS."""
        status = "STATUS_SUCCESS" if completed else "STATUS_FAILURE"
        end = self._hparams.SessionEndInfo(
            status=self._status.Value(status), end_time_secs=wall_ns / 1e9
        )
        info = self._hparams.HParamsPluginData(session_end_info=end, version=0)
        return self._session("_hparams_/session_end_info", info, wall_ns)

    def _session(self, tag: str, info: Any, wall_ns: int) -> bytes:
        metadata = self._protos.SummaryMetadata()
        metadata.plugin_data.plugin_name = "hparams"
        metadata.plugin_data.content = info.SerializeToString(deterministic=True)
        value = self._protos.Summary.Value(tag=tag, metadata=metadata)
        summary = self._protos.Summary(value=[value])
        return self._record(self._new_event(wall_time=wall_ns / 1e9, summary=summary))

    def _record(self, event: Any) -> bytes:
        data = event.SerializeToString(deterministic=True)
        length = struct.pack("<Q", len(data))
        checksum = self._checksum
        return b"".join((length, _uint32(checksum(length)), data, _uint32(checksum(data))))


_uint32 = struct.Struct("<I").pack


def markdown(columns: Iterable[str], rows: Iterable[Iterable[Plain]]) -> str:
    """Return a table in the Markdown that TensorBoard shows.

    Args:
        columns: titles of the columns.
        rows: values of each row.
    """
    titles = [_cell(column) for column in columns]
    lines = [titles, ["---"] * len(titles), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Plain) -> str:
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")
