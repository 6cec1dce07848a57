"""Averaging does what DistributedDataParallel does; by a process group of one rank."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import HashStore
from torch.autograd import profiler
from torch.nn.parallel import DistributedDataParallel

from nightbus.actors.ranks.averaging import Averaging, averaging, knows_torch

CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
PINNED = next(
    line.partition("==")[2]
    for line in CONSTRAINTS.read_text().splitlines()
    if line.startswith("torch==")
)
NAME = "DistributedDataParallel.forward"


@pytest.fixture(autouse=True)
def group_of_torch() -> Iterator[None]:
    """A process group, which DistributedDataParallel needs."""
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class Sum(nn.Module):
    """Notes, in each forward, what torch's compiler is told of its wrapper."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.part = nn.Linear(2, 2)
        self.active: Any = None

    def forward(self, batch: Tensor, number: int) -> Tensor:
        self.active = DistributedDataParallel._active_ddp_module
        if number < 0:
            raise ValueError("below 0")
        loss: Tensor = self.part(batch).sum() * number
        return loss


def after_steps(kind: type[DistributedDataParallel], **options: Any) -> dict[str, Any]:
    """Return what three steps leave, of which the second keeps its gradients to itself."""
    wrapped = kind(Sum(), **options)
    found: dict[str, Any] = {}
    for number in range(3):
        with wrapped.no_sync() if number == 1 else nullcontext():
            loss = wrapped(torch.ones(1, 2), number + 1)
            loss.backward()
        found[f"loss {number}"] = loss.item()
        flags = {name: value for name, value in vars(wrapped).items() if type(value) is bool}
        found[f"flags {number}"] = flags
        assert wrapped.module.active is wrapped
    assert DistributedDataParallel._active_ddp_module is None
    gradients = [p.grad.tolist() for p in wrapped.parameters() if p.grad is not None]
    return found | {"gradients": gradients}


@pytest.mark.parametrize(
    "options", [{}, {"find_unused_parameters": True}, {"static_graph": True}], ids=str
)
def test_losses_gradients_and_flags_are_those_of_torchs_own(options: dict[str, Any]) -> None:
    assert after_steps(Averaging, **options) == after_steps(DistributedDataParallel, **options)


def test_after_an_error_no_module_is_said_to_be_under_way() -> None:
    wrapped = averaging(Sum())
    with pytest.raises(ValueError, match="below 0"):
        wrapped(torch.ones(1, 2), -1)
    assert DistributedDataParallel._active_ddp_module is None


def test_a_profiler_finds_the_forward_under_torchs_name() -> None:
    wrapped = averaging(Sum())
    with profiler.profile(use_cpu=True) as profile:
        wrapped(torch.ones(1, 2), 1)
    assert NAME in [event.name for event in profile.function_events]


@pytest.mark.skipif(not torch.__version__.startswith(PINNED), reason=f"of torch {PINNED}")
def test_the_pinned_version_of_torch_is_one_that_it_knows() -> None:
    assert knows_torch()
    assert type(averaging(Sum())) is Averaging


def test_where_torchs_forward_is_another_its_own_class_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forward(self: DistributedDataParallel, *arguments: Any) -> Any:
        return self.module(*arguments)

    monkeypatch.setattr(DistributedDataParallel, "forward", forward)
    assert type(averaging(Sum())) is DistributedDataParallel
