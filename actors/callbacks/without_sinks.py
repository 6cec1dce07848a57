"""What callbacks that only record say if the Trainer has no sink."""

from typing import TYPE_CHECKING

from ...bus.system.streams import notify_once
from ..callback import Callback

if TYPE_CHECKING:
    from ..trainer_type import Trainer


def say_without_sinks(callback: Callback, trainer: "Trainer") -> None:
    """Say once where a callback's values are, if the Trainer has no sink.

    Args:
        callback: the callback.
        trainer: the trainer.
    """
    if trainer.loggers:
        return
    where = "nobody gets them" if trainer.recording == "off" else "the run's log has them"
    notify_once(
        f"nightbus: {type(callback).__name__} records values, and the Trainer has no logger: "
        f"{where}"
    )
