"""A program of several ranks: each case resumes what it has saved, and the same without a stop."""

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from ranks_fit import SEED, Net, bits, case, loader, main, trainer
from torch import nn

import nightbus as nb

CASES: list[Any] = []


class Noisy(Net):
    """Draws random numbers, and logs the epoch's loss."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.3)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        loss = nn.functional.mse_loss(self(self.dropout(x)), y)
        self.log("loss", loss, on_step=False, on_epoch=True)
        self.log(
            "of_rank", float(self.trainer.global_rank + batch_idx), on_epoch=True, sync_dist=True
        )
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val", self.loss(batch) + self.trainer.global_rank)


class MoreOnRank0(nb.Callback):
    """Makes the log of rank 0 longer than that of rank 1."""

    def on_train_batch_end(self, trainer: nb.Trainer, *_: Any) -> None:
        if trainer.is_global_zero:
            for number in range(9):
                self.put("more", number)


def fit(folder: str, ckpt_path: Any = None, **options: Any) -> nb.Trainer:
    torch.manual_seed(SEED)  # of the data's order; the noise differs
    module = Noisy()
    torch.manual_seed(SEED + dist.get_rank() if dist.is_initialized() else SEED)
    kept = {"enable_checkpointing": True, "recording": "all", "default_root_dir": folder}
    fitting = trainer(**({"max_epochs": 3} | kept | options))
    fitting.fit(module, loader(shuffle=True), loader(), ckpt_path=ckpt_path)
    return fitting


def what_it_has(fitting: nb.Trainer) -> dict[str, Any]:
    metrics = {name: float(value) for name, value in fitting.callback_metrics.items()}
    return {"bits": bits(fitting.lightning_module), "metrics": metrics}


def both(folder: str, **options: Any) -> list[dict[str, Any]]:
    """What a run has that was stopped and resumed, and one that was not."""
    first = fit(folder, **options)
    assert first.run_folder is not None
    last = first.run_folder.path / "checkpoints" / "last"
    return [what_it_has(fit(folder, last)), what_it_has(fit(folder))]


@case(CASES)
def between_epochs() -> Any:
    return both("epochs", max_epochs=1)


@case(CASES)
def in_the_middle_of_an_epoch() -> Any:
    return both("steps", max_steps=8)


@case(CASES)
def left_for_one_process() -> str:
    """A checkpoint between two epochs."""
    stopped = fit(str(Path("left").absolute()), max_epochs=1)
    assert stopped.run_folder is not None
    return str(stopped.run_folder.path / "checkpoints" / "last")


@case(CASES)
def best() -> Any:
    """All ranks keep the same checkpoints."""
    saving = nb.ModelCheckpoint(monitor="val", save_top_k=1)
    fit(str(Path("best").absolute()), callbacks=[saving])
    return saving.best_model_path


@case(CASES)
def from_the_past() -> str:
    """A run that goes on from the first of two epochs; its path."""
    folder, saving = str(Path("past").absolute()), nb.ModelCheckpoint(save_top_k=-1)
    fit(folder, callbacks=[saving, MoreOnRank0()], max_epochs=2)
    (first,) = Path(saving.best_model_path).parent.glob("epoch=0-*")
    again = fit(folder, first, callbacks=[nb.ModelCheckpoint(save_top_k=-1)], max_epochs=2)
    assert again.run_folder is not None
    return str(again.run_folder.path)


@case(CASES)
def timed() -> Any:
    """A limit of time ends the run after the same step on all ranks."""
    stopped = fit("timed", max_epochs=-1, max_time={"milliseconds": 50})
    return {"step": stopped.global_step, "bits": bits(stopped.lightning_module)}


if __name__ == "__main__":
    main(sys.argv[1:], CASES)
