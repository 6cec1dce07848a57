"""Checks that a user has not overridden or set anything of the built-in loops."""

from inspect import getattr_static
from types import FunctionType
from typing import Any

from ..loop import Loop

_built: dict[type[Loop], dict[str, Any]] = {}


def remember(*kinds: type[Loop]) -> None:
    """Record the methods of built-in loops as they are now, before a user can change them."""
    for kind in kinds:
        found = ((name, getattr_static(kind, name)) for name in dir(kind))
        _built[kind] = {
            name: value for name, value in found if isinstance(value, FunctionType | property)
        }


def is_as_built(loop: object) -> bool:
    """Return whether a loop does what its class in this package does.

    Otherwise it is a user's subclass, or something was set on the instance or patched in the class.
    """
    kind = type(loop)
    methods = _built.get(kind)  # type: ignore[arg-type]
    return (
        methods is not None
        and methods.keys().isdisjoint(vars(loop))
        and all(getattr(kind, name, None) is method for name, method in methods.items())
    )
