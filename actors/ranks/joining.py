"""Joins this process to the other ranks, once for all Trainers of the process."""

import sys
from datetime import timedelta
from typing import TYPE_CHECKING

from ...bus.errors import UsageError
from .group import AloneGroup, Group
from .world import World

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

    from .process_group import ProcessGroup

DEFAULT_TIMEOUT = timedelta(minutes=30)
"""How long a collective operation may take; what torch uses for gloo."""


class _Process:
    """What this process has joined; torch.distributed is one for the process, too."""

    group: "ProcessGroup | None" = None


def joined_group() -> "ProcessGroup | None":
    """Return the group that this process has joined; None if it has not."""
    return _Process.group


def join(
    world: World,
    device_type: str,
    timeout: timedelta = DEFAULT_TIMEOUT,
    store: "Store | None" = None,
) -> Group:
    """Join the other ranks; a second call returns the group of the first.

    Args:
        world: which rank this is.
        device_type: ``cpu`` or ``cuda``; where the tensors are.
        timeout: of a collective operation.
        store: client of the store of all ranks; connected to here if not given.

    Returns:
        The group of all ranks.

    Raises:
        UsageError: this process has joined as another rank, or torch.distributed was initialised
            by the user without a launcher.
        RankError: the store of rank 0 cannot be reached.
    """
    joined = _Process.group
    if joined is not None:
        if joined.world != world:
            raise UsageError(
                f"this process is rank {joined.world.rank} of {joined.world.size}, so all its "
                "Trainers are; create this one with devices='auto', or use a script of its own"
            )
        return joined
    if world.is_alone:
        _refuse_a_group_of_users()
        return AloneGroup()
    from .process_group import ProcessGroup  # torch may be built without torch.distributed
    from .store import connect

    _Process.group = ProcessGroup(world, store or connect(world, timeout), device_type, timeout)
    return _Process.group


def leave() -> None:
    """End the group that this process has joined, if any."""
    if _Process.group is not None:
        _Process.group.close()
        _Process.group = None


def _refuse_a_group_of_users() -> None:
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return
    if distributed.get_world_size() > 1:
        raise UsageError(
            f"torch.distributed was initialised as rank {distributed.get_rank()} of "
            f"{distributed.get_world_size()}, and no launcher started this process; leave "
            "init_process_group to the Trainer, and start with Trainer(devices=...) or torchrun"
        )
