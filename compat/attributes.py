"""Attributes of a module, its hyperparameters or its datamodule, and arguments of ``__init__``."""

import inspect
import pickle
from collections.abc import MutableMapping
from types import FrameType
from typing import Any


def lightning_hasattr(model: Any, attribute: str) -> bool:
    """Return whether a module, its hyperparameters or its datamodule have an attribute.

    Args:
        model: the module.
        attribute: the attribute's name.
    """
    return bool(_holders(model, attribute))


def lightning_getattr(model: Any, attribute: str) -> Any:
    """Return an attribute of a module, its hyperparameters or its datamodule; the last has it.

    Args:
        model: the module.
        attribute: the attribute's name.

    Raises:
        AttributeError: none of them has it.
    """
    holder = _found(model, attribute)[-1]
    return holder[attribute] if isinstance(holder, dict) else getattr(holder, attribute)


def lightning_setattr(model: Any, attribute: str, value: Any) -> None:
    """Set an attribute wherever a module, its hyperparameters and its datamodule have it.

    Args:
        model: the module.
        attribute: the attribute's name.
        value: its new value.

    Raises:
        AttributeError: none of them has it.
    """
    for holder in _found(model, attribute):
        if isinstance(holder, dict):
            holder[attribute] = value
        else:
            setattr(holder, attribute, value)


def _found(model: Any, attribute: str) -> list[Any]:
    if holders := _holders(model, attribute):
        return holders
    raise AttributeError(f"there is no {attribute} in the module, its hparams or its datamodule")


def _holders(model: Any, attribute: str) -> list[Any]:
    """Return what has an attribute: module, hyperparameters, datamodule and its hyperparameters."""
    # A LightningModule without a trainer raises where its trainer is asked for.
    trainer = model._trainer if hasattr(model, "_trainer") else getattr(model, "trainer", None)
    data = None if trainer is None else getattr(trainer, "datamodule", None)
    holders = []
    for owner in (model, data):
        if owner is None:
            continue
        if hasattr(owner, attribute):
            holders.append(owner)
        hparams = getattr(owner, "hparams", None)
        if hparams is not None and attribute in hparams:
            holders.append(hparams)
    return holders


def is_picklable(obj: object) -> bool:
    """Return whether an object can be pickled.

    Args:
        obj: the object.
    """
    try:
        pickle.dumps(obj)
    except (pickle.PickleError, AttributeError, RuntimeError, TypeError):
        return False
    return True


def clean_namespace(hparams: MutableMapping[str, Any]) -> None:
    """Remove hyperparameters that cannot be pickled.

    Args:
        hparams: the hyperparameters, which are changed.
    """
    for name in [name for name, value in hparams.items() if not is_picklable(value)]:
        del hparams[name]


def parse_class_init_keys(cls: type) -> tuple[str, str | None, str | None]:
    """Return the names of an ``__init__``'s first argument, ``*args`` and ``**kwargs``.

    Args:
        cls: the class.
    """
    parameters = inspect.signature(cls.__init__).parameters  # type: ignore[misc]
    kinds = {parameter.kind: name for name, parameter in parameters.items()}
    several, named = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    return next(iter(parameters)), kinds.get(several), kinds.get(named)


def get_init_args(frame: FrameType) -> dict[str, Any]:
    """Return the arguments of an ``__init__`` that is running; empty for another function.

    Args:
        frame: its frame.
    """
    values = inspect.getargvalues(frame).locals
    if "__class__" not in values or frame.f_code.co_name != "__init__":
        return {}
    cls = values["__class__"]
    own, several, named = parse_class_init_keys(cls)
    names = inspect.signature(cls.__init__).parameters
    given = {name: values[name] for name in names if name not in (own, several, named)}
    return given | (values[named] if named else {})


def collect_init_args(
    frame: FrameType,
    path_args: list[dict[str, Any]],
    inside: bool = False,
    classes: tuple[type, ...] = (),
) -> list[dict[str, Any]]:
    """Return the arguments of the ``__init__`` methods that are running, the innermost first.

    Args:
        frame: frame to begin at.
        path_args: arguments found before.
        inside: the frame is in an ``__init__``.
        classes: only of these classes and their subclasses; all if empty.
    """
    found = list(path_args)
    at: FrameType | None = frame
    while at is not None:
        is_init = at.f_code.co_name == "__init__" and "__class__" in at.f_locals
        if is_init and issubclass(at.f_locals["__class__"], classes or object):
            found.append(get_init_args(at))
            inside = True
        elif inside:
            break
        at = at.f_back
    return found
