"""The classification guide's chapter on configure_optimizers: what it says of several optimizers.

Each form of configure_optimizers, and when schedulers move, are in test_lr_schedulers.py.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from guides.guide_data import TwoNets
from models import loader, trainer
from torch import Tensor
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import StepLR


class Gan(TwoNets):
    """Two nets; notes whose turn it is."""

    def __init__(self) -> None:
        super().__init__()
        self.turns: list[int | None] = []

    def training_step(self, batch: Any, batch_idx: int, optimizer_idx: int | None = None) -> Any:
        self.turns.append(optimizer_idx)
        return self.loss_of(batch, optimizer_idx or 0)


class TwoOptimizers(Gan):
    """The GAN example: each optimizer has a net."""

    def configure_optimizers(self) -> Any:
        gen_opt = Adam(self.model_gen.parameters(), lr=0.01)
        dis_opt = Adam(self.model_dis.parameters(), lr=0.02)
        return gen_opt, dis_opt


def test_a_single_optimizer_has_no_number(tmp_path: Path) -> None:
    class One(Gan):
        def configure_optimizers(self) -> Any:
            return SGD(self.parameters(), lr=0.1)

    module = One()

    trainer(tmp_path).fit(module, loader(8))

    assert module.turns == [None, None]


def test_all_is_called_on_each_optimizer_and_scheduler_with_its_number(tmp_path: Path) -> None:
    calls: list[str] = []

    class LitModel(TwoOptimizers):
        def optimizer_zero_grad(  # type: ignore[override]
            self, epoch: int, batch_idx: int, optimizer: Any, optimizer_idx: int
        ) -> None:
            calls.append(f"zero_grad {optimizer_idx}")
            optimizer.zero_grad()

        def backward(self, loss: Tensor, optimizer: Any, optimizer_idx: int) -> None:
            calls.append(f"backward {optimizer_idx}")
            loss.backward()

        def configure_optimizers(self) -> Any:
            optimizers = list(super().configure_optimizers())
            for idx, optimizer in enumerate(optimizers):
                optimizer.register_step_post_hook(lambda *_, n=idx: calls.append(f"step {n}"))
            configs = [
                {"scheduler": StepLR(optimizer, 1), "interval": interval}
                for optimizer, interval in zip(optimizers, ("step", "epoch"), strict=True)
            ]
            return optimizers, configs

        def lr_scheduler_step(self, scheduler: Any, optimizer_idx: int, metric: Any) -> None:  # type: ignore[override]
            calls.append(f"scheduler {optimizer_idx}")
            super().lr_scheduler_step(scheduler, optimizer_idx, metric)

    trainer(tmp_path).fit(LitModel(), loader(8))

    turns = [f"{what} {idx}" for idx in (0, 1) for what in ("zero_grad", "backward", "step")]
    assert calls == [*turns, "scheduler 0"] * 2 + ["scheduler 1"]


@pytest.mark.parametrize(
    ("precision", "dtype"), [(16, torch.float16), ("bf16-mixed", torch.bfloat16)]
)
def test_precision_is_handled_with_several_optimizers(
    tmp_path: Path, precision: Any, dtype: torch.dtype
) -> None:
    kinds: list[torch.dtype] = []

    class LitModel(TwoOptimizers):
        def training_step(
            self, batch: Any, batch_idx: int, optimizer_idx: int | None = None
        ) -> Any:
            kinds.append(self.model_gen(batch[0]).dtype)
            return super().training_step(batch, batch_idx, optimizer_idx)

    module = LitModel()

    trainer(tmp_path, precision=precision).fit(module, loader(8))

    assert kinds == [dtype] * 4
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}


def test_gradients_are_computed_for_the_current_optimizers_parameters_only(
    tmp_path: Path,
) -> None:
    required: list[tuple[bool, bool]] = []
    after: list[bool] = []

    class LitModel(TwoOptimizers):
        def training_step(
            self, batch: Any, batch_idx: int, optimizer_idx: int | None = None
        ) -> Any:
            nets = (self.model_gen, self.model_dis)
            required.append((nets[0].weight.requires_grad, nets[1].weight.requires_grad))
            return super().training_step(batch, batch_idx, optimizer_idx)

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            after.append(all(parameter.requires_grad for parameter in self.parameters()))

    trainer(tmp_path).fit(LitModel(), loader(8))

    assert required == [(True, False), (False, True)] * 2
    assert after == [True, True]


def test_overriding_optimizer_step_controls_how_often_an_optimizer_steps(tmp_path: Path) -> None:
    class LitModel(TwoOptimizers):
        def optimizer_step(  # type: ignore[override]
            self,
            epoch: int,
            batch_idx: int,
            optimizer: Any,
            optimizer_idx: int,
            optimizer_closure: Any,
            **_: Any,
        ) -> None:
            # the generator every batch, the discriminator every third
            if optimizer_idx == 0 or batch_idx % 3 == 2:
                optimizer.step(closure=optimizer_closure)
            else:
                optimizer_closure()

    stepped: list[int] = []

    class Counted(LitModel):
        def configure_optimizers(self) -> Any:
            optimizers = super().configure_optimizers()
            for idx, optimizer in enumerate(optimizers):
                optimizer.register_step_post_hook(lambda *_, n=idx: stepped.append(n))
            return optimizers

    module = Counted()

    trainer(tmp_path).fit(module, loader())

    assert module.turns == [0, 1] * 6
    assert stepped == [0, 0, 0, 1] * 2
