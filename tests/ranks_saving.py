"""A program of two ranks whose checkpoints cannot all be written, or are asked for at any time."""

import contextlib
import io
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from helpers import DEADLINE_S
from ranks_fit import SEED, bits, case, loader, main, trainer
from ranks_resume import Noisy, what_it_has
from torchmetrics import CatMetric

import nightbus as nb
from nightbus.actors.ranks import process_group
from nightbus.actors.saving import users_save

CASES: list[Any] = []


class DiskFull(nb.Callback):
    """Keeps rank 0 from writing what is saved at the end of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def checkpoints(self, trainer: Any) -> Path:
        return Path(trainer.run_folder.path) / "checkpoints"

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        if trainer.is_global_zero and trainer.current_epoch == self.epoch:
            folder = self.checkpoints(trainer)
            trainer.checkpointer._writer.wait()
            folder.rename(folder.with_name("aside"))
            folder.write_text("in the way")

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        if trainer.is_global_zero and trainer.current_epoch == self.epoch + 1:
            self.make_room(trainer)

    def on_fit_end(self, trainer: Any, module: Any) -> None:
        if trainer.is_global_zero and self.checkpoints(trainer).is_file():
            self.make_room(trainer)

    def make_room(self, trainer: Any) -> None:
        deadline_s = time.monotonic() + DEADLINE_S
        while trainer.checkpointer._writer._writing is not None:
            if trainer.checkpointer._writer.has_failed or time.monotonic() > deadline_s:
                break
        folder = self.checkpoints(trainer)
        folder.unlink()
        folder.with_name("aside").rename(folder)


def paths(fitting: Any) -> dict[str, Any]:
    """What the ranks say of the run's checkpoints."""
    best = fitting.checkpoint_callbacks[0]
    return {
        "best_model_path": best.best_model_path,
        "best_model_score": float(best.best_model_score),
        "best_k_models": sorted(best.best_k_models),
        "kth_best_model_path": best.kth_best_model_path,
        "last_model_path": best.last_model_path,
        "callbacks": [each.best_model_path for each in fitting.checkpoint_callbacks],
        "last": str(fitting.checkpointer.last_path),
        "log_dir": str(fitting.log_dir),
        "epochs": fitting.current_epoch,
    }


def with_trainer(folder: str, ckpt_path: Any = None, **options: Any) -> nb.Trainer:
    """A trainer that has trained on epochs of 18 batches, or was ended in one."""
    torch.manual_seed(SEED)
    module = Noisy()
    torch.manual_seed(SEED + dist.get_rank() if dist.is_initialized() else SEED)
    kept = {"enable_checkpointing": True, "recording": "all", "default_root_dir": folder}
    fitting = trainer(**({"max_epochs": 4} | kept | options))
    with contextlib.suppress(SystemExit):  # of SIGTERM
        fitting.fit(module, loader(1, shuffle=True), loader(), ckpt_path=ckpt_path)
    return fitting


def with_full_disk(folder: str, epoch: int, **options: Any) -> dict[str, Any]:
    saving = [
        nb.ModelCheckpoint(monitor="val", save_top_k=2, save_last=True),
        nb.ModelCheckpoint(filename="newest-{epoch}"),
    ]
    return paths(with_trainer(folder, callbacks=[DiskFull(epoch), *saving], **options))


@case(CASES)
def full_in_between() -> Any:
    return with_full_disk("between", 1)


@case(CASES)
def full_at_the_end() -> Any:
    return with_full_disk("end", 3)


@case(CASES)
def full_and_nothing_but_the_runs_own() -> Any:
    fitting = with_trainer("own", callbacks=[DiskFull(1)])
    return [str(fitting.checkpointer.last_path), fitting.current_epoch]


class Asks(nb.Callback):
    """Does something in a batch of the first epoch, on one rank or on all."""

    def __init__(self, asks: Callable[[Any], object], batch_idx: int, ranks: Sequence[int]) -> None:
        self.asks, self.batch_idx, self.ranks = asks, batch_idx, ranks

    def on_train_batch_end(self, trainer: Any, module: Any, out: Any, batch: Any, idx: int) -> None:
        place = (trainer.current_epoch, idx, trainer.global_rank in self.ranks)
        if place == (0, self.batch_idx, True):
            self.asks(trainer)


def saved_within(fitting: nb.Trainer) -> Path:
    """The checkpoint in the run's folder that was saved in the middle of an epoch."""
    assert fitting.run_folder is not None
    fitting.barrier()
    found = [
        path
        for path in (fitting.run_folder.path / "checkpoints").iterdir()
        if path.name != "last" and int(path.name.partition("step=")[2]) % 18
    ]
    assert len(found) == 1, found
    return found[0]


def resumed(asks: Callable[[Any], object], batch_idx: int, *ranks: int) -> Any:
    """What a run has that goes on from where another one was saved or ended."""
    first = with_trainer("asked", callbacks=[Asks(asks, batch_idx, ranks)], max_epochs=1)
    return what_it_has(with_trainer("asked", saved_within(first), max_epochs=2))


@case(CASES)
def unstopped() -> Any:
    return what_it_has(with_trainer("unstopped", max_epochs=2))


@case(CASES)
def saved_by_command() -> Any:
    return resumed(lambda trainer: trainer.tell("fit", nb.SaveCheckpoint()), 1, 1)


@case(CASES)
def stopped_by_command() -> Any:
    return resumed(lambda trainer: trainer.tell("fit", nb.Stop()), 0, 1)


@case(CASES)
def saved_by_sigusr1() -> Any:
    return resumed(lambda _: os.kill(os.getpid(), signal.SIGUSR1), 2, 1)


@case(CASES)
def ended_by_sigterm() -> Any:
    return resumed(lambda _: os.kill(os.getpid(), signal.SIGTERM), 3, 1)


@case(CASES)
def saved_by_user() -> Any:
    """In a hook of a batch, and after the run."""
    saved = lambda trainer: trainer.save_checkpoint("in-a-hook")  # noqa: E731
    first = with_trainer("user", callbacks=[Asks(saved, 5, (0, 1))], max_epochs=1)
    first.save_checkpoint("after")
    first.save_checkpoint("weights", weights_only=True)
    loaded = Noisy.load_from_checkpoint("weights")
    return {
        "resumed": [
            what_it_has(with_trainer("user", path, max_epochs=2)) for path in ("in-a-hook", "after")
        ],
        "has_weights": bits(loaded) == bits(first.lightning_module),
    }


@case(CASES)
def saved_by_user_on_one_rank() -> Any:
    """In training, on rank 0 and on rank 1; and in the end."""
    users_save.MEET_WITHIN_S = 0.3

    def asks(where: str) -> Any:
        return lambda trainer: trainer.save_checkpoint(where)

    told = io.StringIO()
    with contextlib.redirect_stderr(told):
        callbacks = [Asks(asks("zero"), 3, (0,)), Asks(asks("one"), 4, (1,))]
        fitting = with_trainer("alone", callbacks=callbacks, max_epochs=1)
        if fitting.is_global_zero:
            fitting.save_checkpoint("zero-after")
    found = [path for path in ("zero", "one", "zero-after") if Path(path).exists()]
    return {"found": found, "warnings": told.getvalue(), "steps": fitting.global_step}


class Gathers(Noisy):
    """Each rank gathers something in a Metric that no other has."""

    def __init__(self, values: Sequence[Any]) -> None:
        super().__init__()
        self.all = CatMetric()
        self.values = values

    def on_train_start(self) -> None:
        if not self.all._update_count:
            self.all.update(0.0)
            values: Any = self.all.value
            values.append(self.values[self.global_rank])


def gathered(folder: str, *values: Any) -> Any:
    fitting = trainer(
        enable_checkpointing=True, recording="all", default_root_dir=folder, max_epochs=1
    )
    fitting.fit(Gathers(values), loader())
    return fitting


@case(CASES)
def with_large_states() -> Any:
    """A rank's own state is larger than what may go over the store."""
    numbers = [torch.full((3000,), float(rank)) for rank in (0, 1)]
    before, process_group._MAX_BYTES = process_group._MAX_BYTES, 1000
    try:
        first = gathered("large", *numbers)
    finally:
        process_group._MAX_BYTES = before
    module = Gathers([None, None])
    options: Any = {"max_epochs": 2, "default_root_dir": "large"}
    trainer(**options).fit(module, loader(), ckpt_path=first.checkpointer.last_path)
    return [float(part.sum()) for part in module.all.value]


@case(CASES)
def with_a_state_that_cannot_be_saved() -> Any:
    """Of rank 1; that of rank 0 can."""
    told = io.StringIO()
    with contextlib.redirect_stderr(told):
        fitting = gathered("cannot", torch.zeros(1), object())
    return [str(fitting.checkpointer.last_path), fitting.current_epoch, told.getvalue()]


if __name__ == "__main__":
    main(sys.argv[1:], CASES)
