"""A short form of rank_trials.py; ``make faults-of-ranks`` runs hundreds of rounds."""

import pytest
from rank_trials import run_trials


@pytest.mark.long
def test_ranks_of_which_one_fails_end_as_documented_and_their_run_goes_on() -> None:
    done = run_trials(rounds=3, seed=2)

    assert len(done) >= 3
    assert [each.problems for each in done if each.problems] == []
