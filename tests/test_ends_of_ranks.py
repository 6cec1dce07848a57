"""Ranks whose data ends after different numbers of batches end their epochs together."""

from pathlib import Path
from typing import Any

import pytest
from ranks import DEVICES, found_by_ranks, run_ranks

pytestmark = pytest.mark.long
Found = list[dict[str, Any]]
TWO_EPOCHS_OF_5 = [*range(5), *range(5)]


@pytest.fixture(scope="module", params=DEVICES)
def device(request: pytest.FixtureRequest) -> Any:
    """What the ranks are on."""
    return request.param


@pytest.fixture(scope="module")
def found(device: str, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What the cases found, by rank."""
    return found_by_ranks(tmp_path_factory.mktemp("ranks"), "ranks_ends.py", device)


@pytest.mark.parametrize(
    "case",
    [
        "stream",
        "stream_with_hooks",
        "stream_accumulated",
        "stream_in_turn",
        "stream_by_hand",
        "stream_with_a_step_without_loss",
        "wrong_length",
    ],
)
def test_an_epoch_ends_on_all_ranks_with_the_data_of_the_first_that_ends(
    case: str, found: Found
) -> None:
    for of_rank in found:
        assert of_rank[case]["trained"] == TWO_EPOCHS_OF_5
        assert of_rank[case]["last"] == [4, 4]
    assert found[0][case]["bits"] == found[1][case]["bits"]


def test_the_last_batch_of_another_rank_ends_an_accumulation(found: Found) -> None:
    assert [of_rank["stream_accumulated"]["steps"] for of_rank in found] == [6, 6]


def test_the_end_is_told_with_the_gradients_so_that_a_step_has_no_exchange_more(
    device: str, found: Found
) -> None:
    own = found[0]["known_length"]["all_reduces"]
    # Gradients on a GPU would have to be waited for.
    expected = own if device == "cpu" else own + len(TWO_EPOCHS_OF_5)
    assert found[0]["stream"]["all_reduces"] == expected
    assert found[0]["stream_with_hooks"]["all_reduces"] == expected
    assert found[0]["stream_by_hand"]["all_reduces"] > own


def test_rank_0_warns_once_which_rank_has_left_batches_unread(found: Found) -> None:
    (warning,) = found[0]["stream"]["warnings"]
    assert "after 5 training batches of epoch 0, rank 1 has no more" in warning
    assert "so the epoch ends for all; rank 0 left at least 1 unread" in warning
    assert found[1]["stream"]["warnings"] == []


def test_of_a_known_length_all_that_is_left_is_counted(found: Found) -> None:
    (warning,) = found[0]["wrong_length"]["warnings"]
    assert "rank 1 has no more" in warning
    assert "rank 0 left 4 unread" in warning
    (of_rank_1,) = found[1]["wrong_length"]["warnings"]
    assert "says that it has 9 batches, but had 5" in of_rank_1


@pytest.mark.parametrize("case", ["stream_of_the_same_length", "limited", "known_length"])
def test_nothing_is_said_where_no_rank_has_anything_left(case: str, found: Found) -> None:
    assert found[0][case]["warnings"] == found[1][case]["warnings"] == []


def test_a_limit_holds_on_all_ranks(found: Found) -> None:
    for of_rank in found:
        assert of_rank["limited"]["trained"] == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize(
    ("case", "trained"),
    [
        ("resumed_before_the_common_end", [3, 4, 0, 1, 2, 3, 4]),
        ("resumed_at_the_common_end", [0, 1, 2, 3, 4]),
    ],
)
def test_a_run_that_is_resumed_ends_its_epochs_as_one_that_was_not(
    case: str, trained: list[int], found: Found
) -> None:
    for of_rank in found:
        assert of_rank[case]["trained"] == trained
        assert of_rank[case]["bits"][0] == of_rank[case]["bits"][1]


def test_a_rank_without_any_batch_is_an_error_before_the_epoch(tmp_path: Path) -> None:
    ended = run_ranks(
        tmp_path,
        """
        from ranks_ends import Stream
        from ranks_fit import Net, trainer
        trainer().fit(Net(), Stream(3, 0))
        """,
    )
    assert 0 not in [each.code for each in ended]
    assert any("rank 1 has no batches to train on in epoch 0" in each.err for each in ended)


def test_loaders_of_different_lengths_are_refused_with_their_lengths(tmp_path: Path) -> None:
    ended = run_ranks(
        tmp_path,
        """
        import os
        from ranks_fit import Net, loader, trainer
        samples = 8 if os.environ["RANK"] == "1" else 16
        trainer(use_distributed_sampler=False).fit(Net(), loader(samples=samples))
        """,
    )
    assert 0 not in [each.code for each in ended]
    assert any("(rank 0: 4, rank 1: 2)" in each.err for each in ended)
    assert any("limit_train_batches=2" in each.err for each in ended)
