"""Callbacks: actors in the step with a method for each hook."""

from typing import TYPE_CHECKING, Any

from ..bus.actor import Actor
from .logging_mixin import LoggingMixin

if TYPE_CHECKING:
    from ..trainer import Trainer
    from .module import LightningModule


class Callback(LoggingMixin, Actor):
    """Override the hooks you need; each is called with the trainer and the module first.

    A hook that raises ends the run. Returning -1 from ``on_train_batch_start`` skips the rest of
    the epoch. ``@on`` works here as in any actor.
    """

    def on_init_start(self, trainer: "Trainer") -> None:
        """Called when the Trainer begins to be made."""

    def on_init_end(self, trainer: "Trainer") -> None:
        """Called when the Trainer is made."""

    def setup(self, trainer: "Trainer", module: "LightningModule", stage: str) -> None:
        """Called when fit, validate, test or predict begins."""

    def teardown(self, trainer: "Trainer", module: "LightningModule", stage: str) -> None:
        """Called when fit, validate, test or predict ends, also after an exception."""

    def on_exception(
        self, trainer: "Trainer", module: "LightningModule", exception: BaseException
    ) -> None:
        """Called when the run ends by an exception, KeyboardInterrupt included."""

    def on_save_checkpoint(
        self, trainer: "Trainer", module: "LightningModule", checkpoint: dict[str, Any]
    ) -> None:
        """Called before a checkpoint is written; add plain data or tensors to it."""

    def on_load_checkpoint(
        self, trainer: "Trainer", module: "LightningModule", checkpoint: dict[str, Any]
    ) -> None:
        """Called when a checkpoint was read, before anything is restored from it."""
