"""A short form of training_trials.py; the long one, ``make faults``, has hundreds of rounds."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parent / "training_trials.py"


def run_trials(*options: str) -> tuple[dict[str, Any], str]:
    """What the trials report, and what they say of violations."""
    # A process of its own: the trials fork, which needs one without threads.
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *options], capture_output=True, text=True, check=False
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_trainings_that_are_stopped_at_random_are_the_same_as_undisturbed_ones() -> None:
    report, said = run_trials("--rounds", "10", "--seed", "6")

    assert report["violations"] == 0, said
    assert report["rounds"] >= 10
    assert len(report["kinds"]) > 3  # how many differ depends on when each process ends


def test_the_trials_find_out_a_resumed_run_that_draws_other_random_numbers() -> None:
    report, said = run_trials(
        "--rounds", "9", "--seed", "6", "--sabotage", "forgets random numbers"
    )

    assert report["violations"] > 0
    assert "nightbus diff, after" in said
    assert "again: python tests/faults/training_trials.py --seed 6 --trial" in said
