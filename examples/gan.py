"""A GAN on handwritten digits, with its two optimizers written in two ways.

``GAN`` has the usual form: training_step is called for each optimizer, with its index. In
``YieldGAN``, training_step is a generator function that yields both losses, so that what they share
is computed once; a loop of its own takes a loss from it in each optimizer's turn.

python -m examples.gan
python -m examples.gan --yield
"""

import sys
from collections.abc import Iterator
from typing import Any

import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import nightbus as nb


class GAN(nb.LightningModule):
    """Two small networks for images of 64 pixels from -1 to 1."""

    noise_size = 16

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(
            nn.Linear(self.noise_size, 128), nn.ReLU(), nn.Linear(128, 64), nn.Tanh()
        )
        self.discriminator = nn.Sequential(
            nn.Linear(64, 128), nn.LeakyReLU(0.2), nn.Dropout(0.3), nn.Linear(128, 1)
        )

    def forward(self, number: int) -> Tensor:
        images: Tensor = self.generator(torch.randn(number, self.noise_size))
        return images

    def says(self, images: Tensor, real: bool) -> Tensor:
        """Return the loss of the discriminator if all images are real, or if none is."""
        logits = self.discriminator(images)
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))

    def training_step(self, batch: list[Tensor], batch_idx: int, optimizer_idx: int) -> Tensor:
        (images,) = batch
        if optimizer_idx == 0:
            loss = self.says(self(len(images)), real=True)
            self.log("generator_loss", loss, prog_bar=True)
            return loss
        fakes = self(len(images)).detach()
        loss = (self.says(images, real=True) + self.says(fakes, real=False)) / 2
        self.log("discriminator_loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
        return (
            torch.optim.Adam(self.generator.parameters(), lr=1e-3, betas=(0.5, 0.999)),
            torch.optim.Adam(self.discriminator.parameters(), lr=1e-3, betas=(0.5, 0.999)),
        )


class YieldGAN(GAN):
    """The same in a single generator function: both networks get the same generated images."""

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Iterator[Tensor]:  # type: ignore[override]
        (images,) = batch
        fakes = self(len(images))
        yield self.says(fakes, real=True)
        fakes = fakes.detach()
        yield (self.says(images, real=True) + self.says(fakes, real=False)) / 2


class YieldLoop(nb.OptimizerLoop):
    """Takes each optimizer's loss from one generator function."""

    def on_run_start(self, batch: Any, batch_idx: int) -> None:
        self._losses = self.trainer.lightning_module.training_step(batch, batch_idx)

    def training_step(self, batch: Any, batch_idx: int, optimizer_idx: int) -> Any:
        return next(self._losses)


class Judge(nb.Callback):
    """Puts how close generated images are to real ones, and how many digits there are among them.

    Args:
        images, labels: real ones; images of shape (N, 64).
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images = images
        self.neighbours = KNeighborsClassifier(3).fit(images.numpy(), labels.numpy())

    def on_train_start(self, trainer: nb.Trainer, module: Any) -> None:
        self.judge(module)

    def on_train_epoch_end(self, trainer: nb.Trainer, module: Any) -> None:
        self.judge(module)

    def judge(self, module: Any) -> None:
        with torch.no_grad():
            fakes = module(500)
        digits = self.neighbours.predict(fakes.numpy())
        shares = torch.bincount(torch.tensor(digits), minlength=10) / len(digits)
        distance = torch.cdist(fakes, self.images).amin(dim=1).mean()
        self.put_dict({"distance": distance, "digits": int((shares > 0.02).sum())})


class Course(nb.Sink):
    """Keeps the first and the last value of each metric."""

    def __init__(self) -> None:
        self.first: dict[str, float] = {}
        self.last: dict[str, float] = {}

    def write(self, batch: list[nb.Put]) -> None:
        for put in batch:
            self.first.setdefault(put.name, put.value)
            self.last[put.name] = put.value


def main(with_yield: bool = False, max_epochs: int = 40) -> Course:
    """Train, and return the metrics before and after."""
    nb.seed_everything(6)
    digits = load_digits()
    images = torch.tensor(digits.data, dtype=torch.float32) / 8 - 1
    course = Course()
    trainer = nb.Trainer(
        max_epochs=max_epochs,
        callbacks=[Judge(images, torch.tensor(digits.target))],
        sinks=[course],
        run_name="gan",
    )
    if with_yield:
        trainer.fit_loop.epoch_loop.batch_loop.replace(optimizer_loop=YieldLoop)
    data = DataLoader(TensorDataset(images), 64, shuffle=True)
    trainer.fit(YieldGAN() if with_yield else GAN(), data)
    print(f"\n{trainer.global_step} steps of two optimizers")
    for name in ("distance", "digits"):
        print(f"  {name}: {course.first[name]:.3g} before, {course.last[name]:.3g} after")
    return course


if __name__ == "__main__":
    main(with_yield="--yield" in sys.argv)
