"""Power that goes out at any moment: what was made durable is there, and reads as a log."""

import math
import random
import shutil
import threading
from pathlib import Path

import pytest
import trio
import trio.testing
from faulty_disk import faulty_disk
from helpers import Recording, read_to_end, seqs, values

from nightbus.bus.bus import Bus
from nightbus.bus.housekeeping import SYNC_EVERY_S
from nightbus.bus.log.reader import EndKind
from nightbus.bus.log.segments import FolderStore, compress_segment
from nightbus.bus.runs.run_folder import RunFolder

SMALL = 3_000  # bytes a segment: a header, and a few frames
ROUNDS, STEPS = 6, 3
CUTS_A_CALL = 6


class _Run:
    """A run being recorded on a disk that may lose power.

    Attributes:
        durable: how many events have been made durable, as far as the writer was told.
    """

    def __init__(self, root: Path) -> None:
        self.folder = RunFolder.create(root / "runs", "cut")
        self.lock = self.folder.begin_attempt()
        self.store = self.folder.store(self.lock.attempt)
        self.log = Recording(self.store, segment_bytes=SMALL)
        self.durable = 0

    def record(self) -> None:
        for _ in range(ROUNDS):
            self.log.steps(STEPS)
            written = self.log.writer.written_seq
            self.log.writer.sync()
            self.durable = written
            while self.log.writer.sealed:
                compress_segment(self.store, self.log.writer.sealed.popleft())
        self.log.steps(STEPS)
        self.log.writer.close()
        self.durable = self.log.writer.written_seq


def check(cut: Path, durable: int, written: int) -> None:
    """Whether a log that lost power is a prefix of what was written, with all that was durable."""
    found_runs = sorted(cut.glob("runs/*/run.json"))
    if not found_runs:
        assert durable == 0
        return
    events, end = read_to_end(RunFolder.open(found_runs[0].parent).store(0))
    found = seqs(events)
    assert found == list(range(len(found)))
    assert values(events) == list(range(len(values(events))))
    assert durable <= len(found) <= written, end


@pytest.mark.parametrize("kind", ["mapped", "written"])
def test_power_cut_at_any_call_leaves_all_that_was_made_durable_and_no_event_out_of_order(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    chance = random.Random(11)
    cuts = 0

    def refuse(*_: object) -> None:
        raise OSError(95, "not supported here")

    with faulty_disk(root) as disk:
        if kind == "written":
            monkeypatch.setattr("os.posix_fallocate", refuse)
        run = _Run(root)

        def cut_power(name: str) -> None:
            nonlocal cuts
            disk.before_call = lambda name: None  # what follows is not the run's doing
            for how in [None, *[chance] * CUTS_A_CALL]:
                cuts += 1
                target = tmp_path / f"{cuts}"
                disk.after_power_cut(target, how)
                check(target, run.durable, run.log.writer.written_seq)
            disk.before_call = cut_power

        disk.before_call = cut_power
        run.record()
        cut_power("the end")

    assert cuts > 100


def test_a_log_of_which_only_later_segments_reached_the_disk_does_not_begin_with_them(
    tmp_path: Path,
) -> None:
    root, cut = tmp_path / "disk", tmp_path / "cut"
    root.mkdir()

    with faulty_disk(root) as disk:
        run = _Run(root)
        run.log.steps(60)
        disk.after_power_cut(cut)
        left = cut / run.store.folder.relative_to(root)
        left.mkdir(parents=True, exist_ok=True)
        for index in run.store.indices()[1:]:
            shutil.copy(run.store.path(index), left)
        run.log.writer.close()

    events, end = read_to_end(FolderStore(left))
    assert events == []
    assert end.kind is not EndKind.SEALED


def test_what_was_synced_in_a_later_segment_is_there_before_anything_is_compressed(
    tmp_path: Path,
) -> None:
    root, cut = tmp_path / "disk", tmp_path / "cut"
    root.mkdir()

    with faulty_disk(root) as disk:
        run = _Run(root)
        while len(run.store.indices()) < 2:
            run.log.steps(1)
        run.log.steps(STEPS)
        run.log.writer.sync()
        disk.after_power_cut(cut)
        synced = run.log.writer.written_seq
        run.log.writer.close()

    check(cut, synced, synced)


def test_a_log_that_was_closed_is_complete_after_a_power_cut(tmp_path: Path) -> None:
    root, cut = tmp_path / "disk", tmp_path / "cut"
    root.mkdir()

    with faulty_disk(root) as disk:
        run = _Run(root)
        run.log.steps(STEPS)
        run.log.writer.close()
        disk.after_power_cut(cut)

    _, end = read_to_end(FolderStore(cut / run.store.folder.relative_to(root)))
    assert end.kind is EndKind.SEALED


async def test_what_is_written_is_made_durable_each_second_without_being_asked(
    tmp_path: Path, mock_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = threading.Event()
    root = tmp_path / "disk"
    root.mkdir()
    with faulty_disk(root) as disk:
        run = _Run(root)
        bus = Bus(run.log.place, [], run.folder)
        bus.open_log(run.log.writer, run.store)
        sync_and_compress = bus.housekeeping.sync_and_compress

        def sync_and_tell() -> None:
            sync_and_compress()
            synced.set()

        monkeypatch.setattr(bus.housekeeping, "sync_and_compress", sync_and_tell)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bus.housekeeping.run)
            for second in range(1, 4):
                run.log.steps(2)
                while trio.lowlevel.current_statistics().seconds_to_next_deadline == math.inf:
                    await trio.lowlevel.checkpoint()  # until it sleeps
                synced.clear()
                mock_clock.jump(SYNC_EVERY_S)
                assert await trio.to_thread.run_sync(synced.wait, 20), "nothing was synced"
                disk.after_power_cut(tmp_path / str(second))
                check(tmp_path / str(second), run.log.writer.written_seq, 10**6)
            nursery.cancel_scope.cancel()
        run.log.writer.close()
