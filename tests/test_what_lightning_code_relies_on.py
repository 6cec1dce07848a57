"""Small things that code written for Lightning relies on."""

import functools
import inspect
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torchmetrics
from models import OrderByEpoch, Small, dataset, loader, trainer
from torch.optim.lr_scheduler import OneCycleLR, StepLR
from torch.utils.data import DataLoader

import nightbus as nb
from nightbus.actors.checkpoints.lightning_format import to_lightning
from nightbus.actors.optimization.lightning_optimizer import LightningOptimizer
from nightbus.bus.system import logging_setup
from nightbus.bus.system.logging_setup import get_logger
from nightbus.compat.utilities import PossibleUserWarning, warn_in_python


def test_an_optimizer_made_by_hand_is_one_of_the_wrapped_class() -> None:
    module = torch.nn.Linear(4, 1)
    inner = torch.optim.SGD(module.parameters(), lr=1.0)
    optimizer: Any = LightningOptimizer(inner)

    scheduler = StepLR(optimizer, step_size=1)
    module(torch.ones(1, 4)).sum().backward()
    before = module.weight.clone()
    optimizer.step()
    scheduler.step()

    assert isinstance(optimizer, torch.optim.SGD)
    assert isinstance(optimizer, LightningOptimizer)
    assert str(optimizer) == f"Lightning{inner}"
    assert inner.param_groups[0]["lr"] == 0.1
    assert not torch.equal(before, module.weight)


def test_weights_that_do_not_fit_are_a_runtime_error(tmp_path: Path) -> None:
    class Other(Small):
        def __init__(self) -> None:
            super().__init__()
            self.more = torch.nn.Linear(1, 1)

    run = trainer(tmp_path, max_steps=1)
    run.fit(Small(), loader(4))
    checkpoint = run.run_folder.path / "checkpoints" / "last"  # type: ignore[union-attr]

    with pytest.raises(RuntimeError, match=r"more\.weight"):
        Other.load_from_checkpoint(checkpoint)


@pytest.mark.parametrize("function", ["validate", "test", "predict"])
def test_samplers_are_told_the_epoch_for_an_evaluation(tmp_path: Path, function: str) -> None:
    run = trainer(tmp_path, max_epochs=2, limit_train_batches=1)
    run.fit(Small(), loader(4))
    sampler = OrderByEpoch()

    getattr(run, function)(Small(), DataLoader(dataset(), 4, sampler=sampler))

    assert sampler.epochs[-1] == 2


def test_a_logger_gets_metrics_and_step_by_name(tmp_path: Path) -> None:
    class Notes:
        def __init__(self) -> None:
            self.calls: list[dict[str, Any]] = []

        def log_metrics(self, **given: Any) -> None:
            self.calls.append(given)

    notes = Notes()
    trainer(tmp_path, logger=notes, max_steps=1, log_every_n_steps=1).fit(Logs(), loader(4))

    assert notes.calls[0]["step"] == 0
    assert notes.calls[0]["metrics"]["x"] == 1.0


class Logs(Small):
    """Logs a metric in each step."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("x", float(batch_idx + 1), reduce_fx="SUM")
        return super().training_step(batch, batch_idx)


def test_logged_metrics_have_the_last_step_whatever_sinks_get(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=1, log_every_n_steps=50)
    run.fit(Logs(), loader(12))
    assert run.logged_metrics["x"] == 3.0


@pytest.mark.parametrize("assigned", [False, True])
def test_loggers_get_no_values_of_steps_with_0_between_them(
    tmp_path: Path, assigned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    class LogsBoth(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("step", 1.0)
            self.log("both", 1.0, on_step=True, on_epoch=True)
            return super().training_step(batch, batch_idx)

    class Notes:
        def __init__(self) -> None:
            self.names: set[str] = set()

        def log_metrics(self, metrics: dict[str, float], step: int) -> None:
            self.names |= metrics.keys()

    notes = Notes()
    run = trainer(tmp_path, logger=notes, max_epochs=2, log_every_n_steps=1 if assigned else 0)
    if assigned:
        run.log_every_n_steps = 0
    run.fit(LogsBoth(), loader(12))

    assert run.log_every_n_steps == 0
    assert notes.names & {"step", "both_step", "both_epoch"} == {"both_epoch"}
    assert {"step", "both_step"} <= run.callback_metrics.keys()
    assert "sinks got no value" not in capsys.readouterr().err


def test_a_datamodule_without_trainer_has_none(tmp_path: Path) -> None:
    class Data(nb.LightningDataModule):
        def train_dataloader(self) -> Any:
            return loader(4)

    data = Data()
    assert data.trainer is None
    run = trainer(tmp_path, max_steps=1)
    run.fit(Small(), data)
    assert data.trainer is run


def test_packages_read_the_devices_off_a_private_name_of_lightnings(tmp_path: Path) -> None:
    run: Any = trainer(tmp_path)

    connector = run._accelerator_connector

    assert connector._parallel_devices == [torch.device("cpu")]
    assert connector.parallel_devices == [torch.device("cpu")]
    assert not connector.is_distributed
    assert connector.strategy is run.strategy
    assert connector.accelerator == run.accelerator
    assert connector.use_distributed_sampler


def test_a_name_like_that_of_one_of_several_dataloaders_is_refused(tmp_path: Path) -> None:
    class Misnames(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("x/dataloader_idx_0", 1.0)

    with pytest.raises(nb.UsageError, match="give the metric another name"):
        trainer(tmp_path, max_steps=1).fit(Misnames(), loader(4))


def test_loaders_that_are_read_together_are_counted_one_by_one(tmp_path: Path) -> None:
    class Together(Small):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            assert sorted(batch) == ["a", "b"]

    run = trainer(tmp_path)
    run.validate(Together(), nb.CombinedLoader({"a": loader(12), "b": loader(8)}, "min_size"))

    assert run.num_val_batches == [3, 2]
    assert run.num_sanity_val_batches == []
    assert run.validate_loop.batch_progress.total.completed == 2


def test_early_stopping_asks_for_nothing_in_a_fast_dev_run(tmp_path: Path) -> None:
    run = trainer(tmp_path, fast_dev_run=True, callbacks=[nb.EarlyStopping("missing")])
    run.fit(Small(), loader(4), loader(4))
    assert run.global_step == 1


def test_clipping_in_another_way_than_the_trainer_is_refused(tmp_path: Path) -> None:
    class Clips(Small):
        def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
            self.clip_gradients(optimizer, gradient_clip_algorithm="value")

    options: dict[str, Any] = {"gradient_clip_val": 1.0, "gradient_clip_algorithm": "norm"}
    with pytest.raises(nb.UsageError, match="gradient_clip_algorithm='norm'"):
        trainer(tmp_path, max_steps=1, **options).fit(Clips(), loader(4))


def test_a_way_of_clipping_that_was_not_given_is_None_and_may_be_chosen(tmp_path: Path) -> None:
    given: list[Any] = []

    class Clips(Small):
        def configure_gradient_clipping(  # type: ignore[override]
            self, optimizer: Any, gradient_clip_val: Any, gradient_clip_algorithm: Any
        ) -> None:
            given.append(gradient_clip_algorithm)
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm or "value")
            greatest = max(float(p.grad.abs().max()) for p in self.parameters())  # type: ignore[union-attr]
            assert greatest == pytest.approx(1e-3)

    run = trainer(tmp_path, max_steps=1, gradient_clip_val=1e-3)
    run.fit(Clips(), loader(4))

    assert given == [None]
    assert run.gradient_clip_algorithm is None


def test_clipping_may_be_passed_on_by_place(tmp_path: Path) -> None:
    class Clips(Small):
        def configure_gradient_clipping(  # type: ignore[override]
            self, optimizer: Any, gradient_clip_val: Any, gradient_clip_algorithm: Any
        ) -> None:
            super().configure_gradient_clipping(optimizer, 2, gradient_clip_algorithm)

    with pytest.raises(nb.UsageError, match="gradient_clip_val=2"):
        trainer(tmp_path, max_steps=1, gradient_clip_val=1).fit(Clips(), loader(4))


@pytest.mark.parametrize("hook", ["on_train_epoch_end", "on_validation_epoch_end"])
def test_what_a_hook_logs_for_an_epoch_is_read_in_it(tmp_path: Path, hook: str) -> None:
    seen: list[tuple[float, float]] = []

    class Scores(nb.Callback):
        def score(self, trainer: Any, module: Any) -> None:
            module.log("score", 1.0 + trainer.current_epoch)
            seen.append(
                (float(trainer.callback_metrics["score"]), float(trainer.logged_metrics["score"]))
            )

    setattr(Scores, hook, Scores.score)
    options = {"max_epochs": 2, "num_sanity_val_steps": 0}
    trainer(tmp_path, callbacks=[Scores()], **options).fit(Small(), loader(4), loader(4))

    assert seen == [(1.0, 1.0), (2.0, 2.0)]


def test_a_metric_of_torchmetrics_that_a_hook_logs_is_read_in_it(tmp_path: Path) -> None:
    torchmetrics = pytest.importorskip("torchmetrics")
    seen: list[float] = []

    class Means(Small):
        def __init__(self) -> None:
            super().__init__()
            self.mean = torchmetrics.MeanMetric()

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.mean.update(float(batch_idx))

        def on_validation_epoch_end(self) -> None:
            self.log("mean", self.mean)
            seen.append(float(self.trainer.callback_metrics["mean"]))

    run = trainer(tmp_path, max_epochs=2, num_sanity_val_steps=0)
    run.fit(Means(), loader(4), loader(12))

    assert seen == [1.0, 1.0]
    assert run.callback_metrics["mean"] == 1.0


@pytest.mark.parametrize("overrides_step", [False, True])
def test_optimizers_that_are_assigned_within_fit_train(
    tmp_path: Path, overrides_step: bool
) -> None:
    class Steps(Small):
        def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
            super().optimizer_step(*args, **kwargs)

    class Replaces(nb.Callback):
        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
            if trainer.current_epoch == 1:
                module.net[0].requires_grad_(False)
                trainer.optimizers = [torch.optim.SGD(module.net[2].parameters(), lr=0.0)]

    class Notes(nb.Callback):
        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            noted.append([p.detach().clone() for p in module.parameters()])

    noted: list[list[torch.Tensor]] = []
    module = Steps() if overrides_step else Small()
    run = trainer(tmp_path, max_epochs=3, callbacks=[Replaces(), Notes()])
    run.fit(module, loader(12))

    assert all(map(torch.equal, noted[0], noted[2]))
    assert run.global_step == 9
    assert module.optimizers().param_groups[0]["lr"] == 0.0


@pytest.mark.parametrize(
    ("optimizers", "message"),
    [([3], "a list with a int"), ([], "set to 0 optimizers, where there are 1")],
)
def test_what_cannot_be_stepped_is_refused_as_optimizers(
    tmp_path: Path, optimizers: list[Any], message: str
) -> None:
    class Replaces(nb.Callback):
        def on_train_start(self, trainer: Any, module: Any) -> None:
            trainer.optimizers = optimizers

    with pytest.raises(nb.UsageError, match=message):
        trainer(tmp_path, max_steps=1, callbacks=[Replaces()]).fit(Small(), loader(4))


def test_arguments_of_the_trainer_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PL_TRAINER_MAX_STEPS", "7")
    monkeypatch.setenv("PL_TRAINER_ACCELERATOR", "cpu")

    assert nb.Trainer().max_steps == 7
    assert nb.Trainer(max_steps=3).max_steps == 3


def test_setup_gives_its_stage_by_name_to_one_that_takes_any_arguments(tmp_path: Path) -> None:
    class Notes(Small):
        given: Any

        def setup(self, *args: Any, **kwargs: Any) -> None:
            self.given = args, kwargs

    module = Notes()
    trainer(tmp_path).validate(module, loader(4))
    assert module.given == ((), {"stage": "validate"})


def test_a_decorator_gets_the_stage_by_name(tmp_path: Path) -> None:
    seen: list[Any] = []

    def noting(method: Any) -> Any:
        @functools.wraps(method)
        def note(*args: Any, **kwargs: Any) -> Any:
            seen.append((method.__name__, {name: str(value) for name, value in kwargs.items()}))
            return method(*args, **kwargs)

        return note

    class Data(nb.LightningDataModule):
        @noting
        def setup(self, stage: str) -> None:
            self.data = dataset(4)

        def train_dataloader(self) -> Any:
            return DataLoader(self.data, 4)

        def teardown(self) -> None:  # type: ignore[override]
            seen.append("teardown")

    class Notes(nb.Callback):
        @noting
        def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
            pass

    trainer(tmp_path, max_steps=1, callbacks=[Notes()]).fit(Small(), datamodule=Data())

    assert sorted(map(str, seen)) == sorted(
        map(str, [("setup", {"stage": "fit"}), "teardown", ("teardown", {"stage": "fit"})])
    )


def test_a_loop_says_how_to_resume_if_it_is_given_a_state_of_lightnings() -> None:
    with pytest.raises(nb.UsageError, match="ckpt_path="):
        nb.FitLoop().load_state_dict({"state_dict": {}, "epoch_progress": {}})


def test_warnings_can_be_those_of_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging_setup._Context, "warn", warn_in_python)

    with pytest.warns(PossibleUserWarning, match="something happened why=unknown") as found:
        get_logger("nightbus.test").warning("something happened", why="unknown")
    with warnings.catch_warnings():
        warnings.simplefilter("error", PossibleUserWarning)
        with pytest.raises(PossibleUserWarning):
            get_logger("nightbus.test").warning("again")

    assert found[0].filename == __file__


def test_unknown_keys_of_optimizers_and_schedulers_are_reported_and_ignored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class More(Small):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            scheduler = {"scheduler": StepLR(optimizer, 1), "colour": "red"}
            return {"optimizer": optimizer, "lr_scheduler": scheduler, "flavour": "sweet"}

    run = trainer(tmp_path, max_steps=1)
    run.fit(More(), loader(4))

    said = capsys.readouterr().err
    assert "the keys colour, which are ignored" in said
    assert "the keys flavour, which are ignored" in said
    assert run.global_step == 1


def test_a_whole_float_above_one_is_a_number_of_batches(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=1, limit_train_batches=3.0)
    run.fit(Small(), loader(24))
    assert run.global_step == 3


def test_several_loaders_are_overfit_in_a_fixed_order(tmp_path: Path) -> None:
    class Notes(Small):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[Any] = []

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.seen += [batch["a"][0], batch["b"][0]]
            return super().training_step(batch["a"], batch_idx)

    module = Notes()
    shuffled = {"a": loader(24, shuffle=True), "b": loader(24, shuffle=True)}
    trainer(tmp_path, max_epochs=2, overfit_batches=1).fit(module, shuffled)

    first = dataset().tensors[0][:4]
    assert len(module.seen) == 4
    assert all(torch.equal(x, first) for x in module.seen)


def test_the_trainer_knows_after_a_run_that_it_validated(tmp_path: Path) -> None:
    class Notes(Small):
        def val_dataloader(self) -> Any:
            asked.append(self.trainer.sanity_checking)
            return loader(4)

    asked: list[bool] = []
    run = trainer(tmp_path, fast_dev_run=1)
    assert run.fast_dev_run is True
    run.fit(Notes(), loader(4))
    assert run.enable_validation

    trainer(tmp_path, max_steps=1).fit(Notes(), loader(4))
    assert asked == [False, True]


def test_a_module_of_torch_is_a_type_error(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"expected a nightbus\.LightningModule"):
        trainer(tmp_path).fit(torch.nn.Linear(1, 1), loader(4))  # type: ignore[arg-type]


def test_the_best_checkpoint_where_none_was_saved_is_a_value_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ckpt_path='best'"):
        trainer(tmp_path, enable_checkpointing=False).validate(Small(), loader(4), ckpt_path="best")


def test_no_limit_of_epochs_is_minus_one(tmp_path: Path) -> None:
    assert trainer(tmp_path, max_epochs=-1).max_epochs == -1
    assert nb.Trainer(max_steps=1).max_epochs == -1


def test_unknown_arguments_and_a_missing_module_are_type_errors(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'flavour'"):
        nb.Trainer(flavour="sweet")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="no module was given"):
        trainer(tmp_path).validate()
    with pytest.raises(TypeError, match="expected a number"):
        nb.Trainer(gradient_clip_val=(1, 2))  # type: ignore[arg-type]


def test_all_batches_of_the_sanity_check_are_infinitely_many(tmp_path: Path) -> None:
    run = trainer(tmp_path, num_sanity_val_steps=-1)
    assert run.num_sanity_val_steps == float("inf")
    run.num_sanity_val_steps = 3
    assert run.num_sanity_val_steps == 3


def test_a_scheduler_of_steps_that_is_advanced_by_epochs_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Cycles(Small):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            return [optimizer], [OneCycleLR(optimizer, 1.0, total_steps=10)]

    trainer(tmp_path, max_steps=1).fit(Cycles(), loader(4))
    assert "OneCycleLR counts steps" in capsys.readouterr().err


def test_a_logger_that_gets_few_steps_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trainer(tmp_path, max_epochs=1, logger=nb.CSVLogger(tmp_path), log_every_n_steps=5)
    run.fit(Small(), loader(8))
    assert "an epoch has 2 batches, fewer than log_every_n_steps=5" in capsys.readouterr().err


def test_setup_and_teardown_get_a_member_that_equals_the_functions_name(tmp_path: Path) -> None:
    class Notes(Small):
        def setup(self, stage: Any) -> None:
            stages.append((stage.value, stage == "validate", str(stage)))

        teardown = setup

    stages: list[Any] = []
    trainer(tmp_path).validate(Notes(), loader(4))
    assert stages == [("validate", True, "validate")] * 2


def test_a_step_that_logs_can_be_called_without_a_trainer(
    capsys: pytest.CaptureFixture[str],
) -> None:
    loss = Logs().training_step(next(iter(loader(4))), 0)
    assert loss.ndim == 0
    assert "Logs.log('x') records nothing" in capsys.readouterr().err


def test_hooks_of_every_callback_take_the_module_as_pl_module() -> None:
    kinds: list[type[Any]] = [nb.Callback, *_kinds_below(nb.Callback)]

    other = [
        f"{kind.__name__}.{name}"
        for kind in kinds
        if kind.__module__.startswith("nightbus.")
        for name, method in vars(kind).items()
        if inspect.isfunction(method) and name in HOOKS
        if [*inspect.signature(method).parameters][2:3] not in (["pl_module"], [])
    ]

    assert nb.ModelCheckpoint in kinds
    assert other == []


HOOKS = {name for name in vars(nb.Callback) if name.startswith("on_")} | {"setup", "teardown"}


def _kinds_below(kind: type[Any]) -> list[type[Any]]:
    own: list[type[Any]] = kind.__subclasses__()
    return [each for sub in own for each in (sub, *_kinds_below(sub))]


def test_a_checkpoint_and_its_hooks_have_the_epoch_that_lightning_gives_it(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    class Notes(Small):
        def on_save_checkpoint(self, checkpoint: Any) -> None:
            seen.append((checkpoint["epoch"], self.trainer.current_epoch))

        def on_load_checkpoint(self, checkpoint: Any) -> None:
            seen.append((checkpoint["epoch"], -1))

    saving = nb.ModelCheckpoint(tmp_path / "kept", save_weights_only=True)
    run = trainer(tmp_path, max_epochs=2, callbacks=[saving])
    run.fit(Notes(), loader(4))
    run.save_checkpoint(tmp_path / "after")
    paths: list[Any] = [saving.best_model_path, tmp_path / "after"]
    for path in paths:
        Notes.load_from_checkpoint(path)

    at_ends_of_epochs = [(0, 0), (0, 0), (1, 1), (1, 1)]  # of the callback, and of the run itself
    assert seen == [*at_ends_of_epochs, (2, 2), (1, -1), (2, -1)]
    assert [to_lightning(nb.load_checkpoint(path)).content["epoch"] for path in paths] == [1, 2]
    assert [nb.load_checkpoint(path)["epoch"] for path in paths] == [2, 2]  # completed ones


@pytest.mark.parametrize("is_given", [True, False])
def test_the_training_loader_can_be_made_while_optimizers_are_configured(
    tmp_path: Path, is_given: bool
) -> None:
    numbers: list[int] = []

    class Asks(Small):
        def train_dataloader(self) -> Any:
            return loader(12)

        def configure_optimizers(self) -> Any:
            self.trainer.fit_loop.setup_data()
            numbers.append(len(self.trainer.train_dataloader))
            return super().configure_optimizers()

    run = trainer(tmp_path, max_epochs=1)
    run.fit(Asks(), loader(8) if is_given else None)

    assert numbers == [2 if is_given else 3]
    assert run.global_step == numbers[0]


def test_the_strategy_has_what_is_trained(tmp_path: Path) -> None:
    class Looks(nb.Callback):
        def on_train_start(self, trainer: Any, module: Any) -> None:
            strategy = trainer.strategy
            assert strategy.model is strategy.lightning_module is module
            assert strategy.optimizers is trainer.optimizers
            assert strategy.lr_scheduler_configs == trainer.lr_scheduler_configs
            assert strategy.batch_to_device([torch.ones(1)])[0].device == strategy.root_device
            assert strategy.precision_plugin is trainer.precision_plugin
            assert trainer.precision_plugin.scaler is None

    run = trainer(tmp_path, max_steps=1, callbacks=[Looks()])
    run.fit(Small(), loader(4))

    assert run.global_step == 1


def test_the_steps_of_loggers_can_be_read_and_not_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counted: list[int] = []

    class Counts(nb.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            counted.append(trainer.fit_loop.epoch_loop._batches_that_stepped)

    run: Any = trainer(tmp_path, max_epochs=1, accumulate_grad_batches=2, callbacks=[Counts()])
    run.fit_loop.epoch_loop._batches_that_stepped = 7
    run.fit(Small(), loader(12))

    assert counted == [0, 1, 2]
    assert "_batches_that_stepped = 7 has no effect" in capsys.readouterr().err


@pytest.mark.parametrize("is_given", [True, False])
def test_the_source_of_training_data_is_known(tmp_path: Path, is_given: bool) -> None:
    class Asks(Small):
        def train_dataloader(self) -> Any:
            return loader(12)

        def configure_optimizers(self) -> Any:
            source = self.trainer.fit_loop._data_source
            assert source.instance is (given or self)
            assert len(source.dataloader()) == (2 if is_given else 3)
            return super().configure_optimizers()

    given = loader(8) if is_given else None
    run = trainer(tmp_path, max_steps=1)
    run.fit(Asks(), given)

    assert run.global_step == 1


def test_which_data_there_are_is_known_before_they_are_read(tmp_path: Path) -> None:
    class Data(nb.LightningDataModule):
        def train_dataloader(self) -> Any:
            return loader(8)

        def test_dataloader(self) -> Any:
            return loader(8)

    class Asks(nb.Callback):
        def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
            loops = (
                *(trainer.fit_loop, trainer.fit_loop.epoch_loop.val_loop, trainer.validate_loop),
                *(trainer.test_loop, trainer.predict_loop),
            )
            found.extend(loop._data_source.is_defined() for loop in loops)

    found: list[bool] = []
    run = trainer(tmp_path, max_epochs=1, callbacks=[Asks()])
    run.fit(Small(), datamodule=Data())
    assert found == [True, False, False, True, False]

    found.clear()
    run.fit_loop.max_epochs = 2
    run.fit(Small(), loader(8), loader(8))
    assert found == [True, True, True, False, False]


def test_a_module_that_was_not_trained_is_saved_once_it_is_connected(tmp_path: Path) -> None:
    run, module = trainer(tmp_path), Small()
    run.strategy.connect(module)

    run.save_checkpoint(tmp_path / "saved")

    assert run.lightning_module is module
    assert nb.load_checkpoint(tmp_path / "saved")["global_step"] == 0


def test_device_and_dtype_are_read_by_their_private_names_and_may_be_used_otherwise(
    tmp_path: Path,
) -> None:
    class Reads(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            assert self._device == torch.device("cpu")
            assert self._dtype == torch.float64
            return super().training_step(batch, batch_idx)

    class Sets(Small):
        def __init__(self) -> None:
            super().__init__()
            self._dtype: Any = "float16"
            self._device: Any = torch.nn.Linear(1, 1)

    trainer(tmp_path, max_steps=1, precision="64-true").fit(Reads(), loader(4))

    assert Sets()._dtype == "float16"
    assert isinstance(Sets()._device, torch.nn.Linear)


def test_a_datamodule_whose_hooks_are_called_by_hand_logs_nothing_and_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Data(nb.LightningDataModule):
        def setup(self, stage: str) -> None:
            self.log("size", 3.0)
            self.log_dict({"parts": 2.0})
            self.log_dict(torchmetrics.MetricCollection([torchmetrics.MeanMetric()]))

    Data().setup("fit")

    said = capsys.readouterr().err
    for name in ("size", "parts", "MeanMetric"):
        assert f"Data.log('{name}') records nothing" in said
