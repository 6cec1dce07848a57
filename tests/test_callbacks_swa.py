"""StochasticWeightAveraging: the numbers, the rates, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, dataset, events, loader, trainer, weights
from test_checkpoints import last
from torch import Tensor, nn
from torch.optim.lr_scheduler import StepLR
from torch.optim.swa_utils import SWALR, AveragedModel, update_bn
from torch.utils.data import DataLoader

import nightbus as nb
from nightbus.actors.callbacks import StochasticWeightAveraging


class Decays(Small):
    """Has batch normalisation and a schedule, and keeps the rate of each epoch."""

    net: nn.Sequential

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.net = nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.Linear(width, 2))
        self.rates: list[float] = []

    def on_train_epoch_start(self) -> None:
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.2, momentum=0.9)
        return [optimizer], [StepLR(optimizer, 1, gamma=0.9)]


def by_hand(epochs: int, start: int, annealing_epochs: int, strategy: Any) -> Decays:
    """Training with torch's own tools; averages epochs from the number ``start`` on, from 0."""
    module = Decays()
    (optimizer,), (schedule,) = module.configure_optimizers()
    average = None
    for epoch in range(epochs):
        if epoch == start:
            average = AveragedModel(module.net)
            schedule = SWALR(optimizer, 0.05, annealing_epochs, strategy)
        module.rates.append(optimizer.param_groups[0]["lr"])
        for batch in loader():
            optimizer.zero_grad()
            module.loss(batch).backward()
            optimizer.step()
        if average is not None:
            average.update_parameters(module.net)
        schedule.step()
    assert average is not None
    update_bn(loader(), average)
    module.net.load_state_dict(average.module.state_dict())
    return module


def same(first: nn.Module, second: nn.Module) -> bool:
    mine, other = first.state_dict(), second.state_dict()
    return mine.keys() == other.keys() and all(torch.equal(mine[k], other[k]) for k in mine)


@pytest.mark.parametrize(
    ("start", "index", "annealing_epochs", "strategy"),
    [(0.5, 2, 2, "cos"), (4, 3, 10, "linear"), (1, 0, 0, "cos"), (0.0, 0, 1, "linear")],
)
def test_weights_rates_and_statistics_are_those_of_a_loop_by_hand(
    tmp_path: Path, start: Any, index: int, annealing_epochs: int, strategy: Any
) -> None:
    module, expected = Decays(), by_hand(6, index, annealing_epochs, strategy)
    callback = StochasticWeightAveraging(0.05, start, annealing_epochs, strategy)
    trainer(tmp_path, max_epochs=6, callbacks=[callback]).fit(module, loader())

    assert module.rates == expected.rates
    assert callback.n_averaged == 6 - index
    assert same(module, expected)


def test_the_average_is_the_mean_of_the_epochs_weights(tmp_path: Path) -> None:
    class Keeps(Small):
        ends: list[list[Tensor]]

        def on_train_epoch_end(self) -> None:
            self.ends.append(weights(self))

    module = Keeps()
    module.ends = []
    callback = StochasticWeightAveraging(0.05, swa_epoch_start=3)
    trainer(tmp_path, max_epochs=4, callbacks=[callback]).fit(module, loader())

    for mine, third, fourth in zip(weights(module), *module.ends[2:], strict=True):
        torch.testing.assert_close(mine, (third + fourth) / 2)


def test_validation_sees_the_weights_themselves(tmp_path: Path) -> None:
    plain, averaged = Decays(), Decays()
    callback = StochasticWeightAveraging(0.05, swa_epoch_start=2)
    seen: list[float] = []
    for module, callbacks in ((plain, []), (averaged, [callback])):
        run = trainer(tmp_path, max_epochs=2, callbacks=callbacks)
        run.fit(module, loader(), loader(8))
        seen.append(run.callback_metrics["val_loss"].item())

    assert seen[0] == seen[1]


@pytest.mark.parametrize("epochs", [2, 3, 5])
def test_a_resumed_run_is_the_same_run(tmp_path: Path, epochs: int) -> None:
    def averaging() -> list[nb.Callback]:
        return [StochasticWeightAveraging(0.05, swa_epoch_start=3, annealing_epochs=3)]

    straight, begun, resumed = Decays(), Decays(), Decays()
    trainer(tmp_path / "a", max_epochs=6, callbacks=averaging()).fit(straight, loader())
    first = trainer(tmp_path / "b", max_epochs=epochs, callbacks=averaging())
    first.fit(begun, loader())
    second = trainer(tmp_path / "b", max_epochs=6, callbacks=averaging())
    second.fit(resumed, loader(), ckpt_path=last(first))

    assert begun.rates + resumed.rates == straight.rates
    assert same(resumed, straight)


def test_a_run_without_schedulers_is_resumed_too(tmp_path: Path) -> None:
    straight, resumed = Small(), Small()
    for module, folder, limits in ((straight, "a", [5]), (resumed, "b", [3, 5])):
        checkpoint: Path | None = None
        for epochs in limits:
            callback = StochasticWeightAveraging(0.05, swa_epoch_start=2)
            run = trainer(tmp_path / folder, max_epochs=epochs, callbacks=[callback])
            run.fit(module, loader(), ckpt_path=checkpoint)
            checkpoint = last(run)

    assert same(resumed, straight)


@pytest.mark.parametrize(("interval", "is_said"), [("step", True), ("epoch", False)])
def test_replacing_a_schedule_of_steps_by_one_of_epochs_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], interval: str, is_said: bool
) -> None:
    class Scheduled(Small):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            schedule = {"scheduler": StepLR(optimizer, 1), "interval": interval}
            return [optimizer], [schedule]

    callback = StochasticWeightAveraging(0.05, swa_epoch_start=1)
    trainer(tmp_path, max_epochs=1, callbacks=[callback]).fit(Scheduled(), loader())

    assert ("was scheduled each step" in capsys.readouterr().err) is is_said


def test_parameter_groups_have_the_rate_that_is_annealed_to_as_their_initial_one(
    tmp_path: Path,
) -> None:
    class Groups(Small):
        def configure_optimizers(self) -> Any:
            first, *others = self.net.parameters()
            groups = [{"params": [first], "lr": 0.1}, {"params": others, "lr": 0.2}]
            return torch.optim.SGD(groups)

    module = Groups()
    callback = StochasticWeightAveraging([0.03, 0.04], swa_epoch_start=1)
    run = trainer(tmp_path, max_epochs=1, callbacks=[callback])
    run.fit(module, loader())

    assert [group["initial_lr"] for group in run.optimizers[0].param_groups] == [0.03, 0.04]


def test_a_run_that_ends_before_the_first_epoch_is_not_averaged(tmp_path: Path) -> None:
    plain, averaged = Decays(), Decays()
    trainer(tmp_path, max_epochs=2).fit(plain, loader())
    run = trainer(tmp_path, max_epochs=2, callbacks=[StochasticWeightAveraging(0.05, 5)])
    run.fit(averaged, loader())

    assert same(averaged, plain)


def in_dicts() -> DataLoader[Any]:
    """The data in batches that are dicts."""

    def collate(samples: Any) -> dict[str, Tensor]:
        x, y = zip(*samples, strict=True)
        return {"x": torch.stack(x), "y": torch.stack(y)}

    return DataLoader(dataset(), 4, collate_fn=collate)


class DictBatches(Decays):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss((batch["x"], batch["y"]))


class NoForward(Decays):
    forward = nn.Module.forward

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])


class TwoArguments(NoForward):
    def forward(self, x: Tensor, scale: float) -> Tensor:  # type: ignore[override]
        return self.net(x) * scale  # type: ignore[no-any-return]


class StarArguments(Decays):
    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        return super().training_step(*args, **kwargs)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (DictBatches, in_dicts),
        (NoForward, loader),
        (TwoArguments, loader),
        (StarArguments, loader),
    ],
)
def test_statistics_are_measured_whatever_forward_and_batches_look_like(
    tmp_path: Path, kind: Any, data: Any
) -> None:
    module = kind()

    run = trainer(tmp_path, max_epochs=2, callbacks=[StochasticWeightAveraging(0.05, 1, 2)])
    run.fit(module, data())

    assert same(module, by_hand(2, 0, 2, "cos"))
    assert run.global_step == 12


def test_measuring_statistics_records_nothing_and_leaves_random_numbers_as_they_were(
    tmp_path: Path,
) -> None:
    class Logs(Decays):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.put("drawn", float(torch.rand(())))
            return super().training_step(batch, batch_idx)

        def on_train_end(self) -> None:
            self.state_at_end = torch.get_rng_state()

    module = Logs()
    run = trainer(tmp_path, callbacks=[StochasticWeightAveraging(0.05, 1)], log_every_n_steps=1)

    run.fit(module, loader(shuffle=True))

    assert torch.equal(torch.get_rng_state(), module.state_at_end)
    assert len([put for put in events(run, nb.Put) if put.name == "drawn"]) == 6
    assert len([put for put in events(run, nb.Put) if put.name == "train_loss"]) == 6


def test_data_that_can_be_read_once_alone_leave_the_statistics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    module = Decays()
    run = trainer(tmp_path, callbacks=[StochasticWeightAveraging(0.05, 1)])

    run.fit(module, iter(list(loader())))

    assert "cannot be read once more" in capsys.readouterr().err + caplog.text
    assert module.net[1].num_batches_tracked == 6


def test_an_own_batch_norm_input_is_what_forward_is_given(tmp_path: Path) -> None:
    class Averaging(StochasticWeightAveraging):
        def batch_norm_input(self, batch: Any) -> Any:
            return batch["x"]

    module = DictBatches()
    trainer(tmp_path, max_epochs=2, callbacks=[Averaging(0.05, 1, 2)]).fit(module, in_dicts())

    assert same(module, by_hand(2, 0, 2, "cos"))


def test_splits_of_batches_are_refused_before_training(tmp_path: Path) -> None:
    class Splits(Decays):
        truncated_bptt_steps = 2

        def training_step(self, batch: Any, batch_idx: int, hiddens: Any) -> Any:  # type: ignore[override]
            raise AssertionError

    with pytest.raises(nb.UsageError, match="override batch_norm_input"):
        trainer(tmp_path, callbacks=[StochasticWeightAveraging(0.05, 1)]).fit(Splits(), loader())


def test_parts_in_eval_mode_stay_in_it(tmp_path: Path) -> None:
    class Frozen(Decays):
        def on_train_epoch_start(self) -> None:
            super().on_train_epoch_start()
            self.net[1].eval()

    module = Frozen()
    trainer(tmp_path, callbacks=[StochasticWeightAveraging(0.05, 1)]).fit(module, loader())

    assert not module.net[1].training


def test_each_parameter_group_may_have_its_own_rate(tmp_path: Path) -> None:
    class Groups(Small):
        net: nn.Sequential

        def configure_optimizers(self) -> Any:
            first, second = self.net[0].parameters(), self.net[2].parameters()
            return torch.optim.SGD([{"params": [*first]}, {"params": [*second]}], lr=0.1)

    callback = StochasticWeightAveraging([0.05, 0.02], 1, annealing_epochs=0)
    run = trainer(tmp_path, max_epochs=2, callbacks=[callback])
    run.fit(Groups(), loader())

    assert [group["lr"] for group in run.optimizers[0].param_groups] == [0.05, 0.02]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"swa_lrs": 0}, "swa_lrs=0: expected a learning rate above 0"),
        ({"swa_lrs": "0.1"}, "swa_lrs='0.1'"),
        ({"swa_lrs": []}, r"swa_lrs=\[\]"),
        ({"swa_lrs": [0.1, -1]}, "swa_lrs="),
        ({"swa_epoch_start": 0}, "swa_epoch_start=0: expected an epoch's number from 1 on"),
        ({"swa_epoch_start": 1.5}, r"swa_epoch_start=1\.5"),
        ({"annealing_epochs": -1}, "annealing_epochs=-1: expected an int of at least 0"),
        ({"annealing_strategy": "step"}, "annealing_strategy='step': expected one of 'cos'"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(nb.UsageError, match=message):
        StochasticWeightAveraging(**{"swa_lrs": 0.05, **arguments})


def test_a_share_of_epochs_that_have_no_limit_is_refused(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=-1, max_steps=4, callbacks=[StochasticWeightAveraging(0.05)])

    with pytest.raises(nb.UsageError, match=r"swa_epoch_start=0\.8 is a share of max_epochs"):
        run.fit(Small(), loader())


def test_several_optimizers_are_refused(tmp_path: Path) -> None:
    class Two(Small):
        def training_step(self, batch: Any, batch_idx: int, optimizer_idx: int = 0) -> Any:
            return self.loss(batch)

        def configure_optimizers(self) -> Any:
            return [torch.optim.SGD(self.parameters(), lr=0.1) for _ in range(2)]

    run = trainer(tmp_path, callbacks=[StochasticWeightAveraging(0.05)])

    with pytest.raises(nb.UsageError, match=r"one optimizer.*; there are 2"):
        run.fit(Two(), loader())


def test_rates_for_other_groups_than_there_are_are_refused(tmp_path: Path) -> None:
    run = trainer(tmp_path, callbacks=[StochasticWeightAveraging([0.05, 0.02])])

    with pytest.raises(nb.UsageError, match="swa_lrs has 2 rates; the optimizer has 1 parameter"):
        run.fit(Small(), loader())


def test_the_former_argument_adds_none_beside_one_that_was_given(tmp_path: Path) -> None:
    given = nb.StochasticWeightAveraging(swa_lrs=0.1)
    run = trainer(tmp_path, callbacks=[given], stochastic_weight_avg=True)

    assert [c for c in run.callbacks if isinstance(c, nb.StochasticWeightAveraging)] == [given]


def test_weights_are_averaged_at_the_optimizers_own_rates(tmp_path: Path) -> None:
    module = Decays()
    run = trainer(tmp_path, max_epochs=5, stochastic_weight_avg=True)
    run.fit(module, loader())

    assert module.rates[:4] == pytest.approx([0.2, 0.18, 0.162, 0.1458])
    assert module.rates[4] == module.rates[3]  # from the fourth epoch on, 0.8 of five
    assert [each.n_averaged for each in run.callbacks if hasattr(each, "n_averaged")] == [2]
