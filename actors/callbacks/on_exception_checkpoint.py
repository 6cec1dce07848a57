"""OnExceptionCheckpoint: saves the run when user code raises."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ...bus.errors import CheckpointError
from ...bus.system.logging_setup import get_logger
from ...bus.system.paths import as_path
from ..checkpoints.files import free_name
from .checkpoint import Checkpoint

if TYPE_CHECKING:
    from ..module import LightningModule
    from ..trainer_type import Trainer

_log = get_logger("nightbus.checkpoint")


class OnExceptionCheckpoint(Checkpoint):
    """Saves a checkpoint when training fails with an exception.

    A run that is resumed from it repeats the failed batch. Changes that the step made before it
    failed remain: with several optimizers, one may have stepped. To continue exactly, resume from
    a checkpoint that was saved between steps.

    If one rank of several fails, the others end too, and rank 0 saves its own state.

    These checkpoints are never removed. After Ctrl-C, SIGTERM and commands the run is saved
    without a callback.

    Args:
        dirpath: folder of the checkpoint; by default ``checkpoints`` in the run's folder, where
            ``ckpt_path="last"`` finds it.
        filename: the checkpoint's name; if it is in use, ``-v1``, ``-v2`` and so on is appended.
    """

    def __init__(
        self, dirpath: str | os.PathLike[str] | None = None, filename: str = "on_exception"
    ) -> None:
        self.dirpath = None if dirpath is None else os.path.abspath(as_path(dirpath))
        self.filename = filename

    def on_exception(
        self, trainer: "Trainer", pl_module: "LightningModule", exception: BaseException
    ) -> None:
        if path := self.ckpt_path_in(trainer):
            save_failed_run(trainer, free_name(path, extension=self.FILE_EXTENSION), exception)

    def ckpt_path_in(self, trainer: "Trainer") -> Path | None:
        """Return where a run is saved, before a name in use is avoided; None if nowhere.

        Args:
            trainer: the run's.
        """
        folder = self.dirpath or (trainer.run_folder and trainer.run_folder.path / "checkpoints")
        return Path(folder) / self._name if folder else None

    @property
    def ckpt_path(self) -> str:
        """The checkpoint's path, before a name in use is avoided; empty without ``dirpath``."""
        return os.path.join(self.dirpath, self._name) if self.dirpath else ""

    @property
    def _name(self) -> str:
        return self.filename + self.FILE_EXTENSION


def save_failed_run(trainer: "Trainer", path: Path, exception: BaseException) -> None:
    """Save a run that failed; an error in that is reported, for the user has to see the first one.

    Args:
        trainer: the run's.
        path: the checkpoint's path, which is not in use.
        exception: what the run failed with; after Ctrl-C and the like it is saved anyway.
    """
    if not (isinstance(exception, Exception) and trainer.checkpointer.can_save_failed):
        return
    if not trainer.is_global_zero:  # which saves, for other ranks need not come here
        return
    try:
        trainer.checkpointer.save_now(path, by_all=False)
    except CheckpointError as error:
        trainer.checkpointer.report(error)
    else:
        _log.warning("the run failed and was saved", path=str(path))
