"""Numbers of ranks under agreed names: what one rank reduces otherwise is refused on all."""

from collections.abc import Sequence
from typing import Any

import pytest

from nightbus.actors.ranks.fused_reduce import FusedReduce, Share, Slot
from nightbus.actors.ranks.group import AloneGroup
from nightbus.bus.errors import MetricError


class WithAnother(AloneGroup):
    """Rank 0 of two; what the other one has new is given."""

    def __init__(self, others: list[list[Any]]) -> None:
        self.others = others

    def gather(self, what: str, value: Any) -> Sequence[Any]:
        return [value, self.others]


def reduce_with(*others: list[Any]) -> FusedReduce:
    """What a rank reduces with, called as its numbers are."""
    return FusedReduce(WithAnother([*others]), name_of=str)


def test_a_name_that_ranks_reduce_in_different_ways_is_refused_with_both() -> None:
    reducing = reduce_with(["key", "max", "loss"])

    with pytest.raises(MetricError, match=r"log\('loss'\): its reduce_fx is 'max' on rank 1, and "):
        reducing.agree({"key": Slot("mean", "loss")})


def test_what_a_rank_reduces_otherwise_than_was_agreed_is_told_to_all_when_they_agree() -> None:
    reducing = reduce_with()
    reducing.agree({"key": Slot("mean", "loss")})

    with pytest.raises(MetricError, match="is a function on rank 0, and was 'mean' before"):
        reducing.reduce({"key": Share(values=[1.0])}, {"key": Slot("values", "loss")})


def test_one_rank_alone_checks_what_it_logs_between_two_agreements() -> None:
    reducing = reduce_with(["key", "max", "loss"])
    reducing.agree({})
    reducing.check("key", Slot("max", "loss"), 0)
    reducing.check("another", Slot("mean", "loss"), 0)

    with pytest.raises(MetricError, match="is 'mean' on rank 0, and was 'max' before"):
        reducing.check("key", Slot("mean", "loss"), 0)
