"""WeightAveraging and EMA: the numbers, and who sees the average when."""

from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, loader, trainer, weights
from test_checkpoints import last
from torch import Tensor, nn

import nightbus as nb
from nightbus.actors.callbacks import EMA, WeightAveraging


class Keeps(Small):
    """Keeps what its weights were after each step and in each validation."""

    def __init__(self) -> None:
        super().__init__()
        self.after_steps: list[list[Tensor]] = []
        self.validated: list[list[Tensor]] = []

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.after_steps.append(weights(self))

    def on_validation_epoch_start(self) -> None:
        self.validated.append(weights(self))


class Normalised(Keeps):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))


def moving_average(history: list[list[Tensor]], decay: float) -> list[Tensor]:
    """The first weights, and then each next step's blended in."""
    average = [tensor.clone() for tensor in history[0]]
    for step in history[1:]:
        for mine, other in zip(average, step, strict=True):
            mine.lerp_(other, 1 - decay)
    return average


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return len(first) == len(second) and all(map(torch.equal, first, second))


def test_ema_is_that_of_a_loop_by_hand(tmp_path: Path) -> None:
    module = Keeps()
    trainer(tmp_path, max_epochs=3, callbacks=[EMA(decay=0.9)]).fit(module, loader())

    assert len(module.after_steps) == 18
    assert same(weights(module), moving_average(module.after_steps, 0.9))


def test_weights_count_the_same_by_default(tmp_path: Path) -> None:
    module = Keeps()
    trainer(tmp_path, callbacks=[WeightAveraging()]).fit(module, loader())

    average = [tensor.clone() for tensor in module.after_steps[0]]
    for n, step in enumerate(module.after_steps[1:], start=1):
        for mine, other in zip(average, step, strict=True):
            mine.lerp_(other, 1 / (n + 1))
    assert same(weights(module), average)


def test_training_itself_is_not_changed(tmp_path: Path) -> None:
    plain, averaged = Keeps(), Keeps()
    trainer(tmp_path, max_epochs=2).fit(plain, loader(), loader(8))
    run = trainer(tmp_path, max_epochs=2, callbacks=[EMA(0.5)])
    run.fit(averaged, loader(), loader(8))

    assert all(map(same, averaged.after_steps, plain.after_steps))


def test_validation_sees_the_average(tmp_path: Path) -> None:
    module = Keeps()
    run = trainer(tmp_path, max_epochs=2, callbacks=[EMA(0.5)], num_sanity_val_steps=0)
    run.fit(module, loader(), loader(8))

    assert same(module.validated[0], moving_average(module.after_steps[:6], 0.5))
    assert same(module.validated[1], moving_average(module.after_steps, 0.5))


def test_the_sanity_check_sees_the_weights(tmp_path: Path) -> None:
    module = Keeps()
    before = weights(module)
    trainer(tmp_path, callbacks=[EMA(0.5)]).fit(module, loader(), loader(8))

    assert same(module.validated[0], before)


def test_an_exception_in_validation_leaves_the_weights(tmp_path: Path) -> None:
    class Fails(Keeps):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            raise RuntimeError("broken")

    module = Fails()
    run = trainer(tmp_path, callbacks=[EMA(0.5)], num_sanity_val_steps=0)

    with pytest.raises(RuntimeError, match="broken"):
        run.fit(module, loader(), loader(8))
    assert same(weights(module), module.after_steps[-1])


@pytest.mark.parametrize(
    ("arguments", "taken"),
    [
        ({"update_every_n_steps": 2}, [1, 3, 5, 7, 9, 11]),
        ({"update_starting_at_step": 9}, [9, 10, 11]),
        ({"update_starting_at_epoch": 1}, [6, 7, 8, 9, 10, 11]),
        ({"update_every_n_steps": 4, "update_starting_at_step": 5}, [7, 11]),
    ],
)
def test_which_steps_are_taken_up_can_be_chosen(
    tmp_path: Path, arguments: dict[str, Any], taken: list[int]
) -> None:
    module, callback = Keeps(), EMA(0.75, **arguments)
    trainer(tmp_path, max_epochs=2, callbacks=[callback]).fit(module, loader())

    history = [module.after_steps[step] for step in taken]
    assert callback.n_averaged == len(taken)
    assert same(weights(module), moving_average(history, 0.75))


def test_accumulated_batches_are_taken_up_once(tmp_path: Path) -> None:
    callback = EMA(0.5)
    run = trainer(tmp_path, accumulate_grad_batches=3, callbacks=[callback])
    run.fit(Small(), loader())

    assert callback.n_averaged == run.global_step == 2


def test_epochs_can_be_averaged_instead_of_steps(tmp_path: Path) -> None:
    class Epochs(WeightAveraging):
        def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
            return epoch_idx is not None and epoch_idx >= 1

    module = Keeps()
    trainer(tmp_path, max_epochs=3, callbacks=[Epochs()]).fit(module, loader())

    second, third = module.after_steps[11], module.after_steps[17]
    expected = [a.clone().lerp_(b, 0.5) for a, b in zip(second, third, strict=True)]
    assert same(weights(module), expected)


def test_buffers_are_copied_if_they_are_not_averaged(tmp_path: Path) -> None:
    plain, averaged = Normalised(), Normalised()
    trainer(tmp_path).fit(plain, loader())
    trainer(tmp_path, callbacks=[EMA(0.5, use_buffers=False)]).fit(averaged, loader())

    for mine, other in zip(averaged.buffers(), plain.buffers(), strict=True):
        assert torch.equal(mine, other)


def test_a_checkpoint_has_the_average_as_the_modules_weights(tmp_path: Path) -> None:
    module = Normalised()
    run = trainer(tmp_path, max_epochs=2, callbacks=[EMA(0.5)])
    run.fit(module, loader(), loader(8))
    again = Normalised()
    trainer(tmp_path).validate(again, loader(8), ckpt_path=last(run), verbose=False)

    assert same(weights(again), weights(module))
    assert not same(weights(again), module.after_steps[-1])


@pytest.mark.parametrize("kind", [Keeps, Normalised])
def test_a_resumed_run_is_the_same_run(tmp_path: Path, kind: type[Keeps]) -> None:
    straight, resumed = kind(), kind()
    whole = trainer(tmp_path / "a", max_epochs=4, callbacks=[EMA(0.9)])
    whole.fit(straight, loader(), loader(8))
    first = trainer(tmp_path / "b", max_epochs=2, callbacks=[EMA(0.9)])
    first.fit(kind(), loader(), loader(8))
    second = trainer(tmp_path / "b", max_epochs=4, callbacks=[EMA(0.9)])
    second.fit(resumed, loader(), loader(8), ckpt_path=last(first))

    assert same(resumed.after_steps[-1], straight.after_steps[-1])
    assert same(weights(resumed), weights(straight))
    assert same([*resumed.buffers()], [*straight.buffers()])


def test_a_checkpoint_made_after_fit_can_be_resumed_too(tmp_path: Path) -> None:
    straight, resumed = Keeps(), Keeps()
    trainer(tmp_path / "a", max_epochs=4, callbacks=[EMA(0.9)]).fit(straight, loader())
    first = trainer(tmp_path / "b", max_epochs=2, callbacks=[EMA(0.9)])
    first.fit(Keeps(), loader())
    first.save_checkpoint(tmp_path / "after")
    second = trainer(tmp_path / "b", max_epochs=4, callbacks=[EMA(0.9)])
    second.fit(resumed, loader(), ckpt_path=tmp_path / "after")

    assert same(weights(resumed), weights(straight))


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    class Tied(Small):
        net: nn.Sequential

        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
            self.net[1].weight = self.net[0].weight

    module = Tied()
    run = trainer(tmp_path, callbacks=[EMA(0.5)])
    run.fit(module, loader(), loader(8))
    again = Tied()
    trainer(tmp_path).validate(again, loader(8), ckpt_path=last(run), verbose=False)

    assert module.net[0].weight is module.net[1].weight
    assert same(weights(again), weights(module))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decay": 1.5}, "decay=1.5: expected a number from 0 to 1"),
        ({"decay": "0.9"}, "decay='0.9'"),
        ({"update_every_n_steps": 0}, "update_every_n_steps=0: expected an int of at least 1"),
        ({"update_starting_at_step": -1}, "update_starting_at_step=-1"),
        ({"update_starting_at_epoch": -1}, "update_starting_at_epoch=-1"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(nb.UsageError, match=message):
        EMA(**arguments)


def test_there_is_no_average_before_fit() -> None:
    with pytest.raises(nb.UsageError, match="EMA has no average"):
        EMA().averaged_weights  # noqa: B018
