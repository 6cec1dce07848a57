"""What a run went through besides metrics, media and hooks: kept as its log is read, bounded."""

import sys
from bisect import bisect_right
from collections import deque
from typing import Any

from ...bus.events import (
    ActorBacklogs,
    ActorRestarted,
    ActorStarted,
    ActorStopped,
    ActorTotals,
    CheckpointSaved,
    CommandTaken,
    ConsoleLine,
    DeadLetter,
    Fault,
    LoopEnded,
    LoopStarted,
    RunEnded,
    RunStarted,
    SystemMetrics,
)
from ...bus.log.codec import DecodedEvent
from .evenly_many import EvenlyMany
from .past_loops import PastLoops
from .plain_values import plain

MAX_EVENTS = 1_000  # of a kind: the last ones
MAX_LINES = 2_000  # of the console: the last ones
MAX_LINE = 1_000  # characters
MAX_SAMPLES = 1_000  # of the system, or of backlogs; then every so many-th stays
MAX_ACTORS = 200
_ACTORS = (ActorStarted, ActorRestarted, ActorStopped, ActorTotals)
_HAPPENED = {
    RunStarted: "attempt",
    Fault: "fault",
    CheckpointSaved: "checkpoint",
    CommandTaken: "command",
    DeadLetter: "dead letter",
    RunEnded: "end",
}
_LINE_BYTES, _SAID_BYTES, _CHANGE_BYTES, _VALUE_BYTES, _SPAN_BYTES = (
    150,
    500,
    500,
    100,
    150,
)  # about
Line = tuple[float, str, str]


class Samples(EvenlyMany[tuple[float, Any]]):
    """What was read at intervals: when, and what."""

    def at(self, time_s: float) -> Any:
        """Return the last values before a time; None if there are none.

        Args:
            time_s: the time.
        """
        kept = self.kept[:]
        until = bisect_right(kept, time_s, key=lambda sample: sample[0])
        return kept[until - 1][1] if until else None


class History:
    """What happened in a run, and when, in seconds since it began.

    Attributes:
        last_s: the last event.
        happened: of each kind, when and in what words.
        actors: by name, what became of each.
        loops: which ran when.
        lines: what the process printed.
        has_more_lines: some were let go.
        samples: what process and machine used, by name.
        backlogs: how many events and commands wait for actors: two dicts by name.
    """

    def __init__(self) -> None:
        self.last_s = 0.0
        self.happened: dict[str, deque[tuple[float, dict[str, Any]]]] = {}
        self.actors: dict[str, list[tuple[float, dict[str, Any]]]] = {}
        self.loops = PastLoops()
        self.lines: deque[Line] = deque(maxlen=MAX_LINES)
        self.has_more_lines = False
        self.samples, self.backlogs = Samples(MAX_SAMPLES), Samples(MAX_SAMPLES)
        self._text_bytes = 0  # of lines, and of what happened

    @property
    def size_bytes(self) -> int:
        """Memory that it takes, about."""
        values = 0
        if self.samples.kept:
            values += len(self.samples.kept) * len(self.samples.kept[-1][1])
        if self.backlogs.kept:
            lag, waiting = self.backlogs.kept[-1][1]
            values += len(self.backlogs.kept) * (len(lag) + len(waiting) + 1)
        changes = sum(len(its) for its in list(self.actors.values()))
        return (
            self._text_bytes
            + values * _VALUE_BYTES
            + changes * _CHANGE_BYTES
            + len(self.loops) * _SPAN_BYTES
        )

    def take(self, event: DecodedEvent, time_s: float) -> None:
        """Keep what belongs here.

        Args:
            event: what was read.
            time_s: when it was recorded.
        """
        self.last_s = max(self.last_s, time_s)
        if type(event) is ConsoleLine:
            self.has_more_lines |= len(self.lines) == MAX_LINES
            if len(self.lines) == MAX_LINES:
                self._text_bytes -= _line_bytes(self.lines[0])
            self.lines.append((time_s, event.stream, plain(event.text[:MAX_LINE])))
            self._text_bytes += _line_bytes(self.lines[-1])
        elif type(event) is SystemMetrics:
            self.samples.add((time_s, event.values))
        elif type(event) is ActorBacklogs:
            self.backlogs.add((time_s, (event.lag, event.waiting)))
        elif type(event) is LoopStarted:
            self.loops.begin(plain(event.source), event.total, plain(event.unit), time_s)
        elif type(event) is LoopEnded:
            self.loops.end(plain(event.source), time_s)
        elif isinstance(event, _ACTORS):
            self._take_actor(event, time_s)
        elif (kind := _HAPPENED.get(type(event))) is not None:
            its = self.happened.setdefault(kind, deque(maxlen=MAX_EVENTS))
            if len(its) == MAX_EVENTS:
                self._text_bytes -= _said_bytes(its[0][1])
            its.append((time_s, _said(event)))
            self._text_bytes += _said_bytes(its[-1][1])
            if type(event) in (RunStarted, RunEnded):
                self.loops.end_all(time_s)

    def _take_actor(self, event: Any, time_s: float) -> None:
        its = self.actors.get(event.source)
        if its is None:
            if len(self.actors) >= MAX_ACTORS:
                return
            its = self.actors[event.source] = []
        if len(its) < MAX_EVENTS:
            its.append((time_s, _actor(event)))


def _line_bytes(line: Line) -> int:
    return sys.getsizeof(line[2]) + _LINE_BYTES


def _said_bytes(said: dict[str, Any]) -> int:
    return sys.getsizeof(said["words"]) + _SAID_BYTES


def _actor(event: Any) -> dict[str, Any]:
    if type(event) is ActorStarted:
        return {"kind": plain(event.kind), "state": "running"}
    if type(event) is ActorRestarted:
        return {"state": "restarting", "restarts": event.restarts}
    if type(event) is ActorStopped:
        return {"state": "stopped", "reason": plain(event.reason)}
    return {
        "kind": plain(event.kind),
        "state": event.state,
        "events": event.events,
        "lag": event.lag,
        "restarts": event.restarts,
        "faults": event.faults,
        "sent": event.sent,
        "dropped": event.dropped,
        "dead": event.dead,
        "most_waiting": event.most_waiting,
    }


def _said(event: Any) -> dict[str, Any]:
    """Return an event for people: its words, and where in training it was."""
    where = {"epoch": plain(event.epoch), "step": plain(event.step)}
    if type(event) is RunStarted:
        words = f"attempt {event.attempt} begins: {event.fn}"
    elif type(event) is Fault:
        words = f"{event.error}: {event.message} (in {event.hook or event.source or 'the run'})"
    elif type(event) is CheckpointSaved:
        return {**where, "words": plain(event.path), "size_bytes": plain(event.size_bytes)}
    elif type(event) is CommandTaken:
        words = f"{event.target or 'the run'} took {event.command} {event.arguments}"
    elif type(event) is DeadLetter:
        words = f"{event.command} to {event.target} was not delivered: {event.reason}"
    else:
        words = f"{event.how} {event.reason}".strip()
    return {**where, "words": plain(words[:MAX_LINE])}
