"""A hook may give its module to another trainer: that one gives it back as it was."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import torchmetrics
from models import Small, events, loader, trainer

import nightbus as nb


class Measured(Small):
    """Gathers a metric over the epoch, logs in each step, and can be tested and predicted with."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torchmetrics.MeanMetric()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.mean(float(batch_idx))
        self.log("mean", self.mean, on_step=False, on_epoch=True)
        return super().training_step(batch, batch_idx)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.mean(100.0)
        self.log("mean", self.mean)
        self.log("t", 1.0)

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return self.net(batch[0])


class Within(nb.Callback):
    """Runs another trainer with the same module in one hook, each time."""

    def __init__(self, hook: str, function: str, folder: Path, **arguments: Any) -> None:
        self.inner: list[nb.Trainer] = []
        self.function, self.folder, self.arguments = function, folder, arguments
        setattr(self, hook, self._run)

    def _run(self, outer: Any, module: Any, *_: Any) -> None:
        inner = trainer(self.folder, **{"max_epochs": 1, **self.arguments})
        before = module._trainer
        if self.function == "fit":
            inner.fit(module, loader(8))
        else:
            getattr(inner, self.function)(module, loader(8))
        self.inner.append(inner)
        assert module._trainer is before


HOOKS = ["on_fit_start", "on_train_batch_start", "on_after_backward", "on_train_batch_end"]
HOOKS += ["on_validation_batch_end", "on_validation_end", "on_train_epoch_end", "on_fit_end"]


def made() -> Measured:
    torch.manual_seed(3)
    return Measured()


def weights_after(folder: Path, *callbacks: nb.Callback) -> tuple[nb.Trainer, Measured]:
    module, run = made(), trainer(folder, max_epochs=2, callbacks=list(callbacks))
    run.fit(module, loader(), loader(8))
    return run, module


@pytest.mark.parametrize("function", ["test", "predict", "validate"])
@pytest.mark.parametrize("hook", HOOKS)
def test_a_run_goes_on_as_if_another_trainer_had_not_had_its_module(
    tmp_path: Path, hook: str, function: str
) -> None:
    alone, expected = weights_after(tmp_path / "alone")
    within = Within(hook, function, tmp_path / "inner")
    run, module = weights_after(tmp_path / "outer", within)

    assert within.inner
    assert run.global_step == alone.global_step
    for mine, other in zip(module.parameters(), expected.parameters(), strict=True):
        assert torch.equal(mine, other)
    assert run.callback_metrics["mean"] == alone.callback_metrics["mean"]
    named = [(put.name, put.value, put.step) for put in events(run, nb.Put)]
    assert named == [(put.name, put.value, put.step) for put in events(alone, nb.Put)]


@pytest.mark.parametrize("hook", HOOKS)
def test_a_run_goes_on_after_its_module_was_trained_by_another_trainer(
    tmp_path: Path, hook: str
) -> None:
    within = Within(hook, "fit", tmp_path / "inner")
    run, module = weights_after(tmp_path / "outer", within)

    assert run.global_step == 12
    assert all(inner.global_step == 2 for inner in within.inner)
    assert [put.step for put in events(run, nb.Put) if put.name == "train_loss"]
    assert module.training


def test_a_datamodule_a_callback_and_an_actor_that_another_trainer_had_are_given_back(
    tmp_path: Path,
) -> None:
    class Data(nb.LightningDataModule):
        def train_dataloader(self) -> Any:
            return loader()

        def test_dataloader(self) -> Any:
            return loader(8)

    class Shared(nb.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            self.log("shared", 1.0)

    class Speaks(nb.Actor):
        @nb.on("on_train_batch_end")
        def speak(self, hook: Any) -> None:
            self.put("spoken", 1.0)

    shared, speaks, data = Shared(), Speaks(), Data()

    class Tests(nb.Callback):
        def on_train_batch_start(self, outer: Any, module: Any, *_: Any) -> None:
            inner = trainer(tmp_path / "inner", callbacks=[shared], actors=[speaks])
            inner.test(module, datamodule=data)
            assert data.trainer is outer

    run = trainer(tmp_path / "outer", callbacks=[Tests(), shared], actors=[speaks])
    run.fit(made(), datamodule=data)

    named = [put.name for put in events(run, nb.Put)]
    assert named.count("shared") == named.count("spoken") == 6


def test_a_run_within_that_fails_gives_its_module_back(tmp_path: Path) -> None:
    class Fails(nb.Callback):
        def on_test_start(self, trainer: Any, module: Any) -> None:
            raise ZeroDivisionError

    class Tries(nb.Callback):
        def on_train_batch_end(self, outer: Any, module: Any, *_: Any) -> None:
            with pytest.raises(ZeroDivisionError):
                trainer(tmp_path / "inner", callbacks=[Fails()]).test(module, loader(8))
            assert module.trainer is outer

    run = trainer(tmp_path / "outer", callbacks=[Tries()])
    run.fit(made(), loader())

    assert run.global_step == 6


def test_ctrl_c_in_a_run_within_ends_the_one_around_it_too(tmp_path: Path) -> None:
    class Interrupts(nb.Callback):
        def on_test_batch_end(self, *_: Any) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    class Tests(nb.Callback):
        def on_train_batch_end(self, outer: Any, module: Any, *_: Any) -> None:
            trainer(tmp_path / "inner", callbacks=[Interrupts()]).test(module, loader(8))

    run = trainer(tmp_path / "outer", callbacks=[Tests()])
    run.fit(made(), loader())

    assert run.interrupted
    assert run.global_step == 1


def test_messages_after_a_run_within_name_the_run_around_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Tests(nb.Callback):
        def on_train_batch_end(self, outer: Any, module: Any, *values: Any) -> None:
            if values[-1] == 0:
                trainer(tmp_path / "inner").test(made(), loader(8))
                from nightbus.bus.system.logging_setup import get_logger

                get_logger("mine").warning("after the inner run")

    run = trainer(tmp_path / "outer", callbacks=[Tests()])
    run.fit(made(), loader())

    assert run.run_folder is not None
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "after the inner run" in x]
    assert run.run_folder.info.id in line
