"""Loads weights by names without what ``torch.compile`` puts into them.

A compiled part is wrapped in a module whose only child is named ``_orig_mod``. Checkpoints leave it
out, so that compiled and uncompiled modules can load each other's weights.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...bus.system.logging_setup import get_logger

_log = get_logger("nightbus.checkpoint")
_COMPRESSED = (torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)
_WRAPPER = re.compile(r"(?:(?<=\.)|^)_orig_mod(?:\.|$)")


def plain_name(name: str) -> str:
    """Return a name without the wrappers."""
    return _WRAPPER.sub("", name).removesuffix(".") if "_orig_mod" in name else name


def plain_names(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping with the wrappers removed from its keys."""
    return {plain_name(name): value for name, value in state.items()}


def named_as_in(module: nn.Module, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return weights under their names in a module, which may be compiled.

    Args:
        module: the module.
        state: weights by name, with or without wrappers.
    """
    own = {plain_name(name): name for name in module.state_dict()}
    return {own.get(plain_name(name), name): value for name, value in state.items()}


def load_weights(module: nn.Module, state: Mapping[str, Any], strict: bool = True) -> None:
    """Load the weights of a checkpoint.

    Args:
        module: the module, which may be compiled.
        state: content of the checkpoint. Entries that it could not hold keep their values.
        strict: refuse missing and unexpected weights.

    Raises:
        RuntimeError: they do not fit the module.
    """
    weights = named_as_in(module, state["state_dict"])
    prefix = "state_dict."
    places = [place for place in state.get("left_out", ()) if place.startswith(prefix)]
    if not weights and not strict and any(True for _ in module.parameters()):
        _log.warning(
            "the checkpoint contains no parameters: the module keeps those that it was made with",
            module=type(module).__name__,
        )
    _make_room_for_sparse(module, weights)
    if not strict or not places:
        module.load_state_dict(weights, strict=strict)
        return
    left_out = named_as_in(module, dict.fromkeys(place.removeprefix(prefix) for place in places))
    found = module.load_state_dict(weights, strict=False)
    missing = [name for name in found.missing_keys if name not in left_out]
    if missing or found.unexpected_keys:
        raise RuntimeError(f"missing: {missing}; unexpected: {found.unexpected_keys}")


def _make_room_for_sparse(module: nn.Module, weights: Mapping[str, Any]) -> None:
    """Give buffers as many entries as their values have, where torch copies only into as many.

    The number of entries of a graph, say, depends on the data. Only those of compressed layouts
    (CSR and its likes) need this, and only buffers get it: optimizers know parameters by identity.
    """
    made: dict[int, Tensor] = {}  # of a buffer under several names there remains one
    for name, buffer in list(module.named_buffers(remove_duplicate=False)):
        value = weights.get(name)
        if buffer.layout not in _COMPRESSED or not isinstance(value, Tensor):
            continue
        fits = (value.layout, value.shape) == (buffer.layout, buffer.shape)
        if fits and value._nnz() != buffer._nnz():
            owner, _, own = name.rpartition(".")
            found = made.setdefault(id(buffer), value.to(buffer.device, buffer.dtype))
            module.get_submodule(owner)._buffers[own] = found


def wrapped_by(value: Any) -> Any:
    """Return a compiled module without its wrapper; anything else as it is."""
    inner = getattr(value, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else value


def uncompiled(model: Any) -> Any:
    """Return the module that ``torch.compile(module)`` wraps, whose calls are compiled from now on.

    Anything else is returned as it is.
    """
    inner = wrapped_by(model)
    if inner is model or not hasattr(model, "dynamo_ctx"):
        return model
    if inner._compiled_call_impl is None:
        inner._compiled_call_impl = model.dynamo_ctx(inner._call_impl)  # like inner.compile()
    return inner
