"""SpikeDetection: a loss that jumps ends training, and the batches to leave out are noted."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, loader, trainer

import nightbus as nb
from nightbus.bus.errors import UsageError

NAN, INF = float("nan"), float("inf")


class Scripted(Small):
    """A module with the losses that it is told."""

    def __init__(self, losses: list[float]) -> None:
        super().__init__()
        self.losses = losses

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return {"loss": self.loss(batch) * 0 + self.losses[batch_idx]}


def run_until_a_spike(folder: Path, losses: list[float], callback: nb.SpikeDetection) -> nb.Trainer:
    run = trainer(folder, callbacks=[callback])
    run.fit(Scripted(losses), loader(4 * len(losses)))
    return run


@pytest.mark.parametrize(
    ("losses", "options"),
    [
        ([1.0, 1.0, 3.1], {}),
        ([1.0, 1.0, NAN], {}),
        ([1.0, 1.0, -INF], {}),
        ([1.0, 1.0, 7.0], {"atol": 5.0}),
        ([1.0, 1.0, 7.0], {"atol": 5.0, "rtol": None}),
        ([1.0, 1.0, -2.0], {"mode": "max"}),
        ([9.0, 1.0, 4.0], {"window": 1}),
        ([1.0, 5.0, 30.0], {"warmup": 2}),
        ([1.0, 1.0, INF], {"finite_only": False}),
    ],
)
def test_a_loss_that_jumps_ends_training(
    tmp_path: Path, losses: list[float], options: dict[str, Any]
) -> None:
    callback = nb.SpikeDetection(exclude_batches_path=tmp_path, **options)

    with pytest.raises(nb.TrainingSpikeError, match="batch 2: the loss jumped to") as raised:
        run_until_a_spike(tmp_path, losses, callback)

    assert raised.value.batch_idx == 2
    assert json.loads((tmp_path / "skip_batches.json").read_text()) == [1, 2]


@pytest.mark.parametrize(
    ("losses", "options"),
    [
        ([1.0, 1.0, 2.9, 0.1], {}),
        ([1.0, 1.0, -9.0], {}),
        ([1.0, 1.0, 5.0], {"atol": 5.0}),
        ([1.0, 1.0, 9.0], {"mode": "max"}),
        ([1.0, 9.0, 9.0], {"warmup": 2}),
        ([1.0, NAN, 1.0], {"finite_only": False}),
    ],
)
def test_other_losses_do_not(tmp_path: Path, losses: list[float], options: dict[str, Any]) -> None:
    callback = nb.SpikeDetection(**options)
    run_until_a_spike(tmp_path, losses, callback)

    assert callback.bad_batches == []


def test_a_step_without_a_loss_is_passed_over(tmp_path: Path) -> None:
    class Skips(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None if batch_idx == 1 else self.loss(batch)

    trainer(tmp_path, callbacks=[nb.SpikeDetection()]).fit(Skips(), loader(12))


def test_the_batches_are_noted_in_the_runs_folder_and_in_its_state(tmp_path: Path) -> None:
    callback = nb.SpikeDetection()
    with pytest.raises(nb.TrainingSpikeError):
        run_until_a_spike(tmp_path, [1.0, 9.0], callback)
    (noted,) = tmp_path.rglob("skip_batches.json")
    again = nb.SpikeDetection()
    again.load_state_dict(callback.state_dict())

    assert noted.parent.joinpath("run.json").exists()
    assert again.bad_batches == callback.bad_batches == [0, 1]


def test_state_can_be_carried_by_a_checkpoint(tmp_path: Path) -> None:
    before, after = nb.SpikeDetection(), nb.SpikeDetection()
    run_until_a_spike(tmp_path, [1.0, 2.0], before)
    run = trainer(tmp_path, max_epochs=2, callbacks=[after])

    with pytest.raises(nb.TrainingSpikeError, match="the last ones: 1, 2"):
        run.fit(Scripted([NAN, NAN]), loader(8), ckpt_path="last")
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("given", [{"mode": "up"}, {"window": 0}, {"warmup": None}])
def test_wrong_arguments_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        nb.SpikeDetection(**given)
