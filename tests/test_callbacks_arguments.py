"""What further arguments of callbacks do, those that fewer people use."""

from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, loader, trainer, weights
from torch import Tensor

import nightbus as nb
from nightbus.bus.errors import UsageError


class Fails(Small):
    def on_train_epoch_end(self) -> None:
        if self.trainer.current_epoch == 1:
            raise ArithmeticError


def test_a_model_checkpoint_may_save_a_run_that_fails(tmp_path: Path) -> None:
    saving = nb.ModelCheckpoint(tmp_path / "kept", every_n_epochs=0, save_on_exception=True)
    with pytest.raises(ArithmeticError):
        trainer(tmp_path, max_epochs=2, callbacks=[saving]).fit(Fails(), loader(8))

    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["epoch=1-step=4"]


def test_without_a_version_a_checkpoint_takes_the_place_of_the_one_of_its_name(
    tmp_path: Path,
) -> None:
    def saving() -> nb.ModelCheckpoint:
        return nb.ModelCheckpoint(tmp_path / "kept", "best", enable_version_counter=False)

    module = Small(lr=0.5)
    trainer(tmp_path, callbacks=[saving()]).fit(Small(), loader(8))
    trainer(tmp_path, callbacks=[saving()], max_epochs=3).fit(module, loader(8))

    found = Small.load_from_checkpoint(tmp_path / "kept" / "best")
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["best"]
    assert all(map(torch.equal, weights(found), weights(module)))


def test_a_model_checkpoint_tells_its_best_in_a_file(tmp_path: Path) -> None:
    saving = nb.ModelCheckpoint(tmp_path / "kept", monitor="val_loss")
    run = trainer(tmp_path, callbacks=[saving])
    run.fit(Small(), loader(8), loader(4))

    saving.to_yaml()
    saving.to_yaml(tmp_path / "best.yaml")

    (line,) = (tmp_path / "best.yaml").read_text().splitlines()
    assert line.startswith(f'"{saving.best_model_path}": ')
    assert saving.file_exists(tmp_path / "kept" / "best_k_models.yaml", run)
    assert saving.format_checkpoint_name({"epoch": 1, "step": 2}, prefix="a").endswith(
        "/a-epoch=1-step=2"
    )
    with pytest.raises(UsageError, match="needs filepath="):
        nb.ModelCheckpoint().to_yaml()


def test_where_a_failed_run_is_saved_is_known_before(tmp_path: Path) -> None:
    assert nb.OnExceptionCheckpoint(tmp_path, "failed").ckpt_path == str(tmp_path / "failed")
    assert nb.OnExceptionCheckpoint().ckpt_path == ""


@pytest.mark.parametrize(
    ("value", "options", "reason"),
    [
        (1.0, {}, "NOT_STOPPED"),
        (0.1, {"stopping_threshold": 0.5}, "STOPPING_THRESHOLD"),
        (9.0, {"divergence_threshold": 5.0}, "DIVERGENCE_THRESHOLD"),
        (float("nan"), {}, "NON_FINITE_METRIC"),
        (9.0, {"patience": 1}, "PATIENCE_EXHAUSTED"),
    ],
)
def test_early_stopping_has_a_reason_and_a_message(
    value: float, options: dict[str, Any], reason: str
) -> None:
    callback = nb.EarlyStopping("loss", log_rank_zero_only=True, **options)
    callback.evaluate(2.0)

    said = callback.evaluate(value)

    assert callback.stopping_reason is nb.EarlyStoppingReason[reason]
    assert callback.stopping_reason_message == (said or None)
    assert callback.monitor_op(torch.tensor(1.0), torch.tensor(2.0))


def test_throughput_counts_items_and_operations_too(tmp_path: Path) -> None:
    class Counted(Small):
        flops_per_batch = 100

    monitor = nb.ThroughputMonitor(
        lambda batch: len(batch[0]),
        length_fn=lambda batch: batch[0].numel(),
        available_flops=1e12,
        separator="-",
        world_size=1,
    )
    run = trainer(tmp_path, callbacks=[monitor], log_every_n_steps=2)
    run.fit(Counted(), loader(8))

    found = {k: v for k, v in run.callback_metrics.items() if k.startswith("train-")}
    assert found["train-lengths"] == 32
    assert found["train-samples"] == 8
    rate = found["train-device-batches_per_sec"]
    assert found["train-device-items_per_sec"] == pytest.approx(rate * 16)
    assert found["train-device-flops_per_sec"] == pytest.approx(rate * 100)
    assert found["train-device-mfu"] == pytest.approx(rate * 100 / 1e12)


def test_an_average_may_be_told_tensor_by_tensor(tmp_path: Path) -> None:
    def newest(average: Tensor, weight: Tensor, number: Any) -> Tensor:
        return weight

    class Keeps(nb.WeightAveraging):
        def on_fit_end(self, trainer: nb.Trainer, module: Any) -> None: ...

    callback, module = Keeps(avg_fn=newest), Small()
    trainer(tmp_path, callbacks=[callback]).fit(module, loader(8))

    assert all(map(torch.equal, callback.averaged_weights, module.parameters()))
    with pytest.raises(UsageError, match="give one of them"):
        nb.WeightAveraging(avg_fn=newest, multi_avg_fn=lambda *_: None)


@pytest.mark.parametrize(
    ("options", "steps", "epochs"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6, 7], []),
        ({"update_every_n_steps": 5}, [0, 5], []),
        ({"update_every_n_steps": 2, "update_starting_at_step": 3}, [4, 6], []),
        ({"update_every_n_steps": 9, "update_starting_at_epoch": 2}, [0], [2, 3]),
    ],
)
def test_ema_under_lightnings_name_is_updated_when_lightnings_is(
    options: dict[str, Any], steps: list[int], epochs: list[int]
) -> None:
    callback = nb.EMAWeightAveraging("cpu", False, 0.9, **options)

    assert callback.decay == 0.9
    assert [step for step in range(8) if callback.should_update(step_idx=step)] == steps
    assert [epoch for epoch in range(4) if callback.should_update(epoch_idx=epoch)] == epochs


def test_callbacks_of_a_type_find_their_state_by_a_key_of_their_own(tmp_path: Path) -> None:
    class Counter(nb.Callback):
        def __init__(self, what: str) -> None:
            self.what, self.found = what, ""

        @property
        def state_key(self) -> str:
            return self._generate_state_key(what=self.what)

        def state_dict(self) -> dict[str, Any]:
            return {"what": self.what}

        def load_state_dict(self, state_dict: Any) -> None:
            self.found = state_dict["what"]

    before = [Counter("batches"), Counter("epochs")]
    after = [Counter("epochs"), Counter("batches")]
    trainer(tmp_path, callbacks=before).fit(Small(), loader(4))
    trainer(tmp_path, max_epochs=2, callbacks=after).fit(Small(), loader(4), ckpt_path="last")

    assert [callback.found for callback in after] == ["epochs", "batches"]


def test_callbacks_whose_states_would_overwrite_each_other_are_refused() -> None:
    class Same(nb.Callback):
        @property
        def state_key(self) -> str:
            return "same"

    class Counter(Same):
        def state_dict(self) -> dict[str, Any]:
            return {"count": 1}

    nb.Trainer(callbacks=[Same(), Same()], enable_progress_bar=False)  # without a state
    for kind in (nb.UsageError, RuntimeError):
        with pytest.raises(kind, match="have the same state_key 'same'"):
            nb.Trainer(callbacks=[Counter(), Counter()], enable_progress_bar=False)


def test_a_callbacks_key_is_that_of_lightning_and_its_state_is_found_by_its_address() -> None:
    stopping = nb.EarlyStopping("val_loss", mode="max")
    saving = nb.ModelCheckpoint(monitor="val_loss")

    assert (nb.Timer().state_key, nb.Timer().saved_as) == ("Timer", "timer")
    assert stopping.state_key == "EarlyStopping{'monitor': 'val_loss', 'mode': 'max'}"
    assert stopping.saved_as == "earlystopping"
    assert saving.state_key == (
        "ModelCheckpoint{'monitor': 'val_loss', 'mode': 'min', 'every_n_train_steps': 0, "
        "'every_n_epochs': 1, 'train_time_interval': None}"
    )


def test_what_on_save_checkpoint_returns_is_the_state_that_callback_state_gets(
    tmp_path: Path,
) -> None:
    class Former(nb.Callback):
        def __init__(self) -> None:
            self.found: Any = None

        @property
        def state_key(self) -> Any:
            return type(self)

        def on_save_checkpoint(self, trainer: Any, module: Any, checkpoint: Any) -> Any:
            return {"epochs": trainer.current_epoch}

        def on_load_checkpoint(self, trainer: Any, module: Any, callback_state: Any) -> None:
            self.found = callback_state

    trainer(tmp_path, callbacks=[Former()]).fit(Small(), loader(4))
    resumed = Former()
    trainer(tmp_path, max_epochs=2, callbacks=[resumed]).fit(Small(), loader(4), ckpt_path="last")

    assert resumed.found == {"epochs": 0}  # of the moment: the epoch was not counted yet
