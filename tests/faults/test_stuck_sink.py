"""A sink that never returns costs a run no memory, and is known to be behind."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import DEADLINE_S

EVENTS = 300_000  # kept in memory, they would take four times the limit


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What the driver says of a short run."""
    script = Path(__file__).parent / "stuck_sink.py"
    done = subprocess.run(
        [sys.executable, str(script), "--events", str(EVENTS)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_memory_does_not_grow_behind_a_stuck_sink(found: dict[str, Any]) -> None:
    assert found["events"] > EVENTS
    assert found["grown_mib"] < 12


def test_a_stuck_sink_is_said_to_lag_and_keeps_its_place(found: dict[str, Any]) -> None:
    assert found["lag"] == EVENTS + 1  # all, and that the sink started
    assert found["unfinished"] == ["stuck"]
    assert found["to_refill"] == found["events"]
    assert found["ended"] == "completed"
