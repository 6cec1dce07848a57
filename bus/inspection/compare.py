"""Compares what training did in two runs, event by event, ignoring times."""

from itertools import islice
from operator import itemgetter, ne
from typing import NamedTuple

from ..errors import UsageError
from ..runs.run_folder import RunFolder
from .compared_log import Choice, ComparedEvent, ComparedLog, Key, Stretch


class Difference(NamedTuple):
    """The first events of two runs that differ.

    Attributes:
        number: number of equal events before them.
        left, right: the events; None where the run has ended.
    """

    number: int
    left: ComparedEvent | None
    right: ComparedEvent | None


class Comparison(NamedTuple):
    """Result of comparing two runs.

    Attributes:
        equal: number of equal events, from the start.
        difference: the first events that differ; None if all are equal.
        missing: parts of the recordings missing up to there, a line each; the result is valid only
            for the rest.
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
    loading of checkpoints. Superseded events of a resumed run are not compared, and neither is the
    set-up of its resumed attempts.

    Args:
        left: one of the runs.
        right: the other.
        ignore: shell patterns of metrics that are not compared, such as those that measure time.
        hooks: compare hooks too; otherwise only what was put.
        rank: of which process.

    Returns:
        How many events are equal, and the first that differ.

    Raises:
        UsageError: a run recorded nothing that is compared.
        LogError: a log is damaged at its head or from a newer major version.
    """
    choice = Choice(ignore, hooks)
    mine, others = (_Side(ComparedLog(run, choice, rank)) for run in (left, right))
    number = _equal_events(mine, others)
    events = mine.event(number), others.event(number)
    difference = None if events == (None, None) else Difference(number, *events)
    # In the order in which they are met, on the left first.
    missing = sorted([*mine.missing(number), *others.missing(number)], key=itemgetter(0))
    if not number and not missing:
        for run, first in zip((left, right), events, strict=True):
            if first is None:
                raise UsageError(_nothing_recorded(run, hooks))
    return Comparison(number, difference, tuple(line for _, line in missing))


def in_words(event: ComparedEvent) -> str:
    """Return an event as people read it: what, where in training, and where in the log.

    Args:
        event: the event.
    """
    what = event.name if event.kind == "Hook" else f"{event.name} = {event.shown}"
    where = f"{event.stage or 'between stages'}, epoch {event.epoch}, step {event.step}"
    batch = f", batch {event.batch_idx}" if event.batch_idx >= 0 else ""
    how = "" if event.kind == "Hook" else f", put with {', '.join(map(repr, event.details))}"
    return f"{what}  ({where}{batch}{how}; attempt {event.attempt}, event {event.seq})"


def ranks_of_both(left: RunFolder, right: RunFolder) -> list[int]:
    """Return the ranks that both runs have logs of, if these are the same ones.

    Args:
        left: one of the runs.
        right: the other.

    Raises:
        UsageError: they have logs of other ranks.
    """
    mine, others = (
        sorted({rank for attempt in run.attempts() for rank in run.ranks(attempt)})
        for run in (left, right)
    )
    if mine != others and mine and others:
        raise UsageError(
            f"{left.path} has logs of {len(mine)} ranks, {right.path} of {len(others)}; name one "
            f"that both have, as with --rank {min({*mine} & {*others}, default=0)}"
        )
    return mine or [0]


class _Side:
    """One of the runs, with the events read so far.

    Attributes:
        keys: keys still to be compared.
    """

    def __init__(self, log: ComparedLog) -> None:
        self.keys: list[Key] = []
        self._unread = log.stretches()
        self._stretch: Stretch | None = None  # that the keys belong to
        self._begin = 0  # number of keys before it
        self._end = 0
        self._missing: list[tuple[int, str]] = []

    def read_on(self) -> None:
        """Read more keys if all were compared and there are more."""
        while not self.keys and (stretch := next(self._unread, None)) is not None:
            self._stretch, self.keys = stretch, list(stretch.keys)
            self._begin, self._end = self._end, self._end + len(self.keys)
            self._missing += [(self._begin + count, line) for count, line in stretch.missing]

    def event(self, number: int) -> ComparedEvent | None:
        """Return the event of a key still to be compared; None when there is none."""
        if not self.keys or self._stretch is None:
            return None
        return next(islice(self._stretch.events(), number - self._begin, None))

    def missing(self, number: int) -> list[tuple[int, str]]:
        """Return what is missing before an event, a line each, with the events before it."""
        return [(before, line) for before, line in self._missing if before <= number]


def _equal_events(left: _Side, right: _Side) -> int:
    """Return the number of equal events."""
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
