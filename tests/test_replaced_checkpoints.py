"""A checkpoint that takes the place of another one of the same name: one of the two is there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from failing_saves import disk_below
from models import Small, events, loader, trainer
from test_callbacks_model_checkpoint import checkpoints, names, run_scripted

import nightbus as nb
from nightbus.actors.checkpoints.files import last_of
from nightbus.actors.checkpoints.format import read_checkpoint, write_checkpoint
from nightbus.bus.inspection.doctor import examine


@pytest.fixture(params=["exchanged", "moved aside"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How: on a file system that can exchange two names, and on one that cannot."""
    if request.param == "moved aside":
        monkeypatch.setattr("nightbus.actors.checkpoints.replaced.exchange", lambda *_: False)
    return str(request.param)


@pytest.fixture
def dead() -> int:
    """The number of a process that has ended."""
    return int(subprocess.check_output([sys.executable, "-c", "import os; print(os.getpid())"]))


def step_of(path: Path | str) -> Any:
    return read_checkpoint(Path(path))["global_step"]


def test_a_name_without_values_is_kept(tmp_path: Path, way: str) -> None:
    callback = checkpoints(tmp_path, filename="model")
    run = run_scripted(tmp_path, [1, 2, 3], callback)

    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["model"]
    assert step_of(callback.best_model_path) == run.global_step
    assert events(run, nb.Fault) == []


def test_a_name_without_values_is_kept_in_the_runs_folder(tmp_path: Path, way: str) -> None:
    run = trainer(tmp_path, max_epochs=3, callbacks=[nb.ModelCheckpoint(filename="model")])
    run.fit(Small(), loader(8))

    folder = Path(run.log_dir or "") / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["last", "model"]
    assert os.readlink(folder / "last") == "model"
    assert {event.path for event in events(run, nb.CheckpointSaved)} == {"checkpoints/model"}
    assert run.run_folder is not None
    assert [found.what for found in examine(run.run_folder).findings] == []


def test_the_best_of_a_metric_takes_the_place_of_the_worst_that_is_kept(tmp_path: Path) -> None:
    callback = checkpoints(tmp_path, filename="model", monitor="val", save_top_k=2)
    run_scripted(tmp_path, [5, 4, 3, 6], callback)

    folder = tmp_path / "kept"
    assert names(folder) == ["model", "model-v1"]
    assert callback.best_model_path == str(folder / "model")
    assert step_of(folder / "model") > step_of(folder / "model-v1")


def test_the_newest_takes_no_place_of_the_best(tmp_path: Path) -> None:
    callback = checkpoints(tmp_path, filename="model", monitor="val", save_last=True)
    run_scripted(tmp_path, [1, 2, 3], callback)

    folder = tmp_path / "kept"
    assert callback.best_model_path == str(folder / "model")
    assert step_of(folder / "last") == 3 * step_of(folder / "model")


def test_the_name_that_another_run_took_is_left_alone(tmp_path: Path) -> None:
    run_scripted(tmp_path, [1], checkpoints(tmp_path, filename="model"))
    callback = checkpoints(tmp_path, filename="model")
    run_scripted(tmp_path, [1, 2, 3], callback)

    folder = tmp_path / "kept"
    assert names(folder) == ["model", "model-v1"]
    assert step_of(folder / "model-v1") == 3 * step_of(folder / "model")


def test_two_callbacks_keep_names_of_their_own(tmp_path: Path) -> None:
    first, second = (checkpoints(tmp_path, filename="model") for _ in range(2))
    run = trainer(tmp_path, max_epochs=3, callbacks=[first, second])
    run.fit(Small(), loader(8))

    assert names(tmp_path / "kept") == ["model", "model-v1"]
    assert step_of(first.best_model_path) == step_of(second.best_model_path) == run.global_step


def test_a_resumed_run_keeps_the_name(tmp_path: Path) -> None:
    for epochs in (2, 4):
        callback = nb.ModelCheckpoint(filename="model")
        run = trainer(tmp_path, max_epochs=epochs, callbacks=[callback])
        run.fit(Small(), loader(8), ckpt_path="last")

    assert names(Path(run.log_dir or "") / "checkpoints") == ["model"]
    assert step_of(callback.best_model_path) == run.global_step == 8


def test_a_save_that_fails_leaves_the_former_one(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    callback = nb.ModelCheckpoint(filename="model")

    with disk_below(root) as disk:

        def fail(name: str) -> None:
            save = disk.calls[-1][0]
            index = sum(of == save for of, _ in disk.calls)
            if save and index == save:  # the second save at its first call, and so on
                raise OSError(5, os.strerror(5))

        disk.before_call = fail
        run = trainer(root, max_epochs=24, callbacks=[callback])
        run.fit(Small(), loader(4))

    folder = Path(run.log_dir or "") / "checkpoints"
    assert events(run, nb.Fault) != []
    assert [path for path in names(folder) if not path.startswith(".")] == ["model"]
    assert step_of(folder / "model") >= 1


def test_a_kill_at_any_call_leaves_a_checkpoint_to_go_on_from(tmp_path: Path, way: str) -> None:
    root = tmp_path / "disk"
    root.mkdir()
    steps: list[int] = []

    with disk_below(root) as disk:

        def kill(_: str) -> None:
            if not disk.calls or disk.calls[-1][0] == 0:
                return  # the first save, before which there is none
            target = tmp_path / f"{len(steps)}"
            disk.leave("all", target)
            (found,) = target.glob("runs/*/run.json")
            last = last_of(nb.RunFolder.open(found.parent))
            assert last is not None
            assert last.path.name == "model"
            assert step_of(found.parent / "checkpoints" / "model") == last.state["global_step"]
            steps.append(last.state["global_step"])
            shutil.rmtree(target)

        disk.before_call = kill
        run = trainer(root, max_epochs=3, callbacks=[nb.ModelCheckpoint(filename="model")])
        run.fit(Small(), loader(4))

    assert set(steps) == {1, 2, 3}
    assert steps == sorted(steps)


def left_aside(folder: Path, pid: int) -> Path:
    """What a kill leaves that came when the former one had been moved aside."""
    aside = folder / f".model.{pid}.former"
    write_checkpoint(aside, {"x": torch.ones(2)})
    write_checkpoint(folder / f".model.{pid}.tmp", {"x": torch.zeros(2)})
    return aside


def test_what_a_killed_process_moved_aside_is_found_under_its_name(
    tmp_path: Path, dead: int
) -> None:
    aside = left_aside(tmp_path, dead)

    assert torch.equal(read_checkpoint(tmp_path / "model")["x"], torch.ones(2))
    assert not aside.exists()


def test_what_a_process_that_lives_moved_aside_is_left_to_it(tmp_path: Path) -> None:
    aside = left_aside(tmp_path, os.getppid())

    with pytest.raises(nb.CheckpointError, match="no checkpoint"):
        read_checkpoint(tmp_path / "model")
    assert aside.exists()


def test_what_was_moved_aside_is_removed_if_the_new_one_has_the_name(
    tmp_path: Path, dead: int
) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    left_aside(folder, dead)
    write_checkpoint(folder / "model", {"x": torch.zeros(2)})
    run_scripted(tmp_path, [1], checkpoints(tmp_path))

    assert sorted(os.listdir(folder)) == ["epoch=0", "model"]
    assert torch.equal(read_checkpoint(folder / "model")["x"], torch.zeros(2))
