"""Loggers of Lightning, given as logger=."""

import csv
import math
from pathlib import Path
from typing import Any

import pytest
from models import Small, loader, trainer

import nightbus as nb


class Recorder:
    """What a Lightning logger is called with."""

    experiment = "mine"

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any, Any]] = []

    def log_hyperparams(self, params: Any) -> None:
        self.calls.append(("log_hyperparams", params, None))

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.calls.append(("log_metrics", metrics, step))

    def save(self) -> None:
        self.calls.append(("save", None, None))

    def finalize(self, status: str) -> None:
        self.calls.append(("finalize", status, None))


class Puts(Small):
    def __init__(self) -> None:
        super().__init__()
        self.save_hyperparameters({"rate": 0.1})

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.put_dict({"step_loss": batch_idx, "twice": 2 * batch_idx})
        return loss


def test_it_gets_hyperparameters_then_metrics_by_step_and_is_finalized(tmp_path: Path) -> None:
    recorder = Recorder()
    run = trainer(tmp_path, logger=recorder)
    run.fit(Puts(), loader(), loader(8))

    calls = [call for call in recorder.calls if call[0] != "save"]
    assert calls[0] == ("log_hyperparams", {"rate": 0.1}, None)
    assert calls[1] == ("log_metrics", {"step_loss": 0, "twice": 0, "epoch": 0}, 0)
    steps = [step for name, _, step in calls if name == "log_metrics"]
    assert steps == [0, 1, 2, 3, 4, 5, 5]  # the last by itself, of validation
    assert calls[-1] == ("finalize", "success", None)
    assert ("save", None, None) in recorder.calls


def test_a_failed_run_finalizes_it_as_failed(tmp_path: Path) -> None:
    class Fails(Puts):
        def on_train_epoch_end(self) -> None:
            raise RuntimeError("on purpose")

    recorder = Recorder()
    with pytest.raises(RuntimeError):
        trainer(tmp_path, logger=recorder).fit(Fails(), loader(), loader(8))

    assert recorder.calls[-1] == ("finalize", "failed", None)


def test_the_trainer_and_the_module_give_the_logger_itself(tmp_path: Path) -> None:
    class Uses(Puts):
        def on_train_start(self) -> None:
            assert self.logger.experiment == "mine"

    recorder = Recorder()
    run = trainer(tmp_path, logger=[recorder, nb.JSONLines()])
    run.fit(Uses(), loader())

    assert run.logger is recorder
    assert isinstance(run.loggers[1], nb.JSONLines)


def test_it_takes_the_place_of_the_csv_sink(tmp_path: Path) -> None:
    run = trainer(tmp_path, logger=Recorder())
    run.fit(Puts(), loader())

    assert run.log_dir is not None
    assert not (Path(run.log_dir) / "metrics.csv").exists()


def test_a_logger_that_raises_does_not_stop_training(tmp_path: Path) -> None:
    class Raises(Recorder):
        def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
            raise OSError("away")

    run = trainer(tmp_path, logger=Raises())
    run.fit(Puts(), loader())

    assert run.global_step == 6


def test_lightnings_own_loggers_work(tmp_path: Path) -> None:
    loggers = pytest.importorskip("lightning.pytorch.loggers")
    run = trainer(
        tmp_path,
        logger=[
            loggers.CSVLogger(tmp_path, name="csv"),
            loggers.TensorBoardLogger(tmp_path, name="tb"),
        ],
    )
    run.fit(Puts(), loader(), loader(8))

    with open(tmp_path / "csv" / "version_0" / "metrics.csv") as file:
        found = list(csv.DictReader(file))
    assert [row["twice"] for row in found if row["twice"]] == ["0", "2", "4", "6", "8", "10"]
    assert list((tmp_path / "tb" / "version_0").glob("events.out.tfevents.*"))


class Narrow(Recorder):
    """Takes no number that is not finite, as some do."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if not all(math.isfinite(value) for value in metrics.values()):
            raise ValueError("no such number")
        super().log_metrics(metrics, step)


def test_a_number_that_a_logger_cannot_take_costs_its_step_alone(tmp_path: Path) -> None:
    class PutsNaN(Puts):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.put("sometimes", math.nan if batch_idx == 2 else 1.0)
            return super().training_step(batch, batch_idx)

    narrow = Narrow()
    trainer(tmp_path, logger=narrow).fit(PutsNaN(), loader())

    steps = [step for name, _, step in narrow.calls if name == "log_metrics"]
    assert [step for step in steps if step < 6] == [0, 1, 3, 4, 5]
