"""A short form of rank_trials.py; ``make faults-of-ranks`` runs hundreds of rounds."""

from pathlib import Path

import pytest
from rank_trials import Trial, run_trials


def test_a_stopped_rank_0_is_not_killed_before_all_have_begun(tmp_path: Path) -> None:
    trial = Trial(tmp_path, seed=104, number=10)

    assert str(trial).startswith("SIGSTOP on rank 0 of 2 (devices)")
    assert not trial._others_are_gone(tmp_path)


@pytest.mark.long
def test_ranks_of_which_one_fails_end_as_documented_and_their_run_goes_on() -> None:
    done = run_trials(rounds=3, seed=2)

    assert len(done) >= 3
    assert [each.problems for each in done if each.problems] == []
