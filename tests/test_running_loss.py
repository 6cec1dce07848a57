"""The training loss that the progress bar shows by itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, events, loader, trainer

import nightbus as nb
from nightbus.actors.metrics.log_entry import LogEntry
from nightbus.actors.metrics.metrics import Metrics
from nightbus.loops.running_loss import PUBLISH_EVERY_NS, WINDOW, RunningLoss

MS = 1_000_000


class Told(Metrics):
    """Remembers what is put."""

    def __init__(self) -> None:
        self.told: list[float] = []
        self._progress_bar: dict[str, Any] = {}
        self._entries: dict[Any, LogEntry] = {}

    def put(self, source: str, name: str, value: Any, destinations: Any = None) -> None:
        assert (source, name, destinations) == ("fit", "loss", ("progress_bar",))
        self.told.append(float(value))
        self._progress_bar[name] = float(value)


def run(steps: int, step_ns: int, loss_of: Callable[[int], float] = float) -> Told:
    metrics, now_ns = Told(), 1
    loss = RunningLoss(metrics)
    loss._clock_ns = lambda: now_ns
    for step in range(steps):
        loss.add(torch.tensor(loss_of(step), requires_grad=True), step)
        now_ns += step_ns
    return metrics


def test_the_first_loss_is_shown_at_once() -> None:
    assert run(1, MS, lambda _: 3.0).told == [3.0]


def test_slow_steps_are_shown_as_the_mean_of_the_last_20() -> None:
    told = run(60, 100 * MS).told

    assert len(told) == 12
    assert told[-1] == sum(range(36, 56)) / WINDOW


def test_fast_steps_are_shown_twice_a_second_as_means_of_20_in_a_row() -> None:
    metrics, now_ns, kept = Told(), 1, 0
    loss = RunningLoss(metrics)
    loss._clock_ns = lambda: now_ns
    for step in range(50_000):  # 5 s
        before = len(loss._recent)
        loss.add(torch.tensor(float(step)), step)
        kept += len(loss._recent) != before
        now_ns += MS // 10

    assert 9 <= len(metrics.told) <= 12
    last = metrics.told[-1]
    assert last - 9.5 == int(last - 9.5)  # of consecutive steps
    assert kept < 50_000 / 5


def test_a_validation_between_fast_steps_does_not_stop_it() -> None:
    metrics, now_ns = Told(), 1
    loss = RunningLoss(metrics)
    loss._clock_ns = lambda: now_ns
    for _ in range(4):
        for step in range(10_000):
            loss.add(torch.tensor(1.0), step)
            now_ns += MS // 10
        now_ns += 60_000 * MS

    assert 8 <= len(metrics.told) <= 20


def test_each_epoch_ends_with_the_mean_of_its_last_20() -> None:
    metrics, now_ns = Told(), 1
    loss = RunningLoss(metrics)
    loss._clock_ns = lambda: now_ns
    for epoch in range(3):
        loss.begin_epoch(1000)
        for step in range(1000):
            loss.add(torch.tensor(float(1000 * epoch + step)), step)
            now_ns += MS // 1000  # 1 ms an epoch
        loss.end_epoch()

        assert metrics.told[-1] == 1000 * epoch + 989.5


def test_it_does_not_keep_the_graph() -> None:
    metrics = Told()
    loss = RunningLoss(metrics)
    loss._clock_ns = lambda: PUBLISH_EVERY_NS
    loss.add(torch.tensor(1.0, requires_grad=True) * 2, 0)

    assert not any(kept.requires_grad for kept in loss._recent)


class Shows(Small):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.shown = name

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.log(self.shown, 7.0, prog_bar=True)
        return loss


@pytest.mark.parametrize("name", ["loss", "train_loss_all", "loss/train"])
def test_a_loss_of_the_users_own_takes_its_place(tmp_path: Path, name: str) -> None:
    fit = trainer(tmp_path, enable_progress_bar=True)
    fit.fit(Shows(name), loader())

    assert not [put for put in events(fit, nb.Put) if put.source == "fit"]
    assert fit.progress_bar_metrics[name] == 7.0


def test_a_loss_that_ranks_are_about_to_reduce_takes_its_place_from_the_first_step_on() -> None:
    metrics = Told()
    options = (True, True, None, None, "mean", True)
    metrics._entries["key"] = LogEntry("train_loss", options, "train", "training_step", "module")
    loss = RunningLoss(metrics)
    loss.add(torch.tensor(1.0), 0)

    assert metrics.told == []


class ShowsEpochs(Small):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.log("mean_loss", loss, on_step=False, on_epoch=True, prog_bar=True)
        return loss


def test_a_loss_of_the_users_own_that_epochs_end_with_does_not_stop_it(tmp_path: Path) -> None:
    fit = trainer(tmp_path, enable_progress_bar=True, max_epochs=3)
    fit.fit(ShowsEpochs(), loader())

    shown = [put for put in events(fit, nb.Put) if put.source == "fit"]
    assert {put.epoch for put in shown} == {0, 1, 2}


def test_it_is_there_beside_other_metrics_and_goes_to_the_bar_alone(tmp_path: Path) -> None:
    fit = trainer(tmp_path, enable_progress_bar=True)
    fit.fit(Shows("val_loss_before"), loader())

    shown = [put for put in events(fit, nb.Put) if put.source == "fit"]
    assert {put.name for put in shown} == {"loss"}
    assert {put.destinations for put in shown} == {("progress_bar",)}
    # Nobody logged it.
    assert set(fit.progress_bar_metrics) == {"val_loss_before"}
    assert "loss" not in fit.callback_metrics


def test_without_a_bar_there_is_none(tmp_path: Path) -> None:
    fit = trainer(tmp_path, enable_progress_bar=False)
    fit.fit(Shows("other"), loader())

    assert not [put for put in events(fit, nb.Put) if put.name == "loss"]
