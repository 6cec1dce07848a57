"""Two ranks evaluate each sample once, and log, monitor and stop by the values of both."""

import math
from pathlib import Path
from typing import Any

import pytest
from helpers import read_to_end
from ranks import DEVICES, found_by_ranks
from ranks_fit import trainer
from ranks_log import SAMPLES, Evaluated, numbered

from nightbus.bus.events import Put

pytestmark = pytest.mark.long
Found = list[dict[str, Any]]


@pytest.fixture(scope="module", params=DEVICES)
def device(request: pytest.FixtureRequest) -> Any:
    """What the ranks are on."""
    return request.param


@pytest.fixture(scope="module")
def folder(device: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the program runs."""
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def found(folder: Path, device: str) -> Found:
    """What the cases found, by rank."""
    return found_by_ranks(folder, "ranks_log.py", device)


@pytest.mark.parametrize("case", ["validated", "tested_with_torchmetrics"])
def test_an_evaluation_reads_each_sample_exactly_once(case: str, found: Found) -> None:
    seen = [number for of_rank in found for number in of_rank[case]["seen"]]
    assert sorted(seen) == list(range(SAMPLES))


def test_a_validation_has_the_results_of_one_process(found: Found) -> None:
    results = trainer().validate(Evaluated(), numbered(), verbose=False)
    for of_rank in found:
        spread = of_rank["validated"]["results"][0].pop("val_spread")
        assert spread == 8.0  # a function gets the values of all ranks' batches
        assert of_rank["validated"]["results"] == [
            {name: value for name, value in results[0].items() if name != "val_spread"}
        ]


def test_torchmetrics_have_the_value_of_one_process(found: Found) -> None:
    results = trainer().test(Evaluated(), numbered(), verbose=False)
    for of_rank in found:
        assert of_rank["tested_with_torchmetrics"]["results"] == results


def test_a_rank_without_a_batch_has_the_results_of_the_others(found: Found) -> None:
    for of_rank in found:
        assert of_rank["validated_on_one_sample"][0]["val_mean"] == 0.0


def test_predictions_of_a_rank_are_those_of_its_part(found: Found) -> None:
    assert [of_rank["predicted"] for of_rank in found] == [[0, 2, 4, 6, 8, 10], [1, 3, 5, 7, 9]]


def test_with_sync_dist_callbacks_read_the_steps_value_of_all_ranks(found: Found) -> None:
    for of_rank in found:
        for read in of_rank["logged"]["at_batches"]:
            assert (read["both"], read["both_step"]) == (0.5, 0.5)
            assert read["most"] == 1.0


def test_a_mean_over_ranks_is_weighted_by_batch_size(found: Found) -> None:
    for of_rank in found:
        assert of_rank["logged"]["at_batches"][0]["weighted"] == 0.75


def test_what_one_rank_alone_logs_is_known_to_all(found: Found) -> None:
    for of_rank in found:
        assert of_rank["logged"]["at_batches"][0]["of_one"] == 7.0
        assert of_rank["logged"]["at_end"]["of_one_epoch"] == 7.0


RIDING = ["logged_with_gradients", "logged_while_accumulating"]


@pytest.mark.parametrize("case", RIDING)
def test_values_of_a_step_are_those_of_all_ranks_however_they_are_exchanged(
    case: str, found: Found
) -> None:
    first, second = (of_rank[case]["at_batches"] for of_rank in found)
    assert len(first) == 5
    for batch_idx, (mine, others) in enumerate(zip(first, second, strict=True)):
        assert (mine["sum"], mine["not_always"]) == (3.0, 0.5)
        assert batch_idx == 2 or mine["late"] == 0.5  # there, rank 1 may have no backward
        assert math.isnan(mine["broken"])
        assert mine["loss"] == others["loss"]


@pytest.mark.parametrize("case", RIDING)
def test_what_is_logged_changes_nothing_in_training_even_if_it_is_not_finite(
    case: str, found: Found
) -> None:
    assert all(of_rank[case]["trains_the_same"] for of_rank in found)


def test_means_that_are_logged_before_the_backward_take_no_exchange_of_their_own(
    found: Found,
) -> None:
    for of_rank in found:
        calls = of_rank["exchanges_for_a_mean"]
        assert calls == [calls[0]] * 5  # the first is where the name is agreed on


def test_without_sync_dist_or_on_rank_zero_only_a_value_is_the_ranks_own(found: Found) -> None:
    first, second = (of_rank["logged"]["at_end"] for of_rank in found)
    assert (first["own"], second["own"]) == (0.0, 1.0)
    assert first["of_zero"] == 5.0
    assert "of_zero" not in second


@pytest.mark.usefixtures("found")
def test_each_rank_has_its_own_values_in_its_log_and_rank_0_those_of_all(folder: Path) -> None:
    puts: list[set[float]] = []
    for rank in (0, 1):
        (log,) = folder.glob(f"runs/*/attempt-000/rank-{rank:05}")
        events, _ = read_to_end(log)
        puts.append({e.value for e in events if isinstance(e, Put) and e.name == "both_step"})
    assert puts == [{0.5}, {1.0}]


def test_early_stopping_and_schedulers_decide_the_same_on_all_ranks(found: Found) -> None:
    assert found[0]["stopped_early"] == found[1]["stopped_early"]
    assert found[0]["stopped_early"]["epochs"] == 3
    assert found[0]["stopped_early"]["rate"] < 0.05
