"""Compiled modules: what torch.compile wraps is no part of a weight's name, and can be trained."""

from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, events, loader, trainer
from torch import nn

import nightbus as nb
from nightbus.__main__ import main
from nightbus.actors.checkpoints.format import read_checkpoint


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


def both_ways(make: Any, folder: Path, **arguments: Any) -> list[nb.Trainer]:
    """A run that is compiled and goes on without that, and one the other way round."""
    runs = []
    for first in (True, False):
        torch.manual_seed(1)
        run = trainer(folder / str(first), **arguments)
        run.fit(make(first), loader())
        again = trainer(folder / str(first), **(arguments | {"max_epochs": 3}))
        again.fit(make(not first), loader(), ckpt_path="last")
        runs.append(again)
    return runs


@pytest.mark.long
@pytest.mark.parametrize(
    "is_state_dict", [True, False], ids=["a state dict", "a checkpoint of Lightning"]
)
def test_a_file_of_a_compiled_module_is_imported_with_plain_names(
    tmp_path: Path, is_state_dict: bool
) -> None:
    module = Parts(True)
    weights = module.state_dict()
    assert any("_orig_mod" in name for name in weights)
    torch.save(weights if is_state_dict else {"state_dict": weights}, tmp_path / "theirs.ckpt")
    out = tmp_path / "mine"

    assert main(["import-ckpt", str(tmp_path / "theirs.ckpt"), "-o", str(out), "--trust"]) == 0
    assert list(read_checkpoint(out)["state_dict"]) == list(Parts(False).state_dict())
    loaded = Parts.load_from_checkpoint(out, is_compiled=False)
    pairs = zip(loaded.parameters(), module.parameters(), strict=True)
    assert all(torch.equal(mine, theirs) for mine, theirs in pairs)


class Freezes(Parts):
    """Freezes a part when training begins that nobody freezes in the resumed run."""

    def on_train_epoch_start(self) -> None:
        if self.current_epoch == 0:
            self.net.eval()
            layers: Any = getattr(self.net, "_orig_mod", self.net)
            for parameter in layers[0].parameters():
                parameter.requires_grad = False


def test_modes_are_those_of_the_run_whether_it_is_compiled_or_not(tmp_path: Path) -> None:
    for first in (True, False):
        run = trainer(tmp_path / str(first), max_steps=3)
        run.fit(Freezes(first), loader())
        module = Freezes(not first)
        again = trainer(tmp_path / str(first), max_steps=5)
        again.fit(module, loader(), ckpt_path="last")

        assert not module.net.training
        assert [name for name, part in module.named_modules() if part.training] == [""]
        frozen = [p.requires_grad for p in module.net.parameters()]
        assert frozen == [False, False, True, True, True, True]


def test_stochastic_weight_averaging_goes_on_whether_it_is_compiled_or_not(tmp_path: Path) -> None:
    for run in both_ways(
        Parts,
        tmp_path,
        max_epochs=2,
        callbacks=[nb.StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=1)],
    ):
        assert run.global_step == 18
        assert events(run, nb.Fault, attempt=1) == []


def test_a_compiled_metric_is_logged_and_its_state_goes_on(tmp_path: Path) -> None:
    torchmetrics = pytest.importorskip("torchmetrics")

    class Measures(Small):
        def __init__(self, is_compiled: bool) -> None:
            super().__init__()
            metric = torchmetrics.SumMetric()
            self.total = compiled(metric) if is_compiled else metric

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.total.update(torch.tensor(1.0))
            self.log("total", self.total, on_step=False, on_epoch=True)
            return super().training_step(batch, batch_idx)

    for first in (True, False):
        folder = tmp_path / str(first)
        trainer(folder, max_steps=4).fit(Measures(first), loader())
        again = trainer(folder, max_epochs=1)
        again.fit(Measures(not first), loader(), ckpt_path="last")

        assert again.callback_metrics["total"].item() == 6


class Backbone(nb.LightningModule):
    def __init__(self, is_compiled: bool) -> None:
        super().__init__()
        backbone = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
        self.backbone = compiled(backbone) if is_compiled else backbone
        self.head = nn.Linear(8, 2)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return nn.functional.cross_entropy(self.head(self.backbone(batch[0])), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.head.parameters(), lr=0.01)


def test_a_backbone_is_thawed_on_whether_it_is_compiled_or_not(tmp_path: Path) -> None:
    for run in both_ways(
        Backbone, tmp_path, max_epochs=2, callbacks=[nb.BackboneFinetuning(1, verbose=False)]
    ):
        assert run.global_step == 18
        assert all(parameter.requires_grad for parameter in run.model.parameters())
        assert len(run.optimizers[0].param_groups) == 2
