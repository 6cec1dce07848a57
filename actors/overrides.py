"""Finds the hooks that a module, datamodule or callback overrides.

A class that users derive from has ``_has_hooks``: what it defines itself is not an override.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from ..bus.actor import Actor
from ..bus.errors import UsageError
from .hook_arguments import fitted, parameters_of
from .hook_table import HOOKS, OLDER_HOOKS


def takes_argument(owner: object, name: str, argument: str) -> bool:
    """Return whether an override of a hook has a parameter of this name.

    Args:
        owner: the object with the override.
        name: the hook.
        argument: the parameter's name.
    """
    if not is_overridden(owner, name):
        return False
    return any(p.name == argument for p in parameters_of(getattr(owner, name)))


def is_overridden(owner: object, name: str) -> bool:
    """Return whether a module, datamodule or callback defines a hook itself.

    A hook that is set to None is switched off; a method with the name of an older hook and other
    parameters is not a hook.

    Args:
        owner: the object.
        name: the hook.
    """
    return is_own(owner, name) and not (name in OLDER_HOOKS and misfit(owner, name))


def is_own(owner: object, name: str) -> bool:
    """Return whether an object has an attribute that its bases do not define.

    Args:
        owner: the object.
        name: the attribute.
    """
    if name not in getattr(owner, "__dict__", ()) and not is_own_of(type(owner), name):
        return False
    return getattr(owner, name, None) is not None


def is_own_of(kind: type, name: str) -> bool:
    """Return whether a class has an attribute that the bases of nightbus do not define.

    Args:
        kind: the class.
        name: the attribute.
    """
    method = getattr(kind, name, None)
    if method is None:
        return False
    return all(getattr(base, name, None) is not method for base in _bases(kind))


@lru_cache(maxsize=256)
def _bases(kind: type) -> list[type]:
    return [base for base in kind.__mro__ if base is Actor or "_has_hooks" in vars(base)]


def misfit(owner: object, name: str) -> str:
    """Return why a method cannot be called as the hook of its name; empty if it can.

    Args:
        owner: the object with the method.
        name: the hook.
    """
    leading = getattr(owner, "_leading", 0)
    try:
        fitted(getattr(owner, name), name, HOOKS[name].arguments, leading)
    except UsageError as error:
        return str(error)
    return ""


def callback_hook_methods(
    callback: Actor,
) -> dict[str, tuple[Callable[..., Any], Sequence[str]]]:
    """Return a callback's hook methods, with their arguments after trainer and module."""
    return {
        name: (fitted(getattr(callback, name), name, spec.arguments, leading=2), spec.arguments)
        for name, spec in HOOKS.items()
        if spec.callback and is_overridden(callback, name)
    }
