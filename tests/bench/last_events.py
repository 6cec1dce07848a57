"""What it costs to keep the last events in memory, where not all are recorded.

In processor time of the training thread, which does all of it: a difference of 2 us is lost in what
else a machine does.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from common import BARE, STEPS, Batches, Stopwatch, Tiny
from torch import Tensor
from torch.nn import functional as F

import nightbus as nb
from nightbus.bus.bus import Bus
from nightbus.bus.log.flight_recorder import FlightRecorder
from nightbus.bus.log.hook_recorder import recording_nothing


class TinyOfThread(Tiny):
    """Tiny by the clock of its thread."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if batch_idx == 1:
            self.watch.begin_s = time.thread_time()
        x, y = batch
        return F.cross_entropy(self.net(x), y)

    def on_train_epoch_end(self) -> None:
        self.watch.end_s = time.thread_time()


def train(folder: Path, recording: str) -> float:
    watch = Stopwatch()
    arguments: dict[str, Any] = {**BARE, "recording": recording}
    trainer = nb.Trainer(max_epochs=1, default_root_dir=folder, accelerator="cpu", **arguments)
    trainer.fit(TinyOfThread(watch), Batches(STEPS))
    return watch.per_step_us


def kept(recording: str) -> Callable[[Path], float]:
    return lambda folder: train(folder, recording)


def stop_noting(bus: Bus, _: FlightRecorder) -> None:
    """Instead of keeping the last events."""
    bus.place.recorder = recording_nothing()


def none_kept(recording: str) -> Callable[[Path], float]:
    def run(folder: Path) -> float:
        with mock.patch.object(Bus, "keep_last_events", stop_noting):
            return train(folder, recording)

    return run


LAST_EVENTS: dict[str, Callable[[Path], float]] = {
    "off, no last events": none_kept("off"),
    "off": kept("off"),
    "metrics, no last events": none_kept("metrics"),
    "metrics": kept("metrics"),
}
WITHOUT_LAST_EVENTS = {
    "off, no last events": "off, no last events",
    "off": "off, no last events",
    "metrics, no last events": "metrics, no last events",
    "metrics": "metrics, no last events",
}
