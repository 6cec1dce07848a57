"""Tensors within what users make: batches, outputs of steps, predictions.

The containers are what Lightning's ``apply_to_collection`` takes for some: Mappings, lists, tuples,
NamedTuples and dataclasses, in any nesting, and moreover all that ``torch.utils._pytree`` knows
(deques, what torch's functions return, types that somebody registered). Such a one is made again
around its changed tensors, with its type, its order and whatever else it has. ``_pytree`` alone
would not do: it goes by exact types, so that a subclass of dict, a dataclass or a batch of a
tokenizer is a leaf to it, and it takes 5 to 10 times as long for a tuple or dict of tensors.
"""

import copy
from collections import UserDict, UserList, namedtuple
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import SUPPORTED_NODES

from ..bus.errors import UsageError

_Change = Callable[[Any], Any]
_CPU = torch.device("cpu")
# What most values beside tensors are, and what is no container.
_PLAIN = frozenset([type(None), bool, int, float, str, bytes])


def map_tensors(value: Any, change: _Change, move: _Change | None = None) -> Any:
    """Return a value with each tensor in it changed, in any nesting of containers.

    Args:
        value: a tensor, a container, or anything else, which is left as it is.
        change: what becomes of a tensor.
        move: what becomes of objects that are no tensors and have a method ``to``, containers or
            not; None to treat them like all others.

    Returns:
        The changed value; containers keep their type.

    Raises:
        UsageError: a container cannot be made again.
    """
    if isinstance(value, Tensor):
        return change(value)
    kind = type(value)
    if kind is dict:
        return {
            key: change(entry) if isinstance(entry, Tensor) else map_tensors(entry, change, move)
            for key, entry in value.items()
        }
    if kind is tuple or kind is list:
        changed = [
            change(entry) if isinstance(entry, Tensor) else map_tensors(entry, change, move)
            for entry in value
        ]
        return changed if kind is list else tuple(changed)
    if kind in _PLAIN:
        return value
    if move is not None and callable(getattr(kind, "to", None)):
        return move(value)
    return _made_again(value, lambda entry: map_tensors(entry, change, move))


def move_data_to_device(value: Any, device: torch.device) -> Any:
    """Return a value with each tensor in it on a device.

    Objects that are no tensors and have a method ``to`` are moved by it: a batch of graphs or of a
    tokenizer, a packed sequence.

    Args:
        value: tensors and such objects in any nesting of containers, see ``map_tensors``.
        device: the torch device.

    Returns:
        The moved value; containers keep their type.

    Raises:
        UsageError: a container cannot be made again.
    """
    kind = device.type
    non_blocking = kind != "cpu" and kind != "mps"  # whose copies are read without waiting for them
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=non_blocking)

    def move(movable: Any) -> Any:
        moved = movable.to(device)
        return movable if moved is None else moved

    return map_tensors(value, lambda tensor: tensor.to(device, non_blocking=non_blocking), move)


def as_tensors(value: Any, device: torch.device) -> Any:
    """Return a value with each number, array and tensor in it as a tensor on a device.

    Args:
        value: numbers, arrays and tensors in any nesting of containers; texts and the like are left
            as they are.
        device: the torch device.

    Returns:
        The changed value; containers keep their type.

    Raises:
        UsageError: a container cannot be made again.
    """
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, bool | int | float | np.ndarray | np.number | np.bool_):
        return torch.as_tensor(value, device=device)
    if type(value) in _PLAIN:
        return value
    return _made_again(value, lambda entry: as_tensors(entry, device))


def detached(value: Any) -> Any:
    """Return a value with each tensor in it detached from its graph."""
    return value.detach() if isinstance(value, Tensor) else map_tensors(value, _detach)


def on_cpu(value: Any) -> Any:
    """Return a value with each tensor in it detached and on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    return value if type(value) in _PLAIN else move_data_to_device(detached(value), _CPU)


def _detach(tensor: Tensor) -> Tensor:
    return tensor.detach()  # of its own class


def _made_again(value: Any, change: _Change) -> Any:
    """Return a container that is no plain list, tuple or dict with its entries changed."""
    is_named = isinstance(value, tuple) and hasattr(value, "_fields")
    node = SUPPORTED_NODES.get(namedtuple if is_named else type(value))  # type: ignore[arg-type]
    if node is not None:
        # Not by tree_map: its inner functions refer to themselves, and so keep what they have seen
        # until Python's garbage collector runs.
        entries, context = node.flatten_fn(value)
        return node.unflatten_fn([change(entry) for entry in entries], context)
    if is_dataclass(value) and not isinstance(value, type):
        return _dataclass_again(value, change)
    if isinstance(value, Mapping):
        return _rebuilt(value, {key: change(entry) for key, entry in value.items()})
    if isinstance(value, list | tuple | UserList):
        return _rebuilt(value, [change(entry) for entry in value])
    return value


def _rebuilt(value: Any, entries: Any) -> Any:
    """Return a container like another one, with other entries."""
    try:
        if isinstance(value, dict | UserDict):
            again: Any = copy.copy(value)  # with the attributes it has
            for key, entry in entries.items():
                again[key] = entry
        elif isinstance(value, list | UserList):
            again = copy.copy(value)
            again[:] = entries
        else:
            kind: Any = type(value)
            again = kind(entries)
    except TypeError as error:
        raise UsageError(
            f"a {type(value).__qualname__} cannot be made again around other tensors: {error}; "
            "give it a method to(device) or take a plain dict, list or tuple for it; batches "
            "can also be moved in transfer_batch_to_device"
        ) from error
    return again


def _dataclass_again(value: Any, change: _Change) -> Any:
    again = copy.copy(value)
    for field in fields(value):
        if field.init:  # frozen ones are changed too: nobody else has the copy yet
            object.__setattr__(again, field.name, change(getattr(value, field.name)))
    for name, entry in vars(type(value)).items():
        if isinstance(entry, cached_property):
            vars(again).pop(name, None)
    return again
