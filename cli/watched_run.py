"""WatchedRun: what a run does, from its log, for a view that goes on; recorded or going on."""

from collections import Counter, deque
from typing import NamedTuple

from ..bus.events import (
    ActorRestarted,
    ActorStarted,
    ActorStopped,
    ActorTotals,
    CommandTaken,
    ConsoleLine,
    DeadLetter,
    Fault,
    Hook,
    Put,
    RunEnded,
    RunStarted,
)
from ..bus.library.thinned_curve import ThinnedCurve
from ..bus.log.codec import DecodedEvent
from ..bus.runs.cursor import RunReader
from ..bus.runs.lineage import consistent_logs
from ..bus.runs.run_folder import RunFolder
from ..sinks.progress_view import ProgressView

MAX_CONSOLE_LINES = 500
READ_BYTES = 4 << 20  # of the log, between two pictures


class HookTime(NamedTuple):
    """How often a hook ran, and how long it took together; hooks nest."""

    name: str
    calls: int
    total_ns: int


class WatchedActor:
    """An actor on the bus thread, or one that was sent commands.

    Attributes:
        name, kind: its address and its class.
        state: what became of it.
        next_seq: the first event that it has not handled, as far as the log says.
        restarts, faults, commands, dead: counts.
        totals: what it recorded at the end; None before.
    """

    def __init__(self, name: str) -> None:
        self.name, self.kind, self.state = name, "", "running"
        self.restarts = self.faults = self.commands = self.dead = 0
        self.totals: ActorTotals | None = None


class WatchedRun:
    """What a run does.

    Args:
        folder: the run.

    Attributes:
        progress: where it is, as the progress bar shows it.
        curves: metrics by name.
        actors: by name.
        console: the last lines that it printed, or what else is worth a line.
        lines: number of all these lines.
        ended: how it ended; None while it goes on.
        is_caught_up: everything that there was is read.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._begin()

    def _begin(self) -> None:
        self._attempts = self.folder.attempts()
        self._reader = RunReader(consistent_logs(self.folder))
        self.progress = ProgressView()
        self.curves: dict[str, ThinnedCurve] = {}
        self.actors: dict[str, WatchedActor] = {}
        self.console: deque[str] = deque(maxlen=MAX_CONSOLE_LINES)
        self.lines = 0
        self.ended: RunEnded | None = None
        self.started: RunStarted | None = None
        self.is_caught_up = False
        self.now_ns = 0
        self._counts: Counter[str] = Counter()
        self._times_ns: Counter[str] = Counter()

    def read_on(self) -> bool:
        """Read what is new, at most a few megabytes; return whether there was anything.

        An attempt that has begun meanwhile may supersede some of it: all is read again then.
        """
        if self.folder.attempts() != self._attempts:
            self.close()
            self._begin()
        before = self._reader.position
        events = self._reader.read("all", READ_BYTES)
        for event in events:
            self._take(event)
        moved = bool(events) or self._reader.position != before
        self.is_caught_up = self.is_caught_up or not moved
        return moved

    def close(self) -> None:
        """Close the files."""
        self._reader.close()

    @property
    def seq(self) -> int:
        """The number of events read of the last attempt."""
        return self._reader.position.seq

    @property
    def attempt(self) -> int:
        """The number of the attempt that is read."""
        return self._reader.position.attempt

    @property
    def hooks(self) -> list[HookTime]:
        """The hooks, those that took longest first."""
        return [HookTime(name, self._counts[name], ns) for name, ns in self._times_ns.most_common()]

    @property
    def elapsed_s(self) -> float:
        """How long the last attempt has taken up to its last event, in seconds."""
        return 0.0 if self.started is None else (self.now_ns - self.started.time_ns) / 1e9

    def _take(self, event: DecodedEvent) -> None:
        self.now_ns = getattr(event, "time_ns", self.now_ns)
        match event:
            case Hook():
                self._counts[event.name] += 1
                self._times_ns[event.name] += event.duration_ns
            case Put():
                self.curves.setdefault(event.name, ThinnedCurve()).add(event.value)
            case RunStarted():
                self.progress, self.started, self.ended = ProgressView(), event, None
            case RunEnded():
                self.ended = event
            case ConsoleLine():
                self._say(event.text)
            case Fault():
                self._say(f"{event.source}: {event.error}: {event.message}")
                self._actor(event.source, self.actors).faults += 1
            case _:
                self._take_of_actor(event)
        self.progress.take(event)

    def _say(self, line: str) -> None:
        self.console.append(line)
        self.lines += 1

    def _take_of_actor(self, event: DecodedEvent) -> None:
        match event:
            case ActorStarted():
                self._actor(event.source).kind = event.kind
                self._actor(event.source).state = "running"
            case ActorRestarted():
                self._actor(event.source).restarts = event.restarts
            case ActorStopped():
                self._actor(event.source).state = "stopped"
            case CommandTaken():
                self._actor(event.target).commands += 1
            case DeadLetter():
                self._actor(event.target).dead += 1
            case ActorTotals():
                actor = self._actor(event.source)
                actor.totals, actor.kind, actor.state = event, event.kind, event.state

    def _actor(self, name: str, known: "dict[str, WatchedActor] | None" = None) -> WatchedActor:
        if known is not None and name not in known:  # a fault of the module is no actor's
            return WatchedActor(name)
        return self.actors.setdefault(name, WatchedActor(name))
