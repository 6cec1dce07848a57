"""The verbs that read runs of several ranks: all of them, or the one that ``--rank`` names."""

import json
import shutil
from pathlib import Path

import pytest
from helpers import damage_the_middle, read_log
from recorded_ranks import BEGAN_NS, MS, RecordedRank, Verb, record_ranks, verbs_in

import nightbus as nb
from nightbus.bus.errors import RunFolderError
from nightbus.bus.events import ClockOffset, Fork, RankLost
from nightbus.bus.inspection.report import summarise
from nightbus.bus.inspection.tail import EventFilter, TailPosition, follow


@pytest.fixture
def nightbus(capsys: pytest.CaptureFixture[str]) -> Verb:
    return verbs_in(capsys)


def _put_in_turns(rank: RecordedRank) -> None:
    """Ranks put a loss one after the other, a ms apart: the rank, and a hundredth of the step."""
    for step in range(5):
        rank.now_ns = BEGAN_NS + (10 * step + rank.rank) * MS
        rank.place.complete_step(step)
        rank.put("loss", rank.rank + step / 100)
        rank.writer.flush()


def _run(root: Path, ranks: int = 3) -> nb.RunFolder:
    return record_ranks(root, range(ranks), _put_in_turns, ranks)


# -- show ----------------------------------------------------------------------------------------


def test_show_says_how_many_ranks_there_are_where_and_what_was_lost(
    tmp_path: Path, nightbus: Verb
) -> None:
    def record(rank: RecordedRank) -> None:
        _put_in_turns(rank)
        if rank.rank == 0:
            rank.add(RankLost, 2, "dead", "its process is gone", 7, "training_step")

    run = record_ranks(tmp_path, [0, 1], record, 3)

    lines = nightbus("show", run.path).stdout.splitlines()

    assert "  3 ranks on 1 host: alpha" in lines
    assert "  without a log: rank 2" in lines
    assert "  lost: rank 2, dead: its process is gone" in lines
    report = json.loads(nightbus("show", run.path, "--json").stdout)
    assert report["attempts"][0]["ranks"]["world_size"] == 3
    assert report["attempts"][0]["ranks"]["lost"][0]["hook"] == "training_step"


def test_show_has_the_metrics_of_rank_0_or_of_the_one_that_is_named(
    tmp_path: Path, nightbus: Verb
) -> None:
    run = _run(tmp_path)

    of_zero = json.loads(nightbus("show", run.path, "--json").stdout)
    of_two = json.loads(nightbus("show", run.path, "--json", "--rank", "2").stdout)

    assert of_zero["metrics"]["loss"]["last"] == 0.04
    assert of_two["metrics"]["loss"]["last"] == 2.04


def test_show_says_nothing_of_ranks_where_there_is_one(tmp_path: Path, nightbus: Verb) -> None:
    run = _run(tmp_path, ranks=1)

    assert "rank" not in nightbus("show", run.path).stdout.replace(str(run.path), "").replace(
        run.info.id, ""
    )
    assert summarise(run).attempts[0].ranks.world_size == 1


def test_plots_are_of_rank_0_or_of_the_one_that_is_named(tmp_path: Path, nightbus: Verb) -> None:
    def record(rank: RecordedRank) -> None:
        rank.put("of_all")
        if rank.rank == 1:
            rank.put("of_rank_1")

    run = record_ranks(tmp_path, range(2), record, 2)
    figure = tmp_path / "figure.svg"

    drawn = [
        json.loads(nightbus("plot", run.path, "-o", figure, "--json", *rank).stdout)["metrics"]
        for rank in ((), ("--rank", "1"))
    ]
    in_terminal = nightbus("show", run.path, "--plot", "--rank", "1").stdout
    refused = nightbus("plot", run.path, "-o", figure, "--rank", "7")

    assert drawn == [["of_all"], ["of_all", "of_rank_1"]]
    assert "of_rank_1" in in_terminal
    assert refused.returncode == 2
    assert "has no log of rank 7; it has logs of rank 0, 1" in refused.stderr


@pytest.mark.parametrize("verb", ["show", "tail"])
def test_a_rank_that_is_not_there_is_refused_with_those_that_are(
    tmp_path: Path, nightbus: Verb, verb: str
) -> None:
    run = _run(tmp_path)

    shown = nightbus(verb, run.path, "--rank", "7")

    assert shown.returncode == 2
    assert "has no log of rank 7; it has logs of rank 0 to 2" in shown.stderr


# -- tail ----------------------------------------------------------------------------------------


def _tailed(nightbus: Verb, run: nb.RunFolder, *options: str) -> list[float]:
    shown = nightbus("tail", run.path, "--json", "--kind", "Put", *options)
    return [json.loads(line)["value"] for line in shown.stdout.splitlines()]


def test_tail_shows_the_last_events_of_all_ranks_in_the_order_of_time(
    tmp_path: Path, nightbus: Verb
) -> None:
    run = _run(tmp_path)

    assert _tailed(nightbus, run, "-n", "5") == [1.03, 2.03, 0.04, 1.04, 2.04]
    assert _tailed(nightbus, run, "-n", "2", "--rank", "1") == [1.03, 1.04]


def test_tail_names_the_rank_of_each_event_where_there_are_several(
    tmp_path: Path, nightbus: Verb
) -> None:
    several = nightbus("tail", _run(tmp_path / "three").path, "-n", "3", "--kind", "Put")
    one = nightbus("tail", _run(tmp_path / "one", ranks=1).path, "-n", "1", "--kind", "Put")

    assert [line.split()[0] for line in several.stdout.splitlines()] == ["0", "1", "2"]
    assert one.stdout.split()[0].count(":") == 2


def test_tail_corrects_the_clocks_of_other_ranks(tmp_path: Path, nightbus: Verb) -> None:
    def record(rank: RecordedRank) -> None:
        ahead_ns = 3_600_000 * MS if rank.rank else 0
        for step in range(5):
            rank.now_ns = BEGAN_NS + (10 * step + rank.rank) * MS + ahead_ns
            if rank.rank and not step:
                rank.add(ClockOffset, -ahead_ns, 1)
            rank.put("loss", rank.rank + step / 100)
        rank.writer.flush()

    run = record_ranks(tmp_path, range(2), record, 2)

    assert _tailed(nightbus, run, "-n", "3") == [1.03, 0.04, 1.04]


def test_following_begins_to_read_a_rank_when_its_log_appears(tmp_path: Path) -> None:
    run = nb.RunFolder.create(tmp_path, "ranks")
    lock = run.begin_attempt()
    first = RecordedRank(run, 0, 2)
    first.put("loss", 0.0)
    first.writer.flush()
    batches = follow(run, TailPosition(0, {}), EventFilter(("Put",)))

    values = [tailed.event.value for tailed in next(batches)]  # type: ignore[union-attr]
    second = RecordedRank(run, 1, 2)
    second.put("loss", 1.0)
    second.writer.flush()
    for batch in batches:
        values += [tailed.event.value for tailed in batch]  # type: ignore[union-attr]
        if 1.0 in values:
            break
    first.end()
    second.end()
    lock.release()

    assert values == [0.0, 1.0]
    assert [each for batch in batches for each in batch] == []


# -- diff ----------------------------------------------------------------------------------------


def test_diff_compares_all_ranks_and_names_the_one_that_differs(
    tmp_path: Path, nightbus: Verb
) -> None:
    def record_otherwise(rank: RecordedRank) -> None:
        _put_in_turns(rank)
        if rank.rank == 1:
            rank.put("loss", 7.0)

    left, same = _run(tmp_path), _run(tmp_path)
    other = record_ranks(tmp_path, range(3), record_otherwise, 3)

    equal, differ = nightbus("diff", left.path, same.path), nightbus("diff", left.path, other.path)

    assert (equal.returncode, equal.stdout) == (0, "equal: 15 events compared\n")
    assert differ.returncode == 4
    assert differ.stdout.startswith("they differ after 10 equal events of rank 1:\n")
    only_0 = nightbus("diff", left.path, other.path, "--rank", "0")
    assert (only_0.returncode, only_0.stdout) == (0, "equal: 5 events compared\n")
    report = json.loads(nightbus("diff", left.path, other.path, "--json").stdout)
    assert (report["equal"], report["rank"]) == (False, 1)


def test_diff_of_runs_with_other_ranks_asks_for_one_that_both_have(
    tmp_path: Path, nightbus: Verb
) -> None:
    two, three = _run(tmp_path, ranks=2), _run(tmp_path, ranks=3)

    refused = nightbus("diff", two.path, three.path)

    assert refused.returncode == 2
    assert "has logs of 2 ranks" in refused.stderr
    assert "--rank 0" in refused.stderr
    assert nightbus("diff", two.path, three.path, "--rank", "1").returncode == 0


# -- doctor, recover -----------------------------------------------------------------------------


def test_doctor_checks_all_ranks(tmp_path: Path, nightbus: Verb) -> None:
    run = _run(tmp_path)
    assert nightbus("doctor", run.path).returncode == 0
    damage_the_middle(run.store(0, 2).path(0))

    shown = nightbus("doctor", run.path)

    assert shown.returncode == 1
    assert "problem: attempt-000/rank-00002/000000.nlog: " in shown.stdout


@pytest.mark.parametrize("missing", [0, 1])
def test_doctor_misses_a_rank_that_left_no_log(
    tmp_path: Path, nightbus: Verb, missing: int
) -> None:
    run = _run(tmp_path)
    shutil.rmtree(run.store(0, missing).folder)

    shown = nightbus("doctor", run.path)

    assert shown.returncode == 1
    assert f"rank {missing} of 3 has no log" in shown.stdout
    assert "2 segments" in shown.stdout


def test_doctor_finds_nothing_wrong_in_a_clock_that_is_ahead(
    tmp_path: Path, nightbus: Verb
) -> None:
    run = record_ranks(tmp_path, range(2), lambda rank: rank.add(ClockOffset, -3_892, 1), 2)

    assert nightbus("doctor", run.path).returncode == 0


def test_doctor_tells_a_rank_that_wrote_the_end_from_one_that_was_killed(
    tmp_path: Path, nightbus: Verb
) -> None:
    run = nb.RunFolder.create(tmp_path, "ranks")
    run.begin_attempt().release()
    for number in range(2):
        rank = RecordedRank(run, number, 2)
        if number == 0:
            rank.add(nb.RunEnded, "failed", "rank 1 is lost")
        rank.abandon()

    shown = nightbus("doctor", run.path)

    assert shown.returncode == 0
    assert "rank-00000: the run's end is recorded" in shown.stdout
    assert "rank-00001: its process ended without a word" in shown.stdout


def test_doctor_finds_a_log_that_is_another_ranks(tmp_path: Path, nightbus: Verb) -> None:
    run = _run(tmp_path)
    shutil.copy(run.store(0, 1).path(0), run.store(0, 2).path(0))

    shown = nightbus("doctor", run.path)

    assert shown.returncode == 1
    assert f"it says run {run.info.id}, attempt 0, rank 1, segment 0" in shown.stdout


def test_recover_saves_what_is_readable_of_all_ranks(tmp_path: Path, nightbus: Verb) -> None:
    run = _run(tmp_path)

    done = nightbus("recover", run.path, "-o", tmp_path / "saved")

    saved = nb.RunFolder.open(tmp_path / "saved")
    assert done.returncode == 0
    assert saved.ranks(0) == [0, 1, 2]
    for rank in saved.ranks(0):
        assert read_log(saved.store(0, rank)) == read_log(run.store(0, rank))


# -- replay --------------------------------------------------------------------------------------


class Losses(nb.Actor):
    """Keeps what every rank put, and when."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, float, int]] = []

    @nb.on(nb.Put)
    async def take(self, put: nb.Put) -> None:
        self.seen.append((put.rank, put.value, put.time_ns))


def test_actors_are_replayed_one_rank_or_all_in_the_order_of_time(tmp_path: Path) -> None:
    run = _run(tmp_path)
    of_zero, of_one, of_all = Losses(), Losses(), Losses()

    nb.replay(run.path, actors=[of_zero])
    nb.replay(run.path, actors=[of_one], rank=1)
    replayed = nb.replay(run.path, actors=[of_all], rank="all")

    assert [rank for rank, *_ in of_zero.seen] == [0] * 5
    assert [rank for rank, *_ in of_one.seen] == [1] * 5
    assert [rank for rank, *_ in of_all.seen] == [0, 1, 2] * 5
    times_ns = [time_ns for *_, time_ns in of_all.seen]
    assert times_ns == sorted(times_ns)
    assert (replayed.unclean, replayed.missing) == ("", 0)


def test_a_resumed_run_is_replayed_without_what_any_rank_superseded(tmp_path: Path) -> None:
    run = nb.RunFolder.create(tmp_path, "ranks")
    forks: list[Fork] = []
    for attempt in range(2):
        run.begin_attempt().release()
        for number in range(2):
            rank = RecordedRank(
                run, number, 2, attempt=attempt, fork=forks[number] if attempt else None
            )
            for step in range(attempt * 2, 4):
                rank.put("loss", step + attempt / 10)
                if step == 1:
                    forks.append(Fork(0, rank.writer.next_seq() - 1, "checkpoints/x"))
            rank.end()

    actor, everything = Losses(), Losses()
    nb.replay(run.path, actors=[actor], rank="all")
    nb.replay(run.path, actors=[everything], rank="all", all_attempts=True)

    assert sorted(value for _, value, _ in actor.seen) == [0, 0, 1, 1, 2.1, 2.1, 3.1, 3.1]
    assert len(everything.seen) == 12


@pytest.fixture
def with_fewer_ranks(tmp_path: Path) -> nb.RunFolder:
    """Two ranks put 0 to 3, rank 1 twice, and one goes on behind the 1 of both."""
    run = nb.RunFolder.create(tmp_path, "ranks")
    run.begin_attempt().release()
    seqs = []
    for number in range(2):
        rank = RecordedRank(run, number, 2)
        for step in range(4):
            for _ in range(1 + number):
                rank.put("loss", step)
            if step == 1:
                seqs.append(rank.writer.next_seq() - 1)
        rank.end()
    run.begin_attempt().release()
    fork = Fork(0, seqs[0], "checkpoints/x", gone=((1, seqs[1]),))
    run.keep_fork(1, fork)
    rank = RecordedRank(run, 0, 1, attempt=1, fork=fork)
    for step in (2, 3):
        rank.put("loss", step + 0.1)
    rank.end()
    return run


def test_what_a_rank_that_is_gone_recorded_behind_the_checkpoint_is_superseded(
    with_fewer_ranks: nb.RunFolder, nightbus: Verb
) -> None:
    actor = Losses()
    nb.replay(with_fewer_ranks.path, actors=[actor], rank="all")
    shown = json.loads(nightbus("show", with_fewer_ranks.path, "--rank", "1", "--json").stdout)

    assert sorted(value for _, value, _ in actor.seen) == [0, 0, 0, 1, 1, 1, 2.1, 3.1]
    assert shown["metrics"]["loss"]["last"] == 1


def test_a_replay_of_all_ranks_says_whose_log_ends_early_or_lacks_events(tmp_path: Path) -> None:
    run = _run(tmp_path)
    damage_the_middle(run.store(0, 2).path(0))

    replayed = nb.replay(run.path, actors=[Losses()], rank="all")

    assert replayed.unclean.startswith("rank 2: ")
    assert replayed.missing > 0
    assert nb.replay(run.path, actors=[Losses()]).unclean == ""


def test_a_replay_of_all_ranks_finds_what_only_one_has_recorded(tmp_path: Path) -> None:
    def record(rank: RecordedRank) -> None:
        if rank.rank == 1:
            rank.put("of_rank_1")

    run, of_all = record_ranks(tmp_path, range(3), record, 3), Losses()
    nb.replay(run.path, actors=[of_all], rank="all", metrics=["of_rank_1"])

    assert [rank for rank, *_ in of_all.seen] == [1]
    with pytest.raises(nb.NotRecorded, match="of_nobody"):
        nb.replay(run.path, actors=[Losses()], rank="all", metrics=["of_nobody"])


def test_a_sink_takes_one_rank(tmp_path: Path, nightbus: Verb) -> None:
    run = _run(tmp_path)

    with pytest.raises(nb.UsageError, match="sinks write the metrics of one rank"):
        nb.replay(run.path, sinks=nb.CSV(tmp_path / "all"), rank="all")
    with pytest.raises(RunFolderError, match="no log of rank 9; it has logs of rank 0 to 2"):
        nb.replay(run.path, actors=[Losses()], rank=9)
    refused = nightbus("replay", run.path, "--csv", tmp_path / "all", "--rank", "all")
    done = nightbus("replay", run.path, "--csv", tmp_path / "two", "--rank", "2")

    assert refused.returncode == 2
    assert "named with --rank N" in refused.stderr
    assert done.returncode == 0
    assert "2.04" in (tmp_path / "two" / "metrics.csv").read_text()
