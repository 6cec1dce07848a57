"""What differs between ranks that train copies of one module, in a checkpoint of all."""

from collections.abc import Mapping
from typing import Any

from ...bus.errors import CheckpointError
from ..checkpoints.format import packed_state, unpacked_state
from ..data.rng import rng_state
from ..ranks.group import Group

# Everything else is the same on all ranks.
_OWN = ("seq", "rng", "loaders", "loops", "metrics", "torchmetrics", "gradients")


def states_of_ranks(group: Group, state: Mapping[str, Any], by_all: bool) -> dict[str, Any]:
    """Return the entries of a checkpoint that say what is a rank's own.

    Args:
        group: the ranks.
        state: from where this rank is to be resumed.
        by_all: all ranks call this at the same point; otherwise, only the number of ranks is kept.
    """
    found: dict[str, Any] = {"world_size": group.world.size}
    if by_all:
        try:
            own = packed_state({name: state[name] for name in _OWN})
        except CheckpointError:  # of the same values in the state of rank 0, which is reported
            own = b""
        found["ranks"] = list(group.gather("the states of ranks", own))
    return found


def state_of_rank(group: Group, state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the state of a checkpoint for this rank.

    Without a part of its own, a rank goes on with its present random numbers.

    Args:
        group: the ranks.
        state: of the checkpoint.

    Raises:
        CheckpointError: another number of ranks saved it in the middle of an epoch.
    """
    world, saved_by = group.world, state.get("world_size", 1)
    if saved_by != world.size and _is_in_epoch(state.get("loops", {})):
        raise CheckpointError(
            f"the checkpoint is from the middle of an epoch of {saved_by} ranks, which had other "
            f"parts of the data than {world.size} have: resume with {saved_by} devices, or from a "
            "checkpoint between two epochs"
        )
    if world.rank == 0:
        return state
    parts = state.get("ranks", ())
    if saved_by == world.size and world.rank < len(parts) and parts[world.rank]:
        return {**state, **unpacked_state(parts[world.rank])}
    return {**state, "rng": rng_state()}


def seq_of_rank(rank: int, state: Mapping[str, Any]) -> int:
    """Return the last event in a rank's log before a checkpoint.

    Args:
        rank: which one.
        state: of the checkpoint.
    """
    parts = state.get("ranks", ())
    own = unpacked_state(parts[rank]) if rank and rank < len(parts) and parts[rank] else {}
    return int(own.get("seq", state["seq"]))


def _is_in_epoch(loops: Any) -> bool:
    """Return whether a loop has a position in the data."""
    if not isinstance(loops, Mapping):
        return False
    has = isinstance(own := loops.get("state"), Mapping) and "data" in own
    return has or any(map(_is_in_epoch, loops.values()))
