"""Trainer(devices=2) starts the other rank, and whatever happens, both end and say why."""

import contextlib
import os
import signal
import sys
from pathlib import Path

import pytest
from helpers import eventually, read_log
from ranks import Ended, ended, environment_alone, run_alone, script_file, started
from terminal import Terminal, screen

import nightbus as nb

pytestmark = pytest.mark.long

SCRIPT = """
import os
import signal
import sys
from pathlib import Path

import torch

how, culprit = sys.argv[1], int(sys.argv[2])
if "forks" in sys.argv:
    from forked_ranks import fork_other_ranks

    fork_other_ranks(1)

import nightbus as nb

if how == "well":
    own_folder = Path("of-rank-0" if nb.is_main() else "of-others")
    own_folder.mkdir()
    os.chdir(own_folder)

from models import Small, loader

def fail():
    if how == "raise":
        raise ValueError("on purpose")
    if how == "stand still":
        signal.pause()
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "leave":
        sys.exit(0)
    if how == "leave with 3":
        sys.exit(3)
    if how == "interrupt":
        os.kill(os.getpid(), signal.SIGINT)
    if how == "terminate":
        os.kill(os.getpid(), signal.SIGTERM)

class Exchanging(Small):
    def on_train_epoch_start(self):
        if how == "freeze" and self.current_epoch == 1 and self.trainer.global_rank == culprit:
            self.net[0].requires_grad_(False)

    def forward(self, x):
        x = self.net[0](x)
        if how == "leave out" and self.training and self.trainer.global_rank == culprit:
            x = x.detach()
        return self.net[1:](x)

    def on_train_batch_end(self, *_):
        if how == "hang" and self.trainer.global_step == 3:
            Path(f"pid-{self.trainer.global_rank}").write_text(str(os.getpid()))
            while True:
                signal.pause()
        if self.trainer.global_rank == culprit and self.trainer.global_step == 3:
            fail()
        self.trainer.group.sum(torch.zeros(1))

if how == "raise early" and os.environ.get("RANK") == "1":
    raise ValueError("on purpose")
trainer = nb.Trainer(
    max_epochs=2,
    accelerator="cpu",
    devices=2,
    logger=False,
    hang_timeout=5 if how == "stand still" else None,
)
if how == "well":
    if nb.is_main():
        Path("../data").touch()
    trainer.barrier("data")
    assert Path("../data").exists()
trainer.fit(Exchanging(), loader())
if trainer.interrupted:
    sys.exit(128 + signal.SIGINT)
trainer.test(Exchanging(), loader(), verbose=False)
print("done", trainer.global_rank, trainer.world_size, flush=True)
if how == "raise late" and trainer.global_rank == culprit:
    raise ValueError("on purpose")
"""


def run(folder: Path, how: str, culprit: int = -1, *more: str) -> Ended:
    """What rank 0 of the script ends with; both ranks write on its streams."""
    of_all = run_alone(folder, SCRIPT, how, str(culprit), *more)
    for line in of_all.err.splitlines():
        assert "gloo" not in line or line.startswith(("RuntimeError", "    "))
    return of_all


def run_forked(folder: Path, how: str, culprit: int = -1) -> Ended:
    """The same with a rank 1 that is forked, which takes less time than to start it."""
    return run(folder, how, culprit, "forks")


def test_a_script_that_asks_for_two_devices_runs_in_two_processes(tmp_path: Path) -> None:
    of_all = run(tmp_path, "well")

    assert of_all.code == 0, of_all.err
    assert sorted(of_all.out.splitlines()) == ["done 0 2", "done 1 2"]
    (folder,) = (tmp_path / "of-rank-0" / "runs").iterdir()
    assert [p.name for p in (folder / "attempt-000").glob("rank-*")] != []
    assert of_all.err.count("fit completed") == 1
    # Both began in one folder, which rank 0 had left when it started the other.
    assert sorted(each.name for each in tmp_path.glob("of-*")) == ["of-others", "of-rank-0"]


def test_a_rank_that_raises_in_a_step_ends_rank_0(tmp_path: Path) -> None:
    of_all = run_forked(tmp_path, "raise", 1)

    assert of_all.code == 75
    assert of_all.err.count("nightbus: rank 1 is lost: ValueError: on purpose") == 1


def test_rank_0_that_raises_in_a_step_ends_the_others_with_it(tmp_path: Path) -> None:
    of_all = run_forked(tmp_path, "raise", 0)

    assert of_all.code == 1
    assert "ValueError: on purpose" in of_all.err


def test_rank_0_that_hangs_ends_once_the_others_have_written_why(tmp_path: Path) -> None:
    of_all = run_forked(tmp_path, "stand still", 0)

    assert of_all.code == 1
    assert of_all.err.count("nightbus: rank 0 is lost: it has stood still") == 1
    (log,) = tmp_path.glob("runs/*/attempt-000/rank-00001")
    lost, end = read_log(log)[-2:]
    assert isinstance(lost, nb.RankLost)
    assert isinstance(end, nb.RunEnded)
    assert (lost.lost_rank, end.how) == (0, "failed")


def test_a_rank_that_is_killed_ends_the_other(tmp_path: Path) -> None:
    of_all = run_forked(tmp_path, "kill", 1)

    assert of_all.code == 75
    assert "nightbus: rank 1 is lost: its process was killed by SIGKILL" in of_all.err


def test_sigterm_to_a_rank_is_the_end_of_all_and_no_failure(tmp_path: Path) -> None:
    of_all = run_forked(tmp_path, "terminate", 1)

    assert of_all.code == 128 + signal.SIGTERM
    assert "fit preempted (SIGTERM)" in of_all.err
    assert "failed" not in of_all.err


@pytest.mark.parametrize("culprit", [0, 1])
def test_a_script_that_ends_with_130_after_ctrl_c_has_not_failed(
    tmp_path: Path, culprit: int
) -> None:
    of_all = run_forked(tmp_path, "interrupt", culprit)

    assert of_all.code == 128 + signal.SIGINT
    assert "failed" not in of_all.err


def test_a_rank_that_leaves_ends_the_other(tmp_path: Path) -> None:
    of_all = run_forked(tmp_path, "leave", 1)

    assert of_all.code == 75
    assert "nightbus: rank 1 is lost: SystemExit: 0" in of_all.err


def test_a_rank_whose_loss_leaves_parameters_out_is_told_which(tmp_path: Path) -> None:
    of_all = run_forked(tmp_path, "leave out", 1)

    assert of_all.code == 75
    assert "nightbus: rank 1 is lost: UsageError: net.0.weight, net.0.bias: no part" in of_all.err


def test_a_rank_that_alone_freezes_parameters_is_told_that_the_others_do_not(
    tmp_path: Path,
) -> None:
    of_all = run_forked(tmp_path, "freeze", 1)

    assert of_all.code == 75
    assert "rank 1 waits in a comparison of what is trained, because it has frozen" in of_all.err


def test_a_rank_0_that_leaves_ends_with_its_own_code(tmp_path: Path) -> None:
    of_all = run_forked(tmp_path, "leave with 3", 0)

    assert of_all.code == 3
    assert "nightbus: rank 0 is lost: SystemExit: 3" in of_all.err


def test_a_rank_that_fails_before_it_joins_ends_the_other(tmp_path: Path) -> None:
    of_all = run_forked(tmp_path, "raise early")

    assert of_all.code == 75
    assert "nightbus: rank 0 ends: rank 1 ended with exit code 1" in of_all.err


def test_a_rank_that_fails_after_its_runs_shows_in_the_exit_code(tmp_path: Path) -> None:
    of_all = run_forked(tmp_path, "raise late", 1)

    assert of_all.code == 1
    assert sorted(of_all.out.splitlines()) == ["done 0 2", "done 1 2"]


def test_no_rank_outlives_the_process_that_started_it(tmp_path: Path) -> None:
    command = [sys.executable, str(script_file(tmp_path, SCRIPT)), "hang", "0"]
    with started([command], [environment_alone()], tmp_path) as (process,):
        pids = [tmp_path / f"pid-{rank}" for rank in range(2)]
        eventually(lambda: all(pid.exists() and pid.read_text() for pid in pids))
        process.kill()

        eventually(lambda: not is_running(int(pids[1].read_text())))


def test_a_second_ctrl_c_ends_all_ranks_at_once_as_an_interrupted_run(tmp_path: Path) -> None:
    command = [sys.executable, str(script_file(tmp_path, SCRIPT)), "hang", "-1", "forks"]
    with started([command], [environment_alone()], tmp_path) as processes:
        pids = [tmp_path / f"pid-{rank}" for rank in range(2)]
        eventually(lambda: all(pid.exists() and pid.read_text() for pid in pids))
        os.killpg(processes[0].pid, signal.SIGINT)
        eventually(lambda: "Ctrl-C again ends it at once" in (tmp_path / "err-0").read_text())
        os.killpg(processes[0].pid, signal.SIGINT)

        (of_rank_0,) = ended(processes, tmp_path)

    assert of_rank_0.code == -signal.SIGINT
    assert "fit interrupted (Ctrl-C)" in of_rank_0.err


def is_running(pid: int) -> bool:
    with contextlib.suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state not in "ZX"
    return False


PRINTS = """
import nightbus as nb
from models import Small, loader

class Printing(Small):
    def on_train_batch_end(self, outputs, batch, batch_idx):
        print("rank", self.trainer.global_rank, "after batch", batch_idx, flush=True)

trainer = nb.Trainer(max_epochs=1, accelerator="cpu", devices=2, logger=False)
trainer.fit(Printing(), loader())
"""


def test_what_all_ranks_print_stands_above_the_bar_in_whole_lines(tmp_path: Path) -> None:
    script = script_file(tmp_path, PRINTS)
    shown = Terminal(script, cwd=tmp_path, env=environment_alone()).finish()

    lines = screen(shown)
    last = next(number for number, line in enumerate(lines) if "fit completed" in line)
    of_ranks = [line for line in lines[:last] if line.startswith("rank ")]
    for rank in range(2):
        batches = [line for line in of_ranks if line.startswith(f"rank {rank} ")]
        assert batches == [f"rank {rank} after batch {n}" for n in range(len(of_ranks) // 2)]
