"""By how many bytes a step each of several ranks grows in a long recorded training.

    python tests/bench/ranks_memory.py
    python tests/bench/ranks_memory.py --steps 1000000 --minutes 60

Ranks train a tiny model with gloo, are recorded, log three values a step of which one is averaged
over the ranks, validate after each epoch and write a CSV file. Each rank's own memory is read every
few thousand steps and shown at once. The growth is the slope of a line through the second half of
what was read, because everything has been loaded by then; a page has 4096 bytes.
"""

import argparse
import sys
import tempfile
import time
from typing import Any

import torch
from common import Batches, make_net
from torch import Tensor
from torch.nn import functional as F

import nightbus as nb

RANKS = 4
EPOCH = 1000  # steps
EVERY = 5000


def own_bytes() -> int:
    """Memory that is this process's own; mapped pages of the log are the page cache's."""
    with open("/proc/self/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    return int(fields["RssAnon"].split()[0]) * 1024


class Logged(nb.LightningModule):
    """Logs, trains and validates."""

    def __init__(self) -> None:
        super().__init__()
        self.net = make_net()

    def loss(self, batch: Any) -> Tensor:
        x, y = batch
        return F.cross_entropy(self.net(x), y)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log("loss", loss, on_step=True, on_epoch=True)
        self.log("mean", loss, sync_dist=True)
        self.log("batch", float(batch_idx))
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Weighs(nb.Callback):
    """Reads the memory of all ranks now and then, and shows it on rank 0.

    Attributes:
        steps: when it was read.
        of_ranks: by each rank, in bytes, each time.
    """

    def __init__(self, every: int) -> None:
        self.every, self.began_s = every, time.monotonic()
        self.steps: list[int] = []
        self.of_ranks: list[list[int]] = []

    def on_train_batch_end(self, trainer: nb.Trainer, *_: Any) -> None:
        if trainer.global_step % self.every:
            return
        read = trainer.all_gather(torch.tensor([own_bytes()])).flatten().tolist()
        self.steps.append(trainer.global_step)
        self.of_ranks.append(read)
        if trainer.is_global_zero:
            shown = "  ".join(f"{each / 1e6:8.3f}" for each in read)
            took_s = time.monotonic() - self.began_s
            print(f"{trainer.global_step:>9,}  {shown}  MB  {took_s:6.0f} s", flush=True)

    def growth(self) -> list[float]:
        """Return each rank's bytes a step, in the second half."""
        half = len(self.steps) // 2
        steps = torch.tensor(self.steps[half:], dtype=torch.float64)
        read = torch.tensor(self.of_ranks[half:], dtype=torch.float64)
        steps -= steps.mean()
        slopes = (steps[:, None] * read).sum(0) / (steps**2).sum()
        return [float(slope) for slope in slopes]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--ranks", type=int, default=RANKS)
    parser.add_argument("--every", type=int, default=EVERY, help="steps between two readings")
    parser.add_argument("--minutes", type=float, help="it ends after so many, if that is earlier")
    options = parser.parse_args()
    torch.set_num_threads(1)
    weighs = Weighs(options.every)
    with tempfile.TemporaryDirectory() as folder:
        trainer = nb.Trainer(
            accelerator="cpu",
            devices=options.ranks,
            max_epochs=-1,
            max_steps=options.steps,
            max_time={"minutes": options.minutes} if options.minutes else None,
            default_root_dir=folder,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            callbacks=[weighs],
        )
        trainer.fit(Logged(), Batches(EPOCH), Batches(2))
        trainer.barrier()  # the folder is rank 0's, and removed
    if trainer.is_global_zero:
        print("bytes a step:", ", ".join(f"{slope:.2f}" for slope in weighs.growth()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
