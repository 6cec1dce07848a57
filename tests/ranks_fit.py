"""A program of several ranks: each case trains, and what it found is kept for the tests.

Cases share the processes, because starting them takes most of the time.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import nightbus as nb

CASES: list[Callable[[], Any]] = []
SAMPLES, FEATURES, SEED = 36, 5, 40
# What the ranks train on: "cpu", "gpu" for one that all share, "nccl" for one rank on one of them.
ON = os.environ.get("RANKS_ON", "cpu")
DEVICE = torch.device("cpu" if ON == "cpu" else "cuda")
if ON == "nccl":
    import ranks_alone  # noqa: F401


def case(cases: list[Callable[[], Any]]) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Make a function one of the cases of a program."""

    def add(function: Callable[[], Any]) -> Callable[[], Any]:
        cases.append(function)
        return function

    return add


def data(samples: int = SAMPLES) -> Any:
    made = torch.Generator().manual_seed(5)
    x = torch.randn(samples, FEATURES, generator=made)
    return TensorDataset(x, x.sum(1, keepdim=True) + 0.1 * x[:, :1] ** 2)


def loader(batch_size: int = 4, shuffle: bool = False, samples: int = SAMPLES) -> DataLoader[Any]:
    return DataLoader(data(samples), batch_size=batch_size, shuffle=shuffle)


class Net(nb.LightningModule):
    def __init__(self, normalizes: bool = False) -> None:
        super().__init__()
        torch.manual_seed(3)
        between = nn.BatchNorm1d(8) if normalizes else nn.Tanh()
        self.layers = nn.Sequential(nn.Linear(FEATURES, 8), between, nn.Linear(8, 1))

    def forward(self, x: Tensor) -> Any:
        return self.layers(x)

    def loss(self, batch: Any) -> Tensor:
        x, y = batch
        return nn.functional.mse_loss(self(x), y)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(batch)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def trainer(**options: Any) -> nb.Trainer:
    plain: dict[str, Any] = {
        "max_epochs": 2,
        "accelerator": "cpu" if ON == "cpu" else "gpu",
        "strategy": nb.DDPStrategy(process_group_backend="nccl" if ON == "nccl" else "gloo"),
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "recording": "off",
    }
    return nb.Trainer(**(plain | options))


def bits(module: nn.Module) -> str:
    """The bytes of all weights."""
    return "".join(t.detach().cpu().numpy().tobytes().hex() for t in module.state_dict().values())


def weights(module: nn.Module) -> list[float]:
    return [float(number) for t in module.parameters() for number in t.detach().flatten()]


def is_rank_zero() -> bool:
    return dist.get_rank() == 0


def trained_by_hand(
    module: Net,
    batches: DataLoader[Any],
    epochs: int = 2,
    accumulate: int = 1,
    clip: float | None = None,
    precision: torch.dtype | None = None,
) -> Net:
    """What a loop of PyTorch alone makes of the module."""
    module.to(DEVICE)
    wrapped = DistributedDataParallel(module)
    optimizer: Any = module.configure_optimizers()
    order: Any = batches.sampler
    module.train()
    for epoch in range(epochs):
        order.set_epoch(epoch)
        turns = list(batches)
        for number, (x, y) in enumerate(turns, 1):
            x, y = x.to(DEVICE), y.to(DEVICE)
            steps = number % accumulate == 0 or number == len(turns)
            if (number - 1) % accumulate == 0:
                optimizer.zero_grad()
            wrapped.require_backward_grad_sync = steps
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=precision is not None):
                loss = nn.functional.mse_loss(wrapped(x), y)
            (loss / accumulate).backward()
            if steps:
                if clip:
                    nn.utils.clip_grad_norm_(module.parameters(), clip)
                optimizer.step()
    for buffer in module.buffers():
        dist.broadcast(buffer, 0)
    return module


def own_part(batch_size: int, shuffle: bool, samples: int = SAMPLES) -> DataLoader[Any]:
    found = data(samples)
    sampler: Any = DistributedSampler(found, shuffle=shuffle, seed=SEED)
    return DataLoader(found, batch_size=batch_size, sampler=sampler)


def both(samples: int = SAMPLES, normalizes: bool = False, **options: Any) -> list[str]:
    """The weights of a fit, and those of a loop of PyTorch alone."""
    module = Net(normalizes)
    torch.manual_seed(SEED)
    trainer(**options).fit(module, loader(shuffle=True, samples=samples))
    by_hand = trained_by_hand(
        Net(normalizes),
        own_part(4, True, samples),
        accumulate=options.get("accumulate_grad_batches", 1),
        clip=options.get("gradient_clip_val"),
        precision=torch.bfloat16 if options.get("precision") == "bf16-mixed" else None,
    )
    return [bits(module), bits(by_hand)]


@case(CASES)
def plain() -> list[str]:
    return both()


@case(CASES)
def uneven() -> list[str]:
    return both(samples=35)


@case(CASES)
def with_hooks() -> list[str]:
    """The loops themselves, which the fast path leaves out."""

    class Heard(nb.Callback):
        def on_before_backward(self, trainer: Any, module: Any, loss: Any) -> None:
            pass

    return both(callbacks=[Heard()])


@case(CASES)
def buffers() -> list[str]:
    return both(normalizes=True)


@case(CASES)
def accumulated() -> list[str]:
    return both(accumulate_grad_batches=2)


@case(CASES)
def clipped() -> list[str]:
    return both(gradient_clip_val=0.1)


@case(CASES)
def bf16() -> list[str]:
    return both(precision="bf16-mixed")


class Wide(Net):
    """Its gradients take more than one bucket, and the ranks tell a value with them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layers = nn.Sequential(
            nn.Linear(FEATURES, width), nn.Linear(width, width), nn.Linear(width, 1)
        )

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.log("loss", loss, sync_dist=True)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1e-4)


def both_wide(width: int) -> list[str]:
    module, samples = Wide(width), 3 * 8
    torch.manual_seed(SEED)
    trainer(max_epochs=1).fit(module, loader(shuffle=True, samples=samples))
    by_hand = trained_by_hand(Wide(width), own_part(4, True, samples), epochs=1)
    return [hashlib.sha256(bits(each).encode()).hexdigest() for each in (module, by_hand)]


@case(CASES)
def wide() -> list[str]:
    return both_wide(550)  # 1.2 MB; torch's first bucket has 1


@case(CASES)
def very_wide() -> list[str]:
    return both_wide(2600)  # 27 MB; its others have 25


@case(CASES)
def double_batch() -> list[float]:
    module = Net()
    trainer().fit(module, loader(4))
    return weights(module)


@case(CASES)
def other_weights_on_each_rank() -> list[float]:
    module = Net()
    if dist.get_rank():
        nn.init.ones_(module.layers[0].weight)  # type: ignore[arg-type]
    trainer().fit(module, loader(4))
    return weights(module)


def main(names: list[str], cases: Sequence[Callable[[], Any]]) -> None:
    """Run the cases of these names, or all, and keep what they find."""
    found: dict[str, Any] = {}
    for each in cases:
        if names and each.__name__ not in names:
            continue
        found[each.__name__] = each()
        rank = dist.get_rank() if dist.is_initialized() else 0
        Path(f"found-{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:], CASES)
