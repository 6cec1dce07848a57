"""Gives each rank random numbers of its own, once the module is made with the same on all."""

import random

import numpy as np
import torch

from .group import Group

_SEEDS = 2**32  # of NumPy and Python


class _Process:
    """The generators of this process, which are one for all its Trainers."""

    seed: int | None = None  # that this rank was given


def spread_seeds(group: Group) -> None:
    """Seed Python's, NumPy's and torch's generators with torch's seed + the rank.

    Those of rank 0 stay as they are, and so do others that were not seeded again since.

    Args:
        group: the ranks.
    """
    rank = group.world.rank
    if rank == 0 or torch.initial_seed() == _Process.seed:
        return
    seed = _Process.seed = (torch.initial_seed() + rank) % 2**63
    torch.manual_seed(seed)
    random.seed(seed % _SEEDS)
    np.random.seed(seed % _SEEDS)
