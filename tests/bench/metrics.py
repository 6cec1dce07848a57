"""Contenders that log more, or elsewhere."""

import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import BARE, STEPS, Batches, Stopwatch, Tiny
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

import nightbus as nb


class Logs(Tiny):
    """Reports on each step in a way of its own."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if batch_idx == 1:
            self.watch.begin_s = time.perf_counter()
        x, y = batch
        logits = self.net(x)
        loss = F.cross_entropy(logits, y)
        self.report(logits, y, loss)
        return loss

    def report(self, logits: Tensor, y: Tensor, loss: Tensor) -> None:
        """Log."""


class ThreeScalars(Logs):
    def report(self, logits: Tensor, y: Tensor, loss: Tensor) -> None:
        for name in ("a", "b", "c"):
            self.log(name, loss, on_step=True, on_epoch=True)


class ThirtyScalars(Logs):
    names = tuple(f"metric {number}" for number in range(30))

    def report(self, logits: Tensor, y: Tensor, loss: Tensor) -> None:
        for name in self.names:
            self.log(name, loss, on_step=True, on_epoch=True)


class ByHand(Logs):
    """A collection that is updated by hand, and computed and reset when the epoch is over."""

    def __init__(self, watch: Stopwatch) -> None:
        super().__init__(watch)
        self.metrics = MetricCollection(
            {
                "accuracy": MulticlassAccuracy(10, validate_args=False),
                "f1": MulticlassF1Score(10, validate_args=False),
            }
        )

    def report(self, logits: Tensor, y: Tensor, loss: Tensor) -> None:
        self.metrics.update(logits, y)

    def on_train_epoch_end(self) -> None:
        self.watch.end_s = time.perf_counter()
        self.metrics.compute()
        self.metrics.reset()


class Collection(ByHand):
    def report(self, logits: Tensor, y: Tensor, loss: Tensor) -> None:
        self.metrics.update(logits, y)
        self.log_dict(self.metrics, on_step=False, on_epoch=True)

    def on_train_epoch_end(self) -> None:
        self.watch.end_s = time.perf_counter()


def fit(
    module: type[Logs], make_sinks: Callable[[], list[nb.Sink]] = list, **arguments: Any
) -> Callable[[Path], float]:
    def run(folder: Path) -> float:
        watch = Stopwatch()
        trainer = nb.Trainer(
            max_epochs=1,
            default_root_dir=folder,
            accelerator="cpu",
            sinks=make_sinks(),
            **{**BARE, "recording": "all", **arguments},
        )
        trainer.fit(module(watch), Batches(STEPS))
        return watch.per_step_us

    return run


METRICS: dict[str, Callable[[Path], float]] = {
    "30 scalars, CSV": fit(ThirtyScalars, lambda: [nb.CSV()]),
    "metrics by hand": fit(ByHand),
    "metrics logged": fit(Collection),
    "3 scalars, no sink": fit(ThreeScalars, log_every_n_steps=1),
    "3, CSV, each step": fit(ThreeScalars, lambda: [nb.CSV()], log_every_n_steps=1),
    "3, TensorBoard, each step": fit(ThreeScalars, lambda: [nb.TensorBoard()], log_every_n_steps=1),
    "3, TensorBoard": fit(ThreeScalars, lambda: [nb.TensorBoard()]),
    "3, SQLite, each step": fit(ThreeScalars, lambda: [nb.SQLite()], log_every_n_steps=1),
}
REFERENCE_OF = {
    "metrics logged": "metrics by hand",
    "3, CSV, each step": "3 scalars, no sink",
    "3, TensorBoard, each step": "3 scalars, no sink",
    "3, TensorBoard": "3 scalars, no sink",
    "3, SQLite, each step": "3 scalars, no sink",
}


def delivery(folder: Path, puts: int = 1_000_000) -> dict[str, str]:
    """How fast sinks take a recorded run of so many puts, and what memory grows by."""
    run = _record(folder, puts)
    figures = {}
    for kind in (nb.CSV, nb.JSONLines, nb.TensorBoard, nb.SQLite, nb.Parquet):
        before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        begin_s = time.perf_counter()
        nb.replay(run, sinks=[kind(folder / "delivered")])
        rate = puts / (time.perf_counter() - begin_s)
        grown_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before_mb
        figures[f"{kind.__name__}, puts a second"] = f"{rate:,.0f} (memory +{grown_mb:.0f} MiB)"
    return figures


def _record(folder: Path, puts: int) -> nb.RunFolder:
    from nightbus.bus.log.place import Place
    from nightbus.bus.log.writer import LogIdentity, LogWriter

    run = nb.RunFolder.create(folder / "runs", "million")
    lock = run.begin_attempt()
    place = Place()
    writer = LogWriter(run.store(lock.attempt), LogIdentity(run.info.id), place)
    for step in range(puts // 4):
        place.complete_step(step)
        for name in ("loss", "accuracy", "rate", "norm"):
            writer.append(
                writer.event(nb.Put, name, 1 / (step + 1), ("loggers",), "h", source="module")
            )
        writer.flush()
    writer.close()
    lock.release()
    return run
