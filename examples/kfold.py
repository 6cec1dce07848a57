"""K-fold cross-validation: a loop that runs the trainer's own fit loop once for each fold.

For each fold, training begins with the same weights and new optimizers and uses the other folds;
the fold itself is for validation. The loop calls a hook of its own for each fold, and an actor
prints the scores.

python -m examples.kfold
"""

from typing import Any

import torch
from sklearn.datasets import load_wine
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Subset, TensorDataset

import nightbus as nb


class FoldedWine(nb.LightningDataModule):
    """178 wines of three cultivars in folds; ``fold`` is the index of the one that is held out."""

    def __init__(self, num_folds: int) -> None:
        self.num_folds = num_folds
        self.fold = 0

    def setup(self, stage: str) -> None:
        wine = load_wine()
        x = torch.tensor(StandardScaler().fit_transform(wine.data), dtype=torch.float32)
        self.data = TensorDataset(x, torch.tensor(wine.target))
        splitter = StratifiedKFold(self.num_folds, shuffle=True, random_state=0)
        self.folds = list(splitter.split(wine.data, wine.target))

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(Subset(self.data, self.folds[self.fold][0].tolist()), 16, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(Subset(self.data, self.folds[self.fold][1].tolist()), 64)


class Cultivar(nb.LightningModule):
    """A small classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(13, 16), nn.ReLU(), nn.Linear(16, 3))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self.net(x), y)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, y = batch
        self.log("val_accuracy", (self.net(x).argmax(dim=1) == y).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=1e-2)


class KFoldLoop(nb.Loop):
    """Runs the fit loop once for each fold.

    Args:
        fit_loop: loop that trains one fold.
        num_folds: number of folds.
    """

    def __init__(self, fit_loop: nb.Loop, num_folds: int) -> None:
        self.fit_loop = fit_loop
        self.num_folds = num_folds
        self.scores: list[float] = []

    @property
    def done(self) -> bool:
        return len(self.scores) >= self.num_folds

    def reset(self) -> None:
        self.expected_iterations = self.num_folds - len(self.scores)

    def on_run_start(self) -> None:
        weights = self.trainer.lightning_module.state_dict()
        self._weights = {name: value.clone() for name, value in weights.items()}

    def advance(self) -> None:
        trainer: Any = self.trainer
        fold = trainer.datamodule.fold = len(self.scores)
        self.hook("on_fold_start", fold)
        trainer.lightning_module.load_state_dict(self._weights)
        trainer.setup_optimizers()
        trainer.reset_train_dataloader()
        trainer.reset_val_dataloader()
        self.replace(fit_loop=nb.FitLoop)  # with the same arguments, counting epochs from 0
        self.fit_loop.run()
        (result,) = trainer.validate_loop.run()
        self.scores.append(result["val_accuracy"])
        self.put("fold_accuracy", self.scores[-1])

    def on_save_checkpoint(self) -> dict[str, Any]:
        return {"scores": self.scores}

    def on_load_checkpoint(self, state_dict: Any) -> None:
        self.scores = list(state_dict["scores"])


class Scores(nb.Actor):
    """Prints each fold's score when it is recorded, on the bus thread."""

    def __init__(self) -> None:
        self.fold_steps: list[int] = []

    @nb.on("on_fold_start")
    async def begin(self, hook: nb.Hook) -> None:
        self.fold_steps.append(hook.step)

    @nb.on(nb.Put, name="fold_accuracy")
    async def show(self, put: nb.Put) -> None:
        began = self.fold_steps[-1]
        print(f"fold {len(self.fold_steps)}: {put.value:.1%} after {put.step - began} steps")


def main(num_folds: int = 5, max_epochs: int = 20) -> list[float]:
    """Train, and return the accuracy of each fold."""
    nb.seed_everything(4)
    trainer = nb.Trainer(
        max_epochs=max_epochs,
        check_val_every_n_epoch=max_epochs + 1,  # the loop validates
        enable_checkpointing=False,
        enable_progress_bar=False,
        actors=[Scores()],
        run_name="kfold",
    )
    loop = KFoldLoop(trainer.fit_loop, num_folds)
    trainer.fit_loop = loop
    trainer.fit(Cultivar(), FoldedWine(num_folds))

    scores = torch.tensor(loop.scores)
    print(f"\naccuracy over {num_folds} folds: {scores.mean():.1%} +- {scores.std():.1%}")
    return loop.scores


if __name__ == "__main__":
    main()
