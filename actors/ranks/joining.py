"""Joins this process to the other ranks, once for all Trainers of the process."""

import atexit
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

from ...bus.errors import UsageError
from .group import AloneGroup, Group
from .world import World

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

    from .process_group import ProcessGroup

_LAST_READS_S = 30.0  # that other ranks may take until they need the store of this one no more


class _Process:
    """What this process has joined, if anything; torch.distributed is one for it, too."""

    group: "ProcessGroup | None" = None
    has_run_alone = False


def joined_group() -> "ProcessGroup | None":
    """Return the group that this process has joined; None if it has not."""
    return _Process.group


def join(
    world: World,
    backends: str,
    timeout: timedelta | None,
    store: "Store | None" = None,
) -> Group:
    """Join the other ranks; a second call returns the group of the first.

    Args:
        world: which rank this is.
        backends: of torch.distributed, by device, see ``DDPStrategy.backends``.
        timeout: of a collective operation; torch's default if None.
        store: client of the store of all ranks; connected to here if not given.

    Returns:
        The group of all ranks.

    Raises:
        UsageError: this process has joined as another rank or for other exchanges, or
            torch.distributed was initialised by the user without a launcher.
        RankError: the store of rank 0 cannot be reached.
    """
    joined = _Process.group
    if joined is not None:
        if joined.world != world:
            raise UsageError(
                f"this process is rank {joined.world.rank} of {joined.world.size}, so all its "
                "Trainers are; create this one with devices='auto', or use a script of its own"
            )
        joined.check_options(backends, timeout)
        return joined
    if world.is_alone:
        _refuse_a_group_of_users()
        _Process.has_run_alone = True
        return AloneGroup()
    from .linking import link_with
    from .process_group import ProcessGroup  # torch may be built without torch.distributed
    from .store import connect

    atexit.register(leave)
    group = ProcessGroup(world, store or connect(world, timeout), backends, timeout)
    _Process.group = group
    group.link = link_with(group)
    return group


def has_run_alone() -> bool:
    """Return whether a Trainer of this process has run without other ranks."""
    return _Process.has_run_alone


def leave() -> None:
    """Leave the group that this process has joined, if any, because the process ends."""
    group, _Process.group = _Process.group, None
    if group is None:
        return
    error = getattr(sys, "last_value", None)  # an exception that has ended the script
    group.close("" if error is None else f"{type(error).__name__}: {error}")
    is_lost = group.link is not None and group.link.is_lost
    if group.world.is_global_zero and not group.world.has_store and not is_lost:
        group.wait_until_all_left(_LAST_READS_S)


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
