"""The group of several processes: what Trainers that share it may ask of it."""

import queue
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
import torch.distributed as dist
from helpers import DEADLINE_S
from torch._C._distributed_c10d import HashStore

from nightbus.actors.ranks.process_group import ProcessGroup
from nightbus.actors.ranks.world import World
from nightbus.bus.errors import RankLostError, UsageError

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def own_group() -> Iterator[None]:
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


def joined(timeout: timedelta | None = None) -> ProcessGroup:
    """A group of one process, which is enough for what is agreed on."""
    return ProcessGroup(World(), HashStore(), "gloo", timeout)


def test_trainers_of_a_script_may_ask_for_the_same() -> None:
    group = joined(HOUR)

    group.check_options("gloo", None)
    group.check_options("cpu:gloo", HOUR)


def test_another_backend_than_the_first_trainers_is_refused() -> None:
    with pytest.raises(UsageError, match=r"nccl \(cuda\), and the first one was told gloo \(cpu\)"):
        joined().check_options("cpu:gloo,cuda:nccl", None)


def test_a_rank_that_fails_does_not_wait_for_a_store_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when the network to the machine of rank 0 is down."""
    answers = threading.Event()

    class Unreachable:
        def compare_set(self, *_: object) -> None:
            answers.wait()

        def add(self, *_: object) -> None:
            answers.wait()

    group = joined()
    monkeypatch.setattr(group, "_store", Unreachable())
    monkeypatch.setattr("nightbus.actors.ranks.process_group.LEAVE_WITHIN_S", 0.01)
    try:
        group.close("ValueError: no such batch")
        assert not dist.is_initialized()
    finally:
        answers.set()


def test_another_timeout_than_the_first_trainers_is_refused() -> None:
    with pytest.raises(UsageError, match="timeout=1:00:00: the first one was told none"):
        joined().check_options("gloo", HOUR)


def begin_as_users(backends: str) -> None:
    dist.init_process_group(backends, store=HashStore(), rank=0, world_size=1)


def test_a_group_that_the_user_began_is_used_if_it_has_the_backend() -> None:
    begin_as_users("gloo")
    group = joined()
    group.close("")

    assert dist.is_initialized()


def test_a_group_that_the_user_began_for_other_devices_is_refused() -> None:
    begin_as_users("cuda:gloo")

    with pytest.raises(UsageError, match=r"init_process_group was told gloo \(cuda\)"):
        joined()


def test_a_timeout_that_the_users_group_may_not_have_is_refused() -> None:
    begin_as_users("gloo")

    with pytest.raises(UsageError, match="timeout=1:00:00: init_process_group was told none"):
        joined(HOUR)


def two_ranks() -> list[ProcessGroup]:
    """Two ranks in one process, which exchange over one store."""
    store = HashStore()
    groups = [ProcessGroup(World(), store, "gloo", None) for _ in range(2)]
    for rank, group in enumerate(groups):
        group.world = World(rank, 2, rank, 2)
    return groups


def test_who_waits_for_a_rank_whose_script_has_ended_is_told_so() -> None:
    waiting, other = two_ranks()
    other.close("")

    with pytest.raises(RankLostError, match="rank 1 is lost: its script has ended, and rank 0"):
        waiting.wait_for_all("x")


def test_who_waits_for_ranks_to_join_is_told_which_ones_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: queue.Queue[str] = queue.Queue()
    monkeypatch.setattr("nightbus.actors.ranks.process_group._MISSING_AFTER_S", 0.0)
    monkeypatch.setattr("nightbus.actors.ranks.process_group.notify_user", told.put)
    waiting, other = two_ranks()
    joining = threading.Thread(target=waiting._wait_until_all_join)
    joining.start()
    message = told.get(timeout=DEADLINE_S)
    other._wait_until_all_join()
    joining.join(DEADLINE_S)

    assert "rank 0 of 2 has waited for 0 s for rank 1, which has not come" in message
    assert told.empty()  # rank 0 alone says it
    assert not joining.is_alive()


def test_a_rank_that_ends_after_an_exchange_has_done_its_part_of_it() -> None:
    slow, other = two_ranks()
    other.broadcast("x", 5, src=1)
    other.close("")

    assert slow.broadcast("x", None, src=1) == 5


def test_a_rank_meets_nobody_whose_script_has_ended() -> None:
    waiting, other = two_ranks()
    other.close("")

    assert not waiting.meets("x", within_s=float("inf"))
