"""Lightning's demo modules and data, and its flags of what is installed."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from models import trainer

import nightbus as nb


def at(path: str) -> Any:
    return import_module(f"nightbus.compat.lightning.{path}")


@pytest.mark.parametrize("path", ["pytorch.utilities.imports", "fabric.utilities.imports"])
def test_flags_say_what_is_installed(path: str) -> None:
    flags = at(path)

    assert flags._TORCHMETRICS_AVAILABLE is True
    assert flags._NEPTUNE_AVAILABLE is False
    assert flags._TORCH_GREATER_EQUAL_2_1 is True
    assert flags._TORCH_GREATER_EQUAL_99_0 is False
    assert flags._NEPTUNE_GREATER_EQUAL_1_0 is False
    assert flags._IS_WINDOWS is (sys.platform == "win32")


def test_flags_can_be_imported_from_where_lightning_1_has_them() -> None:
    utilities = import_module("nightbus.compat.pytorch_lightning.utilities")

    assert utilities._TORCHMETRICS_AVAILABLE is True
    assert utilities._module_available("torch.nn")
    assert not utilities._module_available("neptune.new")


def test_flags_of_versions_know_python_and_compare_as_they_say() -> None:
    flags = at("pytorch.utilities.imports")
    major, minor = torch.__version__.split(".")[:2]

    assert flags._PYTHON_GREATER_EQUAL_3_8_0 is True
    assert flags._PYTHON_GREATER_EQUAL_3_10_0 is True
    assert flags._PYTHON_GREATER_EQUAL_99_0 is False
    assert getattr(flags, f"_TORCH_EQUAL_{major}_{minor}") is True
    assert flags._TORCH_EQUAL_1_9 is False
    assert getattr(flags, f"_TORCH_LESSER_EQUAL_{major}_{int(minor) + 1}") is True
    assert flags._TORCH_LESSER_EQUAL_1_10_2 is False
    assert flags._NEPTUNE_LESSER_EQUAL_99_0 is False


def test_flags_of_what_torch_can_do_ask_torch() -> None:
    flags = at("pytorch.utilities.imports")
    engines = torch.backends.quantized.supported_engines

    assert flags._KINETO_AVAILABLE is torch.profiler.kineto_available()
    assert flags._TORCH_DISTRIBUTED_AVAILABLE is torch.distributed.is_available()
    assert flags._TORCH_QUANTIZE_AVAILABLE is any(engine != "none" for engine in engines)
    assert flags._NATIVE_AMP_AVAILABLE is True


@pytest.mark.parametrize("name", ["_FROBNICATOR_AVAILABLE", "_FROBNICATOR_GREATER_EQUAL_1_0"])
def test_a_flag_that_is_not_known_is_an_import_error(name: str) -> None:
    with pytest.raises(ImportError, match=name):
        exec(f"from nightbus.compat.lightning.pytorch.utilities.imports import {name}", {})


def test_other_private_names_are_no_flags() -> None:
    with pytest.raises(AttributeError, match="_PICKLE"):
        _ = at("pytorch.utilities.imports")._PICKLE


def test_the_transformer_learns_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "wikitext-2.txt").write_text("a b c d e f g\n" * 30)
    monkeypatch.chdir(tmp_path)
    demos = at("pytorch.demos")
    texts = demos.WikiText2(block_size=5)
    module = demos.LightningTransformer(vocab_size=texts.vocab_size)
    words, following = texts[1]

    trainer(tmp_path, max_epochs=1, limit_train_batches=2).fit(module)

    assert texts.vocab_size == 8
    assert torch.equal(words[1:], following[:-1])
    assert module(words[None], following[None]).shape == (5, 8)


def test_a_place_does_not_see_the_words_behind_it() -> None:
    net = at("pytorch.demos.transformer").Transformer(vocab_size=9).eval()
    words = torch.arange(6)[None]
    other = torch.cat([words[:, :4], words[:, 4:] + 2], dim=1)

    assert torch.allclose(net(words, words)[:4], net(words, other)[:4], atol=1e-5)
    assert not torch.allclose(net(words, words)[4:], net(words, other)[4:], atol=1e-5)


def test_texts_that_are_not_there_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(nb.UsageError, match=r"no .*wikitext-2.txt: nightbus downloads no data"):
        at("pytorch.demos").WikiText2(tmp_path)


def test_digits_come_from_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    class Digits(torch.utils.data.Dataset[Any]):
        def __init__(self, root: str, train: bool, transform: Any = None) -> None:
            self.size = 60 if train else 20

        def __len__(self) -> int:
            return self.size

        def __getitem__(self, index: int) -> Any:
            return torch.full((1, 28, 28), float(index)), index % 10

    module = at("pytorch.demos.mnist_datamodule")
    monkeypatch.setattr("nightbus.compat.demo_data.MNIST", Digits)
    monkeypatch.setattr(module.MNISTDataModule, "default_transforms", None)
    data = module.MNISTDataModule(val_split=10, num_workers=0, batch_size=5)
    data.setup("fit")

    loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
    assert [len(loader) for loader in loaders] == [10, 2, 4]
    assert data.num_classes == 10


def test_without_torchvision_there_are_no_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)

    with pytest.raises(nb.UsageError, match="MNIST needs the package torchvision"):
        at("pytorch.demos.mnist_datamodule").MNIST("Datasets")


def test_the_logo_is_the_librarys_name(capsys: pytest.CaptureFixture[str]) -> None:
    at("pytorch").cli_lightning_logo()

    assert capsys.readouterr().out == "nightbus\n"
