"""What a step on two ranks costs over a raw loop with DistributedDataParallel, beside Lightning.

    python tests/bench/two_ranks.py
    make bench-ranks

Two processes train the same tiny model on the same batches in memory, with gloo; rounds alternate
between all contenders, in the same two processes. Shown are the processor time of rank 0's training
thread, which does all that a trainer adds, the time on the wall, and how many collective operations
a step has. Where two ranks share two cores with others, the wall tells nothing below 300 us.
"""

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from common import BARE, Batches, make_net, quiet
from torch import Tensor
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

import nightbus as nb

RANKS = 2
STEPS = 300
SKIPPED = (
    20  # steps at the begin of an epoch, in which DistributedDataParallel arranges its buckets
)
ROUNDS = 8
METRICS = ("loss", "twice", "half")
RAW = "raw"
_COLLECTIVES = ("all_reduce", "broadcast", "barrier", "all_gather", "all_gather_into_tensor")


class Times(NamedTuple):
    """Of a step, in us: processor time of the training thread, and on the wall's clock."""

    processor_us: float
    wall_us: float
    collectives: float


class Watch:
    """Times the steps of an epoch, from the skipped ones on, and counts collective operations."""

    def __init__(self) -> None:
        self._begin = self._end = (0.0, 0.0)
        self._calls = self.calls = 0

    def step(self, batch_idx: int) -> None:
        if batch_idx == SKIPPED:
            self._calls = self.calls
            self._begin = time.thread_time(), time.perf_counter()

    def end(self) -> None:
        self._end = time.thread_time(), time.perf_counter()
        self._calls = self.calls - self._calls

    @property
    def times(self) -> Times:
        processor_s, wall_s = (e - b for b, e in zip(self._begin, self._end, strict=True))
        steps = STEPS - SKIPPED
        return Times(processor_s / steps * 1e6, wall_s / steps * 1e6, self._calls / steps)


@contextlib.contextmanager
def counted(watch: Watch) -> Iterator[None]:
    """Count the calls of collective operations; those of DistributedDataParallel are not calls."""
    originals = {name: getattr(dist, name) for name in _COLLECTIVES}

    def counting(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            watch.calls += 1
            return original(*arguments, **options)

        return call

    for name, original in originals.items():
        setattr(dist, name, counting(original))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(dist, name, original)


def raw(folder: Path, watch: Watch) -> None:
    net = DistributedDataParallel(make_net())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    for batch_idx, (x, y) in enumerate(Batches(STEPS)):
        watch.step(batch_idx)
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    watch.end()


def module_class(base: Any, logs: bool) -> Any:
    """The contender's module, of nightbus or Lightning."""

    class Module(base):  # type: ignore[misc]
        def __init__(self, watch: Watch) -> None:
            super().__init__()
            self.net = make_net()
            self.watch = watch

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            self.watch.step(batch_idx)
            x, y = batch
            loss = F.cross_entropy(self.net(x), y)
            if logs:
                for factor, name in enumerate(METRICS):
                    self.log(name, loss.detach() * factor, sync_dist=True)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.01)

        def on_train_epoch_end(self) -> None:
            self.watch.end()

    return Module


def trainer(folder: Path, **options: Any) -> nb.Trainer:
    return nb.Trainer(
        accelerator="cpu",
        devices=RANKS,
        max_epochs=1,
        default_root_dir=folder,
        log_every_n_steps=1,
        **(BARE | options),
    )


def nightbus(logs: bool, **options: Any) -> Callable[[Path, Watch], None]:
    def run(folder: Path, watch: Watch) -> None:
        module = module_class(nb.LightningModule, logs)(watch)
        trainer(folder, **options).fit(module, Batches(STEPS))

    return run


def lightning_contenders() -> dict[str, Callable[[Path, Watch], None]]:
    import logging

    import lightning

    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)

    def contender(logs: bool) -> Callable[[Path, Watch], None]:
        def run(folder: Path, watch: Watch) -> None:
            peer = lightning.Trainer(
                accelerator="cpu",
                devices=RANKS,
                strategy="ddp",
                max_epochs=1,
                default_root_dir=str(folder),
                log_every_n_steps=1,
                logger=False,
                enable_progress_bar=False,
                enable_checkpointing=False,
                enable_model_summary=False,
            )
            peer.fit(module_class(lightning.LightningModule, logs)(watch), Batches(STEPS))

        return run

    return {"lightning ddp": contender(False), "lightning ddp, 3 synced": contender(True)}


def contenders() -> dict[str, Callable[[Path, Watch], None]]:
    found = {
        RAW: raw,
        "bare": nightbus(False),
        "recorded": nightbus(False, recording="all"),
        "3 synced": nightbus(True),
        "3 synced, recorded": nightbus(True, recording="all"),
    }
    with contextlib.suppress(ImportError):
        found |= lightning_contenders()
    return found


def measure(rounds: int) -> dict[str, list[Times]]:
    runs = contenders()
    results: dict[str, list[Times]] = {name: [] for name in runs}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds + 1):
            for name, run in runs.items():
                watch = Watch()
                with quiet(), counted(watch):
                    run(Path(folder), watch)
                dist.barrier()
                if number:  # the first round warms up
                    results[name].append(watch.times)
    return results


def show(results: dict[str, list[Times]]) -> None:
    """Print medians, and medians of the differences to the raw loop of the same round."""
    print(
        f"{'':26}{'processor':>10}{'over raw':>10}{'wall':>10}{'over raw':>10}{'collectives':>13}"
    )
    for name, values in results.items():
        row = f"{name:26}"
        for index in (0, 1):
            of_raw = [each[index] for each in results[RAW]]
            own = [each[index] for each in values]
            over = statistics.median(a - b for a, b in zip(own, of_raw, strict=True))
            row += f"{statistics.median(own):10.0f}{over:10.0f}"
        print(f"{row}{statistics.median(each.collectives for each in values):13.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, quiet():
        # Starts the other rank, and joins it.
        trainer(Path(folder)).fit(module_class(nb.LightningModule, False)(Watch()), Batches(2))
    rank = dist.get_rank()
    # As torchrun would set them: Lightning joins what is there.
    os.environ.update(LOCAL_RANK=str(rank), NODE_RANK="0", WORLD_SIZE=str(RANKS))
    results = measure(options.rounds)
    if rank == 0:
        show(results)


if __name__ == "__main__":
    main()
