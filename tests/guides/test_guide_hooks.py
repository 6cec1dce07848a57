"""The hooks guide, block by block: what its text says of each hook holds."""

from pathlib import Path
from typing import Any

import pytest
import torch
from guides.guide_data import CIFAR, MNIST, Board, Plain, dict_loader
from models import Small, loader, trainer, weights
from torch import Tensor, nn
from torch.nn import functional as F

import nightbus as nb

FUNCTIONS = ("fit", "validate", "test", "predict")


def run_function(run: nb.Trainer, function: str, module: nb.LightningModule, *data: Any) -> None:
    options = {} if function in ("fit", "predict") else {"verbose": False}
    getattr(run, function)(module, *data, **options)


# -- DataHooks: batches ----------------------------------------------------------------------------


class TakesDicts(Plain):
    """Trains, validates, tests and predicts on batches that are dicts, and notes their x."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.seen.append(batch["x"].max().item())
        return F.cross_entropy(self(batch["x"]), batch["y"])

    validation_step = test_step = predict_step = training_step  # type: ignore[assignment]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_batches_are_altered_before_they_move_and_after(tmp_path: Path, function: str) -> None:
    order: list[str] = []

    class LitModel(TakesDicts):
        def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            order.append("before")
            batch["x"] = batch["x"] * 2
            return batch

        def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:  # type: ignore[override]
            order.append("transfer")
            return super().transfer_batch_to_device(batch, device, dataloader_idx)

        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            order.append("after")
            batch["x"] = batch["x"] + 1
            return batch

    module = LitModel()

    run_function(trainer(tmp_path), function, module, dict_loader())

    assert module.seen == [7.0, 15.0, 23.0]
    assert order == ["before", "transfer", "after"] * 3


# -- DataHooks: preparation ------------------------------------------------------------------------


def test_prepare_data_comes_before_setup_and_both_before_the_dataloaders(tmp_path: Path) -> None:
    calls: list[str] = []

    class LitModel(Small):
        def prepare_data(self) -> None:
            calls.append("prepare_data")

        def setup(self, stage: str) -> None:
            calls.append(f"setup({stage})")

        def train_dataloader(self) -> Any:
            calls.append("train_dataloader")
            return loader()

        def val_dataloader(self) -> Any:
            calls.append("val_dataloader")
            return loader()

        def test_dataloader(self) -> Any:
            calls.append("test_dataloader")
            return loader()

    run, model = trainer(tmp_path, num_sanity_val_steps=0, max_epochs=2), LitModel()
    run.fit(model)
    run.test(model, verbose=False)

    first = ["prepare_data", "setup(fit)", "train_dataloader", "val_dataloader"]
    assert calls == [*first, "prepare_data", "setup(test)", "test_dataloader"]


def test_setup_builds_a_layer_that_the_data_decides_and_it_is_trained(tmp_path: Path) -> None:
    class LitModel(nb.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.l1: Any = None

        def prepare_data(self) -> None:
            MNIST(download=True)

        def setup(self, stage: str | None = None) -> None:
            torch.manual_seed(0)
            self.l1 = nn.Linear(4, 2)
            self.before = weights(self.l1)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            x, y = batch
            return F.cross_entropy(self.l1(x), y)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    module = LitModel()

    trainer(tmp_path).fit(module, loader())

    assert not torch.equal(module.l1.weight, module.before[0])


@pytest.mark.parametrize("hook", ["setup", "teardown"])
def test_setup_and_teardown_are_called_for_each_function(tmp_path: Path, hook: str) -> None:
    stages: list[str | None] = []

    def note(self: Any, stage: str | None = None) -> None:
        stages.append(stage)

    module = type("LitModel", (Small,), {hook: note})()
    run = trainer(tmp_path)
    for function in FUNCTIONS:
        run_function(run, function, module, loader())

    assert stages == list(FUNCTIONS)


# -- DataHooks: dataloaders ------------------------------------------------------------------------


class TwoDataSets(Small):
    """Reads the collection that ``train_dataloader`` of a subclass gives, and notes its shape."""

    batch_size = 4

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[Any] = []

    def mnist_and_cifar(self) -> tuple[Any, Any]:
        mnist = MNIST()
        cifar = CIFAR()
        mnist_loader = torch.utils.data.DataLoader(
            dataset=mnist, batch_size=self.batch_size, shuffle=True
        )
        cifar_loader = torch.utils.data.DataLoader(
            dataset=cifar, batch_size=self.batch_size, shuffle=True
        )
        return mnist_loader, cifar_loader

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.shapes.append(shape_of(batch))
        return self.loss(first_of(batch))


def shape_of(batch: Any) -> Any:
    """A batch with "xy" in place of each pair of tensors."""
    if isinstance(batch, dict):
        return {key: shape_of(value) for key, value in batch.items()}
    if isinstance(batch[0], Tensor):
        return "xy"
    return [shape_of(value) for value in batch]


def first_of(batch: Any) -> Any:
    """The first pair of tensors in a collection."""
    if isinstance(batch, dict):
        return first_of(next(iter(batch.values())))
    return batch if isinstance(batch[0], Tensor) else first_of(batch[0])


@pytest.mark.parametrize(
    "form", ["list", "dict", "lists", "list of dicts", "dicts", "dict of lists"]
)
def test_batches_have_the_form_of_the_train_dataloaders(tmp_path: Path, form: str) -> None:
    def collection(one: Any, two: Any) -> Any:
        return {
            "list": [one, two],
            "dict": {"mnist": one, "cifar": two},
            "lists": [[one, two], [two]],
            "list of dicts": [{"a": one}, {"b": two}],
            "dicts": {"a": {"b": one}, "c": {"d": two}},
            "dict of lists": {"a": [one, two], "b": [two]},
        }[form]

    class LitModel(TwoDataSets):
        def train_dataloader(self) -> Any:
            return collection(*self.mnist_and_cifar())

    module = LitModel()

    trainer(tmp_path).fit(module)

    assert module.shapes == [collection("xy", "xy")] * 5


# -- ModelHooks ------------------------------------------------------------------------------------


class Notes(Plain):
    """Notes what happens, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.calls.append("training_step")
        return self.loss(batch)


def test_on_after_backward_sees_gradients_before_the_optimizer_steps(tmp_path: Path) -> None:
    unmoved: list[bool] = []

    class LitModel(Notes):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            self.before = weights(self)

        def on_after_backward(self) -> None:
            same = zip(self.parameters(), self.before, strict=True)
            unmoved.append(all(p.grad is not None and torch.equal(p, b) for p, b in same))

    module = LitModel()
    trainer(tmp_path).fit(module, loader())

    assert unmoved == [True] * 6
    assert not torch.equal(weights(module)[0], module.before[0])


def test_on_before_optimizer_step_writes_histograms_every_25_steps(tmp_path: Path) -> None:
    class LitModel(Notes):
        def on_before_optimizer_step(self, optimizer: Any, optimizer_idx: int) -> None:  # type: ignore[override]
            # example to inspect gradient information in tensorboard
            if self.trainer.global_step % 25 == 0:  # don't make the tf file huge
                for k, v in self.named_parameters():
                    self.logger.experiment.add_histogram(
                        tag=k, values=v.grad, global_step=self.trainer.global_step
                    )

    board, module = Board(), LitModel()
    names = [name for name, _ in module.named_parameters()]

    trainer(tmp_path, sinks=[board]).fit(module, loader(240))

    assert board.experiment.histograms == [(name, step) for step in (0, 25, 50) for name in names]


def test_on_post_move_to_device_ties_weights(tmp_path: Path) -> None:
    class LitModel(nb.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Linear(4, 4)
            self.decoder = nn.Linear(4, 4)

        def on_post_move_to_device(self) -> None:
            self.decoder.weight = self.encoder.weight

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return (self.decoder(self.encoder(batch[0])) - batch[0]).square().mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    module = LitModel()
    before = weights(module.encoder)[0]

    trainer(tmp_path).fit(module, loader())

    assert module.decoder.weight is module.encoder.weight
    assert not torch.equal(module.decoder.weight, before)


@pytest.mark.parametrize(
    ("function", "kind"), [("validate", "validation"), ("test", "test"), ("predict", "predict")]
)
def test_evaluation_batch_hooks_get_what_the_guide_lists(
    tmp_path: Path, function: str, kind: str
) -> None:
    calls: list[Any] = []

    def start(self: Any, batch: Any, batch_idx: int, dataloader_idx: int) -> None:
        calls.append(("start", len(batch[0]), batch_idx, dataloader_idx))

    def step(self: Any, batch: Any, batch_idx: int, dataloader_idx: int) -> Any:
        calls.append("step")
        return f"output {batch_idx}"

    def end(self: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int) -> None:
        calls.append(("end", outputs, len(batch[0]), batch_idx, dataloader_idx))

    body = {
        f"on_{kind}_batch_start": start,
        f"{kind}_step": step,
        f"on_{kind}_batch_end": end,
    }
    module = type("LitModel", (Plain,), body)()

    run_function(trainer(tmp_path), function, module, [loader(3), loader(6)])

    assert calls == [
        *[("start", 3, 0, 0), "step", ("end", "output 0", 3, 0, 0)],
        *[("start", 4, 0, 1), "step", ("end", "output 0", 4, 0, 1)],
        *[("start", 2, 1, 1), "step", ("end", "output 1", 2, 1, 1)],
    ]


def test_train_batch_hooks_get_what_the_guide_lists(tmp_path: Path) -> None:
    class LitModel(Notes):
        def on_train_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int) -> None:  # type: ignore[override]
            self.calls.append(("start", len(batch[0]), batch_idx, dataloader_idx))

        def on_train_batch_end(  # type: ignore[override]
            self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int
        ) -> None:
            self.calls.append(("end", set(outputs), len(batch[0]), batch_idx, dataloader_idx))

    module = LitModel()

    trainer(tmp_path).fit(module, loader(6))

    assert module.calls == [
        *[("start", 4, 0, 0), "training_step", ("end", {"loss"}, 4, 0, 0)],
        *[("start", 2, 1, 0), "training_step", ("end", {"loss"}, 2, 1, 0)],
    ]


def test_on_train_end_is_called_before_the_loggers_are_closed(tmp_path: Path) -> None:
    closed: list[bool] = []
    board = Board()

    class LitModel(Notes):
        def on_train_end(self) -> None:
            closed.append(board.closed)

    trainer(tmp_path, sinks=[board]).fit(LitModel(), loader())

    assert closed == [False]
    assert board.closed
