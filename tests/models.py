"""Small modules and data that tests train."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import nightbus as nb

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "logger": False,
}


def dataset(size: int = 24, seed: int = 0) -> TensorDataset:
    """Points of 4 numbers in 2 classes."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, 4, generator=generator)
    return TensorDataset(x, (x.sum(dim=1) > 0).long())


class OrderByEpoch:
    """A sampler whose order depends on the epoch that it was told alone; also for batches."""

    def __init__(self, size: int = 24, batch_size: int | None = None) -> None:
        self._shape = (size,) if batch_size is None else (size // batch_size, batch_size)
        self._size = size
        self.epochs: list[int] = []

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)

    def __iter__(self) -> Iterator[Any]:
        drawn = torch.Generator().manual_seed(self.epochs[-1])
        return iter(torch.randperm(self._size, generator=drawn).view(self._shape).tolist())

    def __len__(self) -> int:
        return self._shape[0]


def loader(size: int = 24, batch_size: int = 4, shuffle: bool = False) -> DataLoader[Any]:
    return DataLoader(dataset(size), batch_size, shuffle=shuffle)


def make_net() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


class Small(nb.LightningModule):
    """A classifier that trains, validates, tests and predicts."""

    def __init__(self, lr: float = 0.1) -> None:
        super().__init__()
        self.net = make_net()
        self.lr = lr

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)  # type: ignore[no-any-return]

    def loss(self, batch: Any) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x), y)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("val_loss", self.loss(batch))

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("test_loss", self.loss(batch))

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        return self(batch[0]).argmax(dim=1)  # type: ignore[no-any-return]

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)


def trainer(folder: Path, **arguments: Any) -> nb.Trainer:
    """A trainer that shows nothing and keeps everything in a folder."""
    options: dict[str, Any] = {**QUIET, "default_root_dir": folder, "max_epochs": 1, **arguments}
    return nb.Trainer(**options)


def events(run: nb.Trainer, *kinds: type[nb.Event], attempt: int = 0) -> list[Any]:
    """What a run recorded in one attempt."""
    from nightbus.bus.log.reader import LogReader

    assert run.run_folder is not None
    reader = LogReader(run.run_folder.store(attempt))
    found = [event for event in reader.events() if not kinds or isinstance(event, kinds)]
    reader.close()
    return found


def weights(module: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def assert_same(found: list[Tensor], expected: list[Tensor]) -> None:
    """Weights are equal to the bit."""
    for mine, other in zip(found, expected, strict=True):
        assert torch.equal(mine, other)


def batches_of(data: DataLoader[Any]) -> Iterator[Any]:
    yield from data
