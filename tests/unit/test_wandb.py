"""Weights & Biases, offline: what is in the file that would be sent."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import eventually
from models import Small, loader, trainer

import nightbus as nb

pytestmark = pytest.mark.long  # each starts the process that W&B writes with


@pytest.fixture(autouse=True)
def _needs_wandb() -> None:
    pytest.importorskip("wandb")  # takes seconds, so not while tests are collected


def records(folder: Path) -> list[Any]:
    """Everything that W&B keeps of the finished runs below a folder.

    The process that writes a run may be at it still when ``finish`` has returned.
    """
    found: list[Any] = []

    def are_whole() -> bool:
        found[:] = [records_of(path) for path in sorted(folder.rglob("*.wandb"))]
        return all(of and of[-1].WhichOneof("record_type") == "exit" for of in found)

    eventually(are_whole)
    return [record for of in found for record in of]


def records_of(path: Path) -> list[Any]:
    """The records of a run's file, as far as they are there.

    W&B's own reader is no Python any more: a file is a LevelDB log of protocol buffers, in blocks
    of 32 KiB, after 7 bytes of its own.
    """
    from wandb.proto import wandb_internal_pb2

    found = []
    data, position, record = path.read_bytes(), 7, b""
    while position + 7 <= len(data):
        if (left := 32768 - position % 32768) < 7:
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        if kind == 0 or position + 7 + length > len(data):  # not written yet
            break
        record += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            found.append(wandb_internal_pb2.Record.FromString(record))  # type: ignore[attr-defined]
            record = b""
    return found


def rows(folder: Path) -> list[dict[str, Any]]:
    """The history, row by row."""
    found = []
    for record in records(folder):
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            found.append(
                {
                    item.key or "/".join(item.nested_key): json.loads(item.value_json)
                    for item in items
                }
            )
    return found


class Shows(Small):
    def __init__(self) -> None:
        super().__init__()
        self.save_hyperparameters({"rate": 0.1, "layers": 3})

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.put_dict({"loss": loss, "twice": 2 * loss.detach()})
        return loss

    def on_train_epoch_end(self) -> None:
        self.put_image("image", [[0.0, 0.5, 1.0], [1.0, 0.5, 0.0]])
        self.put_histogram("histogram", [0.0, 1.0, 1.0], bins=2)
        self.put_text("text", "<b>")
        self.put_table("table", ["word"], [["a"]])


def fit(tmp_path: Path, *sinks: nb.Sink) -> nb.Trainer:
    run = trainer(tmp_path, sinks=sinks)
    run.fit(Shows(), loader(), loader(8))
    return run


def test_each_step_is_a_row_of_the_history(tmp_path: Path) -> None:
    run = fit(tmp_path, nb.WandB("tests", mode="offline"))
    assert run.log_dir is not None
    found = rows(Path(run.log_dir))

    steps = [row for row in found if "loss" in row]
    assert [row["trainer/global_step"] for row in steps] == [0, 1, 2, 3, 4, 5]
    assert all(row["twice"] == pytest.approx(2 * row["loss"]) for row in steps)
    (validation,) = (row for row in found if "val_loss" in row)
    assert validation["val_loss"] == float(run.logged_metrics["val_loss"])
    assert [row["_step"] for row in found] == list(range(len(found)))


@pytest.mark.parametrize("secret", [False, True])
def test_what_wandb_finds_out_itself_is_left_out_if_the_command_line_holds_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: bool
) -> None:
    option = "--api-token" if secret else "--data"
    monkeypatch.setattr("sys.argv", ["train.py", option, "canary-in-arguments"])

    fit(tmp_path, nb.WandB("tests", mode="offline", folder=tmp_path / "wb"))

    files = [path for path in (tmp_path / "wb").rglob("*") if path.is_file()]
    assert any(b"canary-in-arguments" in path.read_bytes() for path in files) is not secret


def test_hyperparameters_are_its_config(tmp_path: Path) -> None:
    fit(tmp_path, nb.WandB("tests", mode="offline", folder=tmp_path / "wb", tags=["a"]))

    config: dict[str, Any] = {}
    for record in records(tmp_path / "wb"):
        updates = [*record.config.update, *record.run.config.update]
        config |= {item.key: json.loads(item.value_json) for item in updates if item.key}
    assert (config["rate"], config["layers"]) == (0.1, 3)


def test_media_are_there_as_what_they_are(tmp_path: Path) -> None:
    fit(tmp_path, nb.WandB("tests", mode="offline", folder=tmp_path))
    media = {key: value for row in rows(tmp_path) for key, value in row.items()}

    kinds = {
        name: media.get(name, {}).get("_type") if name in media else media[f"{name}/_type"]
        for name in ("image", "histogram", "text", "table")
    }
    assert kinds == {
        "image": "image-file",
        "histogram": "histogram",
        "text": "html-file",
        "table": "table-file",
    }


def test_rows_that_come_again_after_a_failure_are_not_added_twice(tmp_path: Path) -> None:
    class Fails(nb.WandB):
        failed = False

        def write(self, batch: list[Any]) -> None:
            super().write(batch)
            if not self.failed and any(isinstance(event, nb.Put) for event in batch):
                self.failed = True
                raise OSError("away")

    fit(tmp_path, Fails("tests", mode="offline", folder=tmp_path))

    steps = [row["trainer/global_step"] for row in rows(tmp_path) if "loss" in row]
    assert sorted(set(steps)) == [0, 1, 2, 3, 4, 5]


class LogsByHand(Shows):
    def on_train_epoch_end(self) -> None:
        self.logger.experiment.log({"by_hand": 0.5})
        self.logger.log_image("pictures", [torch.rand(3, 4, 5)])


def test_the_logger_of_lightnings_name_writes_what_is_logged_once(tmp_path: Path) -> None:
    logger = nb.WandbLogger("first", tmp_path / "wb", offline=True, project="tests")
    run = trainer(tmp_path, logger=logger, max_epochs=1, log_every_n_steps=1)
    run.fit(LogsByHand(), loader(), loader(8))
    logger.experiment.finish()

    found = rows(tmp_path / "wb")
    assert [row["trainer/global_step"] for row in found if "loss" in row] == [0, 1, 2, 3, 4, 5]
    assert [row["by_hand"] for row in found if "by_hand" in row] == [0.5]
    assert len([row for row in found if any("pictures" in name for name in row)]) == 1
    assert len(list((tmp_path / "wb").rglob("*.png"))) == 1


def test_the_logger_begins_before_writers_of_tensorboard_and_takes_lists_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[type] = []

    def noting(kind: Any) -> property:
        made = kind.experiment.fget

        def experiment(self: Any) -> Any:
            begun.append(kind)
            return made(self)

        return property(experiment)

    for kind in (nb.TensorBoardLogger, nb.WandbLogger):
        monkeypatch.setattr(kind, "experiment", noting(kind))
    wandb = nb.WandbLogger(save_dir=tmp_path, offline=True)
    run = trainer(tmp_path, logger=[nb.TensorBoardLogger(tmp_path), wandb])
    run.fit(Small(), loader())

    assert begun[0] is nb.WandbLogger
    for media in ("image", "audio", "video"):
        with pytest.raises(TypeError, match=rf"{media}s is a str; expected a list"):
            getattr(wandb, f"log_{media}")("a", f"1.{media}")
    wandb.experiment.finish()
