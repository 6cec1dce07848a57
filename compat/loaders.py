"""Loaders and batches: their lengths and sizes, workers, random numbers."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils.data import IterableDataset

from ..actors.data.batch_size import sizes_of
from ..actors.data.rng import rng_state, set_rng_state
from ..actors.trees import map_tensors
from ..bus.errors import UsageError


def extract_batch_size(batch: Any) -> int:
    """Return the number of samples of a batch; a tensor of shape () counts as one.

    Args:
        batch: the batch.

    Raises:
        UsageError: it has no tensors.
    """
    batch = map_tensors(batch, lambda tensor: tensor if tensor.dim() else tensor.reshape(1))
    sizes = sizes_of(batch) if not isinstance(batch, str) else []
    if not sizes:
        raise UsageError(
            f"a batch, a {type(batch).__name__}, has no tensors to tell the batch_size from; give "
            "it: self.log(..., batch_size=...)"
        )
    if len(set(sizes)) > 1:
        warnings.warn(
            f"the tensors of the batch differ in size, and batch_size={sizes[0]} is taken from the "
            "first; to choose another, give it: self.log(..., batch_size=...)",
            UserWarning,
            stacklevel=2,
        )
    return sizes[0]


def sized_len(dataloader: object) -> int | None:
    """Return the length of a loader; None if it has none.

    Args:
        dataloader: the loader.
    """
    try:
        return len(dataloader)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError):
        return None


def has_len(dataloader: object) -> bool:
    """Return whether a loader has a length; warn if that is 0.

    Args:
        dataloader: the loader.
    """
    length = sized_len(dataloader)
    if length == 0:
        kind = type(dataloader).__name__
        warnings.warn(f"`{kind}` returned 0 length. Is that intended?", UserWarning, stacklevel=2)
    return length is not None and not has_iterable_dataset(dataloader)


def has_iterable_dataset(dataloader: object) -> bool:
    """Return whether a loader reads an IterableDataset.

    Args:
        dataloader: the loader.
    """
    return isinstance(getattr(dataloader, "dataset", None), IterableDataset)


def suggested_max_num_workers(local_world_size: int) -> int:
    """Return how many workers a loader should have at most: its share of the processors less one.

    Args:
        local_world_size: number of processes of this machine that train.

    Raises:
        ValueError: it is not at least 1.
    """
    if local_world_size < 1:
        raise ValueError(f"local_world_size={local_world_size}: expected 1 or more")
    if hasattr(os, "sched_getaffinity"):
        processors = len(os.sched_getaffinity(0))
    else:
        processors = os.cpu_count() or 1
    return max(1, processors // local_world_size - 1)


@contextmanager
def isolate_rng(include_cuda: bool = True) -> Iterator[None]:
    """Restore the random generators of Python, NumPy and torch at the end of the block.

    Args:
        include_cuda: those of GPUs, too.

    Yields:
        Nothing.
    """
    before = rng_state()
    if not include_cuda:
        before.pop("cuda", None)
    try:
        yield
    finally:
        set_rng_state(before)
