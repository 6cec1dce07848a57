"""DeviceStatsMonitor, ThroughputMonitor and LambdaCallback."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, events, loader, trainer
from torch import nn

import nightbus as nb
from nightbus.actors.callbacks import (
    DeviceStatsMonitor,
    LambdaCallback,
    ThroughputMonitor,
    throughput_monitor,
)
from nightbus.bus.errors import MissingPackageError, UnknownHookError


def puts_of(run: nb.Trainer, source: str) -> list[Any]:
    return [put for put in events(run, nb.Put) if put.source == source]


# -- DeviceStatsMonitor ----------------------------------------------------------------------


CPU = ["cpu_percent", "cpu_vm_percent", "cpu_swap_percent"]


def test_the_use_of_the_device_is_recorded_in_epochs_shorter_than_log_every_n_steps(
    tmp_path: Path,
) -> None:
    run = trainer(tmp_path, max_epochs=3, log_every_n_steps=5, callbacks=[DeviceStatsMonitor()])
    run.fit(Small(), loader(16), loader(8))
    found = {(put.name, put.step) for put in events(run, nb.Put) if "cpu_percent" in put.name}
    assert found == {
        ("DeviceStatsMonitor.on_train_batch_end/cpu_percent", 4),
        ("DeviceStatsMonitor.on_train_batch_end/cpu_percent", 9),
        ("DeviceStatsMonitor.on_validation_batch_end/cpu_percent", 11),
    }


def test_the_use_of_the_cpu_is_recorded_every_log_every_n_steps(tmp_path: Path) -> None:
    run = trainer(tmp_path, log_every_n_steps=3, callbacks=[DeviceStatsMonitor()])
    run.fit(Small(), loader())  # 6 batches

    found = puts_of(run, "devicestatsmonitor")
    prefix = "DeviceStatsMonitor.on_train_batch_end"
    assert [put.name for put in found] == [f"{prefix}/{name}" for name in CPU] * 2
    assert [put.batch_idx for put in found] == [2] * 3 + [5] * 3
    assert all(0 <= put.value <= 100 for put in found)


def test_each_stage_has_names_of_its_own(tmp_path: Path) -> None:
    run = trainer(
        tmp_path, log_every_n_steps=1, num_sanity_val_steps=0, callbacks=[DeviceStatsMonitor()]
    )
    run.fit(Small(), loader(4), loader(4))

    hooks = {put.name.split("/")[0] for put in puts_of(run, "devicestatsmonitor")}
    assert hooks == {
        "DeviceStatsMonitor.on_train_batch_end",
        "DeviceStatsMonitor.on_validation_batch_end",
    }


def test_the_cpu_can_be_left_out(tmp_path: Path) -> None:
    run = trainer(tmp_path, log_every_n_steps=1, callbacks=[DeviceStatsMonitor(cpu_stats=False)])
    run.fit(Small(), loader())

    assert puts_of(run, "devicestatsmonitor") == []


def test_without_psutil_the_extra_is_named_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    run = trainer(tmp_path, callbacks=[DeviceStatsMonitor()])

    with pytest.raises(MissingPackageError, match=r"needs the package psutil.*nightbus\[device\]"):
        run.fit(Small(), loader())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_memory_of_the_gpu_is_recorded(tmp_path: Path) -> None:
    run = trainer(
        tmp_path, accelerator="gpu", log_every_n_steps=6, callbacks=[DeviceStatsMonitor()]
    )
    run.fit(Small(), loader())

    values = {put.name.split("/")[1]: put.value for put in puts_of(run, "devicestatsmonitor")}
    assert values["allocated_bytes.all.current"] > 0
    assert values["allocated_bytes.all.peak"] >= values["allocated_bytes.all.current"]
    assert "cpu_percent" not in values


def test_another_value_of_cpu_stats_is_refused() -> None:
    with pytest.raises(nb.UsageError, match="cpu_stats='yes': expected one of None, True, False"):
        DeviceStatsMonitor("yes")  # type: ignore[arg-type]


# -- ThroughputMonitor -----------------------------------------------------------------------


class Timed(Small):
    """Takes 2 s for a training batch and 10 s for a validation batch."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.now_s += 2
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.now_s += 10


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Timed:
    module = Timed()
    monkeypatch.setattr(throughput_monitor, "monotonic", lambda: module.now_s)
    return module


def values_of(run: nb.Trainer, name: str) -> list[float]:
    return [put.value for put in puts_of(run, "throughputmonitor") if put.name == name]


def test_rates_are_measured_over_the_window(tmp_path: Path, timed: Timed) -> None:
    run = trainer(tmp_path, log_every_n_steps=2, callbacks=[ThroughputMonitor(window_size=3)])
    run.fit(timed, loader(22))  # 5 batches of 4, then one of 2

    assert values_of(run, "train/device/batches_per_sec") == [0.5, 0.5, 0.5]
    assert values_of(run, "train/device/samples_per_sec") == [2.0, 2.0, 1.5]
    assert values_of(run, "train/batches") == [2, 4, 6]
    assert values_of(run, "train/samples") == [8, 16, 22]
    assert values_of(run, "train/time") == [4, 8, 12]


def test_the_time_of_validation_is_not_trainings(tmp_path: Path, timed: Timed) -> None:
    run = trainer(
        tmp_path,
        max_epochs=2,
        log_every_n_steps=12,
        num_sanity_val_steps=0,
        callbacks=[ThroughputMonitor()],
    )
    run.fit(timed, loader(), loader(8))

    assert values_of(run, "train/time") == [24]
    assert values_of(run, "train/device/batches_per_sec") == [0.5]


def test_validation_is_measured_by_itself(tmp_path: Path, timed: Timed) -> None:
    run = trainer(tmp_path, log_every_n_steps=3, callbacks=[ThroughputMonitor()])
    run.validate(timed, loader(12), verbose=False)

    assert values_of(run, "validate/device/samples_per_sec") == [0.4]


def test_one_batch_has_no_rate(tmp_path: Path, timed: Timed) -> None:
    run = trainer(tmp_path, log_every_n_steps=1, callbacks=[ThroughputMonitor()])
    run.fit(timed, loader(4))

    names = [put.name for put in puts_of(run, "throughputmonitor")]
    assert names == ["train/time", "train/batches", "train/samples"]


def test_the_size_of_a_batch_can_be_told(tmp_path: Path, timed: Timed) -> None:
    callback = ThroughputMonitor(batch_size_fn=lambda batch: 100)
    run = trainer(tmp_path, log_every_n_steps=6, callbacks=[callback])
    run.fit(timed, loader())

    assert values_of(run, "train/samples") == [600]


@pytest.mark.parametrize(
    ("batch", "size"),
    [(torch.zeros(3, 2), 3), ({"a": "x", "b": [torch.zeros(5)]}, 5), (torch.tensor(1.0), 1)],
)
def test_the_size_of_a_batch_is_its_first_tensors(batch: Any, size: int) -> None:
    assert throughput_monitor.first_dimension(batch) == size


def test_a_batch_without_tensors_is_refused() -> None:
    with pytest.raises(nb.UsageError, match="no tensor in a batch of type list"):
        throughput_monitor.first_dimension(["a", "b"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window_size": 1}, "window_size=1: expected an int of at least 2"),
        ({"batch_size_fn": 4}, "batch_size_fn=4: expected a function"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(nb.UsageError, match=message):
        ThroughputMonitor(**arguments)


# -- LambdaCallback --------------------------------------------------------------------------


def test_functions_are_called_as_hooks(tmp_path: Path) -> None:
    calls: list[Any] = []
    callback = LambdaCallback(
        setup=lambda trainer, module, stage: calls.append((type(module), stage)),
        on_train_batch_end=lambda trainer, module, outputs, batch, batch_idx: calls.append(
            batch_idx
        ),
        on_init_end=lambda trainer: calls.append("made"),
        on_train_end=None,
    )
    trainer(tmp_path, callbacks=[callback]).fit(Small(), loader(8))

    assert calls == ["made", (Small, "fit"), 0, 1]


def test_a_function_may_skip_the_rest_of_the_epoch(tmp_path: Path) -> None:
    callback = LambdaCallback(
        on_train_batch_start=lambda trainer, module, batch, idx: -1 if idx == 2 else None
    )
    run = trainer(tmp_path, callbacks=[callback])
    run.fit(Small(), loader())

    assert run.global_step == 2


def test_a_hook_that_there_is_not_is_refused() -> None:
    with pytest.raises(UnknownHookError, match="did you mean on_train_end"):
        LambdaCallback(on_train_ends=print)


def test_something_else_than_a_function_is_refused() -> None:
    with pytest.raises(nb.UsageError, match=r"on_train_end=3\): expected a function"):
        LambdaCallback(on_train_end=3)  # type: ignore[arg-type]


def test_modules_are_no_hooks() -> None:
    with pytest.raises(UnknownHookError):
        LambdaCallback(training_step=nn.Identity())
