"""Compiled modules: what torch.compile wraps is no part of a weight's name, and can be trained."""

from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, loader, trainer
from torch import nn

import nightbus as nb
from nightbus.actors.checkpoint_format import read_checkpoint


def compiled(module: nn.Module) -> Any:
    return torch.compile(module, backend="eager")


class Parts(nb.LightningModule):
    def __init__(self, is_compiled: bool) -> None:
        super().__init__()
        net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
        self.net = compiled(net) if is_compiled else net

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.01)


@pytest.mark.parametrize("first", [True, False], ids=["compiled first", "compiled later"])
def test_a_run_goes_on_with_a_part_that_is_compiled_or_is_not_any_more(
    tmp_path: Path, first: bool
) -> None:
    torch.manual_seed(1)
    run, second = trainer(tmp_path, callbacks=[nb.EMA(0.5)]), Parts(not first)
    run.fit(Parts(first), loader())
    path = f"{run.log_dir}/checkpoints/last"
    again = trainer(tmp_path, max_epochs=2, callbacks=[nb.EMA(0.5)])
    again.fit(second, loader(), ckpt_path=path)

    assert again.global_step == 12
    assert not any("_orig_mod" in name for name in read_checkpoint(Path(path))["state_dict"])
    names = Parts.load_from_checkpoint(path, is_compiled=not first).state_dict()
    assert any("_orig_mod" in name for name in names) is not first


def test_what_is_resumed_in_another_form_is_the_same_to_the_bit(tmp_path: Path) -> None:
    def trained(folder: Path, *forms: bool) -> list[Any]:
        torch.manual_seed(1)
        path, module = None, None
        for epochs, form in enumerate(forms, 1):
            module = Parts(form)
            run = trainer(folder, max_epochs=epochs)
            run.fit(module, loader(), ckpt_path=path)
            path = f"{run.log_dir}/checkpoints/last"
        assert module is not None
        return [parameter.detach() for parameter in module.parameters()]

    plain = trained(tmp_path / "a", False, False)
    mixed = trained(tmp_path / "b", True, False)
    assert all(torch.equal(mine, other) for mine, other in zip(plain, mixed, strict=True))


class Calls(Small):
    """Calls itself, and counts its hooks."""

    def __init__(self) -> None:
        super().__init__()
        self.ends = 0

    def forward(self, x: Any) -> Any:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def on_train_batch_end(self, *_: Any) -> None:
        self.ends += 1


def test_a_module_that_was_given_compiled_is_trained_with_its_own_hooks(tmp_path: Path) -> None:
    module, run = Calls(), trainer(tmp_path)
    wrapped = compiled(module)
    run.fit(wrapped, loader())
    run.validate(wrapped, loader(8), verbose=False)
    predictions = run.predict(wrapped, loader(8))

    assert run.model is module
    assert module.ends == 6
    assert module._compiled_call_impl is not None
    assert len(predictions) == 2


def test_a_module_that_is_compiled_in_place_is_trained(tmp_path: Path) -> None:
    module, run = Calls(), trainer(tmp_path)
    module.compile(backend="eager")
    run.fit(module, loader())

    assert module.ends == 6


def test_a_compiled_module_of_torch_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(nb.UsageError, match=r"expected a nightbus\.LightningModule"):
        trainer(tmp_path).fit(compiled(nn.Linear(1, 1)), loader())
