"""What the trainer computes is, to the bit, what the same loop written by hand computes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, assert_same, loader, make_net, trainer, weights
from torch import Tensor, nn
from torch.nn import functional as F


def by_hand(
    epochs: int = 2,
    accumulate: int = 1,
    clip: Callable[[list[nn.Parameter]], Any] | None = None,
    make_optimizer: Callable[[Any], torch.optim.Optimizer] | None = None,
) -> list[Tensor]:
    """The loop a user would write."""
    net = make_net()
    parameters = list(net.parameters())
    optimizer = (
        make_optimizer(parameters)
        if make_optimizer
        else torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
    )
    data = loader()
    for _ in range(epochs):
        for number, (x, y) in enumerate(data):
            loss = F.cross_entropy(net(x), y) / accumulate
            if number % accumulate == 0:
                optimizer.zero_grad()
            loss.backward()
            if (number + 1) % accumulate == 0 or number + 1 == len(data):
                if clip:
                    clip(parameters)
                optimizer.step()
    return weights(net)


@pytest.mark.parametrize(
    ("arguments", "same_by_hand"),
    [
        ({}, {}),
        ({"recording": "off"}, {}),
        ({"accumulate_grad_batches": 2}, {"accumulate": 2}),
        ({"accumulate_grad_batches": 4}, {"accumulate": 4}),
        ({"gradient_clip_val": 0.05}, {"clip": lambda p: nn.utils.clip_grad_norm_(p, 0.05)}),
        (
            {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
            {"clip": lambda p: nn.utils.clip_grad_value_(p, 0.01)},
        ),
    ],
)
def test_training_gives_the_same_weights(
    tmp_path: Path, arguments: dict[str, Any], same_by_hand: dict[str, Any]
) -> None:
    module = Small()
    run = trainer(tmp_path, max_epochs=2, **arguments)

    run.fit(module, loader())

    assert_same(weights(module), by_hand(**same_by_hand))
    assert run.global_step == 2 * -(-6 // same_by_hand.get("accumulate", 1))


def test_validation_in_between_does_not_change_the_weights(tmp_path: Path) -> None:
    module = Small()

    trainer(tmp_path, max_epochs=2, val_check_interval=2).fit(module, loader(), loader(8))

    assert_same(weights(module), by_hand())


def test_none_from_training_step_leaves_the_weights_alone(tmp_path: Path) -> None:
    class Skips(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None if batch_idx > 0 else super().training_step(batch, batch_idx)

    once, skips = Small(), Skips()
    run = trainer(tmp_path)

    trainer(tmp_path, max_steps=1).fit(once, loader())
    run.fit(skips, loader())

    assert_same(weights(skips), weights(once))
    assert run.global_step == 1


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_mixed_precision_trains(tmp_path: Path, precision: str) -> None:
    module = Small()
    before = weights(module)

    trainer(tmp_path, max_epochs=3, precision=precision).fit(module, loader())

    assert all(parameter.dtype == torch.float32 for parameter in module.parameters())
    assert not torch.equal(before[0], weights(module)[0])
    assert all(torch.isfinite(parameter).all() for parameter in module.parameters())


def test_a_skipped_batch_leaves_no_gradients_of_the_step_before(tmp_path: Path) -> None:
    class SkipsThird(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None if batch_idx == 2 else self.loss(batch)

    module = SkipsThird()
    trainer(tmp_path, accumulate_grad_batches=2).fit(module, loader(16))  # 4 batches

    net = make_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    losses = [F.cross_entropy(net(x), y) / 2 for x, y in list(loader(16))[:2]]
    optimizer.zero_grad()
    for loss in losses:
        loss.backward()
    optimizer.step()
    x, y = list(loader(16))[3]
    optimizer.zero_grad()
    (F.cross_entropy(net(x), y) / 2).backward()
    optimizer.step()
    assert_same(weights(module), weights(net))


def test_with_frequencies_each_optimizer_accumulates_over_its_own_batches(tmp_path: Path) -> None:
    class Alternates(Small):
        def __init__(self) -> None:
            super().__init__()
            self.turns: list[int] = []

        def training_step(self, batch: Any, batch_idx: int, optimizer_idx: int) -> Any:  # type: ignore[override]
            return self.loss(batch)

        def on_before_optimizer_step(self, optimizer: Any, optimizer_idx: int = 0) -> None:
            self.turns.append(optimizer_idx)

        def configure_optimizers(self) -> Any:
            parts = (self.net[0], self.net[2])  # type: ignore[index]
            return [
                {"optimizer": torch.optim.SGD(part.parameters(), lr=0.1), "frequency": 1}
                for part in parts
            ]

    module = Alternates()

    trainer(tmp_path, accumulate_grad_batches=2).fit(module, loader(32))  # 8 batches

    assert module.turns == [0, 1, 0, 1]
