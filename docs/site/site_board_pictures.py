"""Draws the pictures of the board: records a few runs, and opens their export in a browser.

python docs/site/site_board_pictures.py

It needs a chromium, the package playwright and the built page (``make board-page``).
"""

import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import nightbus as nb

IMAGES = Path(__file__).resolve().parents[1] / "images"


class View(NamedTuple):
    """What a picture shows.

    Attributes:
        state: as the page has it in its address.
        shown: a selector of what is drawn last.
        height: in pixels.
    """

    state: dict[str, str]
    shown: str
    height: int = 860


WIDTH = 1200
NEWEST = "newest"  # stands for the run that was recorded last
VIEWS = {
    "table": View({"colour": "lr", "small": "val_accuracy"}, "figure canvas", 760),
    "curves": View({"view": "curves", "colour": "lr", "group": "optimizer"}, "figure canvas"),
    "media": View({"view": "media"}, ".media canvas, .media svg", 900),
    "compare": View({"view": "compare", "colour": "val_accuracy"}, ".compare canvas", 900),
    "run": View({"open": NEWEST, "part": "at a moment", "time": "0.5"}, ".timeline", 900),
}


class Digits(nb.LightningModule):
    """A small network; puts its first layer as an image and a histogram after each epoch.

    Args:
        lr: the learning rate.
        optimizer: ``SGD`` or ``Adam``.
    """

    def __init__(self, lr: float, optimizer: str) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.first = torch.nn.Linear(64, 16)
        self.last = torch.nn.Linear(16, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.last(F.relu(self.first(images)))
        return logits

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        images, labels = batch
        loss = F.cross_entropy(self(images), labels)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        images, labels = batch
        logits = self(images)
        self.log("val_loss", F.cross_entropy(logits, labels))
        self.log("val_accuracy", (logits.argmax(dim=1) == labels).float().mean())

    def on_train_epoch_end(self) -> None:
        weights = self.first.weight.detach()
        tiles = weights.reshape(4, 4, 8, 8).permute(0, 2, 1, 3).reshape(32, 32)
        tiles = (tiles - tiles.min()) / (tiles.max() - tiles.min())
        self.put_image("first layer", tiles.repeat_interleave(6, 0).repeat_interleave(6, 1))
        self.put_histogram("weights", weights)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        kind = torch.optim.Adam if self.hparams["optimizer"] == "Adam" else torch.optim.SGD
        return kind(self.parameters(), lr=self.hparams["lr"])


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


def draw(page: Path, newest: str, browser: str) -> None:
    """Open the page at each of its views, and keep what is seen.

    Args:
        page: the exported file.
        newest: the id of the last run.
        browser: the program.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for name, view in VIEWS.items():
            tab = chromium.new_page(viewport={"width": WIDTH, "height": view.height})
            state = {key: newest if each == NEWEST else each for key, each in view.state.items()}
            tab.goto(f"{page.as_uri()}#{urlencode(state)}")
            tab.wait_for_selector(view.shown)
            tab.wait_for_load_state("networkidle")
            seen = Image.open(io.BytesIO(tab.screenshot()))
            seen.convert("RGB").quantize(256).save(IMAGES / f"board-{name}.png", optimize=True)
            tab.close()
            print(name)
        chromium.close()


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
        newest = max((root / "runs").glob("*/run.json"), key=lambda file: file.stat().st_mtime)
        draw(page, newest.parent.name, browser)


if __name__ == "__main__":
    main()
