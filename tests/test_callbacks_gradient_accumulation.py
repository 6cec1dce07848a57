"""GradientAccumulationScheduler: batches for each step, by epoch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, loader, trainer, weights
from test_checkpoints import last

import nightbus as nb
from nightbus.actors.callbacks import GradientAccumulationScheduler


def by_hand(epochs: int, scheduling: dict[int, int]) -> Small:
    """The same training without a trainer."""
    module = Small()
    optimizer = module.configure_optimizers()
    factor = 1
    for epoch in range(epochs):
        factor = scheduling.get(epoch, factor)
        batches = list(loader())
        for idx, batch in enumerate(batches):
            (module.loss(batch) / factor).backward()
            if (idx + 1) % factor == 0 or idx + 1 == len(batches):
                optimizer.step()
                optimizer.zero_grad()
    return module


@pytest.mark.parametrize("scheduling", [{0: 1, 1: 2, 3: 4}, {0: 4, 2: 1}, {2: 6}, {0: 1}])
def test_training_is_that_of_a_loop_by_hand(tmp_path: Path, scheduling: dict[int, int]) -> None:
    module = Small()
    callback = GradientAccumulationScheduler(scheduling)
    trainer(tmp_path, max_epochs=5, callbacks=[callback]).fit(module, loader())

    for mine, other in zip(weights(module), weights(by_hand(5, scheduling)), strict=True):
        assert torch.equal(mine, other)


def test_steps_are_counted_once_for_each_accumulation(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=3, callbacks=[GradientAccumulationScheduler({1: 3, 2: 4})])
    run.fit(Small(), loader())  # 6 batches an epoch

    assert run.global_step == 6 + 2 + 2


def test_a_resumed_run_accumulates_as_its_epoch_does(tmp_path: Path) -> None:
    scheduling = {0: 2, 1: 3, 4: 1}
    first = trainer(tmp_path, max_epochs=2, callbacks=[GradientAccumulationScheduler(scheduling)])
    first.fit(Small(), loader())
    module = Small()
    second = trainer(tmp_path, max_epochs=5, callbacks=[GradientAccumulationScheduler(scheduling)])
    second.fit(module, loader(), ckpt_path=last(first))

    for mine, other in zip(weights(module), weights(by_hand(5, scheduling)), strict=True):
        assert torch.equal(mine, other)


def test_a_dict_as_the_trainers_argument_is_a_schedule(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=3, accumulate_grad_batches={1: 3, 2: 4})
    run.fit(Small(), loader())

    assert run.global_step == 6 + 2 + 2
    with pytest.raises(nb.UsageError, match="leave the Trainer's argument out"):
        trainer(
            tmp_path,
            accumulate_grad_batches={1: 3},
            callbacks=[GradientAccumulationScheduler({0: 2})],
        )


def test_the_trainer_shows_how_many_batches_its_schedule_begins_with(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=2, accumulate_grad_batches={0: 2, 1: 4})

    assert run.accumulate_grad_batches == 2
    run.fit(Small(), loader())
    assert run.accumulate_grad_batches == 2
    assert run.accumulation_scheduler.scheduling == {0: 2, 1: 4}
    assert trainer(tmp_path, accumulate_grad_batches=3).accumulation_scheduler.scheduling == {0: 3}


def test_the_trainer_can_be_used_again(tmp_path: Path) -> None:
    run = trainer(tmp_path, callbacks=[GradientAccumulationScheduler({0: 3})])
    run.fit(Small(), loader())
    run.fit(Small(), loader())

    assert run.accumulate_grad_batches == 1


def test_an_epoch_that_was_left_early_does_not_keep_the_next_from_stepping(tmp_path: Path) -> None:
    class Leaves(Small):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
            return -1 if self.trainer.current_epoch == 0 and batch_idx == 2 else None

    run = trainer(tmp_path, max_epochs=2, callbacks=[GradientAccumulationScheduler({0: 4, 1: 1})])
    run.fit(Leaves(), loader())

    assert run.global_step == 6


@pytest.mark.parametrize(
    ("scheduling", "message"),
    [
        ({}, "scheduling={}: expected a dict"),
        ([1, 2], "expected a dict of epoch -> batches"),
        ({-1: 2}, "scheduling has the epoch -1; expected an int from 0 on"),
        ({1.5: 2}, "scheduling has the epoch 1.5"),
        ({1: 0}, r"scheduling\[1\]=0: expected a number of batches, at least 1"),
        ({1: 2.0}, r"scheduling\[1\]=2.0"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(scheduling: Any, message: str) -> None:
    with pytest.raises(nb.UsageError, match=message):
        GradientAccumulationScheduler(scheduling)


def test_a_trainer_that_accumulates_by_itself_is_refused(tmp_path: Path) -> None:
    schedule = GradientAccumulationScheduler({0: 2})
    with pytest.raises(nb.UsageError, match="accumulate_grad_batches=2 and a GradientAccum"):
        trainer(tmp_path, accumulate_grad_batches=2, callbacks=[schedule])

    run = trainer(tmp_path, callbacks=[schedule])
    run.accumulate_grad_batches = 3
    with pytest.raises(nb.UsageError, match="accumulate_grad_batches=3 and a GradientAccum"):
        run.fit(Small(), loader())


def test_manual_optimization_is_refused(tmp_path: Path) -> None:
    class Manual(Small):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

    run = trainer(tmp_path, callbacks=[GradientAccumulationScheduler({0: 2})])

    with pytest.raises(nb.UsageError, match="does nothing with manual optimization"):
        run.fit(Manual(), loader())


def test_hooks_that_are_called_for_steps_alone_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Steps(Small):
        def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
            super().optimizer_step(*args, **kwargs)

    trainer(tmp_path, callbacks=[GradientAccumulationScheduler({0: 2})]).fit(Steps(), loader(8))

    assert "called for steps, not for each batch" in capsys.readouterr().err
