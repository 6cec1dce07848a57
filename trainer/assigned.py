"""Arguments of the Trainer that can be assigned after it was made."""

from collections.abc import Callable
from typing import Any

from ..actors.arguments import as_plain
from ..actors.run_context import RunContext
from ..bus.errors import UsageError


class Assigned:
    """An argument that is read off the trainer as it was given, and that may be assigned.

    Args:
        take: has the trainer go by a new value, which it checks; None for an argument that is used
            up when the Trainer is made, so that assigning it would do nothing.
    """

    def __init__(self, take: Callable[[Any, Any], None] | None = None) -> None:
        self._take = take

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, trainer: Any, owner: type) -> Any:
        arguments = {} if trainer is None else vars(trainer).get("_arguments", {})
        if self._name not in arguments:
            raise AttributeError(f"Trainer has no {self._name} before it is made")
        return arguments[self._name]

    def __set__(self, trainer: Any, value: Any) -> None:
        name = self._name
        if self._take is None:
            raise UsageError(
                f"trainer.{name} = {value!r} would change nothing: it is used when the Trainer is "
                f"made; make a new one: Trainer({name}=...)"
            )
        self._take(trainer, value)
        trainer._arguments[name] = value
        trainer.config = as_plain(trainer._arguments)


def limit_of(stage: str) -> Assigned:
    """How many batches of a stage are read; holds from the next time that they are."""
    return Assigned(lambda trainer, value: trainer.loaders.set_limit(stage, value))


def validate_after(trainer: RunContext, interval: Any) -> None:
    """Validate after so much of training."""
    trainer.loaders.validate_at(interval, trainer.loaders.schedule.every_n_epochs)


def validate_every(trainer: RunContext, epochs: Any) -> None:
    """Validate in every n-th epoch."""
    trainer.loaders.validate_at(trainer.loaders.schedule.interval, epochs)
