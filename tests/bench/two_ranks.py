"""What a step on two ranks costs over a raw loop with DistributedDataParallel, beside Lightning.

    python tests/bench/two_ranks.py
    make bench-ranks

Two processes train the same tiny model on the same batches in memory, with gloo. Blocks of a few
steps alternate with as many of the raw loop, in the same two processes: what the machine does
otherwise comes to both. The raw loop's block is run where the contender reads its next batch. Shown
is, of rank 0's training thread, which does all that a trainer adds, the processor time of a step of
the raw loop, and how much more a step of the contender takes: median and quartiles of the
differences between neighbouring blocks. A collective is a call besides those of
DistributedDataParallel.

``floor`` is no trainer: the raw loop whose loss is computed within DistributedDataParallel, as
trainers do, with calls of as many functions as nightbus makes in a bare step. It says what plain
Python costs between operations that have filled the processor's caches with other data.
"""

import argparse
import contextlib
import os
import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from by_turns import BLOCK, Turns
from common import BARE, Batches, make_net, quiet
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

import nightbus as nb

RANKS = 2
BLOCKS = 26  # of a contender in a round
STEPS = BLOCK * BLOCKS
ROUNDS = 2
METRICS = ("loss", "twice", "half")
CALLS = 15
"""Of Python functions that a bare step of nightbus has more than a raw loop that wraps its loss."""
LINES = 8  # in each
_COLLECTIVES = ("all_reduce", "broadcast", "barrier", "all_gather", "all_gather_into_tensor")

Run = Callable[[Path, Any], None]
Loader = Callable[["Turns | None"], Iterable[Any]]


# -- the data -----------------------------------------------------------------------------------


class Prepared(Dataset[Any]):
    """Batches in memory, read by their numbers."""

    def __init__(self, turns: Turns | None) -> None:
        self._batches, self._turns = list(Batches(STEPS)), turns

    def __len__(self) -> int:
        return RANKS * STEPS

    def __getitem__(self, number: int) -> Any:
        if self._turns is not None:
            self._turns.on_batch()
        return self._batches[number % STEPS]


class Stream:
    """The same batches, of which no rank knows how many another has."""

    def __init__(self, turns: Turns | None) -> None:
        self._batches, self._turns = list(Batches(STEPS)), turns

    def __iter__(self) -> Iterator[Any]:
        for batch in self._batches:
            if self._turns is not None:
                self._turns.on_batch()
            yield batch


def dataloader(turns: Turns | None) -> Iterable[Any]:
    return DataLoader(Prepared(turns), batch_size=None)


# -- the raw loop, and the floor -----------------------------------------------------------------


def raw_steps(loader: Iterable[Any]) -> Iterator[None]:
    net = DistributedDataParallel(make_net())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    for x, y in loader:
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield


class Loss(nn.Module):
    """The model with its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.net = make_net()

    def forward(self, batch: Any) -> Tensor:
        x, y = batch
        return F.cross_entropy(self.net(x), y)


def different_functions(count: int) -> list[Callable[[Any], Any]]:
    """Return functions of a few lines, each with code of its own."""
    space: dict[str, Any] = {}
    for number in range(count):
        lines = [f" it.n{number} = it.calls + {line}" for line in range(LINES)]
        exec(compile("\n".join([f"def f{number}(it):", *lines]), f"f{number}", "exec"), space)
    return [space[f"f{number}"] for number in range(count)]


def floor(folder: Path, turns: Turns) -> None:
    net = DistributedDataParallel(Loss())
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    functions = different_functions(CALLS)
    before, between, after = (functions[part::3] for part in range(3))
    for batch in dataloader(turns):
        for function in before:
            function(turns)
        loss = net(batch)
        for function in between:
            function(turns)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for function in after:
            function(turns)


# -- the contenders ------------------------------------------------------------------------------


def module_class(base: Any, logs: bool, syncs: bool = True) -> Any:
    """The contender's module, of nightbus or Lightning; it logs nothing, or three values."""

    class Module(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = make_net()

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            loss = F.cross_entropy(self.net(x), y)
            if logs:
                for factor, name in enumerate(METRICS):
                    self.log(name, loss.detach() * factor, sync_dist=syncs)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    return Module


def options_of(folder: Path) -> dict[str, Any]:
    return {
        "accelerator": "cpu",
        "devices": RANKS,
        "max_epochs": 1,
        "default_root_dir": str(folder),
        "log_every_n_steps": 1,
    }


def nightbus(loader: Loader, logs: bool, syncs: bool = True, **options: Any) -> Run:
    def run(folder: Path, turns: Turns) -> None:
        trainer = nb.Trainer(**options_of(folder), **(BARE | options))
        trainer.fit(module_class(nb.LightningModule, logs, syncs)(), loader(turns))

    return run


def lightning_contenders() -> dict[str, tuple[Loader, Run]]:
    import logging

    import lightning

    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)

    def contender(logs: bool) -> Run:
        def run(folder: Path, turns: Turns) -> None:
            off = dict.fromkeys(set(BARE) - {"recording"}, False)
            peer = lightning.Trainer(**options_of(folder), **off, strategy="ddp")
            peer.fit(module_class(lightning.LightningModule, logs)(), dataloader(turns))

        return run

    return {
        "lightning ddp": (dataloader, contender(False)),
        "lightning ddp, 3 synced": (dataloader, contender(True)),
    }


def contenders() -> dict[str, tuple[Loader, Run]]:
    """Return what is measured, and how its raw loop reads the batches."""
    found: dict[str, tuple[Loader, Run]] = {
        "floor": (dataloader, floor),
        "bare": (dataloader, nightbus(dataloader, logs=False)),
        "bare, of a stream": (Stream, nightbus(Stream, logs=False)),
        "recorded": (dataloader, nightbus(dataloader, logs=False, recording="all")),
        "3 logged": (dataloader, nightbus(dataloader, logs=True, syncs=False)),
        "3 synced": (dataloader, nightbus(dataloader, logs=True)),
        "3 synced, recorded": (dataloader, nightbus(dataloader, logs=True, recording="all")),
    }
    with contextlib.suppress(ImportError):
        found |= lightning_contenders()
    return found


# -- measuring -----------------------------------------------------------------------------------


@contextlib.contextmanager
def counted(turns: Turns) -> Iterator[None]:
    """Count the calls of collective operations; those of DistributedDataParallel are not calls."""
    originals = {name: getattr(dist, name) for name in _COLLECTIVES}

    def counting(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            turns.calls += 1
            return original(*arguments, **options)

        return call

    for name, original in originals.items():
        setattr(dist, name, counting(original))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(dist, name, original)


def measure(names: list[str], rounds: int) -> dict[str, list[Turns]]:
    chosen = {name: found for name, found in contenders().items() if name in names or not names}
    results: dict[str, list[Turns]] = {name: [] for name in chosen}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for name, (loader, run) in chosen.items():
                turns = Turns(raw_steps(loader(None)))
                with quiet(), counted(turns):
                    run(Path(folder), turns)
                dist.barrier()
                results[name].append(turns)
    return results


def show(results: dict[str, list[Turns]]) -> None:
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"us of processor time a step; {os.cpu_count()} cores, load {load}")
    print(f"{'':26}{'raw':>8}{'over raw':>10}{'quartiles':>18}{'collectives':>13}")
    for name, values in results.items():
        pairs = [pair for turns in values for pair in turns.pairs]
        raw = statistics.median(raw for raw, _ in pairs)
        first, median, third = statistics.quantiles([own - raw for raw, own in pairs], n=4)
        quartiles = f"{first:.0f} .. {third:.0f}"
        collectives = statistics.median(turns.collectives for turns in values)
        print(f"{name:26}{raw:8.0f}{median:10.0f}{quartiles:>18}{collectives:13.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", nargs="*", default=[], help="names of contenders")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, quiet():
        # Starts the other rank, and joins it.
        trainer = nb.Trainer(**options_of(Path(folder)), **BARE, limit_train_batches=2)
        trainer.fit(module_class(nb.LightningModule, False)(), Stream(None))
    rank = dist.get_rank()
    # As torchrun would set them: Lightning joins what is there.
    os.environ.update(LOCAL_RANK=str(rank), NODE_RANK="0", WORLD_SIZE=str(RANKS))
    results = measure(options.only, options.rounds)
    if rank == 0:
        show(results)


if __name__ == "__main__":
    main()
