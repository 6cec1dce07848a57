"""A run that is stopped in the middle of an epoch goes on with another number of ranks."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks import found_by_ranks
from ranks_fit import trainer
from ranks_resharding import SAMPLES, Numbered, fit, numbered

from nightbus.bus.errors import CheckpointError

pytestmark = pytest.mark.long
Found = list[dict[str, Any]]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one process has trained on, without a stop."""
    return fit(str(tmp_path_factory.mktemp("alone")), 8, 3)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What the cases found, by rank."""
    folder = tmp_path_factory.mktemp("ranks")
    alone = fit(str(folder / "left"), 8, 3, max_steps=4)
    (folder / "left.json").write_text(json.dumps(alone))
    return found_by_ranks(folder, "ranks_resharding.py")


def by_step(*of_ranks: dict[str, Any]) -> dict[int, list[int]]:
    """The samples of each step, of all ranks."""
    steps = sorted({int(step) for each in of_ranks for step in each["seen"]})
    return {
        step: sorted(n for each in of_ranks for n in each["seen"].get(str(step), []))
        for step in steps
    }


def left(case: dict[str, Any], folder: Path) -> Path:
    """The checkpoint of a run that was left, in a copy of it that may be resumed."""
    copy = folder / "runs" / Path(case["run"]).name
    shutil.copytree(case["run"], copy, symlinks=True)
    return copy / "checkpoints" / "last"


def test_one_process_with_the_double_batch_goes_on_with_the_samples_of_two(
    found: Found, tmp_path: Path
) -> None:
    whole = by_step(*(of_rank["whole"] for of_rank in found))
    resumed = fit(str(tmp_path), 8, 5, left(found[0]["stopped"], tmp_path))
    assert by_step(resumed) == {step: whole[step] for step in range(2, 12)}
    expected = found[0]["whole"]
    assert resumed["weights"] == pytest.approx(expected["weights"], rel=1e-5, abs=1e-6)
    assert resumed["metrics"] == pytest.approx(expected["metrics"])


def test_two_ranks_go_on_with_the_samples_of_one_process(
    found: Found, alone: dict[str, Any]
) -> None:
    resumed = by_step(*(of_rank["taken_over"] for of_rank in found))
    expected = by_step(alone)
    assert resumed[4] == expected[4]
    assert resumed[5] == expected[5]  # the last step of the epoch in which it was left
    second = sorted(n for step in range(6, 12) for n in resumed[step])
    assert second == list(range(SAMPLES))


def test_another_batch_of_all_ranks_goes_on_with_the_next_whole_one(
    found: Found, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = by_step(*(of_rank["stopped"] for of_rank in found))
    resumed = fit(str(tmp_path), 6, 5, left(found[0]["stopped"], tmp_path))
    first = [n for step, numbers in by_step(resumed).items() if step < 7 for n in numbers]
    trained_on = [n for numbers in before.values() for n in numbers]
    assert len(trained_on) == 16
    assert "2 samples of this epoch are left out" in capsys.readouterr().err
    assert len(first) == SAMPLES - 16 - 2
    assert not set(first) & set(trained_on)
    assert len(set(first)) == len(first)


def test_what_was_accumulated_for_a_step_that_was_not_made_is_read_again(
    found: Found, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole_run = found[0]["stopped_in_an_accumulation"]
    whole = by_step(*(of_rank["stopped_in_an_accumulation"] for of_rank in found))
    resumed = fit(str(tmp_path), 8, 5, whole_run["last"], accumulate_grad_batches=2)
    assert "8 are read again" in capsys.readouterr().err
    assert by_step(resumed) == {step: whole[step] for step in range(1, 6)}
    assert resumed["weights"] == pytest.approx(whole_run["weights"], rel=1e-5, abs=1e-6)


def test_the_log_says_that_another_number_of_ranks_goes_on(found: Found, tmp_path: Path) -> None:
    exact = fit(str(tmp_path), 8, 5, left(found[0]["stopped"], tmp_path / "a"), max_steps=3)
    assert exact["resharded"] == [[2, 1, True]]
    other = fit(str(tmp_path), 6, 5, left(found[0]["stopped"], tmp_path / "b"), max_steps=4)
    assert other["resharded"] == [[2, 1, False]]
    assert found[0]["taken_over"]["resharded"] == [[1, 2, True]]


def test_data_whose_parts_are_the_users_is_refused_in_the_middle_of_an_epoch(
    found: Found, tmp_path: Path
) -> None:
    class Stream(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Any:
            yield from [(torch.zeros(5), torch.zeros(1), 0)] * SAMPLES

    checkpoint = left(found[0]["stopped"], tmp_path)
    stream = torch.utils.data.DataLoader(Stream(), batch_size=8)
    for data in (stream, [stream], {"a": numbered(4), "b": numbered(4)}):
        with pytest.raises(CheckpointError, match="resume with 2 devices"):
            trainer(default_root_dir=tmp_path, max_epochs=2).fit(
                Numbered(), data, ckpt_path=checkpoint
            )
