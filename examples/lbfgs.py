"""Logistic regression with LBFGS: a second-order optimizer that evaluates its closure many times.

The trainer passes the closure to LBFGS. A few steps on the breast cancer data that scikit-learn
includes reach the loss of scikit-learn's own solver.

python -m examples.lbfgs
"""

from typing import Any

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import nightbus as nb

PENALTY = 1.0  # scikit-learn's C = 1: half the squared weights, in addition to the sum of losses


class LogisticModel(nb.LightningModule):
    """One linear layer in float64, with the penalty that scikit-learn has by default."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(features, 1, dtype=torch.float64)
        torch.nn.init.zeros_(self.linear.weight)
        torch.nn.init.zeros_(self.linear.bias)
        self.evaluations = 0

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        self.evaluations += 1
        x, y = batch
        fit = F.binary_cross_entropy_with_logits(self.linear(x)[:, 0], y, reduction="sum")
        return fit + PENALTY * self.linear.weight.square().sum() / 2

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.put("loss", outputs["loss"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.LBFGS(self.parameters(), max_iter=8, line_search_fn="strong_wolfe")


class Losses(nb.Sink):
    """Keeps the losses when they are recorded."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def write(self, batch: list[nb.Put]) -> None:
        self.values += [put.value for put in batch if put.name == "loss"]


def main(steps: int = 8) -> tuple[float, float]:
    """Train, and return the loss after training and that of scikit-learn's solver."""
    features, labels = load_breast_cancer(return_X_y=True)
    features = StandardScaler().fit_transform(features)
    x, y = torch.tensor(features), torch.tensor(labels, dtype=torch.float64)
    data = DataLoader(TensorDataset(x, y), batch_size=len(x))
    model, losses = LogisticModel(x.shape[1]), Losses()

    trainer = nb.Trainer(max_steps=steps, sinks=[losses], log_every_n_steps=1, run_name="lbfgs")
    trainer.fit(model, data)

    reference = LogisticRegression(tol=1e-10, max_iter=10_000).fit(features, labels)
    with torch.no_grad():
        mine = float(model.training_step((x, y), 0))
        model.linear.weight.copy_(torch.tensor(reference.coef_))
        model.linear.bias.copy_(torch.tensor(reference.intercept_))
        theirs = float(model.training_step((x, y), 0))
    print("\nloss before each step:", ", ".join(f"{value:.4f}" for value in losses.values))
    print(f"after {trainer.global_step} steps, {model.evaluations - 2} evaluations: {mine:.6f}")
    print(f"scikit-learn's LogisticRegression: {theirs:.6f}")
    return mine, theirs


if __name__ == "__main__":
    main()
