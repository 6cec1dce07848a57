"""A custom gradient descent: each step is scaled by the loss on a validation split.

The loop replaces the one that runs the batches of an epoch. It is written from scratch: it reads
the trainer's loaders, calls the module, and steps its optimizer. Steps are counted, metrics are
recorded and commands are handled as in the loop that it replaces.

python -m examples.gradient_scaled_by_validation
"""

from collections.abc import Iterator
from typing import Any

import torch
from sklearn.datasets import load_wine
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import nightbus as nb


class Wine(nb.LightningDataModule):
    """178 wines of three cultivars, by 13 measurements: 118 for training, 60 for validation."""

    def setup(self, stage: str) -> None:
        wine = load_wine()
        x = torch.tensor(StandardScaler().fit_transform(wine.data), dtype=torch.float32)
        y = torch.tensor(wine.target)
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
        self.train_set = TensorDataset(x[order[:118]], y[order[:118]])
        self.val_set = TensorDataset(x[order[118:]], y[order[118:]])

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train_set, 16, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.val_set, 60)


class Cultivar(nb.LightningModule):
    """A small classifier, whose loss the loop computes."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(13, 16), nn.ReLU(), nn.Linear(16, 3))

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        return F.cross_entropy(self.net(x), y)

    def accuracy(self, batch: tuple[Tensor, Tensor]) -> float:
        x, y = batch
        with torch.no_grad():
            return float((self.net(x).argmax(dim=1) == y).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05)


class MyGradientDescentLoop(nb.Loop):
    """An epoch in which each gradient is divided by the loss on the validation split."""

    name = "scaled"

    def __init__(self) -> None:
        self._batches: Iterator[Any] = iter(())

    @property
    def done(self) -> bool:
        return False  # the loader's end ends the loop

    def on_run_start(self) -> None:
        self._batches = iter(self.trainer.train_dataloader)

    def advance(self) -> None:
        batch = next(self._batches)
        module: Any = self.trainer.lightning_module
        optimizer = module.optimizers()

        loss = module.loss(batch)
        optimizer.zero_grad()
        loss.backward()

        validation = self.trainer.val_dataloaders
        with torch.no_grad():
            val_loss = torch.stack([module.loss(part) for part in validation]).mean()
        for parameter in module.parameters():
            parameter.grad /= val_loss
        self.hook("on_gradients_scaled", val_loss)

        optimizer.step()
        self.put_dict({"train_loss": loss.detach(), "scale": 1 / val_loss})


class Scales(nb.Actor):
    """Handles the loop's own hook on the training thread, with its arguments."""

    def __init__(self) -> None:
        self.val_losses: list[float] = []

    @nb.on("on_gradients_scaled")
    def note(self, hook: Any) -> None:
        (val_loss,) = hook.values
        self.val_losses.append(val_loss.item())


def main(max_epochs: int = 10) -> tuple[float, list[float]]:
    """Train, and return the validation accuracy and the validation loss before each step."""
    nb.seed_everything(3)
    model, data, scales = Cultivar(), Wine(), Scales()
    trainer = nb.Trainer(max_epochs=max_epochs, actors=[scales], run_name="scaled")
    trainer.fit_loop.epoch_loop = MyGradientDescentLoop()
    trainer.fit(model, data)

    accuracy = model.accuracy(data.val_set[:])
    first, last = scales.val_losses[0], scales.val_losses[-1]
    print(f"\n{trainer.global_step} steps; validation loss {first:.3f} -> {last:.3f},")
    print(f"so the steps became {first / last:.1f} times as long; accuracy {accuracy:.1%}")
    return accuracy, scales.val_losses


if __name__ == "__main__":
    main()
