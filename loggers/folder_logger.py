"""FolderLogger: a logger that writes ``save_dir/name/version_N``."""

import os
from abc import abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from .hyperparameter_yaml import write_hyperparameters
from .logger import RecordedLogger, as_folder


class FolderLogger(RecordedLogger):
    """A logger with a folder for each version of an experiment.

    Args:
        save_dir: folder of the experiments.
        name: name of the experiment, a folder in ``save_dir``; no such folder if empty or None.
        version: a number, or a text, which is the folder's name then; the next free number if
            None.
        prefix: stands before each metric's name.
    """

    NAME_HPARAMS_FILE = "hparams.yaml"

    def __init__(
        self,
        save_dir: str | os.PathLike[str],
        name: str | None = "lightning_logs",
        version: int | str | None = None,
        prefix: str = "",
    ) -> None:
        super().__init__(prefix)
        self._save_dir = os.fspath(save_dir)
        self._name = name or ""
        self._version = version
        self.hparams: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """Name of the experiment; empty if it has none."""
        return self._name

    @property
    def version(self) -> int | str:
        """Number or name of this version."""
        if self._version is None:
            self._version = self._next_version()
        return self._version

    @property
    def save_dir(self) -> str:
        """Folder of the experiments."""
        return self._save_dir

    @property
    def root_dir(self) -> str:
        """Folder of the experiment."""
        return os.path.join(as_folder(self.save_dir), self.name)

    @property
    def log_dir(self) -> str:
        """Folder of this version."""
        version = self.version
        return os.path.join(
            self.root_dir, version if isinstance(version, str) else f"version_{version}"
        )

    def _next_version(self) -> int:
        root = Path(self.root_dir)
        folders = root.glob("version_*") if root.is_dir() else ()
        numbers = [folder.name.removeprefix("version_") for folder in folders if folder.is_dir()]
        return max((int(number) + 1 for number in numbers if number.isdecimal()), default=0)

    def log_hyperparams(
        self, params: Any = None, metrics: Any = None, step: int | None = None
    ) -> None:
        """Keep hyperparameters for ``hparams.yaml``.

        Args:
            params: a mapping or a Namespace.
            metrics: logged as by ``log_metrics``.
            step: step of the metrics.
        """
        given = self.remember_hyperparams(params)
        self.hparams |= given
        self.write_hyperparams(given)
        if isinstance(metrics, Mapping) and metrics:
            self.log_metrics(metrics, step)

    @abstractmethod
    def write_hyperparams(self, given: Mapping[str, Any]) -> None:
        """Write hyperparameters besides ``hparams.yaml``.

        Args:
            given: those that are new.
        """

    def link_checkpoints(self, folder: Path, taken: Collection[str]) -> None:
        """Link a run's checkpoints as ``checkpoints``, where Lightning has them.

        Args:
            folder: folder of the run's checkpoints.
            taken: folders that have another use: if ``checkpoints`` is one, it is not linked.
        """
        link = Path(self.log_dir, "checkpoints")
        if os.path.abspath(link) in taken:
            return
        if link.is_symlink() or not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(folder.resolve(), target_is_directory=True)

    def save(self) -> None:
        """Write ``hparams.yaml``, unless it has them already."""
        folder = Path(self.log_dir)
        folder.mkdir(parents=True, exist_ok=True)
        write_hyperparameters(folder / self.NAME_HPARAMS_FILE, self.hparams)
