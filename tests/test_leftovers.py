"""What processes that were killed left in a run's folder is gone once the run goes on."""

import os
import subprocess
from pathlib import Path

import pytest
from models import Small, loader, trainer

import nightbus as nb
from nightbus.actors.checkpoints.format import TENSORS, read_checkpoint
from nightbus.bus.runs.run_folder import RunFolder


@pytest.fixture(scope="module")
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def trained(folder: Path, **arguments: object) -> Path:
    """A run's folder; with what it holds, the run can go on."""
    run = trainer(folder, sinks=[nb.CSV()], **arguments)
    run.fit(Small(), loader())
    assert run.run_folder is not None
    return run.run_folder.path


def resume(folder: Path) -> None:
    trainer(folder, max_epochs=2, sinks=[nb.CSV()]).fit(Small(), loader(), ckpt_path="last")


@pytest.mark.parametrize(
    "name",
    [
        "cursors/csv.json.{pid}-1400.tmp",
        "control.sock.{pid}.tmp",
        "attempt-000/fork.json.{pid}-1400.tmp",
        "attempt-000/rank-00000/000000.nlog.zst.tmp",
        ".metrics.csv.tmp",
    ],
)
def test_a_half_written_file_is_removed(tmp_path: Path, dead: int, name: str) -> None:
    left = trained(tmp_path) / name.format(pid=dead)
    left.write_bytes(b"half")

    resume(tmp_path)

    assert not left.exists()


@pytest.mark.parametrize("has_closed", [True, False])
def test_what_another_rank_still_compresses_stays(tmp_path: Path, has_closed: bool) -> None:
    run = RunFolder.create(tmp_path, "net")
    attempt, of_rank_1 = run.begin_attempt(), run.join_attempt(0, 1)
    attempt.release()
    if has_closed:
        of_rank_1.release()
    left = run.path / "attempt-000" / "rank-00001" / "000000.nlog.zst.tmp"
    left.write_bytes(b"half")

    run.begin_attempt().release()

    assert left.exists() is not has_closed
    of_rank_1.release()


def test_a_link_that_was_to_become_last_is_removed(tmp_path: Path, dead: int) -> None:
    left = trained(tmp_path) / "checkpoints" / f".last.{dead}.tmp"
    left.symlink_to("epoch=0-step=6")

    resume(tmp_path)

    assert not left.is_symlink()


def test_a_half_written_checkpoint_is_removed(tmp_path: Path, dead: int) -> None:
    left = trained(tmp_path) / "checkpoints" / f".epoch=0-step=6.{dead}.tmp"
    left.mkdir()
    (left / TENSORS).write_bytes(b"half")
    (left / ".tmpZOBKVo").write_bytes(b"half")  # as safetensors calls what it has not finished

    resume(tmp_path)

    assert not left.exists()


def test_a_half_written_checkpoint_in_a_folder_of_ones_own_is_removed(
    tmp_path: Path, dead: int
) -> None:
    left = tmp_path / "mine" / f".epoch=0.{dead}.tmp"
    left.mkdir(parents=True)

    callback = nb.ModelCheckpoint(dirpath=tmp_path / "mine")
    trainer(tmp_path, callbacks=[callback]).fit(Small(), loader())

    assert not left.exists()


def test_what_a_process_that_lives_is_writing_is_left_alone(tmp_path: Path) -> None:
    run = trained(tmp_path)
    alive = os.getppid()
    kept = [run / f"cursors/csv.json.{alive}-1.tmp", run / f"checkpoints/.a.{alive}.tmp"]
    kept[0].write_bytes(b"half")
    kept[1].mkdir()

    resume(tmp_path)

    assert all(path.exists() for path in kept)


def test_a_folder_of_the_users_is_left_alone_whatever_it_is_called(
    tmp_path: Path, dead: int
) -> None:
    theirs = trained(tmp_path) / "checkpoints" / f".notes.{dead}.tmp"
    theirs.mkdir()
    (theirs / "notes.txt").write_text("mine")

    resume(tmp_path)

    assert (theirs / "notes.txt").exists()


def test_a_killed_process_that_had_our_number_is_in_nobodys_way(tmp_path: Path) -> None:
    # In a container, the training process has the same number each time.
    left = trained(tmp_path) / "checkpoints" / f".epoch=1-step=12.{os.getpid()}.tmp"
    left.mkdir()
    (left / TENSORS).write_bytes(b"half")

    resume(tmp_path)

    assert not left.exists()
    assert read_checkpoint(left.with_name("epoch=1-step=12"))["global_step"] == 12


def test_files_outside_the_run_are_not_removed_through_links_in_it(tmp_path: Path) -> None:
    run = trained(tmp_path)
    outside = tmp_path / "outside"
    (outside / "rank-00000").mkdir(parents=True)
    theirs = outside / "rank-00000" / "000000.nlog.zst.tmp"
    theirs.write_bytes(b"theirs")
    (run / "attempt-7").symlink_to(outside)

    resume(tmp_path)

    assert theirs.exists()
