"""An actor that the user names on the command line, by its module and class.

Only what is typed is imported: no run, log or cursor ever names code.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..bus.errors import UsageError

if TYPE_CHECKING:
    from ..bus.actor import Actor


def load_actor(given: str) -> "Actor":
    """Import ``module:Class``, from the current folder or installed, and make an instance.

    Raises:
        UsageError: there is no such class, it is not an actor, or it needs arguments.
    """
    from ..bus.actor import Actor

    module_name, _, class_name = given.partition(":")
    if not module_name or not class_name.isidentifier():
        raise UsageError(f"--actor {given}: expected MODULE:CLASS, such as rules:NanWatch")
    kind = getattr(_module(given, module_name), class_name, None)
    if kind is None:
        raise UsageError(f"--actor {given}: the module {module_name} has no {class_name}")
    if not (isinstance(kind, type) and issubclass(kind, Actor)):
        raise UsageError(
            f"--actor {given}: {class_name} is not an actor; expected a class derived from "
            "nightbus.Actor or nightbus.Callback"
        )
    try:
        return kind()
    except TypeError as error:
        raise UsageError(
            f"--actor {given}: cannot be made without arguments ({error}); derive a class that "
            "gives them, or call nightbus.replay in Python"
        ) from error


def _module(given: str, name: str) -> Any:
    if "" not in sys.path:
        sys.path.insert(0, "")  # the current folder, as with python -m
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if not f"{name}.".startswith(f"{error.name}."):
            raise UsageError(f"--actor {given}: importing {name} failed: {error}") from error
        raise UsageError(
            f"--actor {given}: there is no module {name} in this folder or installed"
        ) from None
    except Exception as error:
        raise UsageError(
            f"--actor {given}: importing {name} failed: {type(error).__name__}: {error}"
        ) from error
