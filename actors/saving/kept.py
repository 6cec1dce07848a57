"""KeptCheckpoints: the run's own checkpoints, which of them are kept, and which one is ``last``."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...bus.events import Fork
from ...bus.system.logging_setup import get_logger
from ..checkpoints.files import free_name, point_at
from ..checkpoints.format import is_checkpoint, remove_checkpoint, remove_unfinished
from ..run_context import RunContext

_log = get_logger("nightbus.checkpoint")


class KeptCheckpoints:
    """The checkpoints in a run's folder that are not saved for a callback.

    The newest two are kept: the older one remains in case the newer one gets damaged.

    Args:
        context: the run.

    Attributes:
        last_path: the newest checkpoint in the run's folder, the target of ``last``.
    """

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self.last_path: Path | None = None
        self._own: list[Path] = []

    @property
    def folder(self) -> Path | None:
        """Return where the run's checkpoints are; None if the run has no folder."""
        run = self._context.run_folder
        return None if run is None else run.path / "checkpoints"

    @property
    def names(self) -> list[str]:
        """Return the names of the run's own checkpoints, oldest first."""
        return [path.name for path in self._own]

    def begin(self, fork: Fork | None, state: Mapping[str, Any] | None) -> None:
        """Remove what a killed attempt left, and take over the checkpoints of a resumed run.

        Args:
            fork: the point from which the run continues, if any.
            state: the checkpoint from which it continues, if any.
        """
        folder = self.folder
        if folder is None:
            return
        if self._context.group.world.is_global_zero:
            remove_unfinished(folder)
        if fork is not None and state is not None:
            # Only names: a checkpoint may be a stranger's, and files that it names get removed.
            names = [str(name) for name in state.get("kept", ()) if Path(str(name)).name == name]
            names.append(Path(fork.checkpoint).name)
            found = [is_checkpoint(folder / name) for name in names]
            *are_there, is_last = self._context.group.broadcast("which checkpoints exist", found)
            *own, resumed = [folder / name for name in names]
            self._own = [path for path, is_there in zip(own, are_there, strict=True) if is_there]
            if is_last:
                self._note_last(resumed)

    def add(self, folder: Path, epoch: int) -> Path:
        """Return the path of a new checkpoint, which counts as one of the run's own from now on.

        All ranks call this; rank 0 sees which names are in use.

        Args:
            folder: where the run's checkpoints are.
            epoch: for the name.
        """
        extension = self._context.checkpoint_extension
        wanted = folder / f"epoch={epoch}-step={self._context.global_step}{extension}"
        name = free_name(wanted, extension=extension).name
        agreed: str = self._context.group.broadcast("the name of a checkpoint", name)
        path = folder / agreed
        self._own.append(path)
        return path

    def note_written(self, path: Path) -> None:
        """Take note, on another rank than 0, that rank 0 has written a checkpoint.

        Args:
            path: the checkpoint, which is the newest.
        """
        former = self._note_last(path)
        self._own = [each for each in self._own if each in (path, former)]

    def _note_last(self, path: Path) -> Path | None:
        """Take note of the newest checkpoint, and return the one before."""
        former, self.last_path = self.last_path, path
        self._context.run_saved(path)
        return former

    def make_last(self, path: Path) -> Path | None:
        """Point ``last`` at a checkpoint that was written.

        Args:
            path: the checkpoint.

        Returns:
            The one to which ``last`` pointed before.
        """
        former = self._note_last(path)
        last = path.with_name("last")
        if not (last.is_symlink() and os.readlink(last) == path.name):
            point_at(last, path)
        return former

    def remove_all_but(self, newest: Path, former: Path | None) -> None:
        """Remove the run's own checkpoints, except for the newest two.

        Args:
            newest: the newest.
            former: the one before.
        """
        for old in self._own[:]:
            if old in (newest, former):
                continue
            self._own.remove(old)
            try:
                remove_checkpoint(old)
            except FileNotFoundError:
                pass  # it was removed by others
            except OSError as error:
                _log.warning("cannot remove a checkpoint", path=str(old), error=str(error))
