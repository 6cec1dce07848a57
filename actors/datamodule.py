"""LightningDataModule: the data of a run in one place."""

import os
from collections.abc import Mapping
from functools import partial
from inspect import Parameter, signature
from typing import Any, ClassVar, Self

from ..bus.actor import Actor
from ..bus.system.paths import as_path
from .checkpoints.weights_only import check_weights_only
from .hyperparameters import HyperparametersMixin, restored_arguments
from .logging_mixin import LoggingMixin


class LightningDataModule(HyperparametersMixin, LoggingMixin, Actor):
    """Override what you need; its data hooks stand in for the module's own."""

    _has_hooks: ClassVar = True

    @classmethod
    def from_datasets(
        cls,
        train_dataset: Any = None,
        val_dataset: Any = None,
        test_dataset: Any = None,
        predict_dataset: Any = None,
        batch_size: int = 1,
        num_workers: int = 0,
        **datamodule_kwargs: Any,
    ) -> Self:
        """Make a datamodule of datasets; the training data are shuffled, unless they have no order.

        Args:
            train_dataset: one dataset, or a list or dict of several, of which each gets a
                dataloader; None for no training. The others are the same for their stages.
            val_dataset: for validation.
            test_dataset: for testing.
            predict_dataset: for prediction.
            batch_size: samples in a batch.
            num_workers: processes that read, for each dataloader; 0 reads here.
            datamodule_kwargs: arguments of ``__init__``; batch_size and num_workers are among them
                if it takes these.
        """
        from .data.dataset_loaders import dataloaders_of

        parameters = signature(cls).parameters
        takes_any = any(p.kind is Parameter.VAR_KEYWORD for p in parameters.values())
        own = {"batch_size": batch_size, "num_workers": num_workers}
        passed = {name: value for name, value in own.items() if takes_any or name in parameters}
        data = cls(**{**passed, **datamodule_kwargs})
        datasets = {
            "train": train_dataset,
            "val": val_dataset,
            "test": test_dataset,
            "predict": predict_dataset,
        }
        for stage, given in datasets.items():
            if given is not None:
                shuffle = stage == "train"
                loaders = partial(dataloaders_of, given, shuffle, batch_size, num_workers)
                setattr(data, f"{stage}_dataloader", loaders)
        return data

    @classmethod
    def load_from_checkpoint(
        cls,
        checkpoint_path: str | os.PathLike[str],
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """Make a datamodule with the hyperparameters and the state of a checkpoint.

        Args:
            checkpoint_path: a checkpoint's folder.
            weights_only: as for a module.
            kwargs: arguments of ``__init__``, instead of or beside the checkpoint's
                hyperparameters.

        Raises:
            CheckpointError: it cannot be read.
            UsageError: an argument of ``__init__`` is missing.
        """
        from .checkpoints.format import read_checkpoint

        check_weights_only("load_from_checkpoint", weights_only)
        state = read_checkpoint(as_path(checkpoint_path))
        by_place, by_name = restored_arguments(cls, state, kwargs, "datamodule_")
        data = cls(*by_place, **by_name)
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
