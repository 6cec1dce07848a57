"""CheckpointUploads: which checkpoints of a ModelCheckpoint a logger uploads, and when."""

import os
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest

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
