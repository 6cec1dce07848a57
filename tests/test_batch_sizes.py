"""Epoch means are weighted by the samples of a batch, whatever a batch is."""

import dataclasses
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from models import Small, trainer
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import DataLoader

import nightbus as nb

Pair = namedtuple("Pair", "x y")


@dataclasses.dataclass
class Points:
    x: Tensor
    name: str = "points"


@dataclasses.dataclass
class Words:
    words: list[str]


class Holds:
    def __init__(self, x: Any) -> None:
        self.x = x


class Counted:
    def __init__(self, number: int) -> None:
        self._number = number

    def __len__(self) -> int:
        return self._number


class Graphs:
    """As a batch of graphs: the length is that of its attributes."""

    def __init__(self, number: int) -> None:
        self.num_graphs = number
        self.x = torch.ones(10 * number, 2)

    def __len__(self) -> int:
        return 7


def points(xs: Any) -> Tensor:
    return torch.tensor(xs, dtype=torch.float32)[:, None]


KINDS: dict[str, Any] = {
    "tensor": points,
    "array": lambda xs: points(xs).numpy(),
    "list of arrays": lambda xs: [np.asarray(xs), np.asarray(xs)],
    "array beside its scale": lambda xs: (np.float32(2.0), np.asarray(xs)),
    "dict": lambda xs: {"epoch": 7, "a": points(xs)},
    "nested": lambda xs: {"in": {"deep": [None, {"x": points(xs).numpy()}]}},
    "a number first": lambda xs: (torch.tensor(3.0), points(xs)),
    "none first": lambda xs: (None, points(xs)),
    "texts": lambda xs: [str(x) for x in xs],
    "texts in a tuple": lambda xs: tuple(str(x) for x in xs),
    "texts in a dict": lambda xs: {"text": [str(x) for x in xs], "lang": "en"},
    "names beside a tensor": lambda xs: {"classes": ["a", "b", "c"], "x": points(xs)},
    "named tuple": lambda xs: Pair(points(xs), [str(x) for x in xs]),
    "dataclass": lambda xs: Points(points(xs)),
    "dataclass of texts": lambda xs: Words([str(x) for x in xs]),
    "object with tensors": lambda xs: Holds(points(xs)),
    "object with a length": lambda xs: Counted(len(xs)),
    "graphs": lambda xs: Graphs(len(xs)),
    "packed sequence": lambda xs: pack_sequence([torch.ones(3) for _ in xs]),
    "list of objects": lambda xs: [object() for _ in xs],
}


class Logs(Small):
    options: dict[str, Any] = {}  # noqa: RUF012

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("batch", float(batch_idx), **self.options)

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int = 0) -> Any:
        return batch


def data_of(collate: Any) -> DataLoader[Any]:
    numbers: Any = range(5)
    return DataLoader(numbers, 4, collate_fn=collate)


def mean(folder: Path, collate: Any, **options: Any) -> float:
    """Of 0 and 1, over a batch of four and one of one."""
    module, run = Logs(), trainer(folder)
    module.options = options
    (found,) = run.validate(module, data_of(collate), verbose=False)
    return float(found["batch"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_is_found_in(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mean(tmp_path, KINDS[kind]) == pytest.approx(0.2)
    assert capsys.readouterr().err == ""
    assert mean(tmp_path, KINDS[kind], batch_size=3) == pytest.approx(0.5)


@pytest.mark.parametrize("kind", ["a text", "an object", "a dict of numbers"])
def test_a_size_that_cannot_be_found_is_said_once(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = {"a text": "abc", "an object": object(), "a dict of numbers": {"a": 1}}[kind]
    assert mean(tmp_path, lambda xs: batch) == pytest.approx(0.5)
    said = capsys.readouterr().err
    assert said.count("the size of a batch cannot be found") == 1
    assert "log(batch_size=...)" in said
    assert mean(tmp_path, lambda xs: batch, batch_size=2) == pytest.approx(0.5)
    assert capsys.readouterr().err == ""


def test_parts_that_differ_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mean(tmp_path, lambda xs: (points(xs), torch.ones(9))) == pytest.approx(0.2)
    assert "differ in size" in capsys.readouterr().err


def test_results_are_weighted_alike(tmp_path: Path) -> None:
    class Returns(Logs):
        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            result = nb.EvalResult()
            result.log("batch", torch.tensor(float(batch_idx)))
            return result

    data = data_of(KINDS["array"])
    (found,) = trainer(tmp_path).validate(Returns(), data, verbose=False)
    assert found["batch"] == pytest.approx(0.2)
