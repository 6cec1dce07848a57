"""Which hook is running, for what is put, logged or fails in it, whoever does what is done."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nightbus as nb

HOOKS = {"training_step", "optimizer_step", "optimizer_zero_grad", "backward"}


class ToldOptimizer(torch.optim.SGD):
    """Tells the module when its gradients are cleared and when it steps."""

    module: "Module"

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.module.see("optimizer_zero_grad")
        super().zero_grad(set_to_none)

    def step(self, closure: Any = None) -> Any:
        self.module.see("optimizer_step")
        return super().step(closure)


class Module(nb.LightningModule):
    """Sees which hook is said to run in each of them."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 1)
        self.seen: dict[str, str] = {}

    def see(self, inside: str) -> None:
        self.seen[inside] = self.trainer.place.hook

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.see("training_step")
        loss: Tensor = self.net(batch).sum()
        loss.register_hook(lambda _: self.see("backward"))
        return loss

    def configure_optimizers(self) -> ToldOptimizer:
        optimizer = ToldOptimizer(self.parameters(), lr=0.1)
        optimizer.module = self
        return optimizer


class Overriding(Module):
    """Does itself what is done in them."""

    def backward(self, loss: Tensor, *_: Any) -> None:
        loss.backward()

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any, *_: Any) -> None:
        optimizer.zero_grad()

    def optimizer_step(self, *arguments: Any, **_: Any) -> None:
        _, _, optimizer, closure = arguments  # and optimizer_idx, if there are several
        optimizer.step(closure)


def fit(module: Module, folder: Path, recording: Any) -> nb.Trainer:
    trainer = nb.Trainer(
        max_epochs=1,
        default_root_dir=folder,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        recording=recording,
    )
    trainer.fit(module, torch.utils.data.DataLoader(torch.ones(2, 4)))  # type: ignore[arg-type]
    return trainer


@pytest.mark.parametrize("recording", ["all", "metrics", "off"])
@pytest.mark.parametrize("kind", [Module, Overriding])
def test_the_hook_that_runs_is_the_one_that_is_said_to(
    kind: type[Module], recording: str, tmp_path: Path
) -> None:
    module = kind()
    trainer = fit(module, tmp_path, recording)
    assert module.seen == {hook: hook for hook in HOOKS}
    assert not trainer.place.hook
