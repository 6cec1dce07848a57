"""Makes dataloaders of datasets, for a datamodule with nothing else."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset


def dataloaders_of(datasets: Any, shuffle: bool, batch_size: int, num_workers: int) -> Any:
    """Return a dataloader for each dataset, in the same collection.

    Args:
        datasets: one dataset, or a list, tuple or dict of them.
        shuffle: read datasets with indices in another order each time.
        batch_size: samples in a batch.
        num_workers: worker processes for each dataloader; 0 reads in this process.
    """
    if isinstance(datasets, Mapping):
        return {
            name: dataloaders_of(entry, shuffle, batch_size, num_workers)
            for name, entry in datasets.items()
        }
    if isinstance(datasets, list | tuple) and all(isinstance(one, Dataset) for one in datasets):
        return [dataloaders_of(entry, shuffle, batch_size, num_workers) for entry in datasets]
    return DataLoader(
        datasets,
        batch_size=batch_size,
        shuffle=shuffle and not isinstance(datasets, IterableDataset),
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
    )


def sizes_of(hook: Callable[[], Any]) -> str:
    """Return the sizes of the datasets of the dataloaders that a hook returns, for people to read.

    Args:
        hook: such as ``train_dataloader``.

    Returns:
        ``size=64``, or ``1. size=16 ; 2. size=NA`` for several; ``None`` if there are none, or none
        yet because the datamodule is not set up.
    """
    try:
        found = hook()
    except Exception:  # to be shown, a datamodule need not be set up
        return "None"
    if found is None:
        return "None"
    found = getattr(found, "iterables", found)
    entries = list(found.values()) if isinstance(found, Mapping) else found
    if not isinstance(entries, list | tuple):
        return f"size={_size_of(found)}"
    return " ; ".join(f"{i}. size={_size_of(entry)}" for i, entry in enumerate(entries, 1))


def _size_of(loader: Any) -> str:
    try:
        return str(len(getattr(loader, "dataset", loader)))
    except (TypeError, NotImplementedError):
        return "NA"
