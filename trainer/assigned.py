"""Arguments of the Trainer that can be assigned after it was created."""

from collections.abc import Callable
from typing import Any

from ..actors.arguments import as_plain
from ..actors.run_context import RunContext
from ..bus.errors import UsageError


class Assigned:
    """Descriptor of an argument of the Trainer, which reads as it was given.

    Args:
        take: checks and applies a new value; called with the trainer and the value. None for an
            argument that is used when the Trainer is created only: assigning it is an error.
        read: returns what is read instead of the argument; called with the trainer.
    """

    def __init__(
        self,
        take: Callable[[Any, Any], None] | None = None,
        read: Callable[[Any], Any] | None = None,
    ) -> None:
        self._take, self._read = take, read

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, trainer: Any, owner: type) -> Any:
        arguments = {} if trainer is None else vars(trainer).get("_arguments", {})
        if self._name not in arguments:
            raise AttributeError(f"Trainer has no {self._name} before it is created")
        if self._read is not None:
            return self._read(trainer)
        return arguments[self._name]

    def __set__(self, trainer: Any, value: Any) -> None:
        name = self._name
        if self._take is None:
            raise UsageError(
                f"trainer.{name} = {value!r} would change nothing: it is used when the Trainer is "
                f"created; create a new one with Trainer({name}=...)"
            )
        self._take(trainer, value)
        trainer._arguments[name] = value
        trainer.config = as_plain(trainer._arguments)


class AttachedLoop:
    """Descriptor of a loop of the Trainer, which knows its trainer from when it is assigned."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, trainer: Any, owner: type) -> Any:
        return self if trainer is None else vars(trainer)[self._name]

    def __set__(self, trainer: Any, loop: Any) -> None:
        vars(trainer)[self._name] = loop
        if hasattr(loop, "attach"):  # a run refuses what is no loop
            loop.attach(trainer)


def limit_of(stage: str) -> Assigned:
    """Make the descriptor of a stage's limit of batches, which applies from its next epoch."""
    return Assigned(lambda trainer, value: trainer.loaders.set_limit(stage, value))


def validate_after(trainer: RunContext, interval: Any) -> None:
    """Set ``val_check_interval``.

    Args:
        trainer: trainer to change.
        interval: batches (int), a fraction of an epoch (float), or a duration.
    """
    trainer.loaders.validate_at(interval, trainer.loaders.schedule.every_n_epochs)


def validate_every(trainer: RunContext, epochs: Any) -> None:
    """Set ``check_val_every_n_epoch``.

    Args:
        trainer: trainer to change.
        epochs: interval in epochs; None counts batches across epochs.
    """
    trainer.loaders.validate_at(trainer.loaders.schedule.interval, epochs)
