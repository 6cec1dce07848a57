"""What saving costs the step, and how long resuming in the middle of an epoch takes.

A save copies the state in the step and writes it beside training: what the step waits for is set
beside a plain copy of the same tensors in memory. Resuming is timed by what it has to do in the
data: finding a place behind many batches of a shuffled map-style loader.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import nightbus as nb
from nightbus.actors.data_position import DataReader

MEGABYTES = 100
BATCHES = 1000


class Wide(nb.LightningModule):
    """Weights of a size, SGD without a state of its own."""

    def __init__(self, megabytes: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(megabytes * 250_000))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.weights[:10].sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


class Saves(nb.Callback):
    """Has the run saved between steps, when the save before is written, and times it."""

    def __init__(self, folder: Path, rounds: int) -> None:
        self.folder, self.rounds = folder, rounds
        self.saves_s: list[float] = []
        self.copies_s: list[float] = []

    def on_train_batch_end(self, trainer: nb.Trainer, module: Any, *_: Any) -> None:
        trainer.checkpointer.wait()
        module.weights.detach().clone()  # the first after the disk was written to takes longer
        self.copies_s.append(seconds(lambda: module.weights.detach().clone()))
        trainer.checkpointer.want(lambda: self.save(trainer))

    def save(self, trainer: nb.Trainer) -> None:
        path = self.folder / str(len(self.saves_s))
        self.saves_s.append(seconds(lambda: trainer.checkpointer.save(path)))


def seconds(work: Callable[[], object]) -> float:
    begin_s = time.perf_counter()
    work()
    return time.perf_counter() - begin_s


def saving(folder: Path, rounds: int) -> tuple[list[float], list[float]]:
    saves = Saves(folder, rounds)
    trainer = nb.Trainer(
        max_steps=rounds,
        callbacks=[saves],
        default_root_dir=folder,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
    )
    data = DataLoader(TensorDataset(torch.zeros(rounds + 1, 1)), 1)
    trainer.fit(Wide(MEGABYTES), data)
    return saves.saves_s, saves.copies_s


def resuming() -> float:
    data = DataLoader(TensorDataset(torch.zeros(64 * BATCHES * 2, 8)), 64, shuffle=True)
    reader = DataReader(data)
    for _ in range(BATCHES):
        next(reader)
    state = reader.state_dict()
    return seconds(lambda: next(DataReader(data, state)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        saves_s, copies_s = saving(Path(folder), rounds)
    save_s, copy_s = statistics.median(saves_s), statistics.median(copies_s)
    print(f"a save of {MEGABYTES} MB holds the step up for, ms   {save_s * 1e3:8.1f}")
    print(f"a copy of the same in memory, ms              {copy_s * 1e3:8.1f}")
    print(f"ratio                                         {save_s / copy_s:8.2f}")
    resumed_s = statistics.median(resuming() for _ in range(rounds))
    print(f"finding the place behind {BATCHES:,} batches, ms     {resumed_s * 1e3:8.1f}")


if __name__ == "__main__":
    main()
