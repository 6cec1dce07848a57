"""A program of several ranks, one of which takes longer in the backward of each step."""

import sys
import time
from typing import Any

import torch.distributed as dist
from ranks_fit import Net, loader, main, trainer
from torch import Tensor
from torch.autograd import Function

SLOW = 1
STEPS = 100


class Slow(Function):
    """What it gets, whose backward takes a while."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor) -> Tensor:
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        time.sleep(0.05)
        return gradients[0]


class SlowInBackward(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        return Slow.apply(loss) if dist.get_rank() == SLOW else loss  # type: ignore[no-untyped-call]


def slow_in_backward() -> int:
    fitting = trainer(max_epochs=1, recording="all", default_root_dir=".")
    fitting.fit(SlowInBackward(), loader(batch_size=1, samples=2 * STEPS))
    return fitting.global_step


if __name__ == "__main__":
    main(sys.argv[1:], [slow_in_backward])
