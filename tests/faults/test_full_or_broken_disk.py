"""Disks that are full or broken: at every single call, and for real."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from faulty_disk import SYNCS, FaultyDisk, faulty_disk
from helpers import Recording, file_size_limit, read_to_end, seqs, values
from models import Small, loader, trainer

import nightbus as nb
from nightbus.bus.errors import LogFormatError
from nightbus.bus.events import Fault, Gap
from nightbus.bus.log import segment_sync
from nightbus.bus.log.reader import EndKind, LogReader
from nightbus.bus.log.segment_file import CHUNK_BYTES, open_segment_file
from nightbus.bus.log.segments import FolderStore, compress_segment
from nightbus.bus.runs.run_summary import read_summaries

SMALL = 3_000  # bytes a segment: a header, and a few frames
ROUNDS, STEPS = 6, 3


@pytest.fixture(params=["mapped", "written"])
def file_kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture(autouse=True)
def sync_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed sync the writer waits for seconds, in which no other call would be made."""
    monkeypatch.setattr(segment_sync, "MAX_WAIT_S", 0)


class Outcome:
    """A log that was written on a faulty disk."""

    def __init__(self, log: Recording, disk: FaultyDisk) -> None:
        assert isinstance(log.store, FolderStore)
        self.writer, self.puts = log.writer, log.puts
        self.calls = list(disk.calls)
        self.synced_after_failure = disk.synced_after_failure
        self.events, self.end = read_to_end(log.store)
        self.gaps = [event for event in self.events if isinstance(event, Gap)]
        self.faults = [event for event in self.events if isinstance(event, Fault)]

    @property
    def lost(self) -> int:
        """How many sequence numbers are missing in what was read."""
        found = seqs(self.events)
        assert found == sorted(set(found))
        return self.writer.written_seq - len(found)


def record(folder: Path, file_kind: str, failing: range = range(0)) -> Outcome:
    """Write a log of many small segments, synced and compressed as a run does it.

    Args:
        folder: made here.
        file_kind: mapped or written.
        failing: numbers of the calls that fail, the log's beginning not counted.
    """
    folder.mkdir()
    with faulty_disk(folder) as disk:
        if file_kind == "written":
            _cannot_map(disk)
        log = Recording(folder / "log", segment_bytes=SMALL)
        disk.fail(lambda number, name: number in failing)
        for _ in range(ROUNDS):
            log.steps(STEPS)
            sync_and_compress(log)
        log.writer.close()
        return Outcome(log, disk)


def _cannot_map(disk: FaultyDisk) -> None:
    """Let this disk be one that cannot allocate ahead, so that write(2) is used."""

    def refuse(name: str) -> None:
        if name == "posix_fallocate":
            raise OSError(95, "not supported here")

    disk.before_call = refuse


def sync_and_compress(log: Recording) -> None:
    """What the bus does once a second."""
    assert isinstance(log.store, FolderStore)
    try:
        log.writer.sync()
        while log.writer.sealed:
            compress_segment(log.store, log.writer.sealed.popleft())
    except (OSError, LogFormatError):
        pass  # said on the terminal by the bus


# -- a fault at every call -------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 4])
def test_a_fault_at_any_call_loses_only_what_gaps_tell_and_the_log_goes_on(
    tmp_path: Path, file_kind: str, times: int
) -> None:
    undisturbed = record(tmp_path / "undisturbed", file_kind)
    assert undisturbed.lost == 0

    for first in range(len(undisturbed.calls)):
        outcome = record(tmp_path / str(first), file_kind, range(first, first + times))
        told = sum(gap.count for gap in outcome.gaps)
        assert outcome.lost == told == outcome.writer.lost_events, first
        assert (outcome.lost > 0) == any("missing" in line for line in outcome.writer.problems())
        if outcome.lost == 0:
            assert values(outcome.events) == list(range(ROUNDS * STEPS)), first
        assert outcome.end.next_seq == outcome.writer.written_seq, first


def test_a_disk_that_fails_for_good_leaves_what_was_written_before(
    tmp_path: Path, file_kind: str
) -> None:
    calls = len(record(tmp_path / "undisturbed", file_kind).calls)

    for first in range(calls):
        outcome = record(tmp_path / str(first), file_kind, range(first, 10**6))
        assert seqs(outcome.events) == list(range(len(outcome.events))), first
        assert outcome.writer.problems(), first


def test_a_segment_that_can_neither_be_begun_nor_removed_is_begun_when_the_disk_is_well_again(
    tmp_path: Path,
) -> None:
    with faulty_disk(tmp_path) as disk:
        log = Recording(tmp_path / "log", segment_bytes=SMALL)
        disk.fail(lambda number, name: name in ("posix_fallocate", "unlink"))
        log.steps(20)
        left = sorted(path.stat().st_size for path in (tmp_path / "log").iterdir())
        disk.fail(lambda number, name: False)
        log.steps(60)
        log.writer.close()

    assert left[0] == 0
    assert log.store.indices()[:3] == [0, 1, 2]
    assert values(read_to_end(log.store)[0]) == list(range(80))


def test_a_sync_that_failed_is_never_tried_again_and_is_said_in_the_log(
    tmp_path: Path, file_kind: str
) -> None:
    undisturbed = record(tmp_path / "undisturbed", file_kind)
    syncs = [number for number, name in enumerate(undisturbed.calls) if name in SYNCS]
    told = 0

    for number in syncs:
        outcome = record(tmp_path / str(number), file_kind, range(number, number + 1))
        assert outcome.synced_after_failure == [], number
        assert outcome.lost == 0
        faults = [fault for fault in outcome.faults if "not be made durable" in fault.message]
        assert len(faults) <= 1
        told += len(faults)
        assert bool(faults) == bool(outcome.writer.problems()) or number == syncs[-1]

    # The others are those of compressed copies, of which the segment itself is kept.
    assert told > len(syncs) // 3


def test_after_a_failed_sync_recording_goes_on_in_the_next_segment(tmp_path: Path) -> None:
    with faulty_disk(tmp_path) as disk:
        log = Recording(tmp_path / "log")
        log.steps(2)
        disk.fail(lambda number, name: number == 0 and name == "fdatasync")
        with pytest.raises(OSError, match="Input/output error"):
            log.writer.sync()
        log.steps(3)
        log.writer.close()

    assert isinstance(log.store, FolderStore)
    first = FolderStore(tmp_path / "first")
    first.folder.mkdir()
    log.store.path(0).rename(first.path(0))
    events, end = read_to_end(first)
    assert log.store.indices() == [1]
    assert values(events) == [0, 1, 2]  # the step during which the failure was noticed, too
    assert end.kind is EndKind.SEALED
    following = LogReader(log.store)
    (fault, *rest) = list(following.events(hooks="none"))
    following.close()
    assert isinstance(fault, Fault)
    assert fault.message.startswith("segment 0 could not be made durable: Input/output error")
    assert values(rest) == [3, 4]


def test_a_sync_that_keeps_failing_does_not_pile_up_segments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the writer waits, as it does in earnest
    with faulty_disk(tmp_path) as disk:
        log = Recording(tmp_path / "log")
        disk.fail(lambda number, name: name == "fdatasync")
        for _ in range(50):
            log.steps(1)
            sync_and_compress(log)
        segments = log.store.indices()
        log.writer.close()

    assert segments == [0, 1]


# -- the operating system itself -------------------------------------------------------------------


@contextmanager
def swapped_for_full_device(fd: int) -> Iterator[None]:
    """Let a file descriptor lead to the device that is always full."""
    kept, full = os.dup(fd), os.open("/dev/full", os.O_RDWR)
    os.dup2(full, fd)
    try:
        yield
    finally:
        os.dup2(kept, fd)
        os.close(kept)
        os.close(full)


def test_what_a_full_device_takes_from_the_log_is_told_once_there_is_room(tmp_path: Path) -> None:
    with faulty_disk(tmp_path) as disk:
        _cannot_map(disk)
        log = Recording(tmp_path / "log")
    log.steps(2)

    with swapped_for_full_device(log.writer._sync.current[1]):
        log.steps(5)
    log.steps(2)
    log.writer.close()

    events, end = read_to_end(log.store)
    (gap,) = [event for event in events if isinstance(event, Gap)]
    assert values(events) == [0, 1, 7, 8]
    assert gap.reason == "[Errno 28] No space left on device"
    assert gap.count == log.writer.written_seq - len(events)
    assert end.kind is EndKind.SEALED


class NoRoomFor(nb.Actor):
    """From one step to another, no file of this process may grow."""

    def __init__(self, first: int, last: int, limit: ExitStack) -> None:
        self.first, self.last, self.limit = first, last, limit

    @nb.on("on_train_batch_start")
    def begin(self, hook: Any) -> None:
        if hook.trainer.global_step == self.first:
            self.limit.enter_context(file_size_limit(1))

    @nb.on("on_train_batch_end")
    def end(self, hook: Any) -> None:
        if hook.trainer.global_step == self.last:
            self.limit.close()


class Loud(Small):
    """Puts more in a step than what is allocated ahead."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        for number in range(30):
            self.put("x" * 900, number)
        for _ in range(10):
            self.put_text("note", "y" * 30_000)
        return super().training_step(batch, batch_idx)


def test_a_run_whose_disk_is_full_for_a_while_trains_on_and_says_at_its_end_what_is_missing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with ExitStack() as limit:
        actors = [NoRoomFor(4, 9, limit)]
        run = trainer(tmp_path, max_epochs=3, actors=actors, enable_checkpointing=False)
        run.fit(Loud(), loader())

    assert run.global_step == 18
    assert run.run_folder is not None
    events, end = read_to_end(run.run_folder.store(0))
    gaps = [event for event in events if isinstance(event, Gap)]
    missing = seqs(events)[-1] + 1 - len(events)
    assert missing > 0
    assert missing == sum(gap.count for gap in gaps)
    assert end.kind is EndKind.SEALED
    said = capfd.readouterr().err
    assert f"nightbus: {missing} events are missing in the event log: [Errno 27]" in said
    assert "make room" in said


class FillsTheDisk(nb.Actor):
    """From step 4 on, the disk has no room for the log, to its end."""

    @nb.on("on_train_batch_start")
    def fill(self, hook: Any) -> None:
        if hook.trainer.global_step == 4:
            full = os.open("/dev/full", os.O_RDWR)
            os.dup2(full, hook.trainer.bus.writer._sync.current[1])
            os.close(full)


def test_a_run_whose_disk_stays_full_does_not_wait_for_what_nobody_can_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    received: list[float] = []
    with faulty_disk(tmp_path) as disk:
        _cannot_map(disk)
        run = trainer(
            tmp_path,
            actors=[FillsTheDisk()],
            sinks=[lambda put: received.append(put.step)],
            enable_checkpointing=False,
            log_every_n_steps=1,
            drain_timeout=5.0,
        )
        run.fit(Small(), loader())

    said = capsys.readouterr().err
    assert "events are missing in the event log: [Errno 28] No space left" in said
    assert received == [0, 1, 2, 3]
    assert "stopped early" not in said


class LeavesNoRoom(nb.Actor):
    """From step 4 on, the disk has no room, and what the log has of it is used up."""

    def __init__(self, disk: FaultyDisk) -> None:
        self.disk = disk

    @nb.on("on_train_batch_start")
    def fill(self, hook: Any) -> None:
        if hook.trainer.global_step == 4:
            self.disk.fail(lambda number, name: name == "posix_fallocate")
            while not hook.trainer.bus.writer.lost_events:
                self.put("x", 0)
                hook.trainer.bus.flush()


def test_a_run_whose_disk_is_full_at_its_end_is_recorded_as_completed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with faulty_disk(tmp_path) as disk:
        run = trainer(
            tmp_path,
            actors=[LeavesNoRoom(disk)],
            enable_checkpointing=False,
            enable_progress_bar=True,
        )
        run.fit(Small(), loader())

    said = capsys.readouterr().err
    assert "events are missing in the event log" in said
    assert "fit completed" in said
    (line,) = read_summaries(tmp_path / "runs")
    assert line.ending == "completed"


def test_an_end_that_cannot_be_recorded_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with faulty_disk(tmp_path) as disk:
        _cannot_map(disk)  # so nothing can be kept back for the end
        run = trainer(tmp_path, actors=[FillsTheDisk()], enable_checkpointing=False)
        run.fit(Small(), loader())

    said = capsys.readouterr().err
    assert "cannot record the run's end (completed); the run will look as if" in said


def test_what_is_kept_back_for_the_end_is_no_hole_when_there_is_room_again(tmp_path: Path) -> None:
    with faulty_disk(tmp_path) as disk, open(tmp_path / "segment", "w+b") as raw:
        file = open_segment_file(raw.fileno())
        file.append(b"a" * (CHUNK_BYTES - 1))
        disk.fail(lambda number, name: name == "posix_fallocate")
        with pytest.raises(OSError, match="No space left"):
            file.append(b"bb")
        file.open_reserve()
        file.append(b"bb")
        disk.fail(lambda number, name: False)
        file.append(b"c" * CHUNK_BYTES)
        file.finish()

    found = (tmp_path / "segment").read_bytes()
    assert found == b"a" * (CHUNK_BYTES - 1) + b"bb" + b"c" * CHUNK_BYTES


def test_a_run_that_must_be_recorded_ends_in_good_order_when_it_cannot_be(tmp_path: Path) -> None:
    with ExitStack() as limit:
        actors = [NoRoomFor(4, 99, limit)]
        run = trainer(
            tmp_path,
            max_epochs=3,
            actors=actors,
            enable_checkpointing=False,
            strict_recording=True,
        )
        run.fit(Loud(), loader())

    assert 4 < run.global_step < 18
    assert run.run_folder is not None
    events, end = read_to_end(run.run_folder.store(0))
    (ended,) = [event for event in events if isinstance(event, nb.RunEnded)]
    assert ended.how == "stopped"
    assert "the event log cannot be written" in ended.reason
    assert end.kind is EndKind.SEALED


def test_warnings_that_cannot_be_printed_because_the_disk_is_full_do_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = io.TextIOWrapper(open("/dev/full", "wb", buffering=0), write_through=True)  # noqa: SIM115
    monkeypatch.setattr(sys, "stderr", full)
    with ExitStack() as limit:
        actors = [NoRoomFor(2, 4, limit)]
        run = trainer(tmp_path, actors=actors, enable_checkpointing=False)
        run.fit(Loud(), loader())

    assert run.global_step == 6
    full.detach().close()
