"""Prepares dataloaders: how they are combined, how many batches are read, in which order."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from ...bus.errors import UsageError
from ...bus.system.logging_setup import get_logger
from .combined_loader import CombinedLoader, CombineMode, is_collection, like
from .loader_copy import copy_loader, is_map_style
from .shard_sampler import ShardSampler

_log = get_logger("nightbus.loaders", of_all_ranks=True)


def training_loader(loaders: Any, mode: CombineMode) -> Any:
    """Return one loader for training, combined from a collection if needed.

    Args:
        loaders: a loader, or a sequence or dict of them.
        mode: how several are combined.
    """
    loaders = _listed(loaders)
    if is_collection(loaders) or isinstance(loaders, Mapping):
        if is_collection(loaders) and len(loaders) == 1:
            return training_loader(loaders[0], mode)
        return CombinedLoader(loaders, mode)
    return loaders


def evaluation_loaders(loaders: Any) -> list[Any]:
    """Return loaders for evaluation, which are read one after the other."""
    if loaders is None:
        return []
    if isinstance(loaders, CombinedLoader) and loaders.mode == "sequential":
        return loaders.flat
    if isinstance(loaders, Mapping):
        return list(loaders.values())
    listed = _listed(loaders)
    return list(listed) if is_collection(listed) else [loaders]


def as_given(given: Any, loaders: Sequence[Any]) -> Any:
    """Return the loaders of an evaluation in the collection in which they were given.

    Args:
        given: a loader, or a sequence or dict of them.
        loaders: those that are read, one after the other.
    """
    if not loaders:
        return None
    if isinstance(given, CombinedLoader):
        is_flat = given.mode == "sequential"
        return like(given.loaders, iter(loaders)) if is_flat else loaders[0].loaders
    if isinstance(given, Mapping):
        return dict(zip(given, loaders, strict=True))
    return list(loaders) if is_collection(_listed(given)) else loaders[0]


def _listed(loaders: Any) -> Any:
    """Return a sequence of loaders, of whatever class, as a list; anything else as it is.

    A sequence of batches of the user's own class is a loader.
    """
    if isinstance(loaders, Sequence) and not is_collection(loaders) and loaders:
        return list(loaders) if all(map(_may_be_loader, loaders)) else loaders
    return loaders


def _may_be_loader(entry: Any) -> bool:
    """Return whether an entry of a sequence of the user's is a loader, not a batch."""
    return hasattr(entry, "__iter__") and not (
        isinstance(entry, Sequence | Mapping) or hasattr(entry, "__array__")
    )


def limited(total: int | None, limit: float, name: str) -> int | None:
    """Return how many batches to read.

    Args:
        total: how many there are; None if unknown.
        limit: a number of batches (int) or a share (float).
        name: the argument's name, for errors.

    Raises:
        UsageError: it is a share of an unknown number, or less than a batch.
    """
    if isinstance(limit, int) and not isinstance(limit, bool):
        return limit if total is None else min(limit, total)
    if limit == 1.0:
        return total
    if total is None and limit > 0:
        raise UsageError(
            f"{name}={limit} is a share, but the dataloader has no length; set a number of "
            "batches (an int)"
        )
    batches = int((total or 0) * limit)
    if not batches and total and limit:
        raise UsageError(
            f"{name}={limit} of {total:,} batches is less than one; set a larger share, or a "
            "number of batches (an int)"
        )
    return batches


def check_limit(name: str, limit: Any) -> Any:
    """Return a limit, after checking it.

    Args:
        name: the argument's name, for errors.
        limit: a number of batches (int, or a whole float above 1), or a share (float).

    Raises:
        UsageError: it is neither a share between 0 and 1 nor a number of batches.
    """
    if isinstance(limit, bool) or not isinstance(limit, int | float) or limit < 0:
        raise UsageError(f"{name}={limit!r}: expected a number of batches, or a share 0.0 to 1.0")
    if isinstance(limit, float) and limit > 1.0 and limit.is_integer():
        return int(limit)
    if isinstance(limit, float) and limit > 1.0:
        raise UsageError(
            f"{name}={limit!r}: a share is at most 1.0; for {limit:g} batches use an int"
        )
    return limit


def without_shuffling(loader: Any) -> Any:
    """Return the same loader, or collection of loaders, in a fixed order for overfitting.

    A warning says that a loader is not read in its own order.
    """
    if isinstance(loader, CombinedLoader):
        return loader.with_each(without_shuffling)
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return loader
    if loader.batch_size is None or isinstance(
        loader.sampler, SequentialSampler | DistributedSampler
    ):
        return loader
    if type(loader.batch_sampler) is not BatchSampler:
        return loader
    _log.warning(
        "overfit_batches reads the same batches in each epoch: the dataset's order instead of "
        f"that of the dataloader's {type(loader.sampler).__name__}"
    )
    return copy_loader(
        loader,
        batch_size=loader.batch_size,
        sampler=SequentialSampler(loader.dataset),  # type: ignore[arg-type]
        drop_last=loader.drop_last,
    )


_SAMPLERS = (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    ShardSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)


def knows_its_length(loader: Any) -> bool:
    """Return whether a loader certainly has as many batches as it says.

    A list does, and torch's DataLoader over a dataset with indices, in an order of torch's own.
    Lengths
    of others may be wrong.
    """
    if isinstance(loader, list | tuple):
        return True
    samplers = (getattr(loader, "sampler", None), getattr(loader, "batch_sampler", None))
    return is_map_style(loader) and all(
        sampler is None or type(sampler) in _SAMPLERS for sampler in samplers
    )


def is_read_once(loader: Any) -> bool:
    """Return whether a loader can be read only once, as a generator or another iterator."""
    return hasattr(loader, "__next__")
