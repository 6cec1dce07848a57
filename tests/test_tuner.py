"""Learning rates and batch sizes that short trials find."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
import torch
from models import Small, assert_same, dataset, loader, trainer, weights
from torch.utils.data import DataLoader

import nightbus as nb


class Tuned(Small):
    """Makes its loaders with its batch size, which memory limits."""

    fits = 1000

    def __init__(self, lr: float = 0.1, batch_size: int = 4) -> None:
        super().__init__(lr)
        self.batch_size = batch_size
        self.tried: list[int] = []
        self.rates: list[float] = []

    def train_dataloader(self) -> Any:
        return DataLoader(dataset(64), self.batch_size)

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.note(batch)
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return super().training_step(batch, batch_idx)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.note(batch)

    def note(self, batch: Any) -> None:
        self.tried.append(len(batch[0]))
        if len(batch[0]) > self.fits:
            raise RuntimeError("CUDA out of memory. Tried to allocate")


class Data(nb.LightningDataModule):
    def __init__(self, batch_size: int = 3) -> None:
        super().__init__()
        self.save_hyperparameters()

    def train_dataloader(self) -> Any:
        return DataLoader(dataset(64), self.hparams.batch_size)


def find(folder: Path, module: Tuned, **arguments: Any) -> nb.LRFinder:
    found = nb.Tuner(trainer(folder)).lr_find(module, **arguments)
    assert found is not None
    return found


# -- the learning rate ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("exponential", [1e-8, 1e-4, 1e-2, 1.0]),
        ("linear", [1e-8, 0.500000005, 0.7500000025, 1.0]),
    ],
)
def test_the_learning_rate_rises(tmp_path: Path, mode: Any, expected: list[float]) -> None:
    module = Tuned()

    found = find(tmp_path, module, num_training=4, mode=mode)

    assert found.results["lr"] == module.rates == pytest.approx(expected)
    assert len(found.results["loss"]) == 4


def test_a_trial_leaves_weights_and_random_numbers_as_they_were(tmp_path: Path) -> None:
    module, run = Tuned(), trainer(tmp_path)
    before, random = weights(module), torch.get_rng_state()

    nb.Tuner(run).lr_find(module, num_training=5)

    assert_same(weights(module), before)
    assert torch.equal(torch.get_rng_state(), random)
    assert run.global_step == 0
    assert list(tmp_path.iterdir()) == []


def test_the_suggestion_is_where_the_loss_falls_most_steeply_and_is_assigned(
    tmp_path: Path,
) -> None:
    found = nb.LRFinder("linear", 0.1, 1.0, 8)
    found.results = {
        "lr": [float(n) for n in range(8)],
        "loss": [9.0, 8.0, 7.9, 4.0, 1.0, 0.9, float("nan"), 50.0],
    }
    assert found.suggestion(skip_begin=1) == 3.0
    assert found.suggestion(skip_begin=6) is None
    found.results["lr"] = [0.0, 0.01, 0.02, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert found.suggestion(skip_begin=1) == 0.01  # where it falls most for a change of the rate

    module = Tuned()
    rate = find(tmp_path, module, num_training=30).suggestion()
    assert module.lr == rate != 0.1
    find(tmp_path, module, num_training=30, update_attr=False)
    assert module.lr == rate


def test_the_rate_may_be_a_hyperparameter_or_have_another_name(tmp_path: Path) -> None:
    class Hyper(Tuned):
        def __init__(self, learning_rate: float = 0.1, eta: float = 0.1) -> None:
            super().__init__()
            self.save_hyperparameters()
            del self.lr

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    module = Hyper()
    found = find(tmp_path, module, num_training=30)
    assert module.hparams.learning_rate == found.suggestion()
    find(tmp_path, module, num_training=30, attr_name="eta")
    assert module.hparams.eta == found.suggestion()
    with pytest.raises(nb.UsageError, match=r"have 'nope'.*give attr_name="):
        find(tmp_path, module, attr_name="nope")


def test_a_trial_ends_early_when_the_loss_explodes(tmp_path: Path) -> None:
    class Explodes(Tuned):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return super().training_step(batch, batch_idx) * 10.0 ** len(self.rates)

    assert len(find(tmp_path, Explodes(), num_training=20).results["lr"]) < 10


def test_a_scheduler_that_waits_for_a_metric_does_not_run_in_the_search(tmp_path: Path) -> None:
    class Plateau(Tuned):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=self.lr)
            scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": scheduler, "monitor": "val_loss"},
            }

    found = find(tmp_path, Plateau(batch_size=32), num_training=4)  # 2 steps an epoch

    assert len(found.results["lr"]) == 4


def test_a_module_that_was_tuned_belongs_to_the_trainer_that_was_to_be_tuned(
    tmp_path: Path,
) -> None:
    run, module = trainer(tmp_path), Tuned()
    nb.Tuner(run).lr_find(module, num_training=2)

    assert module.trainer is run


def test_accumulated_batches_share_a_rate(tmp_path: Path) -> None:
    module = Tuned()

    nb.Tuner(trainer(tmp_path, accumulate_grad_batches=2)).lr_find(module, num_training=3)

    assert module.rates[0::2] == module.rates[1::2]
    assert len(set(module.rates)) == 3


def test_several_optimizers_are_refused(tmp_path: Path) -> None:
    class Two(Tuned):
        def training_step(self, batch: Any, batch_idx: int, optimizer_idx: int) -> Any:  # type: ignore[override]
            return self.loss(batch)

        def configure_optimizers(self) -> Any:
            return [super().configure_optimizers(), super().configure_optimizers()]

    with pytest.raises(nb.UsageError, match="works with one optimizer"):
        find(tmp_path, Two())


def test_what_was_found_can_be_plotted() -> None:
    mpl.use("agg")
    found = nb.LRFinder("exponential", 1e-8, 1.0, 20)
    found.results = {
        "lr": [found.rate(n) for n in range(20)],
        "loss": [20.0 - n for n in range(20)],
    }

    (axes,) = found.plot(suggest=True).axes

    assert axes.get_xscale() == "log"
    assert [len(line.get_xdata()) for line in axes.lines] == [20, 1]
    assert found.plot(ax=axes) is axes.figure


def test_a_callback_finds_the_rate_when_fit_begins(tmp_path: Path) -> None:
    finder = nb.LearningRateFinder(num_training_steps=30)
    run, module = trainer(tmp_path, callbacks=[finder]), Tuned()

    run.fit(module)

    assert finder.optimal_lr is not None
    assert module.lr == finder.optimal_lr.suggestion()
    assert set(module.rates[30:]) == {module.lr}
    assert (run.global_step, len(module.rates)) == (16, 46)


# -- the batch size ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "fits", "tried", "found"),
    [
        ({}, 16, [2, 4, 8, 16, 32], 16),
        ({"max_trials": 3}, 16, [2, 4, 8], 8),
        ({}, 1000, [2, 4, 8, 16, 32, 64], 64),
        ({"max_val": 10}, 1000, [2, 4, 8, 10], 10),
        ({"init_val": 32}, 8, [32, 16, 8], 8),
        ({"mode": "binsearch", "margin": 0}, 20, [2, 4, 8, 16, 32, 24, 20, 22, 21], 20),
        ({"mode": "binsearch", "margin": 0.1, "max_trials": 4}, 1000, [2, 4, 8, 16], 14),
        ({"method": "test"}, 8, [2, 4, 8, 16], 8),
        ({"max_trials": 0, "init_val": 2}, 8, [], 2),
    ],
)
def test_the_largest_batch_size_that_fits_is_found_and_assigned(
    tmp_path: Path, arguments: dict[str, Any], fits: int, tried: list[int], found: int
) -> None:
    module = Tuned()
    module.fits = fits

    size = nb.Tuner(trainer(tmp_path)).scale_batch_size(module, steps_per_trial=1, **arguments)

    assert module.tried == tried
    assert size == module.batch_size == found


def test_the_trainer_has_the_loaders_that_were_tried(tmp_path: Path) -> None:
    run, module = trainer(tmp_path), Tuned()
    module.fits = 1000

    size = nb.Tuner(run).scale_batch_size(module, steps_per_trial=1, max_trials=2)

    assert run.train_dataloader.batch_size == size


def test_the_trainer_has_loaders_of_the_size_that_leaves_a_margin(tmp_path: Path) -> None:
    run, module = trainer(tmp_path), Tuned()

    size = nb.Tuner(run).scale_batch_size(module, mode="binsearch", margin=0.25, max_trials=2)

    assert size == module.batch_size == 3
    assert run.train_dataloader.batch_size == 3
    assert run.val_dataloaders.batch_size == 3
    assert set(module.tried) == {2, 4}


def test_making_loaders_that_leave_a_margin_draws_no_random_numbers(tmp_path: Path) -> None:
    class Draws(Tuned):
        def train_dataloader(self) -> Any:
            torch.rand(1)
            return super().train_dataloader()

    module, before = Draws(), torch.get_rng_state()
    nb.Tuner(trainer(tmp_path)).scale_batch_size(module, mode="binsearch", max_trials=2)

    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("tunes", ["scale_batch_size", "lr_find"])
def test_the_trainer_has_the_datamodule_that_was_tried(tmp_path: Path, tunes: str) -> None:
    data, run = Data(), trainer(tmp_path)

    getattr(nb.Tuner(run), tunes)(Tuned(), datamodule=data)

    assert run.datamodule is data


def test_two_attributes_of_one_name_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Twice(Tuned):
        def __init__(self, batch_size: int = 4) -> None:
            super().__init__()
            self.save_hyperparameters()

    nb.Tuner(trainer(tmp_path)).scale_batch_size(Twice(), max_trials=1)
    said = capsys.readouterr().err
    assert "Twice has both batch_size and hparams.batch_size" in said

    nb.Tuner(trainer(tmp_path)).scale_batch_size(Tuned(), max_trials=1)
    assert "has both" not in capsys.readouterr().err


def test_a_missing_attribute_is_an_attribute_error(tmp_path: Path) -> None:
    module = Small()
    del module.lr

    with pytest.raises(AttributeError, match="have 'lr' or 'learning_rate'"):
        nb.Tuner(trainer(tmp_path)).lr_find(module)


def test_the_batch_size_may_be_that_of_the_datamodule(tmp_path: Path) -> None:
    data = Data()
    nb.Tuner(trainer(tmp_path)).scale_batch_size(Small(), datamodule=data, max_trials=2)

    assert data.hparams.batch_size == 4


def test_an_error_that_is_not_about_memory_ends_the_search(tmp_path: Path) -> None:
    class Fails(Tuned):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            raise ValueError("on purpose")

    module = Fails()

    with pytest.raises(ValueError, match="on purpose"):
        nb.Tuner(trainer(tmp_path)).scale_batch_size(module)
    assert module.batch_size == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train_dataloaders": loader()}, "give no loaders, but a datamodule"),
        ({"batch_arg_name": "size"}, "have 'size'"),
        ({"mode": "fast"}, "expected one of 'power', 'binsearch'"),
        ({"init_val": 0}, "init_val=0: expected an int of at least 1"),
    ],
)
def test_a_search_that_cannot_be_made_is_refused(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(nb.UsageError, match=message):
        nb.Tuner(trainer(tmp_path)).scale_batch_size(Tuned(), **arguments)


def test_a_batch_of_one_that_does_not_fit_is_said(tmp_path: Path) -> None:
    module = Tuned()
    module.fits = 0

    with pytest.raises(nb.UsageError, match="a batch of 1 does not fit"):
        nb.Tuner(trainer(tmp_path)).scale_batch_size(module)


@pytest.mark.parametrize("function", ["fit", "test"])
def test_a_callback_finds_the_batch_size_when_a_function_begins(
    tmp_path: Path, function: str
) -> None:
    finder = nb.BatchSizeFinder(steps_per_trial=1)
    run, module = trainer(tmp_path, callbacks=[finder], num_sanity_val_steps=0), Tuned()
    module.fits = 16

    getattr(run, function)(module)

    assert finder.optimal_batch_size == module.batch_size == 16
    assert module.tried == [2, 4, 8, 16, 32, *[16] * 4]


# -- as in Lightning 1.x -------------------------------------------------------------------------


def test_tune_finds_what_the_trainers_arguments_say(tmp_path: Path) -> None:
    module = Tuned()
    run = trainer(tmp_path, auto_lr_find=True, auto_scale_batch_size="binsearch")

    found = run.tune(
        module,
        lr_find_kwargs={"num_training": 30},
        scale_batch_size_kwargs={"max_trials": 2, "margin": 0},
    )

    assert found["scale_batch_size"] == module.batch_size == 4
    assert found["lr_find"].suggestion() == module.lr
    assert trainer(tmp_path).tune(module) == {}
    assert isinstance(run.tuner, nb.Tuner)


def test_the_tuner_of_a_trainer_finds_a_rate_without_assigning_it(tmp_path: Path) -> None:
    module = Tuned()
    before = module.lr

    found = trainer(tmp_path).tuner.lr_find(module, num_training=30)

    assert found is not None
    assert found.suggestion() is not None
    assert module.lr == before


def test_a_fast_dev_run_is_not_tuned(tmp_path: Path) -> None:
    tuner = nb.Tuner(trainer(tmp_path, fast_dev_run=True))

    assert tuner.lr_find(Tuned()) is None
    assert tuner.scale_batch_size(Tuned()) is None
