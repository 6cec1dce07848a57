"""What strikes in a trial's training: signals whose handler puts, and children that are forked
there and leave it in all ways.

What was put is noted in a file of its own when put has returned, and compared with the log.
"""

import contextlib
import itertools
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from models import QUIET, Small, loader

import nightbus as nb
from nightbus.bus.errors import ForkedChildError, MetricError, OutsideRunError
from nightbus.bus.inspection.doctor import examine
from nightbus.bus.log.reader import LogReader
from nightbus.bus.runs.cursor import attempt_logs
from nightbus.bus.runs.run_folder import list_runs

Strikes = Literal["", "puts", "puts and logs"]
ChildWay = Literal["", "raises", "exits", "leaves at once", "trains on", "trains another"]
CHILD_WAYS: list[ChildWay] = ["raises", "exits", "leaves at once", "trains on", "trains another"]
FORK_HOOKS = [
    "on_train_start",
    "on_train_epoch_start",
    "on_train_batch_start",
    "on_before_optimizer_step",
    "on_train_batch_end",
    "on_validation_start",
    "on_validation_batch_end",
    "on_validation_end",
    "on_train_epoch_end",
    "on_save_checkpoint",
    "on_train_end",
]
# Those that the log does not have if nobody has them.
OTHER_FORK_HOOKS = ["setup", "teardown"]
ENDED_AS_EXPECTED, WENT_WRONG = 0, 42
STRUCK, OWN = "struck", "own_of_steps"
EVERY_S = (0.0003, 0.001, 0.005)
_NOTES = "strikes"


class Struck(nb.Callback):
    """Puts, and logs, in the handler of a signal that comes every now and then; notes what
    returned.

    Args:
        folder: where to note it.
        strikes: what the handler does.
        every_s: how often the signal comes, in s.
    """

    name = "struck"

    def __init__(self, folder: Path, strikes: Strikes, every_s: float) -> None:
        self._folder, self._strikes, self._every_s = folder, strikes, every_s
        self._numbers = itertools.count()
        self._noted_fd = -1
        self._is_struck = False

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self._noted_fd = os.open(self._folder / _NOTES, os.O_WRONLY | os.O_CREAT)
        self._former = signal.signal(signal.SIGALRM, self._strike)
        signal.setitimer(signal.ITIMER_REAL, self._every_s, self._every_s)

    def on_train_batch_end(self, *_: Any) -> None:
        for __ in range(5):
            self._put(OWN)

    def _strike(self, *_: Any) -> None:
        if self._is_struck:  # not in the middle of itself
            return
        self._is_struck = True
        try:
            self._put(STRUCK)
            if self._strikes == "puts and logs":
                with contextlib.suppress(MetricError):  # between two hooks
                    self.log("struck_mean", 1.0, on_step=False, on_epoch=True)
        except OutsideRunError:
            signal.setitimer(signal.ITIMER_REAL, 0)  # the run is over
        finally:
            self._is_struck = False

    def _put(self, name: str) -> None:
        number = next(self._numbers)
        is_thrown_away = self.trainer.metrics.muted  # in the sanity check
        self.put(name, number)
        if not is_thrown_away:
            os.write(self._noted_fd, b"%d\n" % number)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._former)
        os.close(self._noted_fd)


class Forks(nb.Callback):
    """Forks a child at a hook, once, which leaves it in some way; its parent waits for its end.

    Args:
        hook: where.
        after: how often the hook was called before.
        way: of the child.
    """

    name = "forks"

    def __init__(self, hook: str, after: int, way: ChildWay) -> None:
        self._hook, self._calls_left, self._way = hook, after, way
        self.parent = os.getpid()

    def _fork(self, trainer: Any) -> None:
        self._calls_left -= 1
        if self._calls_left != -1:
            return
        pid = os.fork()
        if pid == 0:
            signal.setitimer(signal.ITIMER_REAL, 0)
            _CHILD[self._way](Path(str(trainer.log_dir)))
            return
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code != ENDED_AS_EXPECTED:
            raise AssertionError(f"the child that {self._way} in {self._hook} ended with {code}")


class LeftByChild(Exception):
    """Raised by a child."""


def _raises(_: Path) -> None:
    raise LeftByChild


def _exits(_: Path) -> None:
    sys.exit(0)


def _leaves_at_once(_: Path) -> None:
    os._exit(0)


def _trains_on(_: Path) -> None:
    """Its hook returns."""


def _trains_another(run: Path) -> None:
    own = nb.Trainer(max_epochs=1, default_root_dir=run.parent.parent / "of-child", **QUIET)
    own.fit(Small(), loader(8))
    os._exit(ENDED_AS_EXPECTED if own.global_step == 2 else WENT_WRONG)


_CHILD: dict[str, Callable[[Path], None]] = {
    "raises": _raises,
    "exits": _exits,
    "leaves at once": _leaves_at_once,
    "trains on": _trains_on,
    "trains another": _trains_another,
}


def forks(hook: str, after: int, way: ChildWay) -> Forks:
    """One that has this hook alone: the log also tells of some hooks because somebody has them."""

    def at(self: Forks, trainer: Any, *_: Any) -> None:
        self._fork(trainer)

    made: Forks = type("ForksAt", (Forks,), {hook: at})(hook, after, way)
    return made


def child_ended(parent: int, error: BaseException | None) -> None:
    """End a forked child that has come out of fit, in whatever way; return in its parent.

    Args:
        parent: the process that trains.
        error: what it came out with.
    """
    if os.getpid() == parent:
        return
    expected = isinstance(error, LeftByChild | ForkedChildError)
    expected = expected or (isinstance(error, SystemExit) and error.code == 0)
    if not expected:
        print(f"a child came out of fit with {error!r}", file=sys.stderr)
    os._exit(ENDED_AS_EXPECTED if expected else WENT_WRONG)


def draw_strikes(chance: random.Random) -> dict[str, Any]:
    """Any, for ``Within``."""
    return {
        "strikes": chance.choice(["puts", "puts and logs"]),
        "strikes_every_s": chance.choice(EVERY_S),
        "recording": chance.choice(["all", "metrics"]),
    }


def draw_fork(chance: random.Random, hooks: list[str]) -> dict[str, Any]:
    """Any, at one of these hooks, for ``Within``."""
    return {
        "forks_at": chance.choice(hooks),
        "forks_after": chance.choice([0, 0, 1, 3]),
        "child": chance.choice(CHILD_WAYS),
    }


def problems_of_strikes(folder: Path, graceful: bool) -> list[str]:
    """Each put that returned is in the log once, the log has no gap, and doctor finds nothing.

    Args:
        folder: of a training with a single attempt.
        graceful: whether its process ended by itself; of one that was killed, the log may lack the
            last puts, which were not written yet.
    """
    found: list[str] = []
    for run in list_runs(folder / "runs"):
        for log in attempt_logs(run):
            reader = LogReader(log.store)
            events = list(reader.events("all"))
            reader.close()
            if [event.seq for event in events] != list(range(len(events))):
                found.append("the log has a gap")
            puts = [e.value for e in events if isinstance(e, nb.Put) and e.name in (STRUCK, OWN)]
            if twice := [value for value, times in Counter(puts).items() if times > 1]:
                found.append(f"puts are there twice: {twice[:5]}")
            if graceful and (lost := sorted(_noted(folder) - set(puts))):
                found.append(f"puts that returned are not there: {lost[:5]}, {len(lost)} in all")
        if graceful:
            found += [f"doctor: {one.where}: {one.what}" for one in examine(run).problems]
    return found


def _noted(folder: Path) -> set[int]:
    path = folder / _NOTES
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return {int(line) for line in lines}
