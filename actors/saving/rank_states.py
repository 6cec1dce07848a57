"""What differs between ranks that train copies of one module, in a checkpoint of all."""

from collections.abc import Mapping
from typing import Any

from ...bus.errors import CheckpointError
from ...bus.system.logging_setup import get_logger
from ..checkpoints.format import packed_state, unpacked_state
from ..data.rng import rng_state
from ..ranks.group import Group

_log = get_logger("nightbus.checkpoint")

_CANNOT = b"\0cannot be saved: "  # what was packed begins with another byte
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
        own = b""
        if not group.world.is_global_zero:  # whose own is in the state itself
            try:
                own = packed_state({name: state[name] for name in _OWN})
            except CheckpointError as error:
                own = _CANNOT + str(error).encode(errors="replace")
        found["ranks"] = group.collect("the states of ranks", own)
    return found


def check_states_of_ranks(state: Mapping[str, Any]) -> None:
    """Check that all ranks could add their own states to a checkpoint.

    Args:
        state: with what ``states_of_ranks`` returned.

    Raises:
        CheckpointError: a rank could not.
    """
    for rank, part in enumerate(state.get("ranks", ())):
        if part.startswith(_CANNOT):
            why = part.removeprefix(_CANNOT).decode()
            raise CheckpointError(f"the state of rank {rank}: {why}")


def states_by_rank(state: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what is a rank's own in a checkpoint, by rank; of rank 0 alone if others are missing.

    Args:
        state: of the checkpoint.
    """
    parts = state.get("ranks", ())
    own = {name: state[name] for name in _OWN}
    if not all(parts[1:]):
        return [own]
    return [own, *(unpacked_state(part) for part in parts[1:])]


def state_of_rank(group: Group, state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the state of a checkpoint for this rank, which as many ranks have saved.

    Without a part of its own, a rank goes on with its present random numbers.

    Args:
        group: the ranks.
        state: of the checkpoint.
    """
    rank = group.world.rank
    if rank == 0:
        return state
    parts = state.get("ranks", ())
    if rank < len(parts) and parts[rank]:
        return {**state, **unpacked_state(parts[rank])}
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


def seqs_of_gone(state: Mapping[str, Any], size: int) -> tuple[tuple[int, int], ...]:
    """Return the ranks of a checkpoint that go on no more, with ``seq_of_rank``.

    Args:
        state: of the checkpoint.
        size: number of ranks that go on.
    """
    return tuple(
        (rank, seq_of_rank(rank, state)) for rank in range(size, len(state.get("ranks", ())))
    )


def report_missing(group: Group, state: Mapping[str, Any]) -> None:
    """Warn, on rank 0, that a checkpoint has the state of rank 0 alone.

    Args:
        group: the ranks.
        state: of the checkpoint.
    """
    world = group.world
    parts = state.get("ranks", ())
    if world.is_alone or not world.is_global_zero or (len(parts) == world.size and all(parts[1:])):
        return
    _log.warning(
        "the checkpoint was saved on rank 0 alone: others take over its place in the data and its "
        "metrics, and have other random numbers, so that the run differs from the one that was "
        "saved"
    )
