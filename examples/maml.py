"""MAML: learn to learn two digits from ten examples, by loops within a loop.

The outer loop draws tasks: distinguish two digits. For each, the inner loop takes a gradient step
from the shared weights, and the outer step changes these so that such steps lead to a small loss
on other examples (Finn, Abbeel, Levine, 2017). Digits 7, 8 and 9 are kept for the test.

python -m examples.maml
"""

from itertools import combinations
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

import nightbus as nb

Examples = tuple[Tensor, Tensor]


class Tasks(nb.LightningDataModule):
    """Draws tasks: examples to adapt to, and others for evaluation."""

    def __init__(self, shots: int = 5) -> None:
        digits = load_digits()
        self.images = torch.tensor(digits.data, dtype=torch.float32) / 16
        self.labels = torch.tensor(digits.target)
        self.shots = shots

    def draw(self, digits: tuple[int, int]) -> tuple[Examples, Examples]:
        """Draw examples to adapt to, and 15 others of each digit; class 0 is a random one."""
        support, query = [], []
        for place in torch.randperm(2).tolist():
            digit = digits[place]
            images = self.images[self.labels == digit]
            chosen = images[torch.randperm(len(images))[: self.shots + 15]]
            support.append(chosen[: self.shots])
            query.append(chosen[self.shots :])
        return self._labelled(support), self._labelled(query)

    def _labelled(self, parts: list[Tensor]) -> Examples:
        return torch.cat(parts), torch.arange(2).repeat_interleave(len(parts[0]))


class Learner(nb.LightningModule):
    """A network that can be called with other weights."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2))

    def forward(self, x: Tensor, weights: dict[str, Tensor]) -> Tensor:
        logits: Tensor = functional_call(self.net, weights, (x,))
        return logits

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=3e-3)


class InnerLoop(nb.Loop):
    """Adapts the shared weights to one task; returns the adapted ones, with their graph."""

    safe_points = False  # it runs within an outer step

    def __init__(self, steps: int = 1, lr: float = 0.1) -> None:
        self.steps = steps
        self.lr = lr

    @property
    def done(self) -> bool:
        return self._left == 0

    def on_run_start(self, learner: Learner, support: Examples) -> None:
        self._left = self.steps
        self._weights: dict[str, Tensor] = dict(learner.net.named_parameters())

    def advance(self, learner: Learner, support: Examples) -> None:
        x, y = support
        loss = F.cross_entropy(learner(x, self._weights), y)
        gradients = torch.autograd.grad(loss, list(self._weights.values()), create_graph=True)
        steps = zip(self._weights.items(), gradients, strict=True)
        self._weights = {name: value - self.lr * step for (name, value), step in steps}
        self._left -= 1

    def on_run_end(self) -> dict[str, Tensor]:
        return self._weights


class OuterLoop(nb.Loop):
    """Changes the shared weights, for a few tasks at a time."""

    name = "maml"

    def __init__(self, steps: int = 300, tasks: int = 8) -> None:
        self.inner_loop = InnerLoop()
        self.steps = steps
        self.tasks = tasks
        self._pairs = list(combinations(range(7), 2))

    @property
    def done(self) -> bool:
        return self.trainer.global_step >= self.steps

    def advance(self) -> None:
        learner: Any = self.trainer.lightning_module
        optimizer = learner.optimizers()
        losses = []
        for number in torch.randint(len(self._pairs), (self.tasks,)).tolist():
            support, (x, y) = self.trainer.datamodule.draw(self._pairs[number])  # type: ignore[union-attr]
            adapted = self.inner_loop.run(learner, support)
            losses.append(F.cross_entropy(learner(x, adapted), y))
        loss = torch.stack(losses).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        self.put("loss_after_adaptation", loss.detach())


def adapted_accuracy(learner: Learner, data: Tasks, draws: int = 60) -> float:
    """Return the mean accuracy on digits that training did not use, after adapting to each task."""
    inner, found = InnerLoop(), []
    for number in range(draws):
        support, (x, y) = data.draw(list(combinations((7, 8, 9), 2))[number % 3])
        weights = inner.run(learner, support)
        found.append((learner(x, weights).argmax(dim=1) == y).float().mean())
    return float(torch.stack(found).mean())


def main(steps: int = 300) -> tuple[float, float]:
    """Train, and return the accuracy after adapting random weights and learnt weights."""
    nb.seed_everything(7)
    learner, data = Learner(), Tasks()
    before = adapted_accuracy(learner, data)
    trainer = nb.Trainer(enable_checkpointing=False, run_name="maml")
    trainer.fit_loop = OuterLoop(steps)
    trainer.fit(learner, datamodule=data)
    after = adapted_accuracy(learner, data)
    print(f"\ntwo unknown digits, 5 examples of each, {InnerLoop().steps} gradient step:")
    print(f"  accuracy {before:.1%} from random weights, {after:.1%} from learnt ones")
    return before, after


if __name__ == "__main__":
    main()
