"""After which batches of training validation runs."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from models import Small, dataset, loader, trainer
from torch.utils.data import DataLoader, IterableDataset

import nightbus as nb
from nightbus.actors.data.validation_schedule import ValidationSchedule


class Stream(IterableDataset[Any]):
    """8 batches of 1, without a length."""

    def __iter__(self) -> Iterator[Any]:
        points = dataset(8)
        yield from (points[number] for number in range(8))


class Counts(Small):
    """Notes after how many batches it validates."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = 0
        self.validated_after: list[int] = []

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.batches += 1

    def on_validation_start(self) -> None:
        self.validated_after.append(self.batches)


def validated_after(folder: Path, data: Any = None, **options: Any) -> list[int]:
    module = Counts()
    run = trainer(folder, **{"max_epochs": 3, "num_sanity_val_steps": 0, **options})
    run.fit(module, loader(8, 1) if data is None else data, loader(4))
    return module.validated_after


SHARES: list[tuple[float | None, int | None, list[int]]] = [
    (0.5, 1, [4, 8, 12, 16, 20, 24]),
    (0.3, 3, [18, 20, 22, 24]),
    (0.01, 3, [17, 18, 19, 20, 21, 22, 23, 24]),
]
OTHERS: list[tuple[float | None, int | None, list[int]]] = [
    (1.0, 1, [8, 16, 24]),
    (None, 1, [8, 16, 24]),
    (1.0, 2, [16]),
    (1, 3, [17, 18, 19, 20, 21, 22, 23, 24]),
    (3, 1, [3, 6, 11, 14, 19, 22]),
    (3, 2, [11, 14]),
    (8, 1, [8, 16, 24]),
    (5, None, [5, 10, 15, 20]),
    (8, None, [8, 16, 24]),
    (12, None, [12, 24]),
    (25, None, []),
    (1.0, None, [8, 16, 24]),
]


@pytest.mark.parametrize(("interval", "every_n_epochs", "expected"), [*SHARES, *OTHERS])
def test_validation_runs_when_it_is_due(
    tmp_path: Path, interval: float | None, every_n_epochs: int | None, expected: list[int]
) -> None:
    options = {"val_check_interval": interval, "check_val_every_n_epoch": every_n_epochs}

    assert validated_after(tmp_path, **options) == expected


@pytest.mark.parametrize(("interval", "every_n_epochs", "expected"), OTHERS)
def test_validation_in_a_stream_runs_when_it_is_due(
    tmp_path: Path, interval: float | None, every_n_epochs: int | None, expected: list[int]
) -> None:
    options = {"val_check_interval": interval, "check_val_every_n_epoch": every_n_epochs}

    assert validated_after(tmp_path, DataLoader(Stream(), 1), **options) == expected


def test_batches_are_counted_whatever_is_accumulated(tmp_path: Path) -> None:
    options: dict[str, Any] = {"val_check_interval": 3, "accumulate_grad_batches": 2}

    assert validated_after(tmp_path, max_epochs=1, **options) == [3, 6]


def test_batches_over_epochs_are_those_that_a_limit_leaves(tmp_path: Path) -> None:
    options: dict[str, Any] = {"val_check_interval": 7, "check_val_every_n_epoch": None}

    assert validated_after(tmp_path, limit_train_batches=5, **options) == [7, 14]


@pytest.mark.parametrize(
    "never", ["00:01:00:00", timedelta(hours=1), {"hours": 1}, {"minutes": 60}, "01:00:00:00"]
)
def test_a_time_that_is_not_over_validates_nothing(tmp_path: Path, never: Any) -> None:
    assert validated_after(tmp_path, val_check_interval=never) == []


@pytest.mark.parametrize("at_once", ["00:00:00:00", timedelta(), {"seconds": 0}])
def test_a_time_that_is_over_validates_after_the_batch(tmp_path: Path, at_once: Any) -> None:
    assert validated_after(tmp_path, max_epochs=1, val_check_interval=at_once) == [*range(1, 9)]


def test_a_time_goes_with_every_nth_epoch(tmp_path: Path) -> None:
    options: dict[str, Any] = {"val_check_interval": timedelta(), "check_val_every_n_epoch": 2}

    assert validated_after(tmp_path, **options) == [*range(9, 17)]


@pytest.mark.parametrize("every_n_epochs", [1, None])
def test_a_time_goes_with_a_stream(tmp_path: Path, every_n_epochs: int | None) -> None:
    options: dict[str, Any] = {"check_val_every_n_epoch": every_n_epochs, "max_epochs": 1}

    found = validated_after(
        tmp_path, DataLoader(Stream(), 1), val_check_interval="00:00:00:00", **options
    )

    assert found == [*range(1, 9)]


def test_the_time_since_validation_goes_on_where_a_checkpoint_was() -> None:
    before = ValidationSchedule(timedelta(hours=1), 1)
    before.begin()
    state = before.state_dict()
    resumed = ValidationSchedule(timedelta(hours=1), 1)

    resumed.load_state_dict({"since_s": 3600.0})
    assert resumed.is_due(0, 0, 1, False)

    resumed.load_state_dict(state)
    assert not resumed.is_due(0, 0, 1, False)


@pytest.mark.parametrize("interval", [3, 7, 0.4])
def test_a_run_that_was_stopped_validates_as_one_that_was_not(
    tmp_path: Path, interval: float
) -> None:
    options: dict[str, Any] = {
        "val_check_interval": interval,
        "check_val_every_n_epoch": 1 if isinstance(interval, float) else None,
    }
    whole = validated_after(tmp_path / "whole", max_epochs=2, **options)
    for stop in (3, 6, 7, 8, 11):
        parts = [Counts(), Counts()]
        for part, max_steps, ckpt_path in ((parts[0], stop, None), (parts[1], -1, "last")):
            run = trainer(
                tmp_path / str(stop),
                max_epochs=2,
                max_steps=max_steps,
                num_sanity_val_steps=0,
                **options,
            )
            run.fit(part, loader(8, 1), loader(4), ckpt_path=ckpt_path)

        first, rest = parts
        assert first.validated_after + [stop + n for n in rest.validated_after] == whole


# -- where there is nothing to validate, or little ----------------------------------------------


@pytest.mark.parametrize("interval", [50, 0.25, "00:01:00:00"])
def test_fast_dev_run_validates_once_whatever_the_interval_is(
    tmp_path: Path, interval: Any
) -> None:
    assert validated_after(tmp_path, fast_dev_run=2, val_check_interval=interval) == [2]


def test_fast_dev_run_validates_in_its_epoch(tmp_path: Path) -> None:
    options: dict[str, Any] = {"val_check_interval": 50, "check_val_every_n_epoch": None}

    assert validated_after(tmp_path, fast_dev_run=True, **options) == [1]
    assert validated_after(tmp_path, fast_dev_run=True, check_val_every_n_epoch=5) == [1]


def test_without_validation_no_interval_is_too_long(tmp_path: Path) -> None:
    assert validated_after(tmp_path, limit_val_batches=0, val_check_interval=50) == []

    trainer(tmp_path, val_check_interval=50).fit(Small(), loader(8))


# -- what makes no sense ------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [{"val_check_interval": 9}, {"limit_train_batches": 8}])
def test_an_interval_beyond_the_epoch_is_refused_with_the_way_out(
    tmp_path: Path, limits: dict[str, Any]
) -> None:
    options: dict[str, Any] = {"val_check_interval": 9, **limits}

    with pytest.raises(nb.UsageError, match=r"more than the 8 batches .* check_val_every_n_epoch="):
        validated_after(tmp_path, **options)


def test_a_share_of_a_stream_is_refused(tmp_path: Path) -> None:
    with pytest.raises(nb.UsageError, match=r"0\.5 is a share, .* no length; set .* \(an int\)"):
        validated_after(tmp_path, DataLoader(Stream(), 1), val_check_interval=0.5)


@pytest.mark.parametrize(
    ("interval", "every_n_epochs", "message"),
    [
        (0, 1, "at least 1"),
        (0.0, 1, "at least 1"),
        (-1, 1, "val_check_interval=-1"),
        (1.5, 1, "a share is at most 1.0"),
        (True, 1, "val_check_interval=True"),
        ("1:00", 1, "val_check_interval='1:00': expected 'DD:HH:MM:SS'"),
        ({"years": 1}, 1, "keys of timedelta"),
        (timedelta(seconds=-1), 1, "at least 0"),
        (0.5, None, "share of an epoch, and check_val_every_n_epoch=None counts over epochs"),
        (1, 0, "check_val_every_n_epoch=0: expected an int of at least 1"),
        (1, 1.5, "check_val_every_n_epoch=1.5"),
    ],
)
def test_an_interval_that_makes_no_sense_is_refused(
    interval: Any, every_n_epochs: Any, message: str
) -> None:
    with pytest.raises(nb.UsageError, match=message):
        nb.Trainer(val_check_interval=interval, check_val_every_n_epoch=every_n_epochs)
