"""BaseFinetuning and BackboneFinetuning: what is frozen when, and with which rates."""

from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, loader, trainer, weights
from test_checkpoints import last
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, StepLR

import nightbus as nb
from nightbus.actors.callbacks import BackboneFinetuning, BaseFinetuning


class Pretrained(Small):
    """Has a backbone with batch normalisation, and a head that is trained from the start."""

    net: nn.Sequential

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.backbone = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
        self.net = nn.Sequential(self.backbone, nn.Linear(8, 2))
        self.rates: list[list[float]] = []
        self.backbones: list[list[torch.Tensor]] = []

    def on_train_epoch_start(self) -> None:
        groups = self.trainer.optimizers[0].param_groups
        self.rates.append([group["lr"] for group in groups])
        self.backbones.append(weights(self.backbone))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.net[1].parameters(), lr=0.1, momentum=0.9)


class Scheduled(Pretrained):
    def __init__(self, kind: Any, *arguments: Any) -> None:
        super().__init__()
        self.kind, self.arguments = kind, arguments

    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        return [optimizer], [self.kind(optimizer, *self.arguments)]


def changed(before: list[torch.Tensor], after: list[torch.Tensor]) -> bool:
    return not all(map(torch.equal, before, after))


# -- tools -----------------------------------------------------------------------------------


def test_flatten_modules_gives_what_has_parameters_or_no_children() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))
            self.inner = nn.Linear(1, 1)

    own, tanh, linear = Own(), nn.Tanh(), nn.Linear(1, 1)

    flat = BaseFinetuning.flatten_modules([nn.Sequential(own, tanh), [linear]])

    assert flat == [own, own.inner, tanh, linear]


def test_freeze_and_make_trainable() -> None:
    net = Pretrained().backbone
    norm = net[1]
    assert isinstance(norm, nn.BatchNorm1d)

    BaseFinetuning.freeze(net, train_bn=False)
    assert not any(parameter.requires_grad for parameter in net.parameters())
    assert not norm.track_running_stats

    BaseFinetuning.make_trainable(net)
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert norm.track_running_stats


def test_freeze_leaves_batch_normalisation_if_not_told_otherwise() -> None:
    net = Pretrained().backbone

    BaseFinetuning.freeze(net)

    assert [p.requires_grad for p in net.parameters()] == [False, False, True, True]


def test_filter_params_chooses_by_gradient_and_kind() -> None:
    net = Pretrained().backbone
    net[0].weight.requires_grad = False

    def chosen(**how: bool) -> list[int]:
        found = [id(parameter) for parameter in BaseFinetuning.filter_params(net, **how)]
        return [n for n, parameter in enumerate(net.parameters()) if id(parameter) in found]

    assert chosen() == [1, 2, 3]
    assert chosen(train_bn=False) == [1]
    assert chosen(requires_grad=False) == [0]


def test_an_added_group_begins_with_a_part_of_the_first_groups_rate() -> None:
    module = Pretrained()
    optimizer = module.configure_optimizers()

    BaseFinetuning.unfreeze_and_add_param_group(module.backbone, optimizer)

    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.01]
    assert len(optimizer.param_groups[1]["params"]) == 4


def test_parameters_that_the_optimizer_has_are_not_added_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    module = Pretrained()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)

    BaseFinetuning.unfreeze_and_add_param_group(module.backbone, optimizer)

    assert len(optimizer.param_groups) == 1
    assert "leave them out in configure_optimizers" in capsys.readouterr().err


# -- runs ------------------------------------------------------------------------------------


def test_the_backbone_is_trained_from_its_epoch_on(tmp_path: Path) -> None:
    module = Pretrained()
    callback = BackboneFinetuning(2, train_bn=False)
    trainer(tmp_path, max_epochs=4, callbacks=[callback]).fit(module, loader())

    first, second, third, fourth = module.backbones
    assert not changed(first, second)
    assert not changed(second, third)
    assert changed(third, fourth)


def test_the_backbones_rate_grows_up_to_the_first_groups(tmp_path: Path) -> None:
    module = Pretrained()
    callback = BackboneFinetuning(1, lambda epoch: 4.0)
    trainer(tmp_path, max_epochs=5, callbacks=[callback]).fit(module, loader())

    assert module.rates == [[0.1], [0.1, 0.1 * 0.1], [0.1, 4 * 0.1 * 0.1], [0.1, 0.1], [0.1, 0.1]]


def test_the_backbones_rate_may_pass_the_first_groups(tmp_path: Path) -> None:
    module = Pretrained()
    callback = BackboneFinetuning(1, float, backbone_initial_lr=0.25, should_align=False)
    trainer(tmp_path, max_epochs=4, callbacks=[callback]).fit(module, loader())

    assert [rates[1:] for rates in module.rates] == [[], [0.25], [0.75], [3.0]]


@pytest.mark.parametrize(
    ("schedule", "arguments"),
    [(StepLR, (1, 0.5)), (LambdaLR, (lambda epoch: 0.5**epoch,))],
)
def test_a_schedule_goes_on_when_a_group_is_added(
    tmp_path: Path, schedule: Any, arguments: Any
) -> None:
    module = Scheduled(schedule, *arguments)
    callback = BackboneFinetuning(1, lambda epoch: 1.0, should_align=False)
    trainer(tmp_path, max_epochs=4, callbacks=[callback]).fit(module, loader())

    assert [rates[0] for rates in module.rates] == [0.1, 0.05, 0.025, 0.0125]


class Unfreezes(BaseFinetuning):
    """Unfreezes the backbone's layers one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[int, int]] = []

    def freeze_before_training(self, module: Any) -> None:
        self.freeze(module.backbone, train_bn=False)

    def finetune_function(
        self, module: Any, epoch: int, optimizer: Any, optimizer_idx: int = 0
    ) -> None:
        self.calls.append((epoch, optimizer_idx))
        if epoch in (1, 2):
            self.unfreeze_and_add_param_group(module.backbone[2 - epoch], optimizer)


class OfThree(BaseFinetuning):
    def freeze_before_training(self, module: Any) -> None:
        self.freeze(module.backbone)

    def finetune_function(self, module: Any, epoch: int, optimizer: Any) -> None:
        if epoch == 1:
            self.unfreeze_and_add_param_group(module.backbone, optimizer, lr=0.05)


@pytest.mark.parametrize(
    "make", [Unfreezes, OfThree, lambda: BackboneFinetuning(1, train_bn=False)]
)
@pytest.mark.parametrize("epochs", [1, 2, 3])
@pytest.mark.parametrize(
    "module", [Pretrained, lambda: Scheduled(StepLR, 1, 0.5)], ids=["plain", "scheduled"]
)
def test_a_resumed_run_is_the_same_run(tmp_path: Path, make: Any, epochs: int, module: Any) -> None:
    straight, begun, resumed = module(), module(), module()
    trainer(tmp_path / "a", max_epochs=5, callbacks=[make()]).fit(straight, loader())
    first = trainer(tmp_path / "b", max_epochs=epochs, callbacks=[make()])
    first.fit(begun, loader())
    second = trainer(tmp_path / "b", max_epochs=5, callbacks=[make()])
    second.fit(resumed, loader(), ckpt_path=last(first))

    assert begun.rates + resumed.rates == straight.rates
    state, other = resumed.state_dict(), straight.state_dict()
    assert all(torch.equal(state[name], other[name]) for name in state)
    flags = [[p.requires_grad for p in m.parameters()] for m in (resumed, straight)]
    assert flags[0] == flags[1]


def test_finetune_function_is_called_for_each_optimizer(tmp_path: Path) -> None:
    class Two(Pretrained):
        def training_step(self, batch: Any, batch_idx: int, optimizer_idx: int = 0) -> Any:
            return self.loss(batch)

        def configure_optimizers(self) -> Any:
            return [torch.optim.SGD(self.net[1].parameters(), lr=0.1) for _ in range(2)]

    callback = Unfreezes()
    trainer(tmp_path, callbacks=[callback]).fit(Two(), loader())

    assert callback.calls == [(0, 0), (0, 1)]


def test_a_module_without_a_backbone_is_refused(tmp_path: Path) -> None:
    run = trainer(tmp_path, callbacks=[BackboneFinetuning()])

    with pytest.raises(nb.UsageError, match="Small has no attribute backbone"):
        run.fit(Small(), loader())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"unfreeze_backbone_at_epoch": -1}, "unfreeze_backbone_at_epoch=-1: expected an int"),
        ({"lambda_func": 2.0}, r"lambda_func=2\.0: expected a function"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(nb.UsageError, match=message):
        BackboneFinetuning(**arguments)


def test_what_has_to_be_defined_is_said(tmp_path: Path) -> None:
    class Nothing(BaseFinetuning):
        pass

    with pytest.raises(NotImplementedError, match="Nothing has to define freeze_before_training"):
        trainer(tmp_path, callbacks=[Nothing()]).fit(Small(), loader())
