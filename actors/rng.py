"""States of all random number generators, as plain data and tensors."""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def rng_state() -> dict[str, Any]:
    """Of Python, NumPy, torch, and each CUDA or MPS device that is in use."""
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
    """Restore what ``rng_state`` gave."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(np.frombuffer(numbers, dtype=np.uint64).tolist()), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    keys = np.frombuffer(keys, dtype=np.uint32)
    np.random.set_state((name, keys, position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    if "mps" in state and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])
