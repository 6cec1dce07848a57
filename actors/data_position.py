"""Reading training data with a position, so that a resumed epoch goes on with its next batch."""

import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from ..bus.errors import CheckpointError
from ..bus.logging_setup import get_logger
from .rng import rng_state, set_rng_state

_log = get_logger("nightbus.data")
_TOLD_AFTER_S = 1.0


class DataReader:
    """Reads one pass over a loader, and knows how far it is.

    What a checkpoint needs to go on, by loader:

    - one with ``state_dict`` and ``load_state_dict`` (torchdata's StatefulDataLoader): its state;
    - a DataLoader over a map-style dataset: the random states with which the pass began and its
      first batch was asked for, which give the same order, and the number of batches, which are
      passed over without loading them;
    - anything else: the same, and the batches are read and dropped.

    A DataLoader's workers draw their own random numbers: augmentations that do so are other ones
    after a resume, unless the loader keeps their state.

    Args:
        loader: an iterable of batches.
        state: of a pass to go on with, from ``state_dict``; a new pass begins without it.

    Raises:
        CheckpointError: the data ends before the position, or the state is of another loader.
    """

    def __init__(self, loader: Any, state: Mapping[str, Any] | None = None) -> None:
        self._loader = loader
        self._read = 0
        if is_stateful(loader):
            if state is not None:
                if "loader" not in state:
                    raise _other_loader(loader)
                loader.load_state_dict(state["loader"])
                self._read = state["batches"]
            self._iterator: Iterator[Any] = iter(loader)
        elif state is None:
            self._began = self._first = rng_state()
            self._generators = [generator.get_state() for generator in generators_of(loader)]
            self._iterator = iter(loader)
        else:
            self._resume(state)

    @property
    def takes_back(self) -> bool:
        """Whether ``state_dict`` can say where it was some batches ago."""
        return not is_stateful(self._loader)

    def __iter__(self) -> "DataReader":
        return self

    def __next__(self) -> Any:
        if not self._read:
            self._first = rng_state()  # other loaders that are read too may have drawn since
        batch = next(self._iterator)
        self._read += 1
        return batch

    def state_dict(self, unused: int = 0) -> dict[str, Any]:
        """Where the pass is: plain data and tensors.

        Args:
            unused: how many of the batches that were read have not been used; only where
                ``takes_back``.
        """
        if is_stateful(self._loader):
            return {"loader": self._loader.state_dict(), "batches": self._read - unused}
        return {
            "began": self._began,
            "first": self._first,
            "generators": self._generators,
            "batches": self._read - unused,
        }

    def _resume(self, state: Mapping[str, Any]) -> None:
        if "began" not in state:
            raise _other_loader(self._loader)
        self._began, self._first = state["began"], state["first"]
        self._generators = state["generators"]
        generators = generators_of(self._loader)
        if len(generators) != len(self._generators):
            raise _other_loader(self._loader)
        now = rng_state()
        set_rng_state(self._began)
        for generator, began in zip(generators, self._generators, strict=True):
            generator.set_state(began)
        batches = state["batches"]
        self._read = batches
        if _is_map_style(self._loader):
            remaining = _Remaining(_index_sampler(self._loader), batches)
            self._iterator = iter(_with_sampler(self._loader, remaining))
            set_rng_state(self._first)
            remaining.start()
        else:
            self._iterator = iter(self._loader)
            set_rng_state(self._first)
            _drop(self._iterator, batches, self._loader)
        set_rng_state(now)


def is_stateful(loader: Any) -> bool:
    """Whether a loader keeps its own position."""
    return hasattr(loader, "state_dict") and hasattr(loader, "load_state_dict")


class _Remaining:
    """A sampler without its first entries. The order is drawn when the first of them is asked for,
    as without it: that is what makes it the same order.
    """

    def __init__(self, sampler: Iterable[Any], passed: int) -> None:
        self._sampler = sampler
        self._passed = passed
        self._iterator: Iterator[Any] | None = None

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        self.start()
        assert self._iterator is not None
        return next(self._iterator)

    def start(self) -> None:
        """Pass over the first entries, if there are any and it was not done."""
        if self._iterator is None:
            self._iterator = iter(self._sampler)
            passed = sum(1 for _ in islice(self._iterator, self._passed))
            if passed < self._passed:
                raise _too_short(passed, self._passed)


def _drop(iterator: Iterator[Any], number: int, loader: Any) -> None:
    """Read and drop batches, and say what it costs."""
    begin_s = time.monotonic()
    dropped = sum(1 for _ in islice(iterator, number))
    took_s = time.monotonic() - begin_s
    if dropped < number:
        raise _too_short(dropped, number)
    if took_s > _TOLD_AFTER_S or isinstance(getattr(loader, "dataset", None), IterableDataset):
        _log.warning(
            "batches were read again and dropped to find the place to go on; a loader with "
            "state_dict and load_state_dict, torchdata's StatefulDataLoader say, is there at once",
            batches=number,
            took_s=round(took_s, 1),
        )


def _is_map_style(loader: Any) -> bool:
    # A subclass may read in its own way.
    return type(loader) is DataLoader and not isinstance(loader.dataset, IterableDataset)


def _index_sampler(loader: "DataLoader[Any]") -> Iterable[Any]:
    return loader.sampler if loader.batch_sampler is None else loader.batch_sampler


def _with_sampler(loader: "DataLoader[Any]", sampler: Iterable[Any]) -> "DataLoader[Any]":
    """The same DataLoader, in another order."""
    given: dict[str, Any] = {"batch_sampler": sampler}
    if loader.batch_sampler is None:
        given = {"sampler": sampler, "batch_size": None}
    return DataLoader(
        loader.dataset,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
        **given,
    )


def generators_of(loader: Any) -> list[torch.Generator]:
    """The generators that a loader and its samplers draw from, each once."""
    found: dict[int, torch.Generator] = {}
    batch_sampler = getattr(loader, "batch_sampler", None)
    samplers = [getattr(loader, "sampler", None), batch_sampler]
    samplers.append(getattr(batch_sampler, "sampler", None))
    for owner in (loader, *samplers):
        generator = getattr(owner, "generator", None)
        if isinstance(generator, torch.Generator):
            found[id(generator)] = generator
    return list(found.values())


def _too_short(found: int, wanted: int) -> CheckpointError:
    return CheckpointError(
        f"the data ends after {found} batches, before the {wanted} that the checkpoint's epoch had "
        "used; resume with the same data, or from a checkpoint between two epochs"
    )


def _other_loader(loader: Any) -> CheckpointError:
    return CheckpointError(
        f"the checkpoint's position in the data is not one of this {type(loader).__name__}; "
        "resume with the same kind of loader, or from a checkpoint between two epochs"
    )
