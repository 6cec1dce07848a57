"""Runs for the board's figures: many small ones, and one of very many events or values."""

import json
import time
from pathlib import Path
from typing import Any

import torch
from common import quiet
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import nightbus as nb
from nightbus.bus.log.place import Place
from nightbus.bus.log.writer import LogIdentity, LogWriter
from nightbus.bus.runs.kept_summary import keep_summary

HOOKS = ("on_train_batch_start", "on_before_zero_grad", "on_after_backward", "on_train_batch_end")
FLUSHED = 10  # steps
METRIC = "loss"


class Line(nb.LightningModule):
    """A model of one line, with three hyperparameters and three metrics."""

    def __init__(self, lr: float = 0.01, width: int = 8, dropout: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.line = nn.Linear(4, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss: Tensor = self.line(batch[0]).pow(2).mean()
        self.log(METRIC, loss)
        self.log("accuracy", 1 - loss.detach())
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.line(batch[0]).pow(2).mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def trained(root: Path) -> Path:
    """A small training's folder: three epochs, checkpoints, the files of a sink."""
    data = DataLoader(TensorDataset(torch.randn(80, 4)), batch_size=4)
    trainer = nb.Trainer(max_epochs=3, default_root_dir=root, enable_progress_bar=False)
    with quiet():
        trainer.fit(Line(), data, data)
    assert trainer.run_folder is not None
    return trainer.run_folder.path


def many_runs(root: Path, number: int) -> Path:
    """A folder of runs that are copies of one, with ids, times and learning rates of their own."""
    runs = root / "many" / "runs"
    if runs.is_dir():
        return runs
    one = trained(root / "one")
    info = json.loads((one / "run.json").read_text())
    folders = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_dir())
    files = [path for path in one.rglob("*") if path.is_file() and path.parent != one]
    contents = [(path.relative_to(one), path.read_bytes()) for path in files]
    runs.mkdir(parents=True)
    for count in range(number):
        run = runs / f"line-{count:06x}"
        run.mkdir(mode=0o700)
        for folder in folders:
            (run / folder).mkdir(mode=0o700)
        for file, content in contents:
            (run / file).write_bytes(content)
        said: dict[str, Any] = {"hparams": {**info["hparams"], "lr": 0.001 * (count % 97)}}
        said |= {"id": run.name, "created_ns": info["created_ns"] - count * 10**9}
        (run / "run.json").write_text(json.dumps({**info, **said}))
    return runs


def end_all(runs: Path) -> float:
    """Have all runs keep their summaries, as at their ends; return the seconds of one."""
    folders = [nb.RunFolder.open(path.parent) for path in runs.glob("*/run.json")]
    begin_s = time.perf_counter()
    for folder in folders:
        keep_summary(folder)
    return (time.perf_counter() - begin_s) / len(folders)


class Recording:
    """A run that is recorded without training, and goes on until it is ended."""

    def __init__(self, root: Path, name: str) -> None:
        self.folder = nb.RunFolder.create(root, name)
        self._lock = self.folder.begin_attempt()
        self.place = Place()
        self.place.move(stage="train")
        store = self.folder.store(self._lock.attempt)
        self.writer = LogWriter(store, LogIdentity(self.folder.info.id), self.place)
        self.add(nb.RunStarted, self.folder.info.id, 0, "fit", time.time_ns(), {}, {})
        self.writer.flush()

    def add(self, kind: Any, *fields: Any) -> None:
        """Record an event."""
        self.writer.append(self.writer.event(kind, *fields, source="module"))

    def put(self, value: float) -> None:
        """Record a value, written at once."""
        self.place.complete_step(self.place.step + 1)
        self.add(nb.Put, METRIC, value, ("loggers",), "training_step")
        self.writer.flush()

    def steps(self, number: int, hooks: tuple[str, ...]) -> "Recording":
        """Record steps of a value and hooks, several at a time."""
        for step in range(1, number + 1):
            self.place.complete_step(step)
            now_ns = time.monotonic_ns()
            for name in hooks:
                self.writer.add_hook(name, now_ns, 500)
            value = 1000 / (step + 1000) + (step * 7919 % 1009) / 5000
            self.add(nb.Put, METRIC, value, ("loggers",), "training_step")
            if step % FLUSHED == 0:
                self.writer.flush()
        return self

    def end(self) -> Path:
        """End in good order; return the run's folder."""
        self.add(nb.RunEnded, "completed", "")
        self.writer.close()
        self._lock.release()
        return self.folder.path


def long_runs(
    root: Path, name: str, steps: int, hooks: tuple[str, ...] = (), number: int = 1
) -> tuple[Path, list[str]]:
    """A folder with long runs, and their ids."""
    runs = root / name / "runs"
    if not runs.is_dir():
        for _ in range(number):
            Recording(runs, name).steps(steps, hooks).end()
    return runs, sorted(path.parent.name for path in runs.glob("*/run.json"))
