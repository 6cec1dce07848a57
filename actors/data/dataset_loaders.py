"""Makes dataloaders of datasets, for a datamodule with nothing else."""

from collections.abc import Mapping
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
