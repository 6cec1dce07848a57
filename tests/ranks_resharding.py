"""A program of two ranks that stop in the middle of an epoch, and go on where one process was."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from models import events
from ranks_fit import FEATURES, Net, case, main, trainer, weights
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MeanMetric

import nightbus as nb

CASES: list[Any] = []
SAMPLES = 48


class Numbered(Net):
    """Keeps which samples it was trained on, by the step to which they led."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, list[int]] = {}
        self.mean = MeanMetric()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y, numbers = batch
        self.seen.setdefault(str(self.global_step), []).extend(numbers.tolist())
        loss = self.loss((x, y))
        self.log("mean", numbers.float().mean(), on_step=False, on_epoch=True, sync_dist=True)
        self.log("most", numbers.max(), on_epoch=True, on_step=False, reduce_fx="max")
        self.mean.update(numbers)
        self.log("metric", self.mean, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> Any:
        assert self.trainer.estimated_stepping_batches  # so the data is requested early
        return super().configure_optimizers()


def numbered(batch_size: int) -> DataLoader[Any]:
    made = torch.Generator().manual_seed(5)
    x = torch.randn(SAMPLES, FEATURES, generator=made)
    data = TensorDataset(x, x.sum(1, keepdim=True), torch.arange(SAMPLES))
    return DataLoader(data, batch_size=batch_size, shuffle=True)


def fit(folder: str, batch_size: int, seed: int, ckpt_path: Any = None, **options: Any) -> Any:
    """What a trainer has trained on, and what came out."""
    torch.manual_seed(seed)
    module = Numbered()
    kept = {"enable_checkpointing": True, "recording": "all", "default_root_dir": folder}
    fitting = trainer(**({"max_epochs": 2} | kept | options))
    torch.manual_seed(seed)
    fitting.fit(module, numbered(batch_size), ckpt_path=ckpt_path)
    assert fitting.run_folder is not None
    fitting.barrier()
    said = events(fitting, nb.Resharded, attempt=fitting.attempt)
    return {
        "resharded": [[each.was, each.now, each.exact] for each in said],
        "seen": module.seen,
        "weights": weights(module),
        "metrics": {name: float(value) for name, value in fitting.callback_metrics.items()},
        "last": str(fitting.run_folder.path.absolute() / "checkpoints" / "last"),
        "run": str(fitting.run_folder.path.absolute()),
        "steps": fitting.global_step,
    }


@case(CASES)
def whole() -> Any:
    return fit("whole", 4, 1)


@case(CASES)
def stopped() -> Any:
    return fit("stopped", 4, 1, max_steps=2)


@case(CASES)
def stopped_in_an_accumulation() -> Any:
    class Stops(nb.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, *rest: Any) -> None:
            if (trainer.current_epoch, rest[-1]) == (0, 2):
                trainer.save_checkpoint(path)

    path = Path("accumulation").absolute()
    return {**fit("all", 4, 1, accumulate_grad_batches=2, callbacks=[Stops()]), "last": str(path)}


@case(CASES)
def taken_over() -> Any:
    """The run of one process, left before this program began."""
    left = json.loads(Path("left.json").read_text())
    return fit("left", 4, 7, left["last"])


if __name__ == "__main__":
    assert not dist.is_initialized()
    main(sys.argv[1:], CASES)
