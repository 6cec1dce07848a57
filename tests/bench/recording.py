"""What recording costs of a step at 10,000 events a second: on and off, by turns, in one training.

    python tests/bench/recording.py --pairs 3000

The model is made as large as it takes for a step to last as many times 100 us as it emits events.
Recording is switched on or off every few steps of the same training, and the times of neighbours
are compared, so that what else the machine does hits both. While it is off, its clock stands
still, so that a write comes as often as ever while it is on: each 50 ms. The writer makes its file
durable once a second in either case: that costs processor time beside the step, not in it.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from common import BARE, Batches, quiet
from torch import Tensor, nn
from torch.nn import functional as F

import nightbus as nb
from nightbus.bus.log.hook_recorder import recording_nothing
from nightbus.bus.log.reader import LogReader

US_AN_EVENT = 100.0  # 10,000 events a second
BATCH, WIDTH = 64, 256
STRETCH = 30  # steps until recording is switched
SETTLE = 2  # of them not counted, in which the switch itself is felt
RESAMPLES = 2_000
PAIRS = 3000


class Times(NamedTuple):
    """What a step took, in us: on the wall's clock, and of the training thread's processor time."""

    wall_us: float
    processor_us: float


class Ratio(NamedTuple):
    """The median of the pairs, and its 95 % confidence interval by bootstrap."""

    median: float
    low: float
    high: float


class Cost(NamedTuple):
    """What was measured.

    Attributes:
        step_us: the median step with recording off.
        events_a_second: recorded, over the median step with recording on.
        wall, processor: on over off, of either time.
    """

    step_us: float
    events_a_second: float
    wall: Ratio
    processor: Ratio


class Switched(nb.LightningModule):
    """A stack of so many layers, that switches recording after each stretch of steps."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [nn.Linear(WIDTH, WIDTH), nn.ReLU()]
        self.net = nn.Sequential(*layers, nn.Linear(WIDTH, 2))
        self.recorded = list[Times]()
        self.unrecorded = list[Times]()
        self._stretches = self.recorded
        self._other = recording_nothing()
        self._stopped_ns = 0
        self._begin = (0.0, 0.0)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self.net(x), y)

    def before_step(self, batch_idx: int) -> None:
        """Look at the time, and switch recording when it is time to."""
        if batch_idx % STRETCH == SETTLE:
            self._begin = time.perf_counter(), time.thread_time()
        elif batch_idx % STRETCH == 0:
            end = time.perf_counter(), time.thread_time()
            if batch_idx:
                spent_s = [e - b for b, e in zip(self._begin, end, strict=True)]
                wall_us, processor_us = (s / (STRETCH - SETTLE) * 1e6 for s in spent_s)
                self._stretches.append(Times(wall_us, processor_us))
            # on off, off on, on off, ...: neither is always the first of a pair.
            self._switch(is_on=batch_idx // STRETCH % 4 in (0, 3))

    def _switch(self, is_on: bool) -> None:
        place, now_ns = self.trainer.place, time.monotonic_ns()
        if is_on == place.recorder.is_on:
            return
        # The log does not know where training went meanwhile, and nobody reads it.
        place.recorder, self._other = self._other, place.recorder
        if is_on:
            place.recorder.flush_due_ns += now_ns - self._stopped_ns
            place.recorder.flush_latest_ns += now_ns - self._stopped_ns
        else:
            self._stopped_ns = now_ns
        self.trainer.routes.refresh()
        self._stretches = self.recorded if is_on else self.unrecorded

    def on_train_epoch_end(self) -> None:
        self._switch(is_on=True)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.001)


class BetweenSteps(Batches):
    """Batches, before each of which the module has something to do."""

    def __init__(self, module: Switched, number: int) -> None:
        super().__init__(number, BATCH, WIDTH)
        self._module = module

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch_idx, batch in enumerate(super().__iter__()):
            self._module.before_step(batch_idx)
            yield batch


def train(folder: Path, depth: int, steps: int) -> tuple[Switched, nb.Trainer]:
    """Train so many steps, recorded and not by turns."""
    module = Switched(depth)
    with quiet():
        arguments = {**BARE, "recording": "all"}
        trainer = nb.Trainer(max_epochs=1, default_root_dir=folder, accelerator="cpu", **arguments)
        trainer.fit(module, BetweenSteps(module, steps))
    return module, trainer


def events_a_step(folder: Path) -> float:
    """How many events a step emits."""
    counts = []
    for steps in (STRETCH // 4, STRETCH // 2):
        _, trainer = train(folder, 1, steps)
        assert trainer.run_folder is not None
        reader = LogReader(trainer.run_folder.store(0))
        counts.append(sum(1 for _ in reader.events()))
        reader.close()
    return (counts[1] - counts[0]) / (STRETCH // 2 - STRETCH // 4)


def recording_cost(pairs: int) -> Cost:
    """Measure it.

    Args:
        pairs: how many stretches of steps with recording on are compared with one with it off.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        events = events_a_step(folder)
        some = STRETCH * 20 + 1
        one, five = (
            statistics.median(step.wall_us for step in train(folder, depth, some)[0].unrecorded)
            for depth in (1, 5)
        )
        depth = max(1, round(1 + (events * US_AN_EVENT - one) / ((five - one) / 4)))
        module, _ = train(folder, depth, STRETCH * 2 * pairs + 1)
    both = list(zip(module.recorded, module.unrecorded, strict=True))
    return Cost(
        statistics.median(off.wall_us for _, off in both),
        events / statistics.median(on.wall_us for on, _ in both) * 1e6,
        median_ratio([on.wall_us / off.wall_us for on, off in both]),
        median_ratio([on.processor_us / off.processor_us for on, off in both]),
    )


def median_ratio(values: Sequence[float]) -> Ratio:
    """Return the median of ratios, with its confidence interval by bootstrap."""
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
