"""What it costs to keep the last events in memory, where not all are recorded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from common import BARE, STEPS, Batches, Stopwatch, Tiny

import nightbus as nb
from nightbus.bus.bus import Bus


def train(folder: Path, recording: str) -> float:
    watch = Stopwatch()
    arguments: dict[str, Any] = {**BARE, "recording": recording}
    trainer = nb.Trainer(max_epochs=1, default_root_dir=folder, accelerator="cpu", **arguments)
    trainer.fit(Tiny(watch), Batches(STEPS))
    return watch.per_step_us


def kept(recording: str) -> Callable[[Path], float]:
    return lambda folder: train(folder, recording)


def none_kept(recording: str) -> Callable[[Path], float]:
    def run(folder: Path) -> float:
        with mock.patch.object(Bus, "keep_last_events"):
            return train(folder, recording)

    return run


LAST_EVENTS: dict[str, Callable[[Path], float]] = {
    "off, no last events": none_kept("off"),
    "off": kept("off"),
    "metrics, no last events": none_kept("metrics"),
    "metrics": kept("metrics"),
}
WITHOUT_LAST_EVENTS = {"off": "off, no last events", "metrics": "metrics, no last events"}
