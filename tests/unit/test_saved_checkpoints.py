"""CheckpointUploads: which checkpoints of a ModelCheckpoint a logger uploads, and when."""

import os
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch

import nightbus as nb
from nightbus.loggers import wandb_logger
from nightbus.loggers.saved_checkpoints import CheckpointUploads

LogModel = Literal["all"] | bool


class Keeps:
    """A ModelCheckpoint that keeps the best, and the uploads of what it saves."""

    def __init__(self, folder: Path, log_model: LogModel, save_top_k: int = 1) -> None:
        self.folder, self.times = folder, 0
        self.uploads, self.sent = CheckpointUploads(log_model), list[str]()
        self.callback = SimpleNamespace(
            best_k_models={}, best_model_path="", last_model_path="", save_top_k=save_top_k
        )

    def save(self, name: str, score: float) -> None:
        path = self.folder / name
        path.touch()
        self.times += 1
        os.utime(path, (self.times, self.times))
        self.callback.best_k_models = {str(path): score}
        self.uploads.saved(self.callback, self.send)

    def send(self, callback: Any, path: str, score: float | None) -> None:
        self.sent.append(f"{Path(path).name} {score}")


@pytest.mark.parametrize(
    ("log_model", "save_top_k", "meanwhile", "in_the_end"),
    [
        ("all", 1, ["a 0.5", "b 0.4", "b 0.3"], ["a 0.5", "b 0.4", "b 0.3"]),
        (True, -1, ["a 0.5", "b 0.4", "b 0.3"], ["a 0.5", "b 0.4", "b 0.3"]),
        (True, 1, [], ["b 0.3"]),
        (False, 1, [], []),
    ],
)
def test_each_is_uploaded_once_when_it_is_saved_or_in_the_end(
    tmp_path: Path,
    log_model: LogModel,
    save_top_k: int,
    meanwhile: list[str],
    in_the_end: list[str],
) -> None:
    keeps = Keeps(tmp_path, log_model, save_top_k)
    for name, score in [("a", 0.5), ("b", 0.4), ("b", 0.3)]:
        keeps.save(name, score)
    assert keeps.sent == meanwhile

    keeps.uploads.upload_waiting(keeps.send)

    assert keeps.sent == in_the_end


def test_a_copy_has_no_callbacks(tmp_path: Path) -> None:
    keeps = Keeps(tmp_path, True)
    keeps.save("a", 0.5)

    copied = pickle.loads(pickle.dumps(keeps.uploads))
    copied.upload_waiting(keeps.send)

    assert keeps.sent == []


def test_what_is_uploaded_to_wandb_says_how_it_was_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[dict[str, Any]] = []

    class Artifact:
        def __init__(self, **told: Any) -> None:
            made.append(told)

        def add_file(self, path: str) -> None:
            made[-1]["file"] = path

    experiment = SimpleNamespace(id="7", log=print, log_artifact=lambda *_, **__: None)
    monkeypatch.setattr(wandb_logger, "_library", lambda: SimpleNamespace(Artifact=Artifact))
    logger = nb.WandbLogger(experiment=experiment, log_model="all")
    callback = nb.ModelCheckpoint(tmp_path, monitor="loss", save_top_k=2)
    path = tmp_path / "best"
    path.touch()
    callback.best_k_models = {str(path): torch.tensor(3)}

    logger.after_save_checkpoint(callback)

    chosen = {"monitor": "loss", "mode": "min", "save_last": None, "save_top_k": 2}
    chosen |= {"save_weights_only": False, "_every_n_train_steps": 0}
    (told,) = made
    assert told["metadata"] == {
        "score": 3,
        "original_filename": "best",
        "ModelCheckpoint": chosen,
    }
