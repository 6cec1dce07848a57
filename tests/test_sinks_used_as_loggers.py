"""A sink takes what modules and scripts ask of a logger of Lightning."""

import argparse
import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, events, loader, trainer

import nightbus as nb
from nightbus.bus.errors import OutsideRunError


def begin_of(run: nb.Trainer, attempt: int = 0) -> dict[str, Any]:
    (begin,) = events(run, nb.RunStarted, attempt=attempt)
    assert isinstance(begin, nb.RunStarted)
    return dict(begin.hparams)


class Logs(Small):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.logger.log_metrics({"mine": float(batch_idx)}, step=self.global_step)
        return self.loss(batch)

    def on_train_epoch_end(self) -> None:
        self.logger.log_metrics({"by_epoch": 1.0}, step=self.current_epoch)
        self.logger.log_metrics({"here": 1.0})
        self.logger.save()


def test_metrics_are_recorded_at_the_step_that_they_are_given(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=2, logger=True)
    run.fit(Logs(), loader(8))

    found = [(put.name, put.step) for put in events(run, nb.Put) if put.source == "csv"]
    assert found == [
        ("mine", 0),
        ("mine", 1),
        ("by_epoch", 0),
        ("here", 1),
        ("mine", 2),
        ("mine", 3),
        ("by_epoch", 1),
        ("here", 3),
    ]
    assert run.log_dir is not None
    with (Path(run.log_dir) / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["mine"]]
    assert [(row["step"], row["mine"]) for row in rows] == [
        ("0", "0.0"),
        ("1", "1.0"),
        ("2", "0.0"),
        ("3", "1.0"),
    ]


def test_several_sinks_that_are_told_the_same_record_it_once(tmp_path: Path) -> None:
    class LogsToAll(Small):
        def on_train_epoch_end(self) -> None:
            for logger in self.loggers:
                logger.log_metrics({"mine": 1.0})
                logger.log_hyperparams({"late": 3})

    run = trainer(tmp_path, sinks=[nb.CSV(), nb.JSONLines()])
    run.fit(LogsToAll(), loader(8))
    assert [put.name for put in events(run, nb.Put)].count("mine") == 1
    assert [media.name for media in events(run, nb.Media)] == ["hyperparameters"]


@pytest.mark.parametrize("kind", [dict, argparse.Namespace])
def test_hyperparameters_given_before_a_run_are_in_its_begin(tmp_path: Path, kind: Any) -> None:
    run = trainer(tmp_path, logger=True)
    for logger in run.loggers:
        logger.log_hyperparams(kind(model={"lr": 0.1}, seed=3, api_key="hunter22"))
    run.fit(Small(), loader(8))

    found = begin_of(run)
    assert (found["seed"], "hunter22" in str(found)) == (3, False)
    assert "0.1" in str(found["model"])


def test_hyperparameters_that_a_run_has_recorded_are_not_recorded_again(tmp_path: Path) -> None:
    class Says(Small):
        def __init__(self, lr: float = 0.1) -> None:
            super().__init__(lr)
            self.save_hyperparameters()

        def on_train_start(self) -> None:
            self.logger.log_hyperparams(self.hparams, {"hp/metric": 0.0})

    run = trainer(tmp_path, logger=True)
    run.fit(Says(), loader(8))
    assert begin_of(run)["lr"] == 0.1
    assert not events(run, nb.Media)
    assert "hp/metric" in [put.name for put in events(run, nb.Put)]


def test_metrics_outside_a_run_are_refused_with_what_to_do(tmp_path: Path) -> None:
    run = trainer(tmp_path, logger=True)
    with pytest.raises(OutsideRunError, match="call it in a hook"):
        run.logger.log_metrics({"x": 1.0})


def test_metrics_after_a_run_are_written_to_event_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = trainer(tmp_path, logger=True)
    run.fit(Small(), loader(4))

    run.logger.log_metrics({"x": torch.tensor(1.0)}, step=3)

    found = reader.EventAccumulator(str(run.log_dir)).Reload().Scalars("x")
    assert [(each.step, each.value) for each in found] == [(3, 1.0)]
    assert "x came after the run's end" in capsys.readouterr().err


def test_metrics_after_a_run_are_refused_without_tensorboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nightbus.trainer.for_loggers.find_spec", lambda name: None)
    run = trainer(tmp_path, logger=True)
    run.fit(Small(), loader(4))

    with pytest.raises(OutsideRunError):
        run.logger.log_metrics({"x": 1.0})


def test_what_cannot_be_logged_is_refused(tmp_path: Path) -> None:
    logger = trainer(tmp_path, logger=True).logger
    with pytest.raises(nb.UsageError, match="expects a mapping or a Namespace, not int"):
        logger.log_hyperparams(3)

    class Wrong(Small):
        def on_train_start(self) -> None:
            self.logger.log_metrics({"x": 1.0}, step=-1)

    with pytest.raises(nb.UsageError, match=r"log_metrics\(step=-1\): expected an int"):
        trainer(tmp_path, logger=True).fit(Wrong(), loader(4))


def test_a_sink_tells_where_the_run_is_as_a_logger_does(tmp_path: Path) -> None:
    run = trainer(tmp_path, logger=True)
    assert (run.logger.log_dir, run.logger.version) == (None, None)

    run.fit(Small(), loader(8))

    assert run.run_folder is not None
    assert Path(run.logger.log_dir) == run.run_folder.path
    assert Path(run.logger.save_dir) == tmp_path
    assert run.run_folder.path.name.endswith(f"-{run.logger.version}")


def test_checkpoints_of_a_callback_may_be_where_a_logger_links_those_of_the_run(
    tmp_path: Path,
) -> None:
    logger = nb.CSVLogger(tmp_path, name="here")
    folder = Path(logger.log_dir, "checkpoints")
    callback = nb.ModelCheckpoint(dirpath=folder, save_last=True)
    run = trainer(tmp_path, logger=logger, callbacks=[callback])

    run.fit(Small(), loader(8))

    assert not folder.is_symlink()
    assert sorted(path.name for path in folder.iterdir()) == ["epoch=0-step=2", "last"]
