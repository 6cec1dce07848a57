"""Two ranks that are stopped and resumed go on as if they had not been, to the bit."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from ranks import DEVICES, found_by_ranks
from ranks_resume import fit

import nightbus as nb

pytestmark = pytest.mark.long
Found = list[dict[str, Any]]


@pytest.fixture(scope="module", params=DEVICES)
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What the cases found, by rank."""
    return found_by_ranks(tmp_path_factory.mktemp("ranks"), "ranks_resume.py", request.param)


@pytest.mark.parametrize("case", ["between_epochs", "in_the_middle_of_an_epoch"])
def test_a_resumed_run_has_the_weights_and_metrics_of_one_that_was_not_stopped(
    case: str, found: Found
) -> None:
    for of_rank in found:
        resumed, unstopped = of_rank[case]
        assert resumed == unstopped
    assert found[0][case] == found[1][case]


def test_all_ranks_know_the_same_best_checkpoint(found: Found) -> None:
    assert found[0]["best"] == found[1]["best"]
    assert Path(found[0]["best"]).is_dir()


class Steps(nb.Actor):
    """Counts the steps of each rank."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[int, int]] = Counter()

    @nb.on(nb.Hook, name="optimizer_step")
    async def count(self, hook: nb.Hook) -> None:
        self.counts[hook.rank, hook.step] += 1


def test_each_rank_supersedes_of_its_own_log_what_came_after_the_checkpoint(found: Found) -> None:
    steps = Steps()
    nb.replay(found[0]["from_the_past"], actors=[steps], rank="all")

    assert {rank for rank, _ in steps.counts} == {0, 1}
    assert set(steps.counts.values()) == {1}
    assert len(steps.counts) == 2 * len({step for _, step in steps.counts})


def test_a_limit_of_time_ends_all_ranks_after_the_same_step(found: Found) -> None:
    assert found[0]["timed"] == found[1]["timed"]


def test_another_number_of_ranks_goes_on_from_between_two_epochs(
    found: Found, tmp_path: Path
) -> None:
    between = found[0]["left_for_one_process"]
    assert fit(str(tmp_path), between).current_epoch == 3
