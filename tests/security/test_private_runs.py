"""What a run leaves on disk is for its owner alone, and holds no secrets."""

import errno
import json
import os
import sqlite3
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
import torch
from programs import run_program

import nightbus as nb
from nightbus.actors.checkpoints.format import link_checkpoint, read_checkpoint, write_checkpoint
from nightbus.bus.events import RunStarted
from nightbus.bus.log.reader import LogReader
from nightbus.bus.runs.run_folder import RunFolder, make_private_folder
from nightbus.bus.secrets.names import is_secret_name
from nightbus.bus.secrets.redaction import redact, redact_setting

pytestmark = pytest.mark.long

HERE = Path(__file__).parent


class Trained(NamedTuple):
    """A run of canary_training.py.

    Attributes:
        run: its folder.
        modes: of each path in it, as they were seen while it ran and at its end.
    """

    run: RunFolder
    modes: dict[str, list[int]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("canary")
    arguments = (
        "--api-token",
        "canary-after-an-option",
        "--password=canary-after-a-sign",
        "trainer.wandb_key=canary-in-an-override",
        "https://me:canary-in-a-url@host/data",
        "--epochs",
        "7",
    )
    tests = str(HERE.parent)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")]),
        "HF_TOKEN": "canary-environment",
        "ANYTHING": "canary-environment",
    }
    done = run_program(str(HERE / "canary_training.py"), str(folder), *arguments, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    (run,) = (folder / "runs").iterdir()
    return Trained(RunFolder.open(run), json.loads(done.stdout.splitlines()[-1]))


# -- modes ---------------------------------------------------------------------------------------


def test_all_files_are_0600_and_all_folders_0700_whatever_the_umask(trained: Trained) -> None:
    wrong = {
        name: [oct(mode) for mode in modes]
        for name, modes in trained.modes.items()
        if modes not in ([0o600], [0o700])
    }
    folders = {name for name in trained.modes if trained.modes[name] == [0o700]}
    # Checkpoints that are being written, or were removed since, are folders too.
    others = {name for name in folders if not name.startswith("checkpoints/")}

    assert wrong == {}
    assert others == {".", "attempt-000", "attempt-000/rank-00000", "cursors", "checkpoints"}


def test_every_kind_of_file_was_looked_at(trained: Trained) -> None:
    seen = set(trained.modes)

    assert seen >= {
        "run.json",
        "control.sock",
        "attempt-000/lock",
        "attempt-000/rank-00000/000000.nlog",
        "cursors/csv.json",
        "metrics.csv",
        "metrics.jsonl",
        "metrics.sqlite",
        "metrics.sqlite-wal",
        "metrics.parquet",
        "metrics.parquet.arrows",
        "events.out.tfevents.nightbus",
    }
    assert any(name.endswith("tensors.safetensors") for name in seen)
    assert any(name.endswith("state.msgpack") for name in seen)


def test_a_folder_for_runs_is_private_and_those_above_it_are_the_users(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_private_folder(tmp_path / "above" / "runs")
    finally:
        os.umask(before)

    assert (tmp_path / "above" / "runs").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "above").stat().st_mode & 0o777 == 0o777


def test_a_folder_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir(mode=0o750)

    make_private_folder(tmp_path / "runs")

    assert (tmp_path / "runs").stat().st_mode & 0o777 == 0o750


def test_a_checkpoint_is_private_also_where_its_files_are_copied_to_another_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path / "first", {"weight": torch.zeros(2)})

    def across_disks(*_: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(os, "link", across_disks)
    before = os.umask(0)
    try:
        link_checkpoint(tmp_path / "first", tmp_path / "second")
    finally:
        os.umask(before)

    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "second").iterdir()} == {0o600}


def test_a_file_in_a_folder_of_the_users_own_has_the_mode_that_the_umask_says(
    tmp_path: Path,
) -> None:
    run = RunFolder.create(tmp_path, "run")
    before = os.umask(0o027)
    try:
        sinks = (nb.CSV(tmp_path), nb.JSONLines(tmp_path), nb.Parquet(tmp_path))
        nb.replay(run, sinks=sinks)
    finally:
        os.umask(before)

    assert [sink.path.stat().st_mode & 0o777 for sink in sinks] == [0o640] * 3


# -- secrets -------------------------------------------------------------------------------------


def test_no_secret_is_in_any_file_of_a_run(trained: Trained) -> None:
    """Neither of the environment, nor of the command line, nor of the hyperparameters."""
    found = {
        str(path.relative_to(trained.run.path))
        for path in trained.run.path.rglob("*")
        if path.is_file() and b"canary-" in path.read_bytes()
    }

    assert found == set()
    assert "canary-" not in everything_recorded(trained.run)


def everything_recorded(run: RunFolder) -> str:
    """The log, also where it is compressed, and databases."""
    reader = LogReader(run.store(0))
    texts = [repr(event) for event in reader.events()]
    reader.close()
    database = sqlite3.connect(run.path / "metrics.sqlite")
    texts += database.iterdump()
    database.close()
    return "\n".join(texts)


def test_the_log_keeps_what_is_no_secret(trained: Trained) -> None:
    reader = LogReader(trained.run.store(0))
    started = next(event for event in reader.events() if isinstance(event, RunStarted))
    reader.close()

    assert started.hparams["rate"] == 0.1
    assert started.hparams["max_tokens"] == 512
    assert started.hparams["tokenizer"] == "kept-bpe"
    assert started.hparams["hub_token"] == "***"
    assert started.hparams["pwd"] == "***"
    assert started.hparams["database"] == "postgres://***@host/db"
    assert "north" in str(started.hparams["storage"])


def test_the_command_line_is_kept_without_its_secrets(trained: Trained) -> None:
    assert trained.run.info.argv[2:] == [
        "--api-token",
        "***",
        "--password=***",
        "trainer.wandb_key=***",
        "https://***@host/data",
        "--epochs",
        "7",
    ]


def test_a_checkpoint_holds_hyperparameters_without_secrets(trained: Trained) -> None:
    folder = (trained.run.path / "checkpoints" / "last").resolve()
    kept = read_checkpoint(folder)["hyper_parameters"]

    assert kept["tokenizer"] == "kept-bpe"
    assert "hub_token" not in kept
    assert "canary" not in msgspec.json.encode(kept).decode()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["--token", "s"], ["--token", "***"]),
        (["--token", "--lr", "1"], ["--token", "--lr", "1"]),
        (["--token=s"], ["--token=***"]),
        (["-api_key", "s"], ["-api_key", "***"]),
        (["model.api_key=s=t"], ["model.api_key=***"]),
        (["Authorization: Bearer s"], ["Authorization:***"]),
        (["ssh://me:s@host/x"], ["ssh://***@host/x"]),
        (["--lr", "0.1", "train.py"], ["--lr", "0.1", "train.py"]),
    ],
)
def test_a_command_line_is_redacted(given: list[str], kept: list[str]) -> None:
    assert redact(given) == kept


@pytest.mark.parametrize(
    "name",
    ["token", "HF_TOKEN", "apiKey", "api-key", "db.password", "secretKey", "AWS_SECRET", "auth"],
)
def test_a_name_of_a_secret_is_known(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["tokenizer", "author", "monkey", "keyboard", "passes", "bypass"])
def test_a_name_that_only_looks_like_a_secrets_is_not_one(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("max_tokens", 512, 512),
        ("use_auth", True, True),
        ("password", 12345678, "***"),
        ("use_password", True, True),
        ("api_key", "", ""),
        ("api_key", None, None),
        ("key", b"s", "***"),
        ("keys", ["a", "b"], ["***", "***"]),
        ("login", {"name": "me", "passphrase": "s"}, {"name": "me", "passphrase": "***"}),
    ],
)
def test_a_setting_is_redacted_by_its_name(name: str, value: object, kept: object) -> None:
    assert redact_setting(name, value) == kept
