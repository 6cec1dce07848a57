"""Seeds the random numbers of a DataLoader's workers for each batch.

Spawned worker processes import this module, so it imports no other of the package.
"""

import random
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

PassKey = tuple[int, ...]
"""Identifies one pass over one loader."""

_seed: int | None = None


def seed_workers(seed: int | None) -> None:
    """Seed the workers of training loaders from now on; None to stop."""
    global _seed
    _seed = seed


def workers_seed() -> int | None:
    """Return the last argument of ``seed_workers``."""
    return _seed


class SeededEntry(NamedTuple):
    """An entry of a sampler, an index or those of a batch, with its seed.

    Attributes:
        entry: the entry.
        entropy: the seed of the random numbers for it.
    """

    entry: Any
    entropy: tuple[int, ...]


class SeededSampler:
    """A sampler that adds a seed to each entry: the pass's key and the number of the entry.

    Args:
        sampler: yields the entries.
        key: of the pass; may be changed before the next one.
        passed: number of entries of the pass that the sampler leaves out.
    """

    def __init__(self, sampler: Iterable[Any], key: PassKey, passed: int = 0) -> None:
        self.key = key
        self._sampler = sampler
        self._passed = passed

    def __iter__(self) -> Iterator[SeededEntry]:
        # Not a generator function: a sampler may draw its order when an iterator is requested.
        key = self.key
        numbered = enumerate(self._sampler, self._passed)
        return (SeededEntry(entry, (*key, number)) for number, entry in numbered)


class SeededDataset:
    """A dataset for the entries of a SeededSampler.

    It seeds Python's, NumPy's and torch's random numbers before it fetches; collating the batch
    draws from them too. For other code, for example through ``get_worker_info()``, it is like the
    dataset itself.
    """

    def __init__(self, dataset: Any) -> None:
        object.__setattr__(self, "_SeededDataset__dataset", dataset)

    def __getitem__(self, index: Any) -> Any:
        return self.__dataset[_seeded(index)]

    def __getitems__(self, indices: Any) -> Any:
        dataset, indices = self.__dataset, _seeded(indices)
        if getattr(dataset, "__getitems__", None):
            return dataset.__getitems__(indices)
        return [dataset[index] for index in indices]

    def __len__(self) -> int:
        return len(self.__dataset)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dataset, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__dataset, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return SeededDataset, (self.__dataset,)


def _seeded(entry: Any) -> Any:
    """Return the entry of the user's sampler, after seeding random numbers for it."""
    if not isinstance(entry, SeededEntry):
        return entry
    seeds = np.random.SeedSequence(entry.entropy).generate_state(4, np.uint64)
    random.seed(int(seeds[0]))
    np.random.seed(seeds[1:3].view(np.uint32))
    # torch.manual_seed would take 100 times as long, because it seeds all kinds of devices.
    torch.default_generator.manual_seed(int(seeds[3]))
    return entry.entry
