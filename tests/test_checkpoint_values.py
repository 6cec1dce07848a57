"""What values a checkpoint carries: back comes what was saved, or saving says what it cannot."""

import math
import subprocess
import sys
from collections import OrderedDict, deque
from datetime import UTC, datetime, timedelta
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nightbus as nb
from nightbus.actors.checkpoint_format import read_checkpoint, write_checkpoint
from nightbus.bus.errors import CheckpointError


class Color(Enum):
    RED = "r"


class Level(IntEnum):
    HIGH = 3


class Point(NamedTuple):
    x: int
    y: Any


class Window(msgspec.Struct):
    size: int
    seen: list[int]


class Odd:
    def __init__(self, value: int) -> None:
        self.value = value


def round_trip(folder: Path, value: Any) -> Any:
    write_checkpoint(folder / "x", {"value": value})
    return read_checkpoint(folder / "x")["value"]


@pytest.mark.parametrize(
    "value",
    [
        2**200,
        -(2**200),
        {1, "a", (2, 3)},
        frozenset({1}),
        complex(1, -2),
        timedelta(days=-3, microseconds=5),
        datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        Path("runs/a b"),
        Color.RED,
        Level.HIGH,
        {(1, 2): 3, None: 4, 1.5: 5, True: 6},
        deque([1, 2], maxlen=5),
        torch.device("cpu"),
        torch.float16,
        float("inf"),
        b"\x00\xff",
    ],
    ids=repr,
)
def test_a_value_comes_back_as_it_was(tmp_path: Path, value: Any) -> None:
    back = round_trip(tmp_path, value)

    assert back == value
    assert type(back) is type(value) or isinstance(value, Path)


def test_nan_comes_back(tmp_path: Path) -> None:
    assert math.isnan(round_trip(tmp_path, float("nan")))


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.int16).reshape(2, 3),
        np.array(3.5),
        np.empty((0, 2), dtype=np.float32),
        np.array(["ab", "c"]),
        np.array(["2026-01-02"], dtype="M8[D]"),
        np.array([(1, 2.0)], dtype=[("a", "<i4"), ("b", "<f8", (1,))]),
        np.arange(12).reshape(3, 4)[:, ::2],
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
def test_a_numpy_array_comes_back_with_its_type_and_shape(tmp_path: Path, array: Any) -> None:
    back = round_trip(tmp_path, array)

    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert (back == array).all()
    assert back.flags.writeable


@pytest.mark.parametrize("scalar", [np.float64(1.5), np.float32(0.1), np.int64(3), np.bool_(True)])
def test_a_numpy_scalar_comes_back_with_its_type(tmp_path: Path, scalar: Any) -> None:
    back = round_trip(tmp_path, scalar)

    assert type(back) is type(scalar)
    assert back == scalar


def test_state_of_a_numpy_generator_comes_back(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    back = np.random.default_rng()
    back.bit_generator.state = round_trip(tmp_path, generator.bit_generator.state)

    assert back.random() == generator.random()


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(12.0).reshape(3, 4).t(),
        torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
        torch.tensor([1 + 2j]),
        torch.tensor(1.5, dtype=torch.bfloat16),
        torch.ones(3, requires_grad=True),
    ],
    ids=lambda tensor: f"{tensor.dtype} {tuple(tensor.shape)}",
)
def test_a_tensor_comes_back_whatever_its_layout(tmp_path: Path, tensor: Any) -> None:
    back = round_trip(tmp_path, tensor)

    assert back.dtype == tensor.dtype
    assert torch.equal(back, tensor)


def test_an_ordered_dict_comes_back_in_its_order(tmp_path: Path) -> None:
    assert list(round_trip(tmp_path, OrderedDict(b=1, a=2))) == ["b", "a"]


def test_a_registered_type_comes_back_as_itself(tmp_path: Path) -> None:
    nb.register_type(Point)
    nb.register_type(Window)
    nb.register_type(Odd, lambda odd: odd.value, Odd)

    point, window, odd = round_trip(tmp_path, [Point(1, torch.ones(2)), Window(3, [1, 2]), Odd(7)])

    assert isinstance(point, Point)
    assert torch.equal(point.y, torch.ones(2))
    assert window == Window(3, [1, 2])
    assert isinstance(odd, Odd)
    assert odd.value == 7


class Mean:
    """Makes its tensor when it is asked for it."""

    def __init__(self, value: float) -> None:
        self.value = value


def test_tensors_that_are_made_while_saving_are_told_apart(tmp_path: Path) -> None:
    def plain(mean: Mean) -> dict[str, Any]:
        return {"value": torch.tensor([mean.value])}

    nb.register_type(Mean, plain, lambda plain: Mean(plain["value"].item()))

    back = round_trip(tmp_path, [Mean(float(number)) for number in range(20)])

    assert [mean.value for mean in back] == [float(number) for number in range(20)]


@pytest.mark.parametrize(
    "keys", [({"a": {"b": 0}}, {"a.b": 1}), ({1: 0}, {"1": 1})], ids=["dots", "numbers"]
)
def test_tensors_whose_places_read_the_same_are_told_apart(tmp_path: Path, keys: Any) -> None:
    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(entry) for key, entry in value.items()}
        return torch.tensor(value)

    state = {**keys[0], **keys[1]}

    assert round_trip(tmp_path, filled(state)) == filled(state)


def test_a_type_that_is_not_registered_where_it_is_read_is_said(tmp_path: Path) -> None:
    class Here(NamedTuple):
        x: int

    nb.register_type(Here, name="mine.Here")
    write_checkpoint(tmp_path / "x", {"value": Here(1)})
    read = (
        "from pathlib import Path\n"
        "from nightbus.actors.checkpoint_format import read_checkpoint\n"
        f"read_checkpoint(Path({str(tmp_path / 'x')!r}))\n"
    )
    done = subprocess.run([sys.executable, "-c", read], capture_output=True, text=True, check=False)

    assert "CheckpointError: the checkpoint holds a mine.Here, which is not registered" in (
        done.stderr
    )


def test_an_enum_is_found_only_where_it_is_imported_already(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "x", {"value": Color.RED})
    read = (
        "import sys\n"
        "from pathlib import Path\n"
        "from nightbus.actors.checkpoint_format import read_checkpoint\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        f"read_checkpoint(Path({str(tmp_path / 'x')!r}))\n"
    )
    done = subprocess.run([sys.executable, "-c", read], capture_output=True, text=True, check=False)

    assert "Color.RED, an enum of" in done.stderr
    assert "which is not imported" in done.stderr


def recursive() -> Any:
    found: list[Any] = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array([object()]), r"state\.value is a NumPy array of Python objects"),
        (torch.ones(2, 2).to_sparse(), r"state\.value is a tensor that is sparse"),
        (torch.empty(2, device="meta"), r"state\.value is a tensor that is .* without data"),
        (recursive(), "contains itself"),
        ([{"deep": lambda: 0}], r"state\.value\[0\]\.deep is function"),
    ],
    ids=["objects", "sparse", "meta", "recursive", "function"],
)
def test_what_cannot_be_carried_is_refused_with_its_place(
    tmp_path: Path, value: Any, message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        write_checkpoint(tmp_path / "x", {"value": value})

    assert list(tmp_path.iterdir()) == []


def test_a_named_tuple_that_is_not_registered_is_refused_rather_than_changed(
    tmp_path: Path,
) -> None:
    class Pair(NamedTuple):
        a: int

    with pytest.raises(CheckpointError, match=r"nightbus\.register_type\(Pair\)"):
        write_checkpoint(tmp_path / "x", {"value": Pair(1)})


def test_a_type_that_needs_functions_is_refused_without_them() -> None:
    class Opaque:
        pass

    with pytest.raises(nb.UsageError, match="give to_plain and from_plain"):
        nb.register_type(Opaque)


def test_one_name_is_not_given_to_two_types() -> None:
    nb.register_type(Point, name="taken")

    with pytest.raises(nb.UsageError, match="called 'taken' in checkpoints already"):
        nb.register_type(Window, name="taken")


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.complex_numbers(allow_nan=False)
    | st.timedeltas(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text() | st.integers() | st.tuples(st.integers()), inner, max_size=3)
    ),
    max_leaves=10,
)


@settings(max_examples=60, deadline=None)
@given(value=plain)
def test_any_nesting_of_plain_values_comes_back(
    tmp_path_factory: pytest.TempPathFactory, value: Any
) -> None:
    assert round_trip(tmp_path_factory.mktemp("x"), value) == value
