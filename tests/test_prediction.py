"""Predictions: returned, kept out of memory, written by callbacks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from models import Small, loader, trainer

import nightbus as nb


class Writes(nb.BasePredictionWriter):
    """Notes what it is given to write."""

    def __init__(self, interval: Literal["batch", "epoch", "batch_and_epoch"]) -> None:
        super().__init__(interval)
        self.batches: list[Any] = []
        self.epochs: list[Any] = []

    def write_on_batch_end(
        self,
        trainer: nb.Trainer,
        module: nb.LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        self.batches.append((dataloader_idx, batch_idx, batch_indices, len(prediction)))

    def write_on_epoch_end(
        self,
        trainer: nb.Trainer,
        module: nb.LightningModule,
        predictions: Sequence[Any],
        batch_indices: Sequence[Any],
    ) -> None:
        self.epochs.append((predictions, batch_indices))


def test_predictions_of_one_loader_are_a_list_over_batches(tmp_path: Path) -> None:
    predictions = trainer(tmp_path).predict(Small(), loader(10, 4))

    assert [len(batch) for batch in predictions] == [4, 4, 2]


def test_predictions_of_several_loaders_are_a_list_over_loaders(tmp_path: Path) -> None:
    predictions = trainer(tmp_path).predict(Small(), [loader(8, 4), loader(4, 4)])

    assert [len(batches) for batches in predictions] == [2, 1]


def test_nothing_is_returned_when_nothing_is_to_be_kept(tmp_path: Path) -> None:
    seen: list[Any] = []

    class Sees(nb.Callback):
        def on_predict_epoch_end(self, trainer: Any, module: Any, results: Any) -> None:
            seen.extend(results)

    run = trainer(tmp_path, callbacks=[Sees()])

    assert run.predict(Small(), loader(), return_predictions=False) is None
    assert seen == [[]]


def test_a_writer_is_given_each_batch_with_its_samples(tmp_path: Path) -> None:
    writes = Writes("batch")

    trainer(tmp_path, callbacks=[writes]).predict(
        Small(), [loader(6, 4), loader(4, 4)], return_predictions=False
    )

    assert writes.batches == [
        (0, 0, [0, 1, 2, 3], 4),
        (0, 1, [4, 5], 2),
        (1, 0, [0, 1, 2, 3], 4),
    ]
    assert writes.epochs == []


def test_a_writer_is_given_all_predictions_though_none_are_returned(tmp_path: Path) -> None:
    writes = Writes("epoch")
    run = trainer(tmp_path, callbacks=[writes])

    assert run.predict(Small(), loader(6, 4), return_predictions=False) is None

    ((predictions, indices),) = writes.epochs
    assert [len(batch) for batch in predictions] == [4, 2]
    assert indices == [[[0, 1, 2, 3], [4, 5]]]
    assert writes.batches == []


def test_a_writer_may_have_both(tmp_path: Path) -> None:
    writes = Writes("batch_and_epoch")

    trainer(tmp_path, callbacks=[writes]).predict(Small(), loader(4, 4))

    assert (len(writes.batches), len(writes.epochs)) == (1, 1)


def test_samples_of_a_shuffled_loader_are_not_made_up(tmp_path: Path) -> None:
    writes = Writes("batch")

    trainer(tmp_path, callbacks=[writes]).predict(Small(), loader(4, 4, shuffle=True))

    assert writes.batches == [(0, 0, None, 4)]


def test_an_unknown_write_interval_is_refused() -> None:
    with pytest.raises(nb.UsageError, match=r"write_interval='step'.*'batch', 'epoch'"):
        Writes("step")  # type: ignore[arg-type]


def test_predictions_need_no_gradients(tmp_path: Path) -> None:
    class Checks(Small):
        def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            assert not torch.is_grad_enabled()
            assert not self.training
            return self(batch[0])

    predictions = trainer(tmp_path).predict(Checks(), loader(4, 4))

    assert not predictions[0].requires_grad


class PredictsSome(Small):
    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return None if batch_idx % 2 else batch_idx


def test_a_batch_without_a_prediction_has_its_entry(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    assert run.predict(PredictsSome(), loader(16)) == [0, None, 2, None]
    assert run.predict(PredictsSome(), loader(8), return_predictions=None) == [0, None]
    both = run.predict(PredictsSome(), [loader(8), loader(12)])
    assert both == [[0, None], [0, None, 2]]


def test_predictions_are_written_with_the_samples_they_are_of(tmp_path: Path) -> None:
    class Writes(nb.BasePredictionWriter):
        pairs: list[Any]

        def write_on_epoch_end(
            self, trainer: Any, module: Any, predictions: Any, batch_indices: Any
        ) -> None:
            self.pairs = list(zip(predictions, batch_indices[0], strict=True))

    writes = Writes("epoch")
    trainer(tmp_path, callbacks=[writes]).predict(PredictsSome(), loader(6, 2))
    assert writes.pairs == [(0, [0, 1]), (None, [2, 3]), (2, [4, 5])]


def test_a_writer_has_a_list_for_each_of_several_loaders(tmp_path: Path) -> None:
    writes = Writes("epoch")
    trainer(tmp_path, callbacks=[writes]).predict(PredictsSome(), [loader(8), loader(12)])
    assert writes.epochs == [
        (
            [[0, None], [0, None, 2]],
            [[[0, 1, 2, 3], [4, 5, 6, 7]], [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]],
        )
    ]


@pytest.mark.parametrize(
    ("interval", "on_batch", "on_epoch"),
    [("batch", True, False), ("epoch", False, True), ("batch_and_epoch", True, True)],
)
def test_a_writer_tells_when_it_writes(interval: Any, on_batch: bool, on_epoch: bool) -> None:
    told = Writes(interval).interval

    assert (told, told.on_batch, told.on_epoch) == (interval, on_batch, on_epoch)


def test_the_module_is_in_eval_mode_when_prediction_starts(tmp_path: Path) -> None:
    class Notes(Small):
        modes: dict[str, bool]

        def on_predict_start(self) -> None:
            self.modes["predict"] = self.training

        def on_test_start(self) -> None:
            self.modes["test"] = self.training

        def on_validation_start(self) -> None:
            self.modes["validation"] = self.training

    module, run = Notes(), trainer(tmp_path)
    module.modes = {}
    run.predict(module, loader(4))
    run.test(module, loader(4), verbose=False)
    run.validate(module, loader(4), verbose=False)
    assert module.modes == dict.fromkeys(("predict", "test", "validation"), False)
    assert module.training
