"""What is told at run time to people who know it otherwise, once and where it matters."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from models import QUIET, Small, loader, trainer

import nightbus as nb
from nightbus.bus.system import logging_setup, streams


@pytest.fixture(autouse=True)
def _nothing_was_told() -> Iterator[None]:
    before = set(streams._TOLD)
    streams._TOLD.clear()
    yield
    streams._TOLD.update(before)


def test_a_dict_that_is_logged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Logs(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("n", {"a": 1.0})
            return super().training_step(batch, batch_idx)

    trainer(tmp_path).fit(Logs(), loader())

    assert capsys.readouterr().err.count("records each item of it as name/key") == 1


def test_the_folder_before_there_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    run = nb.Trainer(max_epochs=1, **QUIET)

    assert run.log_dir is run.log_dir is None
    assert capsys.readouterr().err.count("trainer.log_dir is None before the first run") == 1


def test_hyperparameters_of_another_module() -> None:
    class Inner(Small):
        def __init__(self) -> None:
            super().__init__()
            self.save_hyperparameters()

    class Outer(Small):
        def __init__(self, width: int = 1) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.part = Inner()

    with pytest.raises(AttributeError, match="not those of a module that makes it"):
        _ = Outer().part.hparams.width


def test_strict_that_contradicts_the_module(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Part(Small):
        strict_loading = False

    run = trainer(tmp_path)
    run.model = Part()
    run.validate(dataloaders=loader(4), verbose=False)
    run.save_checkpoint(tmp_path / "saved")
    Part.load_from_checkpoint(tmp_path / "saved", strict=False)
    assert capsys.readouterr().err == ""
    Part.load_from_checkpoint(tmp_path / "saved", strict=True)

    assert "strict=True) holds, although Part.strict_loading is False" in capsys.readouterr().err


def test_a_limit_that_nobody_gave(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Stops(Small):
        def on_train_start(self) -> None:
            self.trainer.should_stop = True

    run = nb.Trainer(default_root_dir=tmp_path, **QUIET)
    run.fit(Stops(), loader(4))
    run.fit(Stops(), loader(4))

    assert capsys.readouterr().err.count("training ends after 1000 epochs") == 1


def test_a_stop_that_waits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Stops(Small):
        def on_train_batch_end(self, *_: Any) -> None:
            self.trainer.should_stop = True

    run = trainer(tmp_path, min_epochs=3, max_epochs=5)
    run.fit(Stops(), loader(4))

    assert run.current_epoch == 3
    assert capsys.readouterr().err.count("goes on until min_epochs=3") == 1


def test_predictions_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Predicts(Small):
        def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            return batch_idx or None

    run = trainer(tmp_path)
    assert run.predict(Predicts(), loader(12)) == [None, 1, 2]
    assert "predict returned None for 1 of 3 batches" in capsys.readouterr().err
    run.predict(Predicts(), loader(12), return_predictions=False)
    assert "predict_step" not in capsys.readouterr().err


def test_modules_among_hyperparameters(capsys: pytest.CaptureFixture[str]) -> None:
    class Wraps(Small):
        def __init__(self, net: Any, width: int = 1) -> None:
            super().__init__()
            self.save_hyperparameters()

    class Ignores(Small):
        def __init__(self, net: Any, width: int = 1) -> None:
            super().__init__()
            self.save_hyperparameters(ignore="net")

    assert list(Wraps(Small()).hparams) == ["net", "width"]
    assert "save_hyperparameters(ignore=['net'])" in capsys.readouterr().err
    Ignores(Small())
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"limit_train_batches": 1}, "limit_train_batches=1) reads one batch; 1.0 reads all"),
        ({"overfit_batches": 1.0}, "overfit_batches=1.0) reads all batches; 1 reads one batch"),
        ({"val_check_interval": 1}, "val_check_interval=1) validates after each batch"),
        ({"limit_val_batches": 2, "val_check_interval": 0.5}, ""),
    ],
)
def test_whether_one_means_one_batch_or_all(
    arguments: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    nb.Trainer(max_epochs=1, **QUIET, **arguments)
    nb.Trainer(max_epochs=1, **QUIET, **arguments)

    err = capsys.readouterr().err
    assert err.count(said) == 1 if said else not err


class Logs(Small):
    """Logs a metric for loggers, by name."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.log("asked", loss, logger=True)
        self.log("not asked", loss)
        return loss


def test_a_metric_for_loggers_is_told_once_if_there_is_no_logger(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer(tmp_path, logger=False).fit(Logs(), loader(12))
    said = capsys.readouterr().err
    assert said.count("log('asked', logger=True) reaches no logger") == 1
    assert "not asked" not in said

    trainer(tmp_path, logger=True).fit(Logs(), loader(12))
    assert "reaches no logger" not in capsys.readouterr().err


def test_a_callback_that_only_records_says_where_its_values_are_without_a_logger(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Rates(nb.LearningRateMonitor):
        """A class of its own, for what is said once in a process."""

    trainer(tmp_path, logger=True, callbacks=[Rates()]).fit(Small(), loader(12))
    assert "has no logger" not in capsys.readouterr().err

    trainer(tmp_path, logger=False, callbacks=[Rates()]).fit(Small(), loader(12))
    assert "Rates records values, and the Trainer has no logger" in capsys.readouterr().err


def test_hyperparameters_that_were_changed_since_init_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Kept(Small):
        def __init__(self, lr: float = 0.1, width: int = 2) -> None:
            super().__init__()
            self.save_hyperparameters()

    module = Kept()
    trainer(tmp_path).fit(module, loader(12))
    assert "were changed" not in capsys.readouterr().err

    module.hparams.lr = 0.5
    trainer(tmp_path).fit(module, loader(12))
    assert "hyperparameters of Kept were changed since its __init__: lr;" in capsys.readouterr().err


def test_hyperparameters_with_other_values_in_the_datamodule_whatever_their_keys_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Data(nb.LightningDataModule):
        def __init__(self, options: dict[Any, Any]) -> None:
            super().__init__()
            self.save_hyperparameters(options)

        def train_dataloader(self) -> Any:
            return loader()

    class Kept(Small):
        def __init__(self, options: dict[Any, Any]) -> None:
            super().__init__()
            self.save_hyperparameters(options)

    trainer(tmp_path).fit(Kept({1: 1, "2": 2}), datamodule=Data({1: 0, "2": 3}))

    said = capsys.readouterr().err
    assert "with other values" in said
    assert "1, 2" in said


def test_what_hooks_get_around_a_step_that_fetches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Fetches(Small):
        def training_step(self, dataloader_iter: Any) -> Any:  # type: ignore[override]
            return self.loss(next(dataloader_iter)[0])

    trainer(tmp_path, max_epochs=2).fit(Fetches(), loader())

    assert capsys.readouterr().err.count("training_step fetches its batches") == 1


def test_a_trainer_that_measures_speed_alone_says_what_it_leaves_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Logs(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("loss", 1.0)
            return super().training_step(batch, batch_idx)

    for _ in range(2):
        run = nb.Trainer(max_epochs=1, accelerator="cpu", barebones=True)
        run.fit(Logs(), loader())

    said = capsys.readouterr().err
    assert said.count("measures speed alone: no event log") == 1
    assert said.count("record nothing") == 2  # once for each Trainer


def test_python_s_filters_choose_how_often_an_unlogged_metric_is_warned_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    warned: list[str] = []
    monkeypatch.setattr(logging_setup._Context, "warn", warned.append)
    module = Small()
    module.trainer = nb.Trainer(max_epochs=1, accelerator="cpu", barebones=True)

    module.log("a", 1.0)
    module.log_dict({"a": 1.0})

    assert len(warned) == 2
