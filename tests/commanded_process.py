"""A training process whose actors take commands of their own: it says when it is ready.

python commanded_process.py FOLDER [--validate]
"""

import math
import sys
import threading
import time
from pathlib import Path
from typing import Any

from models import QUIET, Small, loader
from steered_process import say

import nightbus as nb


class SetRate(nb.Command, name="tests.SetRate"):
    """Change the learning rate."""

    rate: float
    why: str = ""


class Describe(nb.Command, name="tests.Describe"):
    """Say what is there, as plain data."""


class Return(nb.Command, name="tests.Return"):
    """Return something of a kind that an answer may not hold."""

    kind: str


class Fail(nb.Command, name="tests.Fail"):
    """Raise."""


class Unheard(nb.Command, name="tests.Unheard"):
    """Nobody takes this."""

    number: int


class Nameless(nb.Command):
    """For this process alone."""


class Odd:
    def __str__(self) -> str:
        raise RuntimeError("not to be shown")


class Rates(nb.Actor):
    """Takes commands on the training thread, at safe points."""

    def __init__(self) -> None:
        self.rate = 0.1

    @nb.on(SetRate)
    def set_rate(self, command: SetRate) -> float:
        assert threading.current_thread() is threading.main_thread()
        before, self.rate = self.rate, command.rate
        return before

    @nb.on(Nameless)
    def take(self, command: Nameless) -> None:
        pass


class Knows(nb.Actor):
    """Takes commands on the bus thread."""

    @nb.on(Describe)
    async def describe(self, command: Describe) -> dict[str, Any]:
        return {"actors": ["rates", "knows"], "text": "a\x1b[31mb", "none": None}

    @nb.on(Return)
    async def give(self, command: Return) -> Any:
        return {
            "nothing": None,
            "text": "one line\nand another",
            "long": "x" * 100_000,
            "odd": Odd(),
            "set": {1},
            "nan": math.nan,
            "keys": {(1, 2): 3},
            "number": 0.25,
        }[command.kind]

    @nb.on(Fail)
    async def fail(self, command: Fail) -> None:
        raise ValueError("as it was told to")


class Tells(Small):
    """Says each batch, and the run's folder."""

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        time.sleep(0.002)  # the work of a step: it leaves the processor to those who steer it
        say(f"batch {self.trainer.global_step} {self.trainer.log_dir}")

    def on_validation_batch_end(self, *_: Any) -> None:
        time.sleep(0.002)
        say(f"batch {self.trainer.global_step} {self.trainer.log_dir}")


def main() -> None:
    folder = Path(sys.argv[1])
    knows = Knows()
    knows.supervision = nb.Supervision(restarts=1000)
    trainer = nb.Trainer(max_epochs=-1, default_root_dir=folder, actors=[Rates(), knows], **QUIET)
    if "--validate" in sys.argv:
        trainer.validate(Tells(), loader(100_000))
    trainer.fit(Tells(), loader())
    say(f"ended {trainer.stop_reason}")


if __name__ == "__main__":
    main()
