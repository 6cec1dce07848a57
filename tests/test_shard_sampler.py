"""The ranks' parts of a sampler's order: together they are the data, and torch's to the entry."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    WeightedRandomSampler,
)

from nightbus.actors.data.shard_sampler import ShardSampler, sharded
from nightbus.bus.errors import UsageError

NUMBERS = st.integers(0, 40)
SIZES = st.integers(1, 6)
SEEDS = st.integers(0, 2**40)


def loader_of(data: Any, **options: Any) -> DataLoader[Any]:
    return DataLoader(data, **options)


def distributed(data: Any, size: int, rank: int, **options: Any) -> DistributedSampler[Any]:
    return DistributedSampler(data, size, rank, **options)


def shards(sampler: Any, size: int, seed: int, pads: bool, epoch: int = 0) -> list[list[Any]]:
    found = []
    for rank in range(size):
        shard = ShardSampler(sampler, rank, size, seed, pads)
        shard.set_epoch(epoch)
        entries = list(shard)
        assert len(entries) == len(shard)
        found.append(entries)
    return found


def interleaved(parts: list[list[Any]]) -> list[Any]:
    longest = max(map(len, parts))
    return [part[i] for i in range(longest) for part in parts if i < len(part)]


@given(NUMBERS, SIZES, SEEDS)
def test_without_padding_each_entry_is_read_exactly_once_in_order(
    number: int, size: int, seed: int
) -> None:
    parts = shards(SequentialSampler(range(number)), size, seed, pads=False)
    assert interleaved(parts) == list(range(number))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(st.integers(1, 40), SIZES, SEEDS, st.integers(0, 3), st.booleans())
def test_with_padding_the_order_is_that_of_torchs_distributed_sampler(
    number: int, size: int, seed: int, epoch: int, shuffles: bool
) -> None:
    data = range(number)
    sampler = RandomSampler(data) if shuffles else SequentialSampler(data)
    of_torch = []
    for rank in range(size):
        reference = distributed(data, size, rank, shuffle=shuffles, seed=seed)
        reference.set_epoch(epoch)
        of_torch.append(list(reference))
    assert shards(sampler, size, seed, pads=True, epoch=epoch) == of_torch


@given(st.integers(1, 40), SIZES, SEEDS)
def test_a_sampler_that_draws_gives_all_ranks_parts_of_one_order(
    number: int, size: int, seed: int
) -> None:
    sampler = WeightedRandomSampler([1.0] * 10, number)
    parts = shards(sampler, size, seed, pads=False)
    torch.manual_seed(seed)
    assert interleaved(parts) == list(sampler)


def test_drawing_the_order_leaves_the_generators_of_the_run_alone() -> None:
    own = torch.Generator()
    sampler = WeightedRandomSampler([1.0] * 10, 5, generator=own)
    before = torch.get_rng_state(), own.get_state()
    shards(sampler, 2, 3, pads=False)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.equal(own.get_state(), before[1])


def test_each_epoch_has_another_order() -> None:
    sampler = RandomSampler(range(100))
    first, second = (shards(sampler, 2, 7, pads=True, epoch=epoch) for epoch in (0, 1))
    assert first != second


def test_an_empty_dataset_has_no_entries_on_any_rank() -> None:
    assert shards(SequentialSampler(range(0)), 3, 0, pads=True) == [[], [], []]


def test_a_sharded_loader_keeps_what_its_user_chose() -> None:
    loader = loader_of(range(10), batch_size=3, drop_last=True)
    part = sharded(loader, 1, 2, 0, trains=False)
    assert (part.batch_size, part.drop_last) == (3, True)
    assert [batch.tolist() for batch in part] == [[1, 3, 5]]


def test_a_loader_without_batches_is_sharded_by_sample() -> None:
    loader = loader_of(range(5), batch_size=None)
    assert list(sharded(loader, 1, 2, 0, trains=False)) == [1, 3]


def test_a_batch_sampler_of_torchs_over_a_users_sampler_is_sharded_by_sample() -> None:
    batches = BatchSampler(SequentialSampler(range(6)), 2, False)
    loader = loader_of(range(6), batch_sampler=batches)
    part = sharded(loader, 0, 2, 0, trains=True)
    assert [batch.tolist() for batch in part] == [[0, 2], [4]]


def test_a_users_distributed_sampler_stays() -> None:
    sampler = distributed(range(6), 2, 0)
    loader = loader_of(range(6), sampler=sampler)
    assert sharded(loader, 0, 2, 0, trains=True) is loader


def test_a_stream_is_left_to_its_user() -> None:
    class Stream(torch.utils.data.IterableDataset[int]):
        def __iter__(self) -> Any:
            return iter(range(3))

    for loader in (DataLoader(Stream()), [1, 2, 3]):
        assert sharded(loader, 0, 2, 0, trains=True) is loader


def test_a_batch_sampler_of_the_users_own_is_refused_with_what_to_do() -> None:
    class Own(BatchSampler):
        pass

    loader = loader_of(range(6), batch_sampler=Own(SequentialSampler(range(6)), 2, False))
    with pytest.raises(UsageError, match=r"Own chooses whole batches.*use_distributed_sampler"):
        sharded(loader, 0, 2, 0, trains=True)


def test_a_dataloader_of_another_class_is_refused_with_what_to_do() -> None:
    data: Any = range(6)

    class Own(DataLoader[int]):
        pass

    with pytest.raises(UsageError, match=r"Own is a DataLoader of another class.*global_rank"):
        sharded(Own(data), 0, 2, 0, trains=True)
