"""The classification guide's chapters on steps and epoch ends: examples, pseudocode and claims.

``self.log(some_result)`` of the guide, where the result is a dict, is ``log_dict`` here.
"""

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from guides.guide_data import Board, Plain, TwoNets, torchvision
from models import Small, assert_same, loader, trainer, weights
from torch import nn

import nightbus as nb

KINDS = pytest.mark.parametrize(
    ("function", "kind"), [("validate", "validation"), ("test", "test")]
)


def evaluate(folder: Path, function: str, module: nb.LightningModule, data: Any) -> Any:
    """Validate or test on its own."""
    return getattr(trainer(folder), function)(module, data, verbose=False)


def module_with(**methods: Any) -> Any:
    """A module with these methods besides its own."""
    return type("LitModel", (Plain,), methods)()


# -- test_epoch_end and validation_epoch_end -------------------------------------------------------


@KINDS
def test_the_epoch_end_gets_the_outputs_that_the_pseudocode_collects(
    tmp_path: Path, function: str, kind: str
) -> None:
    got: list[Any] = []

    def step(self: Any, batch: Any, batch_idx: int) -> float:
        return float(batch[0].sum())

    def epoch_end(self: Any, outputs: Any) -> None:
        got.append(outputs)

    module = module_with(**{f"{kind}_step": step, f"{kind}_epoch_end": epoch_end})
    test_data = loader()

    evaluate(tmp_path, function, module, test_data)

    test_outs = []
    for batch_idx, test_batch in enumerate(test_data):
        out = step(module, test_batch, batch_idx)
        test_outs.append(out)
    assert got == [test_outs]


@KINDS
def test_without_a_step_the_epoch_end_is_not_called(
    tmp_path: Path, function: str, kind: str
) -> None:
    calls: list[Any] = []

    def training_step(self: Any, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch)

    methods = {f"{kind}_epoch_end": lambda self, outputs: calls.append(outputs)}
    module = module_with(training_step=training_step, **methods)

    trainer(tmp_path).fit(module, loader(8), loader(8))

    assert calls == []


@KINDS
def test_epoch_end_outputs_are_a_list_of_lists_with_multiple_dataloaders(
    tmp_path: Path, function: str, kind: str
) -> None:
    shapes: list[Any] = []

    def step(self: Any, batch: Any, batch_idx: int, dataloader_idx: int) -> int:
        return 10 * dataloader_idx + batch_idx

    def epoch_end(self: Any, outputs: Any) -> None:
        shapes.append(outputs)
        final_value = 0
        for dataloader_outputs in outputs:
            for test_step_out in dataloader_outputs:
                # do something
                final_value += test_step_out

        self.log("final_metric", final_value)

    module = module_with(**{f"{kind}_step": step, f"{kind}_epoch_end": epoch_end})
    results = evaluate(tmp_path, function, module, [loader(8), loader(4), loader(12)])

    assert shapes == [[[0, 1], [10], [20, 21, 22]]]
    assert results[0]["final_metric"] == 74


def test_validation_epoch_end_with_a_single_dataloader(tmp_path: Path) -> None:
    outs: list[Any] = []

    class LitModel(Small):
        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            return batch_idx

        def validation_epoch_end(self, val_step_outputs: Any) -> None:
            for out in val_step_outputs:
                outs.append(out)

    trainer(tmp_path, num_sanity_val_steps=0, max_epochs=2).fit(LitModel(), loader(8), loader(12))

    assert outs == [0, 1, 2] * 2


# -- test_step and validation_step -----------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("value", [torch.ones(2, 3), "anything", {"a": [1, None]}, 0, ()])
def test_a_step_may_return_any_object_or_value(
    tmp_path: Path, function: str, kind: str, value: Any
) -> None:
    got: list[Any] = []
    methods = {
        f"{kind}_step": lambda self, batch, batch_idx: value,
        f"{kind}_epoch_end": lambda self, outputs: got.extend(outputs),
    }

    evaluate(tmp_path, function, module_with(**methods), loader(8))

    assert len(got) == 2
    assert all(output is value for output in got)


@KINDS
def test_none_from_a_step_skips_to_the_next_batch(tmp_path: Path, function: str, kind: str) -> None:
    got: list[Any] = []
    methods = {
        f"{kind}_step": lambda self, batch, idx: None if idx % 2 else idx,
        f"{kind}_epoch_end": lambda self, outputs: got.append(outputs),
    }

    evaluate(tmp_path, function, module_with(**methods), loader())

    assert got == [[0, 2, 4]]


@KINDS
def test_case_1_a_single_data_set(tmp_path: Path, function: str, kind: str) -> None:
    short = {"validation": "val", "test": "test"}[kind]

    def step(self: Any, batch: Any, batch_idx: int) -> None:
        x, y = batch

        # implement your own
        out = self(x)
        loss = nn.functional.cross_entropy(out, y)

        # log 6 example images
        # or generated text... or whatever
        sample_imgs = x[:6]
        grid = torchvision.utils.make_grid(sample_imgs)
        self.logger.experiment.add_image("example_images", grid, 0)

        # calculate acc
        labels_hat = torch.argmax(out, dim=1)
        acc = torch.sum(y == labels_hat).item() / (len(y) * 1.0)

        # log the outputs!
        self.log_dict({f"{short}_loss": loss, f"{short}_acc": acc})

    board, module = Board(), module_with(**{f"{kind}_step": step})
    run = trainer(tmp_path, sinks=[board])
    (metrics,) = getattr(run, function)(module, loader(20, batch_size=8), verbose=False)

    x, y = next(iter(loader(20, batch_size=20)))
    with torch.no_grad():
        out = module(x)
    assert metrics == {
        f"{short}_loss": pytest.approx(nn.functional.cross_entropy(out, y).item()),
        f"{short}_acc": pytest.approx((out.argmax(dim=1) == y).float().mean().item()),
    }
    shapes = [(6, 4), (6, 4), (4, 4)]
    assert board.experiment.images == [("example_images", shape, 0) for shape in shapes]


@KINDS
def test_a_step_runs_in_eval_mode_without_gradients_and_training_mode_comes_back(
    tmp_path: Path, function: str, kind: str
) -> None:
    during: list[tuple[bool, bool]] = []

    def step(self: Any, batch: Any, batch_idx: int) -> None:
        during.append((self.training, torch.is_grad_enabled()))

    module = module_with(**{f"{kind}_step": step})
    module.train()

    evaluate(tmp_path, function, module, loader(4))

    assert during == [(False, False)]
    assert module.training
    assert torch.is_grad_enabled()


def test_after_validation_within_fit_training_goes_on_in_training_mode(tmp_path: Path) -> None:
    during: list[tuple[str, bool, bool]] = []

    class LitModel(Plain):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            during.append(("train", self.training, torch.is_grad_enabled()))
            return self.loss(batch)

        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            during.append(("validate", self.training, torch.is_grad_enabled()))

    run = trainer(tmp_path, val_check_interval=1, num_sanity_val_steps=0)
    run.fit(LitModel(), loader(8), loader(4))

    assert during == [("train", True, True), ("validate", False, False)] * 2


@KINDS
def test_a_step_end_comes_between_step_and_outputs(
    tmp_path: Path, function: str, kind: str
) -> None:
    got: list[Any] = []

    def step(self: Any, batch: Any, batch_idx: int) -> int:
        return batch_idx

    def step_end(self: Any, output: int) -> str:
        return f"end of {output}"

    def epoch_end(self: Any, outputs: Any) -> None:
        got.append(outputs)

    names = (f"{kind}_step", f"{kind}_step_end", f"{kind}_epoch_end")
    module = module_with(**dict(zip(names, (step, step_end, epoch_end), strict=True)))
    val_data = loader()

    evaluate(tmp_path, function, module, val_data)

    # pseudocode of order
    val_outs: list[Any] = []
    for batch_idx, val_batch in enumerate(val_data):
        out: Any = step(module, val_batch, batch_idx)
        out = step_end(module, out)
        val_outs.append(out)
    assert got == [val_outs]


# -- training_epoch_end ----------------------------------------------------------------------------


def losses(outputs: Any) -> Any:
    """Outputs with each dict replaced by its loss as a number."""
    if isinstance(outputs, dict):
        return outputs["loss"].item()
    return [losses(output) for output in outputs]


@pytest.mark.parametrize("as_dict", [False, True])
def test_training_epoch_end_gets_the_outputs_that_the_pseudocode_collects(
    tmp_path: Path, as_dict: bool
) -> None:
    got: list[Any] = []

    class LitModel(Plain):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.loss(batch)
            return {"loss": loss, "idx": batch_idx} if as_dict else loss

        def training_epoch_end(self, training_step_outputs: Any) -> None:
            # do something with all training_step outputs
            got.append([])
            for out in training_step_outputs:
                got[-1].append(out)

    trainer(tmp_path).fit(LitModel(), loader())

    raw = LitModel()
    optimizer = raw.configure_optimizers()
    train_outs = []
    for train_batch in loader():
        out = raw.loss(train_batch)
        optimizer.zero_grad()
        out.backward()
        optimizer.step()
        train_outs.append(out.item())
    assert [losses(outputs) for outputs in got] == [train_outs]
    assert not any(output["loss"].requires_grad for output in got[0])
    assert [output.get("idx") for output in got[0]] == [i if as_dict else None for i in range(6)]


class TakesTurns(TwoNets):
    """Two optimizers; notes each loss by optimizer, and what training_epoch_end gets."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[list[float]] = [[], []]
        self.got: list[Any] = []

    def training_step(self, batch: Any, batch_idx: int, optimizer_idx: int) -> Any:
        loss = self.loss_of(batch, optimizer_idx)
        self.losses[optimizer_idx].append(loss.item())
        return loss

    def training_epoch_end(self, outputs: Any) -> None:
        self.got.append(losses(outputs))

    def configure_optimizers(self) -> Any:
        nets = (self.model_gen, self.model_dis)
        return [torch.optim.SGD(net.parameters(), lr=0.1) for net in nets]


def test_with_multiple_optimizers_outputs_are_a_list_for_each_optimizer(tmp_path: Path) -> None:
    module = TakesTurns()

    trainer(tmp_path).fit(module, loader(12))

    assert module.got == [module.losses]
    assert [len(own) for own in module.losses] == [3, 3]


def test_without_training_epoch_end_no_outputs_are_kept(tmp_path: Path) -> None:
    alive: list[int] = []
    outputs: list[Any] = []

    class Marker:
        """Something whose life can be watched."""

    class LitModel(Plain):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            marker = Marker()
            outputs.append(weakref.ref(marker))
            return {"loss": self.loss(batch), "marker": marker}

        def on_train_epoch_end(self) -> None:
            alive.append(sum(reference() is not None for reference in outputs[:-1]))

    trainer(tmp_path).fit(LitModel(), loader())

    assert len(outputs) == 6
    assert alive == [0]


# -- training_step ---------------------------------------------------------------------------------


def test_a_loss_tensor_and_a_dict_with_the_loss_train_alike(tmp_path: Path) -> None:
    def as_tensor(self: Any, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch)

    def as_dict(self: Any, batch: Any, batch_idx: int) -> Any:
        return {"loss": self.loss(batch), "any_key": "anything"}

    modules = [module_with(training_step=step) for step in (as_tensor, as_dict)]
    before = weights(modules[0])
    for module in modules:
        trainer(tmp_path).fit(module, loader())

    one, other = (weights(module) for module in modules)
    assert_same(one, other)
    assert not torch.equal(one[0], before[0])
