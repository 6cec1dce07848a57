"""What recording costs of a step at 10,000 events a second: on and off, by turns.

    python tests/bench/recording.py --pairs 100

The model is made as large as it takes for a step to last as many times 100 us as it emits events.
Every pair trains the same steps with recording on and off, in an order that alternates; the ratio
of their times is taken pair by pair, so that what else the machine does hits both. The median step
of a training leaves out what is rare; the processor time has all of it, of all threads.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from common import BARE, Batches, quiet
from torch import Tensor, nn
from torch.nn import functional as F

import nightbus as nb
from nightbus.bus.log_reader import LogReader

STEPS = 100
WARM_UP = 10
US_AN_EVENT = 100.0  # 10,000 events a second
BATCH, WIDTH = 64, 256
RESAMPLES = 4_000
PAIRS = 100


class Cost(NamedTuple):
    """What was measured.

    Attributes:
        step_us: the median step with recording off.
        events_a_second: recorded, over the median step with recording on.
        wall: on over off by the clock on the wall.
        processor: on over off by the processor time of all threads, which does not count the time
            that other processes took.
    """

    step_us: float
    events_a_second: float
    wall: "Ratio"
    processor: "Ratio"


class Ratio(NamedTuple):
    """The median of the pairs, and its 95 % confidence interval by bootstrap."""

    median: float
    low: float
    high: float


class Step(NamedTuple):
    """What a step took, in us: the median on the wall's clock, the mean of processor time."""

    wall_us: float
    processor_us: float


class Layers(nb.LightningModule):
    """A stack of so many layers, that times its own steps."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [nn.Linear(WIDTH, WIDTH), nn.ReLU()]
        self.net = nn.Sequential(*layers, nn.Linear(WIDTH, 2))
        self.begins_s: list[float] = []
        self.processor_s: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if batch_idx == WARM_UP:
            self.processor_s.append(time.process_time())
        self.begins_s.append(time.perf_counter())
        x, y = batch
        return F.cross_entropy(self.net(x), y)

    def on_train_epoch_end(self) -> None:
        self.processor_s.append(time.process_time())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.001)

    @property
    def per_step(self) -> Step:
        begins = self.begins_s[WARM_UP:]
        wall_s = statistics.median(b - a for a, b in pairwise(begins))
        processor_s = (self.processor_s[1] - self.processor_s[0]) / len(begins)
        return Step(wall_s * 1e6, processor_s * 1e6)


def train(folder: Path, depth: int, recording: str, steps: int = STEPS) -> Step:
    """Train so many steps; what one of them took."""
    module = Layers(depth)
    arguments = {**BARE, "recording": recording}
    with quiet():
        trainer = nb.Trainer(max_epochs=1, default_root_dir=folder, accelerator="cpu", **arguments)
        trainer.fit(module, Batches(steps, BATCH, WIDTH))
    return module.per_step


def events_a_step(folder: Path) -> float:
    """How many events a step emits."""
    counts = []
    for steps in (100, 200):
        arguments = {**BARE, "recording": "all"}
        with quiet():
            trainer = nb.Trainer(max_epochs=1, default_root_dir=folder, **arguments)
            trainer.fit(Layers(1), Batches(steps, BATCH, WIDTH))
        assert trainer.run_folder is not None
        reader = LogReader(trainer.run_folder.store(0))
        counts.append(sum(1 for _ in reader.events()))
        reader.close()
    return (counts[1] - counts[0]) / 100


def recording_cost(pairs: int) -> Cost:
    """Measure it.

    Args:
        pairs: how often both are run.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        events = events_a_step(folder)
        one, five = (
            min(train(folder, depth, "off").processor_us for _ in range(3)) for depth in (1, 5)
        )
        depth = max(1, round(1 + (events * US_AN_EVENT - one) / ((five - one) / 4)))
        on, off = list[Step](), list[Step]()
        for number in range(pairs):
            for recording in ("all", "off") if number % 2 else ("off", "all"):
                (on if recording == "all" else off).append(train(folder, depth, recording))
    rate = events / statistics.median(step.wall_us for step in on) * 1e6
    return Cost(
        statistics.median(step.wall_us for step in off),
        rate,
        _ratio([a.wall_us / b.wall_us for a, b in zip(on, off, strict=True)]),
        _ratio([a.processor_us / b.processor_us for a, b in zip(on, off, strict=True)]),
    )


def _ratio(values: Sequence[float]) -> Ratio:
    chance = random.Random(0)
    medians = sorted(
        statistics.median(chance.choices(values, k=len(values))) for _ in range(RESAMPLES)
    )
    low, high = medians[RESAMPLES * 25 // 1000], medians[RESAMPLES * 975 // 1000]
    return Ratio(statistics.median(values), low, high)


def tell(cost: Cost, pairs: int) -> str:
    """What was measured, in three lines."""
    return (
        f"recording on over off, {cost.events_a_second:,.0f} events a second, "
        f"steps of {cost.step_us:,.0f} us, {pairs} pairs:\n"
        f"    of the wall's clock   {_tell(cost.wall)}\n"
        f"    of processor time     {_tell(cost.processor)}"
    )


def _tell(ratio: Ratio) -> str:
    return f"{ratio.median:.4f}, 95 % confidence {ratio.low:.4f} .. {ratio.high:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=PAIRS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(tell(recording_cost(options.pairs), options.pairs))


if __name__ == "__main__":
    main()
