"""What is set on a loop, on the instance or in its class, is done as what a subclass overrides."""

from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, loader, trainer, weights

import nightbus as nb
from nightbus.loops import OptimizerLoop, TrainingBatchLoop

EPOCH = "fit_loop.epoch_loop"
BATCH = f"{EPOCH}.batch_loop"
OPTIMIZER = f"{BATCH}.optimizer_loop"
VALIDATION = f"{EPOCH}.val_loop"
OF_EACH = ["run", "reset", "advance", "on_run_start", "on_advance_start", "on_advance_end"]
OF_A_TURN = ["training_step", "loss_of", "zero_grad", "backward", "before_step", "optimizer_step"]
IN_FIT = [
    *((path, name) for path in ("fit_loop", EPOCH, BATCH, OPTIMIZER) for name in OF_EACH),
    *((OPTIMIZER, name) for name in OF_A_TURN),
    *((EPOCH, name) for name in ("next_batch", "train_on", "start_batch")),
    *((path, name) for path in (VALIDATION, f"{VALIDATION}.epoch_loop") for name in OF_EACH),
]


class Plain(Small):
    """Announces nothing, so that the shortest way is taken where there is one."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch)


def count(loop: Any, name: str) -> list[tuple[Any, ...]]:
    """Count calls of a method that is set on the instance and does what it did."""
    calls: list[tuple[Any, ...]] = []
    method: Callable[..., Any] = getattr(loop, name)

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return method(*args, **kwargs)

    setattr(loop, name, counted)
    return calls


@pytest.mark.parametrize(("path", "name"), IN_FIT)
def test_a_method_that_is_set_on_a_loop_before_fit_is_called(
    path: str, name: str, tmp_path: Path
) -> None:
    plain, changed = Plain(), Plain()
    trainer(tmp_path / "plain").fit(plain, loader(), loader())
    run = trainer(tmp_path / "changed")
    calls = count(attrgetter(path)(run), name)
    run.fit(changed, loader(), loader())

    assert calls
    assert all(map(torch.equal, weights(plain), weights(changed)))


@pytest.mark.parametrize("function", ["validate", "test", "predict"])
@pytest.mark.parametrize("name", [*OF_EACH, "take", "next_batch"])
def test_a_method_that_is_set_on_an_evaluating_loop_is_called(
    function: str, name: str, tmp_path: Path
) -> None:
    run = trainer(tmp_path)
    calls = count(getattr(run, f"{function}_loop").epoch_loop, name)
    getattr(run, function)(Plain(), loader())

    assert calls


class SetsAndRemoves(nb.Callback):
    """Sets a method on a loop at the begin of a batch, and removes it at that of another."""

    def __init__(self, path: str, name: str) -> None:
        self.path, self.name = path, name
        self.batches: list[int] = []

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        loop = attrgetter(self.path)(trainer)
        method = getattr(loop, self.name)

        def noted(*args: Any, **kwargs: Any) -> Any:
            self.batches.append(trainer.fit_loop.epoch_loop.batch_idx)
            return method(*args, **kwargs)

        if batch_idx == 2:
            setattr(loop, self.name, noted)
        if batch_idx == 4:
            delattr(loop, self.name)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        *((path, name) for path in (BATCH, OPTIMIZER) for name in OF_EACH),
        *((OPTIMIZER, name) for name in OF_A_TURN),
        (EPOCH, "train_on"),
    ],
)
def test_a_method_that_is_set_in_the_middle_of_an_epoch_is_called_until_it_is_removed(
    path: str, name: str, tmp_path: Path
) -> None:
    callback = SetsAndRemoves(path, name)
    trainer(tmp_path, callbacks=[callback]).fit(Plain(), loader())

    assert sorted(set(callback.batches)) == [2, 3]


class SetsAtBatchEnd(nb.Callback):
    def __init__(self, path: str, name: str) -> None:
        self.path, self.name = path, name
        self.calls: list[tuple[Any, ...]] = []

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.fit_loop.epoch_loop.batch_idx == 2:
            self.calls = count(attrgetter(self.path)(trainer), self.name)


@pytest.mark.parametrize(
    ("path", "name"),
    [*((EPOCH, name) for name in ("advance", "on_advance_start", "next_batch"))],
)
def test_what_is_set_at_a_batchs_end_holds_from_the_next_batch_on(
    path: str, name: str, tmp_path: Path
) -> None:
    callback = SetsAtBatchEnd(path, name)
    trainer(tmp_path, callbacks=[callback]).fit(Plain(), loader())

    assert len(callback.calls) == 3


def test_a_loop_that_is_connected_in_the_middle_of_an_epoch_is_run(tmp_path: Path) -> None:
    class Counting(OptimizerLoop):
        turns = 0

        def advance(self, *args: Any, **kwargs: Any) -> None:
            self.turns += 1
            super().advance(*args, **kwargs)

    own = Counting()

    class Connects(Plain):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if batch_idx == 2:
                self.trainer.fit_loop.epoch_loop.batch_loop.connect(optimizer_loop=own)
            return super().training_step(batch, batch_idx)

    trainer(tmp_path).fit(Connects(), loader())

    assert own.turns == 3


@pytest.mark.parametrize(
    ("kind", "name"), [(OptimizerLoop, "backward"), (TrainingBatchLoop, "on_advance_end")]
)
def test_a_method_that_is_patched_in_a_built_in_class_is_called(
    kind: type[nb.Loop], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    method = getattr(kind, name)

    def patched(self: Any, *args: Any) -> Any:
        calls.append(args)
        return method(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(kind, name, patched)
        trainer(tmp_path).fit(Plain(), loader())

    assert len(calls) == 6
