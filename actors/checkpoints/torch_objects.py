"""Modules, classes and functions of PyTorch, such as a loss, as plain parts in a checkpoint.

A file chooses among what PyTorch itself has, by a public name; nothing of it is called but the
``__init__`` of ``torch.nn.Module``.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

_PLACES: dict[str, Any] = {
    "nn": nn,
    "nn.functional": nn.functional,
    "optim": torch.optim,
    "optim.lr_scheduler": torch.optim.lr_scheduler,
}
"""Where public names are looked up, by what precedes them in ``torch``."""
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))
_HOOKS = tuple(name for name in _OF_EVERY_MODULE if name.endswith(("_hooks", "_hooks_with_kwargs")))
_PARTS = ("class", "training", "parameters", "buffers", "not_persistent", "modules", "attributes")


def is_module_of_torch(value: Any) -> bool:
    """Return whether a module, and all within it, is of ``torch.nn`` and can be put together again.

    It has no hooks, shares no weights within itself, and all its weights have a size. Recurrent
    ones keep references to their weights, which no checkpoint holds.

    Args:
        value: anything.
    """
    if not isinstance(value, nn.Module) or not is_public(type(value)):
        return False
    every = [module for _, module in value.named_modules(remove_duplicate=False)]
    weights = [weight for _, weight in value.named_parameters(remove_duplicate=False)]
    return (
        all(is_public(type(module)) for module in every)
        and not any(isinstance(module, nn.RNNBase) for module in every)
        and not any(vars(module)[name] for module in every for name in _HOOKS)
        and len(set(map(id, every))) == len(every)
        and len(set(map(id, weights))) == len(weights)
        and not any(map(is_lazy, [*weights, *value.buffers()]))
    )


def module_parts(module: nn.Module) -> dict[str, Any]:
    """Return the parts of a module.

    Args:
        module: one for which ``is_module_of_torch`` is true.
    """
    return {
        "class": type(module).__name__,
        "training": module.training,
        "parameters": {
            name: None if weight is None else [weight.detach(), weight.requires_grad]
            for name, weight in module._parameters.items()
        },
        "buffers": dict(module._buffers),
        "not_persistent": sorted(module._non_persistent_buffers_set),
        "modules": dict(module._modules),
        "attributes": {
            name: value for name, value in vars(module).items() if name not in _OF_EVERY_MODULE
        },
    }


def module_of(parts: Any) -> nn.Module:
    """Return the module with these parts.

    Raises:
        ValueError: there is no such class in ``torch.nn``, or the parts do not fit.
    """
    if not isinstance(parts, Mapping) or set(parts) != set(_PARTS):
        raise ValueError("its parts are not those of a module")
    kind = vars(nn).get(parts["class"])
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise ValueError(f"torch.nn has no module {str(parts['class'])[:50]!r}")
    module = kind.__new__(kind)
    nn.Module.__init__(module)
    for name, value in parts["attributes"].items():
        if name in _OF_EVERY_MODULE or callable(getattr(kind, name, None)):
            raise ValueError(f"{str(name)[:50]!r} is no attribute of its own")
        vars(module)[name] = value
    for name, pair in parts["parameters"].items():
        module.register_parameter(name, None if pair is None else _parameter(*pair))
    for name, value in parts["buffers"].items():
        module.register_buffer(name, value, persistent=name not in parts["not_persistent"])
    for name, value in parts["modules"].items():
        module.register_module(name, value)
    module.training = bool(parts["training"])
    return module


def _parameter(weight: Any, requires_grad: Any) -> nn.Parameter:
    if not isinstance(weight, Tensor):
        raise ValueError("a parameter is no tensor")
    return nn.Parameter(weight, bool(requires_grad))


def is_of_torch(value: Any) -> bool:
    """Return whether a value is a module that can be put together again, or a name of ``torch``.

    Args:
        value: anything.
    """
    return is_module_of_torch(value) or is_public(value)


def public_name(value: Any) -> str:
    """Return the name in ``torch`` of a class or function, such as ``nn.ReLU``; or "".

    Args:
        value: anything.
    """
    name, module = getattr(value, "__name__", None), getattr(value, "__module__", None)
    if not (isinstance(name, str) and isinstance(module, str) and callable(value)):
        return ""
    if name.startswith("_") or not module.startswith("torch."):  # private, or imported there
        return ""
    places = (place for place, within in _PLACES.items() if vars(within).get(name) is value)
    place = next(places, None)
    return "" if place is None else f"{place}.{name}"


def is_public(value: Any) -> bool:
    """Return whether a class or function has a public name in ``torch``."""
    return public_name(value) != ""


def called(name: Any) -> Any:
    """Return the class or function of that name.

    Raises:
        ValueError: there is none.
    """
    place, _, own = str(name).rpartition(".")
    found = vars(_PLACES[place]).get(own) if place in _PLACES else None
    if public_name(found) != name:
        raise ValueError(f"PyTorch has no {str(name)[:80]!r}")
    return found
