"""A program of two ranks, one of which is asked for something where no step is trained.

A signal ends each case; the rank that does not get it, or has fewer batches, has to end with it.
"""

import itertools
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import torch.distributed as dist
from ranks_ends import batches
from ranks_fit import Net, case, loader, main, trainer
from torch import Tensor, zeros

import nightbus as nb

CASES: list[Any] = []
_NUMBERS = itertools.count()
UNTIL_IT_ENDS = 1_000_000  # batches of a rank; an evaluation that no signal ends takes minutes


class Stream:
    """Batches of an evaluation, another number on each rank."""

    def __init__(self, *of_ranks: int) -> None:
        self.of_ranks = of_ranks

    def __iter__(self) -> Iterator[Any]:
        yield from itertools.repeat(batches(1)[0], self.of_ranks[dist.get_rank()])


class Asked(Net):
    """Gets a signal somewhere, on one rank.

    Args:
        where: the hook.
        rank: which one.
        number: the signal.
    """

    def __init__(self, where: str, rank: int, number: signal.Signals = signal.SIGTERM) -> None:
        super().__init__()
        self.where, self.rank, self.number = where, rank, number
        self.evaluated = 0

    def at(self, where: str) -> None:
        if where == self.where and dist.get_rank() == self.rank:
            self.where = ""
            os.kill(os.getpid(), self.number)

    def setup(self, stage: str) -> None:
        self.at("setup")

    def evaluate(self) -> None:
        self.evaluated += 1
        self.at("sanity check" if self.trainer.sanity_checking else "evaluation")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.evaluate()
        self.log("val_loss", self.loss(batch))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        self.evaluate()
        return zeros(1)

    def on_fit_end(self) -> None:
        self.at("on_fit_end")


class WhileOpened(Asked):
    """Gets the signal while the run is opened: its hyperparameters are asked for then."""

    @property
    def hparams(self) -> Any:
        self.at("opened")
        return super().hparams


class Agreeing(nb.Callback):
    """Keeps on what all ranks acted, and where."""

    name = "agreeing"

    def __init__(self) -> None:
        self.agreed: list[Any] = []

    @nb.on(nb.Agreed)
    def hear(self, agreed: nb.Agreed) -> None:
        self.agreed.append([agreed.point, agreed.what, agreed.asked_by, agreed.stage])


def ended(function: str, module: Any, data: Any = None, **options: Any) -> dict[str, Any]:
    """How a run ends."""
    agreeing = Agreeing()
    kept = {"recording": "all", "default_root_dir": f"run-{next(_NUMBERS)}"}
    running = trainer(**kept, **{"callbacks": [agreeing], **options})
    code: Any = "returned"
    try:
        if function == "fit":
            running.fit(module, loader(), data)
        else:
            getattr(running, function)(module, data)
    except SystemExit as end:
        code = end.code
    checkpoints = running.run_folder and running.run_folder.path / "checkpoints" / "last"
    return {
        "code": code,
        "interrupted": running.interrupted,
        "agreed": agreeing.agreed,
        "steps": running.global_step,
        "evaluated": module.evaluated,
        "is_saved": bool(checkpoints and checkpoints.exists()),
    }


@case(CASES)
def while_the_run_is_opened() -> Any:
    return ended("fit", WhileOpened("opened", 1), max_epochs=-1)


@case(CASES)
def during_set_up() -> Any:
    return ended("fit", Asked("setup", 1), max_epochs=-1)


@case(CASES)
def during_set_up_of_rank_0() -> Any:
    return ended("fit", Asked("setup", 0, signal.SIGINT), max_epochs=-1)


@case(CASES)
def in_the_sanity_check() -> Any:
    return ended("fit", Asked("sanity check", 1), Stream(2, 2), max_epochs=-1)


@case(CASES)
def in_validation_of_the_rank_with_fewer_batches() -> Any:
    return ended("validate", Asked("evaluation", 0), Stream(2, UNTIL_IT_ENDS))


@case(CASES)
def in_test_of_the_rank_with_more_batches() -> Any:
    return ended("test", Asked("evaluation", 1, signal.SIGINT), Stream(2, UNTIL_IT_ENDS))


@case(CASES)
def in_prediction_without_a_batch() -> Any:
    return ended("predict", Asked("evaluation", 0), Stream(UNTIL_IT_ENDS, 0))


@case(CASES)
def in_validation_within_training() -> Any:
    return ended(
        "fit",
        Asked("evaluation", 1),
        Stream(2, UNTIL_IT_ENDS),
        num_sanity_val_steps=0,
        enable_checkpointing=True,
    )


@case(CASES)
def after_the_last_step() -> Any:
    return ended("fit", Asked("on_fit_end", 1), max_steps=2)


class StopsInValidation(Asked):
    """Asks to stop in its first validation, on rank 1, whose data ends once that is agreed."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        if dist.get_rank() == 1 and self.evaluated == 0:
            self.trainer.should_stop = True
        super().validation_step(batch, batch_idx)


class UntilAgreed:
    """Batches of validation: one on rank 0, and on rank 1 until all have agreed on something."""

    def __init__(self, agreeing: Agreeing) -> None:
        self.agreeing = agreeing

    def __iter__(self) -> Iterator[Any]:
        for idx in itertools.count():
            if idx and (self.agreeing.agreed or dist.get_rank() == 0):
                return
            yield batches(1)[0]


@case(CASES)
def should_stop_in_validation() -> Any:
    agreeing = Agreeing()
    return ended(
        "fit",
        StopsInValidation("", 0),
        UntilAgreed(agreeing),
        callbacks=[agreeing],
        num_sanity_val_steps=0,
        max_epochs=-1,
    ) | {"agreed": agreeing.agreed}


class Stops(Asked):
    """Is told to stop in a step of its own, and on rank 1 after the last of its run, too."""

    def __init__(self, at_step: int, is_late: bool = False) -> None:
        super().__init__("", 0)
        self.at_step, self.is_late = at_step, is_late

    def on_train_batch_end(self, *_: Any) -> None:
        if self.global_step == self.at_step and dist.get_rank() == 1:
            self.trainer.tell("fit", nb.Stop(reason="enough"))

    def on_fit_end(self) -> None:
        if self.is_late and dist.get_rank() == 1:
            self.trainer.tell("fit", nb.Stop(reason="too late"))


@case(CASES)
def a_stop_after_one_that_came_too_late() -> Any:
    ended("fit", Stops(-1, is_late=True), max_steps=3)
    return ended("fit", Stops(2), max_epochs=-1, max_steps=3_000)


if __name__ == "__main__":
    main(sys.argv[1:], CASES)
