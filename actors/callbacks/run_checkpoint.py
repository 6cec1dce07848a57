"""RunCheckpoint: the run's own checkpoints, as the ModelCheckpoint of a Trainer without another."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .model_checkpoint import ModelCheckpoint


class RunCheckpoint(ModelCheckpoint):
    """Says which of the run's own checkpoints is the newest; it saves none itself.

    A Trainer that saves its runs has one, unless a callback that saves checkpoints is given. So
    ``trainer.checkpoint_callback`` and ``ckpt_path="best"`` work without one, and nothing is saved
    twice. As for a ModelCheckpoint without ``monitor``, the best checkpoint is the newest.
    """

    # The run is saved without it.
    setup = on_train_start = on_batch_end = on_validation_end = None  # type: ignore[assignment]
    on_train_epoch_end = on_epoch_end = None  # type: ignore[assignment]

    def follow(self, path: Path) -> None:
        """Take note of the run's newest checkpoint."""
        self.dirpath, self.best_model_path = str(path.parent), str(path)

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the run knows its checkpoints."""
        return {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore nothing."""
