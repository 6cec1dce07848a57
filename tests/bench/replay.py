"""How many events a second replay delivers: ``python tests/bench/replay.py [--steps N]``.

A recorded run of N steps, each with eleven hooks and a metric; of each way to read it, the best of
three.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nightbus as nb
from nightbus.bus.log.place import Place
from nightbus.bus.log.writer import LogIdentity, LogWriter

HOOKS = [f"on_{number}" for number in range(10)]
ROUNDS = 3


class AllEvents(nb.Actor):
    """Counts every event, beside the step."""

    seen = 0

    @nb.on()
    async def count(self, event: Any) -> None:
        self.seen += 1


class OneMetric(nb.Actor):
    """Counts one metric's values."""

    seen = 0

    @nb.on(nb.Put, name="loss")
    async def count(self, put: nb.Put) -> None:
        self.seen += 1


class OneHook(nb.Callback):
    """Counts batches, as callbacks do."""

    seen = 0

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.seen += 1


def record(folder: Path, steps: int) -> tuple[nb.RunFolder, int]:
    """A run, and how many events it holds."""
    run = nb.RunFolder.create(folder / "runs", "bench")
    lock = run.begin_attempt()
    place = Place()
    place.move(stage="train")
    writer = LogWriter(run.store(lock.attempt), LogIdentity(run.info.id), place)
    for step in range(steps):
        place.complete_step(step)
        now_ns = time.monotonic_ns()
        for name in HOOKS:
            writer.add_hook(name, now_ns, 500)
        destinations = ("callbacks", "loggers")
        writer.append(writer.event(nb.Put, "loss", 1 / (step + 1), destinations, ""))
        writer.add_hook("on_train_batch_end", now_ns, 500)
        writer.flush()
    number = writer.next_seq()
    writer.close()
    lock.release()
    return run, number


def best(function: Callable[[], None]) -> tuple[float, float]:
    """The shortest of a few times, in s: of the clock, and of the processor."""
    wall, cpu = [], []
    for _ in range(ROUNDS):
        begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
        function()
        wall.append(time.perf_counter() - begin_s)
        cpu.append(time.process_time() - begin_cpu_s)
    return min(wall), min(cpu)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=50_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run, number = record(folder, options.steps)
        written = iter(range(1_000))

        def into_csv() -> None:
            nb.replay(run, sinks=[nb.CSV(folder / str(next(written)))])

        print(f"{number:,} events, {options.steps:,} metrics among them")
        print(f"{'':28} {'events/s':>12} {'per s of CPU':>14}")
        ways: dict[str, Callable[[], Any]] = {
            "CSV (skips the hooks)": into_csv,
            "an actor with one metric": lambda: nb.replay(run, actors=[OneMetric()]),
            "an actor with all events": lambda: nb.replay(run, actors=[AllEvents()]),
            "a callback with one hook": lambda: nb.replay(run, actors=[OneHook()]),
        }
        for what, way in ways.items():
            wall_s, cpu_s = best(way)
            print(f"{what:28} {number / wall_s:>12,.0f} {number / cpu_s:>14,.0f}")


if __name__ == "__main__":
    main()
