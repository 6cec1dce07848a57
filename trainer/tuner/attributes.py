"""Attributes of a module or datamodule that the tuner sets: the learning rate, the batch size."""

from collections.abc import Iterator, MutableMapping
from typing import Any

from ...bus.system.logging_setup import get_logger

_log = get_logger("nightbus.tuner")


def has_attribute(name: str, *owners: Any) -> bool:
    """Return whether a module, a datamodule, or their hyperparameters have an attribute.

    Args:
        name: the attribute.
        *owners: module and datamodule; None for none.
    """
    return any(True for _ in _holders(name, owners))


def get_attribute(name: str, *owners: Any) -> Any:
    """Return the value of an attribute, of the first that has it.

    Args:
        name: the attribute.
        *owners: module and datamodule; None for none.
    """
    holder = next(_holders(name, owners))
    return holder[name] if isinstance(holder, MutableMapping) else getattr(holder, name)


def set_attribute(name: str, value: Any, *owners: Any) -> None:
    """Set an attribute of all that have it.

    Args:
        name: the attribute.
        value: its value.
        *owners: module and datamodule; None for none.
    """
    for holder in list(_holders(name, owners)):
        if isinstance(holder, MutableMapping):
            holder[name] = value
        else:
            setattr(holder, name, value)


def warn_of_two(name: str, *owners: Any) -> None:
    """Warn if an attribute is there beside the hyperparameter of its name.

    Args:
        name: the attribute.
        *owners: module and datamodule; None for none.
    """
    for owner in owners:
        if len(list(_holders(name, (owner,)))) > 1:
            kind = type(owner).__name__
            _log.warning(
                f"{kind} has both {name} and hparams.{name}: both are set to what is tried and "
                "found; keep one of them"
            )


def _holders(name: str, owners: tuple[Any, ...]) -> Iterator[Any]:
    for owner in owners:
        if owner is None:
            continue
        if hasattr(owner, name):
            yield owner
        hparams = getattr(owner, "hparams", None)
        if isinstance(hparams, MutableMapping) and name in hparams:
            yield hparams
