"""Keeps the configuration of a command line in the run's folder."""

from pathlib import Path

from jsonargparse import Namespace

from ...actors.callback import Callback
from ...actors.module import LightningModule
from ...bus.errors import UsageError
from ...bus.secrets.redaction import redact_setting
from ..trainer import Trainer
from .parser import LightningArgumentParser


class ConfigExistsError(UsageError, RuntimeError):
    """The run's folder has a configuration already."""


class _NothingSavedError(UsageError, ValueError):
    """A callback that saves no configuration."""


class SaveConfigCallback(Callback):
    """Saves the configuration in the run's folder when a run begins, secrets struck out.

    A run that goes on in the folder of an earlier attempt keeps the file of that attempt, and
    writes its own with its number: ``config.1.yaml``. A fast dev run saves nothing.

    Args:
        parser: the parser that has read the configuration.
        config: the configuration.
        config_filename: name of the file.
        overwrite: replace a file of that name.
        multifile: write a part that was read from a file of its own into one again.
        save_to_log_dir: save the file; False leaves it to a ``save_config`` of your own.

    Raises:
        UsageError: nothing would be saved.
    """

    def __init__(
        self,
        parser: LightningArgumentParser,
        config: Namespace,
        config_filename: str = "config.yaml",
        overwrite: bool = False,
        multifile: bool = False,
        save_to_log_dir: bool = True,
    ) -> None:
        super().__init__()
        self.parser = parser
        self.config = config
        self.config_filename = config_filename
        self.overwrite = overwrite
        self.multifile = multifile
        self.save_to_log_dir = save_to_log_dir
        self.already_saved = False
        if not save_to_log_dir and type(self).save_config is SaveConfigCallback.save_config:
            raise _NothingSavedError(
                "`save_to_log_dir=False` only makes sense in a subclass of SaveConfigCallback "
                "that overrides `save_config`"
            )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Save the configuration, once.

        Args:
            trainer: the trainer.
            pl_module: the module.
            stage: what begins: ``fit``, ``validate``, ``test`` or ``predict``.

        Raises:
            ConfigExistsError: the file is there, and ``overwrite`` is False.
        """
        if self.already_saved:
            return
        if self.save_to_log_dir and trainer.is_global_zero and trainer.log_dir is not None:
            self._write(Path(trainer.log_dir), trainer.attempt)
        if trainer.is_global_zero:
            self.save_config(trainer, pl_module, stage)
        self.already_saved = True

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Save the configuration elsewhere too; called on rank 0. It does nothing by itself.

        Args:
            trainer: the trainer.
            pl_module: the module.
            stage: what begins: ``fit``, ``validate``, ``test`` or ``predict``.
        """

    def _write(self, folder: Path, attempt: int) -> None:
        path = folder / self.config_filename
        if attempt > 0:
            path = path.with_name(f"{path.stem}.{attempt}{path.suffix}")
        if path.exists() and not self.overwrite:
            raise ConfigExistsError(
                f"{path} exists. Aborting to avoid overwriting results of a previous run; delete "
                "it, or allow it with LightningCLI(save_config_kwargs={'overwrite': True}), or "
                "save no configuration with LightningCLI(save_config_callback=None)"
            )
        self.parser.save(
            _without_secrets(self.config),
            path,
            skip_unset=False,
            skip_validation=True,
            overwrite=self.overwrite,
            multifile=self.multifile,
        )


def _without_secrets(config: Namespace) -> Namespace:
    """Return a copy of a configuration in which secrets are struck out."""
    copy = config.clone()
    for key, value in list(copy.items()):
        copy[key] = redact_setting(key.rpartition(".")[2], value)
    return copy
