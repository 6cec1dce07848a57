"""What code reads off a Trainer, and assigns to it."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, loader, trainer

import nightbus as nb
from nightbus.actors.accelerators import Accelerator, CPUAccelerator
from nightbus.bus.errors import NoModuleError


def made(**arguments: Any) -> nb.Trainer:
    return nb.Trainer(max_epochs=1, accelerator="cpu", **arguments)


def test_the_strategy_is_a_ddp_strategy_if_one_was_given() -> None:
    options = nb.DDPStrategy(find_unused_parameters=True, timeout=timedelta(minutes=1))
    run = made(strategy=options)

    assert isinstance(run.strategy, nb.DDPStrategy)
    assert run.strategy.find_unused_parameters
    assert run.strategy.timeout == timedelta(minutes=1)
    collectives: Any = run.strategy
    assert collectives.broadcast([1]) == [1]
    assert isinstance(made(strategy="ddp").strategy, nb.DDPStrategy)
    assert not isinstance(made().strategy, nb.DDPStrategy)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, None),
        ({"benchmark": False}, False),
        ({"benchmark": True}, True),
        ({"deterministic": True}, False),
        ({"deterministic": True, "benchmark": True}, True),
    ],
)
def test_deterministic_settles_benchmark_unless_it_is_given(
    arguments: Any, expected: bool | None
) -> None:
    assert made(**arguments).benchmark is expected


@pytest.mark.parametrize("wanted", [True, False])
def test_benchmark_holds_as_soon_as_the_trainer_is_made(
    wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", not wanted)

    made(benchmark=wanted)

    assert torch.backends.cudnn.benchmark is wanted


def test_a_trainer_without_benchmark_leaves_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)

    made()

    assert torch.backends.cudnn.benchmark


def test_default_root_dir_is_text_that_is_joined_either_way(tmp_path: Path) -> None:
    root = made(default_root_dir=tmp_path).default_root_dir

    assert root == str(tmp_path)
    assert os.path.join(root, "logs") == str(tmp_path / "logs")
    assert root / "logs" == tmp_path / "logs"
    assert root + "/logs" == str(tmp_path / "logs")
    assert made().default_root_dir == str(Path.cwd())


def test_the_model_is_none_before_a_run_and_can_be_assigned(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    assert run.model is None
    assert run.lightning_module is None
    with pytest.raises(AttributeError, match="no module was given yet"):
        run.save_checkpoint(tmp_path / "too-early")
    run.model = module = Small()

    assert run.lightning_module is module
    assert run.validate(dataloaders=loader(4), verbose=False)
    with pytest.raises(nb.UsageError, match="LightningModule, not Linear"):
        run.model = torch.nn.Linear(1, 1)


def test_the_model_is_not_replaced_during_a_run(tmp_path: Path) -> None:
    class Replaces(Small):
        def on_train_start(self) -> None:
            self.trainer.model = Small()

    with pytest.raises(nb.UsageError, match=r"trainer\.model was assigned during fit"):
        trainer(tmp_path).fit(Replaces(), loader(4))


def test_that_there_is_no_module_to_save_is_an_error_of_several_kinds(tmp_path: Path) -> None:
    with pytest.raises(NoModuleError) as caught:
        trainer(tmp_path).save_checkpoint(tmp_path / "none")

    assert isinstance(caught.value, nb.UsageError | RuntimeError | AttributeError)


def test_max_time_is_a_timer_among_the_callbacks() -> None:
    (timer,) = _timers(made(max_time="00:00:01:00"))

    assert timer.time_remaining() == 60
    unlimited = nb.Trainer(max_time={"minutes": 1})
    assert unlimited.max_epochs == -1


def test_a_timer_with_a_duration_is_heard_before_max_time() -> None:
    own = nb.Timer({"seconds": 5})
    run = made(max_time="00:00:01:00", callbacks=own)

    assert _timers(run) == [own]


def test_a_fast_dev_run_reads_as_what_it_does() -> None:
    run = nb.Trainer(fast_dev_run=2, val_check_interval=5, check_val_every_n_epoch=3)

    assert (run.val_check_interval, run.check_val_every_n_epoch) == (1.0, 1)
    assert (run.limit_train_batches, run.num_sanity_val_steps, run.max_steps) == (2, 0, 2)


def _timers(run: nb.Trainer) -> list[nb.Timer]:
    return [each for each in run.callbacks if isinstance(each, nb.Timer)]


@pytest.mark.parametrize("given", ["auto", "cpu"])
def test_the_accelerator_is_an_object_that_is_equal_to_its_name(given: str) -> None:
    accelerator: Any = nb.Trainer(max_epochs=1, accelerator=given, devices=1).accelerator
    found = "cpu" if given == "cpu" or not torch.cuda.is_available() else "gpu"

    again: Any = nb.Trainer(max_epochs=1, accelerator=accelerator).accelerator
    assert accelerator == given
    assert accelerator == found
    assert accelerator == again
    assert accelerator != "tpu"
    assert isinstance(accelerator, Accelerator)
    assert isinstance(accelerator, CPUAccelerator) is (found == "cpu")
    assert str(accelerator) == found


def test_a_name_that_the_trainer_lacks_is_answered_with_the_nearest_one_once() -> None:
    with pytest.raises(AttributeError, match="no attribute 'precisions'; did you mean prec"):
        _ = made().precisions  # type: ignore[attr-defined]


def test_a_property_that_cannot_be_read_yet_says_what_it_lacks() -> None:
    class Early(nb.Callback):
        error: AttributeError

        def on_init_start(self, trainer: Any) -> None:
            with pytest.raises(AttributeError) as caught:
                _ = trainer.lightning_module
            self.error = caught.value

    early = Early()
    nb.Trainer(max_epochs=1, callbacks=[early])

    assert "'_module'" in str(early.error)


def test_no_limit_of_epochs_reads_as_it_was_given() -> None:
    run = nb.Trainer(max_epochs=-1, max_steps=3)

    assert (run.max_epochs, run.fit_loop.max_epochs) == (-1, -1)
    assert not run.fit_loop.reached_limit
