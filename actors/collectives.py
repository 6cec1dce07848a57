"""Collectives: what users have the ranks exchange, which ``trainer.strategy`` is, too."""

from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import fields
from typing import Any, Protocol

import msgspec
import torch
from torch import Tensor

from ..bus.copies import StaysInRun
from ..bus.errors import CheckpointError, RankMismatchError, UsageError
from .checkpoints.values import Flattener, decoder
from .device import Device
from .ranks.group import Group
from .ranks.strategy import DDPStrategy
from .ranks.world import World
from .trees import as_tensors, map_tensors, move_data_to_device

_REDUCTIONS = ("mean", "avg", "sum", "max")


class TrainedParts(Protocol):
    """What a trainer trains.

    Attributes:
        model: the module; None before the first run.
        optimizers: the optimizers.
        lr_scheduler_configs: the learning-rate schedulers.
    """

    model: Any
    optimizers: Any
    lr_scheduler_configs: Any

    @abstractmethod
    def setup_optimizers(self) -> None:
        """Call ``configure_optimizers`` anew."""


class Collectives(StaysInRun):
    """Exchanges values of users between all ranks, under the names that Lightning's strategy has.

    All ranks have to call the same in the same order. One that calls another exchange gets a
    RankMismatchError.

    Args:
        world: which rank this is.
        device: of this rank; what it exchanges is moved there.
        exchanging: called with the name of an exchange; gives the group of all ranks for it, or
            refuses it on this thread.
        run: the trainer's, whose module and optimizers this has, too.

    Attributes:
        global_rank: this process among all.
        local_rank: this process among those of its machine.
        node_rank: this machine among all.
        num_nodes: number of machines.
        world_size: number of processes.
        is_global_zero: this is the process of rank 0.
    """

    def __init__(
        self,
        world: World,
        device: Device,
        exchanging: Callable[[str], AbstractContextManager[Group]],
        run: TrainedParts,
    ) -> None:
        self.global_rank, self.local_rank = world.rank, world.local_rank
        self.node_rank, self.num_nodes = world.node_rank, world.num_nodes
        self.world_size, self.is_global_zero = world.size, world.is_global_zero
        self._device, self._exchanging, self._run = device, exchanging, run

    @property
    def root_device(self) -> torch.device:
        """The device that this rank trains on."""
        return self._device.device

    @property
    def lightning_module(self) -> Any:
        """The module of the run; also ``model``, which several ranks do not wrap.

        None before the first run.
        """
        return self._run.model

    @lightning_module.setter
    def lightning_module(self, module: Any) -> None:
        self._run.model = module

    model = _lightning_module = lightning_module

    @property
    def optimizers(self) -> Any:
        """The optimizers of the run."""
        return self._run.optimizers

    @optimizers.setter
    def optimizers(self, optimizers: Any) -> None:
        self._run.optimizers = optimizers

    @property
    def lr_scheduler_configs(self) -> Any:
        """The learning-rate schedulers of the run, and their options."""
        return self._run.lr_scheduler_configs

    @lr_scheduler_configs.setter
    def lr_scheduler_configs(self, schedulers: Any) -> None:
        self._run.lr_scheduler_configs = schedulers

    @property
    def precision_plugin(self) -> Device:
        """What gives steps their precision."""
        return self._device

    def connect(self, model: Any) -> None:
        """Take a module that was not trained here, such as to save a checkpoint of it.

        Args:
            model: the module.
        """
        self.lightning_module = model

    def setup_optimizers(self, trainer: Any = None) -> None:
        """Call ``configure_optimizers`` anew, for loops that train several times.

        Args:
            trainer: not needed; the one of the run.

        Raises:
            UsageError: there was no run yet.
        """
        if self._run.model is None:
            raise UsageError(
                "strategy.setup_optimizers() was called before the first run; call it within fit, "
                "which has the module whose configure_optimizers it calls"
            )
        self._run.setup_optimizers()

    def batch_to_device(
        self, batch: Any, device: torch.device | None = None, dataloader_idx: int = 0
    ) -> Any:
        """Move a batch to a device.

        Args:
            batch: the batch, of any structure.
            device: the device; that of this rank by default.
            dataloader_idx: not needed; the index of its loader.

        Returns:
            The batch on the device.
        """
        return move_data_to_device(batch, device or self.root_device)

    def barrier(self, name: str | None = None) -> None:
        """Wait until all ranks are here, without a time limit.

        Args:
            name: what they wait for, for errors.
        """
        what = "barrier()" if name is None else f"barrier({name!r})"
        with self._exchanging(what) as group:
            group.wait_for_all(what)

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        """Give all ranks the value of one; nothing is pickled.

        Args:
            obj: the value: anything that a checkpoint can hold, with tensors of any size.
            src: the rank whose value it is.

        Returns:
            The value of that rank.

        Raises:
            UsageError: there is no such rank, or the value has another type.
        """
        what = f"broadcast(src={src})"
        if src not in range(self.world_size):
            raise UsageError(f"{what}: expected a rank from 0 to {self.world_size - 1}")
        with self._exchanging(what) as group:
            if self.world_size == 1:
                return obj
            if self.global_rank == src:
                _send(group, what, obj, src)
                return obj
            return self._received(group, what, src)

    def _received(self, group: Group, what: str, src: int) -> Any:
        state, described, moves = group.broadcast(what, None, src)
        tensors = {
            name: torch.empty(shape, dtype=getattr(torch, dtype))
            for name, dtype, shape in described
        }
        group.share(tensors.values(), src)
        value = msgspec.msgpack.decode(state, ext_hook=decoder(tensors))
        return move_data_to_device(value, self.root_device) if moves else value

    def all_gather(self, tensor: Any, group: Any = None, sync_grads: bool = False) -> Any:
        """Give all ranks the tensors of all.

        Args:
            tensor: tensors or numbers, in any nesting of containers; the same number of them, with
                the same shapes and types, on all ranks.
            group: None; other groups are those of torch.distributed.
            sync_grads: let gradients flow back through it, to the ranks that the tensors come from.

        Returns:
            The same containers, with tensors of shape (world_size, *shape) on this rank's device;
            of shape (*shape) if there is one process only.

        Raises:
            RankMismatchError: the tensors of two ranks differ in shape or type.
        """
        what = "all_gather()"
        _refuse_group(what, group)
        with self._exchanging(what) as ranks:
            value = as_tensors(tensor, self.root_device)
            if self.world_size == 1:
                return value
            _check_alike(ranks, what, value)
            if sync_grads:
                return map_tensors(value, lambda entry: _stacked(entry, ranks))
            return map_tensors(value, lambda entry: ranks.stack(entry.detach()))

    def reduce(self, tensor: Any, group: Any = None, reduce_op: str = "mean") -> Any:
        """Reduce tensors of all ranks to one.

        Args:
            tensor: tensors or numbers, as for ``all_gather``; they are not changed.
            group: None, as for ``all_gather``.
            reduce_op: ``mean``, ``sum`` or ``max``.

        Returns:
            The same containers, with the reduced tensors, which are the same on all ranks.

        Raises:
            UsageError: there is no such reduction.
            RankMismatchError: the tensors of two ranks differ in shape or type.
        """
        if reduce_op not in _REDUCTIONS:
            raise UsageError(f"reduce_op={reduce_op!r}: expected 'mean', 'sum' or 'max'")
        what = f"reduce(reduce_op={reduce_op!r})"
        _refuse_group(what, group)
        with self._exchanging(what) as ranks:
            value = as_tensors(tensor, self.root_device)
            _check_alike(ranks, what, value)
            return map_tensors(value, lambda entry: _reduced(ranks, entry, reduce_op))

    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:
        """Return a decision of all ranks, the same on each.

        Args:
            decision: of this rank.
            all: True if all ranks have decided so; if False, True if one has.
        """
        with self._exchanging("reduce_boolean_decision()") as ranks:
            decisions = ranks.gather("reduce_boolean_decision()", bool(decision))
        return sum(decisions) == len(decisions) if all else any(decisions)


class DDPCollectives(Collectives, DDPStrategy):
    """The collectives of a Trainer with DDP, which have the options of its strategy too.

    Args:
        options: the strategy.
        world: which rank this is.
        device: of this rank.
        exchanging: as for Collectives.
        run: as for Collectives.
    """

    def __init__(
        self,
        options: DDPStrategy,
        world: World,
        device: Device,
        exchanging: Callable[[str], AbstractContextManager[Group]],
        run: TrainedParts,
    ) -> None:
        DDPStrategy.__init__(
            self, **{field.name: getattr(options, field.name) for field in fields(options)}
        )
        Collectives.__init__(self, world, device, exchanging, run)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


class _Stacked(torch.autograd.Function):
    """``Group.stack``, whose gradient is that of all ranks for the tensor of this one."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, group: Group) -> Tensor:
        ctx.group = group
        return group.stack(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.group.sum(gradient.clone())[ctx.group.world.rank], None


_stacked: Callable[[Tensor, Group], Tensor] = _Stacked.apply


def _send(group: Group, what: str, value: Any, src: int) -> None:
    flattener = Flattener()
    try:
        plain = flattener.plain(value, "the value")
    except CheckpointError as error:
        raise UsageError(f"{what} gives other ranks what a checkpoint can hold: {error}") from None
    moves = any(tensor.device.type != "cpu" for tensor in _tensors(value))
    tensors = flattener.tensors
    described = [
        [name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape)]
        for name, tensor in tensors.items()
    ]
    state = msgspec.msgpack.encode(plain)
    group.broadcast(what, [state, described, moves], src)
    group.share(tensors.values(), src)


def _refuse_group(what: str, group: Any) -> None:
    if group is not None:
        raise UsageError(
            f"{what} is between all ranks, without group=; for a part of them, use "
            "torch.distributed, whose groups these are"
        )


def _check_alike(group: Group, what: str, value: Any) -> None:
    """Refuse tensors that differ between ranks, for which torch would wait or mix them up."""
    mine = [_described(tensor) for tensor in _tensors(value)]
    for rank, of_rank in enumerate(group.gather(what, mine)):
        if of_rank != mine:
            raise RankMismatchError(
                f"{what}: rank {group.world.rank} has {_listed(mine)}, rank {rank} has "
                f"{_listed(of_rank)}; give the same number of tensors, with the same shapes and "
                "types, on all ranks: pad them, or leave out what has no counterpart"
            )


def _tensors(value: Any) -> list[Tensor]:
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(value, keep)
    return found


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def _listed(described: list[str]) -> str:
    return ", ".join(described) or "no tensor"


def _reduced(group: Group, tensor: Tensor, reduce_op: str) -> Tensor:
    is_bool = tensor.dtype is torch.bool  # which ranks cannot add up
    values = tensor.detach().long() if is_bool else tensor.detach().clone()
    if reduce_op == "max":
        return group.greatest(values).to(tensor.dtype)
    total = group.sum(values)
    return total if reduce_op == "sum" else total / group.world.size
