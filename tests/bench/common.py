"""What the contenders share: data in memory, a tiny model, a stopwatch."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nightbus as nb

STEPS = 1000
BATCHES = 100
STRETCH = 50


class Batches:
    """Batches in memory, repeated to an epoch of STEPS.

    Attributes:
        looked_s: when each STRETCH of batches was through, of the latest epoch.
    """

    looked_s: ClassVar[list[float]] = []

    def __init__(self, steps: int, size: int = 16, width: int = 32) -> None:
        generator = torch.Generator().manual_seed(0)
        self._batches = [
            (
                torch.randn(size, width, generator=generator),
                torch.randint(0, 2, (size,), generator=generator),
            )
            for _ in range(BATCHES)
        ]
        self._steps = steps

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.looked_s.clear()
        for step in range(self._steps):
            if step % STRETCH == 0:
                self.looked_s.append(time.perf_counter())
            yield self._batches[step % BATCHES]

    @classmethod
    def least_us(cls) -> float:
        """The shortest stretch of the latest epoch, in us a step.

        What else the machine does makes some stretches longer, and none shorter.
        """
        return min(end - begin for begin, end in pairwise(cls.looked_s)) / STRETCH * 1e6


def make_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))


class Stopwatch:
    """Time from the first training batch to the last one's end, in s."""

    def __init__(self) -> None:
        self.begin_s = self.end_s = 0.0

    @property
    def per_step_us(self) -> float:
        return (self.end_s - self.begin_s) / (STEPS - 1) * 1e6


class Tiny(nb.LightningModule):
    """The model all nightbus contenders train; times itself at its own batch hooks."""

    def __init__(self, watch: Stopwatch) -> None:
        super().__init__()
        self.net = make_net()
        self.watch = watch

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if batch_idx == 1:
            self.watch.begin_s = time.perf_counter()
        x, y = batch
        return F.cross_entropy(self.net(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)

    def on_train_epoch_end(self) -> None:
        self.watch.end_s = time.perf_counter()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Contenders print what they print, but not here."""
    with tempfile.TemporaryFile("w") as sink:
        out, err = sys.stdout, sys.stderr
        sys.stdout = sys.stderr = sink
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            sys.stdout, sys.stderr = out, err


BARE: dict[str, Any] = {
    "recording": "off",
    "logger": False,
    "enable_progress_bar": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
}


def best_of_runs_s(*command: str) -> float:
    """The shortest of several runs of a Python command."""
    times = []
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(6):  # the first compiles what was never imported before
        begin_s = time.perf_counter()
        subprocess.run(
            [sys.executable, *command], check=True, stdout=subprocess.DEVNULL, env=environment
        )
        times.append(time.perf_counter() - begin_s)
    return min(times)
