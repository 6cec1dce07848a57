"""A run in short, for tables of runs: from its small files, footers, and segments without one."""

import os
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

import msgspec

from ..errors import MALFORMED, LogError, LogFormatError, RunFolderError
from ..events import Ending, Plain
from ..log.reader import LogReader
from ..log.segments import FolderStore, read_footer
from ..log.summary import MetricTotal, Summary
from .lineage import consistent_logs
from .marks import Marks, read_marks
from .run_folder import RunFolder

MAX_METRICS = 2_000  # of a run in a table
MAX_GROWING = 200  # runs that go on, of which is kept what was read of them
SUMMARY = "summary.msgpack"  # of its run in short, derived
RUNNING: Final = "running"
KILLED: Final = "killed"
NOT_RECORDED: Final = "not recorded"
DAMAGED: Final = "damaged"

HowItEnded = Ending | Literal["running", "killed", "not recorded", "damaged"]


class Said(msgspec.Struct, frozen=True):
    """What a run said of itself when it started, as RunStarted has it."""

    config: dict[str, Plain] = {}
    environment: dict[str, Plain] = {}
    versions: dict[str, str] = {}


_encode_said = msgspec.msgpack.Encoder().encode
_decode_said = msgspec.msgpack.Decoder(Said).decode
_NOTHING_SAID = msgspec.Raw(_encode_said(Said()))


class RunSummary(msgspec.Struct, frozen=True, gc=False):
    """One run in short.

    Attributes:
        id, name, path: of the run.
        created_ns: wall clock, ns since 1970; 0 if unknown.
        duration_s: of all attempts together, from first to last event.
        ending: how the last attempt ended; ``running``; ``killed``, when its process ended without
            recording an end; ``not recorded``; or ``damaged``.
        reason: why it ended, in one line.
        attempts: number of attempts.
        fn: what the last attempt did: fit, validate, test or predict.
        epochs, steps: completed.
        size_bytes: size of its files, without that of its summary.
        faults: number of exceptions that were recorded.
        tags, notes, group, is_archived: what is noted about it.
        parent: the run whose checkpoint it began from; empty for none.
        hparams: hyperparameters of module and datamodule, of the last attempt that has any.
        metrics: totals by name, without superseded values.
        encoded: Said, in msgpack: of many runs, few are asked for it.
        problem: why it cannot be read; empty when it can.
    """

    id: str
    name: str
    path: str
    created_ns: int = 0
    duration_s: float = 0.0
    ending: HowItEnded = NOT_RECORDED
    reason: str = ""
    attempts: int = 0
    fn: str = ""
    epochs: int = 0
    steps: int = 0
    size_bytes: int = 0
    faults: int = 0
    tags: tuple[str, ...] = ()
    notes: str = ""
    group: str = ""
    is_archived: bool = False
    hparams: dict[str, Plain] = {}
    metrics: dict[str, MetricTotal] = {}
    encoded: msgspec.Raw = _NOTHING_SAID
    problem: str = ""
    parent: str = ""

    @property
    def said(self) -> Said:
        """What the run said of itself when it started; nothing if an index has nonsense."""
        try:
            return _decode_said(self.encoded)
        except MALFORMED:
            return Said()

    def may_say(self, name: str) -> bool:
        """Return whether ``said`` may have a value of a name, without decoding it.

        Args:
            name: of an argument, a package, or of the environment.
        """
        return name.encode(errors="surrogatepass") in bytes(self.encoded)

    @property
    def config(self) -> dict[str, Plain]:
        """The Trainer's arguments that differ from their defaults."""
        return self.said.config

    @property
    def environment(self) -> dict[str, Plain]:
        """The process, its machine and its code."""
        return self.said.environment

    @property
    def versions(self) -> dict[str, str]:
        """Versions of Python and of the packages that were loaded."""
        return self.said.versions

    @property
    def may_be_kept(self) -> bool:
        """Return whether it holds until something about the run changes."""
        return self.ending not in (RUNNING, DAMAGED) and not self.problem

    @property
    def is_running(self) -> bool:
        """Return whether a process was writing the run when it was read."""
        return self.ending == RUNNING


def read_summaries(root: Path) -> list[RunSummary]:
    """Return the runs in a folder, oldest first; an unreadable one is listed as such.

    Args:
        root: the folder of runs.
    """
    found = [read_summary(path.parent) for path in root.glob("*/run.json")]
    return sorted(found, key=lambda run: (run.created_ns, run.id))


def read_summary(folder: Path) -> RunSummary:
    """Return one run in short; one that cannot be read says why in ``problem``.

    Args:
        folder: the run's folder.
    """
    try:
        run = RunFolder.open(folder)
        try:
            marks, problem = read_marks(run), ""
        except RunFolderError as error:
            marks, problem = Marks(run.info.name), str(error)
        return _summary(run, marks, problem)
    except RunFolderError as error:
        return _unreadable(folder, str(error))


def _unreadable(folder: Path, problem: str) -> RunSummary:
    texts = (folder.name, "", str(folder))
    return RunSummary(*texts, ending=DAMAGED, size_bytes=size_of(folder), problem=problem)


def _summary(run: RunFolder, marks: Marks, problem: str) -> RunSummary:
    info = run.info
    attempts = _Attempts(run)
    attempts.read()
    whole, held = attempts.whole, attempts.held
    started = whole.started
    said = Said(info.config, info.environment)
    if started is not None:
        config = {name: started.config.get(name) for name in started.changed}
        said = Said(config or info.config, started.environment, started.versions)
    return RunSummary(
        id=info.id,
        name=marks.name or info.name,
        path=str(run.path),
        created_ns=info.created_ns,
        duration_s=attempts.duration_s,
        ending=attempts.ending,
        reason="" if whole.ended is None else whole.ended.reason,
        attempts=attempts.number,
        fn="" if started is None else started.fn,
        epochs=whole.epoch,
        steps=whole.step,
        size_bytes=size_of(run.path),
        faults=whole.events.get("Fault", 0),
        tags=marks.tags,
        notes=marks.notes,
        group=marks.group,
        parent=info.parent,
        is_archived=marks.is_archived,
        hparams=attempts.hparams or info.hparams,
        metrics=dict(list(held.metrics.items())[:MAX_METRICS]),
        encoded=msgspec.Raw(_encode_said(said)),
        problem=problem or attempts.problem,
    )


class _Attempts:
    """What the attempts of a run have recorded.

    Attributes:
        number: of attempts.
        duration_s: of all together.
        ending: of the last.
        problem: why one of them cannot be read.
        whole: all that was recorded, with start and end of the last attempt.
        held: what no later attempt has superseded.
        hparams: of the last attempt that has any.
    """

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._numbers = run.attempts()
        self.number = len(self._numbers)
        self.duration_s, self.problem = 0.0, ""
        self.ending: HowItEnded = NOT_RECORDED
        self.whole, self.held = Summary(), Summary()
        self.hparams: dict[str, Plain] = {}

    def read(self) -> None:
        """Read one after the other."""
        ends: dict[int, int | None] = dict.fromkeys(self._numbers)
        if self.number > 1:
            is_current = {log.attempt: log.until for log in consistent_logs(self._run)}
            ends = {attempt: is_current.get(attempt, 0) for attempt in self._numbers}
        for attempt, until in ends.items():
            is_written = self._run.is_being_written(attempt)
            try:
                store = self._run.store(attempt)
                summary = _read(store, None, is_written)
                held = summary if until is None else _read(store, until)
            except (LogError, RunFolderError) as error:
                self.ending, self.problem = DAMAGED, str(error)
                continue
            self._add(summary, held, is_written)

    def _add(self, summary: Summary, held: Summary, is_written: bool) -> None:
        ended: HowItEnded = summary.ended.how if summary.ended else KILLED
        self.ending = RUNNING if is_written else ended
        self.duration_s += (summary.last_time_ns - summary.first_time_ns) / 1e9
        if summary.started is not None and summary.started.hparams:
            self.hparams = summary.started.hparams
        self.held.merge(held)
        self.whole.merge(summary)
        self.whole.started = summary.started or self.whole.started
        self.whole.ended = summary.ended


def _read(store: FolderStore, until: int | None, goes_on: bool = False) -> Summary:
    """Read footers, then whatever follows the last one.

    Args:
        store: the segments.
        until: the first event that does not count.
        goes_on: a process writes it.

    Raises:
        LogError: it is not a log, or from a newer major version.
    """
    summary, next_seq = Summary(), 0
    for index in store.indices() if until != 0 else []:
        try:
            footer = read_footer(store, index)
        except LogFormatError:
            footer = None  # its events may still be sound
        if footer is None or (until is not None and footer.next_seq > until):
            _add_rest(summary, store, next_seq, until, goes_on)
            break
        summary.merge(footer.summary)
        next_seq = footer.next_seq
    return summary


def _add_rest(
    summary: Summary, store: FolderStore, next_seq: int, until: int | None, goes_on: bool
) -> None:
    """Add what follows the last footer; of a log that goes on, what was read is kept."""
    place = os.path.abspath(store.folder), next_seq
    rest = _growing.pop(place, None) if until is None else None  # no other thread has it meanwhile
    rest = rest or _Rest(store, next_seq)
    try:
        rest.read_on(until)
    finally:
        rest.let_go()
    summary.merge(rest.summary)
    if goes_on and until is None:
        _growing[place] = rest
        if len(_growing) > MAX_GROWING:
            with suppress(KeyError):
                _growing.popitem(last=False)


class _Rest:
    """What follows the last footer of a log, counted as far as it was read.

    Args:
        store: the segments.
        next_seq: its first event.
    """

    def __init__(self, store: FolderStore, next_seq: int) -> None:
        self.summary = Summary()
        self._reader = LogReader(store)
        if next_seq:
            self._reader.seek(next_seq)

    def read_on(self, until: int | None) -> None:
        """Count what there is more, up to an event that does not count."""
        reader = self._reader
        while True:
            before = reader.next_seq
            events = reader.read("latest")
            self.summary.add([event for event in events if until is None or event.seq < until])
            if reader.next_seq == before or (until is not None and reader.next_seq >= until):
                return

    def let_go(self) -> None:
        """Close the file; to read on opens it again."""
        self._reader.let_go()


_growing: OrderedDict[tuple[str, int], _Rest] = OrderedDict()


def size_of(folder: Path) -> int:
    """Return the size of the files in a folder in bytes; links are not followed.

    The summary of a run does not count.
    """
    total = 0
    waiting = [folder]
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except OSError:  # just removed
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(Path(entry.path))
                continue
            if entry.name == SUMMARY:
                continue
            try:
                total += entry.stat(follow_symlinks=False).st_size
            except FileNotFoundError:
                continue
    return total
