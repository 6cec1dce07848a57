"""The datamodule: recordings read as streams, for training, validation and testing."""

from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

import nightbus as nb
from examples.event_classification.augment import shift_and_zoom
from examples.event_classification.event_files import recordings_in
from examples.event_classification.labels import class_names, load_classes, lookup_of
from examples.event_classification.preprocess import channels_of
from examples.event_classification.schedule import Schedule
from examples.event_classification.streams import Batch, Recordings, collate, load_recording

__all__ = ["ClassificationDataModule", "load_classes"]


class ClassificationDataModule(nb.LightningDataModule):
    """Streams of recordings below ``dataset_path``, from its folders train, val and test.

    A split is read when it is first needed, and its tensors stay in memory.

    Args:
        hparams: see ``hyperparameters``.

    Raises:
        UsageError: there is no such preprocessing, or it does not make ``cin`` channels.
    """

    def __init__(self, hparams: Namespace) -> None:
        super().__init__()
        self.settings = hparams
        channels = channels_of(hparams.preprocess)
        if hparams.cin != channels:
            raise nb.UsageError(
                f"{hparams.preprocess} makes {channels} channels, and the model takes cin="
                f"{hparams.cin}"
            )
        self._splits: dict[str, Recordings] = {}

    def setup(self, stage: str) -> None:
        """Read the recordings of a stage."""
        needed = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}
        for split in needed.get(stage, ()):
            self.recordings(split)
        if "train" in self._splits:
            count = len(self._splits["train"])
            if self.settings.batch_size > count:
                raise nb.UsageError(
                    f"a batch of {self.settings.batch_size} streams needs as many recordings, and "
                    f"there are {count} for training; use a batch size of at most {count}"
                )

    def recordings(self, split: str) -> Recordings:
        """Return the recordings of a split, which are read if they have not been.

        Args:
            split: ``train``, ``val`` or ``test``.

        Raises:
            RecordingError, ClassListError: the data set is missing, damaged or does not fit.
        """
        if split not in self._splits:
            settings = self.settings
            root = Path(settings.dataset_path)
            files = recordings_in(root / split)
            load = partial(
                load_classes,
                class_lookup=lookup_of(class_names(root), list(settings.classes)),
                labelling_delta_t=settings.label_delta_t,
            )
            loaded = [
                load_recording(file, settings.delta_t, settings.preprocess, load) for file in files
            ]
            is_moved = split == "train" and settings.data_aug
            transform = shift_and_zoom if is_moved else None
            self._splits[split] = Recordings(loaded, settings.num_tbins, transform)
        return self._splits[split]

    def loader(self, split: str, shuffle: bool = False) -> DataLoader[Any]:
        """Return a loader of batches of streams.

        Args:
            split: ``train``, ``val`` or ``test``.
            shuffle: in a new order each time, augmented, without empty slots.
        """
        settings = self.settings
        data = self.recordings(split)
        schedule = Schedule(
            [loaded.recording.duration for loaded in data.recordings],
            settings.num_tbins * settings.delta_t,
            min(settings.batch_size, len(data)),
            shuffle,
            settings.seed,
        )
        workers = settings.num_workers
        return DataLoader(
            data,
            batch_sampler=schedule,
            collate_fn=collate,
            num_workers=workers,
            persistent_workers=workers > 0,
        )

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the batches for training."""
        return self.loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the batches for validation."""
        return self.loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the batches for testing."""
        return self.loader("test")

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int = 0
    ) -> Batch:
        """Move the tensors of a batch; what is known of the recordings stays."""
        return {
            name: value.to(device) if isinstance(value, torch.Tensor) else value
            for name, value in batch.items()
        }
