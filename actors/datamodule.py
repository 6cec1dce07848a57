"""LightningDataModule: the data of a run."""

import os
from collections.abc import Mapping
from functools import partial
from inspect import Parameter, signature
from typing import Any, ClassVar, Self

from ..bus.actor import Actor
from ..bus.system.paths import as_path
from .checkpoints.weights_only import check_weights_only
from .class_methods import makes_new
from .former_datamodule import FormerDataModule
from .hyperparameter_file import device_of_map, with_hyperparameters_of
from .hyperparameters import HyperparametersMixin, restored_arguments
from .logging_mixin import LoggingMixin


class LightningDataModule(FormerDataModule, HyperparametersMixin, LoggingMixin, Actor):
    """Base of datamodules; its data hooks are called instead of the module's.

    Arguments of hooks:
        stage: ``fit``, ``validate``, ``test`` or ``predict``.
        batch: what the dataloader returned, on the device once it has been transferred.
        device: the ``torch.device`` of the run.
        dataloader_idx: index of the batch's dataloader.
        exception: the exception that ends the run.
    """

    _has_hooks: ClassVar = True
    _has_trainer_always: ClassVar = False  # as in Lightning: code asks whether there is one
    CHECKPOINT_HYPER_PARAMS_KEY: ClassVar = "datamodule_hyper_parameters"
    CHECKPOINT_HYPER_PARAMS_NAME: ClassVar = "datamodule_hparams_name"
    CHECKPOINT_HYPER_PARAMS_TYPE: ClassVar = "datamodule_hparams_type"

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
        """Construct a datamodule from datasets.

        Training data is shuffled, unless it is an IterableDataset.

        Args:
            train_dataset: one dataset, or a list or dict of several, each of which gets a
                dataloader; None for no training.
            val_dataset: the same for validation.
            test_dataset: the same for testing.
            predict_dataset: the same for prediction.
            batch_size: number of samples in a batch.
            num_workers: number of worker processes for each dataloader; 0 reads in this process.
            **datamodule_kwargs: arguments of ``__init__``, which also gets batch_size and
                num_workers if it takes them.

        Returns:
            The datamodule.
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

    @makes_new
    def load_from_checkpoint(
        cls,
        checkpoint_path: str | os.PathLike[str],
        map_location: Any = None,
        hparams_file: str | os.PathLike[str] | None = None,
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """Construct a datamodule with the hyperparameters and the state of a checkpoint.

        Args:
            checkpoint_path: folder of the checkpoint.
            map_location: as for a module; accepted without effect, for a datamodule has no device.
            hparams_file: a YAML or CSV file whose hyperparameters replace the checkpoint's.
            weights_only: as for a module.
            **kwargs: arguments of ``__init__``, which take precedence over the checkpoint's
                hyperparameters.

        Returns:
            The datamodule.

        Raises:
            CheckpointError: the checkpoint cannot be read.
            UsageError: an argument of ``__init__`` is missing, map_location is not a device, or
                hparams_file cannot be read.
        """
        from .checkpoints.format import read_checkpoint

        check_weights_only("load_from_checkpoint", weights_only)
        device_of_map(map_location)
        state = read_checkpoint(as_path(checkpoint_path))
        state = with_hyperparameters_of(hparams_file, state, "datamodule_")
        by_place, by_name = restored_arguments(cls, state, kwargs, "datamodule_")
        data = cls(*by_place, **by_name)
        if state.get("datamodule"):
            data.load_state_dict(state["datamodule"])
        return data

    def prepare_data(self) -> None:
        """Download and prepare data, once; do not assign state here."""

    def setup(self, stage: str) -> None:
        """Build datasets, when fit, validate, test or predict begins."""

    def teardown(self, stage: str) -> None:
        """Clean up, when fit, validate, test or predict ends."""

    def on_exception(self, exception: BaseException) -> None:
        """Called when an exception, including KeyboardInterrupt, ends the run."""

    def train_dataloader(self) -> Any:
        """Return one dataloader, or a collection of them, for training."""

    def val_dataloader(self) -> Any:
        """Return one dataloader, or several, for validation."""

    def test_dataloader(self) -> Any:
        """Return one dataloader, or several, for testing."""

    def predict_dataloader(self) -> Any:
        """Return one dataloader, or several, for prediction."""

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Return the batch, changed if needed, before it is moved to the device."""
        return batch

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int = 0) -> Any:
        """Return the batch on the device; override it for batches of your own type."""
        from .trees import move_data_to_device

        return move_data_to_device(batch, device)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Return the batch, changed if needed, on the device."""
        return batch

    def __str__(self) -> str:
        """Return a line for each dataloader that can be had, with the sizes of its datasets."""
        from .data.dataset_loaders import sizes_of

        names = {"Train": "train", "Validation": "val", "Test": "test", "Predict": "predict"}
        lines = [
            f"{{{shown} dataloader: {sizes_of(getattr(self, f'{name}_dataloader'))}}}"
            for shown, name in names.items()
        ]
        return os.linesep.join(lines)

    def state_dict(self) -> dict[str, Any]:
        """Return the state that checkpoints contain: plain data and tensors."""
        return {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore the state that ``state_dict`` returned."""
