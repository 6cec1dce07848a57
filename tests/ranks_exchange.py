"""A program of two ranks that exchange what users give them, before, within and after a run."""

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from ranks_fit import Net, loader, main, trainer

import nightbus as nb

_MAIN_BEFORE = nb.is_main()


class Pair(NamedTuple):
    """A container that users make."""

    x: Any
    name: str


def plain(value: Any) -> Any:
    """What a test compares: types and values as text."""
    return repr(value)


def exchanged(among: Any) -> dict[str, Any]:
    """What each exchange gives, called on the trainer or its strategy."""
    rank = among.global_rank
    value = {"path": Path("a", str(rank)), "pair": (rank, None), "x": torch.full((2,), rank)}
    return {
        "broadcast": plain(among.broadcast(value)),
        "of 1": plain(among.broadcast(f"rank {rank}", src=1)),
        "gathered": plain(among.all_gather({"a": torch.full((3,), rank), "b": [Pair(rank, "n")]})),
        "mean": plain(among.reduce(torch.tensor([rank, 3.0]))),
        "sum": plain(among.reduce(rank + 1, reduce_op="sum")),
        "max": plain(among.reduce([torch.tensor(rank == 1)], reduce_op="max")),
    }


def before_a_run() -> Any:
    fitting = trainer()
    if fitting.is_global_zero:
        Path("data").write_text("made")
    fitting.barrier("data")
    return {"found": Path("data").read_text(), **exchanged(fitting)}


def in_a_step() -> Any:
    class Exchanges(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.loss(batch)
            if batch_idx == 0:
                self.trainer.barrier()
                self.found = exchanged(self.trainer.strategy)
                mine = torch.full((2,), float(self.global_rank), requires_grad=True)
                all_of_them = self.all_gather(mine, sync_grads=True)
                weights = torch.tensor([[1.0], [10.0]]) * (self.global_rank + 1)
                (all_of_them * weights).sum().backward()
                assert mine.grad is not None
                self.gradient = mine.grad.tolist()
                self.keeps_none = not self.all_gather(mine).requires_grad
            return loss

    module = Exchanges()
    trainer(max_epochs=1).fit(module, loader())
    return {**module.found, "gradient": module.gradient, "keeps_none": module.keeps_none}


def what_differs() -> list[str]:
    """The errors of this rank, each made while the other one does something that does not fit."""
    run = trainer()
    rank = run.global_rank
    found = []
    calls: list[Callable[[], Any]] = [
        lambda: run.all_gather(torch.zeros(2 + rank)),
        lambda: run.reduce({"a": torch.zeros(2)} if rank else {}),
        lambda: run.broadcast(1, src=2),
        lambda: run.all_gather(torch.zeros(1), group=torch.distributed.group.WORLD),
        lambda: run.reduce(1.0, "product"),
    ]
    for call in calls:
        try:
            call()
        except nb.NightbusError as error:
            found.append(f"{type(error).__name__}: {error}")
    if rank == 0:  # refused before anything is exchanged
        try:
            run.broadcast(object())
        except nb.UsageError as error:
            found.append(f"{type(error).__name__}: {error}")
    return found


def on_another_thread() -> str:
    found = []

    class Calls(Net):
        def on_train_start(self) -> None:
            def call() -> None:
                try:
                    self.trainer.barrier()
                except nb.UsageError as error:
                    found.append(str(error))

            thread = threading.Thread(target=call)
            thread.start()
            thread.join()

    trainer(max_epochs=1).fit(Calls(), loader())
    return found[0]


def main_rank() -> dict[str, Any]:
    from lightning_utilities.core.rank_zero import rank_zero_only

    @nb.rank_zero_only
    def only_on_0() -> str:
        return "called"

    return {
        "before": _MAIN_BEFORE,
        "now": nb.is_main(),
        "decorated": only_on_0(),
        "announced": getattr(rank_zero_only, "rank", None),
    }


def sinks() -> Any:
    run, sink = trainer(max_epochs=1, recording="all", default_root_dir="."), nb.CSV()
    run.attach(sink)
    attached = run.sinks == [sink]
    run.fit(Net(), loader())
    run.detach(sink)
    return {"attached": attached, "left": len(run.sinks)}


def each_its_own() -> None:
    """Both end here, because neither does what the other one does."""
    run = trainer()
    if run.global_rank:
        run.broadcast(1)
    else:
        run.barrier("the end")


if __name__ == "__main__":
    main(
        sys.argv[1:],
        [before_a_run, in_a_step, what_differs, on_another_thread, main_rank, sinks, each_its_own],
    )
