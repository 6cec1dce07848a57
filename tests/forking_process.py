"""A training whose steps fork children, each of which goes another way; told as JSON on stdout.

    python tests/forking_process.py FOLDER WAY ...

Each way is taken in a step of its own. What became of the children is told by way: their exit
codes, negative for a signal.
"""

import contextlib
import json
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models import QUIET, Small, dataset
from torch.utils.data import DataLoader

import nightbus as nb
from nightbus.bus.errors import ForkedChildError

REFUSED = 41  # exit code of a child whose way ended with our own error
WENT_WRONG = 42
STEPS = 24


class UpsetError(Exception):
    """Raised by a child."""


def raises() -> None:
    raise UpsetError


def exits() -> None:
    sys.exit(3)


def leaves_at_once() -> None:
    os._exit(4)


def becomes_another_program() -> None:
    os.execv(sys.executable, [sys.executable, "-c", "import sys; sys.exit(5)"])


class Forking(Small):
    """Puts the number of each step, and forks in the steps that have a way."""

    def __init__(self, ways: list[str]) -> None:
        super().__init__()
        self.ways = ways
        self.ended: dict[str, int] = {}

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.put("before", batch_idx)
        if batch_idx < len(self.ways):
            way = self.ways[batch_idx]
            act: Callable[[], None] = getattr(self, way, None) or globals()[way]
            if way.startswith(("multiprocessing", "thread")):
                act()
            else:
                self.ended[way] = ended_with(act)
        self.put("after", batch_idx)
        return super().training_step(batch, batch_idx)

    # -- ways of children --------------------------------------------------------------------

    def trains_on(self) -> None:
        """The step goes on in the child."""

    def puts(self) -> None:
        self.put("of_a_child", 1.0)

    def logs(self) -> None:
        self.log("of_a_child", 1.0, on_step=False, on_epoch=True)

    def puts_a_text(self) -> None:
        self.put_text("of_a_child", "text")

    def tells(self) -> None:
        self.tell("fit", nb.Stop())

    def saves(self) -> None:
        self.trainer.save_checkpoint(Path(str(self.trainer.log_dir)) / "of-a-child")

    def attaches(self) -> None:
        self.trainer.attach(nb.JSONLines())

    def forks_again(self) -> None:
        sys.exit(ended_with(raises))

    def trains_another(self) -> None:
        """A Trainer of its own, in a folder of its own, with another module."""
        run = nb.Trainer(
            max_epochs=1, default_root_dir=Path(str(self.trainer.log_dir)) / "own", **QUIET
        )
        run.fit(Small(), DataLoader(dataset(8), 4))
        os._exit(0 if run.global_step == 2 else WENT_WRONG)

    def trains_the_same(self) -> None:
        """The same module, which its parent goes on to train."""
        folder = Path(str(self.trainer.log_dir)) / "own-same"
        run = nb.Trainer(max_epochs=1, default_root_dir=folder, **QUIET)
        self.ways = []
        run.fit(self, DataLoader(dataset(8), 4))
        os._exit(0 if run.global_step == 2 else WENT_WRONG)

    # -- children of other makers ------------------------------------------------------------

    def thread_forks(self) -> None:
        """Another thread than the one that trains."""

        def fork() -> None:
            self.ended["thread_forks"] = ended_with(leaves_at_once)

        thread = threading.Thread(target=fork)
        thread.start()
        thread.join()

    def multiprocessing_returns(self) -> None:
        self._multiprocess("multiprocessing_returns", int)

    def multiprocessing_raises(self) -> None:
        self._multiprocess("multiprocessing_raises", raises)

    def multiprocessing_puts(self) -> None:
        self._multiprocess("multiprocessing_puts", self.puts)

    def multiprocessing_is_ended(self) -> None:
        """A child that would go on is ended by SIGTERM, as a pool ends its workers."""
        process = multiprocessing.get_context("fork").Process(target=threading.Event().wait)
        process.start()
        process.terminate()
        process.join()
        assert process.exitcode is not None
        self.ended["multiprocessing_is_ended"] = process.exitcode

    def multiprocessing_pool(self) -> None:
        with multiprocessing.get_context("fork").Pool(1) as pool:
            self.ended["multiprocessing_pool"] = pool.apply(int)

    def multiprocessing_subprocess(self) -> None:
        """With a function that runs between fork and exec."""
        command = [sys.executable, "-c", "import sys; sys.exit(6)"]
        ended = subprocess.run(command, preexec_fn=int, check=False)
        self.ended["multiprocessing_subprocess"] = ended.returncode

    def _multiprocess(self, way: str, target: Callable[[], Any]) -> None:
        process = multiprocessing.get_context("fork").Process(target=target)
        process.start()
        process.join()
        assert process.exitcode is not None
        self.ended[way] = process.exitcode


def ended_with(act: Callable[[], None]) -> int:
    """Fork a child that acts, and wait for its end; only the parent comes back, or a child that has
    not ended by what it did.
    """
    pid = os.fork()
    if pid == 0:
        act()
        return -1
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main(folder: str, workers: str, *ways: str) -> None:
    parent = os.getpid()
    module = Forking(list(ways))
    data = DataLoader(
        dataset(4 * STEPS), 4, num_workers=int(workers), persistent_workers=workers != "0"
    )
    run = nb.Trainer(
        max_epochs=1,
        default_root_dir=folder,
        sinks=[nb.CSV(), nb.JSONLines(), nb.SQLite()],
        **{**QUIET, "enable_checkpointing": True},
    )
    with contextlib.suppress(UpsetError):
        try:
            run.fit(module, data)
        except ForkedChildError as error:
            sys.exit(REFUSED if os.getpid() != parent else f"refused in the parent: {error}")
    if os.getpid() != parent:
        sys.exit(0)
    print(json.dumps({"run": run.log_dir, "ended": module.ended, "steps": run.global_step}))


if __name__ == "__main__":
    main(*sys.argv[1:])
