"""What users read off the trainer inside their hooks."""

from pathlib import Path
from typing import Any

import pytest
import torch
from models import QUIET, Small, loader, trainer
from torch import nn

import nightbus as nb

FLAGS = ("training", "sanity_checking", "validating", "testing", "predicting")


class Notes(nb.Callback):
    """Notes which flags are set at each batch's start."""

    def __init__(self) -> None:
        self.flags: dict[str, set[str]] = {}

    def note(self, hook: str, trainer: nb.Trainer) -> None:
        self.flags[hook] = {flag for flag in FLAGS if getattr(trainer, flag)}

    def on_train_batch_start(self, trainer: nb.Trainer, *_: Any) -> None:
        self.note("train", trainer)

    def on_validation_batch_start(self, trainer: nb.Trainer, *_: Any) -> None:
        self.note("sanity" if trainer.sanity_checking else "validation", trainer)

    def on_test_batch_start(self, trainer: nb.Trainer, *_: Any) -> None:
        self.note("test", trainer)

    def on_predict_batch_start(self, trainer: nb.Trainer, *_: Any) -> None:
        self.note("predict", trainer)


def test_callbacks_that_save_checkpoints_are_the_last(tmp_path: Path) -> None:
    saving, notes = nb.ModelCheckpoint(), Notes()
    run = trainer(tmp_path, callbacks=[saving, notes], enable_model_summary=True)

    assert run.callbacks[0] is notes
    assert run.callbacks[-1] is saving
    assert isinstance(run.callbacks[1], nb.ModelSummary)


def test_exactly_one_flag_says_what_is_being_done(tmp_path: Path) -> None:
    notes = Notes()
    run = trainer(tmp_path, callbacks=[notes])

    run.fit(Small(), loader(), loader(8))
    run.test(dataloaders=loader(8), verbose=False)
    run.predict(dataloaders=loader(8))

    assert notes.flags == {
        "sanity": {"sanity_checking"},
        "train": {"training"},
        "validation": {"validating"},
        "test": {"testing"},
        "predict": {"predicting"},
    }
    assert [flag for flag in FLAGS if getattr(run, flag)] == []


def test_is_last_batch_is_true_for_the_last_batch_alone(tmp_path: Path) -> None:
    class Asks(Small):
        def on_train_start(self) -> None:
            self.found: list[bool] = []

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.found.append(self.trainer.is_last_batch)
            return self.loss(batch)

    module = Asks()

    trainer(tmp_path, max_epochs=2).fit(module, loader(12))

    assert module.found == [False, False, True] * 2


def test_numbers_of_batches_and_steps_are_known_when_optimizers_are_configured(
    tmp_path: Path,
) -> None:
    class Asks(Small):
        def configure_optimizers(self) -> Any:
            run = self.trainer
            self.found = (
                run.num_training_batches,
                run.num_val_batches,
                run.estimated_stepping_batches,
                run.max_epochs,
            )
            return super().configure_optimizers()

        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            pass

    module = Asks()

    trainer(tmp_path, max_epochs=3, accumulate_grad_batches=4).fit(
        module, loader(24), [loader(8), loader(4)]
    )

    assert module.found == (6, [2, 1], 6, 3)


def test_global_step_counts_the_steps_of_all_optimizers(tmp_path: Path) -> None:
    class Two(Small):
        def training_step(self, batch: Any, batch_idx: int, optimizer_idx: int) -> Any:  # type: ignore[override]
            return self.loss(batch)

        def configure_optimizers(self) -> Any:
            return [torch.optim.SGD(self.net.parameters(), lr=0.1) for _ in range(2)]

    run = trainer(tmp_path, max_steps=10, max_epochs=None)

    run.fit(Two(), loader())

    assert run.global_step == 10
    assert run.fit_loop.global_step == 10
    assert run.optimization_progress.steps_by_optimizer == [5, 5]


def test_the_parts_of_a_run_are_attributes(tmp_path: Path) -> None:
    class Data(nb.LightningDataModule):
        def train_dataloader(self) -> Any:
            return loader()

    class Saves(nb.Checkpoint):
        pass

    class Last(nb.Callback):
        pass

    saves, data, module = Saves(), Data(), Small()
    run = trainer(tmp_path, callbacks=[saves, Last()], logger=True)
    seen: dict[str, Any] = {}

    class Asks(nb.Actor):
        @nb.on("on_train_batch_end")
        def look(self, hook: Any) -> None:
            seen["metrics"] = dict(hook.trainer.callback_metrics)

    run.attach(Asks())
    run.fit(module, datamodule=data)

    assert run.model is run.lightning_module is module
    assert run.datamodule is data
    assert run.checkpoint_callbacks == [run.checkpoint_callback] == [saves]
    assert run.logger is run.loggers[0]
    assert isinstance(run.logger, nb.CSV)
    assert [type(optimizer) for optimizer in run.optimizers] == [torch.optim.SGD]
    assert "train_loss" in seen["metrics"]
    assert (run.is_global_zero, run.global_rank, run.local_rank, run.node_rank) == (True, 0, 0, 0)
    assert (run.world_size, run.num_nodes) == (1, 1)


def test_callbacks_that_save_checkpoints_come_last(tmp_path: Path) -> None:
    order: list[str] = []

    class Saves(nb.Checkpoint):
        def on_train_epoch_end(self, trainer: nb.Trainer, module: Any) -> None:
            order.append("saves")

    class Acts(nb.Callback):
        def on_train_epoch_end(self, trainer: nb.Trainer, module: Any) -> None:
            order.append("acts")

    trainer(tmp_path, callbacks=[Saves(), Acts()]).fit(Small(), loader())

    assert order == ["acts", "saves"]


def test_what_depends_on_the_data_is_not_known_before_there_is_a_run() -> None:
    run = nb.Trainer(**QUIET, max_epochs=1)

    assert run.num_training_batches == float("inf")
    with pytest.raises(nb.UsageError, match="are known only during fit"):
        _ = run.estimated_stepping_batches


@pytest.mark.parametrize("function", ["validate", "test", "predict"])
def test_an_evaluation_keeps_frozen_parts_in_eval_mode(tmp_path: Path, function: str) -> None:
    class Frozen(Small):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(4).eval()

    module = Frozen()

    getattr(trainer(tmp_path), function)(module, loader(8))

    assert module.training
    assert module.net.training
    assert not module.norm.training


def test_a_step_that_cannot_tell_several_dataloaders_apart_is_refused(tmp_path: Path) -> None:
    with pytest.raises(nb.UsageError, match=r"there are 2 dataloaders.*has no argument dataload"):
        trainer(tmp_path).validate(Small(), [loader(8), loader(8)])


def test_the_callback_that_stops_early_is_found(tmp_path: Path) -> None:
    first, second = nb.EarlyStopping("val_loss"), nb.EarlyStopping("train_loss")
    run = trainer(tmp_path, callbacks=[nb.LambdaCallback(), first, second])

    assert run.early_stopping_callback is first
    assert run.early_stopping_callbacks == [first, second]
    assert trainer(tmp_path).early_stopping_callback is None


def test_the_trainer_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer(tmp_path).print("a", 1, sep="-")

    assert capsys.readouterr().out == "a-1\n"


@pytest.mark.parametrize("name", ["experiment", "log_image"])
def test_who_takes_a_sink_for_a_logger_of_lightning_is_told_what_to_use(
    tmp_path: Path, name: str
) -> None:
    logger = trainer(tmp_path, logger=True).logger

    with pytest.raises(AttributeError, match=r"CSV is a sink.* with self.log or self.put"):
        getattr(logger, name)


@pytest.mark.parametrize(
    "logger", [True, [nb.CSV(), nb.JSONLines()], nb.CSV()], ids=["default", "several", "a sink"]
)
def test_what_a_module_does_with_its_logger_goes_nowhere_in_a_fast_dev_run(
    tmp_path: Path, logger: Any
) -> None:
    class Logs(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.logger.log_metrics({"x": 1.0}, step=self.global_step)
            self.logger.log_hyperparams({"lr": 0.1})
            self.logger.experiment.add_histogram("x", [1, 2])
            self.logger.experiment["x"].append(1)
            for entry in self.loggers:
                entry.save()
            return super().training_step(batch, batch_idx)

    run = trainer(tmp_path, fast_dev_run=True, logger=logger)

    run.fit(Logs(), loader(4))

    assert not run.sinks


def test_there_is_no_logger_where_none_was_wanted(tmp_path: Path) -> None:
    run = trainer(tmp_path, fast_dev_run=True, logger=False)

    assert run.logger is None
    assert run.loggers == []


@pytest.mark.parametrize("several", [tuple, list, iter, dict.fromkeys])
def test_loggers_and_callbacks_come_in_any_iterable(tmp_path: Path, several: Any) -> None:
    run = trainer(
        tmp_path,
        logger=several([nb.CSV(), nb.JSONLines()]),
        callbacks=several([nb.ModelCheckpoint(), nb.LearningRateMonitor()]),
    )

    assert [type(entry) for entry in run.loggers] == [nb.CSV, nb.JSONLines]
    assert [type(entry) for entry in run.callbacks] == [nb.LearningRateMonitor, nb.ModelCheckpoint]


class Counts(Small):
    """Notes when it validates, and how much it tests and predicts."""

    def __init__(self) -> None:
        super().__init__()
        self.validated_at: list[int] = []
        self.batches = {"validation": 0, "test": 0}

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.batches["validation"] += 1

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.batches["test"] += 1

    def on_validation_end(self) -> None:
        self.validated_at.append(self.global_step)


def test_limits_that_are_assigned_hold_from_the_next_run_on(tmp_path: Path) -> None:
    run, module = trainer(tmp_path, max_epochs=2, num_sanity_val_steps=0), Counts()
    run.limit_train_batches, run.limit_val_batches = 2, 1
    run.limit_test_batches, run.limit_predict_batches = 0.5, 1

    run.fit(module, loader(24), loader(12))
    run.test(module, loader(16), verbose=False)

    assert (run.global_step, module.batches) == (4, {"validation": 2, "test": 2})
    assert len(run.predict(module, loader(12))) == 1
    assert run.limit_test_batches == 0.5


def test_validation_is_left_out_by_a_limit_that_is_assigned(tmp_path: Path) -> None:
    run, module = trainer(tmp_path), Counts()
    run.limit_val_batches = 0
    run.fit(module, loader(8), loader(8))
    assert module.batches["validation"] == 0


def test_when_to_validate_can_be_assigned(tmp_path: Path) -> None:
    run, module = trainer(tmp_path, max_epochs=2), Counts()
    run.num_sanity_val_steps, run.val_check_interval, run.check_val_every_n_epoch = 0, 3, 2
    run.fit(module, loader(24), loader(8))
    assert module.validated_at == [9, 12]


def test_a_limit_that_a_hook_assigns_holds_from_the_next_epoch_on(tmp_path: Path) -> None:
    class Shortens(Counts):
        def on_train_epoch_end(self) -> None:
            self.trainer.limit_train_batches = self.trainer.limit_val_batches = 1

    run, module = trainer(tmp_path, max_epochs=2, num_sanity_val_steps=0), Shortens()
    run.fit(module, loader(12), loader(8))
    assert run.global_step == 3 + 1
    assert module.batches["validation"] == 2 + 1


@pytest.mark.parametrize(
    ("name", "value"), [("limit_val_batches", -1), ("log_every_n_steps", -1), ("precision", 16)]
)
def test_what_is_assigned_and_makes_no_sense_or_comes_too_late_is_refused(
    tmp_path: Path, name: str, value: Any
) -> None:
    with pytest.raises(nb.UsageError, match=name):
        setattr(trainer(tmp_path), name, value)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"max_steps": 3}, 3),
        ({"max_steps": 100, "max_epochs": 2}, 12),
        ({"max_steps": 3, "max_epochs": 2}, 3),
    ],
)
def test_the_number_of_steps_to_come_is_known_without_a_number_of_epochs(
    limits: dict[str, int], expected: int, tmp_path: Path
) -> None:
    seen = []

    class Asks(Small):
        def configure_optimizers(self) -> Any:
            seen.append(self.trainer.estimated_stepping_batches)
            return super().configure_optimizers()

    trainer(tmp_path, **{"max_epochs": None, **limits}).fit(Asks(), loader())  # 6 batches

    assert seen == [expected]


def test_properties_that_fail_because_of_another_do_not_run_again() -> None:
    ran: list[str] = []

    class Own(nb.Trainer):
        @property
        def outer(self) -> Any:
            ran.append("outer")
            return self.middle

        @property
        def middle(self) -> Any:
            ran.append("middle")
            return self.inner

        @property
        def inner(self) -> Any:
            ran.append("inner")
            return "text".nothing  # type: ignore[attr-defined]

    own = Own(**QUIET)
    for _ in range(2):
        ran.clear()
        with pytest.raises(AttributeError, match="'str' object has no attribute 'nothing'"):
            _ = own.outer
        assert ran == ["outer", "middle", "inner", "inner"]


def test_a_property_that_catches_the_error_of_another_fails_with_its_own() -> None:
    class Own(nb.Trainer):
        @property
        def outer(self) -> Any:
            try:
                return self.inner
            except AttributeError:
                return (3).other  # type: ignore[attr-defined]

        @property
        def inner(self) -> Any:
            return "text".nothing  # type: ignore[attr-defined]

    with pytest.raises(AttributeError, match="'int' object has no attribute 'other'"):
        _ = Own(**QUIET).outer


@pytest.mark.parametrize("has_run", [False, True])
@pytest.mark.parametrize("is_empty", [False, True])
def test_optimizers_may_be_assigned_outside_of_fit_to_trainer_and_strategy(
    tmp_path: Path, has_run: bool, is_empty: bool
) -> None:
    run, module = trainer(tmp_path, max_steps=1), Small()
    if has_run:
        run.fit(module, loader(4))
    given = [] if is_empty else [module.configure_optimizers()]
    for owner in (run, run.strategy):
        owner.optimizers = given
        assert run.optimizers == given == run.strategy.optimizers


def test_who_assigns_optimizers_before_fit_is_told_that_it_gets_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, module = trainer(tmp_path, max_steps=1), Small()
    given = module.configure_optimizers()
    run.optimizers = [given]
    run.fit(module, loader(4))

    assert run.optimizers[0] is not given
    assert "to train with others, set them within fit" in capsys.readouterr().err


def test_a_strategy_has_no_module_before_the_first_run(tmp_path: Path) -> None:
    strategy, module = trainer(tmp_path).strategy, Small()

    assert strategy.model is None
    assert strategy.lightning_module is None
    with pytest.raises(nb.UsageError, match="call it within fit"):
        strategy.setup_optimizers()
    strategy.model = module
    assert strategy.lightning_module is module
