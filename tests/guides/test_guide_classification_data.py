"""The classification guide's chapters on dataloaders and transfer, as a datamodule has them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from guides.guide_data import CIFAR, MNIST, Plain, transforms
from models import Small, loader, trainer
from torch import Tensor

import nightbus as nb


class ClassificationDataModule(nb.LightningDataModule):
    """A data module whose dataloaders come from its subclasses."""

    batch_size = 4


def pictures() -> Any:
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (1.0,))])
    return MNIST(root="/path/to/mnist/", train=False, transform=transform, download=True)


class NotesBatches(Plain):
    """Trains, validates and tests; notes the stage and shape of each batch's pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, tuple[int, ...]]] = []

    def _note(self, stage: str, batch: Any) -> Tensor:
        assert batch[0].min() < 0  # normalized
        self.seen.append((stage, tuple(batch[0].shape)))
        return self.loss(batch)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self._note("train", batch)

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        self._note("validate", batch)

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        self._note("test", batch)


def test_test_dataloader_of_a_datamodule(tmp_path: Path) -> None:
    class DataModule(ClassificationDataModule):
        def test_dataloader(self) -> Any:
            dataset = pictures()
            return torch.utils.data.DataLoader(
                dataset=dataset, batch_size=self.batch_size, shuffle=False
            )

    module = NotesBatches()

    trainer(tmp_path).test(module, datamodule=DataModule(), verbose=False)

    assert module.seen == [("test", (4, 4))] * 3


def test_several_test_dataloaders_of_a_datamodule(tmp_path: Path) -> None:
    indices: list[int] = []
    loader_a, loader_b, loader_n = loader(4), loader(4), loader(8)

    class DataModule(ClassificationDataModule):
        def test_dataloader(self) -> Any:
            return [loader_a, loader_b, loader_n]

    class LitModel(Plain):
        def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> None:
            indices.append(dataloader_idx)

    trainer(tmp_path).test(LitModel(), datamodule=DataModule(), verbose=False)

    assert indices == [0, 1, 2, 2]


def test_train_dataloader_of_a_datamodule(tmp_path: Path) -> None:
    class DataModule(ClassificationDataModule):
        def train_dataloader(self) -> Any:
            dataset = pictures()
            return torch.utils.data.DataLoader(
                dataset=dataset, batch_size=self.batch_size, shuffle=True
            )

    module = NotesBatches()

    trainer(tmp_path).fit(module, datamodule=DataModule())

    assert module.seen == [("train", (4, 4))] * 3


def two_loaders(batch_size: int) -> tuple[Any, Any]:
    mnist = MNIST()
    cifar = CIFAR()
    mnist_loader = torch.utils.data.DataLoader(dataset=mnist, batch_size=batch_size, shuffle=True)
    cifar_loader = torch.utils.data.DataLoader(dataset=cifar, batch_size=batch_size, shuffle=True)
    return mnist_loader, cifar_loader


def test_a_datamodules_list_of_train_dataloaders_is_read_together(tmp_path: Path) -> None:
    lengths: list[int] = []

    class DataModule(ClassificationDataModule):
        def train_dataloader(self) -> Any:
            mnist_loader, cifar_loader = two_loaders(self.batch_size)
            # each batch will be a list of tensors: [batch_mnist, batch_cifar]
            return [mnist_loader, cifar_loader]

    class LitModel(Plain):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            assert isinstance(batch, list)
            batch_mnist, batch_cifar = batch
            lengths.append(len(batch_mnist[0]))
            return self.loss(batch_mnist) + self.loss(batch_cifar)

    trainer(tmp_path).fit(LitModel(), datamodule=DataModule())

    assert lengths == [4] * 5


def test_a_datamodules_dict_of_train_dataloaders_is_read_together(tmp_path: Path) -> None:
    keys: list[list[str]] = []

    class DataModule(ClassificationDataModule):
        def train_dataloader(self) -> Any:
            mnist_loader, cifar_loader = two_loaders(self.batch_size)
            # each batch will be a dict of tensors: {'mnist': batch_mnist, 'cifar': batch_cifar}
            return {"mnist": mnist_loader, "cifar": cifar_loader}

    class LitModel(Plain):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            keys.append(list(batch))
            return self.loss(batch["mnist"]) + self.loss(batch["cifar"])

    trainer(tmp_path).fit(LitModel(), datamodule=DataModule())

    assert keys == [["mnist", "cifar"]] * 5


class CustomBatch:
    """A batch in a data structure of one's own."""

    def __init__(self, pairs: Any) -> None:
        self.samples = torch.stack([x for x, _ in pairs])
        self.targets = torch.tensor([y for _, y in pairs])


@pytest.mark.parametrize("owner", ["module", "datamodule"])
def test_transfer_batch_to_device_decides_by_batch_and_dataloader(
    tmp_path: Path, owner: str
) -> None:
    ways: list[tuple[str, int]] = []

    class Transfers:
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
    base = {"module": LitModel, "datamodule": ClassificationDataModule}[owner]
    transferring: Any = type("Transferring", (Transfers, base), {})()
    transferring.test_dataloader = lambda: [loader(4), custom, loader(8)]
    run = trainer(tmp_path)
    if owner == "module":
        results = run.test(transferring, verbose=False)
    else:
        results = run.test(LitModel(), datamodule=transferring, verbose=False)

    assert ways == [("skipped", 0), ("custom", 1), ("moved", 2), ("moved", 2)]
    assert [list(metrics) for metrics in results] == [
        [f"test_loss/dataloader_idx_{idx}"] for idx in range(3)
    ]


def test_val_dataloader_of_a_datamodule(tmp_path: Path) -> None:
    class DataModule(ClassificationDataModule):
        def val_dataloader(self) -> Any:
            dataset = pictures()
            return torch.utils.data.DataLoader(
                dataset=dataset, batch_size=self.batch_size, shuffle=False
            )

    module = NotesBatches()

    trainer(tmp_path).validate(module, datamodule=DataModule(), verbose=False)

    assert module.seen == [("validate", (4, 4))] * 3


def test_several_val_dataloaders_of_a_datamodule(tmp_path: Path) -> None:
    indices: list[int] = []
    loader_a, loader_b, loader_n = loader(4), loader(8), loader(4)

    class DataModule(ClassificationDataModule):
        def train_dataloader(self) -> Any:
            return loader()

        def val_dataloader(self) -> Any:
            return [loader_a, loader_b, loader_n]

    class LitModel(Small):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> None:  # type: ignore[override]
            indices.append(dataloader_idx)

    trainer(tmp_path, num_sanity_val_steps=0).fit(LitModel(), datamodule=DataModule())

    assert indices == [0, 1, 1, 2]


def test_a_datamodule_downloads_in_prepare_data_and_splits_in_setup(tmp_path: Path) -> None:
    calls: list[str] = []

    class DataModule(ClassificationDataModule):
        def prepare_data(self) -> None:
            calls.append("download")

        def setup(self, stage: str | None = None) -> None:
            calls.append("process and split")
            self.train, self.val = torch.utils.data.random_split(MNIST(), [8, 4])

        def train_dataloader(self) -> Any:
            calls.append("train_dataloader")
            return torch.utils.data.DataLoader(self.train, self.batch_size)

        def val_dataloader(self) -> Any:
            calls.append("val_dataloader")
            return torch.utils.data.DataLoader(self.val, self.batch_size)

    run = trainer(tmp_path)
    run.fit(Small(), datamodule=DataModule())

    assert calls[:2] == ["download", "process and split"]
    assert sorted(calls[2:]) == ["train_dataloader", "val_dataloader"]
    assert run.num_training_batches == 2
