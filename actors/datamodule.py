"""LightningDataModule: the data of a run in one place."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from ..bus.actor import Actor
from .hyperparameters import HyperparametersMixin, restored_arguments
from .logging_mixin import LoggingMixin


class LightningDataModule(HyperparametersMixin, LoggingMixin, Actor):
    """Override what you need; its data hooks stand in for the module's own."""

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: str | os.PathLike[str], **kwargs: Any) -> Self:
        """Make a datamodule with the hyperparameters and the state of a checkpoint.

        Args:
            checkpoint_path: a checkpoint's folder.
            kwargs: arguments of ``__init__``, instead of or beside the checkpoint's
                hyperparameters.

        Raises:
            CheckpointError: it cannot be read.
            UsageError: an argument of ``__init__`` is missing.
        """
        from .checkpoint_format import read_checkpoint

        state = read_checkpoint(Path(checkpoint_path))
        saved = state.get("datamodule_hyper_parameters", {})
        argument = state.get("datamodule_hparams_argument", "")
        data = cls(**restored_arguments(cls, saved, argument, kwargs))
        if state.get("datamodule"):
            data.load_state_dict(state["datamodule"])
        return data

    def prepare_data(self) -> None:
        """Download and prepare, once; assign no state here."""

    def setup(self, stage: str) -> None:
        """Build datasets, when fit, validate, test or predict begins."""

    def teardown(self, stage: str) -> None:
        """Clean up, when fit, validate, test or predict ends."""

    def train_dataloader(self) -> Any:
        """One dataloader, or a collection of them, for training."""

    def val_dataloader(self) -> Any:
        """One dataloader, or several, for validation."""

    def test_dataloader(self) -> Any:
        """One dataloader, or several, for testing."""

    def predict_dataloader(self) -> Any:
        """One dataloader, or several, for prediction."""

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Alter a batch before it goes to the device."""
        return batch

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int = 0) -> Any:
        """Move a batch; override it for batches of your own type."""
        from .device import move_data_to_device

        return move_data_to_device(batch, device)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Alter a batch on the device."""
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Plain data and tensors that a checkpoint keeps."""
        return {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take up what ``state_dict`` gave."""
