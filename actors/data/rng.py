"""Seeds random number generators, and saves their states as plain data and tensors."""

import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from ...bus.errors import UsageError
from ...bus.system.logging_setup import get_logger
from .worker_seeds import seed_workers

_log = get_logger("nightbus.rng")

_SEED, _WORKERS = "PL_GLOBAL_SEED", "PL_SEED_WORKERS"


def seed_everything(seed: int | None = None, workers: bool = False, verbose: bool = True) -> int:
    """Seed Python's, NumPy's and torch's random number generators.

    The environment variables PL_GLOBAL_SEED and PL_SEED_WORKERS are set, for processes that this
    one starts and that call ``seed_everything()`` too.

    Args:
        seed: an int from 0 to 2**32 - 1; None for that of PL_GLOBAL_SEED, or 0 without it, which a
            warning says.
        workers: seed the workers of training loaders for each batch, with this seed and the batch's
            place in the run, so that random augmentations are the same with any number of workers,
            and after a resume. This applies to a DataLoader with workers, over a dataset with
            ``__getitem__``, without a ``worker_init_fn``; not to subclasses of DataLoader. See
            docs/checkpoints.md.
        verbose: log the seed.

    Returns:
        The seed.

    Raises:
        UsageError: it is out of range.
    """
    seed = _seed_of_environment() if seed is None else _checked(seed, "seed")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    seed_workers(seed if workers else None)
    os.environ.update({_SEED: str(seed), _WORKERS: str(int(workers))})
    if verbose:
        _log.info("random number generators are seeded", seed=seed)
    return seed


def reset_seed() -> None:
    """Seed as ``seed_everything`` did last, if it was called; as in Lightning 1.x."""
    if _SEED in os.environ:
        seed_everything(workers=os.environ.get(_WORKERS) == "1", verbose=False)


def _seed_of_environment() -> int:
    if (given := os.environ.get(_SEED)) is not None:
        return _checked(given, _SEED)
    _log.warning("no seed was given and PL_GLOBAL_SEED is not set: the seed is 0")
    return 0


def _checked(seed: Any, name: str) -> int:
    is_text = isinstance(seed, str) and seed.isascii() and seed.isdigit()
    number = int(seed) if is_text or isinstance(seed, np.integer) else seed
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 2**32:
        raise UsageError(f"{name}={seed!r}: expected an int from 0 to {2**32 - 1}")
    return number


def rng_state() -> dict[str, Any]:
    """Return the states of Python, NumPy, torch, and each CUDA or MPS device in use."""
    name, keys, position, has_gauss, cached = np.random.get_state()
    version, numbers, gauss = random.getstate()
    state: dict[str, Any] = {
        "python": (version, np.array(numbers, dtype=np.uint64).tobytes(), gauss),
        "numpy": (name, np.asarray(keys).tobytes(), position, has_gauss, cached),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state_all()
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Restore what ``rng_state`` returned."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(np.frombuffer(numbers, dtype=np.uint64).tolist()), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    keys = np.frombuffer(keys, dtype=np.uint32)
    np.random.set_state((name, keys, position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        for index, of_device in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(of_device, index)
    if "mps" in state and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])


@contextmanager
def undrawn() -> Iterator[None]:
    """Restore, at its end, the generators of Python, NumPy and torch."""
    before = rng_state()
    try:
        yield
    finally:
        set_rng_state(before)


@contextmanager
def undrawn_from(owners: Iterable[Any]) -> Iterator[None]:
    """Restore, at its end, generators that objects have as attributes.

    They may be torch's, NumPy's or Python's.

    Args:
        owners: the objects: loaders, samplers, datasets, modules and the like.
    """
    found = {id(value): value for owner in owners for value in list(_attributes_of(owner))}
    put_back = [restore for value in found.values() if (restore := _restores(value)) is not None]
    try:
        yield
    finally:
        for restore in put_back:
            restore()


def _attributes_of(owner: Any) -> Iterable[Any]:
    return getattr(owner, "__dict__", {}).values()


def _restores(generator: Any) -> Callable[[], object] | None:
    """Return a function that restores a generator's present state; None for other objects."""
    state: Any
    if isinstance(generator, torch.Generator):
        state = generator.get_state()
        return lambda: generator.set_state(state)
    if isinstance(generator, np.random.RandomState):
        state = generator.get_state()
        return lambda: generator.set_state(state)
    if isinstance(generator, np.random.Generator):
        bits = generator.bit_generator
        state = bits.state
        return lambda: setattr(bits, "state", state)
    if isinstance(generator, random.Random):
        state = generator.getstate()
        return lambda: generator.setstate(state)
    return None
