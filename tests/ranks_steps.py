"""A program of several ranks: steps without a loss, of several optimizers, made by hand."""

import sys
from typing import Any

import torch
import torch.distributed as dist
from ranks_fit import FEATURES, Net, bits, case, data, loader, main, trainer, weights
from torch import nn

import nightbus as nb

CASES: list[Any] = []


class Skips(Net):
    """Has no loss in its second batch, on the ranks that it is told."""

    def __init__(self, ranks: tuple[int, ...]) -> None:
        super().__init__()
        self.ranks = ranks

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        return None if batch_idx == 1 and dist.get_rank() in self.ranks else loss


@case(CASES)
def none_on_rank_1() -> Any:
    module = Skips((1,))
    fitting = trainer(max_epochs=1)
    fitting.fit(module, loader())
    return {"bits": bits(module), "steps": fitting.global_step, "weights": weights(module)}


@case(CASES)
def none_on_rank_1_by_hand() -> Any:
    """The same by PyTorch alone: rank 1 adds nothing to the second batch's mean."""
    module = Net()
    optimizer: Any = module.configure_optimizers()
    rank, size = dist.get_rank(), dist.get_world_size()
    x, y = loader().dataset.tensors  # type: ignore[attr-defined]
    own_x, own_y = x[rank::size], y[rank::size]
    for batch_idx in range(5):
        part = slice(4 * batch_idx, 4 * batch_idx + 4)
        optimizer.zero_grad()
        loss = module.loss((own_x[part], own_y[part]))
        if batch_idx == 1 and rank == 1:
            loss = loss * 0
        loss.backward()
        for parameter in module.parameters():
            assert parameter.grad is not None
            dist.all_reduce(parameter.grad)
            parameter.grad /= size
        optimizer.step()
    return weights(module)


@case(CASES)
def none_on_all() -> Any:
    module = Skips((0, 1))
    fitting = trainer(max_epochs=1)
    fitting.fit(module, loader())
    return {"bits": bits(module), "steps": fitting.global_step, "weights": weights(module)}


@case(CASES)
def none_while_accumulating() -> Any:
    module = Skips((1,))
    fitting = trainer(max_epochs=1, accumulate_grad_batches=2)
    fitting.fit(module, loader())
    return {"bits": bits(module), "steps": fitting.global_step}


class Gaps:
    """Batches, with None instead of the second one on the ranks that it is told."""

    def __init__(self, *ranks: int) -> None:
        self.ranks = ranks

    def __len__(self) -> int:
        return 5

    def __iter__(self) -> Any:
        rank, size = dist.get_rank(), dist.get_world_size()
        x, y = (tensor[rank::size].contiguous() for tensor in data().tensors)
        for number in range(5):
            part = slice(4 * number, 4 * number + 4)
            yield None if number == 1 and rank in self.ranks else (x[part], y[part])


def with_gaps(*ranks: int, **options: Any) -> Any:
    module = Net()
    fitting = trainer(max_epochs=1, **options)
    fitting.fit(module, Gaps(*ranks))
    return {"bits": bits(module), "steps": fitting.global_step}


@case(CASES)
def gap_on_rank_1() -> Any:
    return with_gaps(1)


@case(CASES)
def gap_on_all() -> Any:
    return with_gaps(0, 1)


@case(CASES)
def gap_while_accumulating() -> Any:
    return with_gaps(1, accumulate_grad_batches=2)


class Gan(nb.LightningModule):
    """Two parts, whose losses use both."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(8)
        self.one = nn.Linear(FEATURES, FEATURES)
        self.two = nn.Linear(FEATURES, 1)

    def losses(self, batch: Any) -> list[Any]:
        x, y = batch
        fake = self.two(self.one(x))
        return [(fake - y).pow(2).mean(), (self.two(x) - fake.detach()).pow(2).mean()]

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(part.parameters(), lr=0.05) for part in (self.one, self.two)]


class InTurn(Gan):
    def training_step(self, batch: Any, batch_idx: int, optimizer_idx: int) -> Any:
        return self.losses(batch)[optimizer_idx]


class ByHand(Gan):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        for number, optimizer in enumerate(self.optimizers()):
            with optimizer.toggle_model():
                loss = self.losses(batch)[number]
                optimizer.zero_grad()
                self.manual_backward(loss)
                optimizer.step()


@case(CASES)
def in_turn() -> Any:
    module = InTurn()
    trainer().fit(module, loader())
    return {"bits": bits(module), "weights": weights(module)}


@case(CASES)
def by_hand() -> Any:
    module = ByHand()
    trainer().fit(module, loader())
    return {"bits": bits(module), "weights": weights(module)}


class Unfreezes(nb.Callback):
    def setup(self, trainer: Any, module: Any, stage: str) -> None:
        module.layers[0].requires_grad_(False)

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        module.layers[0].requires_grad_(trainer.current_epoch > 0)


@case(CASES)
def unfrozen() -> Any:
    module = Net()
    trainer(callbacks=[Unfreezes()]).fit(module, loader())
    return {"bits": bits(module), "weights": weights(module)}


@case(CASES)
def short_accumulation() -> Any:
    """The data ends before the limit, in the middle of an accumulation."""

    class Short:
        def __len__(self) -> int:
            return 6

        def __iter__(self) -> Any:
            yield from list(loader())[dist.get_rank() :: 2][:3]

    module = Net()
    fitting = trainer(max_epochs=1, accumulate_grad_batches=2)
    fitting.fit(module, Short())
    return {"bits": bits(module), "steps": fitting.global_step}


if __name__ == "__main__":
    main(sys.argv[1:], CASES)
