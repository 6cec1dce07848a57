"""A sweep over learning rate and width with Optuna, whose hopeless trials are stopped early.

Each trial is a run. An actor reads its metrics beside training, reports them to Optuna, and sends
the run a Stop when Optuna would prune it; such a run ends in good order, with its log.
The runs are a group: `nightbus ls --group sweep` and the board show them together.

pip install optuna
python -m examples.optuna_sweep
"""

from pathlib import Path
from typing import Any

import optuna
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset, random_split

import nightbus as nb

GROUP = "sweep"


def digits(size: int | None = None) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Return loaders of training and validation.

    Args:
        size: number of pictures; all 1,797 if not given.
    """
    found = load_digits()
    x = torch.tensor(found.data[:size], dtype=torch.float32) / 16
    data = TensorDataset(x, torch.tensor(found.target[:size]))
    train, val = random_split(data, [0.8, 0.2], torch.Generator().manual_seed(0))
    return DataLoader(train, 64, shuffle=True), DataLoader(val, 256)


class Classifier(nb.LightningModule):
    """A network of one hidden layer.

    Args:
        lr: learning rate.
        width: number of hidden units.
    """

    def __init__(self, lr: float, width: int) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.lr = lr
        self.net = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self.net(x), y)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, y = batch
        self.log("val_accuracy", (self.net(x).argmax(dim=1) == y).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)


class Pruning(nb.Actor):
    """Reports a metric to a trial, and ends the run when the trial is to be pruned.

    Args:
        trial: the trial.
        metric: the metric, which is better if it is more.

    Attributes:
        best: the best value so far.
        is_pruned: the run was told to stop.
    """

    def __init__(self, trial: optuna.Trial, metric: str) -> None:
        self.trial, self.metric = trial, metric
        self.best = 0.0
        self.is_pruned = False

    @nb.on(nb.Put)
    def take(self, put: nb.Put) -> None:
        if put.name != self.metric:
            return
        self.best = max(self.best, put.value)
        self.trial.report(put.value, put.epoch)
        if self.trial.should_prune() and not self.is_pruned:
            self.is_pruned = True
            self.tell("fit", nb.Stop(reason=f"pruned: {self.metric} {put.value:.3f}"))


def main(trials: int = 20, max_epochs: int = 8, size: int | None = None) -> optuna.Study:
    """Run the sweep, and print the best trial.

    Args:
        trials: number of trials.
        max_epochs: of a trial that is not pruned.
        size: number of pictures; all if not given.

    Returns:
        The study.
    """
    train, val = digits(size)

    def objective(trial: optuna.Trial) -> float:
        nb.seed_everything(trial.number)
        lr = trial.suggest_float("lr", 1e-4, 1.0, log=True)
        width = trial.suggest_int("width", 8, 64, log=True)
        pruning = Pruning(trial, "val_accuracy")
        trainer = nb.Trainer(
            max_epochs=max_epochs,
            actors=pruning,
            run_name=f"trial-{trial.number}",
            group=GROUP,
            num_sanity_val_steps=0,
            accelerator="cpu",
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(Classifier(lr, width), train, val)
        trial.set_user_attr("run", Path(trainer.log_dir or "").name)
        if pruning.is_pruned:
            raise optuna.TrialPruned
        return pruning.best

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1)
    sampler = optuna.samplers.TPESampler(seed=0)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    study.optimize(objective, n_trials=trials)
    pruned = sum(trial.state is optuna.trial.TrialState.PRUNED for trial in study.trials)
    best = study.best_trial
    print(f"{len(study.trials)} trials, {pruned} of them pruned")
    print(f"best: {best.value:.1%} with {best.params}, run {best.user_attrs['run']}")
    return study


if __name__ == "__main__":
    main()
