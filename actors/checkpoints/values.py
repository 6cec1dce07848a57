"""The values that a checkpoint's state may hold, and their encoding.

Everything is msgpack; types that msgpack lacks are extensions, with a code for each. A file never
decides which code is loaded: an enum's class must be imported, and a user's type registered, before
a checkpoint with one is read.
"""

import dataclasses
import sys
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from enum import Enum, Flag
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from torch import Tensor

from ...bus.errors import CheckpointError, UsageError
from ...bus.secrets.redaction import redact_setting
from ...bus.secrets.texts import STRUCK_OUT
from .tensors import (
    as_written,
    dtype_called,
    is_coalesced,
    is_written_as_it_is,
    layout_text,
    of_bytes,
    of_parts,
    parts_of_sparse,
    why_not,
)
from .types import dtype_of, dtype_text, is_plain_dtype, made_of_parts, standard_for

_TENSOR = 1
_TUPLE = 2
_ARRAY = 3
_NUMPY_SCALAR = 4
_ENUM = 5
_PATH = 6
_REGISTERED = 7
_SET = 8
_FROZENSET = 9
_COMPLEX = 10
_TIMEDELTA = 11
_DATETIME = 12
_BIG_INT = 13
_PAIRS = 14
_DEVICE = 15
_DTYPE = 16
_DEQUE = 17
_TENSOR_BYTES = 18
_FLAG = 19
_STANDARD = 20
_SURROGATES = 21
_SPARSE = 22

_encode = msgspec.msgpack.Encoder().encode
_Ext = msgspec.msgpack.Ext
_INT_RANGE = range(-(1 << 63), 1 << 64)
_BASES: tuple[Callable[[Any], Any], ...] = (str, int, float, bytes, list, tuple)
# Kinds that are written as a few bytes: how.
_IN_BYTES: tuple[tuple[type, int, Callable[[Any], bytes]], ...] = (
    (PurePath, _PATH, lambda path: str(path).encode("utf-8", "surrogateescape")),
    (complex, _COMPLEX, lambda number: _encode([number.real, number.imag])),
    (timedelta, _TIMEDELTA, lambda time: _encode([time.days, time.seconds, time.microseconds])),
    (datetime, _DATETIME, lambda time: time.isoformat().encode()),
    (torch.device, _DEVICE, lambda device: str(device).encode()),
    (torch.dtype, _DTYPE, lambda dtype: str(dtype).removeprefix("torch.").encode()),
)
_CARRIED = (
    "numbers, strings, bytes, None, tensors, NumPy arrays, enums, paths, dates and times, "
    "lists, tuples, deques, dicts and sets of these, modules of torch.nn, names of torch.nn and "
    "torch.optim, and types given to nightbus.register_type"
)


class _Registered(NamedTuple):
    name: str
    kind: type
    to_plain: Callable[[Any], Any]
    from_plain: Callable[[Any], Any]


_by_type: dict[type, _Registered] = {}
_by_name: dict[str, _Registered] = {}


def register_type(
    kind: type,
    to_plain: Callable[[Any], Any] | None = None,
    from_plain: Callable[[Any], Any] | None = None,
    name: str | None = None,
) -> None:
    """Let checkpoints hold instances of a type.

    Call it where the type is defined: it must have been called before a checkpoint with an instance
    is read, because a checkpoint never decides which code is loaded.

    Args:
        kind: the type; subclasses have to be registered themselves.
        to_plain: returns plain data and tensors for an instance. Not needed for dataclasses,
            NamedTuples and msgspec Structs, whose fields are kept.
        from_plain: returns an instance for such data.
        name: its name in checkpoints; its module and name by default. Set one to be able to move
            the class.

    Raises:
        UsageError: only one of the functions is given, or none for a type that needs them; or
            another type has the name.
    """
    if (to_plain is None) != (from_plain is None):
        raise UsageError(
            f"register_type({kind.__name__}): pass both to_plain and from_plain, or neither"
        )
    if to_plain is None or from_plain is None:
        to_plain, from_plain = _by_fields(kind)
    entry = _Registered(
        name or f"{kind.__module__}.{kind.__qualname__}", kind, to_plain, from_plain
    )
    other = _by_name.get(entry.name)
    if other is not None and _is_another(other.kind, kind):
        raise UsageError(
            f"register_type({kind.__name__}): {other.kind.__module__}.{other.kind.__qualname__} is "
            f"named {entry.name!r} in checkpoints already; choose another name"
        )
    _by_type[kind] = _by_name[entry.name] = entry


def _is_another(known: type, kind: type) -> bool:
    """Return whether it is not the same class, defined again by a reload or in a notebook."""
    return (known.__module__, known.__qualname__) != (kind.__module__, kind.__qualname__)


def is_registered(kind: type) -> bool:
    """Return whether ``register_type`` was called for a type."""
    return kind in _by_type


def registered_without_secrets(value: Any) -> Any:
    """Return the value, redacted if it is of a registered type with a secret in its data."""
    entry = _by_type.get(type(value))
    if entry is None:
        return value
    plain = entry.to_plain(value)
    return value if redact_setting("", plain, registered_without_secrets) is plain else STRUCK_OUT


def _by_fields(kind: type) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind) if field.init]
    elif issubclass(kind, tuple) and hasattr(kind, "_fields"):
        names = list(kind._fields)
    elif issubclass(kind, msgspec.Struct):
        names = list(kind.__struct_fields__)
    else:
        raise UsageError(
            f"register_type({kind.__name__}): it is not a dataclass, NamedTuple or msgspec Struct; "
            "pass to_plain and from_plain, functions that turn an instance into plain data and "
            "back"
        )
    return (
        lambda value: {name: getattr(value, name) for name in names},
        lambda plain: kind(**plain),
    )


class Flattener:
    """Turns a state into values for msgpack, and extracts its tensors, named by their place in it.

    Args:
        copies: copy tensors; otherwise only check whether a checkpoint can hold everything.

    Attributes:
        tensors: name -> copy, on the CPU, in the form for the file.
    """

    def __init__(self, copies: bool = True) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._copies = copies
        # id of a tensor -> the tensor and its replacement; tied weights are kept once. The tensor
        # is referenced, because its id would be used again once it is gone.
        self._known: dict[int, tuple[Tensor, msgspec.msgpack.Ext]] = {}

    def plain(self, value: Any, path: str) -> Any:
        """Return a value for msgpack.

        Args:
            value: the value.
            path: its place in the state.

        Raises:
            CheckpointError: a checkpoint cannot hold it; the message names the place.
        """
        try:
            return self._plain(value, path)
        except RecursionError:
            raise CheckpointError(
                f"{path} holds something that contains itself, or is nested too deeply, which a "
                "checkpoint cannot hold"
            ) from None

    def _plain(self, value: Any, path: str) -> Any:
        kind = type(value)
        if value is None or kind in (bool, float, bytes):
            return value
        if kind is str:
            return value if _is_unicode(value) else _surrogates(value)
        if kind is int:
            return value if value in _INT_RANGE else _Ext(_BIG_INT, hex(value).encode())
        if isinstance(value, Tensor):
            return self._tensor(value, path)
        if kind in _by_type:
            entry = _by_type[kind]
            content = self._plain(entry.to_plain(value), path)
            return _Ext(_REGISTERED, _encode([entry.name, content]))
        if kind in (list, tuple):
            items = [self._plain(entry, f"{path}[{i}]") for i, entry in enumerate(value)]
            return items if kind is list else _Ext(_TUPLE, _encode(items))
        if kind is dict:
            return self._mapping(value, path)
        if (standard := standard_for(value)) is not None:
            content = self._plain(standard.parts(value), path)
            return _Ext(_STANDARD, _encode([standard.name, content]))
        if isinstance(value, Enum):
            return self._enum(value, path)
        if isinstance(value, Mapping):
            return self._mapping(value, path)
        return self._other(value, path)

    def _mapping(self, value: Mapping[Any, Any], path: str) -> Any:
        if all(map(_is_plain_key, value)):
            return {key: self._plain(entry, f"{path}.{key}") for key, entry in value.items()}
        pairs = [
            [self._plain(key, f"{path}'s key {key!r}"), self._plain(entry, f"{path}[{key!r}]")]
            for key, entry in value.items()
        ]
        return _Ext(_PAIRS, _encode(pairs))

    def _enum(self, value: Enum, path: str) -> Any:
        kind = type(value)
        found = _enum_class(kind.__module__, kind.__qualname__)
        known = {} if found is None else found.__members__
        if value.name in kind.__members__ and value.name in known:
            return _Ext(_ENUM, _encode([kind.__module__, kind.__qualname__, value.name]))
        if isinstance(value, Flag) and found is not None:
            content = self._plain(value.value, path)
            return _Ext(_FLAG, _encode([kind.__module__, kind.__qualname__, content]))
        raise CheckpointError(
            f"{path} is {value!r}, an enum that is not to be found as {kind.__module__}."
            f"{kind.__qualname__}, so that no checkpoint could be read that holds it; define it at "
            "the top of a module, under the name that it has, or keep its value instead"
        )

    def _other(self, value: Any, path: str) -> Any:
        if isinstance(value, np.ndarray | np.generic):
            return self._array(value, path)
        for kind, code, content in _IN_BYTES:
            if isinstance(value, kind):
                return _Ext(code, content(value))
        if isinstance(value, set | frozenset):
            items = [self._plain(entry, f"{path}'s {entry!r}") for entry in value]
            return _Ext(_SET if isinstance(value, set) else _FROZENSET, _encode(items))
        if isinstance(value, deque):
            return _Ext(_DEQUE, _encode([self._plain(list(value), path), value.maxlen]))
        if _has_fields(value):
            name = type(value).__name__
            raise CheckpointError(
                f"{path} is a {name}; let checkpoints hold its type with "
                f"nightbus.register_type({name})"
            )
        if isinstance(value, bytearray):
            return bytes(value)
        for base in _BASES:  # a subclass is treated as its base
            if isinstance(value, base):  # type: ignore[arg-type]
                return self._plain(base(value), path)
        raise CheckpointError(
            f"{path} is {type(value).__name__}, which a checkpoint cannot hold; it takes {_CARRIED}"
        )

    def _array(self, value: Any, path: str) -> Any:
        if value.dtype.hasobject:
            raise CheckpointError(
                f"{path} is a NumPy array of Python objects, which a checkpoint cannot hold; "
                "keep it as a list"
            )
        if isinstance(value, np.ma.MaskedArray):
            raise CheckpointError(
                f"{path} is a masked array, which a checkpoint cannot hold; keep its data and its "
                "mask as two arrays"
            )
        if not is_plain_dtype(value.dtype):
            raise CheckpointError(
                f"{path} is a NumPy array of type {value.dtype}, which a checkpoint cannot hold; "
                "keep it as one of a type of NumPy's own, without gaps between its fields"
            )
        code = _ARRAY if isinstance(value, np.ndarray) else _NUMPY_SCALAR
        return _Ext(code, _encode([dtype_text(value.dtype), value.shape, value.tobytes()]))

    def _tensor(self, tensor: Tensor, path: str) -> msgspec.msgpack.Ext:
        known = self._known.get(id(tensor))
        if known is not None:
            return known[1]
        if reason := why_not(tensor):
            raise CheckpointError(
                f"{path} is a tensor that {reason}, which a checkpoint cannot hold; keep its "
                "parts as tensors, leave it out with register_buffer(..., persistent=False), "
                "or train with enable_checkpointing=False"
            )
        if parts := parts_of_sparse(tensor):
            return self._sparse(tensor, path, parts)
        name, number = path, 0
        while name in self.tensors:  # paths of {"a": {"b": ...}, "a.b": ...} look the same
            number += 1
            name = f"{path}~{number}"
        if not _is_unicode(name):
            raise CheckpointError(f"{path!r} is a tensor whose name is not Unicode text; rename it")
        if is_written_as_it_is(tensor):
            found = _Ext(_TENSOR, name.encode())
        else:
            dtype = str(tensor.dtype).removeprefix("torch.")
            found = _Ext(_TENSOR_BYTES, _encode([name, dtype, list(tensor.shape)]))
        as_it_is = not self._copies and is_written_as_it_is(tensor)
        self.tensors[name] = tensor if as_it_is else as_written(tensor)
        self._known[id(tensor)] = tensor, found
        return found

    def _sparse(self, tensor: Tensor, path: str, parts: dict[str, Tensor]) -> msgspec.msgpack.Ext:
        references = [self._tensor(part, f"{path}.{name}") for name, part in parts.items()]
        about = layout_text(tensor), list(tensor.shape), is_coalesced(tensor)
        found = _Ext(_SPARSE, _encode([*about, references]))
        self._known[id(tensor)] = tensor, found
        return found


def _is_unicode(text: str) -> bool:
    """Return whether a text has no surrogates, which UTF-8 cannot encode."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _surrogates(text: str) -> msgspec.msgpack.Ext:
    return _Ext(_SURROGATES, text.encode("utf-8", "surrogatepass"))


def _is_plain_key(key: Any) -> bool:
    if type(key) is str:
        return _is_unicode(key)
    return type(key) is int and key in _INT_RANGE


def _has_fields(value: Any) -> bool:
    """Return whether ``register_type`` needs only the type."""
    if isinstance(value, tuple):
        return hasattr(value, "_fields")
    is_dataclass = dataclasses.is_dataclass(value) and not isinstance(value, type)
    return is_dataclass or isinstance(value, msgspec.Struct)


def decoder(tensors: Mapping[str, Tensor]) -> Callable[[int, memoryview], Any]:
    """Return a function that decodes extensions.

    Args:
        tensors: by name.
    """

    def read(code: int, data: memoryview) -> Any:
        if code == _TENSOR:
            return tensors[bytes(data).decode()]
        if code in _TEXTS:
            return _TEXTS[code](bytes(data).decode("utf-8", "surrogateescape"))
        if code == _SURROGATES:
            return bytes(data).decode("utf-8", "surrogatepass")
        if code == _TENSOR_BYTES:
            name, dtype, shape = msgspec.msgpack.decode(data, ext_hook=read)
            return of_bytes(tensors[name], dtype, shape)
        if code in _MADE:
            return _MADE[code](msgspec.msgpack.decode(data, ext_hook=read))
        raise ValueError(f"unknown extension {code}")

    return read


def _listed(content: Any) -> list[Any]:
    if not isinstance(content, list):
        raise ValueError(f"items that are no list but {type(content).__name__}")
    return content


def _array(content: Any) -> Any:
    text, shape, data = content
    return np.ndarray(tuple(shape), dtype_of(text), bytearray(data) or None)


def _enum_class(module: str, qualname: str) -> type[Enum] | None:
    """Return an enum's class from a module that is imported already; None if there is none."""
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, "__dict__", {}).get(part)
    return found if isinstance(found, type) and issubclass(found, Enum) else None


def _needed_enum(module: str, qualname: str, what: Any) -> type[Enum]:
    found = _enum_class(module, qualname)
    if found is None:
        raise CheckpointError(
            f"the checkpoint holds {qualname}.{what}, an enum of {module}, which is not imported; "
            "import it before"
        )
    return found


def _enum(content: Any) -> Enum:
    module, qualname, name = content
    return _needed_enum(module, qualname, name).__members__[name]


def _flag(content: Any) -> Enum:
    module, qualname, value = content
    kind = _needed_enum(module, qualname, value)
    if not (issubclass(kind, Flag) and isinstance(value, int)):
        raise ValueError(f"{qualname} is no enum of flags")
    return kind(value)


def _registered(content: Any) -> Any:
    name, plain = content
    entry = _by_name.get(name)
    if entry is None:
        raise CheckpointError(
            f"the checkpoint holds a {name}, which is not registered here; import the module that "
            "calls nightbus.register_type for it before"
        )
    try:
        return entry.from_plain(plain)
    except Exception as error:
        raise CheckpointError(
            f"the checkpoint holds a {name}, of which from_plain makes none: "
            f"{type(error).__name__}: {error}"
        ) from error


_TEXTS: dict[int, Callable[[str], Any]] = {
    _PATH: Path,
    _DATETIME: datetime.fromisoformat,
    _BIG_INT: lambda text: int(text, 16),
    _DEVICE: torch.device,
    _DTYPE: dtype_called,
}
_MADE: dict[int, Callable[[Any], Any]] = {
    _TUPLE: lambda content: tuple(_listed(content)),
    _ARRAY: _array,
    _NUMPY_SCALAR: lambda content: _array(content)[()],
    _ENUM: _enum,
    _FLAG: _flag,
    _STANDARD: made_of_parts,
    _SPARSE: lambda content: of_parts(*content),
    _REGISTERED: _registered,
    _SET: lambda content: set(_listed(content)),
    _FROZENSET: lambda content: frozenset(_listed(content)),
    _COMPLEX: lambda content: complex(*content),
    _TIMEDELTA: lambda content: timedelta(*content),
    _PAIRS: dict,
    _DEQUE: lambda content: deque(*content),
}
