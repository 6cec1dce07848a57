"""The classification guide's chapter on configure_optimizers: its returns, examples and claims."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from guides.guide_data import Plain, TwoNets
from models import Small, loader, trainer, weights
from torch import Tensor, nn
from torch.optim import LBFGS, SGD, Adam
from torch.optim.lr_scheduler import CosineAnnealingLR as CosineAnnealing
from torch.optim.lr_scheduler import ExponentialLR, ReduceLROnPlateau, StepLR

import nightbus as nb


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


class Gan(TwoNets):
    """Two nets of which each optimizer has one; notes whose turn it is."""

    def __init__(self) -> None:
        super().__init__()
        self.turns: list[int | None] = []
        self.rates: list[tuple[float, ...]] = []

    def training_step(self, batch: Any, batch_idx: int, optimizer_idx: int | None = None) -> Any:
        self.turns.append(optimizer_idx)
        self.rates.append(tuple(o.param_groups[0]["lr"] for o in self.trainer.optimizers))
        return self.loss_of(batch, optimizer_idx or 0)


# -- the six returns -------------------------------------------------------------------------------


def configured(returned: Any) -> type[Gan]:
    """A module whose ``configure_optimizers`` is the given function."""
    return type("LitModel", (Gan,), {"configure_optimizers": returned})


def test_a_single_optimizer(tmp_path: Path) -> None:
    module = configured(lambda self: SGD(self.parameters(), lr=0.1))()
    run = trainer(tmp_path)
    run.fit(module, loader(8))

    assert module.turns == [None, None]
    assert [type(optimizer) for optimizer in run.optimizers] == [SGD]


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_list_or_tuple_of_optimizers(tmp_path: Path, kind: Any) -> None:
    def configure_optimizers(self: Any) -> Any:
        nets = (self.model_gen, self.model_dis)
        return kind([SGD(net.parameters(), lr=0.1) for net in nets])

    module = configured(configure_optimizers)()

    trainer(tmp_path).fit(module, loader(8))

    assert module.turns == [0, 1, 0, 1]


@pytest.mark.parametrize("scheduler_as", ["scheduler", "lr_scheduler_config"])
def test_two_lists_of_optimizers_and_schedulers(tmp_path: Path, scheduler_as: str) -> None:
    def configure_optimizers(self: Any) -> Any:
        nets = (self.model_gen, self.model_dis)
        optimizers = [SGD(net.parameters(), lr=0.1) for net in nets]
        schedulers: list[Any] = [StepLR(o, 1, gamma=0.5) for o in optimizers]
        if scheduler_as == "lr_scheduler_config":
            schedulers = [{"scheduler": scheduler} for scheduler in schedulers]
        return optimizers, schedulers

    module = configured(configure_optimizers)()
    run = trainer(tmp_path, max_epochs=2)
    run.fit(module, loader(4))

    assert module.rates == [(0.1, 0.1)] * 2 + [(0.05, 0.05)] * 2
    assert len(run.lr_scheduler_configs) == 2


@pytest.mark.parametrize("lr_scheduler", ["none", "scheduler", "lr_scheduler_config"])
def test_a_dictionary_with_an_optimizer_and_maybe_a_scheduler(
    tmp_path: Path, lr_scheduler: str
) -> None:
    def configure_optimizers(self: Any) -> Any:
        optimizer = SGD(self.parameters(), lr=0.1)
        scheduler = StepLR(optimizer, 1, gamma=0.5)
        return {
            "none": {"optimizer": optimizer},
            "scheduler": {"optimizer": optimizer, "lr_scheduler": scheduler},
            "lr_scheduler_config": {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"},
            },
        }[lr_scheduler]

    module = configured(configure_optimizers)()

    trainer(tmp_path, max_epochs=2).fit(module, loader(4))

    assert module.rates == [(0.1,), (0.1 if lr_scheduler == "none" else 0.05,)]


@pytest.mark.parametrize("kind", [list, tuple])
def test_several_dictionaries_with_a_frequency_each(tmp_path: Path, kind: Any) -> None:
    def configure_optimizers(self: Any) -> Any:
        nets = (self.model_gen, self.model_dis)
        optimizers = [SGD(net.parameters(), lr=0.1) for net in nets]
        return kind([{"optimizer": o, "frequency": i + 1} for i, o in enumerate(optimizers)])

    module = configured(configure_optimizers)()

    trainer(tmp_path).fit(module, loader())

    assert module.turns == [0, 1, 1, 0, 1, 1]


def test_several_dictionaries_without_a_frequency_take_turns_on_each_batch(tmp_path: Path) -> None:
    def configure_optimizers(self: Any) -> Any:
        nets = (self.model_gen, self.model_dis)
        return [{"optimizer": SGD(net.parameters(), lr=0.1)} for net in nets]

    module = configured(configure_optimizers)()

    trainer(tmp_path).fit(module, loader(8))

    assert module.turns == [0, 1, 0, 1]


def test_none_runs_fit_without_an_optimizer(tmp_path: Path) -> None:
    module = configured(lambda self: None)()
    before = weights(module)
    run = trainer(tmp_path)
    run.fit(module, loader(8))

    assert len(module.turns) == 2
    assert run.global_step == 0
    assert same(weights(module), before)


# -- lr_scheduler_config ---------------------------------------------------------------------------


class Scheduled(Small):
    """Trains with a scheduler that halves the rate, configured by the test."""

    options: dict[str, Any]

    def __init__(self, **options: Any) -> None:
        super().__init__(lr=1.0)
        self.options = options
        self.rates: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("val_loss", 1.0)

    def configure_optimizers(self) -> Any:
        optimizer = SGD(self.parameters(), lr=self.lr)
        return [optimizer], [{"scheduler": StepLR(optimizer, 1, gamma=0.5), **self.options}]


def test_the_default_lr_scheduler_config_written_out_is_the_default(tmp_path: Path) -> None:
    written = {
        # The unit of the scheduler's step size, could also be 'step'.
        # 'epoch' updates the scheduler on epoch end whereas 'step'
        # updates it after a optimizer update.
        "interval": "epoch",
        # How many epochs/steps should pass between calls to
        # `scheduler.step()`. 1 corresponds to updating the learning
        # rate after every epoch/step.
        "frequency": 1,
        # Metric to to monitor for schedulers like `ReduceLROnPlateau`
        "monitor": "val_loss",
        # If set to `True`, will enforce that the value specified 'monitor'
        # is available when the scheduler is updated, thus stopping
        # training if not found. If set to `False`, it will only produce a warning
        "strict": True,
        # If using the `LearningRateMonitor` callback to monitor the
        # learning rate progress, this keyword can be used to specify
        # a custom logged name
        "name": None,
    }
    explicit, default = Scheduled(**written), Scheduled()

    for module in (explicit, default):
        trainer(tmp_path, max_epochs=3).fit(module, loader(8), loader(4))

    assert explicit.rates == default.rates == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]


def test_interval_step_updates_after_each_optimizer_update(tmp_path: Path) -> None:
    module = Scheduled(interval="step")

    trainer(tmp_path, max_epochs=2).fit(module, loader(8))

    assert module.rates == [1.0, 0.5, 0.25, 0.125]


def test_interval_step_counts_optimizer_updates_not_batches(tmp_path: Path) -> None:
    module = Scheduled(interval="step")

    trainer(tmp_path, accumulate_grad_batches=2).fit(module, loader())

    assert module.rates == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize(
    ("interval", "expected"),
    [("step", [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]), ("epoch", [1.0, 1.0, 1.0, 1.0, 0.5, 0.5])],
)
def test_frequency_is_how_many_pass_between_updates(
    tmp_path: Path, interval: str, expected: list[float]
) -> None:
    module = Scheduled(interval=interval, frequency=2)

    trainer(tmp_path, max_epochs=3).fit(module, loader(8))

    assert module.rates == expected


def test_name_is_kept_for_callbacks_that_show_the_rate(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.fit(Scheduled(name="my_rate"), loader(8))

    (config,) = run.lr_scheduler_configs
    assert config.name == "my_rate"


class Plateau(Small):
    """Trains with ReduceLROnPlateau on a metric that is logged or not."""

    def __init__(self, logs: bool = True, **options: Any) -> None:
        super().__init__(lr=1.0)
        self.logs = logs
        self.options = options
        self.rates: list[float] = []

    def on_train_epoch_start(self) -> None:
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        if self.logs:
            self.log("metric_to_track", 1.0)

    def configure_optimizers(self) -> Any:
        optimizer = SGD(self.parameters(), lr=self.lr)
        scheduler = ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, **self.options}}


def test_a_scheduler_is_conditioned_on_a_metric_that_log_made_available(tmp_path: Path) -> None:
    module = Plateau(monitor="metric_to_track")

    trainer(tmp_path, max_epochs=4).fit(module, loader(8), loader(4))

    assert module.rates == [1.0, 1.0, 0.5, 0.25]


def test_a_scheduler_conditioned_on_a_value_needs_a_monitor(tmp_path: Path) -> None:
    with pytest.raises(nb.UsageError, match="ReduceLROnPlateau needs a metric to monitor"):
        trainer(tmp_path).fit(Plateau(), loader(8), loader(4))


def test_strict_stops_training_when_the_monitor_is_not_found(tmp_path: Path) -> None:
    module = Plateau(logs=False, monitor="metric_to_track", strict=True)

    with pytest.raises(nb.UsageError, match=r"monitors 'metric_to_track'.*recorded: train_loss"):
        trainer(tmp_path, max_epochs=2).fit(module, loader(8), loader(4))

    assert module.rates == [1.0]


def test_without_strict_a_missing_monitor_is_only_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = Plateau(logs=False, monitor="metric_to_track", strict=False)

    trainer(tmp_path, max_epochs=3).fit(module, loader(8), loader(4))

    shown = capsys.readouterr()
    assert module.rates == [1.0, 1.0, 1.0]
    assert re.search(r"monitors 'metric_to_track'", shown.out + shown.err)


# -- frequency of optimizers -----------------------------------------------------------------------


class OneModel(nb.LightningModule):
    """One net that two optimizers share; notes which of them is used."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Linear(4, 2)
        self.used: list[int] = []
        self.rates: list[tuple[float, ...]] = []

    def training_step(self, batch: Any, batch_idx: int, optimizer_idx: int) -> Any:
        self.used.append(optimizer_idx)
        x, y = batch
        return nn.functional.cross_entropy(self.model(x), y)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.rates.append(tuple(o.param_groups[0]["lr"] for o in self.trainer.optimizers))


class FiveAndTen(OneModel):
    """The guide's example."""

    def configure_optimizers(self) -> Any:
        optimizer_one = torch.optim.SGD(self.model.parameters(), lr=0.01)
        optimizer_two = torch.optim.SGD(self.model.parameters(), lr=0.01)
        return [
            {"optimizer": optimizer_one, "frequency": 5},
            {"optimizer": optimizer_two, "frequency": 10},
        ]


def test_the_first_optimizer_is_used_for_5_steps_the_second_for_10_and_so_on(
    tmp_path: Path,
) -> None:
    module = FiveAndTen()
    run = trainer(tmp_path)
    run.fit(module, loader(40, batch_size=1))

    assert module.used == ([0] * 5 + [1] * 10) * 2 + [0] * 5 + [1] * 5
    assert run.global_step == 40


def test_the_cycle_goes_on_over_epochs(tmp_path: Path) -> None:
    module = FiveAndTen()

    trainer(tmp_path, max_epochs=4).fit(module, loader(8, batch_size=1))

    assert module.used == [0] * 5 + [1] * 10 + [0] * 5 + [1] * 10 + [0] * 2


def test_a_frequency_is_given_to_none_or_to_all(tmp_path: Path) -> None:
    class LitModel(OneModel):
        def configure_optimizers(self) -> Any:
            optimizers = [SGD(self.model.parameters(), lr=0.01) for _ in range(2)]
            return [{"optimizer": optimizers[0], "frequency": 5}, {"optimizer": optimizers[1]}]

    with pytest.raises(nb.UsageError, match="frequency"):
        trainer(tmp_path).fit(LitModel(), loader())


def test_in_a_list_all_optimizers_operate_on_the_batch_with_frequency_1_only_one(
    tmp_path: Path,
) -> None:
    class AsList(OneModel):
        def configure_optimizers(self) -> Any:
            return [SGD(self.model.parameters(), lr=0.01) for _ in range(2)]

    class AsDictionaries(AsList):
        def configure_optimizers(self) -> Any:
            return [{"optimizer": o, "frequency": 1} for o in super().configure_optimizers()]

    both, alternating = AsList(), AsDictionaries()
    for module in (both, alternating):
        trainer(tmp_path).fit(module, loader(16))

    assert both.used == [0, 1] * 4
    assert alternating.used == [0, 1] * 2


def test_a_step_scheduler_moves_only_when_its_optimizer_is_used(tmp_path: Path) -> None:
    class LitModel(OneModel):
        def configure_optimizers(self) -> Any:
            def entry(frequency: int) -> dict[str, Any]:
                optimizer = SGD(self.model.parameters(), lr=1.0)
                scheduler = StepLR(optimizer, 1, gamma=0.5)
                config = {"scheduler": scheduler, "interval": "step"}
                return {"optimizer": optimizer, "frequency": frequency, "lr_scheduler": config}

            return [entry(1), entry(2)]

    module = LitModel()

    trainer(tmp_path).fit(module, loader(16))

    assert module.used == [0, 1, 1, 0]
    assert module.rates == [(0.5, 1.0), (0.5, 0.5), (0.5, 0.25), (0.25, 0.25)]


# -- the examples ----------------------------------------------------------------------------------


def test_most_cases_no_learning_rate_scheduler(tmp_path: Path) -> None:
    class LitModel(Plain):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.loss(batch)

        def configure_optimizers(self) -> Any:
            return Adam(self.parameters(), lr=1e-3)

    module, raw = LitModel(), LitModel()
    trainer(tmp_path).fit(module, loader())

    optimizer = raw.configure_optimizers()
    for batch in loader():
        optimizer.zero_grad()
        raw.loss(batch).backward()
        optimizer.step()
    assert same(weights(module), weights(raw))


class TwoOptimizers(Gan):
    """The GAN example."""

    def configure_optimizers(self) -> Any:
        gen_opt = Adam(self.model_gen.parameters(), lr=0.01)
        dis_opt = Adam(self.model_dis.parameters(), lr=0.02)
        return gen_opt, dis_opt


def test_multiple_optimizer_case(tmp_path: Path) -> None:
    module, raw = TwoOptimizers(), TwoOptimizers()
    run = trainer(tmp_path, max_epochs=2)
    run.fit(module, loader())

    optimizers = raw.configure_optimizers()
    for _ in range(2):
        for batch in loader():
            for optimizer_idx, optimizer in enumerate(optimizers):
                loss = raw.loss_of(batch, optimizer_idx)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    assert same(weights(module), weights(raw))
    assert module.rates[0] == (0.01, 0.02)
    assert run.global_step == 24


def test_example_with_learning_rate_schedulers(tmp_path: Path) -> None:
    class LitModel(Gan):
        def configure_optimizers(self) -> Any:
            gen_opt = Adam(self.model_gen.parameters(), lr=0.01)
            dis_opt = Adam(self.model_dis.parameters(), lr=0.02)
            dis_sch = CosineAnnealing(dis_opt, T_max=10)
            return [gen_opt, dis_opt], [dis_sch]

    module = LitModel()
    run = trainer(tmp_path, max_epochs=10)
    run.fit(module, loader(4))

    generator, discriminator = zip(*module.rates[::2], strict=True)
    assert set(generator) == {0.01}
    assert discriminator[0] == 0.02
    assert discriminator[5] == pytest.approx(0.01)
    assert run.optimizers[1].param_groups[0]["lr"] == pytest.approx(0)


def test_example_with_step_based_learning_rate_schedulers(tmp_path: Path) -> None:
    class LitModel(Gan):
        # each optimizer has its own scheduler
        def configure_optimizers(self) -> Any:
            gen_opt = Adam(self.model_gen.parameters(), lr=0.01)
            dis_opt = Adam(self.model_dis.parameters(), lr=0.02)
            gen_sch = {
                "scheduler": ExponentialLR(gen_opt, 0.99),
                "interval": "step",  # called after each training step
            }
            dis_sch = CosineAnnealing(dis_opt, T_max=10)  # called every epoch
            return [gen_opt, dis_opt], [gen_sch, dis_sch]

    module = LitModel()

    trainer(tmp_path, max_epochs=2).fit(module, loader(12))

    generator, discriminator = zip(*module.rates[::2], strict=True)
    assert generator == pytest.approx([0.01 * 0.99**n for n in range(6)])
    assert discriminator[:3] == (0.02, 0.02, 0.02)
    assert len(set(discriminator[3:])) == 1
    assert discriminator[3] < 0.02


def test_example_with_optimizer_frequencies(tmp_path: Path) -> None:
    class LitModel(Gan):
        def configure_optimizers(self) -> Any:
            gen_opt = Adam(self.model_gen.parameters(), lr=0.01)
            dis_opt = Adam(self.model_dis.parameters(), lr=0.02)
            n_critic = 5
            return (
                {"optimizer": dis_opt, "frequency": n_critic},
                {"optimizer": gen_opt, "frequency": 1},
            )

    module = LitModel()
    generator = weights(module.model_gen)
    moved: list[bool] = []

    class Watches(nb.Callback):
        def on_train_batch_end(
            self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            moved.append(not same(weights(module.model_gen), generator))

    trainer(tmp_path, callbacks=[Watches()]).fit(module, loader(28))

    assert module.turns == [0, 0, 0, 0, 0, 1, 0]
    assert moved == [False] * 5 + [True] * 2


# -- some things to know ---------------------------------------------------------------------------


def test_backward_and_step_are_called_on_each_optimizer_and_scheduler(tmp_path: Path) -> None:
    calls: list[str] = []

    class LitModel(TwoOptimizers):
        def backward(self, loss: Tensor, optimizer: Any, optimizer_idx: int) -> None:  # type: ignore[override]
            calls.append(f"backward {optimizer_idx}")
            loss.backward()

        def configure_optimizers(self) -> Any:
            optimizers = list(super().configure_optimizers())
            for idx, optimizer in enumerate(optimizers):
                optimizer.register_step_post_hook(lambda *_, n=idx: calls.append(f"step {n}"))
            configs = [
                {"scheduler": StepLR(optimizer, 1), "interval": interval}
                for optimizer, interval in zip(optimizers, ("step", "epoch"), strict=True)
            ]
            return optimizers, configs

        def lr_scheduler_step(self, scheduler: Any, optimizer_idx: int, metric: Any) -> None:  # type: ignore[override]
            calls.append(f"scheduler {optimizer_idx}")
            super().lr_scheduler_step(scheduler, optimizer_idx, metric)

    trainer(tmp_path).fit(LitModel(), loader(8))

    batch = ["backward 0", "step 0", "backward 1", "step 1", "scheduler 0"]
    assert calls == [*batch, *batch, "scheduler 1"]


@pytest.mark.parametrize(
    ("precision", "dtype"), [(16, torch.float16), ("bf16-mixed", torch.bfloat16)]
)
def test_precision_is_handled_with_several_optimizers(
    tmp_path: Path, precision: Any, dtype: torch.dtype
) -> None:
    kinds: list[torch.dtype] = []

    class LitModel(TwoOptimizers):
        def training_step(
            self, batch: Any, batch_idx: int, optimizer_idx: int | None = None
        ) -> Any:
            kinds.append(self.model_gen(batch[0]).dtype)
            return super().training_step(batch, batch_idx, optimizer_idx)

    module = LitModel()

    trainer(tmp_path, precision=precision).fit(module, loader(8))

    assert kinds == [dtype] * 4
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}


def test_lbfgs_gets_the_closure(tmp_path: Path) -> None:
    steps: list[int] = []

    class LitModel(Plain):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            steps.append(batch_idx)
            return self.loss(batch)

        def configure_optimizers(self) -> Any:
            return LBFGS(self.parameters(), max_iter=4)

    module, raw = LitModel(), LitModel()
    run = trainer(tmp_path)
    run.fit(module, loader(8))

    optimizer = raw.configure_optimizers()
    evaluations = 0
    for batch in loader(8):

        def closure(batch: Any = batch) -> Tensor:
            nonlocal evaluations
            evaluations += 1
            optimizer.zero_grad()
            loss = raw.loss(batch)
            loss.backward()
            return loss

        optimizer.step(closure)
    assert same(weights(module), weights(raw))
    assert len(steps) == evaluations > 2
    assert run.global_step == 2


def test_gradients_are_computed_for_the_current_optimizers_parameters_only(
    tmp_path: Path,
) -> None:
    required: list[tuple[bool, bool]] = []
    after: list[bool] = []

    class LitModel(TwoOptimizers):
        def training_step(
            self, batch: Any, batch_idx: int, optimizer_idx: int | None = None
        ) -> Any:
            nets = (self.model_gen, self.model_dis)
            required.append((nets[0].weight.requires_grad, nets[1].weight.requires_grad))
            return super().training_step(batch, batch_idx, optimizer_idx)

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            after.append(all(parameter.requires_grad for parameter in self.parameters()))

    trainer(tmp_path).fit(LitModel(), loader(8))

    assert required == [(True, False), (False, True)] * 2
    assert after == [True, True]


def test_overriding_optimizer_step_controls_how_often_an_optimizer_steps(tmp_path: Path) -> None:
    class LitModel(TwoOptimizers):
        def optimizer_step(  # type: ignore[override]
            self,
            epoch: int,
            batch_idx: int,
            optimizer: Any,
            optimizer_idx: int,
            optimizer_closure: Any,
            **_: Any,
        ) -> None:
            # the generator every batch, the discriminator every third
            if optimizer_idx == 0 or batch_idx % 3 == 2:
                optimizer.step(closure=optimizer_closure)
            else:
                optimizer_closure()

    stepped: list[int] = []

    class Counted(LitModel):
        def configure_optimizers(self) -> Any:
            optimizers = super().configure_optimizers()
            for idx, optimizer in enumerate(optimizers):
                optimizer.register_step_post_hook(lambda *_, n=idx: stepped.append(n))
            return optimizers

    module = Counted()

    trainer(tmp_path).fit(module, loader())

    assert module.turns == [0, 1] * 6
    assert stepped == [0, 0, 0, 1] * 2
