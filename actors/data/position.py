"""Reads training data with a position, so that a resumed epoch continues with its next batch."""

import time
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch.utils.data import IterableDataset

from ...bus.errors import CheckpointError
from ...bus.system.logging_setup import get_logger
from .loader_copy import copy_in_order, index_sampler, is_map_style
from .loader_workers import owned
from .rng import rng_state, set_rng_state
from .seeded_loader import forget_seeded, seeded_loader, seeded_rest, seeds_workers
from .shard_sampler import ShardSampler
from .worker_seeds import PassKey

_log = get_logger("nightbus.data", of_all_ranks=True)
_TOLD_AFTER_S = 1.0


class DataReader:
    """Reads one pass over a loader, and keeps its position.

    A checkpoint needs, by kind of loader:

    - one with ``state_dict`` and ``load_state_dict`` (torchdata's StatefulDataLoader): its state;
    - a DataLoader over a map-style dataset: the random states when the pass began and when its
      first batch was requested, which give the same order, and the number of batches, which are
      skipped without loading them;
    - anything else: the same, and the batches are read and dropped.

    A DataLoader's workers draw random numbers of their own: augmentations differ after a resume,
    unless the workers are seeded for each batch.

    Args:
        loader: an iterable of batches.
        state: of a pass to continue, from ``state_dict``; without it, a new pass begins.
        key: of a new pass, if workers are seeded for each batch; a state has its own.

    Attributes:
        key: of the pass.

    Raises:
        CheckpointError: the data ends before the position, or the state belongs to another loader.
    """

    def __init__(
        self, loader: Any, state: Mapping[str, Any] | None = None, key: PassKey | None = None
    ) -> None:
        self._loader = loader
        self._read = 0
        self.key = key
        if is_stateful(loader):
            if state is not None:
                if "loader" not in state:
                    raise _other_loader(loader)
                loader.load_state_dict(state["loader"])
                self._read = state["batches"]
            self._iterator: Iterator[Any] = owned(iter(loader))
        elif state is None:
            self._is_warm = is_warm(loader)
            self._draws_as_alone = False
            self._began = self._first = rng_state()
            self._generators = [generator.get_state() for generator in generators_of(loader)]
            self._iterator = begin_pass(loader, key)
        else:
            self._resume(state)

    @property
    def takes_back(self) -> bool:
        """True if ``state_dict`` can return the position of some batches ago."""
        return not is_stateful(self._loader)

    def __iter__(self) -> "DataReader":
        return self

    def __next__(self) -> Any:
        if not self._read:
            self._first = rng_state()  # other loaders may have drawn since
        batch = next(self._iterator)
        self._read += 1
        return batch

    def state_dict(self, unused: int = 0) -> dict[str, Any]:
        """Return the position of the pass as plain data and tensors.

        Args:
            unused: number of batches that were read and not used; only if ``takes_back``.
        """
        if is_stateful(self._loader):
            return {"loader": self._loader.state_dict(), "batches": self._read - unused}
        return {
            "began": self._began,
            "first": self._first,
            "is_warm": self._is_warm,
            "generators": self._generators,
            "batches": self._read - unused,
            "key": self.key,
            "draws_as_alone": self._draws_as_alone,
        }

    def close(self) -> None:
        """End the pass: nothing more of it is read."""
        end_pass(self._iterator)
        self._iterator = iter(())

    def _resume(self, state: Mapping[str, Any]) -> None:
        if "began" not in state:
            raise _other_loader(self._loader)
        self._began, self._first = state["began"], state["first"]
        self._generators, self._is_warm = state["generators"], state["is_warm"]
        self.key = state.get("key")
        self._draws_as_alone = state.get("draws_as_alone", False)
        for sampler in samplers_of(self._loader):
            if isinstance(sampler, ShardSampler):
                sampler.draws_as_alone = self._draws_as_alone
        generators = generators_of(self._loader)
        if len(generators) != len(self._generators):
            raise _other_loader(self._loader)
        now = rng_state()
        set_rng_state(self._began)
        for generator, began in zip(generators, self._generators, strict=True):
            generator.set_state(began)
        batches = state["batches"]
        self._read = batches
        if is_map_style(self._loader):
            remaining = _Remaining(index_sampler(self._loader), batches)
            if self.key is not None and seeds_workers(self._loader):
                rest = seeded_rest(self._loader, self.key, remaining, batches)
            else:
                rest = copy_in_order(self._loader, remaining, persistent_workers=False)
            if self._is_warm:
                rest.generator = torch.Generator()  # for what workers draw when they start
            self._iterator = owned(iter(rest))
            keep_warm(self._loader)
            set_rng_state(self._first)
            remaining.start()
        else:
            self._iterator = owned(iter(self._loader))
            set_rng_state(self._first)
            _drop(self._iterator, batches, self._loader)
        set_rng_state(now)


# Loaders with persistent workers that existed when the run was saved.
_warm: "weakref.WeakSet[Any]" = weakref.WeakSet()


def is_warm(loader: Any) -> bool:
    """Return whether persistent workers exist, or did when the run was saved."""
    if not getattr(loader, "persistent_workers", False):
        return False
    return loader in _warm or getattr(loader, "_iterator", None) is not None


def keep_warm(loader: Any) -> None:
    """Record that a loader's workers existed when the run was saved."""
    if getattr(loader, "persistent_workers", False):
        _warm.add(loader)


def end_workers(loader: Any) -> None:
    """End persistent workers, except for a loader with a state, which manages its own.

    They are started again for the next pass, as those of a resumed run are.
    """
    if is_stateful(loader) or not is_warm(loader):
        return
    keep_warm(loader)
    for read in (loader, *forget_seeded(loader)):
        iterator = getattr(read, "_iterator", None)
        read._iterator = None
        _shut_down(iterator)


def end_pass(iterator: Any) -> None:
    """End a pass, perhaps before its end, and its workers unless they are persistent."""
    if isinstance(iterator, Generator):
        iterator.close()
    elif not getattr(iterator, "_persistent_workers", False):
        _shut_down(iterator)


def _shut_down(iterator: Any) -> None:
    """End the worker processes of torch's iterator over a DataLoader.

    An exception holds the frames that it went through, and so the iterator. Left to the garbage
    collector, which empties its queues before the workers are told to end, torch waits 5 s for each
    of them, in the middle of whatever is running then.
    """
    shut_down = getattr(iterator, "_shutdown_workers", None)
    if callable(shut_down):
        shut_down()


def end_new_workers(loaders: Iterable[Any]) -> Callable[[], None]:
    """Return a function that ends persistent workers of loaders that do not exist yet.

    The pass after it starts them as if there had been none.
    """
    waiting = [
        loader
        for loader in loaders
        if getattr(loader, "persistent_workers", False) and not is_stateful(loader)
        if getattr(loader, "_iterator", None) is None
    ]

    def end() -> None:
        for loader in waiting:
            iterator, loader._iterator = loader._iterator, None
            _shut_down(iterator)

    return end


def begin_pass(loader: Any, key: PassKey | None = None) -> Iterator[Any]:
    """Return an iterator over a loader.

    Args:
        loader: the loader.
        key: of the pass, if its workers are seeded for each batch.
    """
    had_workers = is_warm(loader)
    if key is not None and seeds_workers(loader):
        keep_warm(loader)
        loader = seeded_loader(loader, key)
    if not had_workers or loader._iterator is not None:
        return owned(iter(loader))
    # Persistent workers draw a random number when they start, which the saved run did long ago. To
    # continue as that run, another generator provides it.
    generator, loader.generator = loader.generator, torch.Generator()
    try:
        return owned(iter(loader))
    finally:
        loader.generator = generator


def is_stateful(loader: Any) -> bool:
    """Return whether a loader keeps its own position."""
    return hasattr(loader, "state_dict") and hasattr(loader, "load_state_dict")


class _Remaining:
    """A sampler without its first entries.

    The order is drawn when the sampler alone would draw it; otherwise it would differ. Most
    samplers draw it when the first entry is requested, some when an iterator is.
    """

    def __init__(self, sampler: Iterable[Any], passed: int) -> None:
        self._sampler = sampler
        self._passed = passed
        self._iterator: Iterator[Any] = iter(())

    def __iter__(self) -> Iterator[Any]:
        self._iterator = iter(self._sampler)
        return self

    def __next__(self) -> Any:
        self.start()
        return next(self._iterator)

    def start(self) -> None:
        """Skip the first entries, if this was not done yet."""
        wanted, self._passed = self._passed, 0
        passed = sum(1 for _ in islice(self._iterator, wanted))
        if passed < wanted:
            raise _too_short(passed, wanted)


def _drop(iterator: Iterator[Any], number: int, loader: Any) -> None:
    """Read and drop batches, and log the cost."""
    begin_s = time.monotonic()
    dropped = sum(1 for _ in islice(iterator, number))
    took_s = time.monotonic() - begin_s
    if dropped < number:
        raise _too_short(dropped, number)
    if took_s > _TOLD_AFTER_S or isinstance(getattr(loader, "dataset", None), IterableDataset):
        _log.warning(
            "batches were read again and dropped to reach the position; a loader with state_dict "
            "and load_state_dict, such as torchdata's StatefulDataLoader, reaches it at once",
            batches=number,
            took_s=round(took_s, 1),
        )


def generators_of(loader: Any) -> list[torch.Generator]:
    """Return the generators that a loader and its samplers draw from, each once."""
    found: dict[int, torch.Generator] = {}
    for owner in (loader, *samplers_of(loader)):
        generator = getattr(owner, "generator", None)
        if isinstance(generator, torch.Generator):
            found[id(generator)] = generator
    return list(found.values())


def set_epoch(loader: Any, epoch: int) -> None:
    """Pass the epoch to a loader's samplers that have ``set_epoch``, before they are read.

    Args:
        loader: the loader.
        epoch: the epoch, from 0.
    """
    for sampler in samplers_of(loader):
        set_epoch = getattr(sampler, "set_epoch", None)
        if callable(set_epoch):
            set_epoch(epoch)


def samplers_of(loader: Any) -> list[Any]:
    """Return a loader's samplers, each once."""
    batch_sampler = getattr(loader, "batch_sampler", None)
    samplers = [getattr(loader, "sampler", None), batch_sampler]
    samplers.append(getattr(batch_sampler, "sampler", None))
    # They may not be hashable.
    return list({id(sampler): sampler for sampler in samplers if sampler is not None}.values())


def _too_short(found: int, wanted: int) -> CheckpointError:
    return CheckpointError(
        f"the data ends after {found} batches, before the {wanted} that the checkpoint's epoch had "
        "used; resume with the same data, or from a checkpoint between two epochs"
    )


def _other_loader(loader: Any) -> CheckpointError:
    return CheckpointError(
        f"the checkpoint's position in the data does not fit this {type(loader).__name__}; "
        "resume with the same kind of loader, or from a checkpoint between two epochs"
    )
