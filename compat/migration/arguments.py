"""Arguments of Lightning's Trainer and callbacks in terms of those that nightbus has."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ...actors.former_arguments import former_argument, meaning
from ...bus.errors import UnsupportedArgumentError


class Migrated(NamedTuple):
    """What becomes of the arguments of a call.

    Attributes:
        changes: former argument -> the arguments that take its place, each with its value as
            source; None for the value as it stands there.
        notes: what is left to do.
    """

    changes: dict[str, dict[str, str | None]]
    notes: list[str]


def migrated_arguments(owner: str, given: Mapping[str, tuple[Any, ...]]) -> Migrated:
    """Return what becomes of the arguments of a Trainer or a callback.

    Args:
        owner: the class.
        given: argument -> its value in a tuple, which is empty if it is not a literal.
    """
    migrated = Migrated({}, [])
    for name, value in given.items():
        former = former_argument(owner, name)
        if former is None:
            continue
        try:
            if value:
                own = meaning(owner, name, value[0], former)
                migrated.changes[name] = {key: repr(each) for key, each in own.items()}
                continue
            problem = f"{owner}({name}=...) is not supported; use instead: {former.instead}"
        except UnsupportedArgumentError as error:
            problem = str(error)
        if former.renamed:
            migrated.changes[name] = {former.renamed: None}
        elif name == "gpus" and value and isinstance(value[0], int):
            migrated.changes[name] = {"accelerator": "'gpu'", "devices": None}
        else:
            migrated.notes.append(problem)
    return migrated
