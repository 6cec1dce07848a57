"""DataLoaders that are read in place of a user's, whose workers are seeded for each batch."""

import weakref
from collections.abc import Iterable
from typing import Any

from torch.utils.data import DataLoader

from .loader_copy import copy_in_order, index_sampler, is_map_style
from .worker_seeds import PassKey, SeededDataset, SeededSampler

# A loader whose workers stay -> what is read in its place, and its sampler.
_kept: "weakref.WeakKeyDictionary[Any, tuple[DataLoader[Any], SeededSampler]]"
_kept = weakref.WeakKeyDictionary()


def seeds_workers(loader: Any) -> bool:
    """Whether a loader has workers that can be seeded, and does not seed them itself."""
    return is_map_style(loader) and loader.num_workers > 0 and loader.worker_init_fn is None


def seeded_loader(loader: "DataLoader[Any]", key: PassKey) -> "DataLoader[Any]":
    """What to read in a loader's place in a pass: if its workers stay, always the same."""
    if loader in _kept:
        seeded, sampler = _kept[loader]
        sampler.key = key
        return seeded
    sampler = SeededSampler(index_sampler(loader), key)
    seeded = copy_in_order(loader, sampler, dataset=SeededDataset(loader.dataset))
    if loader.persistent_workers:
        _kept[loader] = seeded, sampler
    return seeded


def forget_seeded(loader: Any) -> "list[DataLoader[Any]]":
    """Let go of what is read in a loader's place; gives it, if there is any."""
    seeded = _kept.pop(loader, None)
    return [] if seeded is None else [seeded[0]]


def seeded_rest(
    loader: "DataLoader[Any]", key: PassKey, rest: Iterable[Any], passed: int
) -> "DataLoader[Any]":
    """What to read in a loader's place in the rest of a pass.

    Args:
        rest: a sampler of the rest.
        passed: how many of the sampler's entries come before.
    """
    sampler = SeededSampler(rest, key, passed)
    dataset = SeededDataset(loader.dataset)
    return copy_in_order(loader, sampler, dataset=dataset, persistent_workers=False)
