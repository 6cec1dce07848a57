"""Modules of torch.nn, and names of PyTorch, in checkpoints: losses, activations, optimizers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from models import loader, trainer
from torch import nn

import nightbus as nb
from nightbus.actors.checkpoints.export_checkpoint import export
from nightbus.actors.checkpoints.format import read_checkpoint, write_checkpoint
from nightbus.actors.checkpoints.types import made_of_parts
from nightbus.bus.errors import CheckpointError


def round_trip(folder: Path, value: Any) -> Any:
    write_checkpoint(folder / "checkpoint", {"value": value})
    return read_checkpoint(folder / "checkpoint")["value"]


@pytest.mark.parametrize(
    "module",
    [
        nn.SmoothL1Loss(beta=0.5),
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0]), label_smoothing=0.1),
        nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Dropout(0.2).eval()),
        nn.ModuleDict({"a": nn.PReLU(), "b": nn.ModuleList([nn.Embedding(2, 3, padding_idx=0)])}),
        nn.Conv2d(1, 2, 3, padding="same", bias=False),
        nn.Linear(1, 1).requires_grad_(False).double(),
        nn.ParameterList([torch.ones(2)]),
    ],
    ids=lambda module: type(module).__name__,
)
def test_a_module_of_torch_nn_comes_back_as_it_was(module: nn.Module, tmp_path: Path) -> None:
    back = round_trip(tmp_path, module)

    assert repr(back) == repr(module)
    assert [(name, type(each), each.training) for name, each in back.named_modules()] == [
        (name, type(each), each.training) for name, each in module.named_modules()
    ]
    assert list(back.state_dict()) == list(module.state_dict())
    for (name, left), (_, right) in zip(
        back.named_parameters(), module.named_parameters(), strict=True
    ):
        assert left.requires_grad == right.requires_grad, name
        assert type(left) is nn.Parameter
    for name, value in module.state_dict().items():
        assert torch.equal(back.state_dict()[name], value), name
        assert back.state_dict()[name].dtype == value.dtype


def test_a_loss_that_comes_back_computes_the_same(tmp_path: Path) -> None:
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0]), label_smoothing=0.1)
    given = torch.randn(4, 2), torch.tensor([0, 1, 1, 0])

    assert torch.equal(round_trip(tmp_path, loss)(*given), loss(*given))


@pytest.mark.parametrize(
    "value",
    [nn.ReLU, nn.functional.gelu, torch.optim.AdamW, torch.optim.lr_scheduler.StepLR],
    ids=lambda value: value.__name__,
)
def test_a_public_class_or_function_comes_back_as_itself(value: Any, tmp_path: Path) -> None:
    assert round_trip(tmp_path, {"a": [value]}) == {"a": [value]}


def parts(**others: Any) -> dict[str, Any]:
    """The parts of a module, as a file may have them."""
    empty: dict[str, Any] = {
        name: {} for name in ("parameters", "buffers", "modules", "attributes")
    }
    return {"class": "ReLU", "training": True, "not_persistent": [], **empty, **others}


@pytest.mark.parametrize(
    "content",
    [
        ["torch", "save"],
        ["torch", "nn.parallel"],
        ["torch", "nn.functional.warnings.warn"],
        ["torch", "optim.lr_scheduler.partial"],
        ["torch", "optim.lr_scheduler.ref"],
        ["torch", "nn.Module.__init__"],
        ["torch", 1],
        ["torch.nn.Module", []],
        ["torch.nn.Module", parts() | {"more": 1}],
        ["torch.nn.Module", parts(**{"class": "functional"})],
        ["torch.nn.Module", parts(**{"class": "Parameter"})],
        ["torch.nn.Module", parts(**{"class": "Missing"})],
        ["torch.nn.Module", parts(**{"class": ["ReLU"]})],
        ["torch.nn.Module", parts(attributes={"_forward_hooks": {1: 2}})],
        ["torch.nn.Module", parts(attributes={"forward": 1})],
        ["torch.nn.Module", parts(attributes={"__class__": nn.Linear})],
        ["torch.nn.Module", parts(attributes={1: 2})],
        ["torch.nn.Module", parts(parameters={"weight": ["text", True]})],
        ["torch.nn.Module", parts(parameters={"weight": [torch.ones(1, dtype=torch.int), True]})],
        ["torch.nn.Module", parts(parameters={"a.b": [torch.ones(1), True]})],
        ["torch.nn.Module", parts(buffers={"forward": torch.ones(1)})],
        ["torch.nn.Module", parts(buffers={"a": "text"})],
        ["torch.nn.Module", parts(modules={"a": "text"})],
    ],
    ids=str,
)
def test_a_file_that_asks_for_something_else_is_refused(content: Any) -> None:
    with pytest.raises(ValueError, match="a torch"):
        made_of_parts(content)


class Fits(nb.LightningModule):
    def __init__(
        self, loss: Any = None, activation: Any = nn.Identity, optimizer: Any = None
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(4, 1), activation())
        self.loss = loss

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(self.net(batch[0]), torch.zeros(len(batch[0]), 1))

    def configure_optimizers(self) -> Any:
        return self.hparams.optimizer(self.parameters(), lr=0.1)


def trained(folder: Path, loss: nn.Module | None = None) -> Path:
    run = trainer(folder, max_epochs=1)
    run.fit(Fits(loss or nn.SmoothL1Loss(beta=0.5), nn.Tanh, torch.optim.SGD), loader())
    (checkpoint,) = run.checkpoint_callbacks
    assert isinstance(checkpoint, nb.ModelCheckpoint)
    return Path(checkpoint.best_model_path)


def test_a_model_is_loaded_with_its_loss_and_its_activation(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = Fits.load_from_checkpoint(trained(tmp_path))

    assert isinstance(model.loss, nn.SmoothL1Loss)
    assert model.loss.beta == 0.5
    assert isinstance(model.net[1], nn.Tanh)
    assert model.hparams.optimizer is torch.optim.SGD
    assert "got modules" not in capfd.readouterr().err


class OwnLoss(nn.Module):
    def forward(self, found: Any, expected: Any) -> Any:
        return (found - expected).square().mean()


def test_a_loss_of_the_users_own_is_passed_and_a_warning_says_that_it_is_missing_otherwise(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = trained(tmp_path, OwnLoss())
    capfd.readouterr()

    model = Fits.load_from_checkpoint(path)

    assert model.loss is None
    said = capfd.readouterr().err
    assert "made with the defaults of arguments that the checkpoint could not hold" in said
    assert "names=loss" in said

    assert isinstance(Fits.load_from_checkpoint(path, loss=OwnLoss()).loss, OwnLoss)
    assert "made with the defaults" not in capfd.readouterr().err


def test_a_module_with_weights_among_the_hyperparameters_is_saved_twice_and_said_so(
    capfd: pytest.CaptureFixture[str],
) -> None:
    class Holds(nb.LightningModule):
        def __init__(self, net: Any, own: Any) -> None:
            super().__init__()
            self.save_hyperparameters()

    class Own(nn.Module):
        pass

    Holds(nn.Linear(1, 1), Own())

    said = capfd.readouterr().err
    assert "got modules: net. Checkpoints hold their weights twice" in said
    assert "got modules: own. Their weights are in checkpoints anyway" in said


def test_a_module_of_torch_that_holds_a_function_of_the_users_is_said_to_be_left_out(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def distance(one: Any, other: Any) -> Any:
        return (one - other).abs().sum(-1)

    loss = nn.TripletMarginWithDistanceLoss(distance_function=distance)

    class Holds(Fits):
        def __init__(self, kept: Any) -> None:
            super().__init__(OwnLoss(), nn.Tanh, torch.optim.SGD)
            self.save_hyperparameters("kept")

    trainer(tmp_path, max_epochs=1).fit(Holds(loss), loader())
    said = capfd.readouterr().err
    assert "hyperparameters are not in the checkpoint" in said
    assert "names=kept" in said


def test_an_export_leaves_out_what_lightning_would_have_to_trust(tmp_path: Path) -> None:
    left_out = export(trained(tmp_path), tmp_path / "model.ckpt")

    assert [line.partition(":")[0] for line in left_out if "weights_only" in line] == [
        "hyper_parameters.loss",
        "hyper_parameters.activation",
        "hyper_parameters.optimizer",
    ]
    torch.load(tmp_path / "model.ckpt", weights_only=True)


def test_a_checkpoint_with_an_unknown_name_of_torch_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path / "checkpoint", {"value": nn.ReLU})
    monkeypatch.delattr(nn, "ReLU")  # as in another version of PyTorch

    with pytest.raises(CheckpointError, match=r"PyTorch has no 'nn\.ReLU'"):
        read_checkpoint(tmp_path / "checkpoint")
