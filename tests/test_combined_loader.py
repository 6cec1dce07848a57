"""CombinedLoader: several dataloaders read together, in each mode."""

from collections import UserList, deque
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import Small, loader, trainer

import nightbus as nb


class Endless:
    """Batches without a length."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.number))


def batches(mode: Any, *lengths: int) -> list[Any]:
    return read(nb.CombinedLoader([range(n) for n in lengths], mode))


def read(combined: nb.CombinedLoader) -> list[Any]:
    return [batch for batch, _, _ in combined]


lengths = st.lists(st.integers(1, 6), min_size=1, max_size=4)


@given(lengths)
def test_min_size_ends_with_the_shortest(sizes: list[int]) -> None:
    expected = [list(batch) for batch in zip(*map(range, sizes), strict=False)]

    assert batches("min_size", *sizes) == expected


@given(lengths)
def test_max_size_fills_up_with_none(sizes: list[int]) -> None:
    assert batches("max_size", *sizes) == [list(b) for b in zip_longest(*map(range, sizes))]


@given(lengths)
def test_max_size_cycle_repeats_shorter_loaders(sizes: list[int]) -> None:
    expected = [[number % size for size in sizes] for number in range(max(sizes))]

    assert batches("max_size_cycle", *sizes) == expected


@given(lengths)
def test_sequential_reads_one_after_the_other(sizes: list[int]) -> None:
    assert batches("sequential", *sizes) == [number for size in sizes for number in range(size)]


@given(lengths, st.sampled_from(["min_size", "max_size", "max_size_cycle", "sequential"]))
def test_its_length_is_the_number_of_its_batches(sizes: list[int], mode: Any) -> None:
    combined = nb.CombinedLoader([range(n) for n in sizes], mode)

    assert len(combined) == len(list(combined)) == len(list(combined))


@pytest.mark.parametrize(
    ("mode", "number"),
    [("min_size", 2), ("max_size", 4), ("max_size_cycle", 4), ("sequential", 6)],
)
def test_loaders_without_a_length_are_read_to_their_end(mode: Any, number: int) -> None:
    combined = nb.CombinedLoader([Endless(4), Endless(2)], mode)

    assert len(list(combined)) == number
    with pytest.raises(TypeError):
        len(combined)


def test_batches_have_the_shape_of_the_collection() -> None:
    combined = nb.CombinedLoader({"a": Endless(2), "b": (Endless(2), [Endless(2)])})

    assert read(combined) == [{"a": i, "b": (i, [i])} for i in range(2)]
    assert read(nb.CombinedLoader({"a": Endless(1)}, "sequential")) == [0]


@pytest.mark.parametrize(
    ("mode", "indices"),
    [
        ("min_size", [(0, 0)]),
        ("max_size_cycle", [(0, 0), (1, 0), (2, 0)]),
        ("sequential", [(0, 0), (1, 0), (0, 2), (1, 2), (2, 2)]),
    ],
)
def test_a_loop_gets_the_indices_of_batch_and_dataloader(
    mode: Any, indices: list[tuple[int, int]]
) -> None:
    loaders = [range(2), range(3)] if mode != "sequential" else [range(2), range(0), range(3)]
    if mode == "min_size":
        loaders[0] = range(1)

    combined = nb.CombinedLoader(loaders, mode)

    assert [(idx, loader_idx) for _, idx, loader_idx in combined] == indices


def test_loaders_begin_with_the_loop_not_with_its_first_batch() -> None:
    begun: list[str] = []

    class Told:
        def __iter__(self) -> Iterator[int]:
            begun.append("loader")
            return iter([0])

    batches = iter(nb.CombinedLoader([Told()]))
    begun.append("loop")

    assert next(batches) == ([0], 0, 0)
    assert begun == ["loader", "loop"]


def test_without_a_mode_it_ends_with_the_shortest_loader() -> None:
    assert read(nb.CombinedLoader([Endless(2), Endless(3)])) == [[0, 0], [1, 1]]


def test_its_parts_have_lightnings_names() -> None:
    combined = nb.CombinedLoader(iterables={"a": [1], "b": [[2], [3]]})

    combined.flattened = [[4], [5], [6]]

    assert combined.flattened == [[4], [5], [6]]
    assert combined.iterables == {"a": [4], "b": [[5], [6]]}
    assert read(combined) == [{"a": 4, "b": [5, 6]}]
    with pytest.raises(nb.UsageError, match="a list of 1: the collection has 3 loaders"):
        combined.flattened = [[4]]


def test_a_list_of_numbers_is_a_loader() -> None:
    combined = nb.CombinedLoader({"a": [0, 1, 2], "b": (3, 4), "c": [[5], [6, 7]]}, "min_size")

    assert read(combined) == [{"a": 0, "b": 3, "c": [5, 6]}]


class Loaders(Sequence[Any]):
    """A sequence of a class of the user's."""

    def __init__(self, entries: list[Any]) -> None:
        self.entries = entries

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: Any) -> Any:
        return self.entries[index]


@pytest.mark.parametrize("kind", [list, tuple, deque, UserList, Loaders])
def test_any_sequence_of_loaders_is_several(tmp_path: Path, kind: Any) -> None:
    seen: list[tuple[str, Any]] = []

    class Reads(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            seen.append(("train", len(batch)))
            return super().training_step(batch[0], batch_idx)

        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            seen.append(("val", dataloader_idx))

    run = trainer(tmp_path, max_steps=1, num_sanity_val_steps=0)
    run.fit(Reads(), kind([loader(4), loader(4)]), kind([loader(4), loader(4)]))

    assert seen == [("train", 2), ("val", 0), ("val", 1)]
    assert run.val_dataloaders is not None
    assert len(run.val_dataloaders) == 2


def test_a_sequence_of_batches_is_a_loader(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=1)
    batches = Loaders(list(loader(8)))

    run.fit(Small(), batches, batches)

    assert run.global_step == 2
    assert run.num_val_batches == [2]


@pytest.mark.parametrize("kind", [deque, UserList])
def test_batches_have_the_kind_of_the_sequence(kind: Any) -> None:
    combined = nb.CombinedLoader(kind([[1, 2], [3, 4]]))

    assert read(combined) == [kind([1, 3]), kind([2, 4])]


def test_a_list_of_numbers_is_a_loader_for_training_and_evaluation_too(tmp_path: Path) -> None:
    seen: list[Any] = []

    class Notes(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            seen.append(batch)
            return self.net(torch.ones(1, 4)).sum()

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            seen.append(batch)

    run = trainer(tmp_path, max_epochs=1, num_sanity_val_steps=0)
    run.fit(Notes(), [1, 2], [3])
    run.validate(Notes(), range(4, 6))

    assert seen == [1, 2, 3, 4, 5]
    assert run.num_val_batches == [2]


@pytest.mark.parametrize("mode", ["min", "", "cycle"])
def test_an_unknown_mode_is_refused_with_those_there_are(mode: Any) -> None:
    with pytest.raises(nb.UsageError, match="'max_size_cycle', 'min_size', 'max_size', 'sequent"):
        nb.CombinedLoader([range(1)], mode)


def test_an_empty_collection_is_refused() -> None:
    with pytest.raises(nb.UsageError, match="is empty"):
        nb.CombinedLoader([])


def test_a_loader_without_batches_cannot_be_repeated() -> None:
    with pytest.raises(nb.UsageError, match="dataloader 1 of 2 has no batches"):
        list(nb.CombinedLoader([Endless(2), Endless(0)], "max_size_cycle"))


def test_training_reads_a_combined_loader_as_it_is(tmp_path: Path) -> None:
    run = trainer(tmp_path)

    run.fit(Small(), nb.CombinedLoader([loader(12, 4), loader(4, 2)], "sequential"))

    assert run.global_step == 5


def test_validation_reads_a_sequential_one_loader_by_loader(tmp_path: Path) -> None:
    seen: list[int] = []

    class Told(Small):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            seen.append(dataloader_idx)

    trainer(tmp_path).validate(
        Told(), nb.CombinedLoader([loader(4), loader(8)], "sequential"), verbose=False
    )

    assert seen == [0, 1, 1]


class Pair(NamedTuple):
    a: Any
    b: Any


def test_a_named_tuple_of_loaders_gives_named_tuples() -> None:
    pairs = read(nb.CombinedLoader(Pair(a=[1, 2], b=[3]), "min_size"))

    assert pairs == [Pair(a=1, b=3)]
    assert isinstance(pairs[0], Pair)


@pytest.mark.parametrize("function", ["validate", "test", "predict"])
def test_steps_of_other_stages_get_the_batches_of_loaders_that_are_read_together(
    tmp_path: Path, function: str
) -> None:
    got: list[Any] = []

    class Takes(Small):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            got.append(batch)

        test_step = predict_step = validation_step  # type: ignore[assignment]

    loaders = nb.CombinedLoader({"a": loader(12), "b": loader(8)}, "min_size")
    getattr(trainer(tmp_path), function)(Takes(), loaders)

    assert [sorted(batch) for batch in got] == [["a", "b"], ["a", "b"]]


def test_one_within_another_gives_its_batches_alone() -> None:
    inner = nb.CombinedLoader([Endless(2), Endless(2)], "min_size")
    outer = nb.CombinedLoader({"inner": inner, "plain": Endless(2)}, "min_size")

    assert [batch for batch, _, _ in outer] == [
        {"inner": [0, 0], "plain": 0},
        {"inner": [1, 1], "plain": 1},
    ]
