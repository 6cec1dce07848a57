"""Draws the pictures of the board: records a few runs, and opens their export in a browser.

python docs/site/site_board_pictures.py

It needs a chromium and the built page (``make board-page``).
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import nightbus as nb

IMAGES = Path(__file__).resolve().parents[1] / "images"
# What each picture shows, as the page has it in its address, and its width and height in pixels.
PICTURES: dict[str, tuple[dict[str, str], int, int]] = {
    "table": ({"colour": "lr", "small": "val_accuracy"}, 1200, 760),
    "curves": ({"view": "curves", "colour": "lr", "group": "optimizer"}, 1200, 860),
    "media": ({"view": "media"}, 1200, 860),
    "compare": ({"view": "compare", "colour": "val_accuracy"}, 1200, 900),
}


class Digits(nb.LightningModule):
    """A small network; puts its first layer as an image and a histogram after each epoch."""

    def __init__(self, lr: float, optimizer: str) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Sequential(
            torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10)
        )

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        images, labels = batch
        loss = F.cross_entropy(self.net(images), labels)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        images, labels = batch
        logits = self.net(images)
        self.log("val_loss", F.cross_entropy(logits, labels))
        self.log("val_accuracy", (logits.argmax(dim=1) == labels).float().mean())

    def on_train_epoch_end(self) -> None:
        weights = self.net[0].weight.detach()
        tiles = weights.reshape(4, 4, 8, 8).permute(0, 2, 1, 3).reshape(32, 32)
        tiles = (tiles - tiles.min()) / (tiles.max() - tiles.min())
        self.put_image("first layer", tiles.repeat_interleave(6, 0).repeat_interleave(6, 1))
        self.put_histogram("weights", weights)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return getattr(torch.optim, self.hparams["optimizer"])(
            self.parameters(), lr=self.hparams["lr"]
        )


def record(root: Path) -> None:
    """Train a network with each of six settings.

    Args:
        root: the runs go into its folder ``runs``.
    """
    digits = load_digits()
    images = torch.tensor(digits.data, dtype=torch.float32) / 16
    data = TensorDataset(images, torch.tensor(digits.target))
    for optimizer in ("SGD", "Adam"):
        for lr in (0.1, 0.01, 0.001):
            nb.seed_everything(1)
            trainer = nb.Trainer(
                max_epochs=8,
                default_root_dir=root,
                run_name=f"{optimizer.lower()}-{lr}",
                enable_progress_bar=False,
                log_every_n_steps=10,
            )
            loader = DataLoader(data, 32, shuffle=True)
            trainer.fit(Digits(lr, optimizer), loader, DataLoader(data, 512))


def draw(page: Path, browser: str) -> None:
    """Open the page at each of its views, and keep what is seen.

    Args:
        page: the exported file.
        browser: the program.
    """
    for name, (state, width, height) in PICTURES.items():
        picture = IMAGES / f"board-{name}.png"
        subprocess.run(
            [
                browser,
                "--headless=new",
                "--no-sandbox",
                "--hide-scrollbars",
                "--virtual-time-budget=10000",
                f"--window-size={width},{height}",
                f"--screenshot={picture}",
                f"{page.as_uri()}#{urlencode(state)}",
            ],
            check=True,
            stderr=subprocess.DEVNULL,
        )
        with Image.open(picture) as seen:
            seen.convert("RGB").quantize(256).save(picture, optimize=True)
        print(picture.name)


def main() -> None:
    """Draw the pictures of docs/board.md again."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        sys.exit("there is no chromium, in which the board is looked at")
    with tempfile.TemporaryDirectory() as folder:
        root, page = Path(folder), Path(folder) / "board.html"
        record(root)
        verb = [sys.executable, "-m", "nightbus", "board", "runs", "--export", page.name]
        environment = {**os.environ, "PYTHONPATH": str(IMAGES.parents[1])}
        subprocess.run(verb, cwd=root, check=True, env=environment)
        draw(page, browser)


if __name__ == "__main__":
    main()
