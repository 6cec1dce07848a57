"""What a run records when it starts: how the Trainer was set up, its process, machine and code."""

import subprocess
import sys
from datetime import date, timedelta
from enum import Enum
from pathlib import Path

import msgspec
import pytest
import torch
from models import Small, loader, trainer

import nightbus as nb
from nightbus.__main__ import main
from nightbus.actors.arguments import as_plain
from nightbus.actors.process import code_state as code_state_module
from nightbus.actors.process.code_state import code_diff, code_state, read_status
from nightbus.actors.process.environment import environment, gpus_of, loaded_versions
from nightbus.bus.runs.cursor import RunReader, attempt_logs
from nightbus.bus.runs.marks import Marks, read_marks


def started(run: nb.Trainer) -> nb.RunStarted:
    assert run.run_folder is not None
    events = RunReader(attempt_logs(run.run_folder)).events()
    return next(event for event in events if isinstance(event, nb.RunStarted))


def test_the_log_and_run_json_say_what_was_changed_and_where_it_ran(tmp_path: Path) -> None:
    run = trainer(tmp_path, gradient_clip_val=0.5)
    run.fit(Small(), loader())

    event = started(run)
    assert run.run_folder is not None
    info = run.run_folder.info
    assert "gradient_clip_val" in event.changed
    assert "gradient_clip_algorithm" not in event.changed
    assert info.config["gradient_clip_val"] == event.config["gradient_clip_val"] == 0.5
    assert info.environment["host"] == event.environment["host"]
    assert {"python", "torch", "nightbus", "numpy"} <= event.versions.keys()


def test_run_json_has_the_hyperparameters(tmp_path: Path) -> None:
    class Tuned(Small):
        def __init__(self, lr: float, api_key: str) -> None:
            super().__init__(lr)
            self.save_hyperparameters()

    run = trainer(tmp_path)
    run.fit(Tuned(lr=0.25, api_key="canary17"), loader())

    assert run.run_folder is not None
    assert nb.RunFolder.open(run.run_folder.path).info.hparams == {"lr": 0.25, "api_key": "***"}


class Colour(Enum):
    RED = "red"


@pytest.mark.parametrize(
    ("given", "recorded"),
    [
        (Path("data") / "set", "data/set"),
        (date(2026, 5, 1), "2026-05-01"),
        (timedelta(minutes=3), "0:03:00"),
        (Colour.RED, "Colour.RED"),
        (torch.bfloat16, "torch.bfloat16"),
        (torch.device("cuda", 1), "cuda:1"),
        ([Path("a"), torch.float16], "a, torch.float16"),
        (torch.nn.Linear(2, 2), "Linear"),
        (-(1 << 70), "-1180591620717411303424"),
    ],
)
def test_what_a_log_has_no_number_for_is_recorded_as_the_text_that_tells_it(
    given: object, recorded: str
) -> None:
    assert as_plain({"given": given}) == {"given": recorded}


def test_the_changes_of_the_code_are_kept_on_request_without_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "train.py"
    script.write_text("lr = 1\n")
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init"], ["add", "."], ["commit", "-m", "first"]):
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)
    script.write_text("lr = 2\napi_key = 'canary17'\n")
    monkeypatch.setattr(sys, "argv", [str(script)])
    run = trainer(tmp_path, record_code_diff=True)
    run.fit(Small(), loader())

    assert run.run_folder is not None
    found = nb.open_run(str(run.run_folder.path)).code_diff
    assert "-lr = 1\n+lr = 2\n" in found
    assert "canary17" not in found


def test_of_a_long_difference_the_begin_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_state_module, "MAX_DIFF_BYTES", 10)
    monkeypatch.setattr(code_state_module, "_DIFF", ("echo", "x" * 30))

    assert code_diff(tmp_path) == "x" * 10 + "\n(the other 21 bytes are left out)\n"


def test_tags_notes_and_group_are_what_the_trainer_was_given(tmp_path: Path) -> None:
    run = trainer(tmp_path, run_name="digits", tags=["a", "b", "a"], notes="why", group="sweep")
    run.fit(Small(), loader())

    assert run.run_folder is not None
    assert read_marks(run.run_folder) == Marks("digits", ("a", "b"), "why", "sweep")


@pytest.mark.parametrize("tag", ["", "a,b", "x@1", " a", "a\nb", "a" * 65])
def test_what_cannot_be_a_tag_is_refused(tag: str) -> None:
    with pytest.raises(nb.UsageError, match="not a tag"):
        nb.Trainer(tags=[tag])


def test_secrets_are_struck_out_of_what_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "--api-key", "canary17"])
    run = trainer(tmp_path, notes="password=canary18")
    run.fit(Small(), loader())

    assert run.run_folder is not None
    files = [file for file in run.run_folder.path.rglob("*") if file.is_file()]
    assert not [file for file in files if b"canary1" in file.read_bytes()]


def test_a_run_json_of_an_older_version_is_read(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"id": "old-1", "name": "o", "created_ns": 1, "argv": []}')

    info = nb.RunFolder.open(tmp_path).info

    assert (info.name, info.tags, info.environment) == ("o", (), {})


def test_the_state_of_the_code_is_what_git_says(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-b", "topic")
    (tmp_path / "train.py").write_text("1")
    git("add", ".")
    git("commit", "-m", "first")
    (tmp_path / "train.py").write_text("2")

    state = code_state(tmp_path)

    assert (state["git.branch"], state["git.dirty"]) == ("topic", True)
    assert len(str(state["git.commit"])) == 40


def test_code_without_changes_is_clean_and_without_a_branch_says_none() -> None:
    state = read_status("# branch.oid abc\n# branch.head (detached)\n")

    assert state == {"git.commit": "abc", "git.dirty": False}


def test_code_outside_of_a_repository_has_no_state(tmp_path: Path) -> None:
    assert code_state(tmp_path) == {}


def test_gpus_are_counted_by_model(tmp_path: Path) -> None:
    (tmp_path / "version").write_text(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue\n"
    )
    for name in ("a", "b"):
        (tmp_path / "gpus" / name).mkdir(parents=True)
        (tmp_path / "gpus" / name / "information").write_text("Model: \t\t NVIDIA H200\nIRQ: 1\n")

    assert gpus_of(tmp_path) == {"gpus": "2 x NVIDIA H200", "gpu_driver": "550.54.15"}


def test_a_job_of_a_launcher_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "42")

    said = environment()

    assert (said["kind"], said["job"]) == ("slurm", "42")


def test_versions_are_those_of_packages_that_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = type(sys)("loaded_here")
    loaded.__dict__["__version__"] = "1.5"
    monkeypatch.setitem(sys.modules, "loaded_here", loaded)

    assert loaded_versions()["loaded_here"] == "1.5"


def test_a_package_that_is_loaded_between_two_runs_is_among_the_versions_of_the_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for version in ("1.5", "1.6"):
        assert "loaded_here" not in loaded_versions()
        with monkeypatch.context() as patch:
            loaded = type(sys)("loaded_here")
            loaded.__dict__["__version__"] = version
            patch.setitem(sys.modules, "loaded_here", loaded)

            assert loaded_versions()["loaded_here"] == version


def test_what_is_noted_can_be_encoded_and_read_again() -> None:
    marks = Marks("a", ("b",), "c", "d", True)

    assert msgspec.json.decode(msgspec.json.encode(marks), type=Marks) == marks


def test_a_run_that_begins_from_a_checkpoint_of_another_names_it_as_its_parent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = trainer(tmp_path / "one", max_epochs=1)
    first.fit(Small(), loader())
    assert first.run_folder is not None
    saved = tmp_path / "saved"
    first.save_checkpoint(saved)
    other = trainer(tmp_path / "two", max_epochs=2)
    other.fit(Small(), loader(), ckpt_path=saved)
    again = trainer(tmp_path / "two", max_epochs=3)
    again.fit(Small(), loader(), ckpt_path="last")

    (run,) = nb.runs(tmp_path / "two", where=f"parent == '{first.run_folder.info.id}'")
    assert main(["show", str(run.path)]) == 0
    assert f"parent {run.parent}" in capsys.readouterr().out
    assert nb.open_run(first.run_folder.path).parent == ""
    assert len(run.attempts) == 2
