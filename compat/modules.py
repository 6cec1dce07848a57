"""Modules at Lightning's paths, made on import from the table of names."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from .._lazy import is_import
from .availability import flag
from .counterparts import HOME_OF, OTHER_NAME_OF, advice_for, name_within
from .paths import NAMES_AT, ROOTS

VERSION = "2.6.5"
"""Of Lightning, whose names stand in the table."""

_WITH_FLAGS = {
    f"{package}.{path}"
    for package in (
        "lightning.pytorch",
        "lightning.fabric",
        "pytorch_lightning",
        "lightning_fabric",
    )
    for path in ("utilities", "utilities.imports")
}
_NIGHTBUS = __package__.rpartition(".")[0]


class Finder(MetaPathFinder, Loader):
    """Finds the modules of the table, and makes them.

    Args:
        prefix: what stands before the paths of the table.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Return the spec of a module of the table, None for one of another package.

        Args:
            fullname: the module.
            path: unused.
            target: unused.

        Raises:
            ModuleNotFoundError: Lightning may have this module, nightbus has not.
        """
        name = fullname.removeprefix(self._prefix)
        if not fullname.startswith(self._prefix) or name.partition(".")[0] not in ROOTS:
            return None
        if name in NAMES_AT:
            # As a package, for an import of a name from it to show what our AttributeError says.
            return ModuleSpec(fullname, self, is_package=True)
        parent, _, last = name.rpartition(".")
        message = f"nightbus has no module {fullname!r}; {advice_for(parent, last)}"
        raise ModuleNotFoundError(message, name=fullname)

    def exec_module(self, module: ModuleType) -> None:
        """Give a new module the names of its path.

        Args:
            module: the module.
        """
        path = module.__name__.removeprefix(self._prefix)
        module.__doc__ = f"The names of ``{path}``, each the one in nightbus."
        module.__dict__["__version__"] = VERSION
        module.__dict__["__getattr__"] = _getattr_of(module.__name__, path)
        module.__dict__["__dir__"] = lambda: [*module.__dict__, *_names_here(path)]


def is_here(name: str) -> bool:
    """Return whether nightbus has something for a name of Lightning."""
    if name in HOME_OF or name in OTHER_NAME_OF:
        return True
    return name in import_module(_NIGHTBUS).__all__


def is_flag(path: str, name: str) -> bool:
    """Return whether a name is a flag of what is installed.

    Args:
        path: the module that has it in Lightning.
        name: the name.
    """
    return path in _WITH_FLAGS and flag(name) is not None


def is_refused_when_used(path: str, name: str) -> bool:
    """Return whether a name of Lightning can be imported, though nightbus has nothing for it.

    Classes can, which code names in annotations; a function is only called, and code that falls
    back on another one asks for its import.

    Args:
        path: the module that has it in Lightning.
        name: the name.
    """
    is_class = name.lstrip("_")[:1].isupper()
    return is_class and name in NAMES_AT.get(path, ()) and not is_here(name)


def _names_here(path: str) -> list[str]:
    return [name for name in NAMES_AT[path] if is_here(name)]


def _getattr_of(module: str, path: str) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of the module that stands for a path of the table."""

    def __getattr__(name: str) -> Any:
        if name == "__all__":
            return _names_here(path)
        if f"{path}.{name}" in NAMES_AT:
            return import_module(f"{module}.{name}")
        if name in NAMES_AT[path] and is_here(name):
            own = name_within(path, name)
            home = import_module(HOME_OF.get(own, "."), _NIGHTBUS)
            return getattr(home, OTHER_NAME_OF.get(own, own))
        if is_refused_when_used(path, name):
            from .absent import stand_in  # which imports torch

            return stand_in(name, advice_for(path, name))
        if is_flag(path, name):
            return flag(name)
        message = f"module {module!r} has no attribute {name!r}"
        if name.startswith("__"):  # asked for by Python and its tools
            raise AttributeError(message)
        error = ImportError if is_import(sys._getframe(1)) else AttributeError
        raise error(f"{message}; {advice_for(path, name)}")

    return __getattr__
