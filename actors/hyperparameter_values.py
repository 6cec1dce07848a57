"""Values of hyperparameters for which checkpoints have no type: they store items and shapes.

A checkpoint never names a class to construct. A dataclass is restored as the class with which the
code annotates the argument of ``__init__``, and otherwise as a mapping with attributes. What was a
configuration of OmegaConf is one again.
"""

import dataclasses
import sys
import types
import typing
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..bus.errors import UsageError

Shapes = dict[str, Any]
"""Describes a value whose items are stored: ``is``, its kind; ``of``, the shapes of its items that
have one, by name."""

_NAMESPACE, _ATTRIBUTES, _FIELDS = "namespace", "attributes", "fields"
_OMEGACONF = "omegaconf"


class Hyperparameters(dict[str, Any]):
    """A dict whose items are attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            known = ", ".join(self) or "none"
            raise AttributeError(
                f"there is no hyperparameter {name!r}; expected one of: {known}. A module has the "
                "arguments of its own __init__, not those of a module that makes it"
            ) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


def items_of(config: Any) -> dict[str, Any] | None:
    """Return the items of a mapping, a Namespace or a dataclass; None for anything else."""
    if is_omegaconf(config):
        return {name: _entry(config, name) for name in config}
    if isinstance(config, Mapping):
        return {name: config[name] for name in config}
    if isinstance(config, Namespace | types.SimpleNamespace):
        return dict(vars(config))
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.init}
    return None


def shape_of(config: Any) -> str:
    """Return the kind of a configuration; empty for a plain dict."""
    if is_omegaconf(config):
        return _OMEGACONF
    if isinstance(config, Namespace | types.SimpleNamespace):
        return _NAMESPACE
    if isinstance(config, Mapping):
        key = next((key for key in config if isinstance(key, str) and key.isidentifier()), None)
        reads = key is not None and not isinstance(getattr(dict, key, None), Callable)  # type: ignore[arg-type]
        return _ATTRIBUTES if reads and hasattr(config, typing.cast(str, key)) else ""
    return _FIELDS


def carried(value: Any, is_registered: Callable[[type], bool]) -> tuple[Any, Shapes]:
    """Convert the value of a hyperparameter to what a checkpoint can store.

    Args:
        value: value of a hyperparameter.
        is_registered: returns whether checkpoints can store a type.

    Returns:
        The value to store, which is the value itself if checkpoints can store it; and its shapes.
    """
    if value is None or is_registered(type(value)):
        return value, {}
    if is_omegaconf(value):
        return _of_omegaconf(value), {"is": _OMEGACONF, "of": {}}
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


def without_omegaconf(hparams: Mapping[str, Any]) -> dict[str, Any]:
    """Return hyperparameters in which dicts and lists stand for configurations of OmegaConf."""
    return {
        name: _of_omegaconf(value) if is_omegaconf(value) else value
        for name, value in hparams.items()
    }


def is_omegaconf(value: Any) -> bool:
    """Return whether a value is a DictConfig or ListConfig of OmegaConf."""
    omegaconf = sys.modules.get("omegaconf")
    return omegaconf is not None and bool(omegaconf.OmegaConf.is_config(value))


def _entry(config: Any, name: Any) -> Any:
    """Return a value; as it is written if it is missing, or refers to what is not there."""
    import omegaconf

    if omegaconf.OmegaConf.is_missing(config, name):
        return "???"
    try:
        return config[name]
    except omegaconf.errors.InterpolationResolutionError:
        written: Any = omegaconf.OmegaConf.to_container(config, resolve=False, enum_to_str=True)
        return written[name]


def _of_omegaconf(config: Any) -> Any:
    """Return dicts and lists; references are followed, unless one leads nowhere."""
    import omegaconf

    try:
        return omegaconf.OmegaConf.to_container(config, resolve=True, enum_to_str=True)
    except omegaconf.errors.InterpolationResolutionError:
        return omegaconf.OmegaConf.to_container(config, resolve=False, enum_to_str=True)


def _as_omegaconf(value: Any) -> Any:
    """Return a configuration of OmegaConf; mappings with attributes where it is not installed."""
    try:
        from omegaconf import OmegaConf
    except ImportError:
        if isinstance(value, Mapping):
            return Hyperparameters({name: _as_omegaconf(entry) for name, entry in value.items()})
        return [_as_omegaconf(entry) for entry in value] if isinstance(value, list) else value
    return OmegaConf.create(value)


def _is_other_sequence(value: Any) -> bool:
    """Return whether a value is a list of another type, as those of configuration libraries."""
    return isinstance(value, Sequence) and type(value).__module__.partition(".")[0] not in (
        "builtins",
        "collections",
        "numpy",
        "torch",
    )


def made_again(value: Any, shapes: Any, hint: Any = None) -> Any:
    """Return the value that ``carried`` was given.

    Args:
        value: value as the checkpoint stores it.
        shapes: its shapes.
        hint: annotation of its argument, if there is one.

    Returns:
        The value; a Namespace or a Hyperparameters for kinds that have no class here.

    Raises:
        UsageError: the annotated class does not take these fields.
    """
    if not isinstance(shapes, Mapping) or not shapes:
        return value
    if shapes.get("is") == _OMEGACONF:
        return _as_omegaconf(value)
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
            f"a hyperparameter was a dataclass with the fields {', '.join(items)}, but "
            f"{kind.__name__} cannot be constructed from these: {error}"
        ) from error


def dataclass_in(hint: Any) -> type | None:
    """Return the dataclass in an annotation such as ``Conf | None``; None if there is none."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return hint
    found = [kind for part in typing.get_args(hint) if (kind := dataclass_in(part)) is not None]
    return found[0] if len(found) == 1 else None


def hints_of(kind: type) -> dict[str, Any]:
    """Return the annotations of a class's ``__init__``; empty if they cannot be resolved."""
    try:
        return typing.get_type_hints(kind.__init__)  # type: ignore[misc]
    except (NameError, TypeError, AttributeError):
        return {}
