"""Stand-ins for the data sets and tools that the guides' examples import."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from models import make_net
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import nightbus as nb

Transform = Callable[[Any], Any]


class _Pictures(Dataset[Any]):
    """Pictures of four pixels from 0 to 1, as plain lists, and their classes."""

    size = 12
    seed = 0

    def __init__(
        self,
        root: str = "",
        train: bool = True,
        transform: Transform | None = None,
        download: bool = False,
    ) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        self._pixels: list[list[float]] = torch.rand(self.size, 4, generator=generator).tolist()
        self._transform = transform or torch.tensor

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Any:
        pixels = self._pixels[index]
        return self._transform(pixels), int(sum(pixels) > 2)


class MNIST(_Pictures):
    """12 pictures."""


class CIFAR(_Pictures):
    """20 pictures."""

    size = 20
    seed = 1


def _compose(steps: Sequence[Transform]) -> Transform:
    def all_of_them(value: Any) -> Any:
        for step in steps:
            value = step(value)
        return value

    return all_of_them


def _normalize(mean: tuple[float], std: tuple[float]) -> Transform:
    return lambda picture: (picture - mean[0]) / std[0]


transforms = SimpleNamespace(Compose=_compose, ToTensor=lambda: torch.tensor, Normalize=_normalize)
torchvision = SimpleNamespace(
    utils=SimpleNamespace(make_grid=lambda pictures: pictures.reshape(-1, pictures.shape[-1]))
)


class DictData(Dataset[Any]):
    """12 points as ``{"x": ..., "y": ...}``."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"x": torch.full((4,), float(index)), "y": torch.tensor(index % 2)}


def dict_loader() -> DataLoader[Any]:
    return DataLoader(DictData(), batch_size=4)


class Experiment:
    """Notes what a module writes to its logger's experiment."""

    def __init__(self) -> None:
        self.histograms: list[tuple[str, int]] = []
        self.images: list[tuple[str, tuple[int, ...], int]] = []

    def add_histogram(self, tag: str, values: Tensor, global_step: int) -> None:
        assert values.isfinite().all()
        self.histograms.append((tag, global_step))

    def add_image(self, tag: str, image: Tensor, global_step: int) -> None:
        self.images.append((tag, tuple(image.shape), global_step))


class Board(nb.Sink):
    """A logger with an experiment."""

    def __init__(self) -> None:
        self.experiment = Experiment()
        self.closed = False

    def write(self, batch: list[Any]) -> None:
        """Nothing is carried anywhere."""

    def close(self) -> None:
        self.closed = True


class Plain(nb.LightningModule):
    """The net of ``Small`` with no step of its own, for modules that define all of theirs."""

    def __init__(self) -> None:
        super().__init__()
        self.net = make_net()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)  # type: ignore[no-any-return]

    def loss(self, batch: Any) -> Tensor:
        x, y = batch
        return nn.functional.cross_entropy(self(x), y)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class TwoNets(nb.LightningModule):
    """A generator and a discriminator, of one layer each; the steps are up to the test."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.model_gen = nn.Linear(4, 4)
        self.model_dis = nn.Linear(4, 2)

    def loss_of(self, batch: Any, optimizer_idx: int) -> Tensor:
        """A loss that both nets have a share in."""
        x, y = batch
        loss = nn.functional.cross_entropy(self.model_dis(self.model_gen(x)), y)
        return loss if optimizer_idx == 0 else -0.5 * loss
