"""Dataloaders made of datasets, for a datamodule that has nothing else."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset


def dataloaders_of(datasets: Any, shuffle: bool, batch_size: int, num_workers: int) -> Any:
    """A dataloader for each of some datasets, in the collection they are in.

    Args:
        datasets: one, or a list, tuple or dict of them.
        shuffle: whether to read those that have indices in another order each time.
        batch_size: samples in a batch.
        num_workers: processes that read, for each; 0 reads here.
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
