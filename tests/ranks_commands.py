"""A program of two ranks: what one of them commands or ends, and scripts of several runs."""

import sys
import threading
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from ranks_fit import Net, bits, case, loader, main, trainer
from ranks_log import Evaluated, numbered
from ranks_variants import Validated

import nightbus as nb
from nightbus.actors.callbacks import timer as timer_of_callbacks

CASES: list[Any] = []
LIMIT = 5000  # steps of a run that what is asked does not end


class Asks(nb.Callback):
    """Has one rank do something at the start of a batch, and keeps what all then do."""

    def __init__(self, rank: int, at: int, do: Any) -> None:
        self.rank, self.at, self.do = rank, at, do
        self.validated: list[int] = []
        self.last_batches: list[int] = []

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> Any:
        if dist.get_rank() == self.rank and trainer.global_step == self.at:
            return self.do(trainer)
        return None

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        self.validated.append(trainer.global_step)

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        self.last_batches.append(trainer.fit_loop.batch_idx)


def asked(rank: int, do: Any, at: int = 3, **options: Any) -> Any:
    asks = Asks(rank, at, do)
    module = Validated()
    given = {"max_epochs": -1, "max_steps": LIMIT, "num_sanity_val_steps": 0, **options}
    fitting = trainer(**{**given, "callbacks": [asks, *given.get("callbacks", ())]})
    fitting.fit(module, loader(batch_size=1), loader())
    return {
        "bits": bits(module),
        "steps": fitting.global_step,
        "epochs": fitting.current_epoch,
        "validated": asks.validated,
        "last_batches": asks.last_batches,
    }


def set_should_stop(trainer: Any) -> None:
    trainer.should_stop = True


@case(CASES)
def should_stop_within_an_epoch() -> Any:
    return asked(1, set_should_stop)


@case(CASES)
def the_end_of_an_epoch() -> Any:
    return asked(1, lambda trainer: -1, max_epochs=1)


@case(CASES)
def a_validation() -> Any:
    def ask(trainer: Any) -> None:
        trainer.tell("fit", nb.RunValidation())

    return asked(1, ask, max_steps=18, check_val_every_n_epoch=None, val_check_interval=1000)


@case(CASES)
def a_pause_until_the_other_rank_resumes() -> Any:
    class Resumes(nb.Callback):
        """Rank 0 resumes what rank 1 has paused."""

        @nb.on(nb.Agreed)
        def hear(self, agreed: nb.Agreed) -> None:
            if "Pause" in agreed.what and dist.get_rank() == 0:
                threading.Timer(0.05, lambda: fitting.tell("fit", nb.Resume())).start()

    fitting: Any = None

    def ask(trainer: Any) -> None:
        trainer.tell("fit", nb.Pause())

    asks = Asks(1, 3, ask)
    module = Net()
    kept = {"recording": "all", "default_root_dir": "paused"}
    fitting = trainer(max_epochs=-1, max_steps=30, callbacks=[asks, Resumes()], **kept)
    fitting.fit(module, loader())
    return {"bits": bits(module), "steps": fitting.global_step}


class StopsAtValidation(nb.Callback):
    def on_validation_epoch_end(self, trainer: Any, module: Any) -> None:
        if dist.get_rank() == 1:
            trainer.should_stop = True


@case(CASES)
def should_stop_at_the_end_of_a_validation() -> Any:
    return asked(0, lambda trainer: None, callbacks=[StopsAtValidation()])


class ClockOfRank1:
    """Goes on by a second at each look, on rank 1; on rank 0, it stands still."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += dist.get_rank()
        return self.now_s


@case(CASES)
def the_timer_of_one_rank() -> Any:
    with mock.patch.object(timer_of_callbacks, "monotonic", ClockOfRank1()):
        stops = nb.Timer({"seconds": 20}, verbose=False)
        return asked(0, lambda trainer: None, callbacks=[stops])


@case(CASES)
def max_time_of_one_rank() -> Any:
    is_limited = dist.get_rank() == 1
    return asked(0, lambda trainer: None, max_time={"milliseconds": 1} if is_limited else None)


# -- predictions -------------------------------------------------------------------------------


class Writes(nb.BasePredictionWriter):
    """A file for each rank."""

    def write_on_epoch_end(
        self, trainer: Any, module: Any, predictions: Any, batch_indices: Any
    ) -> None:
        values = [int(number) for batch in predictions for number in batch]
        indices = [index for of_loader in batch_indices for batch in of_loader for index in batch]
        torch.save([values, indices], f"predictions-{trainer.global_rank}.pt")


@case(CASES)
def predictions() -> Any:
    predicting = trainer(callbacks=[Writes("epoch")])
    returned: Any = predicting.predict(Evaluated(), numbered(7, 2))
    predicting.barrier()
    written = [torch.load(f"predictions-{rank}.pt") for rank in (0, 1)]
    return {
        "returned": [int(number) for batch in returned for number in batch],
        "indices": [indices for _, indices in written],
        "whole": restored(written, 7),
    }


def restored(written: list[Any], samples: int) -> list[int]:
    """The predictions of all ranks in the order of the dataset."""
    by_index = {
        idx: v for values, indices in written for v, idx in zip(values, indices, strict=True)
    }
    return [by_index[idx] for idx in range(samples)]


# -- several runs ------------------------------------------------------------------------------


def script(seed: int) -> Any:
    """What a function of a script does, which may be called several times."""
    nb.seed_everything(seed)
    module = Evaluated()
    fitting = trainer(max_epochs=1)
    fitting.fit(module, loader(shuffle=True), numbered())
    validated = fitting.validate(module, numbered(), verbose=False)
    tested = trainer().test(module, numbered(), verbose=False)
    return {"bits": bits(module), "validated": validated, "tested": tested}


@case(CASES)
def a_function_called_twice() -> Any:
    return [script(3), script(3)]


@case(CASES)
def a_trainer_used_again() -> Any:
    module, fitting = Evaluated(), trainer(max_epochs=1)
    fitting.fit(module, loader())
    fitting.fit_loop.max_epochs = 2
    fitting.fit(module, loader())
    found: Any = fitting.predict(module, numbered(3))
    return {"bits": bits(module), "steps": fitting.global_step, "predicted": len(found)}


if __name__ == "__main__":
    Path("paused").mkdir(exist_ok=True)
    main(sys.argv[1:], CASES)
