"""A program of ranks on a GPU: what only a GPU has, and what is exchanged there."""

import sys
from typing import Any

import torch
import torch.distributed as dist
from ranks_fit import DEVICE, SEED, Net, bits, case, loader, main, own_part, trainer, weights
from torch import nn
from torch.nn.parallel import DistributedDataParallel

CASES: list[Any] = []


class Exchanges(Net):
    """Exchanges what users give it, and what nightbus itself does, before it trains."""

    def on_train_start(self) -> None:
        self.found = {**exchanged(self.trainer), **exchanged_within(self.trainer.group)}


def exchanged(run: Any) -> dict[str, Any]:
    """What users exchange, on the device."""
    rank, size = run.global_rank, run.world_size
    given = {"x": torch.full((2,), rank, device=DEVICE), "n": rank}
    gathered = run.all_gather({"a": torch.full((3,), rank, device=DEVICE), "b": rank})
    received = run.broadcast(given, src=size - 1)
    mine = torch.full((2,), float(rank), device=DEVICE, requires_grad=True)
    (run.all_gather(mine, sync_grads=True).sum() * (rank + 1)).backward()
    assert mine.grad is not None
    return {
        "devices": [received["x"].device.type, *(each.device.type for each in gathered.values())],
        "received": [received["x"].tolist(), received["n"]],
        "gathered": gathered["a"].reshape(-1).tolist(),
        "mean": run.reduce(torch.tensor([rank, 3.0], device=DEVICE)).tolist(),
        "sum": run.reduce(rank + 1, reduce_op="sum").item(),
        "max": run.reduce(torch.tensor(rank == size - 1, device=DEVICE), reduce_op="max").item(),
        "half": run.reduce(torch.ones(2, dtype=torch.bfloat16, device=DEVICE)).tolist(),
        "gradient": mine.grad.tolist(),
        "backend": str(dist.get_backend_config()),
    }


def exchanged_within(group: Any) -> dict[str, Any]:
    """Tensors of types that a module has, on the device."""
    rank, found = group.world.rank, {}
    types = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool]
    given = [torch.full((3,), rank + 1, dtype=kind, device=DEVICE) for kind in types]
    found["stacked"] = [group.stack(tensor).tolist() for tensor in given]
    group.share(given)
    found["shared"] = [float(tensor.sum()) for tensor in given]
    number = torch.tensor([rank + 1.0], device=DEVICE, dtype=torch.float64)
    found["summed"] = group.sum(number.clone()).item()
    found["greatest"] = group.greatest(number.clone()).item()
    return found


@case(CASES)
def exchanges() -> Any:
    module = Exchanges()
    trainer(max_epochs=1).fit(module, loader())
    return module.found


@case(CASES)
def batchnorm() -> Any:
    """A module whose BatchNorm is of all ranks, and a loop of PyTorch alone with the same."""
    module = Net(normalizes=True)
    torch.manual_seed(SEED)
    trainer(sync_batchnorm=True).fit(module, loader(shuffle=True))
    assert isinstance(module.layers[1], nn.SyncBatchNorm)
    alone = nn.SyncBatchNorm.convert_sync_batchnorm(Net(normalizes=True)).to(DEVICE)
    wrapped = DistributedDataParallel(alone)
    optimizer = torch.optim.SGD(alone.parameters(), lr=0.05, momentum=0.9)
    part = own_part(4, True)
    alone.train()
    for epoch in range(2):
        part.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        for x, y in part:
            optimizer.zero_grad()
            nn.functional.mse_loss(wrapped(x.to(DEVICE)), y.to(DEVICE)).backward()
            optimizer.step()
    return [bits(module), bits(alone)]


@case(CASES)
def scaled() -> Any:
    """Float16 with scaled losses; those of rank 0 overflow in the second batch."""

    class Overflows(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.loss(batch) * 1e-2
            overflows = batch_idx == 1 and self.trainer.global_rank == 0
            return loss * torch.inf if overflows else loss

    module = Overflows()
    run = trainer(precision="16-mixed", max_epochs=1)
    run.fit(module, loader())
    assert run.device.scaler is not None
    return {
        "bits": bits(module),
        "scale": run.device.scaler.get_scale(),
        "is_finite": all(each == each and abs(each) < 1e9 for each in weights(module)),
    }


@case(CASES)
def without_a_loss_scaled() -> Any:
    """Rank 0 has no loss in a batch, and takes part in what the others have."""

    class Skips(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            skips = batch_idx == 1 and self.trainer.global_rank == 0 and self.trainer.world_size > 1
            return None if skips else self.loss(batch)

    module = Skips()
    run = trainer(precision="16-mixed", max_epochs=1)
    run.fit(module, loader())
    return {"bits": bits(module), "steps": run.global_step}


@case(CASES)
def logged() -> Any:
    """Values on the device, of all ranks."""

    class Logs(Net):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            own = torch.tensor(float(self.trainer.global_rank), device=self.device)
            self.log("mean", own, sync_dist=True, on_step=True, on_epoch=True)
            self.log("most", own, sync_dist=True, on_step=True, reduce_fx="max")
            self.log("epoch", own + 1, on_step=False, on_epoch=True)
            return self.loss(batch)

    run = trainer(max_epochs=1)
    run.fit(Logs(), loader())
    return {name: float(value) for name, value in run.callback_metrics.items()}


@case(CASES)
def with_other_weights() -> Any:
    """All ranks begin with the weights of rank 0, of every type."""

    class Mixed(Net):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("flags", torch.tensor([True, False]))
            self.register_buffer("halves", torch.ones(3, dtype=torch.float16))
            self.register_buffer("count", torch.tensor(5))

    module: Any = Mixed()
    if dist.get_rank():
        for tensor in module.state_dict().values():
            tensor.zero_()
    trainer(limit_train_batches=1, max_epochs=1).fit(module, loader())
    return [bits(module), module.count.item(), module.flags.tolist()]


if __name__ == "__main__":
    main(sys.argv[1:], CASES)
