"""``~`` in a path is somebody's home, wherever a path comes in."""

from pathlib import Path
from typing import Any

import pytest
from models import Small, loader, trainer

import nightbus as nb
from nightbus.__main__ import main


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


def test_a_run_its_checkpoints_and_its_sinks_go_where_the_home_is(home: Path) -> None:
    run = trainer(
        Path("~/trained"),
        callbacks=[nb.ModelCheckpoint("~/kept")],
        sinks=[nb.CSV("~/csv"), nb.SQLite("~/sqlite")],
    )
    run.fit(Small(), loader())
    run.save_checkpoint("~/saved")

    assert {path.name for path in home.iterdir()} == {"trained", "kept", "csv", "sqlite", "saved"}
    assert list(Path.cwd().iterdir()) == []


def test_a_checkpoint_in_the_home_is_read(home: Path) -> None:
    run = trainer(home)
    run.fit(Small(), loader())
    run.save_checkpoint(home / "saved")

    Small.load_from_checkpoint("~/saved")
    trainer(home).validate(Small(), loader(), ckpt_path="~/saved", verbose=False)


def test_predictions_go_where_the_home_is_and_are_read_there(home: Path) -> None:
    class Predicts(Small):
        def test_step(self, batch: Any, batch_idx: int) -> Any:
            result = nb.EvalResult()
            result.write("x", batch[1], "~/predicted.pt")
            return result

    trainer(home / "trained").test(Predicts(), loader(8), verbose=False)

    assert len(nb.load_predictions("~/predicted.pt")) == 8
    assert list(Path.cwd().iterdir()) == []


def test_all_verbs_take_a_run_and_folders_in_the_home(home: Path) -> None:
    runs = []
    for _ in range(2):
        runs.append(trainer(home))
        runs[-1].fit(Small(), loader())
    left, right = (f"~/runs/{Path(run.log_dir or '').name}" for run in runs)

    assert main(["doctor", left]) == 0
    assert main(["tail", left]) == 0
    assert main(["diff", left, right]) in (0, 1)
    assert main(["replay", left, "--csv", "~/replayed"]) == 0
    assert (home / "replayed" / "metrics.csv").exists()
    assert list(Path.cwd().iterdir()) == []


def test_verbs_and_replay_find_a_run_in_the_home(home: Path, capsys: Any) -> None:
    run = trainer(home)
    run.fit(Small(), loader())
    assert run.run_folder is not None
    given = f"~/runs/{run.run_folder.info.id}"

    assert main(["show", given]) == 0
    assert main(["ls", "~"]) == 0
    nb.replay(given, sinks=[nb.CSV("~/again")])
    assert (home / "again" / "metrics.csv").exists()
    assert list(Path.cwd().iterdir()) == []


def test_a_home_that_nobody_has_is_said() -> None:
    with pytest.raises(nb.UsageError, match="give the whole path"):
        trainer(Path("~nobody-of-this-name/x"))


@pytest.mark.parametrize(
    "give",
    [
        lambda address: nb.Trainer(default_root_dir=address),
        lambda address: nb.ModelCheckpoint(address),
        lambda address: nb.CSVLogger(address).log_dir,
        lambda address: nb.load_checkpoint(address),
    ],
)
def test_an_address_is_no_folder(home: Path, give: Any) -> None:
    with pytest.raises(nb.UsageError, match=r"s3://\.\.\.: files are local; give a folder"):
        give("s3://bucket/runs")

    assert list(Path.cwd().iterdir()) == []
