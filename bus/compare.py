"""Comparing two runs event by event: what training did, whatever time it took."""

import struct
from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import zip_longest
from typing import NamedTuple

import msgspec

from .codec import DecodedEvent, HookSelection
from .cursor import AttemptLog
from .errors import LogFormatError, UsageError
from .events import Event, Gap, Hook, Media, Put, Resumed, RunEnded, RunStarted
from .lineage import consistent_logs
from .log_reader import EndKind, LogReader
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
    number = 0
    missing: list[str] = []
    difference: Difference | None = None
    pairs = zip_longest(
        compared_events(left, ignore, hooks, rank, missing),
        compared_events(right, ignore, hooks, rank, missing),
    )
    for mine, other in pairs:
        if mine is None or other is None or mine.compared != other.compared:
            difference = Difference(number, mine, other)
            break
        number += 1
    if not number and not missing:
        firsts = (None, None) if difference is None else (difference.left, difference.right)
        for run, first in zip((left, right), firsts, strict=True):
            if first is None:
                raise UsageError(_nothing_recorded(run, hooks))
    return Comparison(number, difference, tuple(missing))


def compared_events(
    run: RunFolder,
    ignore: tuple[str, ...] = (),
    hooks: bool = True,
    rank: int = 0,
    missing: list[str] | None = None,
) -> Iterator[ComparedEvent]:
    """What is compared of a run; see ``compare_runs``.

    Args:
        run, ignore, hooks, rank: as there.
        missing: what the log lacks is added to it, a line each, where it is come upon.
    """
    said: list[str] = [] if missing is None else missing
    for log in consistent_logs(run, rank):
        name = f"{run.path} attempt {log.attempt}"
        reader = _Counted(log, hooks)
        in_setup = False  # of an attempt that goes on with an earlier one
        try:
            for event in reader.events():
                if isinstance(event, Gap):
                    said.append(f"{name}: {event.count:,} events were not written: {event.reason}")
                elif in_setup:
                    in_setup = not isinstance(event, Resumed)
                elif isinstance(event, RunStarted):
                    in_setup = event.fork is not None
                elif (found := _compared(event, log.attempt, ignore)) is not None:
                    yield found
        finally:
            reader.close()
        if reader.lacks:
            goes_on = run.is_being_written(log.attempt)
            how = "goes on; this is what it had recorded" if goes_on else reader.lacks
            said.append(f"{name}: {how}")


class _Counted:
    """The events of a log that count, and whether it holds them all.

    Attributes:
        lacks: once all were read, why some are not there; empty when none is missing.
    """

    def __init__(self, log: AttemptLog, hooks: bool) -> None:
        self.lacks = ""
        self._log = log
        self._hooks: HookSelection = "all" if hooks else "none"
        self._reader = LogReader(log.store)

    def events(self) -> Iterator[DecodedEvent]:
        """Those before the place where a later attempt went on.

        Raises:
            LogError: the log is damaged at its head, or from a newer major version.
        """
        until, reader = self._log.until, self._reader
        has_ended = False
        try:
            for event in reader.events(self._hooks):
                if until is not None and event.seq >= until:
                    return
                has_ended = has_ended or isinstance(event, RunEnded)
                yield event
        except LogFormatError as error:
            if not reader.next_seq:
                raise  # nothing of it is a log
            self.lacks = str(error)
            return
        indices = self._log.store.indices()
        is_whole = has_ended if until is None else reader.next_seq >= until
        end = reader.end()
        if indices and indices[0]:
            self.lacks = f"its segments before {indices[0]} are missing"
        elif indices and not is_whole and (until is not None or end.kind is not EndKind.SEALED):
            reason = end.reason if end.kind is EndKind.TORN else "it was cut off"
            self.lacks = f"ends before event {end.next_seq:,}: {reason}"

    def close(self) -> None:
        """Let go of the log."""
        self._reader.close()


def _nothing_recorded(run: RunFolder, hooks: bool) -> str:
    what = "hooks, metrics or images and the like" if hooks else "metrics or images and the like"
    return (
        f"{run.path} recorded no {what} that could be compared; was it trained with "
        "Trainer(recording='off')?"
    )


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
