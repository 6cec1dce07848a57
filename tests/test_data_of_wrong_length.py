"""Training data that ends before it says, or is used up: the epoch ends where the data does."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, dataset, loader, trainer, weights
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler

import nightbus as nb


class Stream(IterableDataset[Any]):
    """Points one after the other, with a length that it says; shared out among workers."""

    def __init__(self, size: int, says: int) -> None:
        self.size, self.says = size, says

    def __len__(self) -> int:
        return self.says

    def __iter__(self) -> Iterator[Any]:
        worker = torch.utils.data.get_worker_info()
        points = dataset(self.size)
        for number in range(self.size):
            if worker is None or number % worker.num_workers == worker.id:
                yield points[number]


class Reader:
    """A loader of the user's own."""

    def __init__(self, batches: int, says: int) -> None:
        self.batches, self.says = batches, says

    def __len__(self) -> int:
        return self.says

    def __iter__(self) -> Iterator[Any]:
        yield from list(loader(4 * self.batches))


class Batches(BatchSampler):
    """A batch sampler that guesses how many batches there are."""

    def __len__(self) -> int:
        return 8


def stream(says: int = 8, batches: int = 5, **options: Any) -> DataLoader[Any]:
    return DataLoader(Stream(4 * batches, 4 * says), 4, **options)


SHORT: dict[str, Callable[[], Any]] = {
    "a stream": stream,
    "a stream read by workers": lambda: stream(num_workers=1),
    "workers that drop their rests": lambda: DataLoader(
        Stream(28, 28), 4, num_workers=2, drop_last=True
    ),
    "a loader of the user's own": lambda: Reader(5, 8),
    "a batch sampler that guesses": lambda: DataLoader(
        dataset(20), batch_sampler=Batches(SequentialSampler(dataset(20)), 4, False)
    ),
    "several loaders": lambda: {"a": stream(), "b": loader(8)},
    "several loaders, to the shortest's end": lambda: nb.CombinedLoader(
        {"a": stream(), "b": loader(48)}, "min_size"
    ),
    "several loaders, to the longest's end": lambda: nb.CombinedLoader(
        {"a": stream(), "b": loader(8)}, "max_size"
    ),
    "loaders in turn": lambda: nb.CombinedLoader([stream(4, 2), stream(4, 3)], "sequential"),
}
"""Each says more batches than the 5 (of workers: 6) that it has."""


class Validates(Small):
    """Takes batches of one loader and of several, and notes after which steps it validates."""

    def __init__(self) -> None:
        super().__init__()
        self.validated_after: list[int] = []

    def loss(self, batch: Any) -> Tensor:
        return super().loss(batch["a"] if isinstance(batch, dict) else batch)

    def on_validation_start(self) -> None:
        self.validated_after.append(self.trainer.global_step)


def fit(folder: Path, data: Any, **options: Any) -> tuple[nb.Trainer, Validates]:
    module = Validates()
    run = trainer(folder, **{"max_epochs": 2, "num_sanity_val_steps": 0, **options})
    run.fit(module, data, loader(8))
    return run, module


def said(capsys: pytest.CaptureFixture[str], what: str) -> int:
    return capsys.readouterr().err.count(what)


@pytest.mark.parametrize("kind", SHORT)
def test_validation_follows_the_last_batch_there_is(tmp_path: Path, kind: str) -> None:
    best = nb.ModelCheckpoint(monitor="val_loss", save_top_k=-1)

    run, module = fit(tmp_path, SHORT[kind](), callbacks=[best])

    batches = run.global_step // 2
    assert batches < (run.num_training_batches or 0)
    assert module.validated_after == [batches, 2 * batches]
    assert len(best.best_k_models) == 2


@pytest.mark.parametrize("kind", SHORT)
def test_the_last_batches_make_a_step_however_few_they_are(tmp_path: Path, kind: str) -> None:
    run, module = fit(tmp_path, SHORT[kind](), accumulate_grad_batches=4)

    assert run.global_step == 4
    assert module.validated_after == [2, 4]


def test_a_run_is_that_on_the_same_data_with_the_right_length(tmp_path: Path) -> None:
    options: dict[str, Any] = {"accumulate_grad_batches": 2, "gradient_clip_val": 0.1}

    _, wrong = fit(tmp_path, stream(8), **options)
    _, right = fit(tmp_path, stream(5), **options)

    assert all(map(torch.equal, weights(wrong), weights(right)))


def test_each_of_two_optimizers_steps_with_what_is_left(tmp_path: Path) -> None:
    class Two(Validates):
        def training_step(self, batch: Any, batch_idx: int, optimizer_idx: int) -> Any:  # type: ignore[override]
            return self.loss(batch)

        def configure_optimizers(self) -> Any:
            parts = (self.net[0], self.net[2])  # type: ignore[index]
            return [torch.optim.SGD(part.parameters(), 0.1) for part in parts], []

    for says in (8, 5):
        module = Two()
        run = trainer(tmp_path, accumulate_grad_batches=2)
        run.fit(module, stream(says))
        assert run.optimization_progress.steps_by_optimizer == [3, 3]


def test_schedulers_by_steps_follow_a_step_with_what_is_left(tmp_path: Path) -> None:
    class Scheduled(Validates):
        def configure_optimizers(self) -> Any:
            optimizer = super().configure_optimizers()
            self.schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
            return [optimizer], [{"scheduler": self.schedule, "interval": "step"}]

    module = Scheduled()
    trainer(tmp_path, accumulate_grad_batches=4).fit(module, stream())

    assert module.schedule.last_epoch == 2


def test_an_optimizer_step_of_the_users_own_makes_the_step_with_what_is_left(
    tmp_path: Path,
) -> None:
    class Own(Validates):
        steps = 0

        def optimizer_step(self, epoch: Any, batch_idx: Any, optimizer: Any, closure: Any) -> None:  # type: ignore[override]
            self.steps += 1
            optimizer.step(closure=closure)

    module = Own()
    trainer(tmp_path, accumulate_grad_batches=4).fit(module, stream())

    assert module.steps == 2


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        (1.0, [5, 10]),
        (0.5, [4, 5, 9, 10]),
        (0.25, [2, 4, 5, 7, 9, 10]),
        (2, [2, 4, 7, 9]),
        (5, [5, 10]),
        (8, [5, 10]),
        (7, []),
    ],
)
def test_validation_within_an_epoch_of_8_batches_of_which_5_come(
    tmp_path: Path, interval: float, expected: list[int]
) -> None:
    _, module = fit(tmp_path, stream(), val_check_interval=interval)

    assert module.validated_after == expected


def test_batches_are_counted_over_epochs_as_they_come(tmp_path: Path) -> None:
    options: dict[str, Any] = {"val_check_interval": 4, "check_val_every_n_epoch": None}

    _, module = fit(tmp_path, stream(), max_epochs=3, **options)

    assert module.validated_after == [4, 8, 12]


def test_a_stream_that_ends_before_its_limit_is_validated(tmp_path: Path) -> None:
    class Unknown(Stream):
        def __len__(self) -> int:
            raise TypeError("nobody knows")

    data = DataLoader(Unknown(20, 0), 4)

    run, module = fit(tmp_path, data, limit_train_batches=9, accumulate_grad_batches=2)

    assert module.validated_after == [3, 6]
    assert run.global_step == 6


def test_max_steps_may_end_the_run_with_the_last_batch_there_is(tmp_path: Path) -> None:
    run, module = fit(tmp_path, stream(), max_steps=5, max_epochs=-1)

    assert module.validated_after == [5]
    assert run.current_epoch == 1


def test_max_steps_in_the_middle_of_an_epoch_validates_nothing(tmp_path: Path) -> None:
    run, module = fit(tmp_path, stream(), max_steps=4, max_epochs=-1)

    assert module.validated_after == []
    assert run.current_epoch == 1


def test_a_batch_that_was_read_to_look_for_the_end_is_trained_when_resumed(tmp_path: Path) -> None:
    class Numbers(Validates):
        def __init__(self) -> None:
            super().__init__()
            self.firsts: list[float] = []

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.firsts.append(float(batch[0][0, 0]))
            return super().training_step(batch, batch_idx)

    modules = [Numbers(), Numbers()]
    trainer(tmp_path, max_steps=2).fit(modules[0], stream())
    trainer(tmp_path, max_epochs=1).fit(modules[1], stream(), ckpt_path="last")

    assert modules[0].firsts + modules[1].firsts == [float(x[0, 0]) for x, _ in loader(20)]


def test_a_longer_loader_is_read_to_the_length_that_it_says(tmp_path: Path) -> None:
    run, module = fit(tmp_path, stream(says=3, batches=5))

    assert module.validated_after == [3, 6]
    assert run.global_step == 6


def test_a_wrong_length_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(tmp_path, stream(), max_epochs=3)

    assert said(capsys, "says that it has 8 batches, but had 5") == 1


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (lambda: stream(5), {}),
        (lambda: stream(8), {"limit_train_batches": 5}),
        (lambda: nb.CombinedLoader([loader(48), (b for b in loader(20))], "min_size"), {}),
    ],
)
def test_nothing_is_said_where_no_loader_was_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data: Any, options: dict[str, Any]
) -> None:
    class First(Validates):
        def loss(self, batch: Any) -> Tensor:
            return super().loss(batch[0] if isinstance(batch[0], list) else batch)

    trainer(tmp_path, **options).fit(First(), data(), loader(8))

    assert said(capsys, "says that it has") == 0


def test_an_iterator_that_is_used_up_is_said_and_its_epochs_are_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, module = fit(tmp_path, (batch for batch in loader(20)), max_epochs=3)

    assert run.global_step == 5
    assert run.current_epoch == 3
    assert module.validated_after == [5]
    assert said(capsys, "no batches in epoch 1; a generator can be read only once") == 1


def test_an_iterator_of_validation_that_the_sanity_check_has_used_up_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer(tmp_path).fit(Validates(), loader(8), (batch for batch in loader(8)))

    assert said(capsys, "validation dataloader had no batches; a generator can be") == 1


def test_an_iterator_that_is_used_up_does_not_train_without_end_for_max_steps(
    tmp_path: Path,
) -> None:
    run = trainer(tmp_path, max_steps=8, max_epochs=-1)

    with pytest.raises(nb.UsageError, match="max_steps=8 is never reached"):
        run.fit(Validates(), (batch for batch in loader(20)))

    assert run.global_step == 5


# -- batches that are None -------------------------------------------------------------------


class Gaps(Reader):
    """The third batch and the last are None."""

    def __iter__(self) -> Iterator[Any]:
        for number, batch in enumerate(super().__iter__()):
            yield None if number in (2, self.batches - 1) else batch


def test_a_batch_that_is_none_is_passed_over_and_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, module = fit(tmp_path, Gaps(5, 5))

    assert run.global_step == 6
    assert module.validated_after == [3, 6]
    assert said(capsys, "training batch is None") == 1


def test_a_last_batch_that_is_none_leaves_no_accumulated_step_out(tmp_path: Path) -> None:
    run, _ = fit(tmp_path, Gaps(5, 5), accumulate_grad_batches=2)

    assert run.global_step == 4


def test_a_batch_that_is_none_ends_as_others_do(tmp_path: Path) -> None:
    class Ends(nb.Callback):
        def __init__(self) -> None:
            self.seen: list[tuple[bool, int]] = []

        def on_train_batch_end(
            self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            self.seen.append((batch is None, batch_idx))

    ends = Ends()
    fit(tmp_path, Gaps(5, 5), callbacks=[ends], max_epochs=1)

    assert ends.seen == [(False, 0), (False, 1), (True, 2), (False, 3), (True, 4)]


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_a_batch_of_evaluation_that_is_none_is_passed_over_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    (result,) = getattr(trainer(tmp_path), stage)(Small(), Gaps(5, 5))

    assert len(result) == 1
    assert said(capsys, "batch is None") == 1


# -- epochs that train nothing ---------------------------------------------------------------


class ReturnsNone(Small):
    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.log("train_loss", self.loss(batch))


@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 4}])
def test_that_no_training_step_returned_a_loss_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: dict[str, Any]
) -> None:
    trainer(tmp_path, max_epochs=3, **options).fit(ReturnsNone(), loader())

    assert said(capsys, "nothing was trained in epoch 0: training_step returned None") == 1


def test_that_some_training_steps_return_none_is_not_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Sometimes(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.loss(batch) if batch_idx == 3 else None

    trainer(tmp_path).fit(Sometimes(), loader())

    assert said(capsys, "nothing was trained") == 0


def test_training_without_steps_ends_before_it_never_does(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_steps=10, max_epochs=-1)

    with pytest.raises(
        nb.UsageError, match=r"max_steps=10 is never reached: the last 10\d batches"
    ):
        run.fit(ReturnsNone(), loader())


def test_a_step_that_is_made_by_hand_after_more_batches_than_max_steps_is_waited_for(
    tmp_path: Path,
) -> None:
    class Accumulates(Small):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.seen = 0

        def training_step(self, batch: Any, batch_idx: int) -> None:
            self.manual_backward(self.loss(batch))
            self.seen += 1
            if self.seen % 4 == 0:
                self.optimizers().step()

    module, run = Accumulates(), trainer(tmp_path, max_epochs=-1, max_steps=2)
    run.fit(module, loader(4))
    assert (run.global_step, module.seen) == (2, 8)


def test_training_without_an_optimizer_ends_before_it_never_does(tmp_path: Path) -> None:
    class Without(Small):
        def configure_optimizers(self) -> None:
            return None

    with pytest.raises(nb.UsageError, match="max_steps=3 is never reached"):
        trainer(tmp_path, max_steps=3, max_epochs=-1).fit(Without(), loader())


def test_a_beginning_without_steps_is_no_reason_to_end(tmp_path: Path) -> None:
    class Later(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.loss(batch) if self.current_epoch > 0 else None

    run = trainer(tmp_path, max_steps=10, max_epochs=-1)
    run.fit(Later(), loader())

    assert run.global_step == 10
