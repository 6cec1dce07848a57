"""A program of several ranks whose data ends after different numbers of batches."""

import contextlib
import io
import sys
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from ranks_fit import FEATURES, Net, bits, case, loader, main, trainer
from ranks_steps import ByHand, InTurn

import nightbus as nb

CASES: list[Any] = []


def batches(number: int) -> list[Any]:
    made = torch.Generator().manual_seed(number)
    return [
        (torch.randn(4, FEATURES, generator=made), torch.randn(4, 1, generator=made))
        for _ in range(number)
    ]


class Stream:
    """Batches without a length; another number of them on each rank."""

    def __init__(self, *of_ranks: int) -> None:
        self.of_ranks = of_ranks

    def __iter__(self) -> Iterator[Any]:
        yield from batches(self.of_ranks[dist.get_rank()])


class Announced(Stream):
    """The same, with a length that is wrong."""

    def __len__(self) -> int:
        return 9


class Seen(nb.Callback):
    """Keeps which batches were trained on, and after which the epoch's last was known."""

    def __init__(self) -> None:
        self.trained: list[int] = []
        self.last: list[int] = []

    def on_train_batch_end(self, trainer: Any, module: Any, out: Any, batch: Any, idx: int) -> None:
        self.trained.append(idx)
        if trainer.is_last_batch:
            self.last.append(idx)


def fitted(data: Any, module: Any = None, **options: Any) -> Any:
    module = module or Net()
    seen = Seen()
    collectives = dist.all_reduce
    calls = 0

    def counted(*arguments: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        return collectives(*arguments, **more)

    dist.all_reduce = counted
    fitting = trainer(callbacks=[seen], **options)
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            fitting.fit(module, data)
    finally:
        dist.all_reduce = collectives
    return {
        "bits": bits(module),
        "steps": fitting.global_step,
        "trained": seen.trained,
        "last": seen.last,
        "warnings": [line for line in told.getvalue().splitlines() if "[warning" in line],
        "all_reduces": calls,
    }


@case(CASES)
def stream() -> Any:
    return fitted(Stream(9, 5))


@case(CASES)
def stream_with_hooks() -> Any:
    """By the loops themselves, which the fast path leaves out."""

    class Heard(Net):
        def on_before_backward(self, loss: Any) -> None:
            pass

    return fitted(Stream(9, 5), Heard())


@case(CASES)
def stream_accumulated() -> Any:
    return fitted(Stream(9, 5), accumulate_grad_batches=2)


@case(CASES)
def stream_in_turn() -> Any:
    return fitted(Stream(5, 9), InTurn())


@case(CASES)
def stream_by_hand() -> Any:
    return fitted(Stream(9, 5), ByHand())


@case(CASES)
def stream_of_the_same_length() -> Any:
    return fitted(Stream(4, 4))


@case(CASES)
def stream_with_a_step_without_loss() -> Any:
    class Skips(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            return None if batch_idx == 4 and dist.get_rank() == 1 else loss

    return fitted(Stream(9, 5), Skips())


@case(CASES)
def wrong_length() -> Any:
    return fitted(Announced(9, 5))


@case(CASES)
def limited() -> Any:
    return fitted(Stream(9, 5), limit_train_batches=3)


@case(CASES)
def known_length() -> Any:
    return fitted(loader())


def resumed(folder: str, max_steps: int) -> Any:
    """What a run has that was stopped after some steps and resumed, and one that was not."""
    kept = {"enable_checkpointing": True, "recording": "all", "default_root_dir": folder}
    stopped = trainer(max_steps=max_steps, **kept)
    stopped.fit(Net(), Stream(9, 5))
    assert stopped.run_folder is not None
    seen, module, whole = Seen(), Net(), Net()
    last = stopped.run_folder.path / "checkpoints" / "last"
    trainer(callbacks=[seen], **kept).fit(module, Stream(9, 5), ckpt_path=last)
    trainer().fit(whole, Stream(9, 5))
    return {"bits": [bits(module), bits(whole)], "trained": seen.trained}


@case(CASES)
def resumed_before_the_common_end() -> Any:
    return resumed("before", 3)


@case(CASES)
def resumed_at_the_common_end() -> Any:
    return resumed("at", 5)


if __name__ == "__main__":
    main(sys.argv[1:], CASES)
