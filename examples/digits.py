"""Handwritten digits: a classifier of the images that scikit-learn includes.

python -m examples.digits
"""

import math
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import nightbus as nb


class Digits(nb.LightningDataModule):
    """1,797 images of 8 x 8 pixels: 1,437 for training, the rest for validation."""

    def __init__(self, batch_size: int = 32) -> None:
        self.batch_size = batch_size

    def setup(self, stage: str) -> None:
        digits = load_digits()
        images = torch.tensor(digits.data, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
        labels = torch.tensor(digits.target)
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
        train, val = order[:1437], order[1437:]
        self.train_set = TensorDataset(images[train], labels[train])
        self.val_set = TensorDataset(images[val], labels[val])

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train_set, self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.val_set, 128)


class Classifier(nb.LightningModule):
    """Two convolutions and a linear layer."""

    def __init__(self, lr: float = 2e-3) -> None:
        super().__init__()
        self.lr = lr
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(32 * 4 * 4, 10),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)  # type: ignore[no-any-return]  # (batch, 10)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        loss = F.cross_entropy(self(images), labels)
        self.log("train_loss", loss, prog_bar=True, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        logits = self(images)
        self.log("val_loss", F.cross_entropy(logits, labels))
        accuracy = (logits.argmax(dim=1) == labels).float().mean()
        self.log("val_accuracy", accuracy, prog_bar=True)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)
        return {"optimizer": optimizer, "lr_scheduler": schedule}


class NanWatch(nb.Actor):
    """Stops the run if the loss is not a number; it reads the log and never slows training."""

    @nb.on(nb.Put, name="train_loss_step")
    async def check(self, put: nb.Put) -> None:
        if math.isnan(put.value):
            await self.tell("fit", nb.Stop(reason="the loss is not a number"))


def main() -> None:
    nb.seed_everything(1)
    trainer = nb.Trainer(
        max_epochs=10,
        actors=[NanWatch()],
        sinks=[nb.CSV(), nb.JSONLines()],
        run_name="digits",
        log_every_n_steps=10,
    )
    trainer.fit(Classifier(), Digits())
    accuracy = float(trainer.callback_metrics["val_accuracy"])
    run = os.path.relpath(trainer.log_dir or "")
    nightbus = shutil.which("nightbus") or os.path.relpath(
        Path(sys.executable).with_name("nightbus")
    )
    print(f"\nvalidation accuracy: {accuracy:.1%}\nthe run is in {run}; try")
    print(f"  {nightbus} show {run}")
    print(f"  {nightbus} replay {run} --csv again --jsonl again")
    print(f"  head -3 {run}/metrics.csv")


if __name__ == "__main__":
    main()
