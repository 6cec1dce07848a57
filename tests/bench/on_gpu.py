"""What a step costs on a GPU over a raw loop, beside Lightning if it is installed.

    python tests/bench/on_gpu.py

Two models are trained on the same pinned batches: a tiny one, whose step is what the host takes to
launch its kernels, and one whose kernels take longer than that. Rounds alternate between all
contenders; a round's time is from one synchronisation with the GPU to another. Shown are the
medians and quartiles of the rounds, and the median of the ratio to the raw loop of the same round.
"""

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from common import BARE, quiet
from torch import Tensor, nn
from torch.nn import functional as F

import nightbus as nb

SKIPPED = 20  # steps at the begin of a round


class Size(NamedTuple):
    """A model of some equal layers, and how long it is trained."""

    width: int
    layers: int
    batch_size: int
    steps: int


SIZES = {"tiny": Size(32, 2, 16, 1000), "large": Size(4096, 4, 512, 220)}


class Watch:
    """Times the steps of a round, from the skipped ones on."""

    def __init__(self) -> None:
        self._begin_s = self._end_s = 0.0

    def step(self, batch_idx: int) -> None:
        if batch_idx == SKIPPED:
            torch.cuda.synchronize()
            self._begin_s = time.perf_counter()

    def end(self) -> None:
        torch.cuda.synchronize()
        self._end_s = time.perf_counter()

    def per_step_us(self, size: Size) -> float:
        return (self._end_s - self._begin_s) / (size.steps - SKIPPED) * 1e6


class Batches:
    """Pinned batches in memory, repeated."""

    def __init__(self, size: Size) -> None:
        made = torch.Generator().manual_seed(0)
        self._steps = size.steps
        self._batches = [
            (
                torch.randn(size.batch_size, size.width, generator=made).pin_memory(),
                torch.randint(0, 2, (size.batch_size,), generator=made).pin_memory(),
            )
            for _ in range(8)
        ]

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for step in range(self._steps):
            yield self._batches[step % len(self._batches)]


def make_net(size: Size) -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(size.layers - 1):
        layers += [nn.Linear(size.width, size.width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(size.width, 2))


def raw(folder: Path, size: Size, data: Batches, watch: Watch, *, reads: bool = False) -> None:
    net = make_net(size).cuda()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    for batch_idx, (x, y) in enumerate(data):
        watch.step(batch_idx)
        x, y = x.to("cuda", non_blocking=True), y.to("cuda", non_blocking=True)
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if reads:
            loss.item()
    watch.end()


def raw_reading(folder: Path, size: Size, data: Batches, watch: Watch) -> None:
    raw(folder, size, data, watch, reads=True)


def module_of(base: Any, size: Size, watch: Watch, logs: bool) -> Any:
    """The contender's module, of nightbus or Lightning."""

    class Module(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = make_net(size)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            watch.step(batch_idx)
            x, y = batch
            loss = F.cross_entropy(self.net(x), y)
            if logs:
                detached = loss.detach()
                self.log("loss", loss, on_step=True, on_epoch=True, prog_bar=True)
                self.log("twice", detached * 2, on_step=True, on_epoch=True)
                self.log("half", detached / 2, on_step=True, on_epoch=True)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.01)

        def on_train_epoch_end(self) -> None:
            watch.end()

    return Module()


def of_nightbus(*, logs: bool = False, **options: Any) -> Callable[..., None]:
    def train(folder: Path, size: Size, data: Batches, watch: Watch) -> None:
        run = nb.Trainer(accelerator="gpu", max_epochs=1, default_root_dir=folder, **options)
        run.fit(module_of(nb.LightningModule, size, watch, logs), data)

    return train


def of_lightning(*, logs: bool = False, **options: Any) -> Callable[..., None]:
    def train(folder: Path, size: Size, data: Batches, watch: Watch) -> None:
        import pytorch_lightning as pl

        run = pl.Trainer(
            accelerator="gpu", devices=1, max_epochs=1, default_root_dir=folder, **options
        )
        run.fit(module_of(pl.LightningModule, size, watch, logs), data)

    return train


NO_CHECKPOINT: dict[str, Any] = {"enable_checkpointing": False, "enable_model_summary": False}
PLAIN = {name: value for name, value in BARE.items() if name != "recording"}
CONTENDERS: dict[str, Callable[..., None]] = {
    "raw": raw,
    "raw, loss.item()": raw_reading,
    "bare": of_nightbus(**BARE),
    "recorded": of_nightbus(**NO_CHECKPOINT),
    "three logs": of_nightbus(logs=True, **NO_CHECKPOINT),
}
if find_spec("pytorch_lightning") is not None:
    CONTENDERS |= {
        "lightning bare": of_lightning(**PLAIN),
        "lightning default": of_lightning(**NO_CHECKPOINT),
        "lightning, three logs": of_lightning(logs=True, **NO_CHECKPOINT),
    }


def measure(size: Size, rounds: int) -> dict[str, list[float]]:
    """Return the times of the rounds, in us a step."""
    data = Batches(size)
    times: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for number in range(rounds + 1):
        for name, train in CONTENDERS.items():
            watch = Watch()
            with tempfile.TemporaryDirectory() as folder, quiet():
                train(Path(folder), size, data, watch)
            if number:  # the first loads kernels
                times[name].append(watch.per_step_us(size))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    rounds = parser.parse_args().rounds
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {rounds} rounds")
    for name, size in SIZES.items():
        print(f"\n{name:24}{'us/step':>12}{'quartiles':>22}{'over raw':>10}{'ratio':>8}")
        times = measure(size, rounds)
        of_raw = times["raw"]
        for contender, found in times.items():
            low, middle, high = statistics.quantiles(found, n=4)
            pairs = list(zip(found, of_raw, strict=True))
            over = statistics.median(a - b for a, b in pairs)
            ratio = statistics.median(a / b for a, b in pairs)
            quartiles = f"{low:.1f} .. {high:.1f}"
            print(f"{contender:24}{middle:12.1f}{quartiles:>22}{over:10.1f}{ratio:8.3f}")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
