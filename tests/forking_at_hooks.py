"""A run in which children are forked at many hooks; what became of them is told as JSON on stdout.

    python tests/forking_at_hooks.py FOLDER FUNCTION RECORDING

At each hook of a run, once, children are forked, one for each way to leave it.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forking_process import REFUSED, UpsetError, ended_with, exits, leaves_at_once, raises
from models import QUIET, Small, loader

import nightbus as nb
from nightbus.bus.errors import ForkedChildError

EXITED = 3
CAME_OUT = 43  # a child that trains on came to the end
HOOKS = {
    "fit": [
        "setup",
        "on_fit_start",
        "on_train_start",
        "on_train_batch_start",
        "on_before_optimizer_step",
        "on_validation_batch_end",
        "on_save_checkpoint",
        "on_train_epoch_end",
        "on_exception",
        "teardown",
    ],
    "validate": ["setup", "on_validation_start", "on_validation_batch_end", "teardown"],
    "test": ["setup", "on_test_start", "on_test_batch_end", "teardown"],
    "predict": ["setup", "on_predict_start", "on_predict_batch_end", "teardown"],
}


def trains_on() -> None:
    """The hook returns in the child."""


WAYS: list[Callable[[], None]] = [raises, exits, leaves_at_once, trains_on]


class Forks(nb.Callback):
    """Forks at hooks; the last batch of a fit fails in the parent."""

    def __init__(self) -> None:
        self.ended: dict[str, dict[str, int]] = {}
        self.number = 0

    def fork(self, hook: str) -> None:
        if hook in self.ended or os.getpid() != PARENT:
            return
        self.ended[hook] = {}
        for way in WAYS:
            self.ended[hook][way.__name__] = ended_with(way)
            if os.getpid() != PARENT:
                return

    def note(self) -> None:
        """Put how often it was called."""
        self.put("note", self.number)
        self.number += 1


def _at(hook: str) -> Callable[..., None]:
    def at(self: Forks, *_: Any) -> None:
        if hook.endswith("batch_end"):
            self.note()
        self.fork(hook)
        if hook.endswith("batch_end"):
            self.note()

    return at


for _hook in sorted({hook for hooks in HOOKS.values() for hook in hooks}):
    setattr(Forks, _hook, _at(_hook))
PARENT = os.getpid()


class Failing(Small):
    def on_train_end(self) -> None:
        if os.getpid() == PARENT:
            raise UpsetError


def main(folder: str, function: str, recording: Any) -> None:
    forks = Forks()
    run = nb.Trainer(
        max_epochs=1,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        recording=recording,
        callbacks=[forks, nb.ModelCheckpoint(every_n_train_steps=2)],
        **{**QUIET, "enable_checkpointing": True},
    )
    code = CAME_OUT
    try:
        if function == "fit":
            run.fit(Failing(), loader(), loader(8))
        else:
            getattr(run, function)(Small(), loader())
    except UpsetError:
        code = 0
    except ForkedChildError:
        code = REFUSED
    except SystemExit as ended:  # the interpreter's exit takes a second, a child
        code = int(str(ended.code))
    if os.getpid() != PARENT:
        os._exit(code)
    log = str(run.log_dir) if recording != "off" else ""
    print(json.dumps({"run": log, "ended": forks.ended, "notes": forks.number}))


if __name__ == "__main__":
    assert Path(sys.argv[1]).is_dir()
    main(*sys.argv[1:])
