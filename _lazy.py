"""Facades that load their names on first use."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from types import FrameType, MappingProxyType
from typing import Any


def lazy_names(
    package: str,
    home_of: Mapping[str, str],
    instead_of: Callable[[str], str] = lambda name: "",
    names_of: str = "",
    of_extras: Mapping[str, str] = MappingProxyType({}),
) -> Callable[[str], Any]:
    """Return a package's ``__getattr__`` that imports a name's module on first use.

    Args:
        package: the package's ``__name__``.
        home_of: public name -> module, relative to the package.
        instead_of: returns what to use instead of a missing name; empty if unknown.
        names_of: a module, relative to the package, whose ``PUBLIC_NAMES`` belong to the package
            too. It is loaded for a name that ``home_of`` does not have. The package has an
            ``__all__`` then, which nobody needs to write.
        of_extras: name -> module of what needs a package that may not be installed; the
            package's ``__all__`` leaves it out.

    Returns:
        The function to assign to ``__getattr__``.

    Raises:
        AttributeError: on access to a name that does not exist.
    """

    def kept(name: str, value: Any) -> Any:
        """Have the package find a name by itself from now on."""
        setattr(sys.modules[package], name, value)
        return value

    def __getattr__(name: str) -> Any:
        home = home_of.get(name) or of_extras.get(name)
        if home is not None:
            return kept(name, getattr(import_module(home, package), name))
        if names_of and (name == "__all__" or not name.startswith("__")):
            module = import_module(names_of, package)
            if name == "__all__":
                return sorted([*home_of, *module.PUBLIC_NAMES])
            if name in module.PUBLIC_NAMES:
                return kept(name, getattr(module, name))
        message = f"module {package!r} has no attribute {name!r}"
        if name.startswith("__"):  # asked for by Python and its tools
            raise AttributeError(message)
        if instead := instead_of(name):
            is_imported = is_import(sys._getframe(1)) and find_spec(f"{package}.{name}") is None
            raise (ImportError if is_imported else AttributeError)(f"{message}; {instead}")
        from difflib import get_close_matches

        known = [
            *home_of,
            *of_extras,
            *(import_module(names_of, package).PUBLIC_NAMES if names_of else ()),
        ]
        near = get_close_matches(name, known)
        raise AttributeError(f"{message}; did you mean {' or '.join(near)}?" if near else message)

    return __getattr__


def is_import(caller: FrameType) -> bool:
    """Return whether a package's ``__getattr__`` is called for ``from package import name``.

    Such an import drops the message of an AttributeError, so that an ImportError has to be raised;
    not for a module of the package, which is imported then.

    Args:
        caller: of ``__getattr__``.
    """
    return caller.f_code.co_name == "_handle_fromlist"
