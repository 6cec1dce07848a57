"""What needs a package that is not installed says which extra brings it."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from models import Small, loader, trainer

import nightbus as nb


@pytest.mark.parametrize(
    ("package", "make", "said"),
    [
        ("tensorboardX", nb.TensorBoard, r"TensorBoard needs the package tensorboardX"),
        ("crc32c", nb.TensorBoard, r"TensorBoard needs the package crc32c"),
        ("mlflow", nb.MLflow, r"MLflow needs the package mlflow-skinny"),
        ("wandb", nb.WandB, r"WandB needs the package wandb"),
        ("hypercorn", nb.Board, r"Board needs the package hypercorn"),
        ("pyarrow", nb.Parquet, r"Parquet needs the package pyarrow"),
    ],
)
def test_a_sink_says_so_before_anything_is_trained(
    monkeypatch: pytest.MonkeyPatch, package: str, make: Callable[[], Any], said: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(nb.UsageError, match=said + r".*pip install 'nightbus\["):
        make()


def test_it_is_a_missing_module_and_a_wrong_argument_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(ModuleNotFoundError, match="Parquet needs the package pyarrow"):
        nb.Parquet()
    with pytest.raises(ValueError, match="Parquet needs the package pyarrow"):
        nb.Parquet()


def test_put_image_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Shows(Small):
        def on_train_epoch_end(self) -> None:
            self.put_image("image", [[0.0]])

    monkeypatch.setitem(sys.modules, "PIL", None)

    with pytest.raises(nb.UsageError, match=r"put_image needs the package pillow.*nightbus\[media"):
        trainer(tmp_path).fit(Shows(), loader())
