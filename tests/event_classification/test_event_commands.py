"""The command line: what the commands do one after the other, and what they say of wrong calls."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import DEADLINE_S

import nightbus as nb
from examples.event_classification.command_line import main
from examples.event_classification.commands import DemoEvery
from examples.event_classification.lightning_model import ClassificationModel

ROOT = Path(__file__).parents[2]
SMALL = ["--base", "2", "--cout", "8", "--batch-size", "3", "--num-tbins", "25", "--no-bar"]
Said = Callable[..., tuple[int, str, str]]


@pytest.fixture
def said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Said:
    """Run a command in a folder of the test; return its code, and what it said where."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: Any) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings put no figures, which take longer than the rest of them."""
    monkeypatch.setattr(ClassificationModel, "figures", lambda self, results: {})


@pytest.mark.long
def test_recordings_are_made_trained_on_evaluated_shown_and_replayed(
    said: Said, tmp_path: Path
) -> None:
    made = tmp_path / "made"
    options = ["--recordings", 7, "--epochs", 1, "--demo-every", 1, "--stop-below", 0]

    code, out, _ = said("train", made, *SMALL, *options)

    assert code == 0
    assert f"7 recordings in {made}" in out
    assert "of the labelled bins are right" in out
    assert "time to prediction: median" in out
    assert (tmp_path / "videos" / "video#0.mp4").exists()

    code, again, _ = said("eval", "last", "--figures", "figures", "--slowest", 1)

    assert code == 0
    assert [line for line in out.splitlines() if line.startswith(("test:", "never"))] == [
        line for line in again.splitlines() if line.startswith(("test:", "never"))
    ]
    assert {file.name for file in (tmp_path / "figures").iterdir()} == {
        "confusion.png",
        "roc.png",
        "precision_recall.png",
        "time_to_prediction.png",
        "slowest_1.png",
    }

    assert said("demo", "last", "--num-batches", 1, "--no-pred", "--epoch", 7)[0] == 0
    assert (tmp_path / "videos" / "video#7.mp4").exists()

    code, out, _ = said("replay", "last", "--stop-below", 1e9)
    assert code == 0
    assert "mean ms" in out
    assert "would" in out


@pytest.mark.usefixtures("undrawn")
def test_a_run_that_is_finished_has_nothing_to_resume_and_pretrains_another(
    said: Said, recordings: Path, tmp_path: Path
) -> None:
    assert said("train", recordings, *SMALL, "--epochs", 1)[0] == 0
    (run,) = (tmp_path / "runs").iterdir()

    code, out, _ = said("train", "--resume", run, "--no-bar")
    assert code == 0
    assert f"the run is in {run}" in out

    fine = ["--pretrained", run, "--classes", "3", "7", "--epochs", 1]
    code, _, err = said("train", recordings, *SMALL, *fine)
    assert code == 0
    assert "pretrained classes: 3, 7" in err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["train", "{root}", "--models", "LeNet"],
            "no model 'LeNet'; did you mean LeNetClassifier?",
        ),
        (
            ["train", "{root}", "--preprocess", "hist"],
            "no preprocessing 'hist'; did you mean histo?",
        ),
        (["train", "{root}", "--batch-size", "6"], "use a batch size of at most 5"),
        (["train", "{root}", "--classes", "rock"], "the data's classes lack rock; there are: 0, 1"),
        (["train", "{root}", "--demo-every", "0"], "expected 1 or more"),
        (["train", "{root}", "--num-tbins", "0"], "argument --num-tbins: 0: expected 1 or more"),
        (["train", "{root}", "--lr", "-1"], "argument --lr: -1: expected more than 0"),
        (["train", "{root}", "--epoch", "3"], "unrecognized arguments: --epoch 3; see"),
        (["demo", "last", "--fps", "fast"], "argument --fps: fast: expected 1 or more"),
        (["train", "--resume", "none"], "there is no run or checkpoint 'none'"),
        (["make", "made", "--recordings", "2"], "2 recordings cannot be made: expected 3 to 359"),
        (["eval", "nowhere"], "there is no run or checkpoint 'nowhere'"),
        (["eval", "nowhere", "--split", "tests"], "no split 'tests'; did you mean test?"),
    ],
)
def test_a_wrong_call_is_answered_in_one_line_that_says_what_to_do(
    said: Said, recordings: Path, arguments: list[str], expected: str
) -> None:
    code, out, err = said(*(each.format(root=recordings) for each in arguments))

    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert expected in err


def test_data_that_is_damaged_or_incomplete_is_named(
    said: Said, recordings: Path, tmp_path: Path
) -> None:
    root = tmp_path / "damaged"
    (root / "train").mkdir(parents=True)
    names = "label_map_dictionary.json"
    (root / names).write_text((recordings / names).read_text())

    assert "holds no recordings" in said("train", root)[2]
    assert f"{names} is a file; expected a folder" in said("train", root / names)[2]
    (root / "train" / "0000_td.dat").write_bytes(b"RIFF")
    assert "0000_td.dat does not begin with '%'" in said("train", root)[2]


def test_a_missing_matplotlib_is_said_before_training(
    said: Said, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)

    code, _, err = said("train", recordings, *SMALL)

    assert code == 2
    assert "a figure needs the package matplotlib; install it with: pip install" in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("command", ["make", "train", "eval", "demo", "replay"])
def test_every_command_has_help(said: Said, command: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        said(command, "--help")

    assert ended.value.code == 0
    text = capsys.readouterr().out
    if command in ("train", "replay"):
        assert "--stop-below MS" in text
        assert " ms" in text
    if command == "train":
        assert "duration of a time bin, us" in " ".join(text.split())


@pytest.mark.long
def test_it_is_a_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.event_classification", "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=DEADLINE_S,
    )

    assert done.returncode == 0, done.stderr
    assert "make recordings with a simulated event camera" in done.stdout


def test_one_thread_computes(said: Said) -> None:
    torch.set_num_threads(2)

    said("eval", "nowhere")

    assert torch.get_num_threads() == 1


@pytest.mark.long
@pytest.mark.usefixtures("undrawn")
def test_training_that_is_stopped_by_ctrl_c_says_how_to_go_on_and_does(
    said: Said, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: DemoEvery, trainer: nb.Trainer, module: nb.LightningModule) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(DemoEvery, "on_train_epoch_end", stop)
    code, out, _ = said("train", recordings, *SMALL, "--epochs", 2, "--demo-every", 1)
    (run,) = (tmp_path / "runs").iterdir()
    assert code == 0
    assert f"stopped; go on with: train --resume runs/{run.name}" in out.replace(f"{tmp_path}/", "")

    code, out, _ = said("train", "--resume", run, "--no-bar")

    assert code == 0
    assert "of the labelled bins are right" in out
