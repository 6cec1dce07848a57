"""The sanity check leaves training as it would be without it, to the bit."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import end_workers
from models import Small, dataset, events, trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

import nightbus as nb


class Dropping(Small):
    """Draws at random in training, and from the same generators in validation."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = torch.nn.Dropout(0.5)
        self.own = torch.Generator().manual_seed(5)
        self.rng = random.Random(5)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        noise = random.random() + np.random.rand() + torch.rand(1) + self.drawn()
        return self.loss((self.drop(x) + 0.01 * noise, y))

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        drawn = random.random() + np.random.rand() + torch.rand(1) + self.drawn()
        self.log("drawn", drawn)
        self.log("seen", batch[0].sum())

    def drawn(self) -> Tensor:
        return torch.rand(1, generator=self.own) + self.rng.random()


class NoisyData(Dataset[Any]):
    """Points with noise from a generator of the dataset's own."""

    def __init__(self) -> None:
        self.points = dataset()
        self.rng = np.random.default_rng(5)

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: int) -> Any:
        x, y = self.points[index]
        return x + float(self.rng.normal()), y


class ByNumPy:
    """A sampler that draws its order with a NumPy generator of its own."""

    def __init__(self) -> None:
        self.rng = np.random.RandomState(5)

    def __iter__(self) -> Iterator[int]:
        return iter(self.rng.permutation(24).tolist())

    def __len__(self) -> int:
        return 24


def own_generator() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(5)
    return DataLoader(dataset(), 4, shuffle=True, generator=generator)


def persistent_workers() -> DataLoader[Any]:
    return DataLoader(NoisyData(), 4, shuffle=True, num_workers=1, persistent_workers=True)


LOADERS = {
    "shuffles": lambda: DataLoader(dataset(), 4, shuffle=True),
    "has a generator of its own": own_generator,
    "has a sampler with NumPy's generator": lambda: DataLoader(dataset(), 4, sampler=ByNumPy()),
    "has a dataset with a generator": lambda: DataLoader(NoisyData(), 4),
    "has a part of such a dataset": lambda: DataLoader(Subset(NoisyData(), range(8)), 4),
    "keeps its workers": persistent_workers,
}


def trained(
    folder: Path, validation: Any, sanity_steps: int, module: type[Dropping] = Dropping
) -> tuple[list[Tensor], dict[str, Tensor], float]:
    nb.seed_everything(2)
    run, trains = trainer(folder, max_epochs=2, num_sanity_val_steps=sanity_steps), module()
    run.fit(trains, DataLoader(dataset(), 4, shuffle=True), validation)
    end_workers()
    return [p.detach() for p in trains.parameters()], run.callback_metrics, random.random()


def check_equal(one: Any, other: Any) -> None:
    assert all(torch.equal(a, b) for a, b in zip(one[0], other[0], strict=True))
    assert one[1:] == other[1:]


@pytest.mark.long
@pytest.mark.parametrize("kind", LOADERS)
def test_training_is_equal_to_the_bit_with_and_without_when_the_validation_loader(
    tmp_path: Path, kind: str
) -> None:
    without = trained(tmp_path, LOADERS[kind](), 0)
    check_equal(trained(tmp_path, LOADERS[kind](), 2), without)
    check_equal(trained(tmp_path, LOADERS[kind](), -1), without)


def test_training_is_equal_when_val_dataloader_draws_its_data(tmp_path: Path) -> None:
    class Draws(Dropping):
        def val_dataloader(self) -> Any:
            points, _ = torch.utils.data.random_split(dataset(), [12, 12])
            return DataLoader(points, 4, shuffle=True)

    without = trained(tmp_path, None, 0, Draws)
    check_equal(trained(tmp_path, None, 2, Draws), without)


def test_what_hooks_around_it_draw_is_put_back(tmp_path: Path) -> None:
    class Hooks(nb.Callback):
        def __init__(self) -> None:
            self.own = torch.Generator().manual_seed(5)
            self.first: list[float] = []

        def on_sanity_check_start(self, trainer: Any, pl_module: Any) -> None:
            torch.rand(3), random.random(), np.random.rand(), torch.rand(1, generator=self.own)

        on_sanity_check_end = on_sanity_check_start

        def on_train_start(self, trainer: Any, module: Any) -> None:
            drawn = torch.rand(1) + torch.rand(1, generator=self.own)
            self.first.append(float(drawn) + random.random() + np.random.rand())

    hooks = [Hooks(), Hooks()]
    for steps, callback in enumerate(hooks):
        nb.seed_everything(2)
        run = trainer(tmp_path, callbacks=[callback], num_sanity_val_steps=steps)
        run.fit(Small(), DataLoader(dataset(), 4), DataLoader(dataset(), 4))
    assert hooks[0].first == hooks[1].first


def test_random_numbers_are_put_back_when_it_fails(tmp_path: Path) -> None:
    class Fails(Small):
        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            torch.rand(3)
            raise ValueError("no")

    nb.seed_everything(2)
    module = Fails()
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="no"):
        trainer(tmp_path).fit(module, DataLoader(dataset(), 4), DataLoader(dataset(), 4))
    assert torch.equal(torch.get_rng_state(), before)


def test_overfitting_validates_in_a_fixed_order(tmp_path: Path) -> None:
    class Notes(Small):
        seen: list[Tensor]

        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            self.seen.append(batch[0])

    module = Notes()
    module.seen = []
    data = DataLoader(dataset(), 4, shuffle=True)
    trainer(tmp_path, overfit_batches=1, num_sanity_val_steps=0, max_epochs=2).fit(
        module, data, data
    )
    first, second = module.seen
    assert torch.equal(first, second)


class LogsWhileValidating(Small):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("loss", 2.0, on_step=True, on_epoch=True, prog_bar=True)

    def on_validation_epoch_end(self) -> None:
        self.log("end", 3.0)


def test_callbacks_see_what_the_sanity_check_logs_and_none_of_it_is_left(tmp_path: Path) -> None:
    class Reads(nb.Callback):
        def __init__(self) -> None:
            self.seen: list[tuple[str, dict[str, float]]] = []

        def note(self, hook: str, run: nb.Trainer) -> None:
            if run.sanity_checking or hook == "train_start":
                latest: dict[str, Any] = {
                    **run.callback_metrics,
                    **run.logged_metrics,
                    **run.progress_bar_metrics,
                }
                self.seen.append((hook, {name: float(latest[name]) for name in sorted(latest)}))

        def on_validation_epoch_end(self, trainer: Any, module: Any) -> None:
            self.note("epoch_end", trainer)

        def on_validation_end(self, trainer: Any, module: Any) -> None:
            self.note("end", trainer)

        def on_sanity_check_end(self, trainer: Any, module: Any) -> None:
            self.note("check_end", trainer)

        def on_train_start(self, trainer: Any, module: Any) -> None:
            self.note("train_start", trainer)

    reads = Reads()
    run = trainer(tmp_path, callbacks=[reads])
    run.fit(LogsWhileValidating(), DataLoader(dataset(), 4), DataLoader(dataset(), 4))

    logged = {"loss": 2.0, "loss_epoch": 2.0, "loss_step": 2.0}
    assert reads.seen == [
        ("epoch_end", logged),
        ("end", logged | {"end": 3.0}),
        ("check_end", logged | {"end": 3.0}),
        ("train_start", {}),
    ]
    assert all(event.stage != "sanity_check" for event in events(run, nb.Put))
