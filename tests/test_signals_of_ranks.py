"""What is asked on one of two ranks where no step is trained takes effect on both."""

from typing import Any

import pytest
from ranks import found_by_ranks

pytestmark = pytest.mark.long
Found = list[dict[str, Any]]
SIGTERM_CODE = 143


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What the cases found, by rank."""
    return found_by_ranks(tmp_path_factory.mktemp("ranks"), "ranks_asking.py")


def agreed(case: str, found: Found) -> Any:
    """On what both ranks acted at one point, who had asked, and in which stage."""
    of_ranks = [of_rank[case]["agreed"] for of_rank in found]
    assert of_ranks[0] == of_ranks[1]
    ((_, what, asked_by, stage),) = of_ranks[0]
    return what, asked_by, stage


@pytest.mark.parametrize(
    ("case", "rank"),
    [("while_the_run_is_opened", 1), ("during_set_up", 1), ("during_set_up_of_rank_0", 0)],
)
def test_a_signal_before_training_ends_all_after_the_same_step(
    case: str, rank: int, found: Found
) -> None:
    assert agreed(case, found) == ("end", rank, "train")
    assert found[0][case] == found[1][case]


@pytest.mark.parametrize(
    ("case", "rank", "stage"),
    [
        ("in_validation_of_the_rank_with_fewer_batches", 0, "validate"),
        ("in_prediction_without_a_batch", 0, "predict"),
        ("in_validation_within_training", 1, "validate"),
    ],
)
def test_sigterm_in_an_evaluation_ends_all_in_it_whatever_batches_they_have(
    case: str, rank: int, stage: str, found: Found
) -> None:
    assert agreed(case, found) == ("end", rank, stage)
    assert [of_rank[case]["code"] for of_rank in found] == [SIGTERM_CODE] * 2


def test_sigterm_in_the_sanity_check_ends_all_in_it_though_it_has_two_batches(
    found: Found,
) -> None:
    assert agreed("in_the_sanity_check", found) == ("end", 1, "sanity_check")
    assert [of_rank["in_the_sanity_check"]["code"] for of_rank in found] == [SIGTERM_CODE] * 2
    assert [of_rank["in_the_sanity_check"]["steps"] for of_rank in found] == [0, 0]


def test_ctrl_c_in_an_evaluation_interrupts_it_on_all_ranks(found: Found) -> None:
    case = "in_test_of_the_rank_with_more_batches"

    assert agreed(case, found) == ("end", 1, "test")
    assert [of_rank[case]["code"] for of_rank in found] == ["returned"] * 2
    assert [of_rank[case]["interrupted"] for of_rank in found] == [True, True]


def test_sigterm_in_validation_within_training_saves_the_run(found: Found) -> None:
    assert [of_rank["in_validation_within_training"]["is_saved"] for of_rank in found] == [True] * 2


def test_sigterm_after_the_last_step_ends_all_with_its_code(found: Found) -> None:
    for of_rank in found:
        assert of_rank["after_the_last_step"]["code"] == SIGTERM_CODE
        assert of_rank["after_the_last_step"]["steps"] == 2


def test_what_is_asked_in_validation_takes_effect_when_training_goes_on(found: Found) -> None:
    case = "should_stop_in_validation"

    assert agreed(case, found) == ("stop", 1, "validate")
    assert [of_rank[case]["code"] for of_rank in found] == ["returned"] * 2
    assert found[0][case]["steps"] == found[1][case]["steps"]


def test_a_stop_too_late_for_one_run_does_not_keep_the_next_from_being_stopped(
    found: Found,
) -> None:
    case = "a_stop_after_one_that_came_too_late"

    assert agreed(case, found) == ("nightbus.Stop", 1, "train")
    assert found[0][case]["steps"] == found[1][case]["steps"] < 3_000
