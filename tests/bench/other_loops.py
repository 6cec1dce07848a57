"""Two optimizers, evaluation and prediction, each beside the same written by hand."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import BARE, STEPS, Batches, Stopwatch, make_net
from torch import Tensor, nn
from torch.nn import functional as F

import nightbus as nb


def make_optimizers(nets: list[nn.Module]) -> list[torch.optim.Optimizer]:
    return [torch.optim.SGD(net.parameters(), lr=0.01) for net in nets]


def loss_of(nets: list[nn.Module], x: Tensor, y: Tensor, turn: int) -> Tensor:
    """The first net trains alone, the second one on top of it."""
    return F.cross_entropy(nets[0](x) if turn == 0 else nets[0](x) + nets[1](x), y)


def two_by_hand(folder: Path) -> float:
    nets = [make_net(), make_net()]
    optimizers = make_optimizers(nets)
    watch = Stopwatch()
    for step, (x, y) in enumerate(Batches(STEPS)):
        if step == 1:
            watch.begin_s = time.perf_counter()
        for turn, optimizer in enumerate(optimizers):
            frozen = list(nets[1 - turn].parameters())
            for parameter in frozen:
                parameter.requires_grad = False
            loss = loss_of(nets, x, y, turn)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            for parameter in frozen:
                parameter.requires_grad = True
    watch.end_s = time.perf_counter()
    return watch.per_step_us


class Two(nb.LightningModule):
    def __init__(self, watch: Stopwatch) -> None:
        super().__init__()
        self.nets = nn.ModuleList([make_net(), make_net()])
        self.watch = watch

    def training_step(self, batch: Any, batch_idx: int, optimizer_idx: int) -> Tensor:
        if batch_idx == 1 and optimizer_idx == 0:
            self.watch.begin_s = time.perf_counter()
        x, y = batch
        return loss_of(list(self.nets), x, y, optimizer_idx)

    def configure_optimizers(self) -> Any:
        return make_optimizers(list(self.nets))

    def on_train_epoch_end(self) -> None:
        self.watch.end_s = time.perf_counter()


class TwoByHand(Two):
    """Steps its optimizers itself."""

    automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        if batch_idx == 1:
            self.watch.begin_s = time.perf_counter()
        nets = list(self.nets)
        for turn, optimizer in enumerate(self.optimizers()):
            with self.toggle_optimizer(optimizer, turn):
                x, y = batch
                loss = loss_of(nets, x, y, turn)
                optimizer.zero_grad()
                self.manual_backward(loss)
                optimizer.step()


def fit(module_class: Callable[[Stopwatch], nb.LightningModule], **arguments: Any) -> Any:
    def run(folder: Path) -> float:
        watch = Stopwatch()
        trainer = nb.Trainer(max_epochs=1, default_root_dir=folder, accelerator="cpu", **arguments)
        trainer.fit(module_class(watch), Batches(STEPS))
        return watch.per_step_us

    return run


def evaluation_by_hand(folder: Path) -> float:
    net = make_net().eval()
    watch = Stopwatch()
    with torch.no_grad():
        for step, (x, y) in enumerate(Batches(STEPS)):
            if step == 1:
                watch.begin_s = time.perf_counter()
            F.cross_entropy(net(x), y)
    watch.end_s = time.perf_counter()
    return watch.per_step_us


def prediction_by_hand(folder: Path) -> float:
    net = make_net().eval()
    predictions = []
    watch = Stopwatch()
    with torch.no_grad():
        for step, (x, _) in enumerate(Batches(STEPS)):
            if step == 1:
                watch.begin_s = time.perf_counter()
            predictions.append(net(x).argmax(dim=1))
    watch.end_s = time.perf_counter()
    return watch.per_step_us


class Evaluated(nb.LightningModule):
    def __init__(self, watch: Stopwatch) -> None:
        super().__init__()
        self.net = make_net()
        self.watch = watch

    def validation_step(self, batch: Any, batch_idx: int) -> Tensor:
        if batch_idx == 1:
            self.watch.begin_s = time.perf_counter()
        x, y = batch
        return F.cross_entropy(self.net(x), y)

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        if batch_idx == 1:
            self.watch.begin_s = time.perf_counter()
        prediction: Tensor = self.net(batch[0]).argmax(dim=1)
        return prediction

    def on_validation_epoch_end(self) -> None:
        self.watch.end_s = time.perf_counter()

    def on_predict_epoch_end(self, outputs: Any) -> None:
        self.watch.end_s = time.perf_counter()


def evaluate(function: str, **arguments: Any) -> Any:
    def run(folder: Path) -> float:
        watch = Stopwatch()
        trainer = nb.Trainer(max_epochs=1, default_root_dir=folder, accelerator="cpu", **arguments)
        getattr(trainer, function)(Evaluated(watch), Batches(STEPS))
        return watch.per_step_us

    return run


RECORDED = {**BARE, "recording": "all"}
OTHER_LOOPS: dict[str, Callable[[Path], float]] = {
    "raw, two optimizers": two_by_hand,
    "two optimizers": fit(Two, **BARE),
    "two, recorded": fit(Two, **RECORDED),
    "two, manual": fit(TwoByHand, **BARE),
    "raw evaluation": evaluation_by_hand,
    "evaluation": evaluate("validate", **BARE),
    "evaluation, recorded": evaluate("validate", **RECORDED),
    "raw prediction": prediction_by_hand,
    "prediction": evaluate("predict", **BARE),
    "prediction, recorded": evaluate("predict", **RECORDED),
}
RAW_OF = {
    **dict.fromkeys(list(OTHER_LOOPS)[:4], "raw, two optimizers"),
    **dict.fromkeys(list(OTHER_LOOPS)[4:7], "raw evaluation"),
    **dict.fromkeys(list(OTHER_LOOPS)[7:], "raw prediction"),
}
