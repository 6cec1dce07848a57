"""Comparing two runs event by event: what training did, whatever time it took."""

import struct
from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import zip_longest
from typing import NamedTuple

import msgspec

from .cursor import AttemptLog, attempt_logs
from .events import Event, Fork, Hook, Media, Put, Resumed, RunStarted
from .log_reader import LogReader
from .run_folder import RunFolder

# Saving and loading is how a run is kept, not what it does: a resumed run has more of it.
_OF_CHECKPOINTS = frozenset({"on_save_checkpoint", "on_load_checkpoint"})


class ComparedEvent(NamedTuple):
    """An event, without its time and its number.

    Attributes:
        kind: Hook, Put or Media.
        name: the hook, the metric, or the image and the like.
        value: of a Put, bit by bit; of a Media, its bytes; empty for a Hook.
        shown: the value for people.
        details: destinations, hook and source of what was put.
        stage, epoch, step, batch_idx, dataloader_idx: where training was.
        attempt, seq: where it is recorded; not compared.
    """

    kind: str
    name: str
    value: bytes
    shown: str
    details: tuple[str, ...]
    stage: str
    epoch: int
    step: int
    batch_idx: int
    dataloader_idx: int
    attempt: int
    seq: int

    @property
    def compared(self) -> tuple[object, ...]:
        """What has to be equal."""
        return (*self[:3], *self[4:10])


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
    """

    equal: int
    difference: Difference | None


class _Stretch(NamedTuple):
    """A part of an attempt that counts: up to ``last_seq``, or all of it if that is None."""

    log: AttemptLog
    resumes: bool
    last_seq: int | None


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
        LogError: a log is damaged at its head or from a newer major version.
    """
    number = 0
    pairs = zip_longest(
        compared_events(left, ignore, hooks, rank), compared_events(right, ignore, hooks, rank)
    )
    for mine, other in pairs:
        if mine is None or other is None or mine.compared != other.compared:
            return Comparison(number, Difference(number, mine, other))
        number += 1
    return Comparison(number, None)


def compared_events(
    run: RunFolder, ignore: tuple[str, ...] = (), hooks: bool = True, rank: int = 0
) -> Iterator[ComparedEvent]:
    """What is compared of a run; see ``compare_runs``."""
    for stretch in _stretches(run, rank):
        reader = LogReader(stretch.log.store)
        in_setup = stretch.resumes
        for event in reader.events("all" if hooks else "none"):
            if stretch.last_seq is not None and event.seq > stretch.last_seq:
                break
            if in_setup:
                in_setup = type(event) is not Resumed
                continue
            found = _compared(event, stretch.log.attempt, ignore)
            if found is not None:
                yield found
        reader.close()


def _stretches(run: RunFolder, rank: int) -> list[_Stretch]:
    found: list[_Stretch] = []
    for log in attempt_logs(run, rank):
        fork = _fork_of(log)
        if fork is not None:
            found = [
                entry._replace(last_seq=fork.seq) if entry.log.attempt == fork.attempt else entry
                for entry in found
                if entry.log.attempt <= fork.attempt
            ]
        found.append(_Stretch(log, fork is not None, None))
    return found


def _fork_of(log: AttemptLog) -> Fork | None:
    reader = LogReader(log.store)
    try:
        first = next(reader.events("none"), None)
    finally:
        reader.close()
    return first.fork if isinstance(first, RunStarted) else None


def _compared(event: object, attempt: int, ignore: tuple[str, ...]) -> ComparedEvent | None:
    if not isinstance(event, Event):
        return None
    details: tuple[str, ...] = ()
    value, shown = b"", ""
    if isinstance(event, Hook):
        if event.name in _OF_CHECKPOINTS:
            return None
    elif isinstance(event, Put):
        if _is_of_the_bar(event) or any(fnmatchcase(event.name, pattern) for pattern in ignore):
            return None
        value, shown = _bits(event.value), repr(event.value)
        details = (*event.destinations, event.hook, event.source)
    elif isinstance(event, Media):
        if any(fnmatchcase(event.name, pattern) for pattern in ignore):
            return None
        value, shown = bytes(event.data), f"{len(event.data)} bytes"
        details = (event.kind, *event.destinations, event.hook, event.source)
    else:
        return None
    return ComparedEvent(
        type(event).__name__,
        event.name,
        value,
        shown,
        details,
        event.stage,
        event.epoch,
        event.step,
        event.batch_idx,
        event.dataloader_idx,
        attempt,
        event.seq,
    )


def _is_of_the_bar(put: Put) -> bool:
    """The loss that the progress bar shows, put when it is time."""
    return put.source == "fit" and put.destinations == ("progress_bar",)


def _bits(value: bool | int | float) -> bytes:
    """A number so that only the same number, NaN's bits included, has the same bytes."""
    if isinstance(value, float):
        return struct.pack("<d", value)
    return msgspec.msgpack.encode(value)
