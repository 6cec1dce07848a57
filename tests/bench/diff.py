"""How long ``nightbus diff`` takes: ``python tests/bench/diff.py [--steps N]``.

The whole command, Python's start included, on trainings of N steps with three logged scalars a step
that did the same: two that ran through, and one that was stopped half-way and resumed. Of each the
best of five, by the wall's clock and in processor time.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import Batches, Stopwatch, Tiny, quiet
from torch import Tensor

import nightbus as nb
from nightbus.bus.inspection.compare import compare_runs

ROUNDS = 5


class Logs(Tiny):
    """Logs three scalars a step."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        self.log("loss", loss)
        self.log("twice", loss * 2)
        self.log("batch", float(batch_idx))
        return loss


def record(folder: Path, steps: int, stop_at: int | None = None) -> nb.RunFolder:
    """A training, stopped behind a step and resumed if asked to."""
    checkpoint = None
    for max_steps in [steps] if stop_at is None else [stop_at, steps]:
        trainer = nb.Trainer(
            max_steps=max_steps,
            default_root_dir=folder,
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        with quiet():
            trainer.fit(Logs(Stopwatch()), Batches(steps), ckpt_path=checkpoint)
        checkpoint = "last"
    assert trainer.run_folder is not None
    return trainer.run_folder


def seconds_of(*arguments: str) -> tuple[float, float]:
    """The shortest of a few runs of the command: of the clock, and of the processor."""
    wall, cpu = [], []
    for _ in range(ROUNDS):
        before, begin_s = os.times(), time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "nightbus", "diff", *arguments],
            check=True,  # it is an error if they differ
            stdout=subprocess.DEVNULL,
        )
        after = os.times()
        wall.append(time.perf_counter() - begin_s)
        user, system = (after[n] - before[n] for n in (2, 3))
        cpu.append(user + system)
    return min(wall), min(cpu)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=60_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder, steps = Path(name), options.steps
        one, other = (str(record(folder / name, steps).path) for name in ("one", "other"))
        resumed = record(folder / "resumed", steps, stop_at=steps // 2)
        equal = compare_runs(resumed, resumed).equal
        print(f"{equal:,} events of each run, {steps:,} steps")
        print(f"{'':36} {'s':>6} {'s of CPU':>10}")
        ways = {
            "two runs": (one, other),
            "a run and one that was resumed": (one, str(resumed.path)),
            "two runs, metrics only": (one, other, "--metrics"),
        }
        for what, arguments in ways.items():
            wall_s, cpu_s = seconds_of(*arguments)
            print(f"{what:36} {wall_s:>6.2f} {cpu_s:>10.2f}")


if __name__ == "__main__":
    main()
