"""``seed_everything(seed, workers=True)``: what the workers of training loaders draw at random.

That it is the same when a run is resumed is in test_exact_resume.py.
"""

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from models import trainer
from random_data import SIZE, Drawing, DrawingBatches, Telling, collate_drawing, seed_alike
from torch.utils.data import DataLoader

import nightbus as nb

BATCHES = 6
EPOCHS = 2

# Whether there are more workers than processors is up to the machine.
pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
]


class Keeps(nb.LightningModule):
    """Keeps the batches that it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.batches: list[Any] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.batches.append(batch)
        return self.weight * 1.0

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture(autouse=True)
def _unseeded_again() -> Iterator[None]:
    yield
    nb.seed_everything(0, workers=False)


@pytest.fixture
def batches(tmp_path: Path) -> Callable[..., list[Any]]:
    """Trains on data, and gives what the module got."""

    def train(data: Any, workers: bool = True, seed: int = 1, **options: Any) -> list[Any]:
        module = Keeps()
        run = trainer(tmp_path, **{"max_epochs": EPOCHS, "enable_checkpointing": False, **options})
        nb.seed_everything(seed, workers=workers)
        run.fit(module, data)
        return module.batches

    return train


def drawing(num_workers: int = 2, **options: Any) -> DataLoader[Any]:
    return DataLoader(
        **{
            "dataset": Drawing(),
            "batch_size": 4,
            "shuffle": True,
            "num_workers": num_workers,
            **options,
        }
    )


def rows(batches: list[Any]) -> list[list[float]]:
    """What was drawn for each sample, with its index in front."""
    flat: list[list[float]] = torch.cat([batch.reshape(-1, 4) for batch in batches]).tolist()
    return flat


def drawn(batches: list[Any]) -> list[float]:
    return [number for row in rows(batches) for number in row[1:]]


def indices(batches: list[Any]) -> list[float]:
    return [row[0] for row in rows(batches)]


# -- what is drawn -------------------------------------------------------------------------------

LOADERS: dict[str, dict[str, Any]] = {
    "shuffled": {},
    "workers that stay": {"persistent_workers": True},
    "prefetching": {"prefetch_factor": 3},
    "whole batches": {"dataset": DrawingBatches()},
    "single samples": {"batch_size": None},
    "a batch sampler": {
        "batch_size": 1,
        "shuffle": False,
        "batch_sampler": [[3, 1, 2], [0], [5, 6]],
    },
    "drawing to collate": {"collate_fn": collate_drawing},
}


@pytest.mark.parametrize("case", LOADERS)
def test_the_number_of_workers_changes_nothing(
    batches: Callable[..., list[Any]], case: str
) -> None:
    one = batches(drawing(1, **LOADERS[case]))
    three = batches(drawing(3, **LOADERS[case]))

    assert rows(one) == rows(three)


@pytest.mark.parametrize(
    "options",
    [
        {"overfit_batches": 3},
        {"reload_dataloaders_every_n_epochs": 1},
        {"limit_train_batches": 2},
    ],
    ids=lambda options: next(iter(options)),
)
@pytest.mark.parametrize("stay", [False, True])
def test_nor_does_it_in_runs_that_read_otherwise(
    batches: Callable[..., list[Any]], options: dict[str, Any], stay: bool
) -> None:
    one = batches(drawing(1, persistent_workers=stay), **options)
    two = batches(drawing(2, persistent_workers=stay), **options)

    assert rows(one) == rows(two)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_how_workers_are_started_changes_nothing(
    batches: Callable[..., list[Any]], method: str
) -> None:
    forked = batches(drawing(1, multiprocessing_context="fork"), max_epochs=1)
    started = batches(drawing(1, multiprocessing_context=method), max_epochs=1)

    assert rows(forked) == rows(started)


def test_a_worker_that_is_not_forked_loads_no_more_of_nightbus_than_it_needs() -> None:
    code = (
        "import sys, nightbus.actors.data.worker_seeds\n"
        "print(*sorted(name for name in sys.modules if name.startswith('nightbus')))"
    )

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert found.stdout.split() == [
        "nightbus",
        "nightbus._began_in",
        "nightbus._lazy",
        "nightbus.actors",
        "nightbus.actors.data",
        "nightbus.actors.data.worker_seeds",
    ]


@pytest.mark.parametrize("stay", [False, True])
def test_nothing_is_drawn_twice_in_a_run(batches: Callable[..., list[Any]], stay: bool) -> None:
    found = drawn(batches(drawing(2, persistent_workers=stay)))

    assert len(found) == len(set(found)) == EPOCHS * SIZE * 3


def test_each_of_several_loaders_draws_its_own_also_when_it_is_repeated(
    batches: Callable[..., list[Any]],
) -> None:
    short = drawing(1, sampler=range(8), shuffle=False)

    found = batches([drawing(1), short], max_epochs=1)

    numbers = drawn([batch for both in found for batch in both])
    assert len(numbers) == len(set(numbers)) == 2 * SIZE * 3


class TwoRounds(nb.Loop):
    """Fits twice, each time from the first epoch on."""

    def __init__(self, fit_loop: nb.Loop) -> None:
        self.fit_loop = fit_loop
        self.rounds = 0

    @property
    def done(self) -> bool:
        return self.rounds == 2

    def advance(self) -> None:
        self.replace(fit_loop=nb.FitLoop)
        self.fit_loop.run()
        self.rounds += 1


def test_a_loop_that_begins_its_epochs_anew_draws_others(tmp_path: Path) -> None:
    module, run = Keeps(), trainer(tmp_path)
    run.fit_loop = TwoRounds(run.fit_loop)
    nb.seed_everything(1, workers=True)

    run.fit(module, drawing(1))

    found = drawn(module.batches)
    assert len(found) == len(set(found)) == 2 * SIZE * 3


def test_each_process_of_a_run_draws_its_own(
    batches: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = batches(drawing(1))
    monkeypatch.setattr(nb.Trainer, "global_rank", 1)
    second = batches(drawing(1))

    assert indices(first) == indices(second)
    assert not set(drawn(first)) & set(drawn(second))


def test_another_seed_draws_others(batches: Callable[..., list[Any]]) -> None:
    first = batches(drawing(1, shuffle=False))
    second = batches(drawing(1, shuffle=False), seed=2)

    assert not set(drawn(first)) & set(drawn(second))


# -- what stays as it is -------------------------------------------------------------------------


class Mine(DataLoader[Any]):
    """A subclass, which may read in its own way."""


LEFT_ALONE: dict[str, Callable[[], Any]] = {
    "a worker_init_fn of its own": lambda: drawing(worker_init_fn=seed_alike),
    "a subclass": lambda: Mine(Drawing(), 4, num_workers=2),
    "no workers": lambda: drawing(0),
}


@pytest.mark.parametrize("case", LEFT_ALONE)
def test_other_loaders_draw_as_they_do_without_it(
    batches: Callable[..., list[Any]], case: str
) -> None:
    seeded = batches(LEFT_ALONE[case]())
    without = batches(LEFT_ALONE[case](), workers=False)

    assert rows(seeded) == rows(without)


@pytest.mark.parametrize("stay", [False, True])
def test_without_it_workers_draw_as_torch_seeds_them(
    batches: Callable[..., list[Any]], stay: bool
) -> None:
    found = batches(drawing(persistent_workers=stay), workers=False)

    nb.seed_everything(1)
    data = drawing(persistent_workers=stay)
    assert rows(found) == rows([batch for _ in range(EPOCHS) for batch in data])


class DrawnAtOnce:
    """A batch sampler that draws the order when it is asked for an iterator."""

    def __iter__(self) -> Iterator[list[int]]:
        return iter(torch.randperm(SIZE).view(BATCHES, -1).tolist())


ORDERS: dict[str, Callable[[], Any]] = {
    "shuffled": drawing,
    "workers that stay": lambda: drawing(persistent_workers=True),
    "an order that is drawn at once": lambda: DataLoader(
        Drawing(), batch_sampler=DrawnAtOnce(), num_workers=2
    ),
}


@pytest.mark.parametrize("case", ORDERS)
@pytest.mark.parametrize("also_validates", ["no", "before", "afterwards"])
def test_the_order_and_the_random_numbers_of_the_run_itself_are_as_without_it(
    tmp_path: Path, case: str, also_validates: str
) -> None:
    def train(workers: bool) -> tuple[list[float], float, float]:
        module, data = Keeps(), ORDERS[case]()
        nb.seed_everything(1, workers=workers)
        sanity_steps = 2 if also_validates == "before" else 0
        run = trainer(tmp_path, max_epochs=EPOCHS, num_sanity_val_steps=sanity_steps)
        run.fit(module, data, None if also_validates == "no" else data)
        return indices(module.batches), random.random(), torch.rand(()).item()

    assert train(workers=True) == train(workers=False)


def test_workers_that_stay_do_stay(batches: Callable[..., list[Any]]) -> None:
    data = drawing(2, dataset=Telling(), persistent_workers=True)

    processes = torch.cat([batch["process"] for batch in batches(data)])

    assert len(processes.unique()) == 2


def test_a_dataset_that_gives_whole_batches_is_asked_for_them(
    batches: Callable[..., list[Any]],
) -> None:
    found = batches(drawing(1, dataset=DrawingBatches()))

    assert all((batch == batch[0]).all() for batch in found)


@pytest.mark.parametrize("batch_size", [4, None])
def test_the_dataset_that_a_worker_has_is_like_the_users(
    batches: Callable[..., list[Any]], batch_size: int | None
) -> None:
    found = batches(drawing(1, dataset=Telling(), batch_size=batch_size), max_epochs=1)

    first = found[0] if batch_size is None else {key: found[0][key][0] for key in found[0]}
    assert (first["name"], first["size"], first["set"]) == ("mine", SIZE, True)


def test_a_run_that_began_without_it_is_resumed_with_it_from_the_next_epoch_on(
    tmp_path: Path,
) -> None:
    def resumed(folder: Path, num_workers: int) -> list[Any]:
        nb.seed_everything(1)
        trainer(folder, max_epochs=2, max_steps=BATCHES + 2).fit(Keeps(), drawing(num_workers))
        nb.seed_everything(1, workers=True)
        module = Keeps()
        trainer(folder, max_epochs=3).fit(module, drawing(num_workers), ckpt_path="last")
        return module.batches

    one, two = resumed(tmp_path / "one", 1), resumed(tmp_path / "two", 2)

    assert rows(one[:4]) != rows(two[:4])
    assert rows(one[4:]) == rows(two[4:])
