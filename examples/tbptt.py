"""Truncated back-propagation through time: remember a digit long after it was shown.

The network gets an image row by row, one row at each time step, followed by blank steps, and names
the digit at every step. Each sequence is split into parts of 8 steps. Gradients end at the borders,
but the hidden states are carried over; without them, the network could only guess in the blank
parts.

python -m examples.tbptt
"""

from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import nightbus as nb

ROWS, BLANKS = 8, 24


class RecallData(nb.LightningDataModule):
    """Sequences of shape (time, 8): the rows of a digit, then blanks."""

    def setup(self, stage: str) -> None:
        digits = load_digits()
        images = torch.tensor(digits.images, dtype=torch.float32) / 16
        sequences = F.pad(images, (0, 0, 0, BLANKS))
        labels = torch.tensor(digits.target)[:, None].expand(-1, ROWS + BLANKS)
        self.train_set = TensorDataset(sequences[:1437], labels[:1437])
        self.val_set = TensorDataset(sequences[1437:], labels[1437:])

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train_set, 32, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.val_set, 360)


class Recall(nb.LightningModule):
    """A GRU that names the digit at every time step.

    Args:
        carry: hand the hidden states on from split to split.
    """

    truncated_bptt_steps = ROWS

    def __init__(self, carry: bool = True) -> None:
        super().__init__()
        self.carry = carry
        self.rnn = nn.GRU(8, 64, batch_first=True)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor, hiddens: Tensor | None) -> tuple[Tensor, Tensor]:
        out, hiddens = self.rnn(x, hiddens if self.carry else None)
        return self.head(out).transpose(1, 2), hiddens  # (batch, 10, time)

    def training_step(
        self, batch: list[Tensor], batch_idx: int, hiddens: Tensor | None
    ) -> dict[str, Tensor]:
        x, y = batch
        logits, hiddens = self(x, hiddens)
        loss = F.cross_entropy(logits, y)
        self.log("train_loss", loss, prog_bar=True)
        return {"loss": loss, "hiddens": hiddens}

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        hiddens = None
        for x, _ in self.tbptt_split_batch(batch, ROWS):
            logits, hiddens = self(x, hiddens)
        accuracy = (logits.argmax(dim=1) == batch[1][:, -ROWS:]).float().mean()
        self.log("accuracy_at_the_end", accuracy, prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=5e-3)


class SplitTimes(nb.Actor):
    """Counts the training steps of each batch, one for each split, on the bus thread."""

    def __init__(self) -> None:
        self.splits: dict[int, int] = {}

    @nb.on("training_step")
    async def count(self, hook: nb.Hook) -> None:
        if hook.epoch == 0:
            self.splits[hook.batch_idx] = self.splits.get(hook.batch_idx, 0) + 1


def main(carry: bool = True, max_epochs: int = 8) -> float:
    """Train, and return the validation accuracy in the last, blank split."""
    nb.seed_everything(2)
    times = SplitTimes()
    trainer = nb.Trainer(max_epochs=max_epochs, actors=[times], run_name="tbptt")
    trainer.fit(Recall(carry), RecallData())
    accuracy = float(trainer.callback_metrics["accuracy_at_the_end"])
    carried = "carried" if carry else "not carried"
    print(f"\nhidden states {carried} over {times.splits[0]} splits of {ROWS} steps:")
    print(f"  {accuracy:.1%} of the digits are known {BLANKS} steps after the last row")
    return accuracy


if __name__ == "__main__":
    main(carry=True)
    main(carry=False)
