"""What one of two ranks commands or ends, both do alike; scripts of several runs go on together."""

from typing import Any

import pytest
from ranks import found_by_ranks
from ranks_commands import LIMIT

pytestmark = pytest.mark.long
Found = list[dict[str, Any]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What the cases found, by rank."""
    return found_by_ranks(tmp_path_factory.mktemp("ranks"), "ranks_commands.py")


@pytest.mark.parametrize(
    "case",
    [
        "should_stop_within_an_epoch",
        "should_stop_at_the_end_of_a_validation",
        "the_timer_of_one_rank",
        "max_time_of_one_rank",
    ],
)
def test_what_stops_one_rank_stops_both_after_the_same_step(case: str, found: Found) -> None:
    assert found[0][case] == found[1][case]
    assert 0 < found[0][case]["steps"] < LIMIT


def test_the_end_of_an_epoch_on_one_rank_ends_it_on_both_after_the_same_batch(
    found: Found,
) -> None:
    assert found[0]["the_end_of_an_epoch"] == found[1]["the_end_of_an_epoch"]
    assert found[0]["the_end_of_an_epoch"]["last_batches"] < [17]


def test_a_validation_that_one_rank_asks_for_runs_on_both_after_the_same_step(
    found: Found,
) -> None:
    assert found[0]["a_validation"] == found[1]["a_validation"]
    (step,) = found[0]["a_validation"]["validated"]
    assert 3 < step < 18


def test_a_pause_of_one_rank_holds_both_until_either_resumes(found: Found) -> None:
    case = "a_pause_until_the_other_rank_resumes"
    assert found[0][case] == found[1][case]
    assert found[0][case]["steps"] == 30


def test_predict_returns_the_ranks_own_part_in_the_order_of_the_data(found: Found) -> None:
    assert [of_rank["predictions"]["returned"] for of_rank in found] == [[0, 2, 4, 6], [1, 3, 5]]


def test_a_prediction_writer_gets_the_indices_that_put_the_parts_in_order(found: Found) -> None:
    for of_rank in found:
        assert of_rank["predictions"]["indices"] == [[0, 2, 4, 6], [1, 3, 5]]
        assert of_rank["predictions"]["whole"] == list(range(7))


def test_a_function_that_makes_its_trainers_gives_the_same_each_time(found: Found) -> None:
    first, second = found[0]["a_function_called_twice"]
    assert first == second
    assert found[1]["a_function_called_twice"] == [first, second]


def test_a_trainer_fits_again_and_predicts(found: Found) -> None:
    assert found[0]["a_trainer_used_again"] == found[1]["a_trainer_used_again"]
    assert found[0]["a_trainer_used_again"]["steps"] == 10
