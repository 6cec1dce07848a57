"""What the trainer computes is, to the bit, what the same loop written by hand computes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, loader, make_net, trainer, weights
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


def assert_same(found: list[Tensor], expected: list[Tensor]) -> None:
    for mine, other in zip(found, expected, strict=True):
        assert torch.equal(mine, other)


def test_plain_training_gives_the_same_weights(tmp_path: Path) -> None:
    module = Small()

    trainer(tmp_path, max_epochs=2).fit(module, loader())

    assert_same(weights(module), by_hand())


def test_training_unrecorded_gives_the_same_weights(tmp_path: Path) -> None:
    module = Small()

    trainer(tmp_path, max_epochs=2, recording="off").fit(module, loader())

    assert_same(weights(module), by_hand())


def test_validation_in_between_does_not_change_the_weights(tmp_path: Path) -> None:
    module = Small()

    trainer(tmp_path, max_epochs=2, val_check_interval=2).fit(module, loader(), loader(8))

    assert_same(weights(module), by_hand())


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulated_gradients_give_the_same_weights(tmp_path: Path, accumulate: int) -> None:
    module = Small()

    trainer(tmp_path, max_epochs=2, accumulate_grad_batches=accumulate).fit(module, loader())

    assert_same(weights(module), by_hand(accumulate=accumulate))


def test_clipping_by_norm_gives_the_same_weights(tmp_path: Path) -> None:
    module = Small()

    trainer(tmp_path, max_epochs=2, gradient_clip_val=0.05).fit(module, loader())

    assert_same(weights(module), by_hand(clip=lambda p: nn.utils.clip_grad_norm_(p, 0.05)))


def test_clipping_by_value_gives_the_same_weights(tmp_path: Path) -> None:
    module = Small()
    options = {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"}

    trainer(tmp_path, max_epochs=2, **options).fit(module, loader())

    assert_same(weights(module), by_hand(clip=lambda p: nn.utils.clip_grad_value_(p, 0.01)))


def test_an_overridden_optimizer_step_gives_the_same_weights(tmp_path: Path) -> None:
    class Overrides(Small):
        def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, *rest: Any) -> None:  # type: ignore[override]
            optimizer.step(closure=rest[-1])

    module = Overrides()

    trainer(tmp_path, max_epochs=2).fit(module, loader())

    assert_same(weights(module), by_hand())


def test_a_step_scheduler_and_an_epoch_scheduler_move_the_learning_rate(tmp_path: Path) -> None:
    class Scheduled(Small):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
            by_step = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
            by_epoch = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
            return [optimizer], [{"scheduler": by_step, "interval": "step"}, by_epoch]

    module = Scheduled()
    run = trainer(tmp_path, max_epochs=2)

    run.fit(module, loader())

    assert run.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.9**12 * 0.5**2)


def test_reduce_on_plateau_gets_its_metric(tmp_path: Path) -> None:
    class Plateau(Small):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
            scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimizer, patience=0, mode="max"
            )
            return {
                "optimizer": optimizer,
                "lr_scheduler": {"scheduler": scheduler, "monitor": "falling"},
            }

        def on_train_epoch_end(self) -> None:
            self.put("falling", -self.current_epoch)

    run = trainer(tmp_path, max_epochs=3)

    run.fit(Plateau(), loader())

    assert run.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.01)


def test_none_from_training_step_leaves_the_weights_alone(tmp_path: Path) -> None:
    class Skips(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None if batch_idx > 0 else super().training_step(batch, batch_idx)

    once = Small()
    skips = Skips()

    trainer(tmp_path, max_steps=1).fit(once, loader())
    trainer(tmp_path).fit(skips, loader())

    assert_same(weights(skips), weights(once))


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
