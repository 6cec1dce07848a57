"""Resharding: goes on with another number of ranks than a checkpoint was saved with."""

import hashlib
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ...bus.errors import CheckpointError
from ...bus.system.logging_setup import get_logger
from ..data.rng import rng_state, undrawn
from ..loaders import Loaders
from ..metrics.states import merged_torchmetrics_states
from ..ranks.world import World
from .rank_states import states_by_rank

_log = get_logger("nightbus.checkpoint")


class Resharding:
    """What one of some ranks takes over from a checkpoint of another number of ranks.

    The place in the data is counted in samples of all ranks. If a step has as many samples as it
    had, the data goes on with the next one; otherwise, with the next whole step. What was gathered
    of an epoch is added up on rank 0. Random numbers begin anew, from the seed of the data's order,
    the rank and the step.

    Args:
        state: of the checkpoint.
        world: which rank this is.
        module: the module, whose torchmetrics know how their states are added up.

    Attributes:
        is_exact: the data goes on with the sample after the last one that was trained on.
    """

    def __init__(self, state: Mapping[str, Any], world: World, module: nn.Module) -> None:
        self._state, self._world, self._module = state, world, module
        self._was: int = state.get("world_size", 1)
        self._skipped = self._repeated = 0  # samples of this epoch
        self.is_exact = True

    def state(self, loaders: Loaders, accumulate: int) -> Mapping[str, Any]:
        """Return the state for this rank.

        Args:
            loaders: those of this run.
            accumulate: batches whose gradients make a step.

        Raises:
            CheckpointError: where the run was in the data, or what it had gathered, does not tell
                where other ranks would be.
        """
        state, own = self._state, states_by_rank(self._state)
        loops, changed = _copy(state["loops"]), {}
        if _is_in_epoch(loops):
            self._move(loops, loaders, accumulate)
            self._merge_outputs(loops, own)
            changed = {
                "metrics": self._metrics([each["metrics"] for each in own]),
                "torchmetrics": self._torchmetrics([each["torchmetrics"] for each in own]),
                "gradients": {} if self._repeated or self._skipped else state["gradients"],
            }
        seed = loaders.order_seed if self._was == 1 else state["loaders"]["order_seed"]
        rng = _random_numbers(seed, self._world.rank, state["global_step"])
        return {**state, **changed, "loops": loops, "rng": rng}

    def report(self) -> None:
        """Tell the user how the data goes on."""
        how = "the data goes on with the next sample"
        if self._skipped:
            how = f"{self._skipped} samples of this epoch are left out, up to the next whole step"
        if self._repeated:
            how += (
                f"; {self._repeated} are read again, whose gradients had been accumulated for a "
                "step that was not made"
            )
        _log.warning(
            f"the run goes on with {self._world.size} ranks instead of {self._was}: {how}; sums "
            "over ranks are added in another order, and random numbers begin anew"
        )

    def _move(self, loops: dict[str, Any], loaders: Loaders, accumulate: int) -> None:
        """Move the position in the epoch to where these ranks have trained on as many samples."""
        epoch_loop = loops.get("fit_loop", {}).get("epoch_loop", {})
        position = epoch_loop.get("state", {})
        saved = self._state.get("batches", {})
        loaders.request_training()  # the size of its batches has to be known
        samples, had = loaders.samples_a_batch, saved.get("samples")
        if samples is None or had is None or "began" not in position.get("data", {}):
            raise CheckpointError(
                f"the checkpoint is from the middle of an epoch of {self._was} ranks, and where "
                f"{self._world.size} would be in this data is not known: that takes one DataLoader "
                "over a dataset with indices, in which nightbus gives each rank its part; resume "
                f"with {self._was} devices, or from a checkpoint between two epochs"
            )
        before, a_step = position["batches"], saved["accumulate"]
        whole = before - before % a_step
        trained_on = whole * self._was * had
        of_step = self._world.size * samples * accumulate
        batches = -(-trained_on // of_step) * accumulate
        if loaders.num_training_batches is not None:
            batches = min(batches, loaders.num_training_batches)  # the epoch may be over
        self._skipped = max(0, batches * self._world.size * samples - trained_on)
        self._repeated = (before - whole) * self._was * had
        if self._skipped:
            self._repeated = max(0, self._repeated - self._skipped)
        self.is_exact = not self._skipped and not self._repeated
        position["validated"] = _validated(position, batches)
        position["batches"], position["ahead"] = batches, []
        data = position["data"]
        data["batches"] = batches
        if data.get("key") is not None:
            data["key"] = (data["key"][0], self._world.rank, data["key"][2])
        if not self._state["loaders"].get("in_parts", self._was > 1):
            data["draws_as_alone"] = True
        for counts in epoch_loop["batch_progress"].values():
            for name in counts:
                counts[name] += batches - before
        _forget_accumulations(epoch_loop)

    def _merge_outputs(self, loops: dict[str, Any], own: Sequence[Mapping[str, Any]]) -> None:
        """Give rank 0 the outputs of training steps that were kept for the epoch's end."""
        position = loops["fit_loop"]["epoch_loop"]["state"]
        kept = [each["loops"]["fit_loop"]["epoch_loop"]["state"]["outputs"] for each in own]
        position["outputs"] = [o for each in kept for o in each] if self._world.rank == 0 else []

    def _metrics(self, of_ranks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the values of the epoch so far, of all ranks on rank 0."""
        entries: dict[tuple[Any, ...], dict[str, Any]] = {}
        for of_rank in of_ranks:
            for entry in of_rank["entries"]:
                key = (entry["hook"], entry["name"], entry["dataloader_idx"])
                merged = entries.setdefault(key, {**entry, "reduction": None})
                if self._world.rank == 0 and entry["reduction"] is not None:
                    merged["reduction"] = _added(merged["reduction"], entry["reduction"])
        return {**of_ranks[0], "entries": list(entries.values())}

    def _torchmetrics(self, of_ranks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        merged = merged_torchmetrics_states(self._module, of_ranks)
        return merged if self._world.rank == 0 else {}


def _is_in_epoch(loops: Any) -> bool:
    """Return whether a loop has a position in the data."""
    if not isinstance(loops, Mapping):
        return False
    has = isinstance(own := loops.get("state"), Mapping) and "data" in own
    return has or any(map(_is_in_epoch, loops.values()))


def _copy(state: Any) -> Any:
    """Return a state whose dicts can be changed."""
    return {key: _copy(value) for key, value in state.items()} if type(state) is dict else state


def _validated(position: Mapping[str, Any], batches: int) -> int:
    """Return after which batch validation last ran: after the last one, if it had."""
    if position["validated"] == position["batches"] - 1:
        return batches - 1
    return min(int(position["validated"]), batches - 2)


def _forget_accumulations(loop: dict[str, Any]) -> None:
    """Leave out what loops know of gradients that were accumulated."""
    if "turns" in loop.get("state", ()):
        loop["state"] = {}
    for value in loop.values():
        if type(value) is dict:
            _forget_accumulations(value)


def _added(one: Mapping[str, Any] | None, other: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the state of a reduction of the values of both."""
    if one is None:
        return other
    return {
        "sum": one["sum"] + other["sum"],
        "weight": one["weight"] + other["weight"],
        "values": [*one["values"], *other["values"]],
    }


def _random_numbers(seed: int, rank: int, step: int) -> dict[str, Any]:
    """Return the states of the generators of a rank that begins at a step."""
    text = f"{seed} {rank} {step}".encode()
    number = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())
    with undrawn():
        random.seed(number)
        np.random.seed(number % 2**32)
        torch.manual_seed(number)
        return rng_state()
