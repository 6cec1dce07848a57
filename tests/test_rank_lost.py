"""What a launcher, a terminal and the log see when one rank fails, stops or is asked to end."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import DEADLINE_S, read_log
from ranks import Ended, ended, environment_of_rank, free_port, run_ranks, started

import nightbus as nb
from nightbus.actors.ranks.last_act import OTHERS_EXIT_CODE

pytestmark = pytest.mark.long
SCRIPT = Path(__file__).parent / "ranks_failing.py"


def run(folder: Path, fault: str, culprit: int = 1, size: int = 3) -> list[Ended]:
    """Train on several ranks, one of which does this."""
    return run_ranks(folder, SCRIPT, size, FAULT=fault, CULPRIT=str(culprit))


def lost(folder: Path, rank: int) -> nb.RankLost:
    """The event in the log of a rank."""
    (log,) = folder.glob(f"runs/*/attempt-000/rank-{rank:05d}")
    (event,) = [each for each in read_log(log) if isinstance(each, nb.RankLost)]
    return event


def ending(folder: Path, rank: int) -> nb.RunEnded:
    """The last event in the log of a rank."""
    (log,) = folder.glob(f"runs/*/attempt-000/rank-{rank:05d}")
    last = read_log(log)[-1]
    assert isinstance(last, nb.RunEnded)
    return last


def check_that_it_is_named(folder: Path, ranks: list[Ended], what: str, culprit: int = 1) -> None:
    """One rank says on the terminal who it was, and the logs of all others do."""
    others = [rank for rank in range(len(ranks)) if rank != culprit]
    words = [each.err.count(f"nightbus: rank {culprit} is lost: ") for each in ranks]
    assert words == [int(rank == others[0]) for rank in range(len(ranks))]
    for rank in others:
        assert ranks[rank].code == OTHERS_EXIT_CODE
        assert what in lost(folder, rank).what
        assert lost(folder, rank).lost_rank == culprit
        assert ending(folder, rank).how == "failed"
        assert f"rank {culprit} is lost" in ending(folder, rank).reason


@pytest.mark.parametrize("culprit", [0, 1])
def test_a_rank_that_raises_is_named_by_all(tmp_path: Path, culprit: int) -> None:
    ranks = run(tmp_path, "raises", culprit)

    assert ranks[culprit].code == 1
    assert "ValueError: no such batch" in ranks[culprit].err
    frames = [line for line in ranks[culprit].err.splitlines() if 'File "' in line]
    assert [line.rpartition(" ")[2] for line in frames] == ["<module>", "training_step", "fail"]
    check_that_it_is_named(tmp_path, ranks, "ValueError: no such batch", culprit)
    assert lost(tmp_path, culprit).cause == "raised"
    assert lost(tmp_path, culprit).hook == "training_step"


@pytest.mark.parametrize("culprit", [0, 2])
def test_a_rank_that_is_killed_is_named_by_all(tmp_path: Path, culprit: int) -> None:
    ranks = run(tmp_path, "SIGKILL", culprit)

    assert ranks[culprit].code == -signal.SIGKILL
    check_that_it_is_named(tmp_path, ranks, "its process ended without a word", culprit)


def test_a_rank_that_hangs_is_named_and_says_where_it_was(tmp_path: Path) -> None:
    ranks = run(tmp_path, "hangs")

    assert ranks[1].code == 1
    check_that_it_is_named(tmp_path, ranks, "it has stood still for")
    assert lost(tmp_path, 1).hook == "training_step"
    assert any("in fail" in each.read_text() for each in tmp_path.glob("runs/*/hang-*-stacks.txt"))
    # Rank 0, which waits for its gradients, is ended by force.
    assert not [path for path in tmp_path.rglob("*") if path.is_socket()]


def test_a_rank_that_leaves_its_script_is_named(tmp_path: Path) -> None:
    ranks = run(tmp_path, "exits")

    assert ranks[1].code == 3
    check_that_it_is_named(tmp_path, ranks, "SystemExit: 3")


def until(is_so: Callable[[], bool]) -> None:
    """Wait for it."""
    end_s = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < end_s
        time.sleep(0.05)


def test_a_rank_that_is_stopped_is_named(tmp_path: Path) -> None:
    port, size = free_port(), 3
    more = {"FAULT": "SIGSTOP", "CULPRIT": "1"}
    environments = [environment_of_rank(rank, size, port, **more) for rank in range(size)]
    with started([[sys.executable, str(SCRIPT)]] * size, environments, tmp_path) as processes:
        until(lambda: all(processes[rank].poll() is not None for rank in (0, 2)))
        processes[1].kill()
        ranks = ended(processes, tmp_path)
    check_that_it_is_named(tmp_path, ranks, "it has been silent for")
    # Rank 0, which waits for its gradients, is ended by force.
    (last,) = [line for line in ranks[0].err.splitlines() if "; run: " in line]
    (run,) = tmp_path.glob("runs/*")
    assert last == f"nightbus: fit failed after 20 steps; run: runs/{run.name}"


@pytest.mark.parametrize(("fault", "code"), [("SIGTERM", 143), ("SIGINT", 0), ("stops", 0)])
def test_what_is_asked_on_one_rank_ends_all_after_the_same_step(
    tmp_path: Path, fault: str, code: int
) -> None:
    ranks = run(tmp_path, fault)

    assert [each.code for each in ranks] == [code] * 3
    steps = []
    for rank in range(3):
        (log,) = tmp_path.glob(f"runs/*/attempt-000/rank-{rank:05d}")
        events = read_log(log)
        (agreed,) = [each for each in events if isinstance(each, nb.Agreed)]
        assert agreed.asked_by == 1
        steps.append((agreed.point, agreed.step, ending(tmp_path, rank).step))
    assert len(set(steps)) == 1
    assert not list(tmp_path.glob("named-*"))


def test_sigterm_on_one_rank_saves_the_run_before_it_ends(tmp_path: Path) -> None:
    ranks = run_ranks(tmp_path, SCRIPT, 2, FAULT="SIGTERM", CULPRIT="1", CHECKPOINTS="1")

    assert [each.code for each in ranks] == [143, 143]
    assert len(list(tmp_path.glob("runs/*/checkpoints/last"))) == 1


def test_a_stop_command_to_one_rank_reaches_all(tmp_path: Path) -> None:
    ranks = run(tmp_path, "tells", 2)

    assert [each.code for each in ranks] == [0] * 3
    assert {ending(tmp_path, rank).reason for rank in range(3)} == {"enough"}


def test_ctrl_c_reaches_the_group_and_is_said_once(tmp_path: Path) -> None:
    port, size = free_port(), 2
    more = {"FAULT": "nothing", "CULPRIT": "0", "MAX_STEPS": "-1"}
    environments = [environment_of_rank(rank, size, port, **more) for rank in range(size)]
    with started([[sys.executable, str(SCRIPT)]] * size, environments, tmp_path) as processes:
        until((tmp_path / "at").exists)
        for process in processes:
            os.kill(process.pid, signal.SIGINT)
        ranks = ended(processes, tmp_path)
    assert [each.code for each in ranks] == [0, 0]
    assert [each.err.count("Ctrl-C again") for each in ranks] == [1, 0]
    assert len({each.out.splitlines()[-1] for each in ranks}) == 1


def test_the_launcher_is_told_by_the_culprit_alone(tmp_path: Path) -> None:
    port, size = free_port(), 2
    files = [tmp_path / f"error-{rank}" for rank in range(size)]
    environments = [
        environment_of_rank(
            rank,
            size,
            port,
            FAULT="raises",
            CULPRIT="1",
            TORCHELASTIC_ERROR_FILE=str(files[rank]),
        )
        for rank in range(size)
    ]
    with started([[sys.executable, str(SCRIPT)]] * size, environments, tmp_path) as processes:
        ended(processes, tmp_path)

    assert not files[0].exists()
    assert "ValueError: no such batch" in json.loads(files[1].read_text())["message"]["message"]


def test_each_rank_records_what_it_is_and_its_clock(tmp_path: Path) -> None:
    run(tmp_path, "stops", size=2)
    events = [
        read_log(next(tmp_path.glob(f"runs/*/attempt-000/rank-{rank:05d}"))) for rank in range(2)
    ]
    begun = [each for log in events for each in log if isinstance(each, nb.RankStarted)]
    (offset,) = [each for each in events[1] if isinstance(each, nb.ClockOffset)]

    assert [(each.world_size, each.local_rank, each.device) for each in begun] == [
        (2, 0, "cpu"),
        (2, 1, "cpu"),
    ]
    assert abs(offset.offset_ns) <= offset.bound_ns
    assert not any(isinstance(each, nb.ClockOffset) for each in events[0])


def test_ranks_of_several_machines_hear_of_each_other_too(tmp_path: Path) -> None:
    port, size = free_port(), 2
    more = {"FAULT": "SIGKILL", "CULPRIT": "1", "LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    environments = [
        {**environment_of_rank(rank, size, port), **more, "GROUP_RANK": str(rank)}
        for rank in range(size)
    ]
    with started([[sys.executable, str(SCRIPT)]] * size, environments, tmp_path) as processes:
        ranks = ended(processes, tmp_path)
    check_that_it_is_named(tmp_path, ranks, "its process ended without a word")
