"""Selects a part of a recording: a stretch, and the events in it that pass the filters."""

import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple, get_args

from ..errors import UsageError
from ..event_kinds import EventKinds
from ..events import (
    Event,
    Hook,
    Media,
    Put,
    RunEnded,
    RunStarted,
    Stage,
    Unknown,
)
from ..log.codec import DecodedEvent

Unit = Literal["step", "epoch", "seq", "time"]
Seconds = Callable[[Event], float]

POINT_HELP = "step=N, epoch=N, seq=N, seq=ATTEMPT:N or time=1h30m"

_UNIT_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3}
_PART = r"(\d+(?:\.\d+)?)(ms|h|m|s)"
_ALWAYS = (RunStarted, RunEnded)


class Point(NamedTuple):
    """A place in a recording.

    Attributes:
        unit: what the value counts.
        value: optimizer steps or epochs completed, an event's number, or seconds since the run
            began.
        attempt: the attempt of an event's number.
    """

    unit: Unit
    value: float
    attempt: int = 0

    def __str__(self) -> str:
        if self.unit == "seq":
            return f"seq={self.attempt}:{int(self.value)}"
        return f"{self.unit}={self.value:.15g}{'s' if self.unit == 'time' else ''}"

    def is_reached(self, attempt: int, event: Event, seconds: Seconds) -> bool:
        """Return whether an event is at this place or after it.

        Args:
            attempt: the event's attempt.
            event: the event.
            seconds: returns when an event of an attempt was recorded, in s since the run began.
        """
        if self.unit == "step":
            return event.step >= self.value
        if self.unit == "epoch":
            return event.epoch >= self.value
        if self.unit == "seq":
            return (attempt, event.seq) >= (self.attempt, self.value)
        return seconds(event) >= self.value


def parse_point(what: str, given: str) -> Point:
    """Return a place as users write it: ``step=100``, ``epoch=2``, ``seq=1:4000``, ``time=1h30m``.

    Args:
        what: the argument's name, for errors.
        given: what the user wrote.

    Raises:
        UsageError: it is not a place.
    """
    unit, _, value = str(given).partition("=")
    try:
        if unit == "time":
            return Point("time", parse_seconds(value))
        if unit == "seq":
            attempt, _, seq = value.rpartition(":")
            return Point("seq", _whole(seq), _whole(attempt or "0"))
        if unit in ("step", "epoch"):
            return Point(unit, _whole(value))  # type: ignore[arg-type]
    except ValueError:
        pass
    raise UsageError(f"{what}={given!r}: expected {POINT_HELP}")


def parse_seconds(given: str) -> float:
    """Return a duration in s, written as ``90``, ``90s``, ``1h30m`` or ``250ms``.

    Raises:
        ValueError: it is not a duration.
    """
    if re.fullmatch(r"\d+(\.\d+)?", given):
        return float(given)
    if not re.fullmatch(f"({_PART})+", given):
        raise ValueError(given)
    return sum(float(amount) * _UNIT_S[unit] for amount, unit in re.findall(_PART, given))


def parse_range(
    what: str, given: str, parse: Callable[[str], float], example: str
) -> tuple[float, float]:
    """Return a range as users write it, including both ends.

    Forms are ``100..200``, ``100..``, ``..200`` and ``100``.

    Args:
        what: the argument's name, for errors.
        given: what the user wrote.
        parse: reads one end.
        example: a valid range, for errors.

    Raises:
        UsageError: it is not a range.
    """
    first, dots, last = str(given).partition("..")
    try:
        if not first and not last:
            raise ValueError(given)
        low = parse(first) if first else 0.0
        high = low if not dots else parse(last) if last else float("inf")
    except ValueError:
        raise UsageError(
            f"{what}={given!r}: expected {example}, where one end may be left out"
        ) from None
    if high < low:
        raise UsageError(f"{what}={given!r}: the end comes before the begin")
    return low, high


def _whole(text: str) -> int:
    if not re.fullmatch(r"\d+", text):
        raise ValueError(text)
    return int(text)


class Selection:
    """Selects a part of a recording.

    A filter applies only to events that have what it names: ``metrics`` does not filter hooks.
    RunStarted and RunEnded are always selected, because sinks need them to know the run.

    Args:
        start: the first place, in the form of ``parse_point``.
        until: the place before which it ends.
        events: types of events, or their names.
        hooks: shell patterns of hook names, such as ``on_train_*``.
        metrics: shell patterns of names of metrics and media.
        steps: optimizer steps, ``100..200``, both included.
        stages: train, validate, test, predict, sanity_check.
        times: since the run began, ``60s..90s``.

    Raises:
        UsageError: an argument is wrong.
    """

    def __init__(
        self,
        *,
        start: str | None = None,
        until: str | None = None,
        events: Sequence[str | type[Event]] = (),
        hooks: Sequence[str] = (),
        metrics: Sequence[str] = (),
        steps: str | None = None,
        stages: Sequence[Stage] = (),
        times: str | None = None,
    ) -> None:
        self.start = None if start is None else parse_point("start", start)
        self.until = None if until is None else parse_point("until", until)
        if self.start and self.until and _comes_before(self.until, self.start):
            raise UsageError(f"until={until!r} comes before start={start!r}: nothing is in between")
        self.kinds = EventKinds(
            _several("events", events), "events='{}': there is no such type of event"
        )
        self.hooks = _several("hooks", hooks)
        self.metrics = _several("metrics", metrics)
        self.stages = _several("stages", stages)
        unknown = [stage for stage in self.stages if stage not in get_args(Stage) or not stage]
        if unknown:
            known = ", ".join(stage for stage in get_args(Stage) if stage)
            raise UsageError(f"stages={unknown[0]!r}: there is no such stage; expected {known}")
        self.steps = None if steps is None else parse_range("steps", steps, _whole, "100..200")
        self.times = (
            None if times is None else parse_range("times", times, parse_seconds, "60s..1m30s")
        )
        self.filters = bool(
            self.kinds or self.hooks or self.metrics or self.stages or self.steps or self.times
        )

    @property
    def is_everything(self) -> bool:
        """True if nothing is left out."""
        return not (self.filters or self.start or self.until)


def _several(what: str, given: Sequence[Any]) -> tuple[Any, ...]:
    if isinstance(given, str):
        raise UsageError(f"{what}={given!r}: expected a list of them, as in {what}=[{given!r}]")
    return tuple(given)


def _comes_before(end: Point, begin: Point) -> bool:
    is_comparable = end.unit == begin.unit
    return is_comparable and (end.attempt, end.value) <= (begin.attempt, begin.value)


class Selector:
    """Selects events for one reader of a recording.

    Args:
        selection: the selected part.
        seconds: returns when an event of an attempt was recorded, in s since the run began.
        pass_over: called with the other events.

    Attributes:
        is_over: no later event can be selected.
    """

    def __init__(
        self,
        selection: Selection,
        seconds: Callable[[int, Event], float],
        pass_over: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self.is_over = False
        self._selection = selection
        self._seconds = seconds
        self._pass_over = pass_over
        self._has_begun = selection.start is None
        # Name -> whether a pattern matches it, so that each is tried once.
        self._metrics: dict[str, bool] = {}
        self._hooks: dict[str, bool] = {}

    def select(self, attempt: int, events: list[DecodedEvent]) -> list[DecodedEvent]:
        """Return the selected ones of an attempt's next events.

        Args:
            attempt: the attempt.
            events: the events, in order.
        """
        if self._selection.is_everything:
            return events
        selected: list[DecodedEvent] = []
        for event in events:
            if isinstance(event, Unknown):
                if self._has_begun and not self._selection.filters:
                    selected.append(event)
                continue
            if self._is_end(attempt, event):
                self.is_over = True
                break
            if self._is_wanted(attempt, event):
                selected.append(event)
            else:
                self._pass_over(event)
        return selected

    def _is_end(self, attempt: int, event: Event) -> bool:
        until = self._selection.until
        return (
            until is not None
            and self._has_begun
            and until.is_reached(attempt, event, lambda event: self._seconds(attempt, event))
        )

    def _is_wanted(self, attempt: int, event: Event) -> bool:
        if not self._has_begun:
            start = self._selection.start
            assert start is not None
            self._has_begun = start.is_reached(
                attempt, event, lambda event: self._seconds(attempt, event)
            )
        kind = type(event)
        if kind in _ALWAYS:
            return True
        return self._has_begun and (not self._selection.filters or self._passes(attempt, event))

    def _passes(self, attempt: int, event: Event) -> bool:
        selection = self._selection
        if (
            selection.metrics
            and isinstance(event, Put | Media)
            and not _matches(event.name, selection.metrics, self._metrics)
        ):
            return False
        if (
            selection.hooks
            and isinstance(event, Hook)
            and not _matches(event.name, selection.hooks, self._hooks)
        ):
            return False
        if selection.kinds and event not in selection.kinds:
            return False
        if selection.stages and event.stage not in selection.stages:
            return False
        if selection.steps is not None:
            low, high = selection.steps
            if not low <= event.step <= high:
                return False
        if selection.times is not None:
            low, high = selection.times
            if not low <= self._seconds(attempt, event) <= high:
                return False
        return True


def _matches(name: str, patterns: Sequence[str], known: dict[str, bool]) -> bool:
    found = known.get(name)
    if found is None:
        found = known[name] = any(fnmatchcase(name, pattern) for pattern in patterns)
    return found
