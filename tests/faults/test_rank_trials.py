"""A short form of rank_trials.py; ``make faults-of-ranks`` runs hundreds of rounds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "rank_trials.py"


@pytest.mark.long
def test_ranks_of_which_one_fails_end_as_documented_and_their_run_goes_on() -> None:
    command = [sys.executable, str(SCRIPT), "--rounds", "3", "--seed", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout.splitlines()[-1])

    assert report["violations"] == 0, done.stderr
    assert report["rounds"] >= 3
