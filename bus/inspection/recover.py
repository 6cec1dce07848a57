"""Copies all readable events of a damaged run to a new run folder."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ..errors import RunFolderError, UsageError
from ..events import Event, Gap, Stage
from ..log.codec import encode_events
from ..log.format import (
    FORMAT_MAJOR,
    FORMAT_MINOR,
    HAS_RECORDS,
    KIND_EVENTS,
    Footer,
    Frame,
    SegmentHeader,
    pack_footer,
    pack_frame,
    pack_header,
)
from ..log.segments import FolderStore, sync_folder
from ..log.summary import Summary
from ..runs.run_folder import RunFolder, write_atomically
from .salvage import Salvage, SoundFrame, salvage_segment


class Loss(msgspec.Struct, frozen=True):
    """A part that could not be recovered.

    Attributes:
        where: the segment's path within the run.
        what: one line for people.
        events: number of events, where the log says so; 0 if unknown.
    """

    where: str
    what: str
    events: int = 0


class Recovery(msgspec.Struct):
    """Result of a recovery.

    Attributes:
        path: the new folder.
        events: number recovered.
        lost_events: number known to be lost.
        losses: what could not be recovered.
    """

    path: str
    events: int = 0
    lost_events: int = 0
    losses: list[Loss] = []


def recover(run: RunFolder, out: Path) -> Recovery:
    """Write what is readable of a run's logs to a new folder, with a Gap where events are missing.

    Args:
        run: the damaged run.
        out: the new run's folder; must not exist.

    Returns:
        What was recovered and what was lost.

    Raises:
        UsageError: the run is still being written, or ``out`` exists.
        RunFolderError: ``out`` cannot be created.
        NewerFormatError: a log is from a newer major version.
    """
    if run.is_running():
        raise UsageError(f"{run.path} is still being written; wait for its end, or stop it")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.mkdir(mode=0o700)
    except FileExistsError:
        raise UsageError(f"{out} exists already; name a folder that does not") from None
    except OSError as error:
        raise RunFolderError(f"cannot make {out}: {error.strerror}") from error
    try:
        return _recover_into(run, out)
    except BaseException:
        shutil.rmtree(out)  # half a run would look like a whole one
        raise


def _recover_into(run: RunFolder, out: Path) -> Recovery:
    recovery = Recovery(str(out))
    write_atomically(out / "run.json", msgspec.json.format(msgspec.json.encode(run.info)))
    target = RunFolder(out, run.info)
    for attempt in run.attempts():
        target.attempt_path(attempt).mkdir(mode=0o700)
        for rank in run.ranks(attempt):
            target.store(attempt, rank).folder.mkdir(mode=0o700)
            log = _RecoveredLog(run, attempt, rank, target.store(attempt, rank), recovery)
            log.write()
    return recovery


def with_missing(indices: list[int]) -> Iterator[tuple[int, int]]:
    """Yield each segment's number, and how many segments are missing before it."""
    expected = 0
    for index in indices:
        yield index, index - expected
        expected = index + 1


def missing_text(number: int) -> str:
    """Return a text about missing segments, to stand beside the name of the first."""
    return "the segment is missing" if number == 1 else f"{number:,} segments from here are missing"


class _RecoveredLog:
    """Rewrites the log of one attempt and rank from its sound frames."""

    def __init__(
        self, run: RunFolder, attempt: int, rank: int, target: FolderStore, recovery: Recovery
    ) -> None:
        self._run, self._attempt, self._rank = run, attempt, rank
        self._source = run.store(attempt, rank)
        self._target = target
        self._recovery = recovery
        self._next_seq = 0
        self._index = 0  # of the next segment to write
        self._header: SegmentHeader | None = None  # the last sound one
        self._place: tuple[Stage, int, int] = ("", 0, 0)
        self._time_ns = 0

    def write(self) -> None:
        """Write all segments."""
        indices = self._source.indices()
        for index, missing in with_missing(indices):
            if missing:
                self._lose(index - missing, missing_text(missing))
            salvage = salvage_segment(self._source, index)
            for damage in salvage.damages:
                self._lose(index, damage.describe())
            if salvage.mark is not None and (salvage.frames or salvage.footer is not None):
                self._write_segment(index, salvage, salvage.mark)
        sync_folder(self._target.folder)

    def _lose(self, index: int, what: str, events: int = 0) -> None:
        where = self._source.path_there(index).relative_to(self._run.path)
        self._recovery.losses.append(Loss(str(where), what, events))
        self._recovery.lost_events += events

    def _write_segment(self, index: int, salvage: Salvage, mark: int) -> None:
        header = self._header_for(salvage, mark)
        summary = Summary()
        fd = self._target.create(self._index)
        self._index += 1
        with open(fd, "wb") as file:
            file.write(pack_header(header))
            for sound in self._with_gaps(index, salvage, mark):
                file.write(sound.raw)
                summary.add(sound.events)
                self._recovery.events += len(sound.events)
            end = file.tell()
            file.write(pack_footer(mark, Footer(self._next_seq, end, summary), end))
            file.flush()
            os.fsync(file.fileno())

    def _header_for(self, salvage: Salvage, mark: int) -> SegmentHeader:
        """Return the segment's own header if it is sound, otherwise one made of what is known."""
        self._header = salvage.header or self._header
        known = self._header
        return SegmentHeader(
            format=known.format if known else (FORMAT_MAJOR, FORMAT_MINOR),
            run=known.run if known else self._run.info.id,
            attempt=self._attempt,
            rank=self._rank,
            world_size=known.world_size if known else 1,
            segment=self._index,
            first_seq=self._next_seq,
            mark=mark,
            wall_ns=known.wall_ns if known else self._run.info.created_ns,
            mono_ns=known.mono_ns if known else 0,
            schema=known.schema if known else {},
            schema_version=known.schema_version if known else 1,
        )

    def _with_gaps(self, index: int, salvage: Salvage, mark: int) -> list[SoundFrame]:
        """Return the segment's frames after what was written, with a Gap for what is missing."""
        frames: list[SoundFrame] = []
        for sound in salvage.frames:
            if sound.frame.first_seq < self._next_seq:
                self._lose(index, f"event {sound.frame.first_seq} is there a second time")
                continue
            if not is_gap(sound, self._next_seq):
                frames += self._gap(index, sound.frame.first_seq, mark)
            frames.append(sound)
            self._next_seq = sound.next_seq
            self._remember(sound)
        if salvage.footer is not None:
            frames += self._gap(index, salvage.footer.next_seq, mark)
        return frames

    def _remember(self, sound: SoundFrame) -> None:
        self._time_ns = sound.frame.time_ns
        for event in reversed(sound.events):
            if isinstance(event, Event):
                self._place = (event.stage, event.epoch, event.step)
                return

    def _gap(self, index: int, until: int, mark: int) -> list[SoundFrame]:
        """Return a Gap instead of the last event missing before ``until``."""
        missing = until - self._next_seq
        if missing <= 0:
            return []
        self._lose(index, f"events {self._next_seq} to {until - 1} are missing", missing)
        stage, epoch, step = self._place
        reason = "lost to damage; the rest was recovered"
        head = (until - 1, self._time_ns, self._rank, stage, epoch, step, -1, 0, "")
        gap = Gap(*head, missing, reason)
        payload = encode_events((gap,))
        raw = pack_frame(mark, KIND_EVENTS, payload, 1, until - 1, self._time_ns, flags=HAS_RECORDS)
        self._next_seq = until
        frame = Frame(0, 0, KIND_EVENTS, 1, until - 1, self._time_ns, memoryview(payload))
        return [SoundFrame(frame, [gap], raw)]


def is_gap(sound: SoundFrame, expected_seq: int) -> bool:
    """Return whether the writer itself recorded that events before this frame could not be written.

    Args:
        sound: the frame.
        expected_seq: the event that should come next.
    """
    missing = sound.frame.first_seq - expected_seq
    gaps = (event.count for event in sound.events if isinstance(event, Gap))
    return 0 < missing <= next(gaps, 0)
