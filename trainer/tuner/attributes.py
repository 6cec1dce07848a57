"""Attributes of a module or datamodule that the tuner sets: the learning rate, the batch size."""

from collections.abc import Iterator, MutableMapping
from typing import Any


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


def _holders(name: str, owners: tuple[Any, ...]) -> Iterator[Any]:
    for owner in owners:
        if owner is None:
            continue
        if hasattr(owner, name):
            yield owner
        hparams = getattr(owner, "hparams", None)
        if isinstance(hparams, MutableMapping) and name in hparams:
            yield hparams
