"""Lightning's demo classes: small modules and random data, which test suites build on."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset

from ..actors import LightningDataModule, LightningModule

_SIZE, _LENGTH = 32, 64
_STAGES = ("train", "val", "test", "predict")


class RandomDataset(Dataset[Tensor]):
    """Normally distributed vectors, drawn once.

    Args:
        size: of a vector.
        length: how many there are.
    """

    def __init__(self, size: int, length: int) -> None:
        self.len = length
        self.data = torch.randn(length, size)

    def __getitem__(self, index: int) -> Tensor:
        return self.data[index]

    def __len__(self) -> int:
        return self.len


class RandomDictDataset(Dataset[dict[str, Tensor]]):
    """Vectors as entry ``a``, and as ``b`` the same plus 2.

    Args:
        size: of a vector.
        length: how many there are.
    """

    def __init__(self, size: int, length: int) -> None:
        self.len = length
        self.data = torch.randn(length, size)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"a": self.data[index], "b": self.data[index] + 2}

    def __len__(self) -> int:
        return self.len


class RandomIterableDataset(IterableDataset[Tensor]):
    """Normally distributed vectors, drawn again each time; it has no length.

    Args:
        size: of a vector.
        count: how many come.
    """

    def __init__(self, size: int, count: int) -> None:
        self.size, self.count = size, count

    def __iter__(self) -> Iterator[Tensor]:
        return (torch.randn(self.size) for _ in range(self.count))


class RandomIterableDatasetWithLen(RandomIterableDataset):
    """The same, with a length."""

    def __len__(self) -> int:
        return self.count


class BoringModel(LightningModule):
    """A linear layer with all steps and loaders, to override what a test is about."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(_SIZE, 2)

    def forward(self, x: Tensor) -> Any:
        return self.layer(x)

    def loss(self, preds: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return how far predictions are from the labels.

        Args:
            preds: the predictions.
            labels: ones if None.
        """
        labels = torch.ones_like(preds) if labels is None else labels
        return torch.nn.functional.mse_loss(preds, labels)

    def step(self, batch: Any) -> Tensor:
        """Return the loss of a batch."""
        return self.loss(self(batch))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return {"loss": self.step(batch)}

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        return {"x": self.step(batch)}

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        return {"y": self.step(batch)}

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=1)]

    def train_dataloader(self) -> Any:
        return DataLoader(RandomDataset(_SIZE, _LENGTH))

    def val_dataloader(self) -> Any:
        return DataLoader(RandomDataset(_SIZE, _LENGTH))

    def test_dataloader(self) -> Any:
        return DataLoader(RandomDataset(_SIZE, _LENGTH))

    def predict_dataloader(self) -> Any:
        return DataLoader(RandomDataset(_SIZE, _LENGTH))


class ManualOptimBoringModel(BoringModel):
    """The same, taking its steps by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizer: Any = self.optimizers()
        loss = self.step(batch)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        return loss


class DemoModel(LightningModule):
    """A layer that is trained to give small sums.

    Args:
        out_dim: of the layer.
        learning_rate: of Adam.
    """

    def __init__(self, out_dim: int = 10, learning_rate: float = 0.02) -> None:
        super().__init__()
        self.l1 = torch.nn.Linear(_SIZE, out_dim)
        self.learning_rate = learning_rate

    def forward(self, x: Tensor) -> Any:
        return torch.relu(self.l1(x.view(x.size(0), -1)))

    def training_step(self, batch: Any, batch_nb: int) -> Any:
        return self(batch).sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate)


class _ByStage(LightningDataModule):
    """Makes what a stage needs when it is set up, and a loader of it."""

    random_train: Any
    random_val: Any
    random_test: Any
    random_predict: Any

    def setup(self, stage: str) -> None:
        needed = ("train", "val") if stage == "fit" else (stage.removesuffix("idate"),)
        for name in needed:
            setattr(self, f"random_{name}", self._data_of(_STAGES.index(name)))

    def _data_of(self, number: int) -> Any:
        raise NotImplementedError

    def _loaders(self, data: Any) -> Any:
        return DataLoader(data)

    def train_dataloader(self) -> Any:
        return self._loaders(self.random_train)

    def val_dataloader(self) -> Any:
        return self._loaders(self.random_val)

    def test_dataloader(self) -> Any:
        return self._loaders(self.random_test)

    def predict_dataloader(self) -> Any:
        return self._loaders(self.random_predict)


class BoringDataModule(_ByStage):
    """A part of the same random data for each stage."""

    def __init__(self) -> None:
        super().__init__()
        self.random_full = RandomDataset(_SIZE, _LENGTH * len(_STAGES))

    def _data_of(self, number: int) -> Any:
        return Subset(self.random_full, range(_LENGTH * number, _LENGTH * (number + 1)))


class BoringDataModuleNoLen(_ByStage):
    """Data without a length."""

    def _data_of(self, number: int) -> Any:
        return RandomIterableDataset(_SIZE, (512, 128, 256, 64)[number])


class IterableBoringDataModule(_ByStage):
    """Two loaders for each stage, one of them of data without a length."""

    def _data_of(self, number: int) -> Any:
        length = 16 * 2**number
        return [RandomDataset(4, length), RandomIterableDataset(4, length)]

    def _loaders(self, data: Any) -> Any:
        return [DataLoader(each) for each in data]
