"""The hooks guide, block by block: what its text says of each hook holds."""

from pathlib import Path
from typing import Any

import pytest
import torch
from guides.guide_data import (
    CIFAR,
    MNIST,
    Board,
    Plain,
    TwoNets,
    dict_loader,
    transforms,
)
from models import Small, loader, trainer, weights
from torch import Tensor, nn
from torch.nn import functional as F

import nightbus as nb
from nightbus.actors.checkpoints.format import read_checkpoint

FUNCTIONS = ("fit", "validate", "test", "predict")


def run_function(run: nb.Trainer, function: str, module: nb.LightningModule, *data: Any) -> None:
    options = {} if function in ("fit", "predict") else {"verbose": False}
    getattr(run, function)(module, *data, **options)


# -- CheckpointHooks -----------------------------------------------------------------------------


class KeepsSomethingCool(Small):
    """Both examples of the checkpoint hooks."""

    something_cool_i_want_to_save: Any = None
    my_cool_pickable_object: Any = None

    def on_load_checkpoint(self, checkpoint: Any) -> None:
        self.something_cool_i_want_to_save = checkpoint["something_cool_i_want_to_save"]

    def on_save_checkpoint(self, checkpoint: Any) -> None:
        checkpoint["something_cool_i_want_to_save"] = self.my_cool_pickable_object


def saved(tmp_path: Path, something: Any) -> Path:
    """A checkpoint of one epoch that carries something."""
    module = KeepsSomethingCool()
    module.my_cool_pickable_object = something
    run = trainer(tmp_path)
    run.fit(module, loader())
    run.save_checkpoint(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.mark.parametrize("something", ["words", {"a": [1, 2.5, None]}, (1, "two")])
def test_on_load_checkpoint_gets_what_on_save_checkpoint_added(
    tmp_path: Path, something: Any
) -> None:
    path = saved(tmp_path, something)
    module = KeepsSomethingCool()

    trainer(tmp_path).validate(module, loader(), ckpt_path=path, verbose=False)

    assert module.something_cool_i_want_to_save == something


def test_global_step_and_epoch_are_restored_without_a_hook(tmp_path: Path) -> None:
    path = saved(tmp_path, "anything")
    begins: list[tuple[int, int]] = []

    class LitModel(KeepsSomethingCool):
        def on_train_start(self) -> None:
            begins.append((self.trainer.current_epoch, self.trainer.global_step))

    trainer(tmp_path, max_epochs=2).fit(LitModel(), loader(), ckpt_path=path)

    assert begins == [(1, 6)]


def test_on_save_checkpoint_adds_to_the_full_checkpoint(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(saved(tmp_path, "an object"))

    assert checkpoint["something_cool_i_want_to_save"] == "an object"
    assert {"epoch", "global_step", "state_dict", "optimizer_states"} <= set(checkpoint)


# -- DataHooks: batches ----------------------------------------------------------------------------


class TakesDicts(Plain):
    """Trains, validates, tests and predicts on batches that are dicts, and notes their x."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, float]] = []

    def _step(self, batch: Any, stage: str) -> Any:
        self.seen.append((stage, batch["x"].max().item()))
        return F.cross_entropy(self(batch["x"]), batch["y"])

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self._step(batch, "training")

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        return self._step(batch, "validating")

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        return self._step(batch, "testing")

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return self._step(batch, "predicting")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_on_after_batch_transfer_alters_the_batch(tmp_path: Path, function: str) -> None:
    def gpu_transforms(x: Tensor) -> Tensor:
        return -x

    class LitModel(TakesDicts):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            batch["x"] = gpu_transforms(batch["x"])
            return batch

    module = LitModel()

    run_function(trainer(tmp_path), function, module, dict_loader())

    assert [largest for _, largest in module.seen] == [0.0, -4.0, -8.0]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_on_before_batch_transfer_alters_the_batch_before_it_moves(
    tmp_path: Path, function: str
) -> None:
    order: list[str] = []

    def transforms(x: Tensor) -> Tensor:
        return x * 2

    class LitModel(TakesDicts):
        def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            order.append("before")
            batch["x"] = transforms(batch["x"])
            return batch

        def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:  # type: ignore[override]
            order.append("transfer")
            return super().transfer_batch_to_device(batch, device, dataloader_idx)

        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            order.append("after")
            return batch

    module = LitModel()

    run_function(trainer(tmp_path), function, module, dict_loader())

    assert [largest for _, largest in module.seen] == [6.0, 14.0, 22.0]
    assert order == ["before", "transfer", "after"] * 3


@pytest.mark.parametrize("hook", ["on_before_batch_transfer", "on_after_batch_transfer"])
def test_batch_hooks_can_tell_what_the_trainer_does(tmp_path: Path, hook: str) -> None:
    states: list[str] = []

    def alter(self: Any, batch: Any, dataloader_idx: int) -> Any:
        names = ("training", "testing", "validating", "predicting")
        states.extend(name for name in names if getattr(self.trainer, name))
        return batch

    module = type("LitModel", (TakesDicts,), {hook: alter})()
    run = trainer(tmp_path, num_sanity_val_steps=0)
    run.fit(module, dict_loader(), dict_loader())
    run.test(module, dict_loader(), verbose=False)
    run.predict(module, dict_loader())

    assert states == [stage for stage, _ in module.seen]
    assert states == ["training"] * 3 + ["validating"] * 3 + ["testing"] * 3 + ["predicting"] * 3


def test_several_predict_dataloaders_give_predict_step_a_dataloader_idx(tmp_path: Path) -> None:
    class LitModel(Small):
        def predict_dataloader(self) -> Any:
            return [loader(8), loader(4)]

        def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> Any:  # type: ignore[override]
            return dataloader_idx

    assert trainer(tmp_path).predict(LitModel()) == [[0, 0], [1]]


# -- DataHooks: preparation ------------------------------------------------------------------------


@pytest.mark.parametrize("prepare_data_per_node", [True, False])
def test_prepare_data_is_called_once_in_one_process(
    tmp_path: Path, prepare_data_per_node: bool
) -> None:
    calls: list[str] = []

    def download_data() -> None:
        calls.append("download")

    def tokenize() -> None:
        calls.append("tokenize")

    class LitModel(Small):
        def prepare_data(self) -> None:
            download_data()
            tokenize()

    run = trainer(tmp_path, prepare_data_per_node=prepare_data_per_node)
    run.fit(LitModel(), loader())

    assert calls == ["download", "tokenize"]


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

    run, model = trainer(tmp_path, num_sanity_val_steps=0), LitModel()
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


def test_test_dataloader_gives_the_pictures_of_the_example(tmp_path: Path) -> None:
    lowest: list[float] = []

    class LitModel(Small):
        batch_size = 4

        def test_dataloader(self) -> Any:
            transform = transforms.Compose(
                [transforms.ToTensor(), transforms.Normalize((0.5,), (1.0,))]
            )
            dataset = MNIST(root="/path/to/mnist/", train=False, transform=transform, download=True)
            return torch.utils.data.DataLoader(
                dataset=dataset, batch_size=self.batch_size, shuffle=False
            )

        def test_step(self, batch: Any, batch_idx: int) -> Any:
            lowest.append(batch[0].min().item())
            return super().test_step(batch, batch_idx)

    (metrics,) = trainer(tmp_path).test(LitModel(), verbose=False)

    assert "test_loss" in metrics
    assert len(lowest) == 3
    assert min(lowest) < 0


def test_several_test_dataloaders_give_test_step_a_dataloader_idx(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    loader_a, loader_b, loader_n = loader(8), loader(4), loader(12)

    class LitModel(Plain):
        def test_dataloader(self) -> Any:
            return [loader_a, loader_b, loader_n]

        def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> None:
            seen.append((dataloader_idx, batch_idx))

    trainer(tmp_path).test(LitModel(), verbose=False)

    assert seen == [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1), (2, 2)]


def test_train_dataloader_gives_the_pictures_of_the_example(tmp_path: Path) -> None:
    sizes: list[int] = []

    class LitModel(Small):
        batch_size = 5

        def train_dataloader(self) -> Any:
            transform = transforms.Compose(
                [transforms.ToTensor(), transforms.Normalize((0.5,), (1.0,))]
            )
            dataset = MNIST(root="/path/to/mnist/", train=True, transform=transform, download=True)
            return torch.utils.data.DataLoader(
                dataset=dataset, batch_size=self.batch_size, shuffle=True
            )

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            sizes.append(len(batch[0]))
            return super().training_step(batch, batch_idx)

    trainer(tmp_path).fit(LitModel())

    assert sizes == [5, 5, 2]


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


def test_a_list_of_train_dataloaders_gives_batches_that_are_lists(tmp_path: Path) -> None:
    class LitModel(TwoDataSets):
        def train_dataloader(self) -> Any:
            mnist_loader, cifar_loader = self.mnist_and_cifar()
            # each batch will be a list of tensors: [batch_mnist, batch_cifar]
            return [mnist_loader, cifar_loader]

    module = LitModel()

    trainer(tmp_path).fit(module)

    assert module.shapes == [["xy", "xy"]] * 5


def test_a_dict_of_train_dataloaders_gives_batches_that_are_dicts(tmp_path: Path) -> None:
    class LitModel(TwoDataSets):
        def train_dataloader(self) -> Any:
            mnist_loader, cifar_loader = self.mnist_and_cifar()
            # each batch will be a dict of tensors: {'mnist': batch_mnist, 'cifar': batch_cifar}
            return {"mnist": mnist_loader, "cifar": cifar_loader}

    module = LitModel()

    trainer(tmp_path).fit(module)

    assert module.shapes == [{"mnist": "xy", "cifar": "xy"}] * 5


@pytest.mark.parametrize("form", ["lists", "list of dicts", "dicts", "dict of lists"])
def test_train_dataloaders_may_be_nested(tmp_path: Path, form: str) -> None:
    def collection(one: Any, two: Any) -> Any:
        return {
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


class CustomBatch:
    """A batch in a data structure of one's own."""

    def __init__(self, pairs: Any) -> None:
        self.samples = torch.stack([x for x, _ in pairs])
        self.targets = torch.tensor([y for _, y in pairs])
        self.moved = False


def test_transfer_batch_to_device_moves_a_custom_data_structure(tmp_path: Path) -> None:
    moved: list[bool] = []

    class LitModel(Small):
        def transfer_batch_to_device(self, batch: Any, device: Any) -> Any:  # type: ignore[override]
            if isinstance(batch, CustomBatch):
                # move all tensors in your custom data structure to the device
                batch.samples = batch.samples.to(device)
                batch.targets = batch.targets.to(device)
                batch.moved = device == self.device
            else:
                batch = super().transfer_batch_to_device(batch, device)
            return batch

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            moved.append(batch.moved)
            return self.loss((batch.samples, batch.targets))

        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("val_loss", self.loss(batch))

    custom = torch.utils.data.DataLoader(MNIST(), batch_size=4, collate_fn=CustomBatch)
    trainer(tmp_path).fit(LitModel(), custom, loader())

    assert moved == [True] * 3


class Movable:
    """Anything that implements ``to``."""

    def __init__(self, device: Any = None) -> None:
        self.device = device

    def to(self, device: Any) -> "Movable":
        return Movable(device)


def test_tensors_and_what_has_to_are_moved_in_any_nesting() -> None:
    meta = torch.device("meta")
    batch = {"list": [torch.ones(2), Movable()], "tuple": (torch.ones(3), {"deep": torch.ones(1)})}

    moved = nb.LightningModule().transfer_batch_to_device(batch, meta, 0)

    assert moved["list"][0].device == moved["list"][1].device == meta
    assert isinstance(moved["tuple"], tuple)
    assert moved["tuple"][0].device == moved["tuple"][1]["deep"].device == meta


def test_val_dataloader_gives_the_pictures_of_the_example(tmp_path: Path) -> None:
    class LitModel(Small):
        batch_size = 4

        def val_dataloader(self) -> Any:
            transform = transforms.Compose(
                [transforms.ToTensor(), transforms.Normalize((0.5,), (1.0,))]
            )
            dataset = MNIST(root="/path/to/mnist/", train=False, transform=transform, download=True)
            return torch.utils.data.DataLoader(
                dataset=dataset, batch_size=self.batch_size, shuffle=False
            )

    run = trainer(tmp_path)
    (metrics,) = run.validate(LitModel(), verbose=False)

    assert "val_loss" in metrics
    assert run.num_val_batches == [3]


def test_several_val_dataloaders_give_validation_step_a_dataloader_idx(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    loader_a, loader_b, loader_n = loader(4), loader(8), loader(4)

    class LitModel(Small):
        def val_dataloader(self) -> Any:
            return [loader_a, loader_b, loader_n]

        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> None:  # type: ignore[override]
            seen.append((dataloader_idx, batch_idx))

    trainer(tmp_path, num_sanity_val_steps=0).fit(LitModel(), loader())

    assert seen == [(0, 0), (1, 0), (1, 1), (2, 0)]


def test_a_module_without_validation_or_test_data_needs_neither_step(tmp_path: Path) -> None:
    class LitModel(Plain):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.loss(batch)

    run = trainer(tmp_path)
    run.fit(LitModel(), loader())

    assert run.global_step == 6


# -- ModelHooks ------------------------------------------------------------------------------------


class Notes(Plain):
    """Notes what happens, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.calls.append("training_step")
        return self.loss(batch)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_configure_sharded_model_is_called_for_each_function(tmp_path: Path, function: str) -> None:
    calls: list[str] = []

    class LitModel(Small):
        def configure_sharded_model(self) -> None:
            calls.append(function)

    run_function(trainer(tmp_path), function, LitModel(), loader())

    assert calls == [function]


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


def test_on_before_optimizer_step_waits_for_the_end_of_an_accumulation(tmp_path: Path) -> None:
    class LitModel(Notes):
        def on_before_optimizer_step(self, optimizer: Any, optimizer_idx: int) -> None:  # type: ignore[override]
            self.calls.append((type(optimizer).__name__, optimizer_idx))

    module = LitModel()

    trainer(tmp_path, accumulate_grad_batches=3).fit(module, loader())

    assert module.calls == [*["training_step"] * 3, ("SGD", 0)] * 2


def test_on_before_zero_grad_is_called_where_the_pseudocode_says(tmp_path: Path) -> None:
    class LitModel(TwoNets):
        def __init__(self) -> None:
            super().__init__()
            self.calls: list[Any] = []

        def training_step(self, batch: Any, batch_idx: int, optimizer_idx: int) -> Any:
            self.calls.append(("training_step", optimizer_idx))
            return self.loss_of(batch, optimizer_idx)

        def on_before_zero_grad(self, optimizer: Any) -> None:
            self.calls.append(("on_before_zero_grad", self.trainer.optimizers.index(optimizer)))

        def optimizer_zero_grad(  # type: ignore[override]
            self, epoch: int, batch_idx: int, optimizer: Any, optimizer_idx: int
        ) -> None:
            self.calls.append(("zero_grad", optimizer_idx))
            optimizer.zero_grad()

        def backward(self, loss: Tensor, optimizer: Any, optimizer_idx: int) -> None:  # type: ignore[override]
            self.calls.append(("backward", optimizer_idx))
            loss.backward()

        def configure_optimizers(self) -> Any:
            nets = (self.model_gen, self.model_dis)
            return [torch.optim.SGD(net.parameters(), lr=0.1) for net in nets]

    module = LitModel()
    trainer(tmp_path).fit(module, loader(8))

    expected = []
    for _ in range(2):
        for optimizer_idx in range(2):
            expected.append(("training_step", optimizer_idx))
            expected.append(("on_before_zero_grad", optimizer_idx))  # < ---- called here
            expected.append(("zero_grad", optimizer_idx))
            expected.append(("backward", optimizer_idx))
    assert module.calls == expected


def test_on_before_zero_grad_sees_the_weights_that_the_step_before_left(tmp_path: Path) -> None:
    inspected: list[Tensor] = []
    left: list[Tensor] = []

    class LitModel(Notes):
        def on_before_zero_grad(self, optimizer: Any) -> None:
            inspected.append(weights(self)[0])

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            left.append(weights(self)[0])

    trainer(tmp_path).fit(LitModel(), loader())

    assert all(torch.equal(a, b) for a, b in zip(inspected[1:], left, strict=False))
    assert not torch.equal(inspected[0], inspected[1])


def test_fit_pretrain_routine_and_training_begin_in_this_order(tmp_path: Path) -> None:
    class LitModel(Notes):
        def on_fit_start(self) -> None:
            self.calls.append("fit")

        def on_pretrain_routine_start(self) -> None:
            self.calls.append("pretrain_routine start")

        def on_pretrain_routine_end(self) -> None:
            self.calls.append("pretrain_routine end")

        def on_train_start(self) -> None:
            self.calls.append("training_start")

        def on_train_end(self) -> None:
            self.calls.append("training_end")

        def on_fit_end(self) -> None:
            self.calls.append("fit_end")

    module = LitModel()

    trainer(tmp_path).fit(module, loader(4))

    begin = ["fit", "pretrain_routine start", "pretrain_routine end", "training_start"]
    assert module.calls == [*begin, "training_step", "training_end", "fit_end"]


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


@pytest.mark.parametrize(("function", "kind"), [("validate", "validation"), ("test", "test")])
def test_evaluation_epoch_hooks_enclose_the_batches(
    tmp_path: Path, function: str, kind: str
) -> None:
    calls: list[str] = []

    def note(name: str) -> Any:
        return lambda self, *arguments: calls.append(name)

    names = (f"on_{kind}_epoch_start", f"{kind}_step", f"on_{kind}_epoch_end")
    module = type("LitModel", (Plain,), {name: note(name) for name in names})()

    run_function(trainer(tmp_path), function, module, loader(8))

    assert calls == [names[0], names[1], names[1], names[2]]


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


def test_minus_one_from_the_modules_on_train_batch_start_skips_the_rest_of_the_epoch(
    tmp_path: Path,
) -> None:
    class LitModel(Notes):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
            return -1 if batch_idx == 2 else None

        def on_train_epoch_end(self) -> None:
            self.calls.append("epoch end")

    module = LitModel()

    trainer(tmp_path, max_epochs=2).fit(module, loader())

    assert module.calls == ["training_step", "training_step", "epoch end"] * 2


def test_on_train_end_is_called_before_the_loggers_are_closed(tmp_path: Path) -> None:
    closed: list[bool] = []
    board = Board()

    class LitModel(Notes):
        def on_train_end(self) -> None:
            closed.append(board.closed)

    trainer(tmp_path, sinks=[board]).fit(LitModel(), loader())

    assert closed == [False]
    assert board.closed


def test_on_train_epoch_end_with_its_unused_argument_can_read_what_steps_cached(
    tmp_path: Path,
) -> None:
    epochs: list[int] = []

    class LitModel(Notes):
        def __init__(self) -> None:
            super().__init__()
            self.outputs: list[Tensor] = []

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.loss(batch)
            self.outputs.append(loss.detach())
            return loss

        def on_train_epoch_end(self, unused: Any = None) -> None:
            assert unused is None
            epochs.append(len(self.outputs))
            self.outputs.clear()

    trainer(tmp_path, max_epochs=2).fit(LitModel(), loader())

    assert epochs == [6, 6]


def test_training_epoch_end_gets_all_outputs_before_on_train_epoch_end(tmp_path: Path) -> None:
    class LitModel(Notes):
        def training_epoch_end(self, outputs: Any) -> None:
            self.calls.append(("training_epoch_end", len(outputs)))

        def on_train_epoch_end(self, unused: Any = None) -> None:
            self.calls.append("on_train_epoch_end")

    module = LitModel()

    trainer(tmp_path).fit(module, loader(8))

    assert module.calls[2:] == [("training_epoch_end", 2), "on_train_epoch_end"]


def test_on_train_epoch_start_comes_before_the_epochs_batches(tmp_path: Path) -> None:
    class LitModel(Notes):
        def on_train_epoch_start(self) -> None:
            self.calls.append(f"epoch {self.current_epoch}")

    module = LitModel()

    trainer(tmp_path, max_epochs=2).fit(module, loader(4))

    assert module.calls == ["epoch 0", "training_step", "epoch 1", "training_step"]
