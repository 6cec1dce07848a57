"""Stops, starves and corrupts training processes at random moments, and checks what became of them.

    python tests/faults/training_trials.py --rounds 500 --seed 1
    python tests/faults/training_trials.py --seed 1 --trial 17

A trial is a training that is stopped several times, each stop a round: killed, interrupted,
preempted, suspended, failed by its own code, stopped or saved from outside, out of disk space.
Between two rounds a checkpoint or the log's tail may be damaged. It is restarted until it has
completed, and must then be the same as one that nobody disturbed. What has to hold after each
round is in ``trial_checks``. A trial depends on the seed and its number alone, but for the
scheduling of processes.
"""

import argparse
import contextlib
import json
import os
import random
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch
from trial_checks import (
    complete_checkpoints,
    problems_after_a_stop,
    problems_of_completed,
    the_run,
)
from trial_strikes import (
    FORK_HOOKS,
    OTHER_FORK_HOOKS,
    draw_fork,
    draw_strikes,
    problems_of_strikes,
)
from trial_training import (
    CALLS,
    COMPLETED,
    ENDED_EARLY,
    INTERRUPTED,
    OUT_OF_LUCK,
    Setting,
    Where,
    Within,
    draw_setting,
    run_in_this_process,
)

from nightbus.actors.checkpoints.format import DIGEST, STATE, TENSORS, read_checkpoint
from nightbus.actors.process.stop_signals import PREEMPTED_EXIT_CODE
from nightbus.bus.control.protocol import Request
from nightbus.bus.errors import ControlError, NightbusError
from nightbus.bus.inspection.control_client import send
from nightbus.bus.log.reader import EndKind, LogReader

MAX_STOPS = 6
DEADLINE_S = 60.0  # by which a process that should end has ended
ORPHANS_S = 10.0  # by which a loader's workers have found out that their parent is gone

Kind = Literal[
    "kill",
    "kill at a call",
    "terminate",
    "interrupt",
    "save",
    "suspend",
    "fail",
    "send stop",
    "send checkpoint",
    "send pause",
    "starve",
    "no descriptors",
    "greed",
    "fork",
    "strike",
]
KINDS: dict[Kind, int] = {  # how often each is drawn
    "kill": 4,
    "kill at a call": 6,
    "terminate": 3,
    "interrupt": 2,
    "save": 2,
    "suspend": 1,
    "fail": 2,
    "send stop": 2,
    "send checkpoint": 2,
    "send pause": 1,
    "starve": 2,
    "no descriptors": 2,
    "greed": 2,
    "fork": 3,
    "strike": 3,
}
PLACES: list[Where] = [
    "training_step",
    "validation_step",
    "on_train_epoch_end",
    "on_validation_end",
]


class Round(NamedTuple):
    """One stop of a process.

    Attributes:
        kind: how it was stopped.
        code: what it exited with; negative for a signal.
        problems: what is wrong.
    """

    kind: str
    code: int
    problems: list[str]


class Trial:
    """A training that is stopped again and again.

    Args:
        folder: an empty one for it.
        seed: of all trials.
        number: of this one.
        sabotage: a fault in nightbus itself, which must be found.
    """

    def __init__(self, folder: Path, seed: int, number: int, sabotage: str = "") -> None:
        self.chance = random.Random(f"{seed}/{number}")
        self.setting = draw_setting(self.chance)
        self.folder, self.undisturbed = folder / "disturbed", folder / "undisturbed"
        self.sabotage = sabotage
        self.damaged: list[str] = []  # checkpoints, by path
        self.rounds: list[Round] = []
        self._lasts_s = 0.0  # an undisturbed training
        self._calls = 0
        self._batches = self.setting.epochs * -(-self.setting.samples // 4)

    def run(self) -> list[Round]:
        """Stop it, until it completes."""
        began_s = time.monotonic()
        attempt = Attempt(self.undisturbed, self.setting, Within())
        code = attempt.wait()
        if code != COMPLETED:
            problem = f"the undisturbed training ended with {code}: {attempt.said}"
            return [Round("none", code, [problem])]
        self._lasts_s = time.monotonic() - began_s
        self._calls = int((self.undisturbed / CALLS).read_text())
        code = ENDED_EARLY
        for _ in range(self.chance.randint(2, MAX_STOPS)):
            code, problems = self._stop_once()
            if problems:
                return self.rounds
            if code == COMPLETED:
                break
            self._damage()
        if code != COMPLETED:
            code, problems = self._end(self._attempt(), {COMPLETED})
            self.rounds.append(Round("none", code, problems))
        if code == COMPLETED and not self.rounds[-1].problems:
            problems = in_a_process(lambda: problems_of_completed(self.folder, self.undisturbed))
            self.rounds[-1].problems.extend(problems)
        return self.rounds

    # -- one round -------------------------------------------------------------------------------

    def _stop_once(self) -> tuple[int, list[str]]:
        kind = self.chance.choices(list(KINDS), list(KINDS.values()))[0]
        code, problems = getattr(self, "_" + kind.replace(" ", "_"))()
        self.rounds.append(Round(kind, code, problems))
        return code, problems

    def _attempt(self, **within: Any) -> "Attempt":
        return Attempt(self.folder, self.setting, Within(sabotage=self.sabotage, **within))

    def _any_delay_s(self) -> float:
        return self.chance.random() * self._lasts_s * 1.1

    def _any_batch(self) -> int:
        return self.chance.randrange(self._batches)

    def _end(self, attempt: "Attempt", expected: set[int]) -> tuple[int, list[str]]:
        """Wait for the end of a process, which may also have completed, and check what is left."""
        code = attempt.wait()
        found = []
        if code not in expected | {COMPLETED}:
            said = attempt.said[-3000:]
            found.append(f"the process ended with {code}, not {sorted(expected)}: {said}")
        graceful = code >= 0 and code != INTERRUPTED
        found += in_a_process(lambda: problems_after_a_stop(self.folder, self.damaged, graceful))
        return code, found

    def _signalled(self, number: signal.Signals, expected: set[int]) -> tuple[int, list[str]]:
        """Send a signal: between two batches, or at any time."""
        if self.chance.random() < 0.5:
            attempt = self._attempt(signal=number, after_batches=self._any_batch())
        else:
            attempt = self._attempt()
            attempt.ends_within(self._any_delay_s())
            attempt.send(number)
        return self._end(attempt, expected)

    def _kill(self) -> tuple[int, list[str]]:
        return self._signalled(signal.SIGKILL, {-signal.SIGKILL})

    def _terminate(self) -> tuple[int, list[str]]:
        # -SIGTERM: before training has begun, or after its end
        return self._signalled(signal.SIGTERM, {PREEMPTED_EXIT_CODE, -signal.SIGTERM})

    def _interrupt(self) -> tuple[int, list[str]]:
        return self._signalled(signal.SIGINT, {ENDED_EARLY, INTERRUPTED})

    def _kill_later(
        self, attempt: "Attempt", problems: Sequence[str] = ()
    ) -> tuple[int, list[str]]:
        attempt.ends_within(self._any_delay_s())
        attempt.send(signal.SIGKILL)
        code, found = self._end(attempt, {-signal.SIGKILL})
        return code, [*problems, *found]

    def _save(self) -> tuple[int, list[str]]:
        return self._kill_later(
            self._attempt(signal=signal.SIGUSR1, after_batches=self._any_batch())
        )

    def _suspend(self) -> tuple[int, list[str]]:
        attempt = self._attempt()
        attempt.ends_within(self._any_delay_s())
        attempt.send(signal.SIGSTOP)
        # Whoever reads now finds a log that is being written.
        problems = in_a_process(lambda: problems_after_a_stop(self.folder, self.damaged, False))
        attempt.send(signal.SIGCONT)
        return self._kill_later(attempt, problems)

    def _kill_at_a_call(self) -> tuple[int, list[str]]:
        attempt = self._attempt(before_call=self.chance.randint(1, self._calls))
        return self._end(attempt, {-signal.SIGKILL})

    def _fail(self) -> tuple[int, list[str]]:
        place, batch = self.chance.choice(PLACES), self._any_batch()
        return self._end(self._attempt(fails_in=place, after_batches=batch), {OUT_OF_LUCK})

    def _starve(self) -> tuple[int, list[str]]:
        """No file may grow beyond a size from some batch on; later, it is ended."""
        limit = self.chance.choice([0, 100, 1_000, 3_000, 10_000])
        attempt = self._attempt(file_limit=limit, after_batches=self._any_batch())
        attempt.ends_within(self._any_delay_s())
        attempt.send(self.chance.choice([signal.SIGKILL, signal.SIGTERM]))
        return self._end(attempt, {-signal.SIGKILL, -signal.SIGTERM, PREEMPTED_EXIT_CODE})

    def _no_descriptors(self) -> tuple[int, list[str]]:
        """No file can be opened for some batches; it goes on, and is killed some time later."""
        if self.setting.workers:  # a loader that can start no workers fails, as it has to
            return self._greed()
        number = self.chance.choice([1, 3, 100])
        within = {"after_batches": self._any_batch(), "no_descriptors_for": number}
        return self._kill_or_end(within)

    def _greed(self) -> tuple[int, list[str]]:
        """An actor keeps the bus thread to itself."""
        return self._kill_or_end({"greed": self.chance.choice(["holds", "tells itself"])})

    def _fork(self) -> tuple[int, list[str]]:
        """A child is forked, which leaves in some way; its parent goes on as if there were none."""
        return self._kill_or_end(draw_fork(self.chance, FORK_HOOKS))

    def _strike(self) -> tuple[int, list[str]]:
        """A signal's handler puts, in a training of its own, because the log is another one then;
        a child may be forked meanwhile. Nothing is damaged here, so doctor has to find nothing.
        """
        folder = self.folder.with_name(f"struck-{len(self.rounds)}")
        within = draw_strikes(self.chance)
        if self.chance.random() < 0.3:
            within |= draw_fork(self.chance, FORK_HOOKS + OTHER_FORK_HOOKS)
        attempt = Attempt(folder, self.setting, Within(sabotage=self.sabotage, **within))
        ends_by = self.chance.choice([None, signal.SIGTERM, signal.SIGKILL])
        if ends_by is not None:
            attempt.ends_within(self._any_delay_s())
            attempt.send(ends_by)
        code = attempt.wait()
        found = []
        if code not in {COMPLETED, ends_by and -ends_by, ends_by and PREEMPTED_EXIT_CODE}:
            found.append(f"the struck process ended with {code}: {attempt.said[-3000:]}")
        found += in_a_process(lambda: problems_of_strikes(folder, code >= 0))
        # The training that goes on is where it was.
        return ENDED_EARLY if code == COMPLETED else code, found

    def _kill_or_end(self, within: dict[str, Any]) -> tuple[int, list[str]]:
        attempt = self._attempt(**within)
        if self.chance.random() < 0.5:
            return self._end(attempt, set())
        return self._kill_later(attempt)

    def _send_stop(self) -> tuple[int, list[str]]:
        return self._sent("stop")

    def _send_checkpoint(self) -> tuple[int, list[str]]:
        return self._sent("checkpoint")

    def _send_pause(self) -> tuple[int, list[str]]:
        return self._sent("pause")

    def _sent(self, verb: str) -> tuple[int, list[str]]:
        """Steer it from outside; kill it some time later if that does not end it."""
        attempt = self._attempt()
        ended = attempt.ends_within(self._any_delay_s())
        problems: list[str] = []
        answered = not ended and self._ask(verb)
        if answered and verb == "pause":
            self._ask("resume")
        if isinstance(answered, str) and verb == "checkpoint":
            problems = self._check_saved(answered)
        if verb == "stop" and answered:
            return self._end(attempt, {ENDED_EARLY})
        return self._kill_later(attempt, problems)

    def _ask(self, verb: str) -> str | bool:
        """What the run says it has done; False if nobody listens, yet or any more."""
        run = the_run(self.folder)
        if run is None:
            return False
        try:
            answer = send(run, Request(verb, timeout_s=DEADLINE_S / 2))
        except ControlError:
            return False
        return answer.kind == "done" and (answer.message or True)

    def _check_saved(self, path: str) -> list[str]:
        """Whoever was told that a checkpoint is saved finds it, or one after it."""
        run = the_run(self.folder)
        assert run is not None
        saved = run.path / "checkpoints" / Path(path).name
        for _ in range(3):  # what is found may be removed for a newer one before it is read
            try:
                if saved.exists():
                    read_checkpoint(saved)
                return []
            except NightbusError as error:
                problem = f"{path} was said to be saved: {error}"
        return [problem]

    # -- between two rounds ------------------------------------------------------------------------

    def _damage(self) -> None:
        """What a bad disk, a power cut or a killed process may do."""
        run = the_run(self.folder)
        if run is None:
            return
        if self.chance.random() < 0.3:
            self._damage_newest(complete_checkpoints(run))
        if self.chance.random() < 0.3:
            self._garble_tail(run)
        if self.chance.random() < 0.2:
            half = run.path / "checkpoints" / f".epoch=0-step=1.{a_pid_of_nobody()}.tmp"
            half.mkdir(parents=True, exist_ok=True)
            (half / TENSORS).write_bytes(self.chance.randbytes(100))

    def _damage_newest(self, checkpoints: list[Path]) -> None:
        """Flip a bit of the newest checkpoint or cut it, if there is another one to go on from."""
        last = checkpoints[:0]
        if checkpoints:
            link = checkpoints[0].parent / "last"
            last = [p for p in checkpoints if link.is_symlink() and p.name == os.readlink(link)]
        sound = [p for p in checkpoints if str(p) not in self.damaged and p not in last]
        if not last or not sound:
            return
        # The same file may lie in another checkpoint too, by a hard link.
        path = last[0] / self.chance.choice([TENSORS, STATE, DIGEST])
        data = bytearray(path.read_bytes())
        if self.chance.random() < 0.5:
            data[self.chance.randrange(len(data))] ^= 1 << self.chance.randrange(8)
        else:
            del data[self.chance.randrange(len(data)) :]
        path.unlink()
        path.write_bytes(data)
        self.damaged.append(str(last[0]))

    def _garble_tail(self, run: Any) -> None:
        """Write nonsense behind the last frame of a log that was not closed."""
        attempts = run.attempts()
        if not attempts:
            return
        store = run.store(attempts[-1])
        reader = LogReader(store)
        for _ in reader.events():
            pass
        end = reader.end()
        reader.close()
        if end.kind is EndKind.SEALED or not store.indices():
            return
        with open(store.path(end.segment), "r+b") as file:
            file.seek(end.offset)
            file.write(self.chance.randbytes(self.chance.randint(1, 600)))


class Attempt:
    """A forked process that trains.

    Args:
        folder: where.
        setting: what.
        within: what happens to it from within.
    """

    def __init__(self, folder: Path, setting: Setting, within: Within) -> None:
        folder.mkdir(exist_ok=True)
        # What it says does not go to a file, which could not grow when the disk is full.
        self._said, its_output = os.pipe()
        # Whatever process inherits the other end holds it open.
        self._alive, its_life = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._alive)
            os.close(self._said)
            run_in_this_process(folder, setting, within, its_output)
        os.close(its_output)
        os.close(its_life)
        os.set_blocking(self._said, False)
        self.said = ""

    def ends_within(self, seconds: float) -> bool:
        """Wait, at most so long, for its end."""
        return bool(select.select([self._alive], [], [], seconds)[0])

    def send(self, number: signal.Signals) -> None:
        # It is not waited for yet, so its pid is still its own.
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Wait for the end of it and of all that it started.

        Raises:
            TimeoutError: there is no end.
        """
        ended = self.ends_within(ORPHANS_S)
        if not ended and self._was_killed():
            # A loader's worker asks who its parent is when it has started: one whose parent was
            # killed before that waits for work for ever. Nothing but torch can know of it.
            os.killpg(self.pid, signal.SIGKILL)
            ended = self.ends_within(DEADLINE_S)
        ended = ended or self.ends_within(DEADLINE_S)
        if not ended:
            os.killpg(self.pid, signal.SIGUSR2)  # say where you are
            self.ends_within(1.0)
            os.killpg(self.pid, signal.SIGKILL)
        status = os.waitid(os.P_PID, self.pid, os.WEXITED)
        with contextlib.suppress(BlockingIOError):
            self.said = os.read(self._said, 1 << 20).decode(errors="replace")
        os.close(self._said)
        os.close(self._alive)
        if not ended:
            raise TimeoutError(
                f"a process or a child of it went on for {DEADLINE_S:g} s: {self.said}"
            )
        assert status is not None
        return status.si_status if status.si_code == os.CLD_EXITED else -status.si_status

    def _was_killed(self) -> bool:
        """Whether it has ended by SIGKILL, whatever it started goes on."""
        status = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return status is not None and status.si_status == signal.SIGKILL


def in_a_process(check: Callable[[], list[str]]) -> list[str]:
    """Run a check in a process of its own: it may start threads, which do not survive a fork."""
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(out)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        try:
            found = check()
        except BaseException:
            found = [traceback.format_exc()]
        with open(into, "w") as answer:
            json.dump(found, answer)
        os._exit(0)
    os.close(into)
    with open(out) as answer:
        found = json.load(answer)
    os.waitpid(pid, 0)
    return list(found)


def a_pid_of_nobody() -> int:
    """The number of a process that has ended."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


def prepare_to_fork() -> None:
    """Load what every forked process would have to, and start no threads: they do not survive."""
    torch.set_num_threads(1)
    parameter = torch.nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    for kind in (torch.optim.Adam, torch.optim.SGD):
        optimizer = kind([parameter], lr=0.1)
        torch.optim.lr_scheduler.StepLR(optimizer, 1)
        optimizer.step()


def run_trials(
    rounds: int, seed: int, first: int = 0, sabotage: str = "", keep: bool = False
) -> list[Round]:
    """Run trials until there were so many rounds.

    Args:
        rounds: how many.
        seed: of everything.
        first: the number of the first trial.
        sabotage: a fault in nightbus itself, which must be found.
        keep: keep the folders of trials with a problem.
    """
    done: list[Round] = []
    number = first
    while len(done) < rounds:
        folder = Path(tempfile.mkdtemp(prefix="nightbus-trial-"))
        trial = Trial(folder, seed, number, sabotage)
        try:
            found = trial.run()
        except TimeoutError as error:
            found = [*trial.rounds, Round("hang", -1, [str(error)])]
        done += found
        problems = [problem for one in found for problem in one.problems]
        if problems:
            kinds = ", ".join(f"{one.kind} ({one.code})" for one in found)
            shown = "\n  ".join(problems)
            print(
                f"seed {seed}, trial {number}: {trial.setting}\n  rounds: {kinds}\n  {shown}\n"
                f"  again: python tests/faults/training_trials.py --seed {seed} --trial {number}",
                file=sys.stderr,
            )
        if problems and keep:
            print(f"  kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder)
        if problems and sabotage:
            break  # it was found out
        number += 1
    return done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trial", type=int, help="only this one")
    parser.add_argument("--keep", action="store_true", help="keep folders of trials that failed")
    parser.add_argument("--sabotage", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    prepare_to_fork()
    began_s = time.monotonic()
    rounds = 1 if options.trial is not None else options.rounds
    done = run_trials(rounds, options.seed, options.trial or 0, options.sabotage, options.keep)
    violations = sum(len(one.problems) for one in done)
    report = {
        "rounds": len(done),
        "seed": options.seed,
        "violations": violations,
        "kinds": dict(sorted(Counter(one.kind for one in done).items())),
        "ends": dict(sorted(Counter(str(one.code) for one in done).items())),
        "seconds": round(time.monotonic() - began_s),
    }
    print(json.dumps(report))
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
