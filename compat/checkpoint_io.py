"""Writing and reading of files, as Lightning's plugin for checkpoints does it.

The Trainer writes checkpoints itself, see `actors/former_arguments.py`: such a plugin serves code
that calls it, or that gives the Trainer the one that Lightning has anyway.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import torch

from .torch_load import load_checkpoint_or_file


class TorchCheckpointIO:
    """Writes and reads with ``torch.save`` and ``torch.load``."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write a file, and the folders above it.

        Args:
            checkpoint: its content.
            path: the file.
            storage_options: for subclasses.
        """
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        torch.save(checkpoint, path)

    def load_checkpoint(
        self,
        path: str | os.PathLike[str],
        map_location: Any = None,
        weights_only: bool | None = None,
    ) -> Any:
        """Return the content of a file, or of a checkpoint.

        Args:
            path: the file, or the folder.
            map_location: as for ``torch.load``; None for as they were saved.
            weights_only: as for ``torch.load``.
        """
        return load_checkpoint_or_file(path, map_location, weights_only=weights_only)

    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Remove a file, or a checkpoint; nothing if there is none.

        Args:
            path: the file, or the folder.
        """
        if os.path.isdir(path):
            shutil.rmtree(path)
        elif os.path.exists(path):
            os.remove(path)
