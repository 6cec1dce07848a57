"""DataLoaders that replace a user's, with workers seeded for each batch."""

import weakref
from collections.abc import Iterable
from typing import Any

from torch.utils.data import DataLoader

from .loader_copy import copy_in_order, index_sampler, is_map_style
from .worker_seeds import PassKey, SeededDataset, SeededSampler

# A loader with persistent workers -> its replacement, with the sampler.
_kept: "weakref.WeakKeyDictionary[Any, tuple[DataLoader[Any], SeededSampler]]"
_kept = weakref.WeakKeyDictionary()


def seeds_workers(loader: Any) -> bool:
    """Return whether a loader has workers that can be seeded and that it does not seed itself."""
    return is_map_style(loader) and loader.num_workers > 0 and loader.worker_init_fn is None


def seeded_loader(loader: "DataLoader[Any]", key: PassKey) -> "DataLoader[Any]":
    """Return the replacement of a loader in a pass; always the same if its workers are persistent.

    Args:
        loader: the DataLoader.
        key: of the pass.
    """
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
    """Drop the replacement of a loader, and return it if there was one."""
    seeded = _kept.pop(loader, None)
    return [] if seeded is None else [seeded[0]]


def seeded_rest(
    loader: "DataLoader[Any]", key: PassKey, rest: Iterable[Any], passed: int
) -> "DataLoader[Any]":
    """Return the replacement of a loader for the rest of a pass.

    Args:
        loader: the DataLoader.
        key: of the pass.
        rest: a sampler of the rest.
        passed: number of the sampler's entries before the rest.
    """
    sampler = SeededSampler(rest, key, passed)
    dataset = SeededDataset(loader.dataset)
    return copy_in_order(loader, sampler, dataset=dataset, persistent_workers=False)
