"""Comparing two runs event by event: what training did, whatever time it took."""

from itertools import islice
from operator import itemgetter, ne
from typing import NamedTuple

from ..errors import UsageError
from ..runs.run_folder import RunFolder
from .compared_log import Choice, ComparedEvent, ComparedLog, Key, Stretch


class Difference(NamedTuple):
    """The first events of two runs that differ.

    Attributes:
        number: how many events before them are equal.
        left, right: the events; None where the run has ended.
    """

    number: int
    left: ComparedEvent | None
    right: ComparedEvent | None


class Comparison(NamedTuple):
    """What came of comparing two runs.

    Attributes:
        equal: how many events are equal, from the begin on.
        difference: the first that differ; None if all are equal.
        missing: what the runs lack of their recording up to there, a line each, so that the result
            holds only for what there is.
    """

    equal: int
    difference: Difference | None
    missing: tuple[str, ...] = ()


def compare_runs(
    left: RunFolder,
    right: RunFolder,
    *,
    ignore: tuple[str, ...] = (),
    hooks: bool = True,
    rank: int = 0,
) -> Comparison:
    """Compare what two runs did: hooks, metrics, images and the like, in their order.

    Times, durations, process ids, paths and versions are not compared, nor is the saving and
    loading of checkpoints. Of a run that was resumed, what came after the checkpoint that it went
    on from does not count, and neither does the set-up of the attempts that went on.

    Args:
        left, right: the runs.
        ignore: patterns, as of a shell, of metrics that are not compared: those that measure time,
            say.
        hooks: compare hooks too; without, only what was put.
        rank: of which process.

    Raises:
        UsageError: a run recorded nothing that is compared.
        LogError: a log is damaged at its head or from a newer major version.
    """
    choice = Choice(ignore, hooks)
    mine, others = (_Side(ComparedLog(run, choice, rank)) for run in (left, right))
    number = _equal_events(mine, others)
    events = mine.event(number), others.event(number)
    difference = None if events == (None, None) else Difference(number, *events)
    # As they are come upon, on the left first.
    missing = sorted([*mine.missing(number), *others.missing(number)], key=itemgetter(0))
    if not number and not missing:
        for run, first in zip((left, right), events, strict=True):
            if first is None:
                raise UsageError(_nothing_recorded(run, hooks))
    return Comparison(number, difference, tuple(line for _, line in missing))


class _Side:
    """One of the runs, as far as it was read.

    Attributes:
        keys: those that are still to be compared.
    """

    def __init__(self, log: ComparedLog) -> None:
        self.keys: list[Key] = []
        self._unread = log.stretches()
        self._stretch: Stretch | None = None  # to which the keys belong
        self._begin = 0  # how many keys come before it
        self._end = 0
        self._missing: list[tuple[int, str]] = []

    def read_on(self) -> None:
        """Have keys to compare, if there are more."""
        while not self.keys and (stretch := next(self._unread, None)) is not None:
            self._stretch, self.keys = stretch, list(stretch.keys)
            self._begin, self._end = self._end, self._end + len(self.keys)
            self._missing += [(self._begin + count, line) for count, line in stretch.missing]

    def event(self, number: int) -> ComparedEvent | None:
        """The event of a key that is still to be compared; None when there is none."""
        if not self.keys or self._stretch is None:
            return None
        return next(islice(self._stretch.events(), number - self._begin, None))

    def missing(self, number: int) -> list[tuple[int, str]]:
        """What is missing before an event, a line each, with how many events come before."""
        return [(before, line) for before, line in self._missing if before <= number]


def _equal_events(left: _Side, right: _Side) -> int:
    """How many events are equal."""
    number = 0
    while True:
        left.read_on()
        right.read_on()
        both = min(len(left.keys), len(right.keys))
        mine, others = left.keys[:both], right.keys[:both]
        if mine != others:
            return number + list(map(ne, mine, others)).index(True)
        if not both:
            return number
        number += both
        del left.keys[:both], right.keys[:both]


def _nothing_recorded(run: RunFolder, hooks: bool) -> str:
    what = "hooks, metrics or images and the like" if hooks else "metrics or images and the like"
    return (
        f"{run.path} recorded no {what} that could be compared; was it trained with "
        "Trainer(recording='off')?"
    )
