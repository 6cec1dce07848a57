"""A step with the argument ``dataloader_iter`` fetches its batches itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, dataset, loader, trainer, weights
from torch.utils.data import DataLoader, IterableDataset


class Fetches(Small):
    """Trains on as many batches a step as it is told, and notes their numbers."""

    def __init__(self, batches: int = 1) -> None:
        super().__init__()
        self.batches = batches
        self.numbers: list[list[int]] = []

    def training_step(self, dataloader_iter: Any) -> Any:  # type: ignore[override]
        numbers: list[int] = []
        self.numbers.append(numbers)
        losses = []
        for _ in range(self.batches):
            batch, batch_idx, dataloader_idx = next(dataloader_iter)
            assert dataloader_idx == 0
            numbers.append(batch_idx)
            losses.append(self.loss(batch))
        return torch.stack(losses).mean()


class Stream(IterableDataset[Any]):
    """As many samples as it is told, of unknown number."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __iter__(self) -> Iterator[Any]:
        return iter(list(dataset(self.size)))  # type: ignore[call-overload]


def test_a_step_that_fetches_one_batch_trains_as_one_that_gets_it(tmp_path: Path) -> None:
    fetches, gets = Fetches(), Small()
    for module in (fetches, gets):
        trainer(tmp_path, max_epochs=2).fit(module, loader())

    assert all(map(torch.equal, weights(fetches), weights(gets)))


@pytest.mark.parametrize(
    "data", [loader(20), DataLoader(Stream(20), 4)], ids=["known length", "unknown length"]
)
def test_a_step_may_fetch_several_and_the_epoch_ends_with_the_data(
    tmp_path: Path, data: Any
) -> None:
    module = Fetches(2)
    run = trainer(tmp_path)
    run.fit(module, data)

    assert module.numbers == [[0, 1], [2, 3], [4]]
    assert run.global_step == 2
    assert run.fit_loop.epoch_loop.batch_progress.total.completed == 5


def test_so_does_a_stream_that_ends_before_its_length(tmp_path: Path) -> None:
    class Short(Stream):
        def __len__(self) -> int:
            return 40

    module = Fetches(2)
    trainer(tmp_path).fit(module, DataLoader(Short(20), 4))

    assert module.numbers == [[0, 1], [2, 3], [4]]


def test_a_step_of_two_is_one_step_on_twice_the_batch(tmp_path: Path) -> None:
    fetches, gets = Fetches(2), Small()
    trainer(tmp_path).fit(fetches, loader(batch_size=4))
    trainer(tmp_path).fit(gets, loader(batch_size=8))

    assert all(map(torch.allclose, weights(fetches), weights(gets)))


def test_a_run_goes_on_behind_the_batches_that_steps_fetched(tmp_path: Path) -> None:
    whole, before, after = Fetches(2), Fetches(2), Fetches(2)
    trainer(tmp_path / "whole").fit(whole, loader())
    first = trainer(tmp_path / "halves", max_steps=2)
    first.fit(before, loader())
    trainer(tmp_path / "halves").fit(after, loader(), ckpt_path="last")

    assert before.numbers + after.numbers == whole.numbers == [[0, 1], [2, 3], [4, 5]]
    assert all(map(torch.equal, weights(after), weights(whole)))


def test_steps_of_evaluation_and_prediction_fetch_too(tmp_path: Path) -> None:
    class Evaluates(Small):
        def validation_step(self, dataloader_iter: Any) -> None:  # type: ignore[override]
            _, batch_idx, dataloader_idx = next(dataloader_iter)
            _, other_idx, _ = next(dataloader_iter)
            self.log("idx", float(10 * dataloader_idx + batch_idx + other_idx), reduce_fx="max")

        def predict_step(self, dataloader_iter: Any) -> Any:  # type: ignore[override]
            return [batch_idx for _, batch_idx, _ in dataloader_iter]

    run, module = trainer(tmp_path), Evaluates()

    found = run.validate(module, [loader(16), loader(16)], verbose=False)
    assert found == [{"idx/dataloader_idx_0": 5.0}, {"idx/dataloader_idx_1": 15.0}]
    assert run.predict(module, loader(12)) == [[0, 1, 2]]


def test_a_step_ends_the_epoch_by_raising_stop_iteration(tmp_path: Path) -> None:
    class Ends(Fetches):
        def training_step(self, dataloader_iter: Any) -> Any:  # type: ignore[override]
            loss = super().training_step(dataloader_iter)
            if self.numbers[-1] == [1]:
                raise StopIteration
            return loss

        def validation_step(self, dataloader_iter: Any) -> None:  # type: ignore[override]
            self.log("seen", float(next(dataloader_iter)[1]), reduce_fx="max")
            raise StopIteration

    run, module = trainer(tmp_path, max_epochs=2), Ends()
    run.fit(module, loader(), loader())

    assert module.numbers == [[0], [1], [0], [1]]
    assert (run.global_step, run.current_epoch) == (2, 2)
    assert run.callback_metrics["seen"] == 0


def test_the_end_of_a_loop_by_stop_iteration_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Ends(Small):
        def training_step(self, dataloader_iter: Any) -> Any:  # type: ignore[override]
            next(iter(()))

    run = trainer(tmp_path, max_epochs=2)
    run.fit(Ends(), loader())

    assert capsys.readouterr().err.count("a step raised StopIteration") == 1
    assert run.current_epoch == 2
