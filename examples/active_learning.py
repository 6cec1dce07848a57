"""Active learning: a loop of labelling rounds around the trainer's own fit loop.

Training begins with few labels. After each round, the images on which the module is least certain
are labelled. The accuracy is higher than with the same number of labels chosen at random.

python -m examples.active_learning
"""

from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset, TensorDataset

import nightbus as nb

POOL = 1200  # images that may be labelled; the other 597 are for testing


class DigitPool(nb.LightningDataModule):
    """Images of digits, of which only some are labelled.

    Args:
        initial: how many are labelled from the start.
    """

    def __init__(self, initial: int) -> None:
        digits = load_digits()
        images = torch.tensor(digits.data, dtype=torch.float32) / 16
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
        self.data = TensorDataset(images[order], torch.tensor(digits.target)[order])
        self.labelled = list(range(initial))

    @property
    def unlabelled(self) -> list[int]:
        """Indices of the images of the pool that have no label yet."""
        return sorted(set(range(POOL)) - set(self.labelled))

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(Subset(self.data, self.labelled), 16, shuffle=True)

    def predict_dataloader(self) -> DataLoader[Any]:
        return DataLoader(Subset(self.data, self.unlabelled), 256)

    def test_dataloader(self) -> DataLoader[Any]:
        return DataLoader(Subset(self.data, range(POOL, len(self.data))), 256)


class Classifier(nb.LightningModule):
    """A small network, which predicts how certain it is."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self.net(x), y)

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        best: Tensor = self.net(batch[0]).softmax(dim=1).topk(2).values
        return best[:, 0] - best[:, 1]  # the margin between the two likeliest digits

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, y = batch
        self.log("test_accuracy", (self.net(x).argmax(dim=1) == y).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=5e-3)


class ActiveLearningLoop(nb.Loop):
    """Trains, tests and labels in each round.

    Args:
        rounds: number of rounds.
        labels: number of new labels in each round.
        at_random: label random images instead of those on which the module is least certain.
    """

    fit_loop: nb.FitLoop

    def __init__(self, rounds: int, labels: int, at_random: bool) -> None:
        self.rounds = rounds
        self.labels = labels
        self.at_random = at_random
        self.accuracies: list[float] = []

    @property
    def done(self) -> bool:
        return len(self.accuracies) >= self.rounds

    def advance(self) -> None:
        trainer: Any = self.trainer
        self.hook("on_round_start", len(self.accuracies))
        trainer.setup_optimizers()
        trainer.reset_train_dataloader()
        self.replace(fit_loop=nb.FitLoop)
        self.fit_loop.run()
        (result,) = trainer.test_loop.run()
        self.accuracies.append(result["test_accuracy"])
        self.put_dict({"labels": len(trainer.datamodule.labelled), **result})

    def on_advance_end(self) -> None:
        trainer: Any = self.trainer
        pool = trainer.datamodule
        unlabelled = torch.tensor(pool.unlabelled)
        if self.at_random:
            chosen = torch.randperm(len(unlabelled))[: self.labels]
        else:
            trainer.reset_predict_dataloader()
            chosen = torch.cat(trainer.predict_loop.run()).argsort()[: self.labels]
        pool.labelled += unlabelled[chosen].tolist()

    def on_save_checkpoint(self) -> dict[str, Any]:
        return {"accuracies": self.accuracies}

    def on_load_checkpoint(self, state_dict: Any) -> None:
        self.accuracies = list(state_dict["accuracies"])


def main(rounds: int = 8, labels: int = 20, at_random: bool = False, seed: int = 5) -> list[float]:
    """Train, and return the test accuracy after each round."""
    nb.seed_everything(seed)
    trainer = nb.Trainer(
        max_epochs=40,
        enable_checkpointing=False,
        enable_progress_bar=False,
        run_name="active_learning",
    )
    loop = ActiveLearningLoop(rounds, labels, at_random)
    loop.connect(fit_loop=trainer.fit_loop)
    trainer.fit_loop = loop
    trainer.fit(Classifier(), DigitPool(initial=2 * labels))
    how = "at random" if at_random else "where the margin is smallest"
    shown = ", ".join(f"{accuracy:.1%}" for accuracy in loop.accuracies)
    print(f"\n{labels} labels a round, {how}:\n  {shown}")
    return loop.accuracies


if __name__ == "__main__":
    main()
    main(at_random=True)
