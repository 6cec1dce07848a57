"""The search for the largest batch size that fits into memory."""

import gc
from collections.abc import Callable
from typing import Any

import torch

from ...bus.errors import UsageError

_OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "CUDNN_STATUS_NOT_SUPPORTED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


class BatchTooLarge(UsageError):
    """A batch does not fit into memory."""


def in_memory(run: Callable[..., Any]) -> Callable[..., Any]:
    """Have a function raise BatchTooLarge where torch runs out of memory.

    Args:
        run: the function.

    Returns:
        The same function with other errors.
    """

    def run_in_memory(*args: Any, **kwargs: Any) -> Any:
        try:
            return run(*args, **kwargs)
        except (RuntimeError, MemoryError) as error:
            is_known = isinstance(error, MemoryError) or any(
                text in str(error) for text in _OUT_OF_MEMORY
            )
            if not is_known:
                raise
            raise BatchTooLarge(str(error)) from None

    return run_in_memory


def free_memory() -> None:
    """Free what a trial has left on the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def by_doubling(fits: Callable[[int], bool], first: int, trials: int, most: int) -> int:
    """Double the batch size until it does not fit.

    Args:
        fits: tries a size.
        first: the first size.
        trials: number of sizes to try.
        most: the largest size to try.

    Returns:
        The largest size that was tried and fits.

    Raises:
        UsageError: not even the smallest does.
    """
    size, largest = first, 0
    for _ in range(trials):
        if fits(size):
            largest = size
            if size >= most:
                break
            size = min(2 * size, most)
        elif largest or size == 1:
            break
        else:
            size //= 2
    return _checked(largest, size)


def by_halving(fits: Callable[[int], bool], first: int, trials: int, most: int) -> int:
    """Double the batch size until it does not fit, and halve the distance from then on.

    Args:
        fits: tries a size.
        first: the first size.
        trials: number of sizes to try.
        most: the largest size to try.

    Returns:
        The largest size that was tried and fits.

    Raises:
        UsageError: not even the smallest does.
    """
    size, largest, too_large = first, 0, most + 1
    for _ in range(trials):
        if fits(size):
            largest = size
        else:
            too_large = size
        if too_large - largest <= 1:
            break
        halfway = (largest + too_large) // 2
        size = halfway if too_large <= most else min(2 * size, most)
    return _checked(largest, size)


def _checked(largest: int, size: int) -> int:
    if not largest:
        raise UsageError(f"scale_batch_size: a batch of {size} does not fit into memory")
    return largest
