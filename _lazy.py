"""Facades whose names are loaded on first use."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(package: str, home_of: Mapping[str, str]) -> Callable[[str], Any]:
    """A package's ``__getattr__`` that imports a name's module when the name is first used.

    Args:
        package: the package's ``__name__``.
        home_of: public name -> module, relative to the package.
    """

    def __getattr__(name: str) -> Any:
        home = home_of.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(home, package), name)

    return __getattr__
