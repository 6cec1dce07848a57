"""Checks that a recording has what a replay names, before any observer gets an event."""

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase

from ..errors import NotRecorded
from ..events import Event, Hook, Media, Put
from ..log.codec import HookSelection
from ..runs.cursor import AttemptLog, RunReader
from .selection import Selection

MAX_NAMES_LISTED = 12
Seconds = Callable[[int, Event], float]


class _Stretch:
    """The content of a stretch of a recording.

    Attributes:
        has_begun: its first place was reached.
        has_steps, has_times: part of it is within the selected steps and times.
        last: its last event, with the attempt.
    """

    def __init__(self, selection: Selection, seconds: Seconds) -> None:
        self.has_begun = selection.start is None
        self.has_steps = selection.steps is None
        self.has_times = selection.times is None
        self.metrics: set[str] = set()
        self.media: set[str] = set()
        self.hooks: set[str] = set()
        self.stages: set[str] = set()
        self.has_kinds = False
        self.last: tuple[int, Event] | None = None
        self._selection = selection
        self._seconds = seconds

    def take(self, attempt: int, event: Event) -> bool:
        """Include an event; return whether the stretch continues."""
        selection = self._selection

        def seconds(event: Event) -> float:
            return self._seconds(attempt, event)

        until = selection.until
        if self.has_begun and until is not None and until.is_reached(attempt, event, seconds):
            return False
        self.last = (attempt, event)
        if not self.has_begun:
            assert selection.start is not None
            self.has_begun = selection.start.is_reached(attempt, event, seconds)
            if not self.has_begun:
                return True
        self.has_kinds = self.has_kinds or event in selection.kinds
        self.stages.add(event.stage)
        if isinstance(event, Put):
            self.metrics.add(event.name)
        elif isinstance(event, Media):
            self.media.add(event.name)
        elif isinstance(event, Hook):
            self.hooks.add(event.name)
        if selection.steps is not None and not self.has_steps:
            self.has_steps = selection.steps[0] <= event.step <= selection.steps[1]
        if selection.times is not None and not self.has_times:
            self.has_times = selection.times[0] <= seconds(event) <= selection.times[1]
        return True

    def has_all(self, listened_for: Iterable[str]) -> bool:
        """Return whether everything that is named was found, so that the rest need not be read."""
        selection = self._selection
        return (
            self.has_begun
            and self.has_steps
            and self.has_times
            and _matches(selection.metrics, self.metrics | self.media)
            and _matches(selection.hooks, self.hooks)
            and (not selection.stages or not self.stages.isdisjoint(selection.stages))
            and (not selection.kinds or self.has_kinds)
            and self.metrics.issuperset(listened_for)
        )

    def end(self) -> str:
        """Return where the recording ends."""
        if self.last is None:
            return "no events"
        attempt, event = self.last
        return (
            f"places up to step={event.step}, epoch={event.epoch}, seq={attempt}:{event.seq}, "
            f"time={self._seconds(attempt, event):.1f}s"
        )


def check_what_is_named(
    logs: Sequence[AttemptLog], selection: Selection, seconds: Seconds, listeners: dict[str, str]
) -> list[str]:
    """Check that a recording has what a selection names, reading as little as possible.

    Args:
        logs: the attempts that are read.
        selection: the stretch and the filters.
        seconds: when an event of an attempt was recorded, since the run began.
        listeners: metric that a handler waits for -> the handler, for people.

    Returns:
        Notes about what may be intended: types of events and stages that are missing, and handlers
        of metrics that are missing.

    Raises:
        NotRecorded: a place, a metric or a hook is missing.
    """
    if selection.is_everything and not listeners:
        return []
    # Hooks are most of a recording, so they are read only if something is not found without them.
    needs_hooks = bool(selection.hooks) or selection.kinds.has_hooks
    for hooks in ("all",) if needs_hooks else ("none", "all"):
        stretch = _read(logs, selection, seconds, listeners, hooks)  # type: ignore[arg-type]
        if stretch.has_all(()) or selection.is_everything:
            break
    _refuse_what_is_missing(selection, stretch)
    return _notes(selection, stretch, listeners)


def _read(
    logs: Sequence[AttemptLog],
    selection: Selection,
    seconds: Seconds,
    listeners: Iterable[str],
    hooks: HookSelection,
) -> _Stretch:
    stretch = _Stretch(selection, seconds)
    reader = RunReader(logs)
    try:
        before = None
        while before != reader.position:
            before = reader.position
            events = reader.read(hooks)
            attempt = reader.position.attempt
            for event in events:
                if isinstance(event, Event) and not stretch.take(attempt, event):
                    return stretch
            if stretch.has_all(listeners):
                return stretch
    finally:
        reader.close()
    return stretch


def _refuse_what_is_missing(selection: Selection, stretch: _Stretch) -> None:
    if not stretch.has_begun:
        raise NotRecorded(str(selection.start), "this run", [stretch.end()])
    if not stretch.has_steps:
        raise NotRecorded(_range(selection.steps), "the steps of this run", [stretch.end()])
    if not stretch.has_times:
        raise NotRecorded(_range(selection.times), "the seconds of this run", [stretch.end()])
    metrics = stretch.metrics | stretch.media
    for what, patterns, names in (
        ("metric", selection.metrics, metrics),
        ("hook", selection.hooks, stretch.hooks),
    ):
        if not _matches(patterns, names):
            owner = f"the {what}s of this stretch of the run"
            raise NotRecorded(" or ".join(patterns), owner, sorted(names))


def _notes(selection: Selection, stretch: _Stretch, listeners: dict[str, str]) -> list[str]:
    notes = []
    stages = stretch.stages - {""}
    if selection.stages and stages.isdisjoint(selection.stages):
        wanted, there = ", ".join(selection.stages), ", ".join(sorted(stages)) or "none"
        notes.append(f"this stretch of the run has no stage {wanted}; its stages are: {there}")
    if selection.kinds and not stretch.has_kinds:
        kinds = " or ".join(selection.kinds.names)
        notes.append(f"this stretch of the run has no events of the type {kinds}")
    for metric, handler in listeners.items():
        if metric not in stretch.metrics:
            names = sorted(stretch.metrics)
            shown = ", ".join(names[:MAX_NAMES_LISTED]) or "none"
            more = f" and {len(names) - MAX_NAMES_LISTED} more"
            shown += more if len(names) > MAX_NAMES_LISTED else ""
            notes.append(
                f"{handler} waits for the metric {metric!r}, which this stretch of the run has "
                f"not; its metrics are: {shown}"
            )
    return notes


def _matches(patterns: Sequence[str], names: Iterable[str]) -> bool:
    return not patterns or any(fnmatchcase(name, p) for name in names for p in patterns)


def _range(given: tuple[float, float] | None) -> str:
    assert given is not None
    low, high = given
    return f"{low:g}.." if high == float("inf") else f"{low:g}..{high:g}"
