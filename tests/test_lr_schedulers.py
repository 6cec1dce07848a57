"""Learning-rate schedulers: every form of configure_optimizers, and when each scheduler moves."""

from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, loader, trainer
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR, OneCycleLR, ReduceLROnPlateau

import nightbus as nb


class Rates(Small):
    """Notes the learning rate of its first optimizer with which each batch is trained."""

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.config = config
        self.rates: list[float] = []
        self.values: list[float] = [3.0, 2.0, 2.0, 2.0, 1.0, 1.0]

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return self.loss(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.values[self.current_epoch])

    def sgd(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)

    def configure_optimizers(self) -> Any:
        optimizer = self.sgd()
        return [optimizer], [{"scheduler": ExponentialLR(optimizer, 0.5), **self.config}]


def rates_of(tmp_path: Path, module: Rates, epochs: int = 3, **arguments: Any) -> list[float]:
    """Learning rates of 2 batches in each epoch."""
    options: dict[str, Any] = {"max_epochs": epochs, "num_sanity_val_steps": 0, **arguments}
    trainer(tmp_path, **options).fit(module, loader(8), loader(4))
    return module.rates


# -- forms of configure_optimizers -----------------------------------------------------------


def one(module: Rates) -> Any:
    return module.sgd()


def a_list(module: Rates) -> Any:
    return [module.sgd()]


def a_dict_without_scheduler(module: Rates) -> Any:
    return {"optimizer": module.sgd()}


def two_lists(module: Rates) -> Any:
    optimizer = module.sgd()
    return [optimizer], [ExponentialLR(optimizer, 0.5)]


def a_dict(module: Rates) -> Any:
    optimizer = module.sgd()
    return {"optimizer": optimizer, "lr_scheduler": ExponentialLR(optimizer, 0.5)}


def a_dict_in_a_dict(module: Rates) -> Any:
    optimizer = module.sgd()
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": ExponentialLR(optimizer, 0.5)}}


def dicts(module: Rates) -> Any:
    return (a_dict(module),)


HALVED = [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
DEFAULT = {
    "interval": "epoch",
    "frequency": 1,
    "monitor": "val_loss",
    "strict": True,
    "name": None,
}


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (one, [1.0] * 6),
        (a_list, [1.0] * 6),
        (a_dict_without_scheduler, [1.0] * 6),
        (two_lists, HALVED),
        (a_dict, HALVED),
        (a_dict_in_a_dict, HALVED),
        (dicts, HALVED),
    ],
)
def test_each_form_of_configure_optimizers(
    tmp_path: Path, form: Any, expected: list[float]
) -> None:
    class Uses(Rates):
        def configure_optimizers(self) -> Any:
            return form(self)

    assert rates_of(tmp_path, Uses()) == expected


def test_no_optimizer_is_no_scheduler(tmp_path: Path) -> None:
    class Without(Small):
        def configure_optimizers(self) -> None:
            return None

    run = trainer(tmp_path)

    run.fit(Without(), loader())

    assert not run.optimizers
    assert not run.lr_scheduler_configs
    assert run.global_step == 0


# -- interval and frequency ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, HALVED),
        (DEFAULT, HALVED),
        ({"interval": "epoch", "frequency": 2}, [1.0, 1.0, 1.0, 1.0, 0.5, 0.5]),
        ({"interval": "step"}, [1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125]),
        ({"interval": "step", "frequency": 3}, [1.0, 1.0, 1.0, 0.5, 0.5, 0.5]),
    ],
)
def test_a_scheduler_moves_when_its_configuration_says(
    tmp_path: Path, config: dict[str, Any], expected: list[float]
) -> None:
    assert rates_of(tmp_path, Rates(**config)) == expected


def test_with_accumulation_a_step_is_an_optimizer_step(tmp_path: Path) -> None:
    module = Rates(interval="step")

    rates = rates_of(tmp_path, module, epochs=2, accumulate_grad_batches=2)

    assert rates == [1.0, 1.0, 0.5, 0.5]


def test_a_batch_without_a_step_moves_no_scheduler(tmp_path: Path) -> None:
    class Skips(Rates):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            return None if batch_idx == 0 else loss

    assert rates_of(tmp_path, Skips(interval="step")) == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]


def test_the_rates_are_those_of_a_scheduler_stepped_by_hand(tmp_path: Path) -> None:
    class Cycle(Rates):
        def configure_optimizers(self) -> Any:
            optimizer = self.sgd()
            total = int(self.trainer.estimated_stepping_batches)
            scheduler = OneCycleLR(optimizer, max_lr=0.5, total_steps=total)
            return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    optimizer = torch.optim.SGD(Small().parameters(), lr=1.0)
    scheduler = OneCycleLR(optimizer, max_lr=0.5, total_steps=6)
    expected = []
    for _ in range(6):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()

    assert rates_of(tmp_path, Cycle()) == expected


def test_schedulers_of_one_optimizer_all_move(tmp_path: Path) -> None:
    class Both(Rates):
        def configure_optimizers(self) -> Any:
            optimizer = self.sgd()
            by_step = {"scheduler": ExponentialLR(optimizer, 0.5), "interval": "step"}
            return [optimizer], [by_step, ExponentialLR(optimizer, 0.1)]

    expected = [1.0, 0.5, 0.025, 0.0125, 0.000625, 0.0003125]
    assert rates_of(tmp_path, Both()) == pytest.approx(expected)


def test_each_of_two_optimizers_has_its_own_scheduler(tmp_path: Path) -> None:
    class Two(Rates):
        def __init__(self) -> None:
            super().__init__()
            self.pairs: list[tuple[float, ...]] = []

        def training_step(self, batch: Any, batch_idx: int, optimizer_idx: int) -> Any:  # type: ignore[override]
            if optimizer_idx == 0:
                self.pairs.append(tuple(o.param_groups[0]["lr"] for o in self.trainer.optimizers))
            return self.loss(batch)

        def configure_optimizers(self) -> Any:
            first, second = self.sgd(), self.sgd()
            return (
                {"optimizer": first, "lr_scheduler": ExponentialLR(first, 0.5)},
                {
                    "optimizer": second,
                    "lr_scheduler": {"scheduler": ExponentialLR(second, 0.5), "interval": "step"},
                },
            )

    module = Two()

    rates_of(tmp_path, module, epochs=2)

    assert module.pairs == [(1.0, 1.0), (1.0, 0.5), (0.5, 0.25), (0.5, 0.125)]


def test_with_frequencies_a_step_scheduler_moves_when_its_optimizer_was_used(
    tmp_path: Path,
) -> None:
    class Alternates(Rates):
        def training_step(self, batch: Any, batch_idx: int, optimizer_idx: int) -> Any:  # type: ignore[override]
            self.turns = [*getattr(self, "turns", []), optimizer_idx]
            return super().training_step(batch, batch_idx)

        def configure_optimizers(self) -> Any:
            first, second = self.sgd(), self.sgd()
            scheduler = {"scheduler": ExponentialLR(first, 0.5), "interval": "step"}
            return [
                {"optimizer": first, "lr_scheduler": scheduler, "frequency": 2},
                {"optimizer": second, "frequency": 1},
            ]

    module = Alternates()

    assert rates_of(tmp_path, module) == [1.0, 0.5, 0.25, 0.25, 0.125, 0.0625]
    assert module.turns == [0, 0, 1, 0, 0, 1]


# -- monitors --------------------------------------------------------------------------------


class Plateau(Rates):
    """Its val_loss falls in the epochs 1 and 4 alone."""

    def configure_optimizers(self) -> Any:
        optimizer = self.sgd()
        scheduler = ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, **self.config}}


ON_PLATEAUS = [1.0, 1.0, 1.0, 0.5, 0.25, 0.25]  # before each epoch's first batch


def test_reduce_on_plateau_is_given_its_monitor_at_the_end_of_each_epoch(tmp_path: Path) -> None:
    rates = rates_of(tmp_path, Plateau(monitor="val_loss"), epochs=6)

    assert rates[::2] == ON_PLATEAUS


def test_the_monitor_may_stand_beside_the_optimizer(tmp_path: Path) -> None:
    class Beside(Plateau):
        def configure_optimizers(self) -> Any:
            found = super().configure_optimizers()
            scheduler = found["lr_scheduler"]["scheduler"]
            return {**found, "lr_scheduler": scheduler, "monitor": "val_loss"}

    assert rates_of(tmp_path, Beside(), epochs=6)[::2] == ON_PLATEAUS


def test_a_run_that_is_stopped_before_its_first_validation_lacks_no_metric(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_steps=1, max_epochs=6, num_sanity_val_steps=0)

    run.fit(Plateau(monitor="val_loss"), loader(8), loader(4))

    assert run.global_step == 1


def test_a_frequency_skips_what_the_monitor_was_in_between(tmp_path: Path) -> None:
    module = Plateau(monitor="val_loss", frequency=2)
    module.values = [9.0, 1.0, 0.5, 2.0, 0.1, 3.0]

    rates = rates_of(tmp_path, module, epochs=6)

    assert rates[::2] == [1.0, 1.0, 1.0, 1.0, 0.5, 0.5]  # it sees 1.0, 2.0 and 3.0


def test_a_monitor_that_is_watched_by_step(tmp_path: Path) -> None:
    class Watches(Plateau):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("rising", float(self.global_step))
            return super().training_step(batch, batch_idx)

    rates = rates_of(tmp_path, Watches(monitor="rising", interval="step"), epochs=2)

    assert rates == [1.0, 1.0, 0.5, 0.25]


class Sees(ReduceLROnPlateau):
    """Notes what it is given."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(optimizer)
        self.seen: list[float] = []

    def step(self, metrics: Any, epoch: Any = None) -> None:  # type: ignore[override]
        self.seen.append(float(metrics))
        super().step(metrics)


class Watched(Rates):
    """Its validation logs after which step it is."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_step", float(self.global_step))

    def configure_optimizers(self) -> Any:
        optimizer = self.sgd()
        self.scheduler = Sees(optimizer)
        config = {"scheduler": self.scheduler, "monitor": "val_step", **self.config}
        return [optimizer], [config]


@pytest.mark.parametrize(
    ("validation", "config", "expected"),
    [
        ({"val_check_interval": 2}, {"interval": "step", "frequency": 2}, [2, 4, 6, 8, 10, 12]),
        ({"val_check_interval": 2}, {"interval": "step", "frequency": 4}, [4, 8, 12]),
        ({}, {"interval": "step", "frequency": 4}, [4, 8, 12]),
        ({}, {"interval": "step", "frequency": 3, "strict": False}, [4, 8, 12]),
        ({"val_check_interval": 2}, {}, [4, 8, 12]),
        ({"check_val_every_n_epoch": 2}, {"strict": False}, [8]),
        ({"check_val_every_n_epoch": 2}, {"frequency": 2}, [8]),
        ({"check_val_every_n_epoch": 2}, {"frequency": 3}, [8]),
        ({"check_val_every_n_epoch": None, "val_check_interval": 8}, {"strict": False}, [8]),
        ({"check_val_every_n_epoch": None, "val_check_interval": 6}, {"strict": False}, [6, 12]),
    ],
)
def test_a_monitor_of_validation_is_given_when_validation_is_over_and_by_epochs_once(
    tmp_path: Path, validation: dict[str, Any], config: dict[str, Any], expected: list[float]
) -> None:
    module = Watched(**config)

    trainer(tmp_path, max_epochs=3, num_sanity_val_steps=0, **validation).fit(
        module, loader(16), loader(4)
    )

    assert module.scheduler.seen == expected


def test_a_monitor_that_is_watched_too_early_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(nb.UsageError, match=r"frequency .*check_val_every_n_epoch"):
        rates_of(tmp_path, Watched(), check_val_every_n_epoch=2)


class Follows:
    """A scheduler of one's own, whose learning rate is what it is given."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    def step(self, value: Any) -> None:
        self.optimizer.param_groups[0]["lr"] = float(value)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def test_reduce_on_plateau_true_gives_any_scheduler_its_monitor(tmp_path: Path) -> None:
    class Custom(Rates):
        def configure_optimizers(self) -> Any:
            optimizer = self.sgd()
            config = {
                "scheduler": Follows(optimizer),
                "reduce_on_plateau": True,
                "monitor": "val_loss",
            }
            return [optimizer], [config]

    assert rates_of(tmp_path, Custom()) == [1.0, 1.0, 3.0, 3.0, 2.0, 2.0]


def test_a_monitor_that_was_not_recorded_is_refused_with_what_was(tmp_path: Path) -> None:
    said = "ReduceLROnPlateau monitors 'val_los', which was not recorded; recorded: .*val_loss"

    with pytest.raises(nb.UsageError, match=said):
        rates_of(tmp_path, Plateau(monitor="val_los"))


def test_a_monitor_that_is_not_strict_is_passed_over_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = rates_of(tmp_path, Plateau(monitor="val_los", strict=False))

    assert rates == [1.0] * 6
    assert "monitors 'val_los'" in capsys.readouterr().err


# -- lr_scheduler_step -----------------------------------------------------------------------


def test_lr_scheduler_step_in_the_older_form(tmp_path: Path) -> None:
    calls: list[Any] = []

    class Older(Plateau):
        def lr_scheduler_step(self, scheduler: Any, optimizer_idx: int, metric: Any) -> None:  # type: ignore[override]
            calls.append((type(scheduler).__name__, optimizer_idx, float(metric)))
            scheduler.step(metric)

    rates = rates_of(tmp_path, Older(monitor="val_loss"), epochs=6)

    assert rates[::2] == ON_PLATEAUS
    assert calls == [("ReduceLROnPlateau", 0, value) for value in (3.0, 2.0, 2.0, 2.0, 1.0, 1.0)]


def test_lr_scheduler_step_in_the_newer_form(tmp_path: Path) -> None:
    metrics: list[Any] = []

    class Newer(Rates):
        def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:  # type: ignore[override]
            metrics.append(metric)
            scheduler.step()
            scheduler.step()

    assert rates_of(tmp_path, Newer()) == [1.0, 1.0, 0.25, 0.25, 0.0625, 0.0625]
    assert metrics == [None] * 3


def test_lr_scheduler_step_may_step_by_epoch_numbers(tmp_path: Path) -> None:
    class ByNumber(Rates):
        def lr_scheduler_step(self, scheduler: Any, *_: Any) -> None:
            scheduler.step_update(self.current_epoch + 1)

        def configure_optimizers(self) -> Any:
            class Updates(Follows):
                def step_update(self, number: int) -> None:
                    self.step(10.0 * number)

            optimizer = self.sgd()
            return [optimizer], [Updates(optimizer)]

    assert rates_of(tmp_path, ByNumber()) == [1.0, 1.0, 10.0, 10.0, 20.0, 20.0]


# -- what the trainer shows and keeps --------------------------------------------------------


def test_the_trainer_shows_each_configuration(tmp_path: Path) -> None:
    module = Rates(interval="step", frequency=2, monitor="val_loss", strict=False, name="half")
    run = trainer(tmp_path)

    run.fit(module, loader(8), loader(4))

    (config,) = run.lr_scheduler_configs
    assert isinstance(config.scheduler, ExponentialLR)
    assert (config.interval, config.frequency, config.monitor) == ("step", 2, "val_loss")
    assert (config.strict, config.name, config.reduce_on_plateau) == (False, "half", False)


def test_a_resumed_run_goes_on_with_its_rates(tmp_path: Path) -> None:
    first = trainer(tmp_path, max_epochs=2)
    first.fit(Rates(), loader(8))
    resumed = Rates()

    trainer(tmp_path, max_epochs=4).fit(resumed, loader(8), ckpt_path=first.checkpointer.last_path)

    assert resumed.rates == [0.25, 0.25, 0.125, 0.125]


# -- what is refused -------------------------------------------------------------------------


def refused(tmp_path: Path, configure: Any, *said: str) -> None:
    class Wrong(Rates):
        def configure_optimizers(self) -> Any:
            return configure(self.sgd())

    with pytest.raises(nb.UsageError) as caught:
        rates_of(tmp_path, Wrong())
    for part in said:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"interval": "batch"}, ["'batch'", "'epoch'", "'step'"]),
        ({"frequency": 0}, ["frequency", "0", "at least 1"]),
        ({"frequency": 1.5}, ["frequency", "1.5", "int"]),
        ({"frequency": True}, ["frequency", "True"]),
    ],
)
def test_a_wrong_scheduler_configuration_is_refused(
    tmp_path: Path, config: dict[str, Any], said: list[str]
) -> None:
    def configure(optimizer: Any) -> Any:
        return [optimizer], [{"scheduler": ExponentialLR(optimizer, 0.5), **config}]

    refused(tmp_path, configure, *said)


def test_a_configuration_without_a_scheduler_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, lambda o: ([o], [{"interval": "step"}]), "scheduler", "interval")


@pytest.mark.parametrize("scheduler", [3, "ExponentialLR", ExponentialLR])
def test_what_is_no_scheduler_is_refused(tmp_path: Path, scheduler: Any) -> None:
    refused(tmp_path, lambda o: ([o], [scheduler]), type(scheduler).__name__, "not a scheduler")


def test_a_plateau_without_a_monitor_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, lambda o: ([o], [ReduceLROnPlateau(o)]), "ReduceLROnPlateau", '"monitor"')


def test_reduce_on_plateau_without_a_monitor_is_refused(tmp_path: Path) -> None:
    def configure(optimizer: Any) -> Any:
        return [optimizer], [{"scheduler": Follows(optimizer), "reduce_on_plateau": True}]

    refused(tmp_path, configure, "Follows", '"monitor"')


def test_the_scheduler_of_an_optimizer_that_was_not_returned_is_refused(tmp_path: Path) -> None:
    def configure(optimizer: Any) -> Any:
        other = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        return [optimizer], [LambdaLR(other, lambda _: 1.0)]

    refused(tmp_path, configure, "LambdaLR", "did not return")


def test_a_frequency_for_some_optimizers_only_is_refused(tmp_path: Path) -> None:
    def configure(optimizer: Any) -> Any:
        return [{"optimizer": optimizer, "frequency": 2}, {"optimizer": optimizer}]

    refused(tmp_path, configure, "'frequency'", "2, None", "none or for all")


@pytest.mark.parametrize("frequency", [0, -1, 0.5, True])
def test_a_frequency_of_an_optimizer_that_is_no_number_of_batches_is_refused(
    tmp_path: Path, frequency: Any
) -> None:
    def configure(optimizer: Any) -> Any:
        return [{"optimizer": optimizer, "frequency": frequency}] * 2

    refused(tmp_path, configure, "frequency", repr(frequency), "at least 1")


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (lambda o: [], "an empty list"),
        (lambda o: 3, "int"),
        (lambda o: [o, 3], "int"),
        (lambda o: {"optimiser": o}, "optimiser"),
        (lambda o: {"optimizer": o, "scheduler": None}, "'lr_scheduler'"),
        (lambda o: {"optimizer": o, "interval": "step"}, "interval"),
        (lambda o: {"optimizer": 3}, "int"),
        (lambda o: ([o], [], []), "list"),
    ],
)
def test_what_is_none_of_the_forms_is_refused(tmp_path: Path, returned: Any, said: str) -> None:
    refused(tmp_path, returned, "configure_optimizers returned", said)
