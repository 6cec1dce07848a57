"""Small conversions that code written for Lightning imports."""

import math
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from importlib import import_module
from typing import Any

import numpy as np
import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from ..actors import trees

_TRUE = ("y", "yes", "t", "true", "on", "1")
_FALSE = ("n", "no", "f", "false", "off", "0")


def str_to_bool(val: str) -> bool:
    """Return what a text of the command line says, such as ``yes`` or ``off``.

    Args:
        val: the text.

    Raises:
        ValueError: it says neither.
    """
    found = str_to_bool_or_str(val)
    if isinstance(found, bool):
        return found
    raise ValueError(f"{val!r} is neither true nor false; expected one of {(*_TRUE, *_FALSE)}")


def str_to_bool_or_str(val: str) -> str | bool:
    """Return what a text says, as a bool, or else the text.

    Args:
        val: the text.
    """
    said = val.lower()
    return said in _TRUE if said in (*_TRUE, *_FALSE) else val


def str_to_bool_or_int(val: str) -> bool | int | str:
    """Return what a text says, as a bool or an int, or else the text.

    Args:
        val: the text; 0 and 1 are bools.
    """
    found = str_to_bool_or_str(val)
    try:
        return found if isinstance(found, bool) else int(found)
    except ValueError:
        return found


def flatten_dict(source: Mapping[str, Any], result: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the entries of a mapping and of those in it, in one dict.

    Args:
        source: the mapping.
        result: a dict to add them to.
    """
    result = {} if result is None else result
    for key, value in source.items():
        if isinstance(value, Mapping):
            flatten_dict(value, result)
        else:
            result[key] = value
    return result


def convert_inf(x: float | None) -> float | None:
    """Return None for a number that is not finite, as tqdm wants its total.

    Args:
        x: the number; None stays.
    """
    return x if x is None or math.isfinite(x) else None


def convert_tensors_to_scalars(data: Any) -> Any:
    """Return a collection with a number for each tensor in it.

    Args:
        data: the collection.

    Raises:
        ValueError: a tensor has not one value.
    """

    def scalar(tensor: Tensor) -> Any:
        if tensor.numel() != 1:
            raise ValueError(f"a tensor of shape {tuple(tensor.shape)} is not a single number")
        return tensor.item()

    return trees.map_tensors(data, scalar)


def move_data_to_device(batch: Any, device: torch.device | str) -> Any:
    """Return a collection with the tensors in it, and whatever has a method ``to``, on a device.

    Args:
        batch: the collection.
        device: where to.
    """
    return trees.move_data_to_device(batch, torch.device(device))


def auto_move_data(function: Callable[..., Any]) -> Callable[..., Any]:
    """Have a module's method get its arguments on the module's device; a decorator.

    Args:
        function: the method, such as ``forward``.
    """

    @wraps(function)
    def moved(module: Any, *args: Any, **kwargs: Any) -> Any:
        device = module.device
        return function(
            module,
            *move_data_to_device(args, device),
            **{name: move_data_to_device(value, device) for name, value in kwargs.items()},
        )

    return moved


def convert_to_tensors(data: Any, device: torch.device | str) -> Any:
    """Return a collection with tensors for the numbers and NumPy arrays in it, on a device.

    Args:
        data: the collection.
        device: where to.
    """
    data = apply_to_collection(data, (bool, int, float), torch.tensor)
    return move_data_to_device(apply_to_collection(data, np.ndarray, torch.from_numpy), device)


def optimizer_to_device(optimizer: torch.optim.Optimizer, device: torch.device | str) -> None:
    """Move the state of an optimizer to a device.

    Args:
        optimizer: the optimizer.
        device: where to.
    """
    for parameter, state in optimizer.state.items():
        optimizer.state[parameter] = move_data_to_device(state, device)


def optimizers_to_device(
    optimizers: Iterable[torch.optim.Optimizer], device: torch.device | str
) -> None:
    """Move the states of optimizers to a device.

    Args:
        optimizers: the optimizers.
        device: where to.
    """
    for optimizer in optimizers:
        optimizer_to_device(optimizer, device)


def distributed_available() -> bool:
    """Return whether torch.distributed has been initialized in this process."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def multiplicative(epoch: int) -> float:
    """Return 2, by which BackboneFinetuning multiplies the backbone's rate in each epoch.

    Args:
        epoch: the epoch; makes no difference.
    """
    return 2.0


def get_torchvision_model(model_name: str, **kwargs: Any) -> Any:
    """Return a model of torchvision.

    Args:
        model_name: its name, such as ``resnet18``.
        **kwargs: its arguments, such as ``weights="DEFAULT"``.
    """
    return import_module("torchvision.models").get_model(model_name, **kwargs)
