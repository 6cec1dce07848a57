"""What values a checkpoint carries: back comes what was saved, or saving says what it cannot."""

import dataclasses
import math
import re
import uuid
import warnings
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, IntFlag, StrEnum, member
from fractions import Fraction
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import run_program
from safetensors import safe_open

import nightbus as nb
from nightbus.actors.checkpoints.format import read_checkpoint, write_checkpoint
from nightbus.actors.checkpoints.tensors import of_parts
from nightbus.bus.errors import CheckpointError


class Color(Enum):
    RED = "r"


class Level(IntEnum):
    HIGH = 3


class Way(Flag):
    UP = 1
    LEFT = 2
    BOTH = 3


class Bits(IntFlag):
    A = 1
    B = 2


class Name(StrEnum):
    LONG = "long"


class Mode(Enum):
    FAST = 1
    QUICK = 1  # noqa: PIE796  another name of the same
    LISTED = [1, 2]  # noqa: RUF012  a value that has no hash
    CALLED = member(print)


class Outer:
    class Inner(Enum):
        A = object()


class Wide(tuple[int, int], Enum):
    PAIR = (1, 2)


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


def same_in_each_process(value: Any) -> str:
    """A text of the value: the repr of an Enum may have an address, a set's an order of its own."""
    if isinstance(value, Enum):
        return str(value)
    return ascii(sorted(value, key=ascii) if isinstance(value, set | frozenset) else value)


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
        Way.UP,
        Way.UP | Way.LEFT,
        Way(0),
        ~Way.UP,
        Bits.A | Bits.B,
        Bits(12),
        re.MULTILINE | re.DOTALL,
        re.NOFLAG,
        Name.LONG,
        Mode.QUICK,
        Mode.LISTED,
        Mode.CALLED,
        Outer.Inner.A,
        Wide.PAIR,
        {Color.RED: 1, Way(0): 2},
        date(2026, 1, 2),
        time(3, 4, 5, 6, tzinfo=UTC),
        timezone(timedelta(hours=-3), "X"),
        UTC,
        Decimal("1.10"),
        Decimal("-Infinity"),
        Fraction(-2, 3),
        uuid.UUID(int=7),
        range(1, 10, 3),
        slice(None, 4),
        ...,
        bytearray(b"ab"),
        PureWindowsPath("a/b"),
        OrderedDict(b=1, a={"c": (2,)}),
        Counter("abca"),
        defaultdict(list, a=[1]),
        defaultdict(None, {1: 2}),
        torch.Size([2, 3]),
        np.dtype("<f4"),
        np.dtype([("a", "<i4"), ("b", "<f8", (2,))]),
        "a\ud800b",
        {"\udc80": 1},
    ],
    ids=same_in_each_process,
)
def test_a_value_comes_back_as_it_was(tmp_path: Path, value: Any) -> None:
    back = round_trip(tmp_path, value)

    assert back == value
    assert type(back) is type(value) or isinstance(value, Path)


def test_a_generator_of_torch_draws_on_after_it_came_back(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    torch.rand(5, generator=generator)
    back = round_trip(tmp_path, generator)

    assert torch.equal(torch.rand(3, generator=back), torch.rand(3, generator=generator))


def test_a_mapping_that_makes_its_values_by_a_function_comes_back_as_a_dict(tmp_path: Path) -> None:
    back = round_trip(tmp_path, defaultdict(lambda: 3, a=1))

    assert type(back) is dict
    assert back == {"a": 1}


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
        torch.tensor([[1 + 2j, -3j]], dtype=torch.complex128).conj(),
        torch.tensor(1 + 2j, dtype=torch.complex128),
        torch.tensor([1, 2**15], dtype=torch.uint16),
        torch.tensor([[2**63]], dtype=torch.uint64),
        torch.tensor([1.5, 2.0]).to(torch.float8_e5m2),
        torch.empty(0, 3, dtype=torch.complex128),
    ],
    ids=lambda tensor: f"{tensor.dtype} {tuple(tensor.shape)}",
)
def test_a_tensor_comes_back_whatever_its_layout(tmp_path: Path, tensor: Any) -> None:
    back = round_trip(tmp_path, tensor)

    assert back.dtype == tensor.dtype
    assert torch.equal(back, tensor)


def uncoalesced() -> torch.Tensor:
    return torch.sparse_coo_tensor(
        torch.tensor([[0, 0], [1, 1]]), torch.tensor([1.0, 2.0]), (2, 3), check_invariants=True
    )


SPARSE: dict[str, Callable[[], torch.Tensor]] = {
    "coo": lambda: torch.eye(3).to_sparse(),
    "coo with a place twice": uncoalesced,
    "coo of rows": lambda: torch.ones(2, 3, 2).to_sparse(2),
    "coo without values": lambda: torch.zeros(2, 3).to_sparse(),
    "coo of complex128": lambda: torch.eye(3, dtype=torch.complex128).to_sparse(),
    "csr": lambda: torch.eye(3, dtype=torch.float64).to_sparse_csr(),
    "csc": lambda: torch.arange(6.0).reshape(2, 3).to_sparse_csc(),
    "bsr": lambda: torch.eye(4).to_sparse_bsr((2, 2)),
    "bsc": lambda: torch.eye(4).to_sparse_bsc((2, 1)),
    "parameter": lambda: torch.nn.Parameter(torch.eye(3).to_sparse()),
}


@pytest.mark.filterwarnings("ignore:Sparse .* tensor support is in beta state")
@pytest.mark.parametrize("make", SPARSE.values(), ids=SPARSE)
def test_a_sparse_tensor_comes_back_with_its_layout(
    tmp_path: Path, make: Callable[[], torch.Tensor]
) -> None:
    tensor = make()
    back = round_trip(tmp_path, tensor)

    assert (back.layout, back.dtype, back.shape) == (tensor.layout, tensor.dtype, tensor.shape)
    assert torch.equal(back.to_dense(), tensor.detach().to_dense())
    if back.layout is torch.sparse_coo:
        assert back.is_coalesced() == tensor.is_coalesced()
        assert torch.equal(back._indices(), tensor.detach()._indices())


def test_a_sparse_tensor_in_two_places_is_kept_once(tmp_path: Path) -> None:
    tensor = torch.eye(3).to_sparse()
    first, second = round_trip(tmp_path, [tensor, tensor])

    with safe_open(tmp_path / "x" / "tensors.safetensors", "pt") as file:
        assert len(file.keys()) == 2
    assert torch.equal(first.to_dense(), second.to_dense())


@pytest.mark.filterwarnings("ignore:Sparse .* tensor support is in beta state")
@pytest.mark.parametrize(
    "content",
    [
        ["sparse_coo", [2, 2], True, [torch.tensor([[0], [9]]), torch.ones(1)]],
        ["sparse_csr", [2, 2], True, [torch.tensor([0, 1, 9]), torch.tensor([0]), torch.ones(1)]],
        ["sparse_coo", [2, 2], True, [torch.ones(1)]],
        ["float32", [2, 2], True, [torch.ones(1), torch.ones(1)]],
        ["sparse_coo", [2, -2], True, [torch.tensor([[0], [0]]), torch.ones(1)]],
        ["sparse_coo", [2, 2], True, ["text", 3]],
    ],
    ids=["index", "compressed index", "parts", "layout", "shape", "no tensors"],
)
def test_parts_that_are_no_sparse_tensor_are_refused(content: Any) -> None:
    with pytest.raises(ValueError, match="no "):
        of_parts(*content)


@pytest.mark.parametrize(
    "dtype", [torch.float8_e4m3fnuz, torch.float8_e8m0fnu, torch.complex32, torch.bits8]
)
def test_a_tensor_of_a_type_that_torch_can_do_little_with_keeps_its_bits(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    bits = torch.arange(8, dtype=torch.uint8)
    back = round_trip(tmp_path, bits.view(dtype))

    assert back.dtype == dtype
    assert torch.equal(back.view(torch.uint8), bits)


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


@pytest.mark.long
def test_a_type_that_is_not_registered_where_it_is_read_is_said(tmp_path: Path) -> None:
    class Here(NamedTuple):
        x: int

    nb.register_type(Here, name="mine.Here")
    write_checkpoint(tmp_path / "x", {"value": Here(1)})
    read = (
        "from pathlib import Path\n"
        "from nightbus.actors.checkpoints.format import read_checkpoint\n"
        f"read_checkpoint(Path({str(tmp_path / 'x')!r}))\n"
    )
    done = run_program("-c", read)

    assert "CheckpointError: the checkpoint holds a mine.Here, which is not registered" in (
        done.stderr
    )


@pytest.mark.long
def test_an_enum_is_found_only_where_it_is_imported_already(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "x", {"value": Color.RED})
    read = (
        "import sys\n"
        "from pathlib import Path\n"
        "from nightbus.actors.checkpoints.format import read_checkpoint\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        f"read_checkpoint(Path({str(tmp_path / 'x')!r}))\n"
    )
    done = run_program("-c", read)

    assert "Color.RED, an enum of" in done.stderr
    assert "which is not imported" in done.stderr


@pytest.mark.long
def test_a_combination_of_flags_is_found_only_where_its_class_is(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "x", {"value": Way(0)})
    read = (
        "from pathlib import Path\n"
        "from nightbus.actors.checkpoints.format import read_checkpoint\n"
        f"read_checkpoint(Path({str(tmp_path / 'x')!r}))\n"
    )
    done = run_program("-c", read)

    assert "Way.0, an enum of" in done.stderr
    assert "which is not imported" in done.stderr


def local_enum() -> Any:
    class Inner(Enum):
        A = 1

    return Inner.A


def renamed_enum() -> Any:
    class Other(Enum):
        A = 1

    Other.__qualname__ = "Other"
    return Other.A


@dataclasses.dataclass
class Plain:
    x: int


class Sized(msgspec.Struct):
    x: int


def nested() -> Any:
    return torch.nested.nested_tensor([torch.ones(2)], layout=torch.jagged)


def quantized() -> Any:
    with warnings.catch_warnings(action="ignore"):  # torch will give it up
        return torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)


def masked() -> Any:
    return np.ma.masked_array([1, 2], [True, False])


def with_gaps() -> Any:
    return np.zeros(2, np.dtype([("a", "u1"), ("b", "<i8")], align=True))


def recursive() -> Any:
    found: list[Any] = []
    found.append(found)
    return found


class OwnModule(torch.nn.Module):
    pass


def hooked() -> torch.nn.Module:
    module = torch.nn.Linear(1, 1)
    module.register_forward_hook(lambda *_: None)
    return module


def tied() -> torch.nn.Module:
    module = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Linear(1, 1))
    module[1].weight = module[0].weight
    return module


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array([object()]), r"state\.value is a NumPy array of Python objects"),
        (quantized(), r"state\.value is a tensor that is quantized"),
        (torch.empty(2, device="meta"), r"state\.value is a tensor that is without data"),
        (recursive(), "contains itself"),
        ([{"deep": lambda: 0}], r"state\.value\[0\]\.deep is function"),
        (nested(), r"state\.value is a tensor that is nested"),
        (torch.nn.LazyLinear(2).weight, r"has no shape yet"),
        (local_enum(), r"local_enum.<locals>.Inner, so that .* define it at the top of a module"),
        (renamed_enum(), r"state\.value is <Other.A: 1>, an enum that is not to be found"),
        (masked(), r"state\.value is a masked array"),
        (with_gaps(), r"state\.value is a NumPy array of type"),
        (Plain(1), r"nightbus\.register_type\(Plain\)"),
        (Sized(1), r"nightbus\.register_type\(Sized\)"),
        (int, r"state\.value is type"),
        (partial(int, base=2), r"state\.value is partial"),
        (torch.nn.LSTM(1, 1), r"state\.value is LSTM"),
        (OwnModule(), r"state\.value is OwnModule"),
        (torch.nn.Sequential(OwnModule()), r"state\.value is Sequential"),
        (hooked(), r"state\.value is Linear"),
        (tied(), r"state\.value is Sequential"),
        (torch.nn.LazyLinear(2), r"state\.value is LazyLinear"),
        (torch.save, r"state\.value is function"),
        (torch.nn.modules.module._addindent, r"state\.value is function"),
        (np.random.default_rng(1), r"state\.value is Generator"),
    ],
    ids=[
        *("objects", "quantized", "meta", "recursive", "function", "nested", "lazy"),
        *("local enum", "unnamed enum", "masked", "gaps", "dataclass", "struct", "type", "partial"),
        *("recurrent", "own module", "module within", "hooks", "tied", "lazy module"),
        *("torch.save", "private", "numpy generator"),
    ],
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


class Once:
    """Can be written, but nothing makes it again."""


class Unhashed(list[int]):
    """Has a hash, which what it comes back as has not."""

    def __hash__(self) -> int:  # type: ignore[override]
        return 1


def no_more(plain: Any) -> Any:
    raise AttributeError("gone")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Once, r"holds a .*Once, of which from_plain makes none: AttributeError: gone"),
        (lambda: {Unhashed([1]): 2}, "unhashable"),
    ],
    ids=["registered", "key"],
)
def test_what_could_not_be_read_again_is_never_called_a_checkpoint(
    tmp_path: Path, make: Callable[[], Any], message: str
) -> None:
    nb.register_type(Once, lambda once: 1, no_more)

    with pytest.raises(
        CheckpointError, match=f"could not be read again and is not kept.*{message}"
    ):
        write_checkpoint(tmp_path / "x", {"value": make()})

    assert list(tmp_path.iterdir()) == []


def test_a_type_that_needs_functions_is_refused_without_them() -> None:
    class Opaque:
        pass

    with pytest.raises(nb.UsageError, match="pass to_plain and from_plain"):
        nb.register_type(Opaque)


def test_one_name_is_not_given_to_two_types() -> None:
    nb.register_type(Point, name="taken")

    with pytest.raises(nb.UsageError, match="named 'taken' in checkpoints already"):
        nb.register_type(Window, name="taken")


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.complex_numbers(allow_nan=False)
    | st.timedeltas()
    | st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5))]))
    | st.dates()
    | st.times()
    | st.decimals(allow_nan=False)
    | st.fractions()
    | st.uuids()
    | st.text(st.characters(), max_size=3)  # surrogates among them
    | st.integers(0, 3).map(Way)
    | st.integers(0, 2**70).map(Bits)
    | st.sampled_from([*Color, *Name, *Mode, ..., np.dtype("<M8[s]"), torch.int8])
    | st.binary().map(bytearray)
    | st.builds(range, st.integers(), st.integers(), st.integers(1)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(deque)
        | st.dictionaries(st.text(), inner, max_size=3).map(OrderedDict)
        | st.dictionaries(st.text(), inner, max_size=3).map(partial(defaultdict, int))
        | st.dictionaries(st.text() | st.none(), inner, max_size=3).map(Counter)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text() | st.integers() | st.tuples(st.integers()), inner, max_size=3)
    ),
    max_leaves=10,
)


@pytest.mark.long
@settings(max_examples=60, deadline=None)
@given(value=plain)
def test_any_nesting_of_plain_values_comes_back(
    tmp_path_factory: pytest.TempPathFactory, value: Any
) -> None:
    back = round_trip(tmp_path_factory.mktemp("x"), value)

    assert type(back) is type(value)
    assert back == value


arrays = st.sampled_from(["<f8", ">i2", "?", "<c16", "<M8[ns]", "<U3", "S2", "<f2", "<g"])


@settings(max_examples=40, deadline=None)
@given(dtype=arrays, shape=st.lists(st.integers(0, 3), max_size=3), data=st.data())
def test_any_array_of_numbers_comes_back(
    tmp_path_factory: pytest.TempPathFactory, dtype: str, shape: list[int], data: Any
) -> None:
    count = math.prod(shape)
    numbers = data.draw(st.lists(st.integers(0, 9), min_size=count, max_size=count))
    array = np.array(numbers).astype(dtype).reshape(shape)
    back = round_trip(tmp_path_factory.mktemp("x"), array)

    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert (back == array).all()
