"""What checkpoints cost: ``python tests/bench/checkpoints.py [--saves N]``.

- Resuming behind 1,000 batches of an epoch of a map-style loader: from ``fit`` to the next batch.
- The stall of a step that saves a state of 100 MB, over a plain copy of the same tensors in memory;
  both by turns in one run, each when nothing else is being written.
- The process's memory while the tiny model is saved after each step.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import Batches, Stopwatch, Tiny, make_net, quiet
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

import nightbus as nb

OPTIONS: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
POSITION = 1_000
TENSORS, TENSOR_NUMBERS = 25, 1_000_000  # float32: 100 MB
ROUNDS = 20


class Points(Dataset[Any]):
    """Points that take a millisecond each to load, as images would."""

    def __len__(self) -> int:
        return 16 * (POSITION + 1_000)

    def __getitem__(self, idx: int) -> tuple[Tensor, int]:
        time.sleep(0.001 if self.is_slow else 0.0)
        return torch.full((32,), float(idx % 7)), idx % 2

    is_slow = False


class Plain(nb.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = make_net()
        self.first_s = 0.0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.first_s = self.first_s or time.perf_counter()
        x, y = batch
        return F.cross_entropy(self.net(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def resume_s(folder: Path) -> list[float]:
    """Times from ``fit`` to the first batch behind the position."""
    with quiet():
        first = nb.Trainer(max_steps=POSITION, default_root_dir=folder, **OPTIONS)
        first.fit(Plain(), DataLoader(Points(), 16, shuffle=True))
        times = []
        data = Points()
        data.is_slow = True
        for _ in range(5):
            module = Plain()
            run = nb.Trainer(max_steps=POSITION + 1, default_root_dir=folder, **OPTIONS)
            checkpoint = f"{first.log_dir}/checkpoints/epoch=0-step={POSITION}"
            begin_s = time.perf_counter()
            run.fit(module, DataLoader(data, 16, shuffle=True), ckpt_path=checkpoint)
            times.append(module.first_s - begin_s)
    return times


class Large(nb.LightningModule):
    """100 MB of weights, of which a step uses next to nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList(torch.randn(TENSOR_NUMBERS) for _ in range(TENSORS))
        self.one = nn.Parameter(torch.zeros(1))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.one.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([self.one], lr=0.01)


class Measures(nb.Callback):
    """Has the run saved between steps, and copies its tensors, by turns."""

    def __init__(self) -> None:
        self.copies_s: list[float] = []
        self.stalls_s: list[float] = []

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        trainer.checkpointer.want(lambda: self._measure(trainer, module))

    def _measure(self, trainer: Any, module: Any) -> None:
        trainer.checkpointer.wait()
        begin_s = time.perf_counter()
        copies = [tensor.clone() for tensor in module.state_dict().values()]
        self.copies_s.append(time.perf_counter() - begin_s)
        del copies
        begin_s = time.perf_counter()
        trainer.checkpointer.save_run()
        self.stalls_s.append(time.perf_counter() - begin_s)


def stalls(folder: Path) -> Measures:
    measures = Measures()
    with quiet():
        run = nb.Trainer(
            max_steps=ROUNDS + 2, callbacks=[measures], default_root_dir=folder, **OPTIONS
        )
        run.fit(Large(), Batches(ROUNDS + 2))
    del measures.copies_s[:2], measures.stalls_s[:2]  # the first touch new memory
    return measures


class Weighs(Tiny):
    """Weighs the process on the way, in MB."""

    def __init__(self, saves: int) -> None:
        super().__init__(Stopwatch())
        self.at = [saves // 10, saves // 2, saves - 1]
        self.weights_mb: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if batch_idx in self.at:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.weights_mb.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
        return super().training_step(batch, batch_idx)


def memory(folder: Path, saves: int) -> tuple[list[float], float]:
    """The process's memory on the way, and how long a step with its save took, in s."""
    module = Weighs(saves)
    with quiet():
        run = nb.Trainer(
            max_epochs=1,
            callbacks=[nb.ModelCheckpoint(every_n_train_steps=1)],
            default_root_dir=folder,
            **OPTIONS,
        )
        begin_s = time.perf_counter()
        run.fit(module, Batches(saves))
    return module.weights_mb, (time.perf_counter() - begin_s) / saves


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--saves", type=int, default=5_000, help="of the tiny model")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        times = resume_s(Path(folder) / "resume")
        print(f"resume behind {POSITION:,} batches, s: {min(times):.3f} .. {max(times):.3f}")
        found = stalls(Path(folder) / "stalls")
        ratios = [stall / copy for stall, copy in zip(found.stalls_s, found.copies_s, strict=True)]
        copy, stall = statistics.median(found.copies_s), statistics.median(found.stalls_s)
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(f"copy of 100 MB, ms: {copy * 1e3:.1f}; stall of its save, ms: {stall * 1e3:.1f}")
        print(f"stall over copy: {middle:.2f} (quartiles {low:.2f} .. {high:.2f})")
        weights, step_s = memory(Path(folder) / "memory", options.saves)
        shown = ", ".join(f"{weight:.1f}" for weight in weights)
        print(f"memory at 10, 50 and 100 % of {options.saves:,} saves, MB: {shown}")
        print(f"a step with its save, ms: {step_s * 1e3:.2f}")


if __name__ == "__main__":
    main()
