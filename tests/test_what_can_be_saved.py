"""What a run is made of is saved and read again, or is left out, which is said before training."""

import re
from collections.abc import Mapping
from enum import Enum, Flag
from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, assert_same, events, loader, trainer, weights
from torch import nn

import nightbus as nb
from nightbus.bus.errors import CheckpointError


class Way(Flag):
    UP = 1
    LEFT = 2


def local_enum() -> Any:
    class Inner(Enum):
        A = 1

    return Inner.A


class Keeps(nb.Callback):
    """Has a state, which it gets back."""

    def __init__(self, value: Any) -> None:
        self.value, self.back = value, None

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self.back = state_dict["value"]


class WithBuffer(Small):
    held: torch.Tensor

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.register_buffer("held", value)


class WithMore(WithBuffer):
    def __init__(self, value: Any) -> None:
        super().__init__(value)
        self.register_buffer("more", torch.zeros(2))


class Timer(Keeps):
    """Another callback, whose state can be saved."""

    def __init__(self) -> None:
        super().__init__("kept")


class WithOption(Small):
    def __init__(self, option: Any) -> None:
        super().__init__()
        self.save_hyperparameters()


def resumed(folder: Path, first: nb.Trainer, *callbacks: nb.Callback) -> nb.Trainer:
    second = trainer(folder, max_epochs=2, callbacks=list(callbacks))
    second.fit(Small(), loader(), ckpt_path=f"{first.log_dir}/checkpoints/last")
    return second


@pytest.mark.parametrize("value", [Way.UP | Way.LEFT, Way(0), re.MULTILINE | re.DOTALL], ids=str)
def test_a_callback_gets_its_combination_of_flags_back(tmp_path: Path, value: Any) -> None:
    first, again = trainer(tmp_path, callbacks=[Keeps(value)]), Keeps(None)
    first.fit(Small(), loader())
    resumed(tmp_path, first, again)

    assert again.back is value


def test_a_hyperparameter_may_be_a_combination_of_flags(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.fit(WithOption(Way.UP | Way.LEFT), loader())

    back = WithOption.load_from_checkpoint(f"{run.log_dir}/checkpoints/last")
    assert back.hparams.option is Way.UP | Way.LEFT


def test_a_hyperparameter_that_could_not_be_read_again_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trainer(tmp_path)
    run.fit(WithOption(local_enum()), loader())

    assert "option" in capsys.readouterr().err
    back = WithOption.load_from_checkpoint(f"{run.log_dir}/checkpoints/last", option=3)
    assert back.hparams.option == 3


def left_out(run: nb.Trainer) -> dict[str, str]:
    """What the last checkpoint of a run was saved without, after training to its end."""
    assert run.global_step == 6
    state = nb.load_checkpoint(f"{run.log_dir}/checkpoints/last")
    faults = [fault for fault in events(run, nb.Fault) if fault.source == "checkpointer"]
    assert all(fault.seq < events(run, nb.CheckpointSaved)[0].seq for fault in faults)
    assert len(faults) == len(state["left_out"])  # each is said once
    return dict(state["left_out"])


@pytest.mark.parametrize(
    "value", [local_enum(), lambda: 0, Small()], ids=["enum", "function", "module"]
)
def test_a_state_that_no_checkpoint_can_carry_is_left_out_and_said_before_the_first_step(
    tmp_path: Path, value: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trainer(tmp_path, max_epochs=1, callbacks=[Keeps(value), Timer()])
    run.fit(Small(), loader())

    said = capsys.readouterr().err
    assert "checkpoints are saved without the state of keeps" in said
    assert list(left_out(run)) == ["actors.keeps"]
    again, timer = Keeps(None), Timer()
    resumed(tmp_path, run, again, timer)
    assert again.back is None
    assert timer.back == "kept"
    assert "these begin anew" in capsys.readouterr().err


def test_a_state_of_a_datamodule_that_no_checkpoint_can_carry_is_left_out(tmp_path: Path) -> None:
    class Data(nb.LightningDataModule):
        loaded = False

        def train_dataloader(self) -> Any:
            return loader()

        def state_dict(self) -> dict[str, Any]:
            return {"open": open}

        def load_state_dict(self, state_dict: Any) -> None:
            self.loaded = True

    run = trainer(tmp_path)
    run.fit(Small(), datamodule=Data())

    assert "state.datamodule.open is builtin_function" in left_out(run)["datamodule"]
    data = Data()
    again = trainer(tmp_path, max_epochs=2)
    again.fit(Small(), datamodule=data, ckpt_path=f"{run.log_dir}/checkpoints/last")
    assert again.global_step == 12
    assert not data.loaded


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: torch.quantize_per_tensor(torch.eye(3), 0.1, 0, torch.qint8), "is quantized"),
        (lambda: torch.nested.nested_tensor([torch.ones(2)], layout=torch.jagged), "is nested"),
    ],
    ids=["quantized", "nested"],
)
def test_a_buffer_that_no_checkpoint_can_carry_is_left_out_and_the_weights_are_saved(
    tmp_path: Path, make: Any, reason: str
) -> None:
    run, module = trainer(tmp_path), WithBuffer(make())
    run.fit(module, loader())
    path = f"{run.log_dir}/checkpoints/last"

    assert re.search(f"held is a tensor that {reason}", left_out(run)["state_dict.held"])
    loaded = WithBuffer.load_from_checkpoint(path, value=make())
    assert_same(weights(loaded), weights(module))
    with pytest.raises(CheckpointError, match=r"missing: \['more'\]"):
        WithMore.load_from_checkpoint(path, value=make())


def test_who_saves_nothing_may_train_with_any_buffer(tmp_path: Path) -> None:
    run = trainer(tmp_path, enable_checkpointing=False)
    held = torch.nested.nested_tensor([torch.ones(2)], layout=torch.jagged)
    run.fit(WithBuffer(held), loader())

    assert run.global_step == 6


def test_an_option_of_an_optimizer_that_no_checkpoint_can_carry_leaves_checkpoints_of_weights(
    tmp_path: Path,
) -> None:
    class Odd(Small):
        def configure_optimizers(self) -> Any:
            groups = [{"params": list(self.parameters()), "rule": print}]
            return torch.optim.SGD(groups, lr=0.1)

    run, module = trainer(tmp_path), Odd()
    run.fit(module, loader())
    path = f"{run.log_dir}/checkpoints/last"

    assert "optimizer 0 (SGD).param_groups[0].rule" in left_out(run)["training"]
    assert_same(weights(Odd.load_from_checkpoint(path)), weights(module))
    with pytest.raises(CheckpointError, match="holds only weights"):
        trainer(tmp_path, max_epochs=2).fit(Odd(), loader(), ckpt_path=path)


@pytest.mark.parametrize("dtype", [torch.complex128, torch.uint16, torch.float8_e5m2], ids=str)
def test_a_weight_of_an_unusual_type_is_resumed_and_loaded_to_the_bit(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    value = torch.tensor([1.5, 2.0]).to(dtype)
    run = trainer(tmp_path)
    run.fit(WithBuffer(value), loader())
    path = f"{run.log_dir}/checkpoints/last"

    loaded = WithBuffer.load_from_checkpoint(path, value=torch.zeros(2, dtype=dtype))
    again = WithBuffer(torch.zeros(2, dtype=dtype))
    trainer(tmp_path, max_epochs=2).fit(again, loader(), ckpt_path=path)
    assert torch.equal(loaded.held.view(torch.uint8), value.view(torch.uint8))
    assert torch.equal(again.held.view(torch.uint8), value.view(torch.uint8))


@pytest.mark.filterwarnings("ignore:Sparse .* tensor support is in beta state")
@pytest.mark.parametrize("layout", ["sparse_coo", "sparse_csr"])
def test_a_sparse_buffer_is_resumed_and_loaded(tmp_path: Path, layout: str) -> None:
    value, other = (
        dense.to_sparse(layout=getattr(torch, layout)) for dense in (torch.eye(3), torch.ones(3, 3))
    )
    run = trainer(tmp_path)
    run.fit(WithBuffer(value), loader())
    path = f"{run.log_dir}/checkpoints/last"

    loaded = WithBuffer.load_from_checkpoint(path, value=other.clone())
    again = WithBuffer(other.clone())
    trainer(tmp_path, max_epochs=2).fit(again, loader(), ckpt_path=path)

    for held in (loaded.held, again.held):
        assert held.layout is value.layout
        assert torch.equal(held.to_dense(), torch.eye(3))


class Fragile:
    """Is written, and cannot be made again once something was changed."""

    breaks = False


def made(plain: Any) -> Fragile:
    if Fragile.breaks:
        raise ValueError("no more")
    return Fragile()


def test_a_checkpoint_that_cannot_be_read_again_is_a_fault_and_the_one_before_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Breaks(nb.Callback):
        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            trainer.checkpointer.wait()  # the checkpoint before is written, and read again
            monkeypatch.setattr(Fragile, "breaks", trainer.current_epoch == 1)

    nb.register_type(Fragile, lambda value: 0, made)
    run = trainer(tmp_path, max_epochs=2, callbacks=[Keeps(Fragile()), Breaks()])
    run.fit(Small(), loader())

    (fault,) = [fault for fault in events(run, nb.Fault) if fault.source == "checkpointer"]
    assert "could not be read again and is not kept" in fault.message
    (saved,) = events(run, nb.CheckpointSaved)
    monkeypatch.setattr(Fragile, "breaks", False)
    last = Path(f"{run.log_dir}/checkpoints/last")
    assert last.resolve() == Path(f"{run.log_dir}/{saved.path}").resolve()
    resumed(tmp_path, run, Keeps(Fragile()))


def test_a_callback_that_the_module_brings_gets_its_state_back(tmp_path: Path) -> None:
    class Brings(Small):
        def __init__(self, callback: Keeps) -> None:
            super().__init__()
            self.brought = [callback]

        def configure_callbacks(self) -> Any:
            return self.brought

    first, again = trainer(tmp_path), Keeps(None)
    first.fit(Brings(Keeps(3)), loader())
    second = trainer(tmp_path, max_epochs=2)
    second.fit(Brings(again), loader(), ckpt_path=f"{first.log_dir}/checkpoints/last")

    assert again.back == 3


def test_a_lazy_part_that_is_never_called_is_left_out(tmp_path: Path) -> None:
    class Lazy(Small):
        def __init__(self) -> None:
            super().__init__()
            self.never = nn.LazyLinear(2)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.net.parameters(), lr=0.1)

    run = trainer(tmp_path)
    run.fit(Lazy(), loader())

    state = nb.load_checkpoint(f"{run.log_dir}/checkpoints/last")
    assert state["left_out"].keys() == {"state_dict.never.weight", "state_dict.never.bias"}
    assert "has no shape yet" in state["left_out"]["state_dict.never.weight"]
    assert Lazy.load_from_checkpoint(f"{run.log_dir}/checkpoints/last")
