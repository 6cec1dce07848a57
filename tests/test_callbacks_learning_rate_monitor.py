"""LearningRateMonitor: which rates are recorded, when, and what they are called."""

from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, events, loader, trainer
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import StepLR

import nightbus as nb
from nightbus.actors.callbacks import LearningRateMonitor


class Module(Small):
    """Has what ``configure`` makes of it as optimizers."""

    def __init__(self, configure: Any) -> None:
        super().__init__()
        self.configure = configure

    def training_step(self, batch: Any, batch_idx: int, optimizer_idx: int = 0) -> Any:
        return self.loss(batch)

    def configure_optimizers(self) -> Any:
        return self.configure(self)


def rates(run: nb.Trainer) -> list[tuple[str, float]]:
    return [
        (put.name, put.value) for put in events(run, nb.Put) if put.source == "learningratemonitor"
    ]


def fit(tmp_path: Path, configure: Any, callback: LearningRateMonitor, **how: Any) -> nb.Trainer:
    run = trainer(tmp_path, callbacks=[callback], **how)
    run.fit(Module(configure), loader(12))  # 3 batches an epoch
    return run


def halved_each(interval: str) -> Any:
    def configure(module: Small) -> Any:
        optimizer = SGD(module.parameters(), lr=0.8)
        scheduler = {"scheduler": StepLR(optimizer, 1, gamma=0.5), "interval": interval}
        return [optimizer], [scheduler]

    return configure


def two(module: Small) -> Any:
    """The parameters of its two layers."""
    first, _, second = module.net.children()
    return [[*first.parameters()], [*second.parameters()]]


def test_the_rate_of_a_step_scheduler_is_recorded_at_each_step(tmp_path: Path) -> None:
    run = fit(tmp_path, halved_each("step"), LearningRateMonitor())

    assert rates(run) == [("lr-SGD", 0.8), ("lr-SGD", 0.4), ("lr-SGD", 0.2)]


def test_the_rate_of_an_epoch_scheduler_is_recorded_when_an_epoch_begins(tmp_path: Path) -> None:
    run = fit(tmp_path, halved_each("epoch"), LearningRateMonitor(), max_epochs=3)

    assert rates(run) == [("lr-SGD", 0.8), ("lr-SGD", 0.4), ("lr-SGD", 0.2)]


@pytest.mark.parametrize(("interval", "expected"), [("step", [0.8] * 3), ("epoch", [0.8])])
def test_the_interval_can_be_chosen(tmp_path: Path, interval: Any, expected: list[float]) -> None:
    callback = LearningRateMonitor(interval)
    run = fit(tmp_path, halved_each("epoch"), callback, log_every_n_steps=1)

    assert [value for _, value in rates(run)] == expected
    assert callback.lrs == {"lr-SGD": expected}


def test_the_callback_keeps_the_rates_that_sinks_get(tmp_path: Path) -> None:
    callback = LearningRateMonitor("step")
    run = fit(tmp_path, halved_each("step"), callback, log_every_n_steps=2)

    assert [value for _, value in rates(run)] == [0.8, 0.4, 0.2]
    assert callback.lrs == {"lr-SGD": [0.4]}


def test_sinks_get_rates_of_steps_every_log_every_n_steps(tmp_path: Path) -> None:
    run = fit(tmp_path, halved_each("step"), LearningRateMonitor(), log_every_n_steps=2)

    destinations = [put.destinations for put in events(run, nb.Put)]
    assert ["loggers" in labels for labels in destinations] == [False, True, False]


def test_parameter_groups_are_numbered(tmp_path: Path) -> None:
    def groups(module: Small) -> Any:
        first, second = two(module)
        return SGD([{"params": first}, {"params": second, "lr": 0.2}], lr=0.1)

    run = fit(tmp_path, groups, LearningRateMonitor())

    assert rates(run) == [("lr-SGD/pg1", 0.1), ("lr-SGD/pg2", 0.2)]


def test_parameter_groups_may_have_names(tmp_path: Path) -> None:
    def groups(module: Small) -> Any:
        first, second = two(module)
        return SGD([{"params": first, "name": "a"}, {"params": second, "name": "b"}], lr=0.1)

    run = fit(tmp_path, groups, LearningRateMonitor())

    assert rates(run) == [("lr-SGD/a", 0.1), ("lr-SGD/b", 0.1)]


def test_parameter_groups_of_one_name_are_refused(tmp_path: Path) -> None:
    def groups(module: Small) -> Any:
        first, second = two(module)
        return SGD([{"params": first, "name": "a"}, {"params": second, "name": "a"}], lr=0.1)

    with pytest.raises(nb.UsageError, match="parameter groups of SGD have the same name: a, a"):
        fit(tmp_path, groups, LearningRateMonitor())


def test_optimizers_of_one_class_are_numbered(tmp_path: Path) -> None:
    def several(module: Small) -> Any:
        first, second = two(module)
        return [SGD(first, lr=0.1), Adam(second, lr=0.2), SGD(second, lr=0.3)]

    run = fit(tmp_path, several, LearningRateMonitor())

    assert rates(run) == [("lr-SGD", 0.1), ("lr-Adam", 0.2), ("lr-SGD-1", 0.3)]


def test_the_schedulers_name_is_the_rates_name(tmp_path: Path) -> None:
    def named(module: Small) -> Any:
        optimizer = SGD(module.parameters(), lr=0.1)
        return [optimizer], [{"scheduler": StepLR(optimizer, 1), "name": "pace"}]

    assert rates(fit(tmp_path, named, LearningRateMonitor())) == [("pace", 0.1)]


def test_one_name_for_two_optimizers_is_refused(tmp_path: Path) -> None:
    def named(module: Small) -> Any:
        optimizers = [SGD(half, lr=0.1) for half in two(module)]
        return optimizers, [{"scheduler": StepLR(o, 1), "name": "pace"} for o in optimizers]

    with pytest.raises(nb.UsageError, match="two optimizers' schedulers have the name 'pace'"):
        fit(tmp_path, named, LearningRateMonitor())


def test_momentum_and_weight_decay_are_recorded_if_asked_for(tmp_path: Path) -> None:
    def several(module: Small) -> Any:
        first, second = two(module)
        return [SGD(first, lr=0.1, momentum=0.9), Adam(second, lr=0.2, weight_decay=0.01)]

    callback = LearningRateMonitor(log_momentum=True, log_weight_decay=True)
    run = fit(tmp_path, several, callback)

    assert dict(rates(run)) == {
        "lr-SGD": 0.1,
        "lr-SGD-momentum": 0.9,
        "lr-SGD-weight_decay": 0.0,
        "lr-Adam": 0.2,
        "lr-Adam-momentum": 0.9,
        "lr-Adam-weight_decay": 0.01,
    }
    assert callback.last_momentum_values == {"lr-SGD-momentum": 0.9, "lr-Adam-momentum": 0.9}


def test_a_rate_that_is_a_tensor_is_recorded(tmp_path: Path) -> None:
    run = fit(
        tmp_path,
        lambda module: Adam(module.parameters(), lr=torch.tensor(0.25), foreach=False),
        LearningRateMonitor(),
    )

    assert rates(run) == [("lr-Adam", 0.25)]


def test_another_interval_is_refused() -> None:
    with pytest.raises(nb.UsageError, match="logging_interval='batch': expected one of None, 's"):
        LearningRateMonitor("batch")  # type: ignore[arg-type]


def test_a_single_parameter_group_is_called_by_its_name(tmp_path: Path) -> None:
    class Named(Small):
        def configure_optimizers(self) -> Any:
            return torch.optim.SGD([{"params": self.parameters(), "name": "linear"}], lr=0.1)

    monitor = nb.LearningRateMonitor()
    trainer(tmp_path, callbacks=[monitor]).fit(Named(), loader())
    assert monitor.lrs == {"lr-SGD/linear": [0.1]}


def test_an_optimizer_without_momentum_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    callback = LearningRateMonitor(log_momentum=True)
    fit(tmp_path, lambda module: torch.optim.ASGD(module.parameters(), lr=0.1), callback)

    assert "have no momentum, which is recorded as 0" in capsys.readouterr().err
    assert callback.last_momentum_values == {"lr-ASGD-momentum": 0.0}


def test_rates_get_the_name_of_the_first_group_when_another_is_added(tmp_path: Path) -> None:
    class Adds(nb.Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 1:
                added = {"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.1}
                trainer.optimizers[0].add_param_group(added)

    def configure(module: Small) -> Any:
        return SGD(module.parameters(), lr=0.8)

    monitor = LearningRateMonitor()
    run = trainer(tmp_path, callbacks=[Adds(), monitor], max_epochs=2)
    run.fit(Module(configure), loader(4))

    assert monitor.lrs == {"lr-SGD/pg1": [0.8, 0.8], "lr-SGD/pg2": [0.1]}
