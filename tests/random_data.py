"""Data with random augmentations; processes that are not forked import it."""

import os
import random
from typing import Any

import numpy as np
import torch
from models import dataset
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

SIZE = 24


def draw(index: int) -> Tensor:
    """The index, and a number of each generator."""
    drawn = [random.random(), np.random.random(), torch.rand((), dtype=torch.float64).item()]
    return torch.tensor([index, *drawn], dtype=torch.float64)


class Drawing(Dataset[Any]):
    """Draws for each sample."""

    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int) -> Tensor:
        return draw(index)


class DrawingBatches(Drawing):
    """Is asked for whole batches, and draws for the first of its samples only."""

    def __getitems__(self, indices: list[int]) -> list[Tensor]:
        return [draw(indices[0])] * len(indices)


class Augmented(Dataset[Any]):
    """Points of 4 numbers in 2 classes, with an augmentation drawn for each."""

    def __init__(self) -> None:
        self.data = dataset()

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, idx: int) -> Any:
        x, y = self.data[idx]
        return x + 0.1 * torch.randn(4) + random.gauss(0, 0.1) + np.random.normal(0, 0.1), y


class Telling(Dataset[Any]):
    """Tells of the worker, and of the dataset that the worker has."""

    name = "mine"

    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int) -> Any:
        dataset: Any = get_worker_info().dataset  # type: ignore[union-attr]
        dataset.asked = index
        return {
            "process": os.getpid(),
            "name": dataset.name,
            "size": len(dataset),
            "set": self.__dict__["asked"] == index,
        }


def collate_drawing(samples: list[Tensor]) -> Tensor:
    """Draws for the batch, as mixing of its samples does."""
    return torch.stack([*samples, draw(-1)])


def seed_alike(worker_id: int) -> None:
    """A worker_init_fn: all workers draw the same."""
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
