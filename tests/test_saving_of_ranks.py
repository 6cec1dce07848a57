"""Two ranks decide alike what is saved, also if the disk is full; each save can be resumed."""

from pathlib import Path
from typing import Any

import pytest
from ranks import found_by_ranks

pytestmark = pytest.mark.long
Found = list[dict[str, Any]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What the cases found, by rank."""
    return found_by_ranks(tmp_path_factory.mktemp("ranks"), "ranks_saving.py")


@pytest.mark.parametrize(
    "case", ["full_in_between", "full_at_the_end", "full_and_nothing_but_the_runs_own"]
)
def test_ranks_go_on_after_a_checkpoint_that_could_not_be_written_and_name_the_same_ones(
    case: str, found: Found
) -> None:
    assert found[0][case] == found[1][case]


def test_the_last_checkpoint_that_could_be_written_is_the_last(found: Found) -> None:
    last = Path(found[1]["full_at_the_end"]["last"])
    assert last.is_dir()
    assert last.name == "newest-epoch=2"
    assert (last.parent / "last").resolve() == last.resolve()


@pytest.mark.parametrize(
    "case", ["saved_by_command", "stopped_by_command", "saved_by_sigusr1", "ended_by_sigterm"]
)
def test_what_was_saved_on_request_in_an_epoch_is_resumed_to_the_bit(
    case: str, found: Found
) -> None:
    for of_rank in found:
        assert of_rank[case] == of_rank["unstopped"]


def test_what_all_ranks_save_with_save_checkpoint_is_resumed_to_the_bit(found: Found) -> None:
    for of_rank in found:
        saved = of_rank["saved_by_user"]
        assert saved["resumed"] == [of_rank["unstopped"]] * 2
        assert saved["has_weights"]


def test_save_checkpoint_on_one_rank_alone_ends_with_a_warning_that_names_the_line(
    found: Found,
) -> None:
    of_zero, of_one = (of_rank["saved_by_user_on_one_rank"] for of_rank in found)
    assert of_zero["steps"] == of_one["steps"] == 18
    assert of_zero["found"] == ["zero", "zero-after"]
    assert of_zero["warnings"].count("holds the state of rank 0 only") == 2
    assert of_one["warnings"].count("this rank saves nothing") == 1
    for each in (of_zero, of_one):
        assert "move the call out of the `if`" in each["warnings"]
        assert "ranks_saving.py:" in each["warnings"]


def test_what_a_rank_has_gathered_may_be_of_any_size(found: Found) -> None:
    assert [of_rank["with_large_states"] for of_rank in found] == [[0.0, 0.0], [0.0, 3000.0]]


def test_a_state_of_one_rank_that_cannot_be_saved_is_reported_and_training_goes_on(
    found: Found,
) -> None:
    (last, epochs, told), of_one = (
        of_rank["with_a_state_that_cannot_be_saved"] for of_rank in found
    )
    assert (last, epochs) == ("None", 1)
    assert "the state of rank 1: " in told
    assert of_one[:2] == ["None", 1]
