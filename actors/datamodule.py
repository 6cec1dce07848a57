"""LightningDataModule: the data of a run in one place."""

from collections.abc import Mapping
from typing import Any

from ..bus.actor import Actor
from .hyperparameters import HyperparametersMixin
from .logging_mixin import LoggingMixin


class LightningDataModule(HyperparametersMixin, LoggingMixin, Actor):
    """Override what you need; its data hooks stand in for the module's own."""

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
