"""What training trials train: small, varied, and stopped from within where a trial says so.

Everything here runs in a process of its own, which its parent forked and which does not return.
"""

import contextlib
import faulthandler
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

import numpy as np
import torch
from models import QUIET, Small, dataset
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from trial_shortages import Greed, NoDescriptors, greedy_actors
from trial_strikes import ChildWay, Strikes, Struck, child_ended, forks

import nightbus as nb
from nightbus.actors.checkpoints.format import write_checkpoint

NAME = "trial"
FINAL = "final"  # where a completed training leaves its weights and optimizers
CALLS = "calls"  # and how often it changed files

COMPLETED, ENDED_EARLY, THREAD_LEFT, OUT_OF_LUCK, OTHER_ERROR = 0, 3, 4, 7, 1
INTERRUPTED = 130  # Ctrl-C where no run was going on

Where = Literal["training_step", "validation_step", "on_train_epoch_end", "on_validation_end"]
_CHANGES = {
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
}


class Setting(NamedTuple):
    """A training.

    Attributes:
        seed: of all that it draws.
        epochs, samples: how long; batches have 4 samples.
        validates: whether there is validation.
        val_check_interval: after how many batches; 1.0 for the epoch's end.
        accumulate: batches a step.
        adam: with Adam instead of SGD.
        own_generator: whether the loader draws from a generator of its own.
        workers: processes that load.
        every_n_train_steps, monitor, save_top_k, save_last: of ModelCheckpoint; without one if the
            first is 0.
        slow_sink_s: how long the CSV sink takes for a batch of puts, in s.
        step_s: how long a step takes at least, in s.
    """

    seed: int
    epochs: int
    samples: int
    validates: bool
    val_check_interval: int | float
    accumulate: int
    adam: bool
    own_generator: bool
    workers: int
    every_n_train_steps: int
    monitor: str | None
    save_top_k: int
    save_last: bool
    slow_sink_s: float
    step_s: float


def draw_setting(chance: random.Random) -> Setting:
    """Any training."""
    validates = chance.random() < 0.7
    samples = chance.choice([16, 20, 22, 28])
    monitor = chance.choice([None, "train_loss"])
    return Setting(
        seed=chance.randrange(1 << 30),
        epochs=chance.choice([2, 3]),
        samples=samples,
        validates=validates,
        val_check_interval=chance.choice([1.0, 2, 3]) if validates else 1.0,
        accumulate=chance.choice([1, 1, 2, 3]),
        adam=chance.random() < 0.5,
        own_generator=chance.random() < 0.3,
        workers=int(chance.random() < 0.06),
        every_n_train_steps=chance.choice([0, 1, 2, 3]),
        monitor=monitor,
        save_top_k=chance.choice([1, 2, -1] if monitor else [1, -1]),
        save_last=chance.random() < 0.5,
        slow_sink_s=chance.choice([0.0, 0.0, 0.03]),
        step_s=chance.choice([0.0, 0.001, 0.003]),
    )


class Within(NamedTuple):
    """What happens to a training from within its process.

    Attributes:
        signal: sent to itself after so many batches.
        after_batches: how many.
        fails_in: where user code raises an error then, instead of a signal.
        before_call: SIGKILL right before it changes files for the so many-th time.
        file_limit: how large its files may get from ``after_batches`` on, in bytes.
        sabotage: a fault put into nightbus itself, which the trials must find out.
        no_descriptors_for: for so many batches from ``after_batches`` on, no file can be opened.
        greed: how an actor keeps the bus thread to itself.
        strikes, strikes_every_s: what a signal's handler does, and how often it comes, in s.
        forks_at, forks_after, child: the hook at which a child is forked, after how many calls of
            it, and how the child leaves.
        recording: the Trainer's.
    """

    signal: int = 0
    after_batches: int = -1
    fails_in: Where | None = None
    before_call: int = 0
    file_limit: int | None = None
    sabotage: str = ""
    no_descriptors_for: int = 0
    greed: Greed = ""
    strikes: Strikes = ""
    strikes_every_s: float = 0.0
    forks_at: str = ""
    forks_after: int = 0
    child: ChildWay = ""
    recording: Literal["all", "metrics"] = "all"


class OutOfLuck(Exception):
    """Raised by user code."""


class Drawing(Small):
    """Draws random numbers of all kinds, averages over the epoch, and has schedulers."""

    def __init__(self, setting: Setting, within: Within) -> None:
        super().__init__()
        self.setting, self.within = setting, within
        self.batches = 0  # of this process
        self.net = nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2)
        )

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        time.sleep(self.setting.step_s)
        if self.batches == self.within.after_batches:
            if self.within.signal:
                os.kill(os.getpid(), self.within.signal)
            if self.within.file_limit is not None:
                hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
                resource.setrlimit(resource.RLIMIT_FSIZE, (self.within.file_limit, hard))
        self._fail_in("training_step")
        self.batches += 1
        x, y = batch
        x = x + 0.1 * torch.randn_like(x) + random.gauss(0, 0.01) + np.random.normal(0, 0.01)
        loss = F.cross_entropy(self(x), y)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        if batch_idx % 3 == 1:
            self.log("now_and_then", random.random())
        self.put("noise", random.random())
        return loss

    def _fail_in(self, where: Where) -> None:
        if self.within.fails_in == where and self.batches >= self.within.after_batches:
            raise OutOfLuck(where)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self._fail_in("validation_step")
        self.log("val_loss", self.loss(batch) + random.gauss(0, 0.01))

    def on_train_epoch_end(self, *_: Any) -> None:
        self._fail_in("on_train_epoch_end")

    def on_validation_end(self) -> None:
        self._fail_in("on_validation_end")

    def configure_optimizers(self) -> Any:
        parameters = self.parameters()
        optimizer: Any = (
            torch.optim.Adam(parameters, lr=0.05)
            if self.setting.adam
            else torch.optim.SGD(parameters, lr=0.05, momentum=0.9)
        )
        schedulers = [
            {"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.7), "interval": "epoch"},
            {"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 5, 0.9), "interval": "step"},
        ]
        return [optimizer], schedulers


def make_trainer(folder: Path, setting: Setting, within: Within) -> nb.Trainer:
    csv = nb.CSV()
    if setting.slow_sink_s:
        setattr(csv, "write", _slowed(csv.write, setting.slow_sink_s))  # noqa: B010
    callbacks: list[nb.Callback] = []
    if setting.every_n_train_steps:
        callbacks.append(
            nb.ModelCheckpoint(
                every_n_train_steps=setting.every_n_train_steps,
                monitor=setting.monitor,
                save_top_k=setting.save_top_k,
                save_last=setting.save_last,
            )
        )
    if within.no_descriptors_for:
        callbacks.append(NoDescriptors(within.after_batches, within.no_descriptors_for))
    if within.strikes:
        callbacks.append(Struck(folder, within.strikes, within.strikes_every_s))
    if within.child:
        callbacks.append(forks(within.forks_at, within.forks_after, within.child))
    return nb.Trainer(
        max_epochs=setting.epochs,
        default_root_dir=folder,
        run_name=NAME,
        callbacks=callbacks,
        actors=greedy_actors(within.greed),
        sinks=[csv, nb.JSONLines()],
        accumulate_grad_batches=setting.accumulate,
        val_check_interval=setting.val_check_interval,
        log_every_n_steps=1,
        recording=within.recording,
        drain_timeout=0.2 if setting.slow_sink_s else 30.0,
        **QUIET,
    )


def _slowed(write: Callable[[list[Any]], Any], seconds: float) -> Callable[[list[Any]], Any]:
    def slow(batch: list[Any]) -> Any:
        time.sleep(seconds)
        return write(batch)

    return slow


def train(folder: Path, setting: Setting, within: Within) -> int:
    """Train from the newest checkpoint on, or from the start if there is none.

    Returns:
        COMPLETED, with the final state in FINAL, or ENDED_EARLY.
    """
    nb.seed_everything(setting.seed)
    module = Drawing(setting, within)
    generator = torch.Generator().manual_seed(11) if setting.own_generator else None
    data: DataLoader[Any] = DataLoader(
        dataset(setting.samples), 4, shuffle=True, generator=generator, num_workers=setting.workers
    )
    validation = DataLoader(dataset(8, seed=2), 4, shuffle=True) if setting.validates else None
    run = make_trainer(folder, setting, within)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    parent = os.getpid()
    try:
        run.fit(module, data, validation, ckpt_path="last")
    except BaseException as error:
        child_ended(parent, error)
        raise
    child_ended(parent, None)
    if run.interrupted or run.should_stop:
        return ENDED_EARLY
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    final = folder / FINAL
    shutil.rmtree(final, ignore_errors=True)  # of one that was killed behind its run
    optimizers = [optimizer.state_dict() for optimizer in run.optimizers]
    write_checkpoint(final, {"weights": module.state_dict(), "optimizers": optimizers})
    return COMPLETED


def run_in_this_process(folder: Path, setting: Setting, within: Within, output: int) -> NoReturn:
    """Be the process that trains, say what there is to say to a file descriptor, and end."""
    code = OTHER_ERROR
    try:
        _become_one_of_its_own(folder, output)
        calls = _CountedCalls(folder, within.before_call)
        with _sabotaged(within.sabotage):
            code = train(folder, setting, within)
        (folder / CALLS).write_text(str(calls.number))
    except OutOfLuck:
        code = OUT_OF_LUCK
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else OTHER_ERROR
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BaseException:
        traceback.print_exc()
    finally:
        # A worker thread of trio's keeps nobody from ending: it may be a sink's that was given up.
        # A worker thread of trio's keeps nobody from ending: it may be a sink's that was given up.
        left = [
            thread.name
            for thread in threading.enumerate()
            if thread is not threading.current_thread()
            and (not thread.daemon or thread.name.startswith("nightbus"))
        ]
        if left:
            print("threads left behind:", left, file=sys.stderr)
            code = THREAD_LEFT
        sys.stderr.flush()
        os._exit(code)


def _become_one_of_its_own(folder: Path, output: int) -> None:
    os.setsid()
    for fd in (1, 2):
        os.dup2(output, fd)
    shutil.rmtree(folder / "tmp", ignore_errors=True)  # of one that was killed
    (folder / "tmp").mkdir()
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "torch")
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "tmp")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    faulthandler.register(signal.SIGUSR2)


class _CountedCalls:
    """Counts the calls of this process that change files below a folder, and may end it at one."""

    def __init__(self, folder: Path, kill_before: int) -> None:
        self.number = 0
        self._folder = str(folder / "runs")
        self._kill_before = kill_before
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _CHANGES and not (event == "open" and self._creates(arguments)):
            return
        # Within a folder that is removed, names are relative to it.
        path = str(arguments[0])
        if path.startswith("/") and not path.startswith(self._folder):
            return
        self.number += 1
        if self.number == self._kill_before:
            os.kill(os.getpid(), signal.SIGKILL)

    @staticmethod
    def _creates(arguments: tuple[Any, ...]) -> bool:
        return bool(arguments[2] & os.O_CREAT) and isinstance(arguments[0], str | os.PathLike)


@contextlib.contextmanager
def _sabotaged(how: str) -> Any:
    """Put a fault into nightbus, to see that the trials find it."""
    from nightbus.actors.saving import run_state

    if how == "forgets random numbers":
        setattr(run_state, "set_rng_state", lambda state: None)  # noqa: B010
    yield
