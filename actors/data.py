"""Dataloaders: from whom, how many batches, in which combination."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from torch.utils.data import DataLoader, RandomSampler, SequentialSampler

from ..bus.errors import UsageError

CombineMode = Literal["max_size_cycle", "min_size"]


class CombinedLoader:
    """Several dataloaders read together: each batch has the collection's shape.

    Args:
        loaders: a list, tuple or dict of loaders, nested as you like.
        mode: ``max_size_cycle`` repeats shorter loaders until the longest ends; ``min_size``
            ends with the shortest.
    """

    def __init__(self, loaders: Any, mode: CombineMode = "max_size_cycle") -> None:
        self.loaders = loaders
        self.mode = mode
        self.flat = list(_leaves(loaders))
        if not self.flat:
            raise UsageError("a collection of dataloaders is empty")

    def __len__(self) -> int:
        lengths = [num_batches(loader) for loader in self.flat]
        known = [length for length in lengths if length is not None]
        if self.mode == "min_size":
            if not known:
                raise TypeError("no loader has a length")
            return min(known)
        if len(known) < len(lengths):
            raise TypeError("a loader has no length")
        return max(known)

    def __iter__(self) -> Iterator[Any]:
        iterators = [iter(loader) for loader in self.flat]
        ended = [False] * len(iterators)
        while True:
            batches = []
            for number, loader in enumerate(self.flat):
                try:
                    batch = next(iterators[number])
                except StopIteration:
                    ended[number] = True
                    if self.mode == "min_size" or all(ended):
                        return
                    iterators[number] = iter(loader)
                    batch = next(iterators[number])
                batches.append(batch)
            yield _like(self.loaders, iter(batches))


def _leaves(loaders: Any) -> Iterator[Any]:
    if isinstance(loaders, Mapping):
        for loader in loaders.values():
            yield from _leaves(loader)
    elif isinstance(loaders, list | tuple):
        for loader in loaders:
            yield from _leaves(loader)
    else:
        yield loaders


def _like(shape: Any, batches: Iterator[Any]) -> Any:
    if isinstance(shape, Mapping):
        return {key: _like(value, batches) for key, value in shape.items()}
    if isinstance(shape, list | tuple):
        return type(shape)(_like(value, batches) for value in shape)
    return next(batches)


def training_loader(loaders: Any) -> Any:
    """One loader for training out of one or a collection."""
    if isinstance(loaders, list | tuple | Mapping):
        if isinstance(loaders, list | tuple) and len(loaders) == 1:
            return training_loader(loaders[0])
        return CombinedLoader(loaders)
    return loaders


def evaluation_loaders(loaders: Any) -> list[Any]:
    """Loaders for evaluation, read one after the other."""
    if loaders is None:
        return []
    if isinstance(loaders, Mapping):
        return list(loaders.values())
    if isinstance(loaders, Sequence) and not isinstance(loaders, str):
        return list(loaders)
    return [loaders]


def num_batches(loader: Any) -> int | None:
    """How many batches a loader has; None when it cannot say."""
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return None


def limited(total: int | None, limit: float, name: str) -> int | None:
    """How many batches to take.

    Args:
        total: how many there are; None when that is unknown.
        limit: a number of batches (int) or a share (float).
        name: the argument, for the error.

    Raises:
        UsageError: a share of an unknown number was asked for.
    """
    if isinstance(limit, int) and not isinstance(limit, bool):
        return limit if total is None else min(limit, total)
    if limit == 1.0:
        return total
    if total is None and limit > 0:
        raise UsageError(
            f"{name}={limit} is a share, but the dataloader has no length; give a number of "
            "batches (an int)"
        )
    return int((total or 0) * limit)


def check_limit(name: str, limit: Any) -> Any:
    """A limit as given, if it makes sense.

    Raises:
        UsageError: it is neither a share between 0 and 1 nor a number of batches.
    """
    if isinstance(limit, bool) or not isinstance(limit, int | float) or limit < 0:
        raise UsageError(f"{name}={limit!r}: expected a number of batches, or a share 0.0 to 1.0")
    if isinstance(limit, float) and limit > 1.0:
        raise UsageError(
            f"{name}={limit!r}: a share is at most 1.0; for {limit:g} batches give an int"
        )
    return limit


def without_shuffling(loader: Any) -> Any:
    """The same loader in a fixed order, for overfitting on purpose."""
    if not isinstance(loader, DataLoader) or not isinstance(loader.sampler, RandomSampler):
        return loader
    return DataLoader(
        loader.dataset,
        batch_size=loader.batch_size,
        sampler=SequentialSampler(loader.dataset),  # type: ignore[arg-type]
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        drop_last=loader.drop_last,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        generator=loader.generator,
        persistent_workers=loader.persistent_workers,
    )


def check_loader(loader: Any, where: str) -> Any:
    """A loader as given, if it can be iterated over.

    Raises:
        UsageError: it cannot.
    """
    if loader is None or not hasattr(loader, "__iter__"):
        raise UsageError(
            f"{where} gave {type(loader).__name__}; expected a DataLoader or another iterable of "
            "batches"
        )
    return loader
