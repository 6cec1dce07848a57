"""What is trained on a GPU is saved, resumed to the bit, and read on a CPU."""

from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, assert_same, events, loader, trainer, weights
from torch import nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy

import nightbus as nb
from nightbus.actors.checkpoints.format import read_checkpoint
from nightbus.actors.data.rng import rng_state, set_rng_state

pytestmark = pytest.mark.gpu


class Noisy(Small):
    """Draws from the GPU's generator, and has states of all kinds there."""

    net: Any

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2)
        )
        self.accuracy = MulticlassAccuracy(2)
        self.factor = factor

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        logits = self(x + 0.1 * torch.randn_like(x))
        loss = F.cross_entropy(logits, y) * self.factor
        self.accuracy(logits, y)
        self.log("accuracy", self.accuracy, on_step=False, on_epoch=True)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.05)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.7)]


def fit(folder: Path, ckpt_path: Any = None, factor: float = 1.0, **options: Any) -> nb.Trainer:
    torch.manual_seed(5)
    module = Noisy(factor)
    run = trainer(folder, **{"accelerator": "gpu", "max_epochs": 2, **options})
    run.fit(module, loader(), loader(), ckpt_path=ckpt_path)
    return run


def last(run: nb.Trainer) -> Path:
    assert run.run_folder is not None
    return run.run_folder.path / "checkpoints" / "last"


def values(run: nb.Trainer, attempt: int = 0) -> list[tuple[str, Any]]:
    puts = events(run, nb.Put, attempt=attempt)
    return [(put.name, put.value) for put in puts if "callbacks" in put.destinations]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"precision": "16-mixed"},
        {"precision": "16-mixed", "factor": 30.0},
        {"precision": "bf16-mixed"},
        {"accumulate_grad_batches": 2, "precision": "16-mixed"},
        {"accumulate_grad_batches": 4},
    ],
)
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")  # as steps are skipped
@pytest.mark.parametrize("limit", [{"max_steps": 2}, {"max_epochs": 1}])
def test_a_resumed_run_is_the_same_to_the_bit(
    tmp_path: Path, options: dict[str, Any], limit: dict[str, Any]
) -> None:
    whole = fit(tmp_path / "whole", **options)
    stopped = fit(tmp_path / "parts", **options, **limit)
    resumed = fit(tmp_path / "parts", last(stopped), **options)

    assert resumed.global_step == whole.global_step
    expected, found = (run.lightning_module.state_dict() for run in (whole, resumed))
    assert_same(list(found.values()), list(expected.values()))
    recorded = values(resumed, attempt=1)
    assert recorded == values(whole)[-len(recorded) :]
    if whole.device.scaler is not None:
        assert resumed.device.scaler is not None
        assert resumed.device.scaler.state_dict() == whole.device.scaler.state_dict()


def test_values_on_their_way_belong_to_the_run_up_to_the_checkpoint(tmp_path: Path) -> None:
    class Slow(Noisy):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            torch.cuda._sleep(1 << 28)
            return super().training_step(batch, batch_idx)

        def on_train_batch_end(self, *_: Any) -> None:
            self.trainer.save_checkpoint(tmp_path / "checkpoint")

    run = trainer(tmp_path, accelerator="gpu", max_steps=1)
    run.fit(Slow(), loader())

    (logged,) = (put for put in events(run, nb.Put) if put.name == "train_loss_step")
    assert logged.seq <= read_checkpoint(tmp_path / "checkpoint")["seq"]


def test_weights_of_a_gpu_are_read_on_a_cpu(tmp_path: Path) -> None:
    run = fit(tmp_path)

    module = Noisy.load_from_checkpoint(last(run), factor=1.0)

    assert {tensor.device.type for tensor in module.state_dict().values()} == {"cpu"}
    for found, there in zip(weights(module), weights(run.lightning_module), strict=True):
        assert torch.equal(found, there.cpu())


@pytest.mark.parametrize(("one", "other"), [("gpu", "cpu"), ("cpu", "gpu")])
def test_a_run_goes_on_on_the_other_device(tmp_path: Path, one: str, other: str) -> None:
    stopped = fit(tmp_path, accelerator=one, max_epochs=1)
    before = weights(stopped.lightning_module)

    resumed = fit(tmp_path, last(stopped), accelerator=other)

    assert resumed.global_step == 12
    after = weights(resumed.lightning_module)
    assert {weight.device.type for weight in after} == {"cuda" if other == "gpu" else "cpu"}
    assert not torch.equal(after[0].cpu(), before[0].cpu())


def test_an_average_of_weights_is_resumed_to_the_bit(tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole", callbacks=[nb.EMA(0.9)])
    stopped = fit(tmp_path / "parts", callbacks=[nb.EMA(0.9)], max_epochs=1)
    resumed = fit(tmp_path / "parts", last(stopped), callbacks=[nb.EMA(0.9)])

    assert_same(weights(resumed.lightning_module), weights(whole.lightning_module))


def test_generators_of_gpus_that_are_not_here_are_left_out() -> None:
    torch.cuda.manual_seed(1)
    state = rng_state()
    of_here = list(state["cuda"])
    drawn = torch.rand(3, device="cuda")

    set_rng_state({**state, "cuda": [*of_here, *of_here]})

    assert torch.equal(torch.rand(3, device="cuda"), drawn)
