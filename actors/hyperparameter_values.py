"""Values of hyperparameters that a checkpoint has no type for: configurations in whose place it
keeps their items, and how each looked.

A checkpoint never says what class to make. A dataclass is made again of the class that ``__init__``
is annotated with, which is the code's word; where there is none, a mapping with attributes stands
for it.
"""

import dataclasses
import types
import typing
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..bus.errors import UsageError

Shapes = dict[str, Any]
"""How a value looked that is kept by its items: ``is``, what it was; ``of``, the same for those of
its items that need it, by name."""

_NAMESPACE, _ATTRIBUTES, _FIELDS = "namespace", "attributes", "fields"


class Hyperparameters(dict[str, Any]):
    """A dict whose items are attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            known = ", ".join(self) or "none"
            raise AttributeError(
                f"there is no hyperparameter {name!r}; there are: {known}"
            ) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


def items_of(config: Any) -> dict[str, Any] | None:
    """The items of a configuration: a mapping, a Namespace, a dataclass; None if it is none."""
    if isinstance(config, Mapping):
        return {name: config[name] for name in config}
    if isinstance(config, Namespace | types.SimpleNamespace):
        return dict(vars(config))
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.init}
    return None


def shape_of(config: Any) -> str:
    """How a configuration looks; empty for a plain dict."""
    if isinstance(config, Namespace | types.SimpleNamespace):
        return _NAMESPACE
    if isinstance(config, Mapping):
        key = next((key for key in config if isinstance(key, str) and key.isidentifier()), None)
        reads = key is not None and not isinstance(getattr(dict, key, None), Callable)  # type: ignore[arg-type]
        return _ATTRIBUTES if reads and hasattr(config, typing.cast(str, key)) else ""
    return _FIELDS


def carried(value: Any, is_registered: Callable[[type], bool]) -> tuple[Any, Shapes]:
    """A value as a checkpoint keeps it, and how it looked; the value itself if that is it.

    Args:
        value: of a hyperparameter.
        is_registered: whether checkpoints carry a type as it is.
    """
    if value is None or is_registered(type(value)):
        return value, {}
    items = None if isinstance(value, list | tuple) else items_of(value)
    if items is not None:
        kept, shapes = _each(items, is_registered)
        shape = shape_of(value)
        if not shape and not shapes:
            return value, {}
        return kept, {"is": shape, "of": shapes}
    is_list = isinstance(value, list) or _is_other_sequence(value)
    if is_list or type(value) is tuple:
        kept, shapes = _each(dict(enumerate(value)), is_registered)
        entries = list(kept.values())
        if not shapes:
            return (value if type(value) in (list, tuple) else entries), {}
        return (entries if is_list else tuple(entries)), {"is": "", "of": shapes}
    return value, {}


def _each(items: Mapping[Any, Any], is_registered: Callable[[type], bool]) -> tuple[Any, Shapes]:
    kept: dict[Any, Any] = {}
    shapes: Shapes = {}
    for name, entry in items.items():
        kept[name], shape = carried(entry, is_registered)
        if shape:
            shapes[str(name)] = shape
    return kept, shapes


def _is_other_sequence(value: Any) -> bool:
    """Whether it is a list in all but its type, as those of configuration libraries are."""
    return isinstance(value, Sequence) and type(value).__module__.partition(".")[0] not in (
        "builtins",
        "collections",
        "numpy",
        "torch",
    )


def made_again(value: Any, shapes: Any, hint: Any = None) -> Any:
    """What ``carried`` was given.

    Args:
        value: as the checkpoint keeps it.
        shapes: how it looked.
        hint: the annotation of what it is for, if there is one.

    Raises:
        UsageError: the annotated class does not take these fields.
    """
    if not isinstance(shapes, Mapping) or not shapes:
        return value
    inner = shapes.get("of", {})
    if isinstance(value, list | tuple):
        entries = [made_again(e, inner.get(str(i)), None) for i, e in enumerate(value)]
        return type(value)(entries)
    if not isinstance(value, Mapping):
        return value
    kind = dataclass_in(hint) if shapes.get("is") == _FIELDS else None
    hints = hints_of(kind) if kind is not None else {}
    items = {
        name: made_again(entry, inner.get(str(name)), hints.get(name))
        for name, entry in value.items()
    }
    if kind is not None:
        return _made(kind, items)
    if shapes.get("is") == _NAMESPACE:
        return Namespace(**items)
    return Hyperparameters(items) if shapes.get("is") else items


def _made(kind: type, items: Mapping[str, Any]) -> Any:
    try:
        return kind(**items)
    except TypeError as error:
        raise UsageError(
            f"a hyperparameter was a dataclass with the fields {', '.join(items)}, of which "
            f"{kind.__name__} cannot be made: {error}"
        ) from error


def dataclass_in(hint: Any) -> type | None:
    """The dataclass that an annotation means, ``Conf | None`` say."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return hint
    found = [kind for part in typing.get_args(hint) if (kind := dataclass_in(part)) is not None]
    return found[0] if len(found) == 1 else None


def hints_of(kind: type) -> dict[str, Any]:
    """Annotations of a class's ``__init__``; none if they name what is not there."""
    try:
        return typing.get_type_hints(kind.__init__)  # type: ignore[misc]
    except (NameError, TypeError, AttributeError):
        return {}
