"""No secret is in any file of a run, in whatever shape it was given."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import secret_shapes
import torch
import zstandard
from programs import run_program

import nightbus as nb
from nightbus.actors.checkpoints.format import read_checkpoint
from nightbus.actors.checkpoints.import_checkpoint import convert
from nightbus.bus.log.reader import LogReader
from nightbus.bus.runs.run_folder import RunFolder
from nightbus.bus.secrets.names import is_secret_name
from nightbus.bus.secrets.redaction import redact, redact_setting, without_secrets

pytestmark = pytest.mark.long

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs with all secrets, of which the second crashed, and what other sinks wrote."""
    folder = tmp_path_factory.mktemp("secrets")
    done = run_program(
        str(HERE / "secret_training.py"),
        str(folder),
        *secret_shapes.arguments(),
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")]),
            "MLFLOW_ALLOW_FILE_STORE": "true",
            "HUB_TOKEN": secret_shapes.SECRETS["the environment"],
        },
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def contents(folder: Path) -> dict[str, bytes]:
    """All that is in the files, also in what is compressed, by file."""
    found: dict[str, bytes] = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            found[str(path.relative_to(folder))] = b"\n".join(_readings(path))
    for run in folder.glob("runs/*"):
        reader = LogReader(RunFolder.open(run).store(0))
        found[f"{run.name}, its events"] = "\n".join(map(repr, reader.events())).encode()
        reader.close()
    return found


def _readings(path: Path) -> Iterator[bytes]:
    data = path.read_bytes()
    yield data
    if path.suffix == ".zst":
        at = data.find(b"(\xb5/\xfd")  # where the first frame of zstd begins
        yield zstandard.ZstdDecompressor().decompressobj().decompress(data[at:])
    if path.suffix == ".sqlite":
        database = sqlite3.connect(path)
        yield "\n".join(database.iterdump()).encode()
        database.close()
    if path.suffix == ".parquet":
        import pyarrow.parquet

        yield repr(pyarrow.parquet.read_table(path).to_pylist()).encode()


def test_more_than_sixty_shapes_are_tried() -> None:
    assert len(secret_shapes.SECRETS) >= 60
    assert len(set(secret_shapes.SECRETS.values())) == len(secret_shapes.SECRETS)


@pytest.mark.parametrize("shape", secret_shapes.SECRETS)
def test_a_secret_of_this_shape_is_in_no_file(contents: dict[str, bytes], shape: str) -> None:
    text = secret_shapes.SECRETS[shape]
    hexadecimal = text.encode().hex()
    wanted = [form.encode() for form in (text, text.lower(), text.upper(), hexadecimal)]

    found = [name for name, data in contents.items() if any(form in data for form in wanted)]

    assert found == []


def test_each_kind_of_file_was_looked_at(contents: dict[str, bytes]) -> None:
    names = "\n".join(contents)

    for part in (
        "run.json",
        ".nlog",
        "metrics.csv",
        "metrics.jsonl",
        "metrics.sqlite",
        "metrics.parquet",
        "tfevents",
        "state.msgpack",
        "cursors/",
        "crash-",
        "its events",
    ):
        assert part in names, part


def test_what_is_no_secret_is_kept_beside_them(contents: dict[str, bytes]) -> None:
    everything = b"\n".join(contents.values())

    assert b"kept-author" in everything
    assert b"token_dim" in everything
    assert b"north" in everything
    assert b"cannot log in with" in everything


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("token_dim", 64),
        ("num_tokens", 4096),
        ("passes", 3),
        ("bypass", 0.5),
        ("author", 7),
        ("key_dim", 64),
        ("max_tokens", 512),
        ("tokenizer", 2),
        ("monkey", 1),
        ("compass", 90.0),
        ("keyboard", 104),
        ("eos_token", 50256),
        ("token_weights", [0.1, 0.9]),
        ("key_sizes", {"a": 3}),
        ("keys", (1, 2)),
        ("use_auth", True),
        ("token", None),
        ("password", ""),
        ("tokenizer", "kept-bpe"),
        ("author", "me"),
        ("compass", "north"),
        ("monkey", "patch"),
        ("pad_token", "<pad>"),
        ("mask_token", "[MASK]"),
        ("url", "https://host:8080/a@b"),
        ("repository", "git@github.com:me/x.git"),
        ("image", "pytorch/pytorch:2.0@sha256:0a1b"),
        ("commit", "0a1b2c3d" * 5),
        ("note", "basic training, keys first"),
        ("optimizer", "torch.optim.SGD"),
        ("token_embedding", len),
    ],
)
def test_what_only_sounds_like_a_secret_is_kept(name: str, value: Any) -> None:
    assert redact_setting(name, value) is value


@pytest.mark.parametrize(
    "words",
    [
        ["--max-tokens", "512", "--key_dim=64"],
        ["--tokenizer", "bpe", "--author", "me"],
        ["--commit", "0a1b2c3d" * 5],
        ["https://host:8080/a@b", "git@github.com:me/x"],
        ["--token", "--lr", "1"],
        ["--pad_token=<pad>", "num_tokens=3"],
    ],
)
def test_a_word_of_the_command_line_that_is_no_secret_is_kept(words: list[str]) -> None:
    assert redact(words) == words


@pytest.mark.parametrize("name", ["dbpass", "db_pass", "DBPASS", "authtoken", "sshKey", "pin"])
def test_words_that_are_written_as_one_name_a_secret_too(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["compass", "subject", "keyboard", "spin", "pin_memory", "passes"])
def test_a_part_of_another_word_names_none(name: str) -> None:
    assert not is_secret_name(name)


def test_something_that_contains_itself_is_struck_out_there() -> None:
    inner: dict[str, Any] = {"rate": 0.1}
    inner["again"] = inner

    assert redact_setting("config", inner) == {"rate": 0.1, "again": "***"}


def test_an_error_keeps_its_words_but_for_what_is_known_to_be_secret() -> None:
    redact_setting("hub_token", "very-secret-4711")

    said = without_secrets("missing key: layer.weight; 401 for very-secret-4711, key='loss'")

    assert said == "missing key: layer.weight; 401 for ***, key='loss'"


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("logged in with token=Zk3jf93kfJ39fkSDF93kfQwe", "logged in with token=***"),
        ("token: 'aB3-dE6_gH9+jK2/mN5pQ8sT=='", "token: '***'"),
        ("api_key = 0123456789abcdef0123456789abcdef", "api_key = ***"),
        ("token=<pad>, key=encoder.layers.11.weight", None),
        ("key: layers_of_the_encoder_and_decoder_11", None),
        ("next token = Internationalisierung2026", None),
        ("digest=ab23456789abcdef0123456789abcdef", None),
    ],
)
def test_in_prose_a_value_that_was_drawn_at_random_is_struck_out(
    said: str, kept: str | None
) -> None:
    assert without_secrets(said) == (said if kept is None else kept)


def test_an_argument_that_is_left_out_is_known_to_be_secret(tmp_path: Path) -> None:
    class Private(nb.LightningModule):
        def __init__(self, hub_token: str) -> None:
            super().__init__()
            self.save_hyperparameters(ignore="hub_token")

    assert "hub_token" not in Private("left-out-but-secret-4712").hparams

    assert without_secrets("401 for left-out-but-secret-4712") == "401 for ***"


def test_a_checkpoint_that_is_imported_is_taken_over_without_its_secrets(tmp_path: Path) -> None:
    content = {
        "state_dict": {"weight": torch.ones(2)},
        "hyper_parameters": {"hub_token": "canary", "url": "s3://me:canary@host", "rate": 0.1},
    }
    torch.save(content, tmp_path / "theirs.ckpt")

    left_out = convert(tmp_path / "theirs.ckpt", tmp_path / "mine")

    assert [line.partition(":")[0] for line in left_out] == [
        "hyper_parameters.hub_token",
        "hyper_parameters.url",
    ]
    assert read_checkpoint(tmp_path / "mine")["hyper_parameters"] == {
        "url": "s3://***@host",
        "rate": 0.1,
    }


def test_a_short_word_under_a_secrets_name_is_not_struck_out_elsewhere() -> None:
    assert redact_setting("key", "val_loss") == "***"

    assert without_secrets("no metric val_loss") == "no metric val_loss"


def test_a_secret_that_is_no_valid_utf_8_is_struck_out_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(os.environb, b"HUB_TOKEN", b"canary-\xe9-4713")

    assert without_secrets(f"401 for {os.environ['HUB_TOKEN']}") == "401 for ***"


def test_what_the_environment_gets_meanwhile_is_struck_out_of_the_next_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert redact_setting("note", ["canary-4714"]) == ["canary-4714"]
    monkeypatch.setenv("HUB_TOKEN", "canary-4714")

    assert redact_setting("note", ["canary-4714"]) == ["***"]
    assert redact(["fit", "canary-4714"]) == ["fit", "***"]
