"""Copies of DataLoaders that read in another order, or another dataset."""

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
"""What says nothing about the order."""


def is_map_style(loader: Any) -> bool:
    """Whether it is a DataLoader that reads by index."""
    # A subclass may read in its own way.
    return type(loader) is DataLoader and not isinstance(loader.dataset, IterableDataset)


def index_sampler(loader: "DataLoader[Any]") -> Iterable[Any]:
    """What gives the indices: of a batch each, or of a sample if the loader makes no batches."""
    return loader.sampler if loader.batch_sampler is None else loader.batch_sampler


def copy_loader(loader: "DataLoader[Any]", **changed: Any) -> "DataLoader[Any]":
    """A DataLoader like another one, but for these arguments; the order has to be among them."""
    # Which arguments there are depends on torch's version.
    given = {name: getattr(loader, name) for name in _ARGUMENTS if hasattr(loader, name)}
    return DataLoader(**{**given, **changed})


def copy_in_order(
    loader: "DataLoader[Any]", sampler: Iterable[Any], **changed: Any
) -> "DataLoader[Any]":
    """The same with another sampler of the kind that ``index_sampler`` gives."""
    if loader.batch_sampler is None:
        return copy_loader(loader, sampler=sampler, batch_size=None, **changed)
    return copy_loader(loader, batch_sampler=sampler, **changed)
