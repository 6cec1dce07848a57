"""Data in a run: streams, limits, reloading, batch types of one's own, datamodules, collections."""

import contextlib
import multiprocessing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from helpers import end_workers
from models import OrderByEpoch, Small, dataset, loader, trainer, weights
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

import nightbus as nb


class Stream(IterableDataset[Any]):
    """Points one after the other; nobody knows how many."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.read = 0

    def __iter__(self) -> Iterator[Any]:
        points = dataset(self.size)
        for number in range(self.size):
            self.read += 1
            yield points[number]


def stream(size: int) -> DataLoader[Any]:
    """Batches of 4 without a length."""
    return DataLoader(Stream(size), 4)


class Notes(Small):
    """Notes what happens, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []
        self.lasts: list[bool] = []
        self.first_of_validation = True

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append(batch_idx)
        self.lasts.append(self.trainer.is_last_batch)

    def on_validation_start(self) -> None:
        self.seen.append("validation")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("points", float(len(batch[0])), reduce_fx="sum")


QUIET_START = {"num_sanity_val_steps": 0}


# -- streams ---------------------------------------------------------------------------------


def test_a_stream_has_no_number_of_batches_and_is_read_once_an_epoch(tmp_path: Path) -> None:
    data = stream(10)
    module, run = Notes(), trainer(tmp_path, max_epochs=2)

    run.fit(module, data)

    assert run.num_training_batches is None or run.num_training_batches == float("inf")
    assert module.seen == [0, 1, 2] * 2
    assert data.dataset.read == 20  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", [4, 8, 10])
def test_the_last_batch_of_a_stream_is_known_as_such(tmp_path: Path, size: int) -> None:
    module = Notes()

    trainer(tmp_path, max_epochs=2).fit(module, stream(size))

    batches = -(-size // 4)
    assert module.lasts == [number == batches for number in range(1, batches + 1)] * 2


def test_a_stream_trains_as_the_same_data_with_a_length_does(tmp_path: Path) -> None:
    first, second = Small(), Small()

    for module, data in ((first, stream(10)), (second, loader(10))):
        trainer(tmp_path, max_epochs=2, accumulate_grad_batches=2).fit(module, data)

    for mine, other in zip(weights(first), weights(second), strict=True):
        assert torch.equal(mine, other)


def test_a_stream_without_batches_ends_the_epoch_at_once(tmp_path: Path) -> None:
    module, run = Notes(), trainer(tmp_path)

    run.fit(module, stream(0))

    assert module.seen == []
    assert run.current_epoch == 1
    assert run.global_step == 0


def test_a_stream_that_never_ends_is_ended_by_a_limit(tmp_path: Path) -> None:
    class Endless(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            while True:
                yield dataset(1)[0]

    module = Notes()

    trainer(tmp_path, max_epochs=2, limit_train_batches=3).fit(module, DataLoader(Endless(), 4))

    assert module.seen == [0, 1, 2] * 2
    assert module.lasts == [False, False, True] * 2


def test_a_limited_stream_is_not_read_beyond_its_limit(tmp_path: Path) -> None:
    data = stream(100)

    trainer(tmp_path, limit_train_batches=3).fit(Notes(), data)

    assert data.dataset.read == 12  # type: ignore[attr-defined]


def test_a_stream_shorter_than_its_limit_ends_the_epoch(tmp_path: Path) -> None:
    module, run = Notes(), trainer(tmp_path, max_epochs=2, limit_train_batches=5)

    run.fit(module, stream(8))

    assert module.seen == [0, 1] * 2
    assert run.current_epoch == 2


def test_a_stream_is_validated_on_to_its_end(tmp_path: Path) -> None:
    module = Notes()
    run = trainer(tmp_path, **QUIET_START)

    run.fit(module, loader(8), stream(10))

    assert run.callback_metrics["points"] == 10
    assert module.seen == [0, 1, "validation"]


def test_the_sanity_check_reads_as_much_of_a_stream_as_it_is_told(tmp_path: Path) -> None:
    batches: list[Any] = []

    class Sanity(Notes):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            if self.trainer.sanity_checking:
                batches.append(batch_idx)

    trainer(tmp_path, num_sanity_val_steps=2).fit(Sanity(), loader(4), stream(40))

    assert batches == [0, 1]


@pytest.mark.parametrize(("limit", "points"), [(1.0, 10), (2, 8), (9, 10), (0, None)])
def test_limits_hold_for_streams_in_evaluation(
    tmp_path: Path, limit: float, points: int | None
) -> None:
    run = trainer(tmp_path, limit_val_batches=limit)

    (results,) = run.validate(Notes(), stream(10), verbose=False) or [{}]

    assert results.get("points") == points


def test_a_stream_is_predicted_on(tmp_path: Path) -> None:
    predictions = trainer(tmp_path).predict(Small(), stream(10))

    assert predictions is not None
    assert [len(batch) for batch in predictions] == [4, 4, 2]


@pytest.mark.parametrize("stage", ["train", "val"])
def test_a_share_of_a_stream_is_refused(tmp_path: Path, stage: str) -> None:
    name = f"limit_{stage}_batches"
    run = trainer(tmp_path, **{name: 0.5})

    with pytest.raises(nb.UsageError, match=rf"{name}=0\.5 is a share, .* no length"):
        run.fit(Notes(), stream(8), stream(8))


def test_an_error_of_the_data_says_what_it_was(tmp_path: Path) -> None:
    class Breaks(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            yield dataset(1)[0]
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        trainer(tmp_path).fit(Notes(), DataLoader(Breaks(), 1))


# -- samplers that go by the epoch -----------------------------------------------------------


class NotesEpochs(Small):
    """Notes what a sampler had been told when an epoch's hooks ran, and sees every sample."""

    def __init__(self, sampler: OrderByEpoch) -> None:
        super().__init__()
        self.sampler = sampler
        self.told: list[int] = []

    def on_train_epoch_start(self) -> None:
        self.told.append(self.sampler.epochs[-1])


def by_sampler(sampler: OrderByEpoch) -> Any:
    return DataLoader(dataset(), 4, sampler=sampler)


def by_batch_sampler_over_it(sampler: OrderByEpoch) -> Any:
    return DataLoader(dataset(), batch_sampler=BatchSampler(sampler, 4, False))


def by_batch_sampler(sampler: OrderByEpoch) -> Any:
    return DataLoader(dataset(), batch_sampler=sampler)


def beside_another(sampler: OrderByEpoch) -> Any:
    return {"plain": loader(8), "deeper": [by_sampler(sampler)]}


class OfTheDeepest(NotesEpochs):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return super().training_step(batch["deeper"][0], batch_idx)


@pytest.mark.parametrize(
    ("data", "kind", "batch_size"),
    [
        (by_sampler, NotesEpochs, None),
        (by_batch_sampler_over_it, NotesEpochs, None),
        (by_batch_sampler, NotesEpochs, 4),
        (beside_another, OfTheDeepest, None),
    ],
)
def test_samplers_of_training_loaders_are_told_each_epoch_before_its_hooks(
    tmp_path: Path, data: Any, kind: type[NotesEpochs], batch_size: int | None
) -> None:
    sampler = OrderByEpoch(batch_size=batch_size)
    module = kind(sampler)

    trainer(tmp_path, max_epochs=3).fit(module, data(sampler))

    assert sampler.epochs == module.told == [0, 1, 2]


def test_samplers_of_validation_loaders_are_told_the_epoch_of_training(tmp_path: Path) -> None:
    sampler = OrderByEpoch()

    run = trainer(tmp_path, max_epochs=2, val_check_interval=0.5)
    run.fit(Small(), loader(), nb.CombinedLoader([by_sampler(sampler)], "sequential"))

    assert sampler.epochs == [0, 0, 0, 1, 1]  # the sanity check comes first


def test_new_dataloaders_are_told_the_epoch_too(tmp_path: Path) -> None:
    samplers: list[OrderByEpoch] = []

    class Asks(Small):
        def train_dataloader(self) -> Any:
            samplers.append(OrderByEpoch())
            return by_sampler(samplers[-1])

    trainer(tmp_path, max_epochs=2, reload_dataloaders_every_n_epochs=1).fit(Asks())

    assert [sampler.epochs for sampler in samplers] == [[0], [1]]


# -- reloading -------------------------------------------------------------------------------


class Reloads(Notes):
    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, int]] = []

    def train_dataloader(self) -> Any:
        self.asked.append(("train", self.current_epoch))
        return loader(4 * (self.current_epoch + 1))

    def val_dataloader(self) -> Any:
        self.asked.append(("val", self.current_epoch))
        return loader(4 * (self.current_epoch + 1))


@pytest.mark.parametrize(
    ("every", "epochs"), [(0, {0}), (1, {0, 1, 2, 3}), (2, {0, 2}), (3, {0, 3})]
)
def test_dataloaders_are_asked_for_every_n_epochs(
    tmp_path: Path, every: int, epochs: set[int]
) -> None:
    module = Reloads()

    trainer(tmp_path, max_epochs=4, reload_dataloaders_every_n_epochs=every, **QUIET_START).fit(
        module
    )

    assert sorted(module.asked) == sorted(
        (stage, epoch) for stage in ("train", "val") for epoch in epochs
    )


@pytest.mark.parametrize(
    ("sanity_steps", "validates_every", "every", "train", "val"),
    [
        (0, 3, 4, [0, 4, 8], [2, 8]),
        (1, 3, 4, [0, 4, 8], [0, 2, 8]),
        (0, 2, 1, [0, 1, 2, 3, 4, 5, 6, 7, 8], [1, 3, 5, 7]),
        (1, 1, 5, [0, 5], [0, 5]),
    ],
)
def test_those_of_validation_are_asked_for_when_one_is_due_that_long_after(
    tmp_path: Path, sanity_steps: int, validates_every: int, every: int, train: Any, val: Any
) -> None:
    module = Reloads()
    options = {"num_sanity_val_steps": sanity_steps, "check_val_every_n_epoch": validates_every}

    trainer(
        tmp_path,
        max_epochs=9,
        limit_train_batches=1,
        limit_val_batches=1,
        reload_dataloaders_every_n_epochs=every,
        **options,
    ).fit(module)

    assert [epoch for stage, epoch in module.asked if stage == "train"] == train
    assert [epoch for stage, epoch in module.asked if stage == "val"] == val


def test_an_epoch_that_goes_on_asks_for_its_dataloaders_once(tmp_path: Path) -> None:
    class StopsInTheSecond(Reloads):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.trainer.should_stop = self.current_epoch == 1

    options = {"max_epochs": 2, "reload_dataloaders_every_n_epochs": 1, **QUIET_START}
    stopped = trainer(tmp_path, run_name="same", **options)
    stopped.fit(StopsInTheSecond())
    module = Reloads()
    trainer(tmp_path, run_name="same", **options).fit(module, ckpt_path="last")

    assert sorted(module.asked) == [("train", 1), ("val", 1)]
    assert module.seen == [1, "validation"]


def test_new_dataloaders_are_read_to_their_own_length(tmp_path: Path) -> None:
    module = Reloads()

    run = trainer(tmp_path, max_epochs=3, reload_dataloaders_every_n_epochs=1, **QUIET_START)
    run.fit(module)

    assert module.seen == [0, "validation", 0, 1, "validation", 0, 1, 2, "validation"]
    assert module.lasts == [True, False, True, False, False, True]
    assert run.num_training_batches == 3
    assert run.callback_metrics["points"] == 12


def test_the_sanity_check_asks_for_no_dataloader_twice(tmp_path: Path) -> None:
    module = Reloads()

    trainer(tmp_path, num_sanity_val_steps=1).fit(module)

    assert sorted(module.asked) == [("train", 0), ("val", 0)]


# -- batches of one's own type ---------------------------------------------------------------


@dataclass
class Points:
    x: Tensor
    y: Tensor
    moved: int = 0


def collate(points: list[Any]) -> Points:
    return Points(torch.stack([x for x, _ in points]), torch.stack([y for _, y in points]))


def points(size: int = 8) -> DataLoader[Any]:
    return DataLoader(dataset(size), 4, collate_fn=collate)


def moved(batch: Points, device: torch.device) -> Points:
    return Points(batch.x.to(device), batch.y.to(device), batch.moved + 1)


class OfPoints(Small):
    def __init__(self) -> None:
        super().__init__()
        self.moves: list[int] = []

    def loss(self, batch: Any) -> Tensor:
        assert isinstance(batch, Points)
        self.moves.append(batch.moved)
        return super().loss((batch.x, batch.y))

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        assert isinstance(batch, Points)
        return torch.tensor(batch.moved)


def test_a_module_moves_batches_of_its_own_type(tmp_path: Path) -> None:
    class Moves(OfPoints):
        def transfer_batch_to_device(self, batch: Any, device: Any) -> Any:  # type: ignore[override]
            assert device == self.device
            return moved(batch, device)

    module = Moves()
    run = trainer(tmp_path, **QUIET_START)

    run.fit(module, points(), points(4))
    run.test(module, points(4), verbose=False)

    assert module.moves == [1] * 4
    assert run.predict(module, points(4)) == [torch.tensor(1)]


def test_a_datamodule_moves_batches_of_its_own_type_instead_of_the_module(tmp_path: Path) -> None:
    class Moves(OfPoints):
        def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int = 0) -> Any:
            raise AssertionError

    class Data(nb.LightningDataModule):
        def train_dataloader(self) -> Any:
            return points()

        def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int = 0) -> Any:
            return moved(batch, device)

    module = Moves()

    trainer(tmp_path).fit(module, datamodule=Data())

    assert module.moves == [1, 1]


def test_a_batch_of_an_unknown_type_comes_as_it_is(tmp_path: Path) -> None:
    module = OfPoints()

    trainer(tmp_path).fit(module, points())

    assert module.moves == [0, 0]


# -- datamodules -----------------------------------------------------------------------------


class Data(nb.LightningDataModule):
    """Notes its hooks, and keeps count of its training batches in checkpoints."""

    def __init__(self) -> None:
        super().__init__()
        self.called: list[str] = []
        self.count = 0

    def prepare_data(self) -> None:
        self.called.append("prepare_data")

    def setup(self, stage: str) -> None:
        self.called.append(f"setup {stage}")

    def teardown(self, stage: str) -> None:
        self.called.append(f"teardown {stage}")

    def train_dataloader(self) -> Any:
        self.called.append("train_dataloader")
        return loader(8)

    def val_dataloader(self) -> Any:
        self.called.append("val_dataloader")
        return loader(4)

    def test_dataloader(self) -> Any:
        return {"a": loader(4), "b": loader(8)}

    def predict_dataloader(self) -> Any:
        return loader(8)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        self.count += self.trainer.training
        return batch

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "tensor": torch.tensor([1.5])}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        assert torch.equal(state_dict["tensor"], torch.tensor([1.5]))
        self.count = state_dict["count"]
        self.called.append("load_state_dict")


@pytest.mark.parametrize("per_node", [True, False])
def test_data_is_prepared_once_a_run_and_before_it_is_set_up(
    tmp_path: Path, per_node: bool
) -> None:
    data = Data()

    trainer(tmp_path, max_epochs=3, prepare_data_per_node=per_node).fit(Small(), datamodule=data)

    assert data.called[:2] == ["prepare_data", "setup fit"]
    assert sorted(data.called[2:-1]) == ["train_dataloader", "val_dataloader"]
    assert data.called[-1] == "teardown fit"


@pytest.mark.parametrize("function", ["validate", "predict"])
def test_each_function_sets_the_datamodule_up_for_itself(
    tmp_path: Path, function: Literal["validate", "predict"]
) -> None:
    data = Data()

    getattr(trainer(tmp_path), function)(Small(), datamodule=data)

    kept = [call for call in data.called if call != "val_dataloader"]
    assert kept == ["prepare_data", f"setup {function}", f"teardown {function}"]


def test_a_datamodule_knows_its_trainer(tmp_path: Path) -> None:
    class Knows(Data):
        def setup(self, stage: str) -> None:
            self.known = self.trainer

    data, run = Knows(), trainer(tmp_path)

    run.fit(Small(), data)

    assert data.known is run
    assert run.datamodule is data


def test_a_datamodules_state_is_in_the_checkpoint_and_comes_back(tmp_path: Path) -> None:
    first = trainer(tmp_path, max_epochs=2)
    first.fit(Small(), datamodule=Data())
    data = Data()

    trainer(tmp_path, max_epochs=5).fit(
        Small(), datamodule=data, ckpt_path=first.checkpointer.last_path
    )

    assert data.count == 10
    assert data.called.count("load_state_dict") == 1
    assert data.called.index("setup fit") < data.called.index("load_state_dict")


def test_a_run_resumed_without_the_datamodule_trains_on(tmp_path: Path) -> None:
    first = trainer(tmp_path)
    first.fit(Small(), datamodule=Data())
    second = trainer(tmp_path, max_epochs=2)

    second.fit(Small(), loader(8), ckpt_path=first.checkpointer.last_path)

    assert second.current_epoch == 2


def test_a_datamodule_and_dataloaders_at_once_are_refused(tmp_path: Path) -> None:
    with pytest.raises(nb.UsageError, match="either dataloaders or a datamodule"):
        trainer(tmp_path).fit(Small(), loader(), datamodule=Data())


# -- collections -----------------------------------------------------------------------------


class ByLoader(Small):
    def __init__(self) -> None:
        super().__init__()
        self.idxs: list[int] = []

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.idxs.append(dataloader_idx)
        self.log("points", float(len(batch[0])), reduce_fx="sum")

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("points", float(len(batch[0])), reduce_fx="sum")


def test_a_dict_of_validation_loaders_is_read_one_after_the_other(tmp_path: Path) -> None:
    module = ByLoader()

    results = trainer(tmp_path).validate(module, {"a": loader(4), "b": stream(12)}, verbose=False)

    assert module.idxs == [0, 1, 1, 1]
    assert results == [{"points/dataloader_idx_0": 4.0}, {"points/dataloader_idx_1": 12.0}]


def test_a_datamodule_may_give_a_dict_of_loaders(tmp_path: Path) -> None:
    results = trainer(tmp_path).test(ByLoader(), datamodule=Data(), verbose=False)

    assert results == [{"points/dataloader_idx_0": 4.0}, {"points/dataloader_idx_1": 8.0}]


def test_a_limit_holds_for_each_of_several_loaders(tmp_path: Path) -> None:
    module = ByLoader()

    trainer(tmp_path, limit_val_batches=0.5).validate(
        module, [loader(8), loader(16)], verbose=False
    )

    assert module.idxs == [0, 1, 1]


def shape(batch: Any) -> Any:
    """The structure of a nested batch, with the number of points at the leaves."""
    if isinstance(batch, dict):
        return {key: shape(value) for key, value in batch.items()}
    if isinstance(batch, list | tuple) and not isinstance(batch[0], Tensor):
        return [shape(value) for value in batch]
    return len(batch[0])


class Shapes(Small):
    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[Any] = []
        self.lasts: list[bool] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.shapes.append(shape(batch))
        self.lasts.append(self.trainer.is_last_batch)
        return self.net[0].weight.sum()  # type: ignore[index]


def nested() -> Any:
    return {"a": loader(12, 4), "b": [loader(4, 2), {"c": loader(6, 3)}]}


@pytest.mark.parametrize(("mode", "batches"), [("max_size_cycle", 3), ("min_size", 2)])
def test_nested_training_loaders_give_batches_of_their_shape(
    tmp_path: Path, mode: Any, batches: int
) -> None:
    module = Shapes()
    run = trainer(tmp_path, multiple_trainloader_mode=mode, max_epochs=2)

    run.fit(module, nested())

    assert module.shapes == [{"a": 4, "b": [2, {"c": 3}]}] * batches * 2
    assert run.num_training_batches == batches


def test_a_collection_with_a_stream_ends_with_the_longest(tmp_path: Path) -> None:
    module = Shapes()

    trainer(tmp_path).fit(module, {"a": stream(12), "b": loader(4, 2)})

    assert module.shapes == [{"a": 4, "b": 2}] * 3
    assert module.lasts == [False, False, True]


def test_a_limit_holds_for_the_collection_as_a_whole(tmp_path: Path) -> None:
    module = Shapes()

    trainer(tmp_path, limit_train_batches=1).fit(module, nested())

    assert module.shapes == [{"a": 4, "b": [2, {"c": 3}]}]


@pytest.mark.parametrize(
    ("data", "said"), [(3, "int"), ([None], "NoneType"), ({"a": loader(), "b": None}, "NoneType")]
)
def test_what_is_no_dataloader_is_refused(tmp_path: Path, data: Any, said: str) -> None:
    with pytest.raises(nb.UsageError, match=f"dataloaders? gave {said}; expected"):
        trainer(tmp_path).fit(Small(), data)


# -- workers -------------------------------------------------------------------------------------


class FailsAtOnce(Small):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        raise ValueError("no")


@pytest.mark.long
@pytest.mark.parametrize("seeded", [False, True])
@pytest.mark.parametrize("model", [Small, FailsAtOnce])
def test_workers_that_stay_from_epoch_to_epoch_end_with_the_run(
    tmp_path: Path, model: type[Small], seeded: bool
) -> None:
    nb.seed_everything(1, workers=seeded)
    data, more = (DataLoader(dataset(), 4, num_workers=1, persistent_workers=True) for _ in "ab")

    with contextlib.suppress(ValueError):
        trainer(tmp_path, max_epochs=2, max_steps=8).fit(model(), data, more)

    assert multiprocessing.active_children() == []
    assert len(list(data)) == len(data)  # they start again when they are needed
    end_workers()
    nb.seed_everything(1)


class FailsIn(Small):
    """Raises in the middle of a pass of one stage."""

    def __init__(self, stage: str) -> None:
        super().__init__()
        self.stage = stage

    def fail(self) -> None:
        if self.trainer.place.stage == self.stage:
            raise ValueError("on purpose")

    def on_train_batch_end(self, *_: Any) -> None:
        self.fail()

    def on_validation_batch_end(self, *_: Any) -> None:
        self.fail()

    def on_test_batch_end(self, *_: Any) -> None:
        self.fail()

    def on_predict_batch_end(self, *_: Any) -> None:
        self.fail()


@pytest.mark.parametrize("stays", [False, True])
@pytest.mark.parametrize(
    ("stage", "function"),
    [
        ("train", "fit"),
        ("sanity_check", "fit"),
        ("validate", "fit"),
        ("validate", "validate"),
        ("test", "test"),
        ("predict", "predict"),
    ],
)
def test_an_exception_leaves_no_workers_though_it_is_kept(
    tmp_path: Path, stage: str, function: str, stays: bool
) -> None:
    data, more = (
        DataLoader(dataset(), 2, num_workers=1, persistent_workers=stays) for _ in range(2)
    )
    run = trainer(tmp_path, max_epochs=2)

    with pytest.raises(ValueError, match="on purpose") as kept:
        getattr(run, function)(FailsIn(stage), *([data, more] if function == "fit" else [data]))

    assert multiprocessing.active_children() == []
    del kept


class OfSeveral(Small):
    """Trains on the first of several batches."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return super().training_step(batch[0] if isinstance(batch[0], list) else batch, batch_idx)


class BreaksAt(torch.utils.data.Dataset[Any]):
    """Raises where a worker reads it."""

    def __getitem__(self, index: int) -> Any:
        if index == 9:
            raise ValueError("on purpose")
        return dataset()[index]

    def __len__(self) -> int:
        return 24


@pytest.mark.parametrize("stays", [False, True])
@pytest.mark.parametrize("several", [False, True])
def test_an_exception_in_a_worker_leaves_no_workers_though_it_is_kept(
    tmp_path: Path, stays: bool, several: bool
) -> None:
    data = DataLoader(BreaksAt(), 2, num_workers=2, persistent_workers=stays)
    other = DataLoader(dataset(), 2, num_workers=1, persistent_workers=stays)

    with pytest.raises(ValueError, match="on purpose") as kept:
        trainer(tmp_path).fit(OfSeveral(), [other, data] if several else data)

    assert multiprocessing.active_children() == []
    del kept


class FailsToTearDown(FailsAtOnce):
    def teardown(self, stage: str) -> None:
        raise RuntimeError("nor this")


def test_a_teardown_that_fails_too_leaves_no_workers(tmp_path: Path) -> None:
    data = DataLoader(dataset(), 2, num_workers=1)

    with pytest.raises(ValueError, match="no") as kept:
        trainer(tmp_path).fit(FailsToTearDown(), data)

    assert multiprocessing.active_children() == []
    del kept
