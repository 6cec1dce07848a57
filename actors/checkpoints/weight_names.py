"""Names of weights without what ``torch.compile`` puts into them.

A compiled part is wrapped in a module whose only child is called ``_orig_mod``; it is no part of a
name in checkpoints, so that what was trained compiled loads where it is not, and the reverse.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import nn

_WRAPPER = re.compile(r"(?:(?<=\.)|^)_orig_mod(?:\.|$)")


def plain_name(name: str) -> str:
    """A name without the wrappers."""
    return _WRAPPER.sub("", name).removesuffix(".") if "_orig_mod" in name else name


def plain_names(state: Mapping[str, Any]) -> dict[str, Any]:
    """What has names of weights as keys, without the wrappers."""
    return {plain_name(name): value for name, value in state.items()}


def named_as_in(module: nn.Module, state: Mapping[str, Any]) -> dict[str, Any]:
    """Weights under the names that they have in a module, which may be compiled or not.

    Args:
        module: the module.
        state: weights by name, with or without wrappers.
    """
    own = {plain_name(name): name for name in module.state_dict()}
    return {own.get(plain_name(name), name): value for name, value in state.items()}


def wrapped_by(value: Any) -> Any:
    """What a compiled module is without its wrapper; anything else is what it is."""
    inner = getattr(value, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else value


def uncompiled(model: Any) -> Any:
    """The module that ``torch.compile(module)`` wraps, whose calls are compiled from now on; what
    is not wrapped is what it is.
    """
    inner = wrapped_by(model)
    if inner is model or not hasattr(model, "dynamo_ctx"):
        return model
    if inner._compiled_call_impl is None:
        inner._compiled_call_impl = model.dynamo_ctx(inner._call_impl)  # as inner.compile() does
    return inner
