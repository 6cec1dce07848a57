"""CombinedLoader: reads several dataloaders together."""

import os
from collections import UserList, deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, get_args

from torch.utils.data import Dataset

from ...bus.errors import ArgumentTypeError, CheckpointError, UsageError
from ..arguments import described
from .position import DataReader, begin_pass
from .worker_seeds import PassKey

CombineMode = Literal["max_size_cycle", "min_size", "max_size", "sequential"]
COMBINE_MODES: tuple[CombineMode, ...] = get_args(CombineMode)
_ENDED = object()


class CombinedLoader:
    """Reads several dataloaders together: each batch has the collection's structure.

    Args:
        loaders: a list, tuple, deque or dict of loaders, in any nesting. A list of
            numbers is a loader.
        mode: ``min_size`` ends with the shortest loader; ``max_size_cycle`` repeats shorter ones
            until the longest ends; ``max_size`` ends with the longest, with None where a loader has
            ended; ``sequential`` reads one loader after the other.
        iterables: Lightning's name for ``loaders``.

    A loop over it gets, for each batch, the batch, its index, and that of its dataloader, which is
    0 unless loaders are read one after the other; the index of the batch begins anew with each.

    Raises:
        UsageError: there is no loader, or no such mode.
    """

    def __init__(
        self, loaders: Any = (), mode: CombineMode = "min_size", *, iterables: Any = None
    ) -> None:
        loaders = loaders if iterables is None else iterables
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

    @property
    def iterables(self) -> Any:
        """The collection of loaders."""
        return self.loaders

    @property
    def flattened(self) -> list[Any]:
        """The loaders of the collection, in order.

        Others can be assigned, as many, which take their places in the collection.
        """
        return self.flat

    @flattened.setter
    def flattened(self, loaders: list[Any]) -> None:
        if len(loaders) != len(self.flat):
            raise UsageError(
                f"flattened = a list of {len(loaders)}: the collection has {len(self.flat)} loaders"
            )
        for loader in loaders:
            check_loader(loader, "a collection of dataloaders")
        self.loaders, self.flat = like(self.loaders, iter(loaders)), list(loaders)

    def with_each(self, change: Callable[[Any], Any]) -> "CombinedLoader":
        """Return the same collection of changed loaders.

        Args:
            change: returns what takes the place of a loader.
        """
        return CombinedLoader(like(self.loaders, map(change, self.flat)), self.mode)

    def __len__(self) -> int:
        lengths = [num_batches(loader) for loader in self.flat]
        known = [length for length in lengths if length is not None]
        if self.mode == "min_size" and known:
            return min(known)
        if len(known) < len(lengths):
            raise TypeError("a loader has no length")
        return sum(known) if self.mode == "sequential" else max(known)

    def __iter__(self) -> Iterator[tuple[Any, int, int]]:
        return _with_indices(CombinedReader(self))  # whose workers begin at once


class CombinedReader:
    """Reads one pass over a CombinedLoader, and keeps the position in each loader.

    Args:
        combined: the loader.
        state: of a pass to continue, from ``state_dict``; without it, a new pass begins.
        key: of a new pass, if workers are seeded for each batch; a state has its own.

    Attributes:
        loader_idx: with ``sequential``, index of the loader whose batch was read last; otherwise 0.

    Raises:
        CheckpointError: the state belongs to other loaders.
    """

    def __init__(
        self,
        combined: CombinedLoader,
        state: Mapping[str, Any] | None = None,
        key: PassKey | None = None,
    ) -> None:
        self._combined = combined
        self._key = key if state is None else state.get("key")
        loaders, number = combined.flat, len(combined.flat)
        states: list[Any] = [None] * number if state is None else state.get("readers", [])
        if len(states) != number:
            raise CheckpointError(
                f"the checkpoint's position is one in {len(states)} dataloaders read together; "
                f"here are {number}"
            )
        self._ended = [False] * number if state is None else list(state["ended"])
        self.loader_idx = 0
        in_turn = combined.mode == "sequential"
        self._readers = [
            None
            if in_turn and reader_state is None and (state is not None or idx > 0)
            else _reader(loader, reader_state, _key_of(idx, self._key))
            for idx, (loader, reader_state) in enumerate(zip(loaders, states, strict=True))
        ]

    def __iter__(self) -> "CombinedReader":
        return self

    def __next__(self) -> Any:
        if self._combined.mode == "sequential":
            return self._next_in_turn()
        batches = [self._next_of(number) for number in range(len(self._readers))]
        if all(self._ended) or (self._combined.mode == "min_size" and any(self._ended)):
            raise StopIteration
        return like(self._combined.loaders, iter(batches))

    def _next_in_turn(self) -> Any:
        loaders = self._combined.flat
        for number, loader in enumerate(loaders):
            if self._ended[number]:
                continue
            reader = self._readers[number]
            if reader is None:
                key = _key_of(number, self._key)
                reader = self._readers[number] = _reader(loader, None, key)
            batch = next(reader, _ENDED)
            if batch is not _ENDED:
                self.loader_idx = number
                return batch
            self._ended[number] = True
        raise StopIteration

    def _next_of(self, number: int) -> Any:
        """Return the next batch of one of several loaders; None if it has ended."""
        mode = self._combined.mode
        if self._ended[number] and mode == "max_size":
            return None
        if mode == "min_size" and any(self._ended):
            return None
        reader = self._readers[number]
        assert reader is not None
        batch = next(reader, _ENDED)
        if batch is not _ENDED:
            return batch
        self._ended[number] = True
        if mode != "max_size_cycle" or all(self._ended):
            return None
        key = None if reader.key is None else (*reader.key[:-1], reader.key[-1] + 1)
        reader = self._readers[number] = _reader(self._combined.flat[number], None, key)
        batch = next(reader, _ENDED)
        if batch is _ENDED:
            raise UsageError(
                f"dataloader {number} of {len(self._readers)} has no batches, so it cannot be "
                "repeated until the longest ends"
            )
        return batch

    takes_back = False

    def close(self) -> None:
        """End the pass: nothing more of it is read."""
        self._ended = [True] * len(self._ended)
        for reader in self._readers:
            if reader is not None:
                reader.close()

    def state_dict(self, unused: int = 0) -> dict[str, Any]:
        """Return the position of the pass as plain data and tensors; see ``DataReader``."""
        return {
            "readers": [None if r is None else r.state_dict() for r in self._readers],
            "ended": list(self._ended),
            "key": self._key,
        }


class _Batches:
    """The batches of a CombinedLoader, alone."""

    def __init__(self, combined: CombinedLoader) -> None:
        self._combined = combined

    def __iter__(self) -> CombinedReader:
        return CombinedReader(self._combined)


def _reader(loader: Any, state: Mapping[str, Any] | None, key: PassKey | None) -> DataReader:
    """Return a reader of one of the loaders, which may be a CombinedLoader itself."""
    own = _Batches(loader) if isinstance(loader, CombinedLoader) else loader
    return DataReader(own, state, key)


def _with_indices(reader: CombinedReader) -> Iterator[tuple[Any, int, int]]:
    batch_idx = loader_idx = 0
    for batch in reader:
        if reader.loader_idx != loader_idx:
            batch_idx, loader_idx = 0, reader.loader_idx
        yield batch, batch_idx, loader_idx
        batch_idx += 1


def read(
    loader: Any, state: Mapping[str, Any] | None = None, key: PassKey | None = None
) -> "DataReader | CombinedReader":
    """Begin a pass over a loader, or continue one; see ``CombinedReader``.

    Args:
        loader: a loader, or a CombinedLoader.
        state: of a pass to continue; without it, a new pass begins.
        key: of a new pass, if workers are seeded for each batch.

    Returns:
        An iterator over batches with ``state_dict``.
    """
    if isinstance(loader, CombinedLoader):
        return CombinedReader(loader, state, key)
    return DataReader(loader, state, _key_of(0, key))


def pass_over(loader: Any) -> Iterator[Any]:
    """Return an iterator over the batches of a loader, for a pass that is not continued.

    Args:
        loader: a loader, or a CombinedLoader, of which a loop would get indices, too.
    """
    return CombinedReader(loader) if isinstance(loader, CombinedLoader) else begin_pass(loader)


def _key_of(number: int, key: PassKey | None) -> PassKey | None:
    """Return the key for one of several loaders in a pass, including how often it was restarted."""
    return None if key is None else (*key, number, 0)


def check_loader(loader: Any, where: str) -> Any:
    """Return a loader, after checking that it can be iterated over and may yield batches.

    Args:
        loader: what was given as a loader.
        where: what gave it, for errors.

    Raises:
        UsageError: it is data itself, or a class.
        ArgumentTypeError: it cannot.
    """
    parts = loader.flat if isinstance(loader, CombinedLoader) else [loader]
    for part in parts:
        if isinstance(part, str | bytes | os.PathLike) or hasattr(part, "__array__"):
            raise UsageError(
                f"{where} gave {described(part)}, which is data, not a loader of it; return a "
                "DataLoader, for tensors DataLoader(TensorDataset(inputs, labels), batch_size=...)"
            )
        if isinstance(part, type):
            raise UsageError(f"{where} gave {described(part)}")
        if isinstance(part, Dataset) and not hasattr(part, "__iter__"):
            raise UsageError(
                f"{where} gave {described(part)}, a dataset; expected a DataLoader: "
                "DataLoader(dataset, batch_size=...)"
            )
    if loader is None or not hasattr(loader, "__iter__"):
        raise ArgumentTypeError(
            f"{where} gave {described(loader)}; expected a DataLoader or another iterable of "
            "batches"
        )
    return loader


def _leaves(loaders: Any) -> Iterator[Any]:
    if isinstance(loaders, Mapping):
        for loader in loaders.values():
            yield from _leaves(loader)
    elif is_collection(loaders):
        for loader in loaders:
            yield from _leaves(loader)
    else:
        yield loaders


def is_collection(entry: Any) -> bool:
    """Return whether this is a list or the like of loaders, not one of batches that are numbers.

    Args:
        entry: anything.
    """
    return isinstance(entry, list | tuple | deque | UserList) and not (
        entry and all(isinstance(part, int | float) for part in entry)
    )


def like(shape: Any, batches: Iterator[Any]) -> Any:
    """Return a collection with other entries, in order.

    Args:
        shape: a list, tuple, named tuple or dict, in any nesting.
        batches: the entries.
    """
    if isinstance(shape, Mapping):
        return {key: like(value, batches) for key, value in shape.items()}
    if is_collection(shape):
        entries = (like(value, batches) for value in shape)
        make = getattr(type(shape), "_make", type(shape))  # of a named tuple
        return make(entries)
    return next(batches)


def num_batches(loader: Any) -> int | None:
    """Return how many batches a loader has; None if it does not know."""
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return None
