"""A flight recorder's events on disk: one segment of the log's format, in a file by itself."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from ..errors import LogFormatError, RunFolderError
from ..events import Event
from ..log.format import BadFrame, SegmentHeader, unpack_header
from ..log.place import Place
from ..log.segments import MAX_SEGMENT_BYTES, FolderStore, Source
from ..log.trace import HookAt
from ..log.writer import LogIdentity, LogWriter
from .run_folder import RunFolder, RunInfo

Occasion = Literal["crash", "hang", "sigquit"]
STACKS = "-stacks.txt"
EVENTS = "-events.nlog"

_LEFT = re.compile(r"(crash|hang|sigquit)-(\d{8}-\d{6})(-\d+)?-(stacks\.txt|events\.nlog)")
_SEGMENT_OF_A_RUN = re.compile(r"\d+\.nlog")
_HEADER_BYTES = (1 << 20) + 64


class _FileStore(FolderStore):
    """The one segment of a flight recorder's file."""

    def __init__(self, file: Path) -> None:
        super().__init__(file.parent)
        self._file = file

    def indices(self) -> list[int]:
        return [0] if self._file.exists() else []

    def path(self, index: int) -> Path:
        return self._file

    def compressed_path(self, index: int) -> Path:
        return self._file.with_name(f"{self._file.name}.zst")

    def create(self, index: int) -> int:
        if index:
            raise RunFolderError(f"{self._file} is one segment; it has no other")
        return super().create(index)

    def open(self, index: int) -> Source:
        if index:
            raise FileNotFoundError(f"{self._file} is one segment; it has no other")
        return super().open(index)


class FlightFile(RunFolder):
    """The last events of a run, read as if they were the whole run.

    Args:
        path: the file.
        header: the header of its segment.
    """

    ends_because = "only its last events were kept, and they end here"

    def __init__(self, path: Path, header: SegmentHeader) -> None:
        super().__init__(path, RunInfo(header.run, "flight recorder", header.wall_ns, []))
        self._attempt = header.attempt
        self._rank = header.rank

    def attempts(self) -> list[int]:
        return [self._attempt]

    def ranks(self, attempt: int) -> list[int]:
        return [self._rank]

    def store(self, attempt: int, rank: int = 0) -> FolderStore:
        return _FileStore(self.path)

    def is_being_written(self, attempt: int) -> bool:
        return False


def is_flight_file(path: Path) -> bool:
    """Return whether a path is a file of last events, whatever its name."""
    is_segment = _SEGMENT_OF_A_RUN.fullmatch(path.name) is not None
    return path.suffix == ".nlog" and not is_segment and path.is_file()


def left_behind(folder: Path) -> list[Path]:
    """Return the files that crashes, hangs and SIGQUIT left in a run's folder, oldest first."""
    try:
        found = [match for name in os.listdir(folder) if (match := _LEFT.fullmatch(name))]
    except NotADirectoryError:  # a file of last events
        return []
    found.sort(key=lambda match: (match[2], abs(int(match[3] or 0)), match[0]))
    return [folder / match[0] for match in found]


def open_run(path: str | os.PathLike[str]) -> RunFolder:
    """Return the run in a folder, or the end of a run that a flight recorder wrote.

    Raises:
        RunFolderError: there is none.
        LogFormatError: the head of the flight recorder's file is damaged.
    """
    file = Path(path)
    if not is_flight_file(file):
        return RunFolder.open(path)
    with open(file, "rb") as opened:
        head = opened.read(_HEADER_BYTES)
    try:
        return FlightFile(file, unpack_header(memoryview(head))[0])
    except BadFrame as error:
        raise LogFormatError(f"{file} ends before its first event: {error}") from None


def write_flight_file(path: Path, identity: LogIdentity, notes: Sequence[Event | HookAt]) -> None:
    """Write a flight recorder's events.

    Args:
        path: the new file.
        identity: the run and attempt.
        notes: the events, oldest first.

    Raises:
        RunFolderError: the file cannot be created.
        OSError: it could not be written completely.
    """
    place = Place(identity.rank)
    writer = LogWriter(
        _FileStore(path),
        identity,
        place,
        segment_bytes=MAX_SEGMENT_BYTES,
        began_ns=notes[0].time_ns if notes else None,
    )
    for note in notes:
        if isinstance(note, HookAt):
            if note.place != place.as_tuple():
                epoch, step, batch_idx, dataloader_idx, stage = note.place
                place.move(
                    stage=stage,
                    epoch=epoch,
                    step=step,
                    batch_idx=batch_idx,
                    dataloader_idx=dataloader_idx,
                )
            writer.add_hook(note.name, note.time_ns, note.duration_ns)
        else:
            writer.append(numbered(note, writer.next_seq()))
    writer.close()
    if writer.lost_events:
        raise OSError(f"{writer.lost_events} events could not be written to {path}")


def numbered(event: Event, seq: int) -> Event:
    """Return an event with a sequence number.

    Args:
        event: the event.
        seq: its number.
    """
    fields = [getattr(event, name) for name in event.__struct_fields__]
    return type(event)(seq, *fields[1:])
