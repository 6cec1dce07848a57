"""Lets one of two or three ranks fail at random, and checks what became of all of them.

    python tests/faults/rank_trials.py --rounds 50 --seed 1
    python tests/faults/rank_trials.py --seed 1 --trial 17

A trial is a training that fails once, and then goes on to its end: two rounds. Ranks are started by
``devices=`` or as by torchrun. One is killed, stopped, told to end by SIGTERM, raises, leaves,
hangs, has a full disk, or loses its connection to rank 0, whose socket is shut down; the network
between two machines goes down; or all are killed with the process that has started them. Checked is
that

- all processes end, with the documented exit codes, and the one to blame is named once,
- the log of each rank is read to its end, without a gap, and doctor finds nothing wrong with it,
- no process, socket, port or shared memory is left behind,
- the run goes on from its last checkpoint to the weights of one that nothing happened to: the same
  bits with 2 ranks; of more, gloo adds gradients in an order that depends on torch's buckets, which
  are others in the first step of a process, so that the last bit may differ.

A trial depends on the seed and its number alone, but for the scheduling of processes.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from ranks import environment_alone, environment_of_rank, free_port, started
from two_machines import two_machines, why_not

import nightbus as nb
from nightbus.actors.ranks.last_act import OTHERS_EXIT_CODE
from nightbus.bus.inspection.doctor import examine
from nightbus.bus.log.reader import LogReader
from nightbus.bus.runs.run_folder import list_runs

PROGRAM = Path(__file__).parent / "rank_trial_start.py"
DEADLINE_S = 120.0
GONE_S = 20.0  # by which a process has found out that the one that started it is gone
PREEMPTED = 128 + signal.SIGTERM
FAULTS = {
    "SIGKILL": 3,
    "SIGSTOP": 2,
    "SIGTERM": 3,
    "SIGINT": 1,
    "raise": 2,
    "exit": 1,
    "hang": 2,
    "disk full": 2,
    "cut": 2,
    "network down": 2,
    "launcher killed": 2,
}


class Round(NamedTuple):
    """One start of a training.

    Attributes:
        fault: what happened to it; empty for nothing.
        codes: what the processes that were started here exited with.
        problems: what is wrong.
    """

    fault: str
    codes: tuple[int, ...]
    problems: list[str]


class Trial:
    """A training of several ranks that fails once.

    Args:
        folder: an empty one for it.
        seed: of all trials.
        number: of this one.
    """

    def __init__(self, folder: Path, seed: int, number: int) -> None:
        chance = random.Random(f"{seed}/{number}")
        self.folder, self.number = folder, number
        self.fault = chance.choices(list(FAULTS), list(FAULTS.values()))[0]
        self.size = chance.choice([2, 2, 3])
        self.launches = self.fault == "launcher killed" or chance.random() < 0.4
        self.culprit = 0 if self.fault == "launcher killed" else chance.randrange(self.size)
        if self.launches and self.culprit == 0 and self.fault == "SIGKILL":
            self.fault = "launcher killed"
        if self.fault == "network down":
            self.size, self.launches, self.culprit = 2, False, chance.randrange(2)
        self.where = chance.choice(["training_step", "training_step", "validation_step"])
        self.batch = chance.randint(1, 7)
        self.file_limit = chance.choice([0, 1_000, 10_000])
        self.rounds: list[Round] = []

    def __str__(self) -> str:
        how = "devices" if self.launches else "torchrun"
        return (
            f"{self.fault} on rank {self.culprit} of {self.size} ({how}), in {self.where} after "
            f"{self.batch} batches, file limit {self.file_limit}"
        )

    def run(self, expected: dict[int, list[float]]) -> list[Round]:
        """Let it fail, and go on.

        Args:
            expected: what an undisturbed one ends with, by number of ranks; filled here.
        """
        if self.size not in expected:
            whole = self.folder / "whole"
            self._start(whole, "", self._codes(0))
            if self.rounds[-1].problems:
                return self.rounds
            expected[self.size] = _final(whole, self.size)
        own = self.folder / "own"
        self._start(own, self.fault, self._expected_codes())
        if self.rounds[-1].problems:
            return self.rounds
        self._start(own, "", self._codes(0))
        if self.rounds[-1].problems:
            return self.rounds
        if not _are_alike(_final(own, self.size), expected[self.size], self.size):
            self.rounds[-1].problems.append("the weights in the end are not those without a fault")
        return self.rounds

    # -- exit codes ----------------------------------------------------------------------------

    def _codes(self, code: int) -> list[set[int]]:
        return [{code}] * (1 if self.launches else self.size)

    def _expected_codes(self) -> list[set[int]]:
        """What each process that is started here may exit with."""
        if self.fault == "SIGTERM":
            return self._codes(PREEMPTED)
        if self.fault == "SIGINT":
            return self._codes(130)
        if self.fault == "disk full":
            return self._codes(0)
        own = {
            "SIGKILL": -9,
            "SIGSTOP": -9,
            "launcher killed": -9,
            "raise": 1,
            "exit": 3,
            "hang": 1,
        }
        codes = self._codes(OTHERS_EXIT_CODE)
        if self.culprit < len(codes):
            codes[self.culprit] = {own.get(self.fault, OTHERS_EXIT_CODE)}
        return codes

    # -- one round -------------------------------------------------------------------------------

    def _start(self, folder: Path, fault: str, codes: list[set[int]]) -> None:
        (folder / "tmp").mkdir(parents=True, exist_ok=True)
        for pid in folder.glob("pid-*"):
            pid.unlink()
        trial = {
            "size": self.size,
            "launches": self.launches,
            "culprit": self.culprit if fault else -1,
            "fault": "SIGKILL" if fault == "launcher killed" else fault,
            "forks": self.launches and fault != "launcher killed",
            "where": self.where,
            "batch": self.batch,
            "file_limit": self.file_limit,
        }
        more = {"TRIAL": json.dumps(trial), "TMPDIR": str(folder / "tmp")}
        port, shared = free_port(), set(os.listdir("/dev/shm"))
        environments = [environment_alone(**more)]
        if not self.launches:
            environments = [
                environment_of_rank(rank, self.size, port, **more) for rank in range(self.size)
            ]
        commands = [[sys.executable, str(PROGRAM)]] * len(environments)
        with ExitStack() as held:
            if fault == "network down":
                machines = held.enter_context(two_machines())
                for environment, machine in zip(environments, machines, strict=True):
                    environment.update(machine)
            processes = held.enter_context(started(commands, environments, folder))
            problems = self._wait(folder, fault, [process.poll for process in processes])
            pids = [int(each.read_text()) for each in folder.glob("pid-*")]
            problems += _left_alive(pids)
        ended = tuple(process.returncode for process in processes)
        said = "".join((folder / f"err-{n}").read_text() for n in range(len(processes)))
        for number, (code, may) in enumerate(zip(ended, codes, strict=True)):
            if code not in may:
                problems.append(
                    f"process {number} ended with {code}, not {sorted(may)}: {said[-4000:]}"
                )
        problems += self._of_words(fault, said)
        problems += _of_logs(folder, fault, self.culprit, self.size)
        is_killed = fault == "launcher killed" or (
            self.culprit == 0 and fault in ("SIGKILL", "SIGSTOP")
        )
        problems += _left_behind(folder, port, shared, pids, is_killed)
        self.rounds.append(Round(fault, ended, problems))

    def _wait(self, folder: Path, fault: str, polls: list[Any]) -> list[str]:
        """Wait for the ends; a stopped rank has to be killed by who started it, which is here."""
        end_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < end_s:
            alive = [n for n, poll in enumerate(polls) if poll() is None]
            if not alive:
                return []
            if fault == "SIGSTOP" and alive == [self.culprit] and self._others_are_gone(folder):
                stopped = int((folder / f"pid-{self.culprit}").read_text())
                os.kill(stopped, signal.SIGKILL)
            time.sleep(0.05)
        return [f"processes {alive} did not end: {_stacks(folder)}"]

    def _others_are_gone(self, folder: Path) -> bool:
        """Whether all have begun to train, and the others have ended."""
        own, pids = f"pid-{self.culprit}", list(folder.glob("pid-*"))
        others = [int(each.read_text()) for each in pids if each.name != own]
        return len(pids) == self.size and not any(map(_is_alive, others))

    def _of_words(self, fault: str, said: str) -> Iterator[str]:
        """One rank names the one to blame, once; if nobody is, nobody does."""
        named = [line for line in said.splitlines() if " is lost: " in line]
        names = [line for line in named if f"rank {self.culprit} is lost" in line]
        if fault in ("", "SIGTERM", "SIGINT", "disk full"):
            if named:
                yield f"somebody is said to be lost: {named}"
        elif fault == "launcher killed":  # the others may hear of it before they are killed too
            if named != names[:1]:
                yield f"rank {self.culprit} alone may be named, once: {named}"
        elif fault == "cut":
            if not named:
                yield f"nobody is named: {said[-3000:]}"
        elif fault == "network down":  # each can blame the other only
            if sorted(line.split()[2] for line in named) != ["0", "1"]:
                yield f"each is to be named once: {named}"
        elif len(names) != 1 or len(named) != 1:
            yield f"rank {self.culprit} is to be named once: {named}"


def _final(folder: Path, size: int) -> list[float]:
    """The steps and weights that all ranks ended with, which have to be the same."""
    found = [json.loads((folder / f"final-{rank}").read_text()) for rank in range(size)]
    return found[0] if all(each == found[0] for each in found) else []


def _are_alike(one: list[float], other: list[float], size: int) -> bool:
    """Whether two trainings ended with the same; see above."""
    rounding = 0.0 if size == 2 else 1e-6
    return (
        bool(one)
        and len(one) == len(other)
        and all(abs(mine - its) <= rounding for mine, its in zip(one, other, strict=True))
    )


def _of_logs(folder: Path, fault: str, culprit: int, size: int) -> Iterator[str]:
    """Each rank's log reads to its end without a gap; those of others tell who was lost."""
    for run in list_runs(folder / "runs")[-1:]:
        attempt = run.attempts()[-1]
        ranks = run.ranks(attempt)
        if ranks != list(range(size)):
            yield f"attempt {attempt} has logs of ranks {ranks}"
        for rank in ranks:
            reader = LogReader(run.store(attempt, rank))
            events = list(reader.events("all"))
            reader.close()
            is_whole = [event.seq for event in events] == list(range(len(events)))
            is_own_fault = rank == culprit and fault != ""
            if not is_whole and not (is_own_fault and fault == "disk full"):
                yield f"the log of rank {rank} has a gap"
            is_killed = fault == "launcher killed" or (is_own_fault and fault.startswith("SIG"))
            ended = bool(events) and isinstance(events[-1], nb.RunEnded)
            if not ended and not is_killed and not (is_own_fault and fault == "disk full"):
                yield f"the log of rank {rank} has no end"
            if fault in ("SIGKILL", "SIGSTOP", "raise", "exit", "hang") and rank != culprit:
                lost = [event for event in events if isinstance(event, nb.RankLost)]
                if [event.lost_rank for event in lost] != [culprit]:
                    yield f"the log of rank {rank} tells of {lost}"
            if fault == "network down":
                lost = [event for event in events if isinstance(event, nb.RankLost)]
                if [event.lost_rank for event in lost] != [1 - rank]:
                    yield f"the log of rank {rank} tells of {lost}"
        if fault != "disk full":
            found = examine(run).problems
            yield from (f"doctor: {one.where}: {one.what}" for one in found)


def _left_behind(
    folder: Path, port: int, shared: set[str], pids: list[int], rank_0_is_killed: bool
) -> Iterator[str]:
    """No file of a socket, no port that is taken, no shared memory."""
    for path in (folder / "tmp").iterdir():
        if path.name.startswith("nightbus"):
            yield f"{path.name} is left in the folder of temporary files"
    shutil.rmtree(folder / "tmp")
    newest = max((folder / "runs").iterdir(), key=lambda run: run.stat().st_mtime_ns)
    for path in (folder / "runs").rglob("*"):
        # A rank 0 that is killed leaves it to the next that starts.
        if path.is_socket() and not rank_0_is_killed and path.parent == newest:
            yield f"a socket is left behind: {path.relative_to(folder)}"
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(("127.0.0.1", port))
        except OSError as error:
            yield f"port {port} is still taken: {error}"
    for name in set(os.listdir("/dev/shm")) - shared:
        if any(str(pid) in name for pid in pids):
            yield f"shared memory is left behind: {name}"


def _left_alive(pids: list[int]) -> Iterator[str]:
    end_s = time.monotonic() + GONE_S
    while any(_is_alive(pid) for pid in pids) and time.monotonic() < end_s:
        time.sleep(0.05)
    for pid in pids:
        if _is_alive(pid):
            yield f"process {pid} goes on"
            os.kill(pid, signal.SIGKILL)


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def _stacks(folder: Path) -> str:
    """What is said of where they hang."""
    return "".join(each.read_text()[-1500:] for each in sorted(folder.glob("err-*")))


def run_trials(rounds: int, seed: int, first: int = 0, keep: bool = False) -> list[Round]:
    """Run trials until there were so many rounds.

    Args:
        rounds: how many.
        seed: of everything.
        first: the number of the first trial.
        keep: keep the folders of trials with a problem.
    """
    done: list[Round] = []
    expected: dict[int, list[float]] = {}
    number = first
    while len(done) < rounds:
        folder = Path(tempfile.mkdtemp(prefix="nightbus-ranks-trial-"))
        trial = Trial(folder, seed, number)
        number += 1
        if trial.fault == "network down" and why_not():
            folder.rmdir()
            continue
        found = trial.run(expected)
        done += found
        problems = [problem for one in found for problem in one.problems]
        if problems:
            shown = "\n  ".join(problems)
            print(
                f"seed {seed}, trial {trial.number}: {trial}\n"
                f"  codes {[one.codes for one in found]}\n"
                f"  {shown}\n"
                f"  again: python tests/faults/rank_trials.py --seed {seed} --trial {trial.number}",
                file=sys.stderr,
                flush=True,
            )
        if problems and keep:
            print(f"  kept: {folder}", file=sys.stderr, flush=True)
        else:
            shutil.rmtree(folder)
    return done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trial", type=int, help="only this one")
    parser.add_argument("--keep", action="store_true", help="keep folders of trials that failed")
    options = parser.parse_args()
    began_s = time.monotonic()
    rounds = 1 if options.trial is not None else options.rounds
    done = run_trials(rounds, options.seed, options.trial or 0, options.keep)
    violations = sum(len(one.problems) for one in done)
    report = {
        "rounds": len(done),
        "seed": options.seed,
        "violations": violations,
        "without": f"network down: {why_not()}" if why_not() else "",
        "faults": dict(sorted(Counter(one.fault or "none" for one in done).items())),
        "seconds": round(time.monotonic() - began_s),
    }
    print(json.dumps(report))
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
