"""Types of Python, NumPy and torch that a checkpoint holds as a name and plain parts."""

import uuid
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from datetime import date, time, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

import numpy as np
import torch

from .torch_objects import called, is_module_of_torch, module_of, module_parts, public_name


class Standard(NamedTuple):
    """The encoding of a type.

    Attributes:
        name: its name in checkpoints.
        kind: the type; subclasses do not count.
        parts: returns a value that a checkpoint can hold, for an instance.
        made: returns an instance for such a value.
        fits: tells whether an instance can be encoded so; if not, it is treated as its base, or
            refused.
    """

    name: str
    kind: type
    parts: Callable[[Any], Any]
    made: Callable[[Any], Any]
    fits: Callable[[Any], bool] = lambda value: True


def dtype_text(dtype: np.dtype[Any]) -> Any:
    """Return a NumPy dtype as plain data; for a structured one, its fields."""
    return dtype.str if dtype.names is None else [list(field) for field in dtype.descr]


def dtype_of(text: Any) -> np.dtype[Any]:
    """Return the dtype that ``dtype_text`` encoded.

    Raises:
        ValueError: its values are Python objects.
    """
    if isinstance(text, str):
        found = np.dtype(text)
    else:
        found = np.dtype([(f[0], dtype_of(f[1]), *(tuple(n) for n in f[2:])) for f in text])
    if found.hasobject:
        raise ValueError("an array of Python objects")
    return found


def is_plain_dtype(dtype: np.dtype[Any]) -> bool:
    """Return whether ``dtype_text`` encodes all of it; it does not for types of other packages."""
    if dtype.hasobject:
        return False
    try:
        return dtype_of(dtype_text(dtype)) == dtype
    except (TypeError, ValueError):
        return False


_FACTORIES: dict[str, Callable[[], Any] | None] = {
    "None": None,
    "bool": bool,
    "bytes": bytes,
    "dict": dict,
    "float": float,
    "int": int,
    "list": list,
    "set": set,
    "str": str,
    "tuple": tuple,
}


def _name_of_factory(factory: Any) -> str | None:
    return next((name for name, known in _FACTORIES.items() if known is factory), None)


def _defaultdict(parts: Any) -> defaultdict[Any, Any]:
    name, items = parts
    return defaultdict(_FACTORIES[name], items)


def _counter(items: Any) -> Counter[Any]:
    counter: Counter[Any] = Counter()
    dict.update(
        counter, items
    )  # Counter's own adds up, which fails for values that are not numbers
    return counter


def _generator(state: Any) -> torch.Generator:
    generator = torch.Generator()
    generator.set_state(state)
    return generator


def _time_zone(parts: Any) -> timezone:
    offset, name = parts
    return timezone(offset) if name is None else timezone(offset, name)


def _zone_parts(zone: timezone) -> list[Any]:
    arguments = zone.__getinitargs__()  # type: ignore[attr-defined]  # offset, and name if given
    return [arguments[0], arguments[1] if len(arguments) > 1 else None]


STANDARD = (
    Standard("date", date, date.isoformat, date.fromisoformat),
    Standard("time", time, time.isoformat, time.fromisoformat),
    Standard("timezone", timezone, _zone_parts, _time_zone),
    Standard("Decimal", Decimal, str, Decimal),
    Standard("Fraction", Fraction, lambda f: [f.numerator, f.denominator], lambda p: Fraction(*p)),
    Standard("UUID", uuid.UUID, str, uuid.UUID),
    Standard("range", range, lambda r: [r.start, r.stop, r.step], lambda p: range(*p)),
    Standard("slice", slice, lambda s: [s.start, s.stop, s.step], lambda p: slice(*p)),
    Standard("Ellipsis", type(...), lambda _: None, lambda _: ...),
    Standard("bytearray", bytearray, bytes, bytearray),
    Standard("PurePosixPath", PurePosixPath, str, PurePosixPath),
    Standard("PureWindowsPath", PureWindowsPath, str, PureWindowsPath),
    # torch's state_dict() is an OrderedDict with attributes that checkpoints drop: kept as a dict.
    Standard("OrderedDict", OrderedDict, dict, OrderedDict, lambda d: not hasattr(d, "_metadata")),
    Standard("Counter", Counter, dict, _counter),
    Standard(
        "defaultdict",
        defaultdict,
        lambda d: [_name_of_factory(d.default_factory), dict(d)],
        _defaultdict,
        lambda d: _name_of_factory(d.default_factory) is not None,
    ),
    Standard("torch.Size", torch.Size, list, torch.Size),
    Standard(
        "torch.Generator",
        torch.Generator,
        torch.Generator.get_state,
        _generator,
        lambda generator: generator.device.type == "cpu",
    ),
    Standard("numpy.dtype", np.dtype, dtype_text, dtype_of, is_plain_dtype),
)
_MODULE = Standard("torch.nn.Module", torch.nn.Module, module_parts, module_of, is_module_of_torch)
_NAME = Standard("torch", object, public_name, called, lambda value: public_name(value) != "")
"""These are found by more than their type."""

_BY_TYPE = {entry.kind: entry for entry in STANDARD}
_BY_NAME = {entry.name: entry for entry in (*STANDARD, _MODULE, _NAME)}


def standard_for(value: Any) -> Standard | None:
    """Return the encoding of a value, if it is of one of these types."""
    if isinstance(value, torch.nn.Module):
        entry: Standard | None = _MODULE
    elif callable(value):
        entry = _NAME
    else:
        entry = _BY_TYPE.get(np.dtype if isinstance(value, np.dtype) else type(value))
    return entry if entry is not None and entry.fits(value) else None


def made_of_parts(content: Any) -> Any:
    """Return an instance of a type in ``STANDARD``.

    Args:
        content: its name and its parts.

    Raises:
        ValueError: there is no such type, or the parts do not fit.
    """
    name, parts = content
    entry = _BY_NAME.get(name)
    if entry is None:
        raise ValueError(f"a {str(name)[:50]!r}, which this version does not know")
    try:
        return entry.made(parts)
    except Exception as error:
        raise ValueError(f"a {name} that is none: {error}") from error
