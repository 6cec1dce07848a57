"""Copies DataLoaders with another order or another dataset."""

from collections.abc import Iterable
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

_ARGUMENTS = (
    "dataset",
    "num_workers",
    "collate_fn",
    "pin_memory",
    "timeout",
    "worker_init_fn",
    "multiprocessing_context",
    "generator",
    "prefetch_factor",
    "persistent_workers",
    "pin_memory_device",
    "in_order",
)
"""Arguments that do not affect the order."""


def is_map_style(loader: Any) -> bool:
    """Return whether it is a DataLoader that reads by index."""
    # A subclass may read differently.
    return type(loader) is DataLoader and not isinstance(loader.dataset, IterableDataset)


def index_sampler(loader: "DataLoader[Any]") -> Iterable[Any]:
    """Return the sampler of indices: of a batch each, or of a sample if there are no batches."""
    return loader.sampler if loader.batch_sampler is None else loader.batch_sampler


def copy_loader(loader: "DataLoader[Any]", **changed: Any) -> "DataLoader[Any]":
    """Return a copy of a DataLoader with some arguments changed.

    Args:
        loader: the DataLoader.
        changed: the arguments, which must include the order.
    """
    # The arguments depend on torch's version.
    given = {name: getattr(loader, name) for name in _ARGUMENTS if hasattr(loader, name)}
    return DataLoader(**{**given, **changed})


def copy_in_order(
    loader: "DataLoader[Any]", sampler: Iterable[Any], **changed: Any
) -> "DataLoader[Any]":
    """Return a copy of a DataLoader with another sampler.

    Args:
        loader: the DataLoader.
        sampler: of the kind that ``index_sampler`` returns.
        changed: further arguments to change.
    """
    if loader.batch_sampler is None:
        return copy_loader(loader, sampler=sampler, batch_size=None, **changed)
    return copy_loader(loader, batch_sampler=sampler, **changed)
