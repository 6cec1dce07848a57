"""Timer: what it measures, and when it ends training."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from models import Small, events, loader, trainer
from test_checkpoints import last

import nightbus as nb
from nightbus.actors.callbacks import Timer, timer


class Clock:
    """Stands still unless it is told otherwise."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Slow(Small):
    """Takes 10 s for a training batch and 1 s for a validation batch."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.clock.now_s += 10
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.clock.now_s += 1
        super().validation_step(batch, batch_idx)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.clock.now_s += 2
        super().test_step(batch, batch_idx)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timer, "monotonic", clock)
    return clock


def test_each_stage_is_measured(tmp_path: Path, clock: Clock) -> None:
    callback = Timer()
    run = trainer(tmp_path, max_epochs=2, callbacks=[callback], num_sanity_val_steps=1)
    run.fit(Slow(clock), loader(), loader(8))  # 6 batches, then 2 of validation
    run.test(dataloaders=loader(12), verbose=False)

    assert callback.time_elapsed("sanity_check") == 1
    assert callback.time_elapsed("validate") == 5  # with the sanity check
    assert callback.time_elapsed("train") == 124
    assert callback.time_elapsed("test") == 6
    assert callback.time_elapsed("predict") == 0
    assert (callback.start_time(), callback.end_time()) == (1, 125)


def test_each_fit_counts_anew(tmp_path: Path, clock: Clock) -> None:
    run = trainer(tmp_path, callbacks=[callback := Timer("00:00:01:30")])
    run.fit(Slow(clock), loader())
    run.fit_loop.max_epochs = 2
    run.fit(Slow(clock), loader())

    assert run.global_step == 12
    assert callback.time_elapsed() == 60


def test_max_time_counts_on_when_a_run_is_resumed(tmp_path: Path, clock: Clock) -> None:
    first = trainer(tmp_path, max_epochs=1, max_time="00:00:01:30")
    first.fit(Slow(clock), loader())
    second = trainer(tmp_path, max_epochs=5, max_time="00:00:01:30")
    second.fit(Slow(clock), loader(), ckpt_path=last(first))

    assert second.global_step == 9


def test_there_is_no_limit_without_a_duration(tmp_path: Path, clock: Clock) -> None:
    callback = Timer()
    trainer(tmp_path, callbacks=[callback]).fit(Slow(clock), loader())

    assert callback.time_remaining() is None


@pytest.mark.parametrize(
    ("duration", "steps"),
    [("00:00:00:25", 3), (timedelta(seconds=30), 3), ({"minutes": 1, "seconds": 1}, 7)],
)
def test_training_ends_after_the_step_in_which_the_time_is_over(
    tmp_path: Path, clock: Clock, duration: Any, steps: int
) -> None:
    callback = Timer(duration)
    run = trainer(tmp_path, max_epochs=3, callbacks=[callback])
    run.fit(Slow(clock), loader())

    assert run.global_step == steps
    remaining = callback.time_remaining()
    assert remaining is not None
    assert remaining <= 0
    (ended,) = events(run, nb.RunEnded)
    assert ended.how == "stopped"
    assert "the Timer's 0:0" in ended.reason


def test_training_ends_after_the_epoch_in_which_the_time_is_over(
    tmp_path: Path, clock: Clock
) -> None:
    run = trainer(tmp_path, max_epochs=3, callbacks=[Timer("00:00:01:01", interval="epoch")])
    run.fit(Slow(clock), loader())

    assert run.global_step == 12


def test_a_resumed_run_has_the_time_that_was_left(tmp_path: Path, clock: Clock) -> None:
    first = trainer(tmp_path, max_epochs=1, callbacks=[Timer("00:00:02:00")])
    first.fit(Slow(clock), loader())
    callback = Timer("00:00:02:00")
    second = trainer(tmp_path, max_epochs=5, callbacks=[callback])
    clock.now_s += 1000
    second.fit(Slow(clock), loader(), ckpt_path=last(first))

    assert second.global_step == 12
    assert callback.time_elapsed() == 120


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"duration": "1h"}, "duration='1h': expected 'DD:HH:MM:SS'"),
        ({"duration": {"weekends": 1}}, "duration="),
        ({"interval": "batch"}, "interval='batch': expected one of 'step', 'epoch'"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(nb.UsageError, match=message):
        Timer(**arguments)


def test_a_stage_that_there_is_not_is_refused() -> None:
    with pytest.raises(nb.UsageError, match="stage='training': expected one of 'train'"):
        Timer().time_elapsed("training")


def test_the_stop_is_printed(
    tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    timer = Timer({"seconds": 20})
    trainer(tmp_path, callbacks=[timer], limit_val_batches=0).fit(Slow(clock), loader())

    assert capsys.readouterr().err == "nightbus: the Timer's 0:00:20 are over\n"
