"""The classification guide's chapters on dataloaders and transfer, of a module or a datamodule."""

from pathlib import Path
from typing import Any

import pytest
import torch
from guides.guide_data import MNIST, Plain, transforms
from models import loader, trainer
from torch import Tensor

import nightbus as nb

OWNERS = pytest.mark.parametrize("owner", ["module", "datamodule"])


def run_with(
    run: nb.Trainer, function: str, owner: str, module: type[nb.LightningModule], **own: Any
) -> Any:
    """Call a function with a module, of which it or a datamodule owns what is given."""
    options: dict[str, Any] = {} if function in ("fit", "predict") else {"verbose": False}
    if owner == "module":
        return getattr(run, function)(type("Owns", (module,), own)(), **options)
    options["datamodule"] = type("Owns", (nb.LightningDataModule,), own)()
    return getattr(run, function)(module(), **options)


def pictures() -> Any:
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (1.0,))])
    return MNIST(root="/path/to/mnist/", train=False, transform=transform, download=True)


@OWNERS
@pytest.mark.parametrize(
    ("kind", "step", "function"),
    [
        ("train", "training_step", "fit"),
        ("val", "validation_step", "validate"),
        ("test", "test_step", "test"),
    ],
)
def test_dataloaders_give_the_pictures_of_the_example(
    tmp_path: Path, owner: str, kind: str, step: str, function: str
) -> None:
    seen: list[tuple[int, ...]] = []

    def dataloader(self: Any) -> Any:
        return torch.utils.data.DataLoader(
            dataset=pictures(), batch_size=self.batch_size, shuffle=kind == "train"
        )

    def note(self: Any, batch: Any, batch_idx: int) -> Tensor:
        assert batch[0].min() < 0  # normalized
        seen.append(tuple(batch[0].shape))
        return self.loss(batch)  # type: ignore[no-any-return]

    module = type("LitModel", (Plain,), {step: note})
    own = {f"{kind}_dataloader": dataloader, "batch_size": 5}
    run_with(trainer(tmp_path), function, owner, module, **own)

    assert seen == [(5, 4), (5, 4), (2, 4)]


@OWNERS
@pytest.mark.parametrize(
    ("kind", "step", "function"),
    [
        ("val", "validation_step", "validate"),
        ("test", "test_step", "test"),
        ("predict", "predict_step", "predict"),
    ],
)
def test_several_dataloaders_give_the_step_a_dataloader_idx(
    tmp_path: Path, owner: str, kind: str, step: str, function: str
) -> None:
    seen: list[tuple[int, int]] = []

    def note(self: Any, batch: Any, batch_idx: int, dataloader_idx: int) -> None:
        seen.append((dataloader_idx, batch_idx))

    own = {f"{kind}_dataloader": lambda self: [loader(8), loader(4), loader(12)]}
    run_with(trainer(tmp_path), function, owner, type("LitModel", (Plain,), {step: note}), **own)

    assert seen == [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1), (2, 2)]


class CustomBatch:
    """A batch in a data structure of one's own."""

    def __init__(self, pairs: Any) -> None:
        self.samples = torch.stack([x for x, _ in pairs])
        self.targets = torch.tensor([y for _, y in pairs])


@OWNERS
def test_transfer_batch_to_device_decides_by_batch_and_dataloader(
    tmp_path: Path, owner: str
) -> None:
    ways: list[tuple[str, int]] = []
    around: list[int] = []

    class Transfers:
        def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            around.append(dataloader_idx)
            return batch

        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            around.append(dataloader_idx)
            return batch

        def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
            if isinstance(batch, CustomBatch):
                # move all tensors in your custom data structure to the device
                batch.samples = batch.samples.to(device)
                batch.targets = batch.targets.to(device)
                ways.append(("custom", dataloader_idx))
            elif dataloader_idx == 0:
                # skip device transfer for the first dataloader or anything you wish
                ways.append(("skipped", dataloader_idx))
            else:
                batch = super().transfer_batch_to_device(batch, device, dataloader_idx)  # type: ignore[misc]
                ways.append(("moved", dataloader_idx))
            return batch

    class LitModel(Plain):
        def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> None:
            if isinstance(batch, CustomBatch):
                batch = (batch.samples, batch.targets)
            self.log("test_loss", self.loss(batch), batch_size=4)

    custom = torch.utils.data.DataLoader(MNIST(), batch_size=12, collate_fn=CustomBatch)
    base = {"module": LitModel, "datamodule": nb.LightningDataModule}[owner]
    transferring: Any = type("Transferring", (Transfers, base), {})()
    transferring.test_dataloader = lambda: [loader(4), custom, loader(8)]
    run = trainer(tmp_path)
    if owner == "module":
        results = run.test(transferring, verbose=False)
    else:
        results = run.test(LitModel(), datamodule=transferring, verbose=False)

    assert ways == [("skipped", 0), ("custom", 1), ("moved", 2), ("moved", 2)]
    assert around == [0, 0, 1, 1, 2, 2, 2, 2]
    assert [list(metrics) for metrics in results] == [
        [f"test_loss/dataloader_idx_{idx}"] for idx in range(3)
    ]
