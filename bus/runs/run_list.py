"""The runs of a folder, one line each, read from footers and from segments without one."""

import os
from pathlib import Path

import msgspec

from ..errors import LogError, LogFormatError, RunFolderError
from ..events import Event, RunEnded
from ..log.reader import LogReader
from ..log.segments import FolderStore, read_footer
from .run_folder import RunFolder


class RunLine(msgspec.Struct, frozen=True):
    """One run in short.

    Attributes:
        id, name, path: of the run.
        created_ns: wall clock, ns since 1970; 0 if unknown.
        duration_s: of all attempts together, from first to last event.
        how: how the last attempt ended; ``running``; ``killed``, when its process ended without
            recording an end; ``not recorded``; or ``damaged``.
        attempts: number of attempts.
        epochs, steps: completed.
        size_bytes: size of its files.
        problem: why it cannot be read; empty when it can.
    """

    id: str
    name: str
    path: str
    created_ns: int
    duration_s: float
    how: str
    attempts: int
    epochs: int
    steps: int
    size_bytes: int
    problem: str = ""


def list_runs(root: Path) -> list[RunLine]:
    """Return the runs in a folder, oldest first; an unreadable one is listed as such."""
    lines = [_line(path.parent) for path in root.glob("*/run.json")]
    return sorted(lines, key=lambda line: (line.created_ns, line.id))


def _line(folder: Path) -> RunLine:
    try:
        run = RunFolder.open(folder)
    except RunFolderError as error:
        problem = str(error)
        size = size_of(folder)
        return RunLine(folder.name, "", str(folder), 0, 0.0, "damaged", 0, 0, 0, size, problem)
    attempts = run.attempts()
    how, problem, duration_s, epochs, steps = "not recorded", "", 0.0, 0, 0
    for attempt in attempts:
        is_written = run.is_being_written(attempt)
        digest = _Digest()
        try:
            digest.read(run.store(attempt))
        except (LogError, RunFolderError) as error:
            how, problem = "damaged", str(error)
            continue
        ended = digest.ended.how if digest.ended else "killed"
        how = "running" if is_written else ended
        duration_s += (digest.last_time_ns - digest.first_time_ns) / 1e9
        if digest.last_time_ns:
            epochs, steps = digest.epoch, digest.step
    info = run.info
    return RunLine(
        id=info.id,
        name=info.name,
        path=str(folder),
        created_ns=info.created_ns,
        duration_s=duration_s,
        how=how,
        attempts=len(attempts),
        epochs=epochs,
        steps=steps,
        size_bytes=size_of(folder),
        problem=problem,
    )


class _Digest:
    """Start, end and last place of one attempt."""

    def __init__(self) -> None:
        self.ended: RunEnded | None = None
        self.first_time_ns = self.last_time_ns = 0
        self.epoch = self.step = 0

    def read(self, store: FolderStore) -> None:
        """Read footers, then whatever follows the last one.

        Raises:
            LogError: it is not a log, or from a newer major version.
        """
        next_seq = 0
        for index in store.indices():
            try:
                footer = read_footer(store, index)
            except LogFormatError:
                footer = None  # its events may still be sound
            if footer is None:
                self._read_events(store, next_seq)
                return
            summary = footer.summary
            next_seq = footer.next_seq
            self.ended = summary.ended or self.ended
            if summary.last_time_ns:
                self.first_time_ns = self.first_time_ns or summary.first_time_ns
                self.last_time_ns = summary.last_time_ns
                self.epoch, self.step = summary.epoch, summary.step

    def _read_events(self, store: FolderStore, next_seq: int) -> None:
        reader = LogReader(store)
        if next_seq:
            reader.seek(next_seq)
        try:
            for event in reader.events("latest"):
                if not isinstance(event, Event):
                    continue
                self.first_time_ns = self.first_time_ns or event.time_ns
                self.last_time_ns = event.time_ns
                self.epoch, self.step = event.epoch, event.step
                if isinstance(event, RunEnded):
                    self.ended = event
        finally:
            reader.close()


def size_of(folder: Path) -> int:
    """Return the size of the files in a folder in bytes; links are not followed."""
    total = 0
    waiting = [folder]
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except OSError:  # just removed
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(Path(entry.path))
                continue
            try:
                total += entry.stat(follow_symlinks=False).st_size
            except FileNotFoundError:
                continue
    return total
