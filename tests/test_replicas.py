"""What the ranks' copies of a module refuse; by a process group of one rank, or a pretended one."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import models
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import HashStore

from nightbus.actors.optimization.backward import run_backward
from nightbus.actors.ranks.group import AloneGroup, Group
from nightbus.actors.ranks.replicas import Kind, Replicas
from nightbus.actors.ranks.strategy import DDPStrategy
from nightbus.actors.ranks.weights import share_weights
from nightbus.actors.ranks.world import World
from nightbus.bus.errors import RankMismatchError, UsageError


@pytest.fixture(autouse=True)
def group_of_torch() -> Iterator[None]:
    """A process group, which DistributedDataParallel needs."""
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class Three(nn.Module):
    """Its loss depends on those of its layers that are in use."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
        self.used = [0, 1, 2]

    def training_step(self, batch: Tensor, *_: Any) -> Tensor:
        for number in self.used:
            batch = self.layers[number](batch)
        return batch.sum()


def replicas_of(
    module: Three,
    kind: Kind = "one",
    optimizers: int = 1,
    group: Group | None = None,
    **options: Any,
) -> Replicas:
    parts = [list(module.layers[number].parameters()) for number in range(optimizers)]
    steps = [torch.optim.SGD(part) for part in parts]
    made = Replicas(group or AloneGroup(), DDPStrategy(**options), module, steps, kind)
    made.refresh()
    return made


def take_step(replicas: Replicas, module: Three, *numbers: int) -> None:
    replicas.routed(module.training_step)(torch.ones(1, 2), 0, *numbers).backward()


def by_hand(replicas: Replicas) -> None:
    replicas.prepared(torch.ones((), requires_grad=True)).backward()


def test_parameters_without_a_part_in_the_loss_are_named_in_the_next_step() -> None:
    module = Three()
    replicas = replicas_of(module)
    module.used = [0, 2]
    take_step(replicas, module)
    with pytest.raises(UsageError, match=r"^layers\.1\.weight, layers\.1\.bias: no part in") as e:
        take_step(replicas, module)
    assert "ddp_find_unused_parameters_true" in str(e.value)


@pytest.mark.parametrize("kind", ["one", "manual"])
def test_they_are_named_before_this_rank_meets_others_elsewhere(kind: Kind) -> None:
    module, group = Three(), AloneGroup()
    replicas = replicas_of(module, kind, group=group)
    module.used = [0, 2]
    if kind == "one":
        take_step(replicas, module)
    else:
        replicas.prepared(module.training_step(torch.ones(1, 2))).backward()
    with pytest.raises(UsageError, match=r"^layers\.1\.weight, layers\.1\.bias: no part in"):
        group.before_exchange()


def test_parameters_frozen_within_an_epoch_are_named_though_they_have_gradients() -> None:
    module = Three()
    replicas = replicas_of(module)
    take_step(replicas, module)
    module.layers[1].requires_grad_(False)
    take_step(replicas, module)
    with pytest.raises(UsageError, match=r"^layers\.1\.weight, layers\.1\.bias: no part in"):
        take_step(replicas, module)


def test_with_find_unused_parameters_they_are_not_missed() -> None:
    module = Three()
    replicas = replicas_of(module, find_unused_parameters=True)
    module.used = [0, 2]
    take_step(replicas, module)
    take_step(replicas, module)


def told(replicas: Replicas, module: Three, *, takes_root: bool) -> tuple[bool, float]:
    """Whether there was a root beside the loss, and what was heard of a flag after backward."""
    replicas.tells_flags = replicas.flag = True
    replicas.refresh()
    with replicas.roots_taken(takes_root):
        loss = replicas.routed(module.training_step)(torch.ones(1, 2), 0)
        root = replicas.take_root()
        run_backward(loss, root)
    assert replicas.take_root() is None
    return root is not None, replicas.flagged


@pytest.mark.parametrize("takes_root", [True, False])
def test_what_ranks_tell_each_other_is_beside_the_loss_or_joined_to_it(takes_root: bool) -> None:
    module = Three()
    assert told(replicas_of(module), module, takes_root=takes_root) == (takes_root, 1.0)


@pytest.mark.parametrize("option", ["find_unused_parameters", "static_graph"])
def test_it_is_joined_where_torch_has_to_find_all_parameters_from_the_loss(option: str) -> None:
    module = Three()
    options: Any = {option: True}
    assert told(replicas_of(module, **options), module, takes_root=True) == (False, 1.0)


def test_a_step_without_a_loss_leaves_no_root() -> None:
    module = Three()
    replicas = replicas_of(module)
    replicas.tells_flags = True
    replicas.refresh()
    with replicas.roots_taken(True):
        replicas.routed(module.training_step)(torch.ones(1, 2), 0)
        assert replicas.routed(lambda *_: None)(torch.ones(1, 2), 0) is None
        assert replicas.take_root() is None


def test_of_many_parameters_the_first_are_named_and_the_rest_counted() -> None:
    module = Three()
    module.layers.extend(nn.Linear(2, 2) for _ in range(2))
    replicas = replicas_of(module)
    module.used = [0]
    take_step(replicas, module)
    with pytest.raises(UsageError, match=r"layers\.3\.weight and 3 more: no part"):
        take_step(replicas, module)


@pytest.mark.parametrize("kind", ["turns", "manual"])
def test_what_several_optimizers_train_is_unfrozen_between_epochs(kind: Kind) -> None:
    module = Three()
    module.layers[2].requires_grad_(False)
    replicas = replicas_of(module, kind, 2)
    module.layers[2].weight.requires_grad_(True)
    steps = {"turns": partial(take_step, replicas, module, 0), "manual": partial(by_hand, replicas)}
    with pytest.raises(UsageError, match=r"^layers\.2\.weight: unfrozen within an epoch"):
        steps[kind]()


class AnotherModule(AloneGroup):
    """The group of rank 0 of two; rank 1 has another module, or trains others of its parameters.

    Args:
        described: what rank 1 says of it.
    """

    world = World(rank=0, size=2)

    def __init__(self, described: list[str]) -> None:
        self._described = described

    def gather(self, what: str, value: Any) -> Any:
        return [value, "another digest" if isinstance(value, str) else self._described]


@pytest.mark.parametrize(
    ("described", "words"),
    [
        (
            ["weight torch.float32 [1, 3]"],
            r"has weight torch.float32 \[1, 2\] on rank 0, and weight",
        ),
        (
            ["bias torch.float32 [1]", "weight torch.float32 [1, 2]"],
            "on rank 0, and bias .* rank 1",
        ),
        (["weight torch.float32 [1, 2]"], r"bias torch.float32 \[1\] on rank 0, and nothing more"),
    ],
)
def test_modules_of_other_shapes_order_or_number_are_refused_with_the_first_difference(
    described: list[str], words: str
) -> None:
    with pytest.raises(RankMismatchError, match=words):
        share_weights(AnotherModule(described), nn.Linear(2, 1))


def test_training_step_end_is_refused_on_several_ranks(tmp_path: Path) -> None:
    class Ends(models.Small):
        def training_step_end(self, output: Any) -> Any:
            return output

    fitting = models.trainer(tmp_path)
    fitting.group = AnotherModule([])
    with pytest.raises(UsageError, match="training_step_end has no effect on gradients of several"):
        fitting.optimization._replicas(Ends())


def test_parameters_that_are_frozen_on_one_rank_only_are_named() -> None:
    module = Three()
    trained = [f"{name} torch.float32" for name, _ in module.named_parameters()]
    words = r"layers\.0\.weight torch\.float32 comes next on rank 0, and layers\.0\.bias .* rank 1"
    with pytest.raises(RankMismatchError, match=words):
        replicas_of(module, group=AnotherModule(trained[1:]))


def test_those_that_another_optimizer_has_there_are_named() -> None:
    module = Three()
    trained = [f"{name} of optimizer 0 torch.float32" for name, _ in module.named_parameters()]
    words = "layers.1.weight of optimizer 1 .* comes next on rank 0, and layers.1.weight of .* 0"
    with pytest.raises(RankMismatchError, match=words):
        replicas_of(module, "turns", 2, group=AnotherModule(trained))
