"""Removes secrets before anything is written.

Used for everything that may hold secrets: the command line, settings of any kind, and texts.
"""

import copy
import dataclasses
import functools
import re
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence, Set
from numbers import Number
from pathlib import PurePath
from types import SimpleNamespace
from typing import Any

import msgspec

from .names import is_secret_name, is_secret_outright, names_several
from .texts import (
    STRUCK_OUT,
    hides,
    remember,
    secrets_in_environment,
    strike_known,
    strike_named,
    strike_shapes,
)

_ASSIGNED = re.compile(r"(?s)([^=:\s\"'{}\[\](),&?;/]+)(\s*[=:])(?!//)(.+)")

_BARE = re.compile(r"[\w.-]{1,80}")


def redact(arguments: Sequence[object]) -> list[str]:
    """Return a command line without what looks secret.

    That is: values of options with a secret's name, what follows such a name and ``=`` or ``:``
    within an argument, and what has the shape of a secret.
    """
    return _redacted(arguments, secrets_in_environment())


def _redacted(
    arguments: Sequence[object], in_environment: Mapping[str, tuple[str, ...]]
) -> list[str]:
    shown: list[str] = []
    option = ""  # the option whose values follow
    hidden = is_first = False
    for argument in map(str, arguments):
        if hidden and not argument.startswith("--" if is_first else "-"):
            shown.append(_struck(option, argument) if hides(option, argument) else argument)
            hidden, is_first = names_several(option), False
            continue
        assigned = _ASSIGNED.fullmatch(argument)
        is_option = argument.startswith("-") and not assigned
        if is_option:
            option = argument
        if assigned and hides(assigned[1], assigned[3].strip()):
            shown.append(f"{assigned[1]}{assigned[2]}{_struck(assigned[1], assigned[3])}")
        elif assigned and assigned[2].endswith("="):
            shown.append(
                f"{assigned[1]}{assigned[2]}{_text(assigned[1], assigned[3], in_environment)}"
            )
        else:
            shown.append(_text(option, argument, in_environment))
        hidden, is_first = is_option and is_secret_name(option), True
    return shown


def redact_setting(
    name: object, value: Any, other: Callable[[Any], Any] = lambda value: value
) -> Any:
    """Return a setting's value, redacted if its name means a secret.

    A number is kept unless the name is certain: ``max_tokens`` is no secret. In mappings,
    sequences,
    sets and objects with fields, each value is redacted, and in texts what has the shape of a
    secret.
    A value without secrets is returned itself.

    Args:
        name: of the setting.
        value: of the setting.
        other: converts an object that is none of these.
    """
    return _Settings(other).redacted(name, value)


def without_secrets(text: str) -> str:
    """Return a text for people, such as an exception's, without secrets known or found by shape."""
    return strike_known(strike_named(strike_shapes(text), outright=True))


class _Settings:
    def __init__(self, other: Callable[[Any], Any]) -> None:
        self._other = other
        self._within: set[int] = set()  # ids of objects being redacted

    @functools.cached_property
    def _in_environment(self) -> dict[str, tuple[str, ...]]:
        """Looked up once for all that a setting contains: 30 us."""
        return secrets_in_environment()

    def _text(self, name: object, text: str) -> str:
        return _text(name, text, self._in_environment)

    def redacted(self, name: object, value: Any) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, Number):
            return STRUCK_OUT if is_secret_outright(name) else value
        if id(value) in self._within:  # it contains itself
            return STRUCK_OUT
        self._within.add(id(value))
        try:
            how = self._hidden if is_secret_name(name) else self._looked_into
            return how(name, value)
        except RecursionError:
            return STRUCK_OUT
        finally:
            self._within.discard(id(value))

    def _hidden(self, name: object, value: Any) -> Any:
        """Return what remains of a value under a secret's name."""
        if isinstance(value, str | bytes | bytearray | PurePath):
            return _struck(name, value) if str(value) and value else value
        if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
            entries = [self.redacted(name, entry) for entry in value]
            return _like(value, entries)
        if isinstance(value, Mapping | Set | Sequence):
            entries = list(value.values()) if isinstance(value, Mapping) else list(value)
            hidden = [self.redacted(name, entry) for entry in entries]
            is_same = all(map(_is_same, entries, hidden))
            return self._looked_into("", value) if is_same else STRUCK_OUT
        if getattr(getattr(value, "dtype", None), "kind", "f") not in "SUO":
            return value if hasattr(value, "dtype") else self._hidden_object(name, value)
        return STRUCK_OUT

    def _hidden_object(self, name: object, value: Any) -> Any:
        if isinstance(value, type) or (
            callable(value) and not isinstance(value, functools.partial)
        ):
            return value  # such as a function that makes keys, or a network for tokens
        for entry in (_fields(value) or {}).values():
            self.redacted(name, entry)  # so that they become known
        return STRUCK_OUT

    def _looked_into(self, name: object, value: Any) -> Any:
        if isinstance(value, str):
            text = self._text(name, value)
            return value if text == value else text
        if isinstance(value, bytes | bytearray):
            text = self._text(name, found := value.decode("latin-1"))
            return value if text == found else text.encode("latin-1")
        if isinstance(value, PurePath):
            text = self._text(name, str(value))
            return value if text == str(value) else type(value)(text)
        if isinstance(value, Mapping):
            return self._mapping(value)
        fields = _fields(value)
        if fields is not None:
            return self._object(value, fields)
        if isinstance(value, Set):
            entries = {self.redacted(name, entry) for entry in value}
            return value if entries == value else entries
        if isinstance(value, Sequence) and not isinstance(value, range | memoryview):
            return self._sequence(name, value)
        return self._other(value)

    def _mapping(self, value: Mapping[Any, Any]) -> Any:
        named = next((value[key] for key in ("name", "key") if key in value), None)
        entries: dict[Any, Any] = {}
        for key, entry in value.items():
            # {"name": "TOKEN", "value": ...}
            name = named if key == "value" and isinstance(named, str) else key
            shown = self._text("", key) if isinstance(key, str) else key
            entries[shown] = self.redacted(name, entry)
        is_same = all(key in value and _is_same(value[key], entries[key]) for key in entries)
        return value if is_same and len(entries) == len(value) else entries

    def _object(self, value: Any, fields: Mapping[str, Any]) -> Any:
        changed = {
            name: redacted
            for name, entry in fields.items()
            if not _is_same(redacted := self.redacted(name, entry), entry)
        }
        return _rebuilt(value, changed) if changed else value

    def _sequence(self, name: object, value: Sequence[Any]) -> Any:
        entries = list(value)
        texts = all(isinstance(entry, str) for entry in entries)
        if texts and any(entry.startswith("--") for entry in entries):  # looks like a command line
            shown: list[Any] = list(_redacted(entries, self._in_environment))
        elif len(entries) == 2 and isinstance(entries[0], str) and _is_bare(entries[0]):
            shown = [entries[0], self.redacted(entries[0], entries[1])]  # name and value
        else:
            shown = [self.redacted(name, entry) for entry in entries]
        return _like(value, shown)


def _struck(name: object, value: Any) -> str:
    """Return the replacement of a secret, which is known from now on."""
    text = value.decode("latin-1") if isinstance(value, bytes | bytearray) else str(value)
    remember(text, is_secret_outright(name))
    return STRUCK_OUT


def _text(name: object, text: str, in_environment: Mapping[str, tuple[str, ...]]) -> str:
    return strike_known(strike_named(strike_shapes(text, name)), in_environment)


def _is_bare(text: str) -> bool:
    """Return whether a text is nothing but a secret's name."""
    return _BARE.fullmatch(text) is not None and is_secret_name(text)


def _is_same(left: Any, right: Any) -> bool:
    """Return whether nothing was changed; arrays cannot be compared to a truth value."""
    return left is right or (isinstance(left, str) and isinstance(right, str) and left == right)


def _like(value: Sequence[Any], entries: list[Any]) -> Any:
    """Return the entries as a sequence of the same type; the value itself if they are its own."""
    if all(map(_is_same, value, entries)):
        return value
    return tuple(entries) if isinstance(value, tuple) else entries


def _fields(value: Any) -> Mapping[str, Any] | None:
    """Return names and values of an object made of fields; None for any other."""
    if isinstance(value, type):
        return None
    names: Sequence[str] | None = None
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
    elif isinstance(value, msgspec.Struct):
        names = value.__struct_fields__
    elif isinstance(value, tuple):
        names = getattr(value, "_fields", None)
    elif hasattr(type(value), "__attrs_attrs__"):
        names = [attribute.name for attribute in type(value).__attrs_attrs__]
    elif isinstance(value, Namespace | SimpleNamespace) or hasattr(type(value), "model_fields"):
        names = list(vars(value))
    if names is None:
        return None
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def _rebuilt(value: Any, changed: Mapping[str, Any]) -> Any:
    """Return a copy of an object with other values in its fields."""
    if isinstance(value, tuple):
        return value._replace(**changed)  # type: ignore[attr-defined]
    made = copy.copy(value)
    put = msgspec.structs.force_setattr if isinstance(value, msgspec.Struct) else object.__setattr__
    for name, entry in changed.items():
        put(made, name, entry)
    return made
