"""FusedReduce: numbers of all ranks under agreed names, reduced in one exchange."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch

from ...bus.copies import StaysInRun
from ...bus.errors import MetricError
from .group import Group

How = Literal["mean", "sum", "min", "max", "values", "flag"]
_SHOWN = {"values": "a function", "flag": "that of a Metric"}
_COLUMNS = 4  # of a slot: total, weight, ranks that have it, NaNs


class Slot(NamedTuple):
    """What all ranks have to know of a number that one of them has.

    Attributes:
        how: it is reduced: ``values`` gathers what each rank has; ``flag`` only tells that one of
            them has it.
        about: plain data, as msgpack knows it.
    """

    how: How
    about: Any


class Share(NamedTuple):
    """What a rank has of a number.

    Attributes:
        total: sum of its values, each times its weight.
        weight: sum of their weights.
        values: the extreme for ``min`` and ``max``; all of them for ``values``.
    """

    total: float = 0.0
    weight: float = 1.0
    values: Sequence[float] = ()

    def result(self, how: How) -> float:
        """Return the number that this is a share of."""
        if how == "mean":
            return self.total / self.weight if self.weight else math.nan
        return self.values[0] if how in ("min", "max") else self.total


class Whole(NamedTuple):
    """What all ranks together have.

    Attributes:
        slot: what it is.
        share: of all ranks.
        ranks: how many have it.
    """

    slot: Slot
    share: Share
    ranks: int


class FusedReduce(StaysInRun):
    """Reduces numbers of all ranks, each under a name.

    A rank need not have all of them: it adds nothing to those that it has not. A name that is new
    is agreed on over the store, once; its number is part of the result all the same.

    All ranks call each method in the same order.

    Args:
        group: the ranks.
        name_of: returns what users call a number, from what is known about it.
    """

    def __init__(self, group: Group, name_of: Callable[[Any], str]) -> None:
        self._group, self._name_of = group, name_of
        self._slots: dict[str, Slot] = {}

    @property
    def slots(self) -> Mapping[str, Slot]:
        """What was agreed on, by name."""
        return self._slots

    def agree(self, slots: Mapping[str, Slot]) -> None:
        """Agree on the names that any rank has, over the store.

        Args:
            slots: this rank's names.

        Raises:
            MetricError: two ranks reduce one number in different ways; on all ranks.
        """
        new = [[name, *slot] for name, slot in self._new(slots).items()]
        for rank, of_rank in enumerate(self._group.gather("names of metrics", new)):
            for name, how, about in of_rank:
                slot = Slot(how, about)
                self.check(name, slot, rank)
                self._slots.setdefault(name, slot)

    def _new(self, slots: Mapping[str, Slot]) -> dict[str, Slot]:
        """Return what is not agreed on, or otherwise than this rank has it."""
        agreed = self._slots
        return {
            name: slot
            for name, slot in slots.items()
            if name not in agreed or agreed[name].how != slot.how
        }

    def check(self, name: str, slot: Slot, rank: int) -> None:
        """Check that a rank reduces a number as was agreed on, if it was.

        Args:
            name: under which it is reduced.
            slot: what the rank has.
            rank: which.

        Raises:
            MetricError: it does not.
        """
        agreed = self._slots.get(name)
        if agreed is not None and agreed.how != slot.how:
            one, other = (_SHOWN.get(how, repr(how)) for how in (slot.how, agreed.how))
            raise MetricError(
                f"log({self._name_of(slot.about)!r}): its reduce_fx is {one} on rank {rank}, and "
                f"was {other} before, on this rank or another; log a name with the same "
                "reduce_fx on all ranks"
            )

    def reduce(self, mine: Mapping[str, Share], slots: Mapping[str, Slot]) -> dict[str, Whole]:
        """Return the numbers of all ranks together, those that one of them has.

        Args:
            mine: this rank's shares by name.
            slots: what they are.

        Raises:
            MetricError: two ranks reduce one number in different ways; on all ranks.
        """
        new = self._new(slots)
        number, *row = self._sum([float(len(new)), *self._row(mine, self._slots)])
        if number:
            self.agree(new)
            row = self._sum(self._row(mine, self._slots))
        return self._wholes(mine, self._slots, row)

    def reduce_agreed(self, mine: Mapping[str, Share], names: Iterable[str]) -> dict[str, Whole]:
        """Return agreed numbers; without any name, nothing is exchanged.

        Args:
            mine: this rank's shares by name.
            names: the agreed names to reduce; the same on all ranks.
        """
        return self._wholes(mine, names, self._sum(self._row(mine, names))) if names else {}

    def _sum(self, row: list[float]) -> list[float]:
        found: list[float] = self._group.sum(torch.tensor(row, dtype=torch.float64)).tolist()
        return found

    def _row(self, mine: Mapping[str, Share], names: Iterable[str]) -> list[float]:
        """Return this rank's part of a sum over the ranks.

        Args:
            mine: this rank's shares by name.
            names: the agreed names that the sum is for, in order.
        """
        row: list[float] = []
        for name in names:
            share = mine.get(name)
            if share is None:
                row += [0.0] * _COLUMNS
            else:
                nans = sum(value != value for value in share.values)
                row += [share.total, share.weight, 1.0, float(nans)]
        return row

    def _wholes(
        self, mine: Mapping[str, Share], names: Iterable[str], row: Sequence[float]
    ) -> dict[str, Whole]:
        """Return the numbers of all ranks together, those that one of them has.

        Args:
            mine: this rank's shares by name.
            names: the agreed names in the row.
            row: the sum of all ranks' rows.
        """
        slots = {name: self._slots[name] for name in names}
        extremes, values = self._extremes(mine, slots), self._values(mine, slots)
        found = {}
        for number, (name, slot) in enumerate(slots.items()):
            begin = number * _COLUMNS
            total, weight, ranks, nans = row[begin : begin + _COLUMNS]
            if not ranks:
                continue
            share = Share(total, weight, values.get(name, ()))
            if name in extremes:
                share = share._replace(values=[math.nan if nans else extremes[name]])
            found[name] = Whole(slot, share, round(ranks))
        return found

    def _extremes(self, mine: Mapping[str, Share], slots: Mapping[str, Slot]) -> dict[str, float]:
        """Return the greatest or least of what ranks have; all as maxima, in one exchange."""
        signs = {
            name: 1.0 if slot.how == "max" else -1.0
            for name, slot in slots.items()
            if slot.how in ("min", "max")
        }
        if not signs:
            return {}
        row = []
        for name, sign in signs.items():
            has = name in mine and mine[name].values[0] == mine[name].values[0]
            row.append(sign * mine[name].values[0] if has else -math.inf)
        greatest = self._group.greatest(torch.tensor(row, dtype=torch.float64)).tolist()
        return {n: sign * each for (n, sign), each in zip(signs.items(), greatest, strict=True)}

    def _values(
        self, mine: Mapping[str, Share], slots: Mapping[str, Slot]
    ) -> dict[str, list[float]]:
        names = [name for name, slot in slots.items() if slot.how == "values"]
        if not names:
            return {}
        own = {name: list(mine[name].values) for name in names if name in mine}
        of_ranks = self._group.gather("values of metrics", own)
        return {name: [v for of_rank in of_ranks for v in of_rank.get(name, ())] for name in names}
