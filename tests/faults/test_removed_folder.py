"""Somebody removes or renames what a run is writing: it is said, training goes on, and what is
advised works.
"""

import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers import DEADLINE_S, eventually
from models import Small, loader, trainer
from programs import run_program

import nightbus as nb

FILES = ["metrics.csv", "metrics.jsonl", "metrics.sqlite", "events.out.tfevents.nightbus"]


class Disturbed(Small):
    """Has something happen to the run's folder in its second epoch, when all files are there."""

    def __init__(self, disturb: Any) -> None:
        super().__init__()
        self.disturb = disturb

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.put("x", float(batch_idx))
        return super().training_step(batch, batch_idx)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.trainer.global_step == 8:
            path = Path(str(self.trainer.log_dir))
            eventually(lambda: all((path / name).exists() for name in FILES))
            eventually(self.all_have_got_something)
            eventually(lambda: (path / "checkpoints" / "last").exists())
            self.disturb(path)

    def all_have_got_something(self) -> bool:
        actors = self.trainer.statistics().actors.values()
        seen = [actor.observer for actor in actors if actor.observer is not None]
        return len(seen) == len(FILES) and all(each.delivered for each in seen)


def sinks() -> list[Any]:
    return [nb.CSV(), nb.JSONLines(), nb.SQLite(), nb.TensorBoard()]


def fit(folder: Path, disturb: Any) -> nb.Trainer:
    run = trainer(folder, max_epochs=4, sinks=sinks(), drain_timeout=5.0)
    run.fit(Disturbed(disturb), loader(), loader(8))
    assert run.global_step == 24
    return run


def test_a_removed_run_folder_is_said_once_and_does_not_come_back(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = fit(tmp_path, shutil.rmtree)

    assert not Path(str(run.log_dir)).exists()
    said = capfd.readouterr().err
    assert said.count("training goes on, but no checkpoint is saved in it") == 1
    assert said.count("cannot save a checkpoint") == 1
    assert "nightbus replay" not in said  # there is nothing to replay


def test_of_a_renamed_run_folder_no_half_stands_under_the_old_name(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = fit(tmp_path, lambda path: path.rename(path.with_name("renamed")))

    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["renamed"]
    assert Path(str(run.log_dir)).name not in ("renamed",)
    assert "was removed or renamed" in capfd.readouterr().err
    renamed = nb.RunFolder.open(tmp_path / "runs" / "renamed")
    nb.replay(renamed, sinks=[nb.CSV(tmp_path / "again")])  # all is in it that was recorded
    assert "\n3,23," in (tmp_path / "again" / "metrics.csv").read_text()


@pytest.mark.parametrize("name", FILES)
def test_what_is_advised_for_a_removed_file_writes_it_anew(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    run = fit(tmp_path, lambda path: (path / name).unlink())

    said = capfd.readouterr().err
    (line,) = (line for line in said.splitlines() if "stopped early" in line)
    assert f"{name} was removed or renamed while it was written" in line
    _, _, command = line.partition("deliver the rest with: nightbus ")
    assert run_program("-m", "nightbus", *command.split(), timeout=DEADLINE_S).returncode == 0
    path = Path(str(run.log_dir))
    whole = fit(tmp_path / "whole", lambda path: None)
    assert (path / name).exists()
    if name == "metrics.csv":
        written = (path / name).read_text(), (Path(str(whole.log_dir)) / name).read_text()
        assert [len(text.splitlines()) for text in written] == [len(written[0].splitlines())] * 2


def test_a_file_that_was_removed_between_two_attempts_is_written_anew(tmp_path: Path) -> None:
    first = trainer(tmp_path, max_epochs=1, sinks=[nb.CSV()])
    first.fit(Small(), loader(), loader(8))
    path = Path(str(first.log_dir)) / "metrics.csv"
    before = path.read_text()
    path.unlink()

    second = trainer(tmp_path, max_epochs=2, sinks=[nb.CSV()])
    second.fit(Small(), loader(), loader(8), ckpt_path="last")

    assert path.read_text().startswith(before)
    assert len(path.read_text()) > len(before)
