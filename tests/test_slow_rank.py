"""A rank that is slow in its own backward, in which all wait for each other, is found."""

from pathlib import Path

import pytest
from ranks import found_by_ranks
from ranks_slow import SLOW, STEPS

import nightbus as nb
from nightbus.bus.inspection.waits import compare_ranks

pytestmark = pytest.mark.long


def test_a_rank_that_is_slow_in_backward_is_named_with_that_phase(tmp_path: Path) -> None:
    found = found_by_ranks(tmp_path, "ranks_slow.py")
    assert found[0]["slow_in_backward"] == STEPS
    (folder,) = (tmp_path / "runs").iterdir()
    report = compare_ranks(nb.RunFolder.open(folder))
    assert report.knows_backward
    assert [(each.rank, each.phase) for each in report.stragglers] == [(SLOW, "backward")]
