"""Tensors within batches, outputs and predictions: one meaning of every kind of container.

The device ``meta`` stands for a GPU: tensors are seen to be moved there on any machine.
"""

import gc
import weakref
from collections import OrderedDict, UserDict, UserList, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence
from torch.utils import _pytree

import nightbus as nb
from nightbus.actors.trees import detached, map_tensors, move_data_to_device, on_cpu
from nightbus.loops.outputs import kept_output

META = torch.device("meta")


class Pair(NamedTuple):
    x: Any
    y: Any


@dataclass
class Sample:
    x: Any
    name: str = "sample"
    made: Any = field(default=None, init=False)

    @cached_property
    def total(self) -> Tensor:
        return self.x.sum()  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Frozen:
    x: Any
    name: str = "frozen"


class Named(dict[str, Any]):
    """A dict that is made otherwise than from a dict, and has attributes."""

    def __init__(self, name: str, **entries: Any) -> None:
        super().__init__(entries)
        self.name = name


class Encoding(UserDict[str, Any]):
    """As the batches of tokenizers are."""

    def __init__(self, data: Any, encodings: Any = None) -> None:
        super().__init__(data)
        self.encodings = encodings


class Fixed(Mapping[str, Any]):
    def __init__(self, entries: Mapping[str, Any]) -> None:
        self._entries = dict(entries)

    def __getitem__(self, key: str) -> Any:
        return self._entries[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


class Titled(list[Any]):
    """A list that is made otherwise than from a list, and has attributes."""

    def __init__(self, title: str, *entries: Any) -> None:
        super().__init__(entries)
        self.title = title


class Row(tuple[Any, ...]):
    pass


class Registered:
    """A type that torch.utils._pytree was told about."""

    def __init__(self, x: Any) -> None:
        self.x = x


_pytree.register_pytree_node(Registered, lambda it: ([it.x], None), lambda xs, _: Registered(*xs))


def tagged(x: Any) -> Registered:
    return Registered(x)


def ones() -> Tensor:
    return torch.ones(2)


CONTAINERS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "itself": (lambda x: x, lambda it: it),
    "dict": (lambda x: {"x": x}, lambda it: it["x"]),
    "list": (lambda x: [x], lambda it: it[0]),
    "tuple": (lambda x: (x,), lambda it: it[0]),
    "NamedTuple": (lambda x: Pair(x, "y"), lambda it: it.x),
    "OrderedDict": (lambda x: OrderedDict(x=x), lambda it: it["x"]),
    "defaultdict": (lambda x: defaultdict(list, x=x), lambda it: it["x"]),
    "deque": (lambda x: deque([x]), lambda it: it[0]),
    "subclass of dict": (lambda x: Named("n", x=x), lambda it: it["x"]),
    "UserDict": (lambda x: Encoding({"x": x}), lambda it: it["x"]),
    "Mapping": (lambda x: Fixed({"x": x}), lambda it: it["x"]),
    "subclass of list": (lambda x: Titled("t", x), lambda it: it[0]),
    "UserList": (lambda x: UserList([x]), lambda it: it[0]),
    "subclass of tuple": (lambda x: Row([x]), lambda it: it[0]),
    "dataclass": (lambda x: Sample(x), lambda it: it.x),
    "frozen dataclass": (lambda x: Frozen(x), lambda it: it.x),
    "registered": (tagged, lambda it: it.x),
    "nested": (
        lambda x: {"a": [Pair(1, (Sample(OrderedDict(x=x)),))]},
        lambda it: it["a"][0].y[0].x["x"],
    ),
}
containers = pytest.mark.parametrize(("make", "look"), CONTAINERS.values(), ids=CONTAINERS)


@containers
def test_batches_are_moved_in_every_container(
    make: Callable[[Any], Any], look: Callable[[Any], Any]
) -> None:
    batch = make(ones())

    moved = move_data_to_device(batch, META)

    assert type(moved) is type(batch)
    assert look(moved).is_meta
    assert not look(batch).is_meta


@containers
def test_outputs_lose_their_graph_in_every_container(
    make: Callable[[Any], Any], look: Callable[[Any], Any]
) -> None:
    output = make(ones().requires_grad_() * 2)

    kept = kept_output({"loss": ones(), "extra": output, "hiddens": output})

    assert kept.keys() == {"loss", "extra"}
    assert type(kept["extra"]) is type(output)
    assert not look(kept["extra"]).requires_grad
    assert look(output).requires_grad


@containers
def test_predictions_in_every_container_end_on_the_cpu_without_a_graph(
    make: Callable[[Any], Any], look: Callable[[Any], Any]
) -> None:
    prediction = make(ones().requires_grad_() * 2)

    kept = on_cpu(prediction)

    assert type(kept) is type(prediction)
    assert look(kept).equal(torch.full([2], 2.0))
    assert not look(kept).requires_grad


def test_the_predictions_of_a_run_are_kept_without_a_graph(tmp_path: Any) -> None:
    class Predicts(nb.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = torch.nn.Linear(1, 1)

        def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            return Pair(self.net.weight, OrderedDict(x=self.net.weight))

    run = nb.Trainer(default_root_dir=tmp_path, enable_progress_bar=False)

    (kept,) = run.predict(Predicts(), [[1]])

    assert isinstance(kept, Pair)
    assert not kept.x.requires_grad
    assert not kept.y["x"].requires_grad


def test_everything_else_is_left_as_it_is() -> None:
    class Thing:
        pass

    others = [None, 1, 2.0, "text", b"bytes", range(2), {1, 2}, Thing(), Thing, Sample, torch.int8]

    kept = map_tensors(others, lambda tensor: tensor)

    assert all(left is right for left, right in zip(others, kept, strict=True))


def test_what_a_container_has_beside_its_entries_stays() -> None:
    named = move_data_to_device(Named("n", x=ones()), META)
    encoding = move_data_to_device(Encoding({"x": ones()}, encodings=["e"]), META)
    titled = move_data_to_device(Titled("t", ones()), META)
    default = move_data_to_device(defaultdict(list, x=ones()), META)

    assert named.name == "n"
    assert encoding.encodings == ["e"]
    assert titled.title == "t"
    assert default.default_factory is list


def test_what_a_dataclass_makes_itself_stays_and_what_it_caches_is_made_anew() -> None:
    sample = Sample(ones())
    sample.made = made = ones()
    assert not sample.total.is_meta

    moved = move_data_to_device(sample, META)

    assert moved.made is made
    assert moved.name == "sample"
    assert moved.total.is_meta


def test_an_object_that_can_be_moved_moves_itself_also_if_it_is_a_container() -> None:
    class Graph:
        def __init__(self) -> None:
            self.x = ones()

        def to(self, device: torch.device) -> "Graph":
            moved = Graph()
            moved.x = self.x.to(device)
            return moved

    class Tokens(UserDict[str, Any]):
        def to(self, device: torch.device) -> "Tokens":
            return Tokens({"moved": True})

    moved = move_data_to_device([Graph(), Tokens(x=ones())], META)

    assert moved[0].x.is_meta
    assert moved[1] == {"moved": True}


def test_an_object_that_moves_itself_and_returns_nothing_is_the_batch() -> None:
    class Moves:
        device: Any = None

        def to(self, device: torch.device) -> None:
            self.device = device

    batch = Moves()

    assert move_data_to_device(batch, META) is batch
    assert batch.device == META


def test_a_packed_sequence_is_moved_with_its_sizes_where_torch_wants_them() -> None:
    packed = pack_sequence([torch.ones(3), torch.ones(2)])

    moved = move_data_to_device((packed, 1), META)[0]

    assert isinstance(moved, PackedSequence)
    assert moved.data.is_meta
    assert not moved.batch_sizes.is_meta


def test_a_packed_sequence_loses_its_graph() -> None:
    packed = pack_sequence([torch.ones(3).requires_grad_() * 2])

    kept = detached(packed)

    assert isinstance(kept, PackedSequence)
    assert not kept.data.requires_grad


def test_what_a_function_of_torch_returns_keeps_its_names() -> None:
    found = torch.ones(2, 2).requires_grad_().max(dim=1)

    kept = detached({"found": found})["found"]

    assert type(kept) is type(found)
    assert not kept.values.requires_grad


def test_a_container_that_cannot_be_made_again_is_named() -> None:
    class Odd(tuple[Any, ...]):
        def __new__(cls, first: Any, second: Any) -> "Odd":
            return super().__new__(cls, (first, second))

    with pytest.raises(nb.UsageError, match=r"Odd cannot be made again.*give it a method to\(dev"):
        move_data_to_device(Odd(ones(), ones()), META)


def test_tensors_come_to_the_cpu_before_anyone_reads_them() -> None:
    asked: list[Any] = []

    class Watched(Tensor):
        def to(self, *args: Any, **kwargs: Any) -> Any:
            asked.append((args, kwargs))
            return self

    for device in ("cpu", "mps", "cuda"):
        move_data_to_device(ones().as_subclass(Watched), torch.device(device))

    assert [kwargs["non_blocking"] for _, kwargs in asked] == [False, False, True]


def test_keys_and_their_order_stay() -> None:
    batch: Sequence[Any] = [{"b": ones(), "a": 1, 3: ones()}, OrderedDict(z=ones(), y=ones())]

    moved = move_data_to_device(batch, META)

    assert [list(entry) for entry in moved] == [["b", "a", 3], ["z", "y"]]


class Large:
    pass


@pytest.mark.parametrize(
    "wrap",
    [
        lambda large: {"x": large},
        lambda large: OrderedDict(x=large),
        lambda large: defaultdict(list, x=large),
        lambda large: deque([large]),
        Sample,
        lambda large: Pair(large, 1),
    ],
)
def test_what_was_in_a_container_is_freed_without_the_garbage_collector(
    wrap: Callable[[Any], Any],
) -> None:
    large = Large()
    freed = weakref.ref(large)
    gc.disable()
    try:
        detached(wrap(large))
        del large
        assert freed() is None
    finally:
        gc.enable()
