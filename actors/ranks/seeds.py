"""Gives each rank random numbers of its own, once the module is made with the same on all."""

import random

import numpy as np
import torch

from .group import Group

_SEEDS = 2**32  # of NumPy and Python


class _Process:
    """What was done to the generators of this process, which are one for all its Trainers."""

    are_spread = False


def spread_seeds(group: Group) -> None:
    """Seed Python's, NumPy's and torch's generators with their seed + the rank, once a process.

    Those of rank 0 stay as they are.

    Args:
        group: the ranks.
    """
    rank = group.world.rank
    if rank == 0 or _Process.are_spread:
        return
    _Process.are_spread = True
    seed = torch.initial_seed() + rank
    torch.manual_seed(seed % 2**63)
    random.seed(seed % _SEEDS)
    np.random.seed(seed % _SEEDS)
