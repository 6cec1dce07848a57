"""Delivers a recorded run to actors and sinks."""

import math
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
import trio

from ..actor import Actor, actor_name
from ..errors import (
    NightbusError,
    NobodyInReplayError,
    NotRecorded,
    UsageError,
)
from ..events import Command, Event, Plain, Put, RunStarted, Stage, Stop, UserEvent
from ..inspection.report import summarise
from ..log.reader import EndKind, LogReader
from ..mail.mailbox import Told, Undelivered
from ..mail.reply import Reply
from ..media import EncodedMedia
from ..named_types import label_of
from ..observer import Observer, text_of
from ..own_names import refuse_taken_names
from ..runs.cursor import AttemptLog, CursorFile, Position, RunReader, attempt_logs
from ..runs.find_run import find_events
from ..runs.flight_file import FlightFile
from ..runs.lineage import Timeline, consistent_logs
from ..runs.resume_cursor import go_on, states_of_others
from ..runs.run_folder import RunFolder
from ..statistics import ActorStatistics, BusStatistics
from ..subscription import subscriptions_of
from ..system.paths import as_path
from ..system.streams import notify_user
from ..user_events import decoded_user_event, encode_user_event
from .check import check_what_is_named
from .merged_reader import MergedRunReader
from .missing_events import missing_events
from .observer import ReplayObserver
from .pace import ClockName, Jumping, Waiting, parse_rate
from .recorded_hook import replay_table
from .recorded_trainer import CallbackTable, RecordedTrainer
from .selection import Selection


class ReplayError(NightbusError):
    """An actor or sink failed in replay; the recorded run is not changed."""


class ToldCommand(msgspec.Struct, frozen=True):
    """A command that an actor sent in replay, where no actor acts on it.

    Attributes:
        sender: the actor.
        target: the actor it was sent to.
        command: the command.
        at: the event that the sender was handling.
        epoch, step: the place of that event.
        asked: it was sent with ``ask``; there was no reply, and a handler that does not catch
            DeliveryError ended there.
    """

    sender: str
    target: str
    command: Command
    at: Position
    epoch: int
    step: int
    asked: bool = False


class Replayed(msgspec.Struct):
    """Result of ``replay``.

    Attributes:
        events: number of events read for each actor or sink, by its name.
        commands: commands that actors sent, in order; for example where a rule would have stopped
            the run.
        puts: metrics that actors put, as (actor, name, value); for images and the like, the value
            is their kind and bytes.
        emitted: events of their own that actors emitted, as (actor, event).
        unclean: why the recording ends early; empty if the run ended properly.
        missing: number of events missing in the recording, because they could not be written or
            are no longer there.
    """

    events: dict[str, int]
    commands: list[ToldCommand]
    puts: list[tuple[str, str, Any]]
    unclean: str
    missing: int = 0
    emitted: list[tuple[str, UserEvent]] = []


class _Emitted(NamedTuple):
    """What an actor put, with the event that it was handling."""

    at: Position
    source: str
    name: str
    value: Any


class _ReplayHost:
    """Runs observers over a finished log, or a growing one.

    Args:
        run: the run.
        follow: continue until the run has ended.
        all_attempts: also read superseded events.
        rank: of which process; ``all`` for all in one.
    """

    def __init__(
        self, run: RunFolder, follow: bool, all_attempts: bool, rank: int | Literal["all"] = 0
    ) -> None:
        self.run = run
        self.rank = rank
        self._attempts = run.attempts() if follow else []
        self._all_attempts = all_attempts
        self.run_path = run.path
        self.commands: list[ToldCommand] = []
        self.puts: list[_Emitted] = []
        self.emitted: list[_Emitted] = []
        self.observers: dict[str, ReplayObserver] = {}
        self.timeline = Timeline(self.logs())

    def logs(self, rank: int | None = None) -> list[AttemptLog]:
        """Return the logs of the attempts that are read; of all ranks in one, rank 0's.

        Args:
            rank: of this one.
        """
        if rank is None:
            rank = self.ranks()[0]
        if self._all_attempts:
            return attempt_logs(self.run, rank)
        return consistent_logs(self.run, rank)

    def ranks(self) -> list[int]:
        """Return the ranks whose logs are read."""
        if self.rank != "all":
            return [self.rank]
        return sorted({rank for attempt in self.run.attempts() for rank in self.run.ranks(attempt)})

    def emit(self, kind: type[Event], *fields: Any, source: str = "") -> None:
        """Record nothing: failures of observers are raised at the end."""

    def open_reader(self, start: Position) -> RunReader:
        if self.rank == "all":
            return MergedRunReader(self.run, self._all_attempts)
        return RunReader(self.logs(), start)

    def is_closing(self, observer: Observer) -> bool:
        return not any(self.run.is_being_written(attempt) for attempt in self._attempts)

    async def pause(self, observer: Observer, seconds: float) -> None:
        await trio.sleep(seconds)

    def stop_run(self, reason: str) -> None:
        """Do nothing: there is no run to stop, and the fault is raised at the end."""

    def make_dead_letter(self, undelivered: Undelivered) -> None:
        undelivered.fail_reply()

    def statistics(self) -> BusStatistics:
        """Return what the actors have read so far; there are no other counts."""
        actors = {
            name: ActorStatistics(observer.mailbox.statistics(), observer.statistics(0, 0))
            for name, observer in self.observers.items()
        }
        return BusStatistics(actors, None, len(self.commands), len(self.commands))

    @property
    def ending(self) -> None:
        """None: whatever happens is recorded already."""

    def progress(self) -> object:
        """Return None: nothing trains."""
        return None

    def post(self, target: str, command: Command, sender: str, reply: Reply | None) -> Told:
        at = self._place_of(sender)
        observer = self.observers.get(sender)
        epoch, step = (0, 0) if observer is None else observer.epoch_and_step
        asked = reply is not None
        self.commands.append(ToldCommand(sender, target, command, at, epoch, step, asked))
        if reply is not None:
            reply.fail(NobodyInReplayError(target, label_of(type(command))))
        return Told()

    def put(
        self, source: str, name: str, value: object, destinations: Sequence[str] | None
    ) -> None:
        self.puts.append(_Emitted(self._place_of(source), source, name, value))

    def put_media(
        self, source: str, name: str, media: EncodedMedia, destinations: Sequence[str] | None
    ) -> None:
        self.puts.append(_Emitted(self._place_of(source), source, name, media))

    def emit_user_event(self, source: str, event: UserEvent) -> None:
        name, data = encode_user_event(event)  # refused as in a live run
        made = decoded_user_event(type(event), data) or event
        self.emitted.append(_Emitted(self._place_of(source), source, name, made))

    def _place_of(self, name: str) -> Position:
        return self.observers[name].position if name in self.observers else Position(0, 0)


def replay(
    run: str | os.PathLike[str] | RunFolder,
    *,
    actors: Actor | Iterable[Actor] = (),
    sinks: Actor | Callable[[Any], Any] | Iterable[Actor | Callable[[Any], Any]] = (),
    rate: float | str = "max",
    clock: ClockName | None = None,
    start: str | None = None,
    until: str | None = None,
    events: Sequence[str | type[Event]] = (),
    hooks: Sequence[str] = (),
    metrics: Sequence[str] = (),
    steps: str | None = None,
    stages: Sequence[Stage] = (),
    times: str | None = None,
    all_attempts: bool = False,
    resume: bool = False,
    follow: bool = False,
    cursors: str | os.PathLike[str] | None = None,
    allow_network: bool = False,
    rank: int | Literal["all"] = 0,
) -> Replayed:
    """Deliver a recorded run to actors and sinks, as if it happened now.

    No model and no data are needed, and torch is not loaded. Plain methods that subscribe to
    hooks get the recorded event; live objects raise NotRecorded. A callback's hook methods get a
    trainer with ``callback_metrics``, ``current_epoch`` and ``global_step``; where the callback
    sets ``should_stop``, the result has a Stop command, and no more hooks are called.

    Only sinks write; what actors put and tell is in the result. An ``ask`` gets no reply: it
    raises NobodyInReplayError, which ends a handler that does not catch it, and the replay
    continues.

    Places are written ``step=100``, ``epoch=2``, ``seq=4000`` (of attempt 0; ``seq=1:4000`` of
    attempt 1) or ``time=1h30m`` (since the run began; time between attempts does not count).
    A filter applies only to events that have what it names: ``metrics`` does not filter hooks. A
    callback's trainer also reflects events that were left out. RunStarted and RunEnded are always
    delivered.

    Args:
        run: the run's folder or anything inside it; or below ./runs its id, the beginning of its
            id, its name, or ``last`` for the run started or resumed last; or a file of last events.
        actors: one or several actors.
        sinks: one or several sinks, each with its own destination. A function is called with each
            put.
        rate: ``max``, as fast as possible; ``realtime``; or a multiple of the recorded rate, such
            as 10 or ``x0.5``.
        clock: ``recorded``: for actors, trio's clock and ``nightbus.monotonic`` show when events
            were recorded, in seconds since the run began; ``wall``: the machine's clock, as for
            sinks at the rate ``max``, and by default with ``follow``.
        start: the first place.
        until: the place before which to end.
        events: only these types of events, or names of types.
        hooks: only hooks whose names match one of these patterns, such as ``on_train_*``.
        metrics: only metrics and media whose names match one of these patterns.
        steps: only events of these optimizer steps, ``100..200`` with both ends.
        stages: only events of these stages: train, validate, test, predict, sanity_check.
        times: only events recorded within this time since the run began, ``60s..1m30s``.
        all_attempts: also deliver superseded events of a resumed run.
        resume: sinks continue where they were when the run ended, instead of from its start; if
            the run was resumed meanwhile, they take back superseded events, as they do live.
        follow: also deliver what a run in another process records until it ends. Only its log is
            read; the run is not slowed.
        cursors: a folder outside the run for the positions of ``sinks``, so that a later replay
            continues from there. It is empty once everything is delivered.
        allow_network: allow sinks and actors that send data to other machines, such as MLflow with
            a server and W&B online.
        rank: of several ranks, whose log is delivered; ``all`` for all in one, in the order of
            rank 0's clock, to actors alone.

    Returns:
        What the actors sent and put, and how much was read.

    Raises:
        UsageError: an argument is wrong or contradicts another; or a sink or actor sends to other
            machines, without ``allow_network``. Nothing was read.
        RunFolderError: there is no such run.
        LogError: its log cannot be read.
        NotRecorded: something named in an argument is not in the log.
        ReplayError: an actor or sink failed; the message names its exception.
    """
    speed = parse_rate(rate)
    selection = Selection(
        start=start,
        until=until,
        events=events,
        hooks=hooks,
        metrics=metrics,
        steps=steps,
        stages=stages,
        times=times,
    )
    if clock not in (None, "recorded", "wall"):
        raise UsageError(f"clock={clock!r}: expected recorded or wall")
    _check_together(selection, speed, clock, resume, follow, cursors is not None)
    folder = run if isinstance(run, RunFolder) else find_events(os.fspath(run))
    _check_rank(folder, rank, bool(several(sinks)) or resume, follow)
    host = _ReplayHost(folder, follow, all_attempts, rank)
    destinations = [_checked("sinks", sink) for sink in several(sinks)]
    everyone = [*(_checked("actors", actor) for actor in several(actors)), *destinations]
    if not allow_network:
        _refuse_network(everyone)
    _name_everyone(everyone, host)
    listeners = _listeners(everyone)
    if not follow:  # before sinks open, so that a wrong call leaves no files
        _warn(_check_what_is_named(host, selection, listeners))
    files = _cursor_files(folder, everyone, destinations, resume, cursors)
    observers = [
        _observer(host, actor, selection, files.get(actor_name(actor)), resume)
        for actor in everyone
    ]
    clock = clock or ("wall" if follow else "recorded")
    if speed == math.inf:
        _run_at_full_speed(observers, clock)
    else:
        _run_in_time(observers, Waiting(speed, _begin_s(host, selection), clock), clock)
    _raise_failures(observers)
    if follow:  # until now, it might have been recorded
        _warn(_check_what_is_named(host, selection, listeners))
    if cursors is not None:
        for file in files.values():
            file.path.unlink(missing_ok=True)
    return _result(host, folder, observers)


def _cursor_files(
    folder: RunFolder,
    everyone: Sequence[Actor],
    destinations: Sequence[Actor],
    resume: bool,
    cursors: str | os.PathLike[str] | None,
) -> dict[str, CursorFile]:
    """Return where positions are committed, by the names of actors."""
    if resume:
        return {actor_name(actor): CursorFile(folder, actor_name(actor)) for actor in everyone}
    if cursors is not None:
        names = [actor_name(sink) for sink in destinations]
        return {name: CursorFile(folder, name, as_path(cursors)) for name in names}
    return {}


def _result(
    host: "_ReplayHost", folder: RunFolder, observers: Sequence[ReplayObserver]
) -> Replayed:
    """Return what the actors sent and put, in the order of the recording."""
    counts = {observer.name: observer.events_read for observer in observers}
    order = {name: number for number, name in enumerate(counts)}
    # The scheduler decides who reads first; the result is in the order of the recording.
    host.commands.sort(key=lambda told: (told.at, order[told.sender]))
    host.puts.sort(key=lambda put: (put.at, order[put.source]))
    host.emitted.sort(key=lambda emitted: (emitted.at, order[emitted.source]))
    puts = [(put.source, put.name, put.value) for put in host.puts]
    own = [(emitted.source, emitted.value) for emitted in host.emitted]
    is_end_of_another = isinstance(folder, FlightFile)  # a flight file, which never had the rest
    lacks = 0 if is_end_of_another else sum(missing_events(host.logs(r)) for r in host.ranks())
    ends = {rank: end for rank in host.ranks() if (end := _unclean_end(folder, rank))}
    unclean = "; ".join(
        f"rank {rank}: {end}" if host.rank == "all" else end for rank, end in ends.items()
    )
    return Replayed(counts, host.commands, puts, unclean, lacks, own)


def _raise_failures(observers: Iterable[ReplayObserver]) -> None:
    """Raise the error of the first observer that failed.

    Raises:
        NightbusError: the observer's own error, if it is one of nightbus.
        ReplayError: otherwise; the observer's exception is its cause.
    """
    for observer in observers:
        if isinstance(observer.error, NightbusError):
            raise observer.error
        if observer.error is not None:
            what = f"{type(observer.error).__name__}: {text_of(observer.error)}"
            raise ReplayError(f"{observer.name} failed: {what}") from observer.error


def _listeners(everyone: Iterable[Actor]) -> dict[str, str]:
    """Return the metrics that handlers name, each with one such handler, for people."""
    return {
        entry.name: f"{type(actor).__name__}.{entry.method}"
        for actor in everyone
        for entry in subscriptions_of(type(actor))
        if entry.kind is Put and entry.name is not None
    }


def _warn(notes: Iterable[str]) -> None:
    for note in notes:
        notify_user(f"nightbus: {note}")


def several(given: object) -> list[object]:
    """Return a list of what was given, which may be a single object."""
    return list(given) if isinstance(given, Iterable) else [given]


def _checked(argument: str, given: object) -> Actor:
    """Return an actor after checking that it can be replayed.

    ``nightbus.replay`` has made sinks of functions already.

    Raises:
        UsageError: it cannot.
    """
    if isinstance(given, Actor):
        if given.why_not_replayed:
            name = type(given).__name__
            raise UsageError(f"{name} cannot be replayed: {given.why_not_replayed}")
        return given
    is_class = isinstance(given, type)
    what = f"the class {given.__name__}" if is_class else type(given).__name__  # type: ignore[attr-defined]
    hint = "pass an instance of it" if is_class else "pass a function as nb.FunctionSink(function)"
    raise UsageError(f"{argument} has {what}; expected actors and sinks: {hint}")


def _check_together(
    selection: Selection,
    rate: float,
    clock: ClockName | None,
    resume: bool,
    follow: bool,
    has_cursors: bool,
) -> None:
    """Refuse arguments that contradict each other."""
    if resume and has_cursors:
        raise UsageError(
            "resume=True continues the run's own sinks, cursors=... continues other sinks; give "
            "only one of them"
        )
    if (resume or has_cursors) and not selection.is_everything:
        which = "resume=True" if resume else "cursors=..."
        raise UsageError(
            f"{which} delivers everything that sinks lack; leave out the stretch and the filters"
        )
    if follow and rate != math.inf:
        raise UsageError("follow=True goes at the pace of the run that is followed; leave out rate")
    if follow and clock == "recorded":
        raise UsageError(
            "follow=True follows a running run, on the machine's clock; leave out clock"
        )


def _check_what_is_named(
    host: _ReplayHost, selection: Selection, listeners: dict[str, str]
) -> list[str]:
    """Check that a rank that is read has what is named; return notes about what none has.

    Raises:
        NotRecorded: no rank has it.
    """
    refusal: NotRecorded | None = None
    fewest: list[str] | None = None
    for rank in host.ranks():
        try:
            notes = check_what_is_named(
                host.logs(rank), selection, host.timeline.seconds, listeners
            )
        except NotRecorded as error:
            refusal = refusal or error
            continue
        if not notes:
            return []
        fewest = notes if fewest is None or len(notes) < len(fewest) else fewest
    if fewest is None and refusal is not None:
        raise refusal
    return fewest or []


def _check_rank(run: RunFolder, rank: int | Literal["all"], has_sinks: bool, follow: bool) -> None:
    """Refuse a rank that is not there, and all ranks where there can be only one."""
    if rank == "all":
        if has_sinks or follow:
            what = "follow=True follows" if follow else "sinks write the metrics of"
            raise UsageError(f"rank='all' is for actors, {what} one rank; name it with rank=N")
    elif rank:
        run.refuse_missing_rank(rank)


def _name_everyone(everyone: Sequence[Actor], host: _ReplayHost) -> None:
    """Give each actor an address of its own, and the replay as its context."""
    taken: set[str] = set()
    for actor in everyone:
        refuse_taken_names(actor)
        name, number = actor_name(actor), 1
        while name in taken:
            number += 1
            name = f"{actor_name(actor)}-{number}"
        taken.add(name)
        object.__setattr__(actor, "_nightbus_address", name)
        object.__setattr__(actor, "_nightbus_context", host)


def _refuse_network(everyone: Iterable[Actor]) -> None:
    senders = [type(actor).__name__ for actor in everyone if actor.uses_network]
    if senders:
        raise UsageError(
            f"{', '.join(senders)} would send this run to other machines; if you want that, pass "
            "allow_network=True"
        )


def _observer(
    host: _ReplayHost,
    actor: Actor,
    selection: Selection,
    cursor_file: CursorFile | None,
    delivers_rest: bool,
) -> ReplayObserver:
    trainer = _prepare(host, actor)
    start = Position(0, 0)
    if cursor_file is not None:
        cursor = cursor_file.load()
        if cursor is not None:
            start = go_on(actor, cursor, host.logs())  # type: ignore[arg-type]
        elif (begin_anew := getattr(actor, "begin_anew", None)) is not None and (
            # With cursors outside the run, what its folder holds is not the replay's to remove.
            delivers_rest or not actor.needs_run_folder  # type: ignore[attr-defined]
        ):
            begin_anew([*states_of_others(host.run), *cursor_file.states_beside()])

    def pass_over(event: Event) -> None:
        if trainer is not None:
            trainer.take(event)

    observer = ReplayObserver(actor, start, host, cursor_file, selection, host.timeline, pass_over)
    host.observers[observer.name] = observer
    return observer


def _prepare(host: _ReplayHost, actor: Actor) -> RecordedTrainer | None:
    """Have an actor's handlers called with recorded events; return the trainer that it sees."""
    table = replay_table(actor)
    methods = actor._hook_methods()
    named = table.hook_names()
    if methods or named:
        _require_hooks(host.run, [*methods, *(named or ())])
    if not methods:
        object.__setattr__(actor, "_nightbus_handler_table", table)
        return None

    def stop(reason: str) -> None:
        host.post("fit", Stop(reason=reason), actor_name(actor), None)

    trainer = RecordedTrainer(stop)
    if hasattr(type(actor), "_trainer"):
        object.__setattr__(actor, "_trainer", trainer)
    object.__setattr__(actor, "_nightbus_handler_table", CallbackTable(actor, trainer))
    return trainer


def _require_hooks(run: RunFolder, names: Iterable[str]) -> None:
    """Check that the hooks that an actor handles were recorded.

    Raises:
        NotRecorded: one was not.
    """
    recording = _recording_of(run)
    if recording == "all" or isinstance(run, FlightFile):
        return
    # Hooks that an observer of the run asked for were recorded all the same.
    recorded = summarise(run).hooks
    missing = [name for name in names if name not in recorded]
    if missing:
        raise NotRecorded(missing[0], f"a run with recording={recording!r}", sorted(recorded))


def _recording_of(run: RunFolder) -> Plain:
    """Return what the run's last attempt recorded."""
    logs = attempt_logs(run)
    if not logs:
        return "off"
    reader = LogReader(logs[-1].store)
    try:
        started = (event for event in reader.events("none") if type(event) is RunStarted)
        return next((event.config.get("recording", "all") for event in started), "all")
    finally:
        reader.close()


def _run_at_full_speed(observers: Sequence[ReplayObserver], clock: ClockName) -> None:
    """Run actors one after the other, each with a clock of its own, then all sinks together.

    What an actor does then does not depend on the others. Sinks wait for disks, so they run side by
    side.
    """
    side_by_side = []
    for observer in observers:
        if clock == "wall" or observer.takes_batches:
            side_by_side.append(observer)
            continue
        pace = Jumping()
        observer.pace, observer.has_recorded_time = pace, True
        _run_all([observer], pace.clock, [pace])
        _raise_failures([observer])  # before sinks open, so that a failed replay leaves no files
    if side_by_side:
        _run_all(side_by_side, None)


def _run_in_time(observers: Sequence[ReplayObserver], pace: Waiting, clock: ClockName) -> None:
    """Run all observers side by side, at one pace."""
    for observer in observers:
        observer.pace, observer.has_recorded_time = pace, clock == "recorded"
    _run_all(observers, pace.clock)


def _begin_s(host: _ReplayHost, selection: Selection) -> float:
    """Return the recorded time of the first event of a stretch."""
    start = selection.start
    if start is None or start.unit == "time":
        return 0.0 if start is None else start.value
    reader = RunReader(host.logs())
    try:
        for event in reader.events():
            attempt = reader.position.attempt
            if isinstance(event, Event) and start.is_reached(attempt, event, lambda _: 0.0):
                return host.timeline.seconds(attempt, event)
    finally:
        reader.close()
    return 0.0


def _run_all(
    observers: Sequence[ReplayObserver],
    clock: trio.abc.Clock | None,
    instruments: Sequence[trio.abc.Instrument] = (),
) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for observer in observers:
                nursery.start_soon(observer.run)

    try:
        trio.run(main, clock=clock, instruments=instruments)
    except BaseExceptionGroup as group:
        if group.split(KeyboardInterrupt)[1] is None:
            raise KeyboardInterrupt from None
        raise


def _unclean_end(run: RunFolder, rank: int) -> str:
    """Return why the last attempt's log ends early, or an empty string."""
    if isinstance(run, FlightFile):
        return run.ends_because
    logs = attempt_logs(run, rank)
    if not logs:
        return "nothing was recorded"
    reader = LogReader(logs[-1].store)
    try:
        for _ in reader.events("none"):
            pass
        end = reader.end()
    finally:
        reader.close()
    return "" if end.kind is EndKind.SEALED else end.reason
