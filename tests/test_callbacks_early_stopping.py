"""EarlyStopping: when it ends a run, live and in replay."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import Small, loader, trainer
from test_checkpoints import last

import nightbus as nb
from nightbus.actors.callbacks import EarlyStopping


class Scripted(Small):
    """Records given values: ``val`` in each validation, ``train`` at the end of each epoch."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.values = values

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val", self.values[self.trainer.current_epoch])

    def on_train_epoch_end(self) -> None:
        self.log("train", self.values[self.trainer.current_epoch])


def epochs_run(tmp_path: Path, values: list[float], callback: EarlyStopping, **how: Any) -> int:
    run = trainer(tmp_path, max_epochs=len(values), callbacks=[callback], **how)
    run.fit(Scripted(values), loader(8), loader(4))
    return run.current_epoch


def stop_at(callback: EarlyStopping, values: list[float]) -> int | None:
    """After how many values the callback would end the run."""
    return next((n for n, value in enumerate(values, start=1) if callback.evaluate(value)), None)


@pytest.mark.parametrize(
    ("arguments", "values", "expected"),
    [
        ({"patience": 3}, [5, 4, 3, 2, 1], None),
        ({"patience": 3}, [1, 2, 2, 2, 0], 4),
        ({"patience": 1}, [1, 1, 0], 2),
        ({"patience": 0}, [1, 1, 0], 2),
        ({"patience": 2}, [3, 4, 2, 4, 1, 4, 4], 7),
        ({"patience": 1, "mode": "max"}, [1, 2, 3, 3], 4),
        ({"patience": 1, "min_delta": 0.5}, [3, 2.5, 2], 2),
        ({"patience": 1, "min_delta": 0.5}, [3, 2.4, 1.8], None),
        ({"patience": 1, "min_delta": 0.5, "mode": "max"}, [1, 1.5], 2),
        ({"stopping_threshold": 1.0}, [3, 1.0, 0.9], 3),
        ({"stopping_threshold": 1.0, "mode": "max"}, [0.5, 1.0, 1.1], 3),
        ({"divergence_threshold": 5.0}, [3, 5.0, 5.1], 3),
        ({"divergence_threshold": -5.0, "mode": "max"}, [0, -5.0, -5.1], 3),
        ({}, [1, math.nan], 2),
        ({}, [1, -math.inf], 2),
        ({"check_finite": False, "patience": 2}, [1, math.nan, math.nan], 3),
        ({"check_finite": False}, [1, -math.inf, -math.inf], None),
    ],
)
def test_the_check_that_ends_the_run(
    arguments: dict[str, Any], values: list[float], expected: int | None
) -> None:
    assert stop_at(EarlyStopping("m", **arguments), values) == expected


@given(
    values=st.lists(st.integers(-5, 5), min_size=1, max_size=30),
    patience=st.integers(1, 5),
    mode=st.sampled_from(["min", "max"]),
)
def test_it_stops_at_the_first_run_of_checks_without_a_new_record(
    values: list[int], patience: int, mode: Any
) -> None:
    sign = 1 if mode == "min" else -1
    records = [
        n for n in range(len(values)) if all(sign * values[n] < sign * v for v in values[:n])
    ]
    expected = next(
        (
            n + 1
            for n in range(len(values))
            if n - max(record for record in records if record <= n) >= patience
        ),
        None,
    )

    assert stop_at(EarlyStopping("m", patience=patience, mode=mode), list(values)) == expected


def test_the_run_ends_after_the_epoch_in_which_patience_is_over(tmp_path: Path) -> None:
    callback = EarlyStopping("val", patience=2)

    assert epochs_run(tmp_path, [3, 2, 2, 2, 1], callback) == 4
    assert callback.stopped_epoch == 3
    assert callback.best_score.item() == 2
    assert callback.wait_count == 2


def test_the_reason_is_in_the_log(tmp_path: Path) -> None:
    from models import events

    run = trainer(tmp_path, max_epochs=5, callbacks=[EarlyStopping("val", patience=1)])
    run.fit(Scripted([2, 2, 1, 1, 1]), loader(8), loader(4))

    (ended,) = events(run, nb.RunEnded)
    assert ended.how == "stopped"
    assert ended.reason == "val did not improve in the last 1 check; best: 2"


def test_a_metric_of_training_is_checked_once_an_epoch_although_there_is_validation(
    tmp_path: Path,
) -> None:
    callback = EarlyStopping("train", patience=2)

    assert epochs_run(tmp_path, [3, 2, 2, 2, 1], callback, val_check_interval=0.5) == 4


def test_a_metric_of_validation_is_checked_at_each_validation(tmp_path: Path) -> None:
    callback = EarlyStopping("val", patience=3)

    assert epochs_run(tmp_path, [3, 2, 2, 1], callback, val_check_interval=0.5) == 3


def test_epochs_without_validation_are_no_checks(tmp_path: Path) -> None:
    callback = EarlyStopping("val", patience=2)

    assert epochs_run(tmp_path, [3.0] * 12, callback, check_val_every_n_epoch=3) == 9


class Asked(EarlyStopping):
    """Notes what it says of where it checks, before and in training."""

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        self.said = [self._check_on_train_epoch_end]

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.is_last_batch:
            self.said.append(self._check_on_train_epoch_end)


@pytest.mark.parametrize(
    ("monitor", "where", "said"),
    [
        ("train", None, [None, None, True]),
        ("val", None, [None, None, False]),
        ("train", True, [True, True, True]),
        ("val", False, [False, False, False]),
    ],
)
def test_where_it_checks_is_what_was_given_until_it_is_decided(
    tmp_path: Path, monitor: str, where: bool | None, said: list[bool | None]
) -> None:
    callback = Asked(monitor, check_on_train_epoch_end=where)

    assert callback._check_on_train_epoch_end is where
    epochs_run(tmp_path, [2, 1], callback)
    assert callback.said == said


def test_a_subclass_may_set_where_it_checks(tmp_path: Path) -> None:
    class Late(EarlyStopping):
        def __init__(self) -> None:
            super().__init__("train", patience=1)
            self._check_on_train_epoch_end = False

    with pytest.raises(nb.UsageError, match="no such metric") as raised:
        epochs_run(tmp_path, [1, 1], Late())  # at validation, where it is not logged yet
    assert isinstance(raised.value, RuntimeError)  # as in Lightning
    callback = Late()
    callback._check_on_train_epoch_end = True
    assert epochs_run(tmp_path, [1, 1, 1], callback) == 2


def test_check_on_train_epoch_end_checks_once_an_epoch(tmp_path: Path) -> None:
    callback = EarlyStopping("val", patience=3, check_on_train_epoch_end=True)

    assert epochs_run(tmp_path, [3.0] * 6, callback, val_check_interval=0.5) == 4


def test_the_sanity_check_is_no_check(tmp_path: Path) -> None:
    callback = EarlyStopping("val", patience=1, check_on_train_epoch_end=False)

    assert epochs_run(tmp_path, [3.0] * 5, callback, num_sanity_val_steps=-1) == 2


def test_min_epochs_comes_first(tmp_path: Path) -> None:
    callback = EarlyStopping("val", patience=1)

    assert epochs_run(tmp_path, [3.0] * 6, callback, min_epochs=4) == 4


RECOVERS = [5.0, 6.0, 7.0, 4.0, 3.0, 2.0, 1.0, 0.5]
WORSENS = [5.0, 6.0, 7.0, 8.0, 9.0, 9.0, 9.0, 9.0]
NAN = [5.0, float("nan"), 4.0, 3.0, 2.0, 1.0, 0.5, 0.4]


@pytest.mark.parametrize(
    ("values", "limits", "expected"),
    [
        (WORSENS, {}, 3),
        (WORSENS, {"min_epochs": 5}, 5),
        (WORSENS, {"min_steps": 9}, 5),
        (RECOVERS, {"min_epochs": 3}, 3),
        (RECOVERS, {"min_epochs": 5}, 8),
        (RECOVERS, {"min_steps": 9}, 8),
        (NAN, {"min_epochs": 4}, 8),
        (NAN, {}, 2),
    ],
)
def test_the_verdict_that_holds_is_the_last_before_min_epochs_and_min_steps(
    tmp_path: Path, values: list[float], limits: dict[str, Any], expected: int
) -> None:
    callback = nb.EarlyStopping("val", patience=2)

    assert epochs_run(tmp_path, values, callback, **limits) == expected
    assert bool(callback.stopping_reason_message) == (expected < 8)


@pytest.mark.parametrize("who", ["the user", "a command", "another early stopping"])
def test_who_takes_a_stop_back_takes_back_no_other(tmp_path: Path, who: str) -> None:
    class Also(nb.Callback):
        def on_train_epoch_end(self, trainer: nb.Trainer, module: Any) -> None:
            if trainer.current_epoch == 2 and who == "the user":
                trainer.should_stop = True
            if trainer.current_epoch == 2 and who == "a command":
                trainer.tell("fit", nb.Stop(reason="enough"))

    class Other(nb.EarlyStopping):
        pass

    other = Other("val", patience=9, divergence_threshold=0.1)
    callbacks = [
        nb.EarlyStopping("val", patience=2),
        other if who == "another early stopping" else Also(),
    ]
    run = trainer(tmp_path, max_epochs=8, min_epochs=5, callbacks=callbacks)
    run.fit(Scripted(RECOVERS), loader(8), loader(4))

    assert run.current_epoch == 5


def test_a_verdict_goes_on_where_a_checkpoint_was(tmp_path: Path) -> None:
    for max_steps, steps, ckpt_path in ((7, 7, None), (-1, 9, "last")):
        callback = nb.EarlyStopping("val", patience=2)
        options: dict[str, Any] = {"max_epochs": 8, "max_steps": max_steps, "min_steps": 9}
        run = trainer(tmp_path, callbacks=[callback], **options)
        run.fit(Scripted(WORSENS), loader(8), loader(4), ckpt_path=ckpt_path)
        assert run.global_step == steps


def test_a_metric_that_was_not_recorded_is_an_error_that_lists_what_was(tmp_path: Path) -> None:
    with pytest.raises(
        nb.UsageError, match=r"monitor='val_loss'.* recorded: train, train_loss, val"
    ):
        epochs_run(tmp_path, [1.0, 1.0], EarlyStopping("val_loss"))


def test_a_run_that_is_stopped_before_its_first_validation_lacks_no_metric(tmp_path: Path) -> None:
    assert epochs_run(tmp_path, [1, 1, 1], EarlyStopping("val"), max_steps=1) == 1


def test_a_metric_that_was_not_recorded_is_an_error_in_the_first_epoch_without_validation(
    tmp_path: Path,
) -> None:
    run = trainer(tmp_path, max_epochs=5, callbacks=[EarlyStopping("val_loss")])

    with pytest.raises(nb.UsageError, match="recorded: train_loss"):
        run.fit(Small(), loader())
    assert run.current_epoch == 0


def test_a_metric_that_was_not_recorded_is_passed_over_if_not_strict(tmp_path: Path) -> None:
    assert epochs_run(tmp_path, [1.0, 1.0], EarlyStopping("nothing", strict=False)) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "less"}, "mode='less': expected one of 'min', 'max'"),
        ({"patience": -1}, "patience=-1: expected an int of at least 0"),
        ({"patience": None}, "patience=None"),
        ({"min_delta": -0.1}, "min_delta=-0.1: expected a number of at least 0"),
        ({"monitor": ""}, "monitor='': expected the name of a metric"),
        ({"check_on_train_epoch_end": "yes"}, "check_on_train_epoch_end='yes'"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(nb.UsageError, match=message):
        EarlyStopping(**{"monitor": "val", **arguments})


def test_patience_goes_on_where_the_checkpoint_was(tmp_path: Path) -> None:
    values = [1.0, 2.0, 2.0, 2.0, 2.0]
    first = trainer(tmp_path, max_epochs=2, callbacks=[EarlyStopping("val")])
    first.fit(Scripted(values), loader(8), loader(4))
    callback = EarlyStopping("val")
    second = trainer(tmp_path, max_epochs=5, callbacks=[callback])
    second.fit(Scripted(values), loader(8), loader(4), ckpt_path=last(first))

    assert second.current_epoch == 4
    assert callback.best_score.item() == 1


def test_the_state_of_another_metric_is_not_taken_up() -> None:
    other, callback = EarlyStopping("train"), EarlyStopping("val")
    other.evaluate(1.0)

    callback.load_state_dict(other.state_dict())

    assert callback.best_score.item() == math.inf


def test_two_of_them_keep_their_own_states(tmp_path: Path) -> None:
    def pair() -> list[EarlyStopping]:
        return [EarlyStopping("val", patience=9), EarlyStopping("train", patience=8)]

    first = trainer(tmp_path, max_epochs=2, callbacks=pair())
    first.fit(Scripted([1.0, 2.0]), loader(8), loader(4))
    resumed = pair()
    second = trainer(tmp_path, max_epochs=2, callbacks=resumed)
    second.fit(Scripted([1.0, 2.0]), loader(8), loader(4), ckpt_path=last(first))

    assert [callback.wait_count for callback in resumed] == [1, 1]


@pytest.mark.parametrize("monitor", ["val", "train"])
def test_replay_stops_where_the_run_would_have_stopped(tmp_path: Path, monitor: str) -> None:
    values = [3.0, 2.0, 2.0, 2.0, 1.0]
    whole = trainer(tmp_path / "whole", max_epochs=5)
    whole.fit(Scripted(values), loader(8), loader(4))
    live, again = EarlyStopping(monitor, patience=2), EarlyStopping(monitor, patience=2)
    epochs_run(tmp_path / "stopped", values, live)
    assert whole.run_folder is not None

    result = nb.replay(whole.run_folder, actors=[again])

    (told,) = result.commands
    assert told.command == nb.Stop(reason=str(live.stopping_reason_message))
    assert again.stopped_epoch == live.stopped_epoch == 3
    assert torch.equal(again.best_score, live.best_score)


def test_replay_of_a_run_that_goes_on_improving_stops_nowhere(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=4)
    run.fit(Scripted([4, 3, 2, 1]), loader(8), loader(4))
    assert run.run_folder is not None

    assert nb.replay(run.run_folder, actors=[EarlyStopping("val", patience=1)]).commands == []


def test_replay_says_what_was_recorded_instead(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=1)
    run.fit(Scripted([4]), loader(8), loader(4))
    assert run.run_folder is not None

    with pytest.raises(nb.UsageError, match="recorded: train, train_loss, val"):
        nb.replay(run.run_folder, actors=[EarlyStopping("loss")])


def test_verbose_prints_each_best_value_and_the_stop(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    epochs_run(tmp_path, [3, 2, 4], EarlyStopping("val", patience=1, verbose=True))

    assert capsys.readouterr().err.splitlines() == [
        "EarlyStopping: best val so far: 3",
        "EarlyStopping: best val so far: 2, before: 3",
        "EarlyStopping: val did not improve in the last 1 check; best: 2",
    ]


def test_the_check_may_be_overridden_to_begin_later(tmp_path: Path) -> None:
    class WarmsUp(EarlyStopping):
        def _run_early_stopping_check(self, trainer: Any, *_: Any) -> None:
            if trainer.current_epoch >= 3:
                super()._run_early_stopping_check(trainer)

    assert epochs_run(tmp_path, [1, 2, 3, 4, 5, 6], WarmsUp("val", patience=1)) == 5


def test_the_check_may_be_made_in_another_hook(tmp_path: Path) -> None:
    class EachBatch(EarlyStopping):
        def on_validation_end(self, trainer: Any, module: Any) -> None:
            return

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if not self._should_skip_check(trainer):
                self._run_early_stopping_check(trainer)

    callback = EachBatch("train_loss", stopping_threshold=100.0)
    run = trainer(tmp_path, max_epochs=2, callbacks=[callback])
    run.fit(Small(), loader(8))

    assert run.global_step == 1
