"""Lightning's demo data: digits of MNIST by torchvision, and texts of WikiText-2 on disk."""

import os
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, random_split

from ..actors import LightningDataModule
from ..bus.errors import MissingPackageError, UsageError

_MEAN, _DEVIATION = 0.1307, 0.3081  # of the pixels of MNIST


def _torchvision(part: str) -> Any:
    try:
        return import_module(f"torchvision.{part}")
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("torchvision"):
            raise
        raise MissingPackageError("MNIST", "torchvision", "") from None


def MNIST(*args: Any, **kwargs: Any) -> Any:
    """Return the dataset MNIST of torchvision.

    Args:
        *args: its arguments: the folder, and whether it is for training.
        **kwargs: its arguments, such as ``download=True``.
    """
    return _torchvision("datasets").MNIST(*args, **kwargs)


class MNISTDataModule(LightningDataModule):
    """Digits for training, validation and test.

    Args:
        data_dir: folder of the data set, which is downloaded to it.
        val_split: number of digits for validation.
        num_workers: worker processes of each loader.
        normalize: shift and scale the pixels to mean 0 and deviation 1.
        seed: of the split.
        batch_size: digits in a batch.
        *args: without effect.
        **kwargs: without effect.
    """

    name = "mnist"

    def __init__(
        self,
        data_dir: str = "Datasets",
        val_split: int = 5000,
        num_workers: int = 16,
        normalize: bool = False,
        seed: int = 42,
        batch_size: int = 32,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.data_dir = data_dir
        self.val_split = val_split
        self.num_workers = num_workers
        self.normalize = normalize
        self.seed = seed
        self.batch_size = batch_size
        self.dataset_train: Any = None
        self.dataset_val: Any = None
        self.test_transforms = self.default_transforms

    @property
    def num_classes(self) -> int:
        """Number of digits that there are: 10."""
        return 10

    @property
    def default_transforms(self) -> Any:
        """Make tensors of images, normalised if that is asked for."""
        transforms = _torchvision("transforms")
        steps = [transforms.ToTensor()]
        if self.normalize:
            steps.append(transforms.Normalize((_MEAN,), (_DEVIATION,)))
        return transforms.Compose(steps)

    def prepare_data(self) -> None:
        for is_train in (True, False):
            MNIST(self.data_dir, train=is_train, download=True)

    def setup(self, stage: str) -> None:
        digits = self._digits(is_train=True)
        sizes = [len(digits) - self.val_split, self.val_split]
        drawn = torch.Generator().manual_seed(self.seed)
        self.dataset_train, self.dataset_val = random_split(digits, sizes, generator=drawn)

    def train_dataloader(self) -> DataLoader[Any]:
        return self._loader(self.dataset_train, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader(self.dataset_val)

    def test_dataloader(self) -> DataLoader[Any]:
        return self._loader(self._digits(is_train=False))

    def _digits(self, is_train: bool) -> Any:
        return MNIST(self.data_dir, train=is_train, transform=self.default_transforms)

    def _loader(self, digits: Any, shuffle: bool = False) -> DataLoader[Any]:
        return DataLoader(
            digits,
            self.batch_size,
            shuffle=shuffle,
            num_workers=self.num_workers,
            drop_last=True,
            pin_memory=True,
        )


class WikiText2(Dataset[tuple[Tensor, Tensor]]):
    """Words of ``wikitext-2.txt`` as numbers, in blocks, each with the words that follow.

    Args:
        data_dir: folder of the file.
        block_size: words in a block.
        download: without effect: the file has to be there.

    Raises:
        UsageError: the file is not there.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] = "data",
        block_size: int = 35,
        download: bool = True,
    ) -> None:
        path = Path(data_dir, "wikitext-2.txt")
        if not path.is_file():
            raise UsageError(f"there is no {path}: nightbus downloads no data; put the file there")
        words = path.read_text(encoding="utf-8").replace("\n", " <eos> ").split()
        self.numbers = {word: number for number, word in enumerate(dict.fromkeys(words))}
        self.data = torch.tensor([self.numbers[word] for word in words])
        self.block_size = block_size

    @property
    def vocab_size(self) -> int:
        """Number of different words."""
        return len(self.numbers)

    def __len__(self) -> int:
        return (len(self.data) - 1) // self.block_size

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        begin = index * self.block_size
        block = self.data[begin : begin + self.block_size + 1]
        return block[:-1], block[1:]
