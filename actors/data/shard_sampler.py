"""ShardSampler: the part of a sampler's order that one of several ranks reads."""

import random
from collections.abc import Iterable, Iterator, Sized
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
)

from ...bus.errors import UsageError
from .loader_copy import copy_loader, is_map_style
from .rng import undrawn, undrawn_from

_SEEDS = 2**32  # of NumPy
_ADVICE = (
    "give each rank its part yourself, with a torch.utils.data.DistributedSampler or by "
    "trainer.global_rank and trainer.world_size, and pass Trainer(use_distributed_sampler=False)"
)


class ShardSampler(Sampler[Any]):
    """Yields every ``size``-th entry of a sampler's order, beginning with the rank's.

    All ranks draw the whole order from the same seed, and so agree on it without a word. In the
    orders of ``shuffle=True`` and ``shuffle=False`` it is that of torch's DistributedSampler, to
    the entry.

    Args:
        sampler: yields all entries.
        rank: of this process.
        size: number of ranks.
        seed: of the order; the same on all ranks.
        pads: repeat entries from the order's begin, so that all ranks have the same number.
            Otherwise each entry is read exactly once, and numbers may differ by one.

    Attributes:
        seed: as given.
        epoch: adds to the seed.
        draws_as_alone: the next pass has the order that the sampler alone would draw, from the
            generators of the run, whose states have to be the same on all ranks.
    """

    def __init__(self, sampler: Iterable[Any], rank: int, size: int, seed: int, pads: bool) -> None:
        self.sampler = sampler
        self.seed = seed
        self.epoch = 0
        self.draws_as_alone = False
        self._rank, self._size, self._pads = rank, size, pads

    @property
    def is_in_order(self) -> bool:
        """True if each pass reads the dataset from its begin to its end."""
        return type(self.sampler) is SequentialSampler

    @property
    def generator(self) -> Any:
        """That of the sampler of all entries, if it has one of its own."""
        return getattr(self.sampler, "generator", None)

    def set_epoch(self, epoch: int) -> None:
        """Draw another order for another epoch."""
        self.epoch = epoch
        set_epoch = getattr(self.sampler, "set_epoch", None)
        if callable(set_epoch):
            set_epoch(epoch)

    def __len__(self) -> int:
        if not isinstance(self.sampler, Sized):
            raise TypeError(f"{type(self.sampler).__name__} has no length")
        number = len(self.sampler)
        if self._pads:
            return -(-number // self._size)
        return len(range(self._rank, number, self._size))

    def __iter__(self) -> Iterator[Any]:
        if self.draws_as_alone:
            self.draws_as_alone = False
            return self._drawn_as_alone()
        if self.is_in_order and not self._pads:
            return iter(range(self._rank, len(self.sampler), self._size))  # type: ignore[arg-type]
        return self._part_of(self._order())

    def _drawn_as_alone(self) -> Iterator[Any]:
        """Yield the part of an order that is drawn when the first entry is requested."""
        yield from self._part_of(list(self.sampler))

    def _part_of(self, order: list[Any]) -> Iterator[Any]:
        number = len(order)
        if self._pads and number:
            number += -number % self._size
            order = list(islice(cycle(order), number))
        return iter(order[self._rank : number : self._size])

    def _order(self) -> list[Any]:
        """Return the entries of all ranks, without drawing from generators of the run."""
        sampler, seed = self.sampler, self.seed + self.epoch
        if _is_permutation(sampler):
            generator = torch.Generator()
            generator.manual_seed(seed)
            return torch.randperm(len(sampler), generator=generator).tolist()  # type: ignore[arg-type]
        if self.is_in_order:
            return list(sampler)
        with undrawn(), undrawn_from([sampler]):
            random.seed(seed)
            np.random.seed(seed % _SEEDS)
            torch.default_generator.manual_seed(seed)
            for own in vars(sampler).values():
                if isinstance(own, torch.Generator):
                    own.manual_seed(seed)
            return list(sampler)


def _is_permutation(sampler: Iterable[Any]) -> bool:
    """Return whether it is what ``shuffle=True`` makes: each entry once, in any order."""
    return (
        type(sampler) is RandomSampler
        and not sampler.replacement
        and sampler.num_samples == len(sampler.data_source)
    )


def sharded(loader: Any, rank: int, size: int, seed: int, trains: bool) -> Any:
    """Return the loader of a rank's part of a loader's data.

    A loader that has a DistributedSampler keeps it, and data without indices is left to the user:
    each rank reads what its loader gives.

    Args:
        loader: the loader of all data.
        rank: of this process.
        size: number of ranks.
        seed: of the order; the same on all ranks.
        trains: all ranks get the same number of samples, some of them twice; otherwise each
            sample is read once.

    Raises:
        UsageError: the loader chooses its batches in a way of its own.
    """
    if not isinstance(loader, DataLoader) or _reads_its_part(loader):
        return loader
    if not is_map_style(loader):
        if isinstance(loader.dataset, IterableDataset):
            return loader
        raise UsageError(
            f"{type(loader).__name__} is a DataLoader of another class, which cannot be copied "
            f"for a part of the data: {_ADVICE}"
        )
    batches = loader.batch_sampler
    if batches is None:
        shard = ShardSampler(loader.sampler, rank, size, seed, pads=trains)
        return copy_loader(loader, batch_size=None, sampler=shard)
    if type(batches) is not BatchSampler:
        raise UsageError(
            f"the batch sampler {type(batches).__name__} chooses whole batches, and which of them "
            f"a rank should read only its author knows: {_ADVICE}"
        )
    shard = ShardSampler(batches.sampler, rank, size, seed, pads=trains)
    if loader.batch_size is None:
        rebuilt = BatchSampler(shard, batches.batch_size, batches.drop_last)
        return copy_loader(loader, batch_sampler=rebuilt)
    return copy_loader(
        loader, batch_size=loader.batch_size, sampler=shard, drop_last=loader.drop_last
    )


def _reads_its_part(loader: "DataLoader[Any]") -> bool:
    """Return whether the user has given the loader a sampler for this rank."""
    batches = loader.batch_sampler
    samplers = (loader.sampler, batches, getattr(batches, "sampler", None))
    return any(isinstance(sampler, DistributedSampler | ShardSampler) for sampler in samplers)


def samples_a_batch(loader: Any) -> int | None:
    """Return how many samples a rank reads for each batch.

    Args:
        loader: of a rank's part, or of all data if there is one rank.

    Returns:
        None if other ranks' batches do not follow from it: the data has no indices, or an order or
        batches that the user has divided.
    """
    if not is_map_style(loader):
        return None
    batches = loader.batch_sampler
    sampler = loader.sampler if batches is None else getattr(batches, "sampler", None)
    if isinstance(sampler, DistributedSampler):
        return None
    if batches is None:
        return 1
    return batches.batch_size if type(batches) is BatchSampler else None
