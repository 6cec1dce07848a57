"""One run as data: everything that it recorded, and what is noted about it."""

import html
import os
import time
from array import array
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from ..errors import LogFormatError
from ..event_kinds import EventKinds
from ..events import CheckpointSaved, Event, Media, Plain, PlainUserEvent, Unknown
from ..inspection.plots import XAxis, figure_of
from ..inspection.report import AttemptReport, HookReport, RunReport, summarise
from ..log.codec import DecodedEvent
from ..runs.cursor import RunReader
from ..runs.find_run import find_events
from ..runs.lineage import consistent_logs
from ..runs.run_folder import RunFolder
from ..runs.run_summary import RunSummary, read_summary
from ..shown_text import plain
from ..system.paths import from_here
from .frames import Columns, FramesOfColumns
from .html_curves import html_curves
from .series import MetricSeries
from .thinned_curve import ThinnedCurve
from .where import Condition, parse

Kinds = str | type[Event] | Iterable[str | type[Event]] | None


class SavedCheckpoint(msgspec.Struct, frozen=True):
    """A checkpoint of a run.

    Attributes:
        path: its folder.
        epoch, step: completed when it was saved.
        size_bytes: its size when it was saved.
        digest: blake2b-128 of its files.
        is_there: whether it still exists.
    """

    path: Path
    epoch: int
    step: int
    size_bytes: int
    digest: str
    is_there: bool


class Run(FramesOfColumns):
    """A run, recorded or going on, without torch. Nothing that it reads is changed.

    What is read is kept; ``refresh()`` has it read again, for a run that goes on.

    Args:
        path: the run's folder, or a file of last events.
        summary: the run in short, if it was read already.
    """

    def __init__(self, path: str | os.PathLike[str], summary: RunSummary | None = None) -> None:
        self.path = Path(path)
        if summary is not None:
            self.__dict__["summary"] = summary

    @cached_property
    def folder(self) -> RunFolder:
        """The run's folder; errors say what is wrong with it."""
        return find_events(str(self.path))

    @cached_property
    def summary(self) -> RunSummary:
        """The run in short."""
        return read_summary(self.path)

    @cached_property
    def report(self) -> RunReport:
        """What ``nightbus show`` says."""
        return summarise(self.folder)

    @cached_property
    def metrics(self) -> MetricSeries:
        """Metrics by name: all their values, with steps, epochs and times, as NumPy arrays."""
        return MetricSeries(self.folder)

    @cached_property
    def system(self) -> MetricSeries:
        """What process and machine used: ``machine/cpu_percent``, ``gpu0/memory_bytes``, ..."""
        return MetricSeries(self.folder, system=True)

    def system_of(self, rank: int) -> MetricSeries:
        """Return what another process of the run used, as ``system``.

        Args:
            rank: its rank.
        """
        return MetricSeries(self.folder, rank, system=True)

    def refresh(self) -> "Run":
        """Forget what was read, so that it is read again; return the run."""
        for name in ("folder", "summary", "report", "metrics", "system", "media", "checkpoints"):
            self.__dict__.pop(name, None)
        return self

    # -- what it says of itself --------------------------------------------------------------

    @property
    def id(self) -> str:
        """The name of its folder, which no other run has."""
        return self.summary.id

    @property
    def name(self) -> str:
        """What it is called."""
        return self.summary.name

    @property
    def tags(self) -> tuple[str, ...]:
        """Words to find it by."""
        return self.summary.tags

    @property
    def notes(self) -> str:
        """A text about it."""
        return self.summary.notes

    @property
    def group(self) -> str:
        """The runs that it belongs to, such as a sweep."""
        return self.summary.group

    @property
    def parent(self) -> str:
        """The id of the run whose checkpoint it began from; empty for none."""
        return self.summary.parent

    @property
    def ending(self) -> str:
        """How it ended: ``completed``, ``failed``, ``killed``, ..., or ``running``."""
        return self.summary.ending

    @property
    def hparams(self) -> dict[str, Plain]:
        """Hyperparameters of module and datamodule."""
        return self.summary.hparams

    @property
    def config(self) -> dict[str, Plain]:
        """The Trainer's arguments that differ from their defaults."""
        return self.summary.config

    @property
    def environment(self) -> dict[str, Plain]:
        """Process, machine and code: host, git.commit, gpus and others."""
        return self.summary.environment

    @property
    def versions(self) -> dict[str, str]:
        """Versions of Python and of the packages that were loaded."""
        return self.summary.versions

    @property
    def code_diff(self) -> str:
        """What was changed in its code since the commit; see ``Trainer(record_code_diff=True)``."""
        return self.folder.code_diff()

    # -- what it recorded --------------------------------------------------------------------

    @property
    def attempts(self) -> list[AttemptReport]:
        """Its attempts: when each began, how long it took, how it ended."""
        return self.report.attempts

    @property
    def hooks(self) -> dict[str, HookReport]:
        """How often each hook ran, and how long it took."""
        return self.report.hooks

    @cached_property
    def media(self) -> dict[str, list[Media]]:
        """Images, figures, histograms, texts and tables by name, with their bytes."""
        found: dict[str, list[Media]] = {}
        for event in self.events(Media):
            if isinstance(event, Media):
                found.setdefault(event.name, []).append(event)
        return found

    @cached_property
    def checkpoints(self) -> list[SavedCheckpoint]:
        """Its checkpoints, in the order in which they were saved."""
        saved = []
        for event in self.events(CheckpointSaved):
            if isinstance(event, CheckpointSaved):
                path = self.path / event.path
                what = (event.size_bytes, event.digest, path.exists())
                saved.append(SavedCheckpoint(path, event.epoch, event.step, *what))
        return saved

    def events(
        self, kind: Kinds = None, where: str = "", rank: int = 0
    ) -> Iterator[Event | Unknown]:
        """Yield its events in order, without superseded ones.

        Args:
            kind: types of events or their names, such as ``"Put"``; all if not given.
            where: a condition on their fields, such as ``"name == 'loss' and value > 3"``.
            rank: of which process.

        Raises:
            UsageError: there is no such type, or the condition is wrong.
            LogError: the log is damaged, or from a newer major version.
        """
        chosen = _Chosen(kind, where)
        return self._events(chosen, rank)

    def _events(self, chosen: "_Chosen", rank: int) -> Iterator[Event | Unknown]:
        reader = RunReader(consistent_logs(self.folder, rank))
        try:
            for event in reader.events("all" if chosen.has_hooks else "none"):
                if event in chosen:
                    yield event
        finally:
            reader.close()

    def follow(
        self, kind: Kinds = None, where: str = "", rank: int = 0, every_s: float = 0.1
    ) -> Iterator[Event | Unknown]:
        """Yield its events, and go on while the run does; ends with the run.

        Args:
            kind: types of events, as for ``events``.
            where: a condition, as for ``events``.
            rank: of which process.
            every_s: how long to wait for more, in seconds.

        Raises:
            UsageError: there is no such type, or the condition is wrong.
            LogError: the log is damaged, or from a newer major version.
        """
        chosen = _Chosen(kind, where)
        reader = RunReader(consistent_logs(self.folder, rank))
        try:
            while True:
                is_over = not self.folder.is_running()  # asked before the last events are read
                before = reader.position
                events = reader.read("all" if chosen.has_hooks else "none")
                for event in events:
                    if event in chosen:
                        yield event
                if reader.position == before and not events:
                    if is_over:
                        return
                    time.sleep(every_s)
        finally:
            reader.close()

    # -- for tables and figures --------------------------------------------------------------

    def columns(self) -> Columns:
        """Return the values of all metrics, a row each, as columns of one length."""
        names = ("metric", "step", "epoch", "time", "wall", "value")
        columns: Columns = {name: [] for name in names}
        for name, curve in self.metrics.curves().items():
            columns["metric"].extend([name] * len(curve))
            parts: tuple[array[Any], ...] = (
                curve.steps,
                curve.epochs,
                curve.times,
                curve.walls,
                curve.values,
            )
            for column, values in zip(names[1:], parts, strict=True):
                columns[column].extend(values.tolist())
        return columns

    def plot(self, *metrics: str, x: XAxis = "step") -> Any:
        """Return a figure of matplotlib with a plot of each metric.

        Args:
            *metrics: which ones; all if none are given.
            x: the axis: ``step``, ``epoch``, ``time`` or ``wall``.

        Raises:
            MissingPackageError: matplotlib is missing.
            UnknownMetricError: the run has no such metric.
        """
        for name in metrics:
            self.metrics[name]
        curves = self.metrics.curves()
        return figure_of({self.id: curves}, list(metrics) or list(curves), x)

    def __repr__(self) -> str:
        """Return its id, how it ended, and its metrics' last values."""
        run = self.summary
        shown = [f"{name}={total.last:.4g}" for name, total in list(run.metrics.items())[:3]]
        return (
            f"<Run {run.id}: {run.ending}, {run.steps} steps, {', '.join(shown) or 'no metrics'}>"
        )

    def __rich__(self) -> Any:
        """Return its hyperparameters and its metrics' last values as a table of rich."""
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(plain(self.id)), show_header=False)
        for name, value in self._shown().items():
            table.add_row(Text(plain(name)), Text(plain(str(value))))
        return table

    def _shown(self) -> dict[str, Any]:
        run = self.summary
        rows = {"ending": run.ending, "steps": run.steps, **run.hparams}
        return rows | {name: f"{total.last:.6g}" for name, total in run.metrics.items()}

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><th>{html.escape(str(name))}</th><td>{html.escape(str(value))}</td></tr>"
            for name, value in self._shown().items()
        )
        table = f"<table><caption>{html.escape(self.id)}</caption>{cells}</table>"
        thinned: dict[str, ThinnedCurve] = {}
        for name, curve in self.metrics.curves().items():
            shown = thinned[name] = ThinnedCurve()
            for value in curve.values:
                shown.add(value)
        where = html.escape(str(from_here(self.path)))
        link = f'<p><a href="{where}">{where}</a></p>'
        return f"{table}{html_curves(thinned)}{link}"


class _Chosen:
    """Which events are wanted."""

    def __init__(self, kind: Kinds, where: str) -> None:
        given = [kind] if isinstance(kind, str | type) else list(kind or ())
        self._kinds = EventKinds(given, "there is no type of events {}")
        self._condition: Condition | None = parse(where) if where else None

    @property
    def has_hooks(self) -> bool:
        return not self._kinds or self._kinds.has_hooks

    def __contains__(self, event: DecodedEvent) -> bool:
        if self._kinds and event not in self._kinds:
            return False
        return self._condition is None or self._condition(lambda name: _field(event, name))


def _field(event: DecodedEvent, name: str) -> Any:
    if name in event.__struct_fields__:
        return getattr(event, name)
    if isinstance(event, PlainUserEvent):
        try:
            return event.fields.get(name)
        except LogFormatError:  # its fields cannot be read
            return None
    return None
