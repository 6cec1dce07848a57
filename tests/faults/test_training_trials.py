"""A short form of training_trials.py; the long one, ``make faults``, has hundreds of rounds."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

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
    report, said = run_trials("--rounds", "14", "--seed", "6")

    assert report["violations"] == 0, said
    assert report["rounds"] >= 14
    assert len(report["kinds"]) > 5


@pytest.mark.parametrize(
    ("sabotage", "trial", "found"),
    [
        ("forgets random numbers", "3", "nightbus diff, after"),
        ("writes in place", "4", "a checkpoint does not load"),
        ("leaves temporary files", "2", "a temporary file is left behind"),
    ],
)
def test_the_trials_find_out(sabotage: str, trial: str, found: str) -> None:
    report, said = run_trials("--seed", "6", "--trial", trial, "--sabotage", sabotage)

    assert report["violations"] > 0
    assert found in said
    assert f"--seed 6 --trial {trial}" in said
