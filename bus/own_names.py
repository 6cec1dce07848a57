"""Private methods of nightbus that a user's class must not replace without knowing."""

from types import FunctionType
from typing import TypeVar

from .errors import UsageError

Kind = TypeVar("Kind", bound=type)

_METHODS: dict[type, frozenset[str]] = {}  # base class -> its private methods


def keeps_own_names(kind: Kind) -> Kind:
    """Decorate a base of users' classes: its private methods are its own.

    Attributes that nightbus sets on users' objects begin with ``_nightbus_``, which nobody uses.

    Args:
        kind: the base class.

    Returns:
        The class.
    """
    _METHODS[kind] = frozenset(
        name
        for name, value in vars(kind).items()
        if name.startswith("_")
        and not name.startswith(("__", "_nightbus_"))
        and isinstance(value, FunctionType | classmethod | staticmethod | property)
    )
    return kind


def refuse_taken_names(actor: object) -> None:
    """Refuse an object that replaces a private method of a base, in its class or for itself.

    Args:
        actor: an actor, a sink, a callback, a module or a datamodule.

    Raises:
        UsageError: it does.
    """
    owners = _owners(type(actor))
    for name in vars(actor).keys() & owners.keys():
        raise _taken(f"an object of {type(actor).__name__} sets self.{name}", name, owners[name])


def _owners(kind: type) -> dict[str, type]:
    """Return which base has each private method; refuse a class that replaces one."""
    ours = __name__.partition(".")[0]
    bases = [base for base in kind.__mro__ if base in _METHODS]
    owners = {name: base for base in reversed(bases) for name in _METHODS[base]}
    for each in kind.__mro__:
        if each.__module__.partition(".")[0] != ours:
            for name in vars(each).keys() & owners.keys():
                if any(base in each.__mro__ for base in bases if name in _METHODS[base]):
                    raise _taken(f"{each.__name__} defines {name}", name, owners[name])
    return owners


def _taken(what: str, name: str, owner: type) -> UsageError:
    return UsageError(
        f"{what}, which is the name of a method of nightbus.{owner.__name__} itself, without which "
        f"the run could not go on; give it another name, such as own{name}"
    )
