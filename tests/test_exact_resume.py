"""A run that is stopped and resumed is the same run, bit for bit, wherever it is stopped."""

import multiprocessing
import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from helpers import end_workers
from models import OrderByEpoch, Small, dataset, trainer
from programs import run_program
from random_data import Augmented
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import nightbus as nb
from nightbus.bus.inspection.compare import Comparison, compare_runs

pytestmark = pytest.mark.long

EPOCHS = 2
BATCHES = 6


class Noisy(Small):
    """Draws random numbers of all kinds, averages over the epoch, and has schedulers."""

    net: Any

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2)
        )
        self.accuracy = Accuracy()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        x = x + 0.1 * torch.randn_like(x) + random.gauss(0, 0.01) + np.random.normal(0, 0.01)
        logits = self(x)
        loss = F.cross_entropy(logits, y)
        self.accuracy(logits, y)
        self.log("accuracy", self.accuracy, on_step=False, on_epoch=True)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        self.put("noise", random.random())
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("val_loss", self.loss(batch) + random.gauss(0, 0.01))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.05)
        schedulers = [
            {"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.7), "interval": "epoch"},
            {"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 5, 0.9), "interval": "step"},
        ]
        return [optimizer], schedulers


def Accuracy() -> Any:
    from torchmetrics.classification import MulticlassAccuracy

    return MulticlassAccuracy(2)


class GAN(nb.LightningModule):
    """Two optimizers, each with its own loss."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 4))
        self.discriminator = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 1))

    def training_step(self, batch: Any, batch_idx: int, optimizer_idx: int) -> Any:
        real = batch[0]
        fake = self.generator(torch.randn(len(real), 2))
        if optimizer_idx == 0:
            loss = -self.discriminator(fake).mean()
        else:
            loss = self.discriminator(fake.detach()).mean() - self.discriminator(real).mean()
        self.log(f"loss_{optimizer_idx}", loss, on_step=True, on_epoch=True)
        return loss

    def configure_optimizers(self) -> Any:
        return (
            torch.optim.Adam(self.generator.parameters(), lr=0.01),
            torch.optim.Adam(self.discriminator.parameters(), lr=0.01),
        )


class Recurrent(nb.LightningModule):
    """Truncated back-propagation through time."""

    truncated_bptt_steps = 2

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRU(1, 4, batch_first=True)
        self.out = nn.Linear(4, 1)

    def training_step(self, batch: Any, batch_idx: int, hiddens: Any) -> Any:
        (x,) = batch
        found, hiddens = self.cell(x, hiddens)
        loss = (self.out(found) - x).pow(2).mean() + 0.01 * torch.rand(())
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return {"loss": loss, "hiddens": hiddens}

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.01)


class ByHand(Small):
    """Manual optimization that accumulates."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizer: Any = self.optimizers()
        self.manual_backward(self.loss(batch) * random.random())
        if batch_idx % 2:
            optimizer.step()
            optimizer.zero_grad()


class Twice(nb.loops.TrainingBatchLoop):
    """Trains on each batch twice, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def run(self, batch: Any, batch_idx: int) -> Any:
        self.count += 1
        super().run(batch, batch_idx)
        return super().run(batch, batch_idx)

    def on_save_checkpoint(self) -> dict[str, Any]:
        return {**super().on_save_checkpoint(), "count": self.count}

    def on_load_checkpoint(self, state_dict: Any) -> None:
        super().on_load_checkpoint(state_dict)
        self.count = state_dict["count"]


class Rounds(nb.Loop):
    """Runs the fit loop again and again."""

    def __init__(self, fit_loop: nb.Loop) -> None:
        self.fit_loop = fit_loop
        self.scores: list[float] = []

    @property
    def done(self) -> bool:
        return len(self.scores) == 2

    def advance(self) -> None:
        if not self.fit_loop.restarting:  # else the run is resumed in the middle of a round
            self.hook("on_round_start", len(self.scores))
            self.replace(fit_loop=nb.FitLoop)
        self.fit_loop.run()
        self.scores.append(random.random())
        self.put("score", self.scores[-1])

    def on_save_checkpoint(self) -> dict[str, Any]:
        return {"scores": self.scores}

    def on_load_checkpoint(self, state_dict: Any) -> None:
        self.scores = list(state_dict["scores"])


class Stream(IterableDataset[Any]):
    """A stream without a length, which draws what it gives."""

    def __iter__(self) -> Iterator[Any]:
        data = dataset()
        for idx in range(len(data)):
            x, y = data[idx]
            yield x + 0.1 * torch.randn(4), y


class Shorter(Stream):
    """Says that it has 8 batches of 4, and has 6."""

    def __len__(self) -> int:
        return 32


class Gaps:
    """Each third batch of a loader, and the last, is None."""

    def __init__(self, data: DataLoader[Any]) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[Any]:
        for number, batch in enumerate(self.data):
            yield None if number % 3 == 2 else batch


class WatchesValidation(Noisy):
    """Its learning rate depends on validation, after each one and each second epoch."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.05)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau
        common = {"monitor": "val_loss", "strict": False}
        schedulers = [
            {"scheduler": plateau(optimizer, patience=0), "interval": "step", **common},
            {"scheduler": plateau(optimizer, factor=0.5, patience=0), **common},
        ]
        schedulers[0]["frequency"] = 2
        return [optimizer], schedulers


class Counting(nb.Callback):
    """Has a state of its own, in Python and in tensors."""

    def __init__(self) -> None:
        self.batches, self.total = 0, torch.zeros(2)

    def on_train_batch_end(self, *_: Any) -> None:
        self.batches += 1
        self.total += torch.rand(2)

    def state_dict(self) -> dict[str, Any]:
        return {"batches": self.batches, "total": self.total}

    def load_state_dict(self, state_dict: Any) -> None:
        self.batches, self.total = state_dict["batches"], state_dict["total"]


class FrozenForAnEpoch(Noisy):
    """Freezes a layer, and lets another one's statistics be, when its second epoch begins."""

    def on_train_epoch_start(self) -> None:
        if self.trainer.current_epoch == 1:
            self.net[0].requires_grad_(False)
            self.net[1].eval()

    def on_train_epoch_end(self) -> None:
        self.put("modes", self.net[0].weight.requires_grad + 2 * self.net[1].training)


class AsksAnew(Noisy):
    """Has other data in each epoch."""

    def train_dataloader(self) -> Any:
        return DataLoader(dataset(seed=self.current_epoch), 4, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(dataset(8, seed=self.current_epoch), 4)


class SkipsSteps(Noisy):
    """Returns nothing for a batch that was to end an accumulation."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        return None if batch_idx == 3 else loss


def median(values: Tensor) -> Tensor:
    return values.median()


def RunningAverage() -> Any:
    """A Metric whose ``forward`` weighs what it has by how often it was updated."""
    from torchmetrics import Metric

    class Average(Metric):
        full_state_update = False
        average: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.add_state("average", torch.tensor(0.0), dist_reduce_fx="mean")

        def update(self, value: Tensor) -> None:
            self.average = value

        def compute(self) -> Tensor:
            return self.average

    return Average()


class OddMetrics(Noisy):
    """Has metrics that keep more than states, and returns NumPy's numbers."""

    def __init__(self) -> None:
        super().__init__()
        import torchmetrics

        self.window = torchmetrics.RunningMean(window=4)
        self.extremes = torchmetrics.MinMaxMetric(Accuracy())
        self.tracker = torchmetrics.MetricTracker(Accuracy())
        self.average = RunningAverage()

    def on_train_epoch_start(self) -> None:
        self.tracker.increment()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        logits = self(batch[0])
        loss = F.cross_entropy(logits, batch[1])
        self.log("median", loss, on_step=False, on_epoch=True, reduce_fx=median)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        self.window.update(loss.detach())
        self.extremes.update(logits.detach(), batch[1])
        self.tracker.update(logits.detach(), batch[1])
        self.average(loss.detach())
        self.put("average", self.average.compute())
        self.put("window", self.window.compute())
        self.put("extremes", self.extremes.compute()["max"] - self.extremes.compute()["min"])
        self.put("tracked", self.tracker.compute_all().sum())
        return {"loss": loss, "noise": np.float32(random.random())}

    def training_epoch_end(self, outputs: Any) -> None:
        self.log("noises", sum(float(output["noise"]) for output in outputs))


class Overflows(Small):
    """Has gradients too large for half precision, until the scaler has backed off."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return 64 * self.loss(batch)


class WaitsForSteps(Noisy):
    """Has a scheduler that advances after every fourth step."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.05)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
        return [optimizer], [{"scheduler": scheduler, "interval": "step", "frequency": 4}]


class Lbfgs(Noisy):
    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters(), lr=0.01, max_iter=3)


def shuffled(**options: Any) -> DataLoader[Any]:
    return DataLoader(dataset(), 4, shuffle=True, **options)


def own_generator() -> DataLoader[Any]:
    return DataLoader(Augmented(), 4, shuffle=True, generator=torch.Generator().manual_seed(11))


class DrawnAtOnce:
    """A batch sampler that draws the order when it is asked for an iterator, not for a batch."""

    def __iter__(self) -> Iterator[list[int]]:
        return iter(torch.randperm(24).view(-1, 4).tolist())

    def __len__(self) -> int:
        return BATCHES


def augmented(num_workers: int, stay: bool = False) -> DataLoader[Any]:
    return DataLoader(
        Augmented(), 4, shuffle=True, num_workers=num_workers, persistent_workers=stay
    )


def sequences() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(4)
    return DataLoader(TensorDataset(torch.randn(24, 4, 1, generator=generator)), 4, shuffle=True)


def several() -> dict[str, DataLoader[Any]]:
    return {"long": shuffled(), "short": DataLoader(dataset(8, seed=1), 4, shuffle=True)}


class OfSeveral(Noisy):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x = torch.cat([batch["long"][0], batch["short"][0]])
        y = torch.cat([batch["long"][1], batch["short"][1]])
        return super().training_step((x, y), batch_idx)


def custom_loop(run: nb.Trainer) -> None:
    run.fit_loop.epoch_loop.connect(batch_loop=Twice())


def rounds(run: nb.Trainer) -> None:
    run.fit_loop = Rounds(run.fit_loop)


def averaged(run: nb.Trainer) -> None:
    run.callbacks.append(nb.EMA(decay=0.9))


def averaged_from_the_second_epoch(run: nb.Trainer) -> None:
    run.callbacks.append(nb.EMA(decay=0.5, update_starting_at_epoch=1))


def stopped_early(run: nb.Trainer) -> None:
    """By a metric of training epochs, which validation in their middle is not to look at."""
    run.callbacks.append(nb.EarlyStopping("train_loss_epoch", min_delta=9.0, patience=2))


class Case:
    """Something to train.

    Args:
        module: makes the module.
        data: makes the training loader.
        validates: whether there is validation.
        change: does something to a trainer before it runs.
        seeds_workers: whether dataloader workers are seeded for each batch.
        options: the trainer's.
    """

    def __init__(
        self,
        module: Callable[[], nb.LightningModule] = Noisy,
        data: Callable[[], Any] = shuffled,
        validates: bool = True,
        change: Callable[[nb.Trainer], None] | None = None,
        seeds_workers: bool = False,
        **options: Any,
    ) -> None:
        self.module, self.data, self.validates, self.change = module, data, validates, change
        self.seeds_workers = seeds_workers
        self.options = {"max_epochs": EPOCHS, **options}

    def fit(
        self, folder: Path, seed: int, *callbacks: nb.Callback, ckpt_path: Any = None, **more: Any
    ) -> tuple[nb.Trainer, nb.LightningModule, Counting]:
        counting = Counting()
        run = trainer(folder, callbacks=[counting, *callbacks], **{**self.options, **more})
        if self.change is not None:
            self.change(run)
        nb.seed_everything(seed, workers=self.seeds_workers)
        module, data = self.module(), self.data()
        validation = DataLoader(dataset(8, seed=2), 4, shuffle=True) if self.validates else None
        with suppress(SystemExit, Stopped):
            run.fit(module, data, validation, ckpt_path=ckpt_path)
        if multiprocessing.active_children():
            end_workers()
        return run, module, counting


CASES = {
    "digits": Case(),
    "validation within the epoch": Case(val_check_interval=2),
    "GAN": Case(GAN, validates=False),
    "truncated back-propagation": Case(Recurrent, sequences, validates=False),
    "accumulation": Case(accumulate_grad_batches=4, val_check_interval=3),
    "manual optimization": Case(ByHand),
    "several loaders": Case(OfSeveral, several),
    "several loaders in turn": Case(
        data=lambda: [shuffled(), shuffled()], multiple_trainloader_mode="sequential"
    ),
    "augmentation in the main process": Case(data=own_generator),
    "an order that is drawn at once": Case(
        data=lambda: DataLoader(dataset(), batch_sampler=DrawnAtOnce())
    ),
    "an order by the epoch": Case(
        data=lambda: DataLoader(dataset(), 4, sampler=OrderByEpoch()),
    ),
    "a stream without a length": Case(data=lambda: DataLoader(Stream(), 4)),
    "custom loop": Case(change=custom_loop),
    "rounds of fits": Case(change=rounds),
    "weight averaging": Case(change=averaged),
}


ODD_CASES = {
    "parts and parameters frozen on the way": (Case(FrozenForAnEpoch, max_epochs=3), (7, 13)),
    "a step that is skipped": (Case(SkipsSteps, accumulate_grad_batches=2), (4,)),
    "metrics that keep more than states": (Case(OddMetrics), (2, 6, 8)),
    "an optimizer whose sums depend on where memory begins": (Case(Lbfgs), (2,)),
    "a scheduler that waits for several steps": (Case(WaitsForSteps), (6,)),
    "loaders that are asked for anew in each epoch": (
        Case(
            AsksAnew,
            lambda: None,
            validates=False,
            max_epochs=3,
            reload_dataloaders_every_n_epochs=1,
        ),
        (5, 6, 8, 12),
    ),
    "a scaler that has backed off": (Case(Overflows, precision="16-mixed"), (5,)),
    "weight averaging from an epoch on": (
        Case(change=averaged_from_the_second_epoch, max_epochs=3),
        (8,),
    ),
    "early stopping by a metric of training": (
        Case(change=stopped_early, max_epochs=4, val_check_interval=2),
        (7, 9),
    ),
    "a stream that is shorter than it says": (
        Case(data=lambda: DataLoader(Shorter(), 4), accumulate_grad_batches=4),
        (4, 6, 7, 11),
    ),
    "a stream that is shorter than it says, validated within the epoch": (
        Case(data=lambda: DataLoader(Shorter(), 4), val_check_interval=0.5),
        (4, 6, 9),
    ),
    "validation counted over epochs": (
        Case(val_check_interval=5, check_val_every_n_epoch=None),
        (4, 5, 6, 9, 10),
    ),
    "schedulers that watch validation": (
        Case(WatchesValidation, val_check_interval=2, max_epochs=2),
        (2, 3, 6, 8),
    ),
    "batches that are None": (
        Case(data=lambda: Gaps(shuffled()), accumulate_grad_batches=2),
        (2, 3, 6, 8),
    ),
}


class Stopped(Exception):
    """Raised by user code."""


class StopAfter(nb.Callback):
    """Stops the run after so many batches, or in a validation batch behind them."""

    def __init__(self, batches: int, how: str, in_validation: bool = False) -> None:
        self.batches, self.how, self.in_validation = batches, how, in_validation
        self.seen = 0

    def on_train_batch_end(self, trainer: nb.Trainer, *_: Any) -> None:
        self.seen += 1
        if self.seen == self.batches and not self.in_validation:
            self.stop(trainer)

    def on_validation_batch_end(self, trainer: nb.Trainer, *_: Any) -> None:
        if self.seen == self.batches and self.in_validation and not trainer.sanity_checking:
            self.stop(trainer)

    def stop(self, trainer: nb.Trainer) -> None:
        if self.how == "stop":
            trainer.should_stop = True
        elif self.how == "SIGTERM":
            os.kill(os.getpid(), signal.SIGTERM)
        elif self.how == "Ctrl-C":
            os.kill(os.getpid(), signal.SIGINT)


def same(left: nb.Trainer, right: nb.Trainer) -> Comparison:
    assert left.run_folder is not None
    assert right.run_folder is not None
    return compare_runs(left.run_folder, right.run_folder)


def shown(comparison: Comparison) -> str:
    difference = comparison.difference
    if difference is None:
        return "equal"
    return f"after {difference.number}: {difference.left} | {difference.right}"


def assert_same_state(left: Any, right: Any, path: str = "state") -> None:
    """Tensors bit for bit, everything else equal."""
    if isinstance(left, Tensor):
        assert left.dtype == right.dtype, path
        assert torch.equal(left, right), path
    elif isinstance(left, dict):
        assert left.keys() == right.keys(), path
        for key in left:
            assert_same_state(left[key], right[key], f"{path}.{key}")
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), path
        for number, (mine, other) in enumerate(zip(left, right, strict=True)):
            assert_same_state(mine, other, f"{path}[{number}]")
    else:
        assert left == right, path


def assert_same_run(
    whole: tuple[nb.Trainer, nb.LightningModule, Counting],
    resumed: tuple[nb.Trainer, nb.LightningModule, Counting],
) -> None:
    assert shown(same(whole[0], resumed[0])) == "equal"
    assert_same_state(whole[1].state_dict(), resumed[1].state_dict())
    for mine, other in zip(whole[0].optimizers, resumed[0].optimizers, strict=True):
        assert_same_state(mine.state_dict(), other.state_dict())
    assert_same_state(whole[2].state_dict(), resumed[2].state_dict())
    assert whole[0].global_step == resumed[0].global_step
    assert whole[0].current_epoch == resumed[0].current_epoch
    for name in ("step", "zero_grad", "scheduler_step"):
        mine, other = (getattr(each[0].optimization_progress, name) for each in (whole, resumed))
        assert mine.total == other.total, name
    assert random.random() == resumed[0].next_random  # type: ignore[attr-defined]


class Whole(NamedTuple):
    """A run that nobody stopped, and the state of Python's random numbers after it."""

    run: tuple[nb.Trainer, nb.LightningModule, Counting]
    random_after: Any


WholeOf = Callable[[Case], Whole]


@pytest.fixture(scope="module")
def whole_of(tmp_path_factory: pytest.TempPathFactory) -> WholeOf:
    """The whole run of a case; it is trained once."""
    wholes: dict[Case, Whole] = {}

    def find(case: Case) -> Whole:
        if case not in wholes:
            run = case.fit(tmp_path_factory.mktemp("whole"), 1)
            wholes[case] = Whole(run, random.getstate())
        return wholes[case]

    return find


def run_both(case: Case, whole_of: WholeOf, folder: Path, stop: StopAfter) -> tuple[Any, Any]:
    whole = whole_of(case)
    stopped, _, _ = case.fit(folder, 1, stop)
    assert same(whole.run[0], stopped).difference is not None, "it was not stopped"
    resumed = case.fit(folder, 99, ckpt_path="last")
    resumed[0].next_random = random.random()  # type: ignore[attr-defined]
    random.setstate(whole.random_after)
    return whole.run, resumed


# A run that ends before its first optimizer step.
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("batches", [1, 3, 6, 7, 10, 11])
def test_a_run_that_was_stopped_after_any_batch_is_the_same_when_resumed(
    tmp_path: Path, whole_of: WholeOf, case: str, batches: int
) -> None:
    whole, resumed = run_both(CASES[case], whole_of, tmp_path, StopAfter(batches, "stop"))

    assert_same_run(whole, resumed)


@pytest.mark.parametrize(
    ("case", "batches"), [(case, n) for case, (_, stops) in ODD_CASES.items() for n in stops]
)
def test_what_training_changes_on_its_way_is_as_it_was_when_resumed(
    tmp_path: Path, whole_of: WholeOf, case: str, batches: int
) -> None:
    whole, resumed = run_both(ODD_CASES[case][0], whole_of, tmp_path, StopAfter(batches, "stop"))

    assert_same_run(whole, resumed)


@pytest.mark.parametrize("how", ["SIGTERM", "Ctrl-C"])
@pytest.mark.parametrize("batches", [1, 6, 8])
def test_a_signal_saves_the_run_so_that_it_is_the_same_when_resumed(
    tmp_path: Path, whole_of: WholeOf, how: str, batches: int
) -> None:
    whole, resumed = run_both(CASES["accumulation"], whole_of, tmp_path, StopAfter(batches, how))

    assert_same_run(whole, resumed)


@pytest.mark.parametrize("how", ["SIGTERM", "Ctrl-C"])
@pytest.mark.parametrize("batches", [2, 4, 6])
def test_a_run_that_was_stopped_in_validation_validates_again_and_is_the_same(
    tmp_path: Path, whole_of: WholeOf, how: str, batches: int
) -> None:
    case = CASES["validation within the epoch"]
    stop = StopAfter(batches, how, in_validation=True)
    whole, resumed = run_both(case, whole_of, tmp_path, stop)

    assert_same_run(whole, resumed)


@pytest.mark.parametrize("batches", [2, 4, 6])
def test_a_scheduler_that_waited_for_a_validation_that_was_stopped_waits_for_it_again(
    tmp_path: Path, whole_of: WholeOf, batches: int
) -> None:
    case = ODD_CASES["schedulers that watch validation"][0]
    stop = StopAfter(batches, "SIGTERM", in_validation=True)
    whole, resumed = run_both(case, whole_of, tmp_path, stop)

    assert_same_run(whole, resumed)


# -- loaders with processes ----------------------------------------------------------------------


def stateful(**options: Any) -> Any:
    from torchdata.stateful_dataloader import StatefulDataLoader

    return StatefulDataLoader(dataset(), 4, shuffle=True, **options)


PROCESSES = {
    "workers": Case(data=lambda: shuffled(num_workers=2)),
    "workers that stay": Case(data=lambda: shuffled(num_workers=1, persistent_workers=True)),
    "stateful": Case(data=stateful),
    "stateful with workers": Case(data=lambda: stateful(num_workers=2)),
}


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata's
@pytest.mark.parametrize("case", PROCESSES)
@pytest.mark.parametrize("batches", [1, 6, 9])
def test_loaders_with_workers_and_with_a_state_go_on_where_they_were(
    tmp_path: Path, whole_of: WholeOf, case: str, batches: int
) -> None:
    whole, resumed = run_both(PROCESSES[case], whole_of, tmp_path, StopAfter(batches, "stop"))

    assert_same_run(whole, resumed)


def several_augmented() -> dict[str, DataLoader[Any]]:
    return {"long": augmented(2), "short": DataLoader(dataset(8, seed=1), 4, num_workers=1)}


AUGMENTED = {
    "workers": Case(data=lambda: augmented(2), seeds_workers=True),
    "workers that stay": Case(data=lambda: augmented(2, stay=True), seeds_workers=True),
}
AUGMENTED_OTHERWISE = {
    "several loaders": Case(OfSeveral, several_augmented, seeds_workers=True),
    "loaders in turn": Case(
        data=lambda: [augmented(1), augmented(2)],
        multiple_trainloader_mode="sequential",
        max_epochs=1,
        seeds_workers=True,
    ),
    "rounds of fits": Case(data=lambda: augmented(1), change=rounds, seeds_workers=True),
    "part of each epoch": Case(
        data=lambda: augmented(2, stay=True), limit_train_batches=4, seeds_workers=True
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("case", AUGMENTED)
@pytest.mark.parametrize("batches", [1, 2, 3, 4, 5, 6, 7, 11])
def test_random_augmentations_in_seeded_workers_are_the_same_when_resumed(
    tmp_path: Path, whole_of: WholeOf, case: str, batches: int
) -> None:
    whole, resumed = run_both(AUGMENTED[case], whole_of, tmp_path, StopAfter(batches, "stop"))

    assert_same_run(whole, resumed)


@pytest.mark.long
@pytest.mark.parametrize("case", AUGMENTED_OTHERWISE)
@pytest.mark.parametrize("batches", [3, 7])
def test_so_are_those_of_loaders_that_are_read_in_other_ways(
    tmp_path: Path, whole_of: WholeOf, case: str, batches: int
) -> None:
    stop = StopAfter(batches, "stop")
    whole, resumed = run_both(AUGMENTED_OTHERWISE[case], whole_of, tmp_path, stop)

    assert_same_run(whole, resumed)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more than there are processors
def test_seeded_workers_may_be_more_or_fewer_when_a_run_is_resumed(
    tmp_path: Path, whole_of: WholeOf
) -> None:
    numbers = iter([2, 1, 3])
    case = Case(data=lambda: augmented(next(numbers)), seeds_workers=True)

    whole, resumed = run_both(case, whole_of, tmp_path, StopAfter(8, "stop"))

    assert_same_run(whole, resumed)


@pytest.mark.long
def test_a_run_whose_workers_were_seeded_goes_on_so_whoever_resumes_it(tmp_path: Path) -> None:
    case = Case(data=lambda: augmented(2), seeds_workers=True)
    whole = case.fit(tmp_path / "whole", 1)
    random_after = random.getstate()
    case.fit(tmp_path / "resumed", 1, StopAfter(4, "stop"))
    case.seeds_workers = False

    resumed = case.fit(tmp_path / "resumed", 99, ckpt_path="last")
    resumed[0].next_random = random.random()  # type: ignore[attr-defined]
    random.setstate(random_after)

    assert_same_run(whole, resumed)


class Loud(Dataset[Any]):
    """Counts what is asked of it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.asked: list[int] = []

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, idx: int) -> Any:
        self.asked.append(idx)
        return torch.ones(4), 1


def test_batches_that_were_used_are_passed_over_without_loading_them(tmp_path: Path) -> None:
    data = Loud(4 * 50)
    first = trainer(tmp_path, max_steps=40)
    first.fit(Small(), DataLoader(data, 4))
    data.asked.clear()

    trainer(tmp_path).fit(Small(), DataLoader(data, 4), ckpt_path="last")

    assert data.asked == list(range(160, 200))


def test_batches_of_a_stream_are_read_again_and_dropped_and_the_cost_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = trainer(tmp_path, max_steps=4)
    first.fit(Small(), DataLoader(Stream(), 4))

    trainer(tmp_path).fit(Small(), DataLoader(Stream(), 4), ckpt_path="last")

    said = capsys.readouterr().err
    assert "batches were read again and dropped" in said
    assert "StatefulDataLoader" in said


def test_data_that_has_become_shorter_is_refused(tmp_path: Path) -> None:
    first = trainer(tmp_path, max_steps=4)
    first.fit(Small(), DataLoader(dataset(24), 4))

    with pytest.raises(nb.CheckpointError, match="the data ends after 2 batches"):
        trainer(tmp_path).fit(Small(), DataLoader(dataset(8), 4), ckpt_path="last")


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata's
def test_another_kind_of_loader_is_refused(tmp_path: Path) -> None:
    first = trainer(tmp_path, max_steps=4)
    first.fit(Small(), shuffled())

    with pytest.raises(nb.CheckpointError, match="does not fit this StatefulDataLoader"):
        trainer(tmp_path).fit(Small(), stateful(), ckpt_path="last")


# -- stops without a checkpoint of their own -----------------------------------------------------


class Fails(nb.Callback):
    """Ends the process, or raises, in the middle of a batch."""

    def __init__(self, batches: int, how: str) -> None:
        self.batches, self.how, self.seen = batches, how, 0

    def on_before_optimizer_step(self, trainer: nb.Trainer, *_: Any) -> None:
        self.seen += 1
        if self.seen > self.batches:
            if self.how == "kill":
                trainer.checkpointer.wait()  # what was acknowledged is what is resumed from
                os.kill(os.getpid(), signal.SIGKILL)
            raise Stopped


def every_step() -> nb.ModelCheckpoint:
    return nb.ModelCheckpoint(every_n_train_steps=1, save_top_k=-1, filename="{step}")


def fit_and_fail(folder: Path, batches: int, how: str) -> None:
    CASES["digits"].fit(folder, 1, every_step(), Fails(batches, how))


@pytest.mark.long
@pytest.mark.parametrize(
    ("how", "batches"), [("exception", 1), ("exception", 6), ("exception", 8), ("kill", 8)]
)
def test_after_an_exception_or_a_kill_the_last_checkpoint_goes_on_exactly(
    tmp_path: Path, how: str, batches: int
) -> None:
    case = CASES["digits"]
    whole = case.fit(tmp_path / "whole", 1, every_step(), Fails(10**9, how))
    random_after = random.getstate()
    if how == "kill":
        call = (
            "import sys; from pathlib import Path\n"
            f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
            "from test_exact_resume import fit_and_fail\n"
            f"fit_and_fail(Path({str(tmp_path / 'b')!r}), {batches}, 'kill')\n"
        )
        done = run_program("-c", call)
        assert done.returncode == -signal.SIGKILL
    else:
        fit_and_fail(tmp_path / "b", batches, how)

    resumed = case.fit(tmp_path / "b", 99, every_step(), Fails(10**9, how), ckpt_path="last")
    resumed[0].next_random = random.random()  # type: ignore[attr-defined]
    random.setstate(random_after)

    assert_same_run(whole, resumed)


# -- from a checkpoint of a callback, and over several stops ---------------------------------------


@pytest.mark.parametrize("step", [1, 3, 6, 8, 11])
def test_a_checkpoint_from_within_an_epoch_resumes_exactly(tmp_path: Path, step: int) -> None:
    case = CASES["validation within the epoch"]
    whole = case.fit(tmp_path / "a", 1, every_step())
    random_after = random.getstate()
    first = case.fit(tmp_path / "b", 1, every_step())[0]
    assert first.run_folder is not None
    path = first.run_folder.path / "checkpoints" / f"step={step}"

    resumed = case.fit(tmp_path / "b", 99, every_step(), ckpt_path=path)
    resumed[0].next_random = random.random()  # type: ignore[attr-defined]
    random.setstate(random_after)

    assert_same_run(whole, resumed)


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_a_run_may_be_stopped_after_every_batch(tmp_path: Path) -> None:
    case = CASES["accumulation"]
    whole = case.fit(tmp_path / "whole", 1)
    random_after = random.getstate()
    for _ in range(EPOCHS * BATCHES):
        resumed = case.fit(tmp_path / "resumed", 1, StopAfter(1, "stop"), ckpt_path="last")
    resumed = case.fit(tmp_path / "resumed", 1, ckpt_path="last")
    resumed[0].next_random = random.random()  # type: ignore[attr-defined]
    random.setstate(random_after)

    assert_same_run(whole, resumed)
