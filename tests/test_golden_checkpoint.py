"""A checkpoint that an earlier version wrote is read by this one; the page on the format is true.

The golden checkpoints were written by ``python tests/test_golden_checkpoint.py``, one for format 1,
one when codes were added to it. They are never written again: a change that cannot read them is a
new format.
"""

import dataclasses
import re
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from http import HTTPMethod
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import nightbus as nb
from nightbus.actors.checkpoints import values as checkpoint_values
from nightbus.actors.checkpoints.format import (
    DIGEST,
    STATE,
    TENSORS,
    read_checkpoint,
    write_checkpoint,
)

ROOT = Path(__file__).parent
GOLDEN = ROOT / "golden" / "checkpoint-1"
MORE = ROOT / "golden" / "checkpoint-1-more"
SPARSE = ROOT / "golden" / "checkpoint-1-sparse"
OF_TORCH = ROOT / "golden" / "checkpoint-1-torch"
PAGE = ROOT.parent / "docs" / "checkpoint-format.md"


@dataclasses.dataclass
class Window:
    size: int
    values: list[float]


nb.register_type(Window, name="golden.Window")

WEIGHTS = {"net.weight": torch.arange(6.0).reshape(2, 3), "net.bias": torch.tensor([0.5, -0.5])}
VALUES: dict[str, Any] = {
    "plain": [None, True, 3, -(2**63), 1.5, float("inf"), "text", b"\x00\xff"],
    "tuple": (1, (2, "three")),
    "half tensor": torch.tensor([1.5, 2.5], dtype=torch.bfloat16),
    "array": np.arange(6, dtype=np.int16).reshape(2, 3),
    "array with fields": np.array([(1, 2.0)], dtype=[("a", "<i4"), ("b", "<f8")]),
    "numpy scalar": np.float32(0.25),
    "enum": HTTPMethod.PUT,
    "path": Path("runs/a b"),
    "registered": Window(2, [0.5, 1.0]),
    "set": {1, 2},
    "frozenset": frozenset({"a"}),
    "complex": 1 - 2j,
    "time span": timedelta(days=-1, seconds=2, microseconds=3),
    "date": datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
    "big integer": -(2**100),
    "keys": {(1, 2): "pair", None: 0, 1.5: 1},
    "device": torch.device("cpu"),
    "dtype": torch.float16,
    "deque": deque([1, 2], maxlen=4),
}

VALUES_OF_MORE: dict[str, Any] = {
    "complex tensor": torch.tensor([[1.5 - 2j]], dtype=torch.complex128),
    "flags": re.MULTILINE | re.DOTALL,
    "surrogates": "a\ud800",
    "day": date(2026, 1, 2),
    "hour": time(3, 4, 5, tzinfo=UTC),
    "zone": timezone(timedelta(hours=2), "X"),
    "decimal": Decimal("1.10"),
    "fraction": Fraction(1, 3),
    "uuid": uuid.UUID(int=5),
    "range": range(1, 7, 2),
    "slice": slice(None, 3),
    "ellipsis": ...,
    "bytearray": bytearray(b"ab"),
    "posix path": PurePosixPath("a/b"),
    "windows path": PureWindowsPath("a/b"),
    "ordered": OrderedDict(b=1, a=2),
    "counter": Counter("aab"),
    "default": defaultdict(list, a=[1]),
    "size": torch.Size([2, 3]),
    "numpy dtype": np.dtype("<f4"),
}


SPARSE_VALUES: dict[str, Callable[[], torch.Tensor]] = {
    "coo": lambda: torch.eye(3).to_sparse(),
    "csr": lambda: torch.arange(6.0).reshape(2, 3).to_sparse_csr(),
}


VALUES_OF_TORCH: dict[str, Any] = {
    "loss": torch.nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0])),
    "net": torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Dropout(0.2).eval()),
    "class": torch.optim.AdamW,
    "function": torch.nn.functional.gelu,
}


class Golden(nb.LightningModule):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Linear(3, size)

    def on_save_checkpoint(self, checkpoint: Any) -> None:
        checkpoint["values"] = VALUES

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.net(batch).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0, momentum=0.9)


def same(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor | np.ndarray):
        return bool(left.dtype == right.dtype and (left == right).all())
    return type(left) is type(right) and bool(left == right)


@pytest.mark.parametrize("name", VALUES)
def test_a_value_in_the_golden_checkpoint_is_what_it_was(name: str) -> None:
    assert same(read_checkpoint(GOLDEN)["values"][name], VALUES[name])


@pytest.mark.parametrize("name", VALUES_OF_MORE)
def test_a_value_of_a_kind_that_came_later_is_what_it_was(name: str) -> None:
    assert same(read_checkpoint(MORE)[name], VALUES_OF_MORE[name])


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state")
@pytest.mark.parametrize("name", SPARSE_VALUES)
def test_a_sparse_tensor_of_a_golden_checkpoint_is_what_it_was(name: str) -> None:
    found, expected = read_checkpoint(SPARSE)[name], SPARSE_VALUES[name]()

    assert found.layout is expected.layout
    assert torch.equal(found.to_dense(), expected.to_dense())


@pytest.mark.parametrize("name", VALUES_OF_TORCH)
def test_what_is_of_torch_in_a_golden_checkpoint_is_what_it_was(name: str) -> None:
    found, expected = read_checkpoint(OF_TORCH)[name], VALUES_OF_TORCH[name]

    if isinstance(expected, torch.nn.Module):
        assert repr(found) == repr(expected)
        assert [each.training for each in found.modules()] == [
            each.training for each in expected.modules()
        ]
        assert {name: value.tolist() for name, value in found.state_dict().items()} == {
            name: value.tolist() for name, value in expected.state_dict().items()
        }
    else:
        assert found is expected


def test_a_generator_of_the_golden_checkpoint_draws_what_it_would_have_drawn() -> None:
    generator = read_checkpoint(MORE)["generator"]

    assert torch.rand(1, generator=generator) == torch.rand(1, generator=_generator())


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def test_a_module_is_made_from_the_golden_checkpoint() -> None:
    module = Golden.load_from_checkpoint(GOLDEN)

    assert module.hparams == {"size": 2}
    assert {k: v.tolist() for k, v in module.state_dict().items()} == {
        k: v.tolist() for k, v in WEIGHTS.items()
    }


def test_the_states_of_optimizers_in_the_golden_checkpoint_fit() -> None:
    optimizer = torch.optim.SGD(Golden(2).parameters(), lr=1.0, momentum=0.1)
    optimizer.load_state_dict(read_checkpoint(GOLDEN)["optimizer_states"][0])

    assert optimizer.param_groups[0]["momentum"] == 0.9
    assert all("momentum_buffer" in state for state in optimizer.state.values())


def test_the_page_on_the_format_lists_the_extensions_that_there_are() -> None:
    rows = re.findall(r"^\| ([\d, ]+) \| ", PAGE.read_text(), flags=re.MULTILINE)
    listed = {int(code) for row in rows for code in row.split(",")}

    codes = vars(checkpoint_values).items()
    assert listed == {value for name, value in codes if name.isupper() and type(value) is int}


def test_the_page_on_the_format_lists_what_a_state_holds() -> None:
    text = PAGE.read_text().partition("## The state")[2].partition("## Why")[0]
    cells = re.findall(r"^\| (`.*?) \| ", text, flags=re.MULTILINE)
    listed = {key for cell in cells for key in re.findall(r"`(\w+)`", cell)}

    unlisted = {"values"}  # the module's own, from on_save_checkpoint
    data = {"datamodule_hyper_parameters", "datamodule_hparams_argument"}
    came_later = {"hparams_form", "datamodule_hparams_form", "batches", "world_size", "ranks"}
    came_later |= {"actor_classes", "left_out", "imported", "saved_in_epoch"}
    assert read_checkpoint(GOLDEN).keys() - unlisted == listed - data - came_later


def write() -> None:
    """Write the golden checkpoints of this format that are not there."""
    if not MORE.exists():
        write_checkpoint(MORE, {**VALUES_OF_MORE, "generator": _generator()})
    if not SPARSE.exists():
        write_checkpoint(SPARSE, {name: make() for name, make in SPARSE_VALUES.items()})
    if not OF_TORCH.exists():
        write_checkpoint(OF_TORCH, VALUES_OF_TORCH)
    if GOLDEN.exists():
        return
    module = Golden(2)
    module.load_state_dict(WEIGHTS)
    trainer = nb.Trainer(max_epochs=1, enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(module, DataLoader(list(torch.randn(4, 3)), 2))  # type: ignore[arg-type]
    trainer.save_checkpoint(GOLDEN)
    print(*(GOLDEN / name for name in (STATE, TENSORS, DIGEST)))


if __name__ == "__main__":
    write()
