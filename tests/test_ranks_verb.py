"""``nightbus ranks``: which rank the others waited for, in which phase, by how much."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import damage_the_middle
from recorded_ranks import MS, RecordedRank, Verb, record_ranks, verbs_in

import nightbus as nb
from nightbus.bus.events import RankLost
from nightbus.bus.inspection.waits import Straggler, WaitReport, compare_ranks

RANKS = 4
Late = Callable[[int, int], tuple[int, int, int, int]]
"""Of a rank and a step: the ns more in data, forward, backward and optimizer."""


@pytest.fixture
def nightbus(capsys: pytest.CaptureFixture[str]) -> Verb:
    return verbs_in(capsys)


def _nobody(rank: int, step: int) -> tuple[int, int, int, int]:
    return (0, 0, 0, 0)


def _record(
    root: Path, late: Late, steps: int = 300, is_marked: bool = True, ranks: int = RANKS
) -> nb.RunFolder:
    """Record ranks that meet at the end of each ``backward``, with some noise."""
    drawn = random.Random(1)
    took = [
        [
            tuple(5 * MS + drawn.randrange(MS) + more for more in late(rank, step))
            for rank in range(ranks)
        ]
        for step in range(steps)
    ]

    def record(rank: RecordedRank) -> None:
        before = [0] * ranks
        for times in took:
            come = [before[n] + sum(times[n][:3]) for n in range(ranks)]
            waits = max(come) - come[rank.rank]
            data, forward, backward, optimizer = times[rank.rank]
            rank.step(data, forward, backward, waits, optimizer, is_marked)
            rank.writer.flush()
            before = [own[3] for own in times]

    return record_ranks(root, range(ranks), record, ranks)


def _slow(guilty: int, phase: int) -> Late:
    def late(rank: int, step: int) -> tuple[int, int, int, int]:
        more = [0, 0, 0, 0]
        more[phase] = 8 * MS * (rank == guilty)
        return (more[0], more[1], more[2], more[3])

    return late


def _only_straggler(report: WaitReport) -> Straggler:
    (straggler,) = report.stragglers
    return straggler


@pytest.mark.parametrize("phase", ["data", "forward", "backward", "optimizer"])
def test_a_rank_that_is_slow_in_a_phase_is_named_with_the_phase(tmp_path: Path, phase: str) -> None:
    run = _record(tmp_path, _slow(2, ["data", "forward", "backward", "optimizer"].index(phase)))

    found = _only_straggler(compare_ranks(run))

    assert (found.rank, found.phase) == (2, phase)
    assert (found.first_step, found.last_step) == (0, 299)
    assert found.share > 0.95
    assert 7 < found.by_ms < 9


@pytest.mark.parametrize("phase", ["data", "forward", "optimizer"])
def test_without_the_mark_only_a_slow_backward_stays_hidden(tmp_path: Path, phase: str) -> None:
    at = ["data", "forward", "backward", "optimizer"].index(phase)
    named = compare_ranks(_record(tmp_path / "named", _slow(2, at), is_marked=False))
    hidden = compare_ranks(_record(tmp_path / "hidden", _slow(2, 2), is_marked=False))

    assert (_only_straggler(named).rank, _only_straggler(named).phase) == (2, phase)
    assert not named.knows_backward
    assert hidden.stragglers == []


def test_ranks_that_are_alike_are_not_accused(tmp_path: Path, nightbus: Verb) -> None:
    run = _record(tmp_path, _nobody)

    report = compare_ranks(run)
    shown = nightbus("ranks", run.path)

    assert report.stragglers == []
    assert sum(rank.waited_for for rank in report.ranks) == pytest.approx(1)
    assert "no rank is waited for more than others" in shown.stdout
    assert shown.returncode == 0


def test_a_rank_that_is_last_by_next_to_nothing_is_not_accused(tmp_path: Path) -> None:
    def late(rank: int, step: int) -> tuple[int, int, int, int]:
        return (2 * MS * (rank == 1), 0, 0, 0)

    def of_a_second(rank: int, step: int) -> tuple[int, int, int, int]:
        data, *_ = late(rank, step)
        return (data, 1_000 * MS, 0, 0)

    assert _only_straggler(compare_ranks(_record(tmp_path / "short", late))).rank == 1
    assert compare_ranks(_record(tmp_path / "long", of_a_second)).stragglers == []


def test_a_stretch_in_which_a_rank_was_slow_is_told_with_its_steps(
    tmp_path: Path, nightbus: Verb
) -> None:
    def late(rank: int, step: int) -> tuple[int, int, int, int]:
        return (0, 8 * MS * (rank == 3 and 200 <= step < 400), 0, 0)

    run = _record(tmp_path, late, steps=600)

    found = _only_straggler(compare_ranks(run))

    assert (found.rank, found.first_step, found.last_step) == (3, 200, 399)
    shown = nightbus("ranks", run.path).stdout
    assert "rank 3 was waited for in 100% of the steps 200 to 399, for " in shown


def test_fewer_steps_than_a_window_accuse_nobody(tmp_path: Path, nightbus: Verb) -> None:
    run = _record(tmp_path, _slow(1, 0), steps=99)

    assert compare_ranks(run).stragglers == []
    assert "99 steps that all ranks recorded are too few" in nightbus("ranks", run.path).stdout


def test_only_steps_that_all_ranks_have_are_compared(tmp_path: Path) -> None:
    """A rank that was killed has fewer."""

    def record(rank: RecordedRank) -> None:
        for _ in range(150 if rank.rank == 1 else 250):
            rank.step()
            rank.writer.flush()

    report = compare_ranks(record_ranks(tmp_path, range(2), record, 2))

    assert report.steps == 150
    assert [rank.steps for rank in report.ranks] == [250, 150]


def test_a_rank_without_a_loss_waits_while_the_others_compute_theirs(tmp_path: Path) -> None:
    def record(rank: RecordedRank) -> None:
        for _ in range(4):
            if rank.rank == 1:
                rank.step(forward=2 * MS, backward=0, waits=7 * MS, is_marked=True, has_loss=False)
            else:
                rank.step(forward=5 * MS, backward=4 * MS, is_marked=True)

    report = compare_ranks(record_ranks(tmp_path, range(2), record, 2))

    without = report.ranks[1]
    assert (without.forward_ms, without.backward_ms, without.waits_ms) == (2.0, 0.0, 7.0)
    assert report.ranks[0].waited_for == 1.0


def test_the_rest_of_a_step_made_by_hand_is_no_wait(tmp_path: Path) -> None:
    """Its backward may be one that nightbus does not see."""

    def record(rank: RecordedRank) -> None:
        for batch in range(4):
            rank.place.move(batch_idx=batch)
            with rank.in_hook("training_step"):
                rank.now_ns += MS
                rank.gradients_ready()
                rank.hook("on_before_optimizer_step")
                rank.place.complete_step(rank.place.step + 1)
                rank.now_ns += 5 * MS
            rank.hook("on_train_batch_end")

    report = compare_ranks(record_ranks(tmp_path, range(2), record, 2))

    assert (report.ranks[0].forward_ms, report.ranks[0].waits_ms) == (6.0, None)


def test_accumulated_batches_count_as_the_step_that_they_make(tmp_path: Path) -> None:
    def record(rank: RecordedRank) -> None:
        for batch in range(8):
            rank.place.move(batch_idx=batch)
            rank.now_ns += MS
            rank.hook("on_train_batch_start")
            rank.hook("training_step", 2 * MS)
            rank.hook("backward", 3 * MS)
            if batch % 2:
                rank.place.complete_step(rank.place.step + 1)
            rank.hook("on_train_batch_end")

    report = compare_ranks(record_ranks(tmp_path, range(2), record, 2))

    first = report.ranks[0]
    assert (first.steps, first.forward_ms, first.backward_ms) == (4, 4.0, 6.0)


def test_validation_between_batches_is_no_waiting_for_data(tmp_path: Path) -> None:
    def record(rank: RecordedRank) -> None:
        for _ in range(4):
            rank.step(data=MS)
            rank.place.move(stage="validate")
            rank.now_ns += 500 * MS
            rank.hook("on_validation_end")
            rank.place.move(stage="train")

    report = compare_ranks(record_ranks(tmp_path, range(2), record, 2))

    assert report.ranks[0].data_ms == pytest.approx(1, rel=0.3)


def test_the_ranks_are_listed_with_where_they_ran_and_what_was_lost(
    tmp_path: Path, nightbus: Verb
) -> None:
    def record(rank: RecordedRank) -> None:
        for _ in range(3):
            rank.step(data=2 * MS, forward=3 * MS)
        if rank.rank == 0:
            rank.add(RankLost, 1, "dead", "rank 1 ended: its process is gone", 7, "training_step")

    run = record_ranks(tmp_path, range(2), record, 3)

    report = json.loads(nightbus("ranks", run.path, "--json").stdout)
    shown = nightbus("ranks", run.path).stdout

    assert report["world_size"] == 3
    assert [(rank["host"], rank["pid"], rank["device"]) for rank in report["ranks"]] == [
        ("alpha", 1000, "cpu"),
        ("alpha", 1001, "cpu"),
    ]
    assert report["ranks"][0]["forward_ms"] == 3.0
    assert report["lost"][0]["rank"] == 1
    assert "lost: rank 1: rank 1 ended: its process is gone" in shown


def test_of_many_ranks_those_are_listed_that_were_waited_for_most(
    tmp_path: Path, nightbus: Verb
) -> None:
    run = _record(tmp_path, _slow(17, 1), steps=100, ranks=20)

    lines = nightbus("ranks", run.path).stdout.splitlines()

    assert lines[3].split()[0] == "17"
    assert "and 4 more ranks that were waited for less; --json has all" in lines
    assert len(json.loads(nightbus("ranks", run.path, "--json").stdout)["ranks"]) == 20


def test_a_run_without_hooks_is_refused_with_what_would_record_them(
    tmp_path: Path, nightbus: Verb
) -> None:
    run = record_ranks(tmp_path, range(2), RecordedRank.put, 2)

    shown = nightbus("ranks", run.path)

    assert shown.returncode == 2
    assert "recorded no training steps" in shown.stderr
    assert "recording='all'" in shown.stderr


def test_an_attempt_that_is_not_there_is_refused_with_those_that_are(
    tmp_path: Path, nightbus: Verb
) -> None:
    run = _record(tmp_path, _nobody, steps=2)

    shown = nightbus("ranks", run.path, "--attempt", "3")

    assert shown.returncode == 2
    assert "has no attempt 3; its attempts are: 0" in shown.stderr


def test_after_a_test_the_training_before_it_is_compared(tmp_path: Path) -> None:
    run = _record(tmp_path, _nobody, steps=2, ranks=2)
    run.begin_attempt().release()
    for rank in range(2):
        RecordedRank(run, rank, 2, attempt=1).end()

    assert compare_ranks(run).attempt == 0


def test_damage_of_one_log_is_said_and_the_rest_is_compared(tmp_path: Path, nightbus: Verb) -> None:
    run = _record(tmp_path, _nobody, steps=300)
    damage_the_middle(run.store(0, 1).path(0))

    shown = nightbus("ranks", run.path)

    assert shown.returncode == 3
    assert "rank 1: segment 0: a frame" in shown.stderr
    assert "no rank is waited for more than others" in shown.stdout
