"""CombinedLoader: several dataloaders read together."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

from ..bus.errors import UsageError

CombineMode = Literal["max_size_cycle", "min_size", "max_size", "sequential"]
COMBINE_MODES: tuple[CombineMode, ...] = get_args(CombineMode)
_ENDED = object()


class CombinedLoader:
    """Several dataloaders read together: each batch has the collection's shape.

    Args:
        loaders: a list, tuple or dict of loaders, nested as you like.
        mode: ``max_size_cycle`` repeats shorter loaders until the longest ends; ``min_size`` ends
            with the shortest; ``max_size`` ends with the longest, with None where a loader has
            ended; ``sequential`` reads one loader after the other, and its batches are theirs.

    Raises:
        UsageError: there is no loader, or no such mode.
    """

    def __init__(self, loaders: Any, mode: CombineMode = "max_size_cycle") -> None:
        if mode not in COMBINE_MODES:
            raise UsageError(
                f"mode={mode!r}: expected one of {', '.join(map(repr, COMBINE_MODES))}"
            )
        self.loaders = loaders
        self.mode = mode
        self.flat = list(_leaves(loaders))
        if not self.flat:
            raise UsageError("a collection of dataloaders is empty")
        for loader in self.flat:
            check_loader(loader, "a collection of dataloaders")

    def __len__(self) -> int:
        lengths = [num_batches(loader) for loader in self.flat]
        known = [length for length in lengths if length is not None]
        if self.mode == "min_size" and known:
            return min(known)
        if len(known) < len(lengths):
            raise TypeError("a loader has no length")
        return sum(known) if self.mode == "sequential" else max(known)

    def __iter__(self) -> Iterator[Any]:
        if self.mode == "sequential":
            for loader in self.flat:
                yield from loader
            return
        iterators = [iter(loader) for loader in self.flat]
        ended = [False] * len(iterators)
        while True:
            batches: list[Any] = []
            for number, iterator in enumerate(iterators):
                batch = (
                    None if self.mode == "max_size" and ended[number] else next(iterator, _ENDED)
                )
                if batch is _ENDED:
                    ended[number] = True
                    if self.mode == "min_size":
                        return
                    if self.mode == "max_size":
                        batch = None
                    elif not all(ended):
                        iterators[number] = iter(self.flat[number])
                        batch = self._first_of(iterators[number], number)
                batches.append(batch)
            if all(ended):
                return
            yield _like(self.loaders, iter(batches))

    def _first_of(self, iterator: Iterator[Any], number: int) -> Any:
        batch = next(iterator, _ENDED)
        if batch is _ENDED:
            raise UsageError(
                f"dataloader {number} of {len(self.flat)} has no batches, so it cannot be repeated "
                "until the longest ends"
            )
        return batch


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


def num_batches(loader: Any) -> int | None:
    """How many batches a loader has; None when it cannot say."""
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return None
