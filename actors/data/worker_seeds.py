"""Random numbers of a DataLoader's worker processes, seeded for each batch.

Worker processes that are not forked import this module, so it loads no other.
"""

import random
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

PassKey = tuple[int, ...]
"""What tells one pass over one loader from all others."""

_seed: int | None = None


def seed_workers(seed: int | None) -> None:
    """Have the workers of training loaders seeded from now on; None for not."""
    global _seed
    _seed = seed


def workers_seed() -> int | None:
    """What ``seed_workers`` was called with last."""
    return _seed


class SeededEntry(NamedTuple):
    """What a sampler gave, an index or those of a batch.

    Attributes:
        entry: what it gave.
        entropy: what the random numbers for it are seeded with.
    """

    entry: Any
    entropy: tuple[int, ...]


class SeededSampler:
    """A sampler that says with each entry what to seed with: the pass's key, and which entry of the
    pass it is.

    Args:
        sampler: gives the entries.
        key: of the pass; it may be set anew before the next one.
        passed: how many entries of the pass the sampler leaves out.
    """

    def __init__(self, sampler: Iterable[Any], key: PassKey, passed: int = 0) -> None:
        self.key = key
        self._sampler = sampler
        self._passed = passed

    def __iter__(self) -> Iterator[SeededEntry]:
        # Not a generator: a sampler may draw its order when it is asked for an iterator.
        key = self.key
        numbered = enumerate(self._sampler, self._passed)
        return (SeededEntry(entry, (*key, number)) for number, entry in numbered)


class SeededDataset:
    """A dataset for the entries of a SeededSampler: it seeds Python's, NumPy's and torch's random
    numbers, then fetches, and what collates the batch draws on.

    To whoever else has it, from ``get_worker_info()`` say, it is like the dataset itself.
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
    """What the user's sampler gave, with random numbers seeded for it."""
    if not isinstance(entry, SeededEntry):
        return entry
    seeds = np.random.SeedSequence(entry.entropy).generate_state(4, np.uint64)
    random.seed(int(seeds[0]))
    np.random.seed(seeds[1:3].view(np.uint32))
    # torch.manual_seed would take 100 times as long: it asks all kinds of devices.
    torch.default_generator.manual_seed(int(seeds[3]))
    return entry.entry
