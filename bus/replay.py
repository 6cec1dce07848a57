"""A recorded run through actors and sinks: the product with the trainer switched off."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import trio

from .actor import Actor, Supervision, actor_name
from .cursor import CursorFile, Position, RunReader, attempt_logs
from .errors import (
    ActorStoppedError,
    DeliveryError,
    NightbusError,
    NotRecorded,
    UnknownActorError,
    UsageError,
)
from .events import Command, Event, Plain, RunStarted, Stop
from .log_reader import EndKind, LogReader
from .mailbox import Envelope, Told
from .media import EncodedMedia
from .observer import Observer
from .recorded_hook import replay_table
from .recorded_trainer import CallbackTable, RecordedTrainer
from .reply import Reply
from .run_folder import RunFolder
from .statistics import ActorStatistics, BusStatistics
from .subscription import HandlerTable

NO_RESTARTS = Supervision(restarts=0)


class ReplayError(NightbusError):
    """An actor or sink failed in replay; what the recorded run is stays untouched."""


class ToldCommand(msgspec.Struct, frozen=True):
    """A command that an actor sent in replay, where nobody acts on it.

    Attributes:
        sender: the actor.
        target: whom it was for.
        command: what it asked.
        at: the event the actor was given last.
    """

    sender: str
    target: str
    command: Command
    at: Position


class Replayed(msgspec.Struct):
    """What came of a replay.

    Attributes:
        events: how many events were read for each actor or sink, by its name.
        commands: what actors asked of the run, in order: where a rule would have stopped it, say.
        puts: metrics that actors put, as (actor, name, value); of images and the like, the value
            is what it is and its bytes.
        unclean: why the recording ends early; empty when the run ended by itself.
    """

    events: dict[str, int]
    commands: list[ToldCommand]
    puts: list[tuple[str, str, Any]]
    unclean: str


class _ReplayHost:
    """Runs observers over a finished log, or over one that grows.

    Args:
        run: the run.
        follow: whether to go on until the run has ended.
    """

    def __init__(self, run: RunFolder, follow: bool) -> None:
        self.run = run
        self._attempts = run.attempts() if follow else []
        self.run_path = run.path
        self.commands: list[ToldCommand] = []
        self.puts: list[tuple[str, str, Any]] = []
        self.observers: dict[str, Observer] = {}

    def emit(self, kind: type[Event], *fields: Any, source: str = "") -> None:
        """Nothing is recorded: what happened to an observer is raised at the end."""

    def open_reader(self, start: Position) -> RunReader:
        return RunReader(attempt_logs(self.run), start)

    def is_closing(self, observer: Observer) -> bool:
        return not any(self.run.is_being_written(attempt) for attempt in self._attempts)

    async def pause(self, observer: Observer, seconds: float) -> None:
        await trio.sleep(seconds)

    def stop_run(self, reason: str) -> None:
        """There is no run to stop; the fault is raised at the end."""

    def bury(
        self,
        target: str,
        envelope: Envelope,
        reason: str,
        error: type[DeliveryError] = ActorStoppedError,
    ) -> None:
        if envelope.reply is not None:
            envelope.reply.fail(error(f"{target}: {reason}"))

    def statistics(self) -> BusStatistics:
        """What the actors have read so far; nothing is recorded and nobody acts on commands."""
        actors = {
            name: ActorStatistics(observer.mailbox.statistics(), observer.statistics(0, 0))
            for name, observer in self.observers.items()
        }
        return BusStatistics(actors, None, len(self.commands), len(self.commands))

    def post(self, target: str, command: Command, sender: str, reply: Reply | None) -> Told:
        at = self.observers[sender].position if sender in self.observers else Position(0, 0)
        self.commands.append(ToldCommand(sender, target, command, at))
        if reply is not None:
            reply.fail(UnknownActorError(f"there is no {target!r} in a replay; nobody acts"))
        return Told()

    def put(
        self, source: str, name: str, value: object, destinations: Sequence[str] | None
    ) -> None:
        self.puts.append((source, name, value))

    def put_media(
        self, source: str, name: str, media: EncodedMedia, destinations: Sequence[str] | None
    ) -> None:
        self.puts.append((source, name, media))


def replay(
    run: str | os.PathLike[str] | RunFolder,
    *,
    actors: Iterable[Actor] = (),
    sinks: Iterable[Actor] = (),
    resume: bool = False,
    follow: bool = False,
    cursors: str | os.PathLike[str] | None = None,
) -> Replayed:
    """Read a recorded run through actors and sinks, as if it happened now.

    No model and no data are needed, and torch is not loaded. Plain methods that subscribe to
    hooks get the recorded event; live objects raise NotRecorded. A callback's hook methods get a
    trainer that knows ``callback_metrics``, ``current_epoch`` and ``global_step``; where it sets
    ``should_stop``, the result has a Stop command, and its hooks end there.

    Args:
        run: the run's folder.
        actors: any actors.
        sinks: any sinks; each writes where it is told to.
        resume: sinks go on where they stood when the run ended, instead of from its start.
        follow: of a run that goes on in another process, also what comes until it ends. Only its
            log is read: it is not held up.
        cursors: a folder outside the run, for where ``sinks`` stand; with it a later replay goes on
            from there. When all is delivered, nothing is left in it.

    Returns:
        What the actors asked for and put, and how much was read.

    Raises:
        RunFolderError: there is no run.
        LogError: its log cannot be read.
        ReplayError: an actor or sink failed; its own exception is named.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder.open(run)
    if resume and cursors is not None:
        raise UsageError(
            "resume=True goes on with the run's own sinks, cursors=... with sinks outside it; give "
            "one of them"
        )
    host = _ReplayHost(folder, follow)
    destinations = list(sinks)
    everyone = [*actors, *destinations]
    taken: set[str] = set()
    for actor in everyone:
        name, number = actor_name(actor), 1
        while name in taken:
            number += 1
            name = f"{actor_name(actor)}-{number}"
        taken.add(name)
        object.__setattr__(actor, "_address", name)
        object.__setattr__(actor, "_context", host)
    files: dict[str, CursorFile] = {}
    if resume:
        files = {actor_name(actor): CursorFile(folder, actor_name(actor)) for actor in everyone}
    elif cursors is not None:
        names = [actor_name(sink) for sink in destinations]
        files = {name: CursorFile(folder, name, Path(cursors)) for name in names}
    observers = [_observer(host, actor, files.get(actor_name(actor))) for actor in everyone]
    try:
        trio.run(_run_all, observers)
    except BaseExceptionGroup as group:
        if group.split(KeyboardInterrupt)[1] is None:
            raise KeyboardInterrupt from None
        raise
    for observer in observers:
        if isinstance(observer.error, NightbusError):
            raise observer.error
        if observer.error is not None:
            raise ReplayError(
                f"{observer.name} failed: {type(observer.error).__name__}: {observer.error}"
            ) from observer.error
    if cursors is not None:
        for file in files.values():
            file.path.unlink(missing_ok=True)
    events = {observer.name: observer.events_read for observer in observers}
    return Replayed(events, host.commands, host.puts, _unclean_end(folder))


def _observer(host: _ReplayHost, actor: Actor, cursor_file: CursorFile | None) -> Observer:
    object.__setattr__(actor, "_table", _table(host, actor))
    start = Position(0, 0)
    if cursor_file is not None:
        cursor = cursor_file.load()
        if cursor is not None:
            start = Position(cursor.attempt, cursor.seq)
            actor.load_cursor_state(cursor.state)  # type: ignore[attr-defined]
    observer = Observer(actor, start, host, cursor_file, NO_RESTARTS)
    host.observers[observer.name] = observer
    return observer


def _table(host: _ReplayHost, actor: Actor) -> HandlerTable:
    if not actor._hook_methods():
        return replay_table(actor)
    recording = _recording_of(host.run)
    if recording != "all":
        raise NotRecorded("the hooks", f"a run with recording={recording!r}")

    def stop(reason: str) -> None:
        host.post("fit", Stop(reason=reason), actor_name(actor), None)

    trainer = RecordedTrainer(stop)
    if hasattr(type(actor), "_trainer"):
        object.__setattr__(actor, "_trainer", trainer)
    return CallbackTable(actor, trainer)


def _recording_of(run: RunFolder) -> Plain:
    """What the run's last attempt recorded."""
    logs = attempt_logs(run)
    if not logs:
        return "all"
    reader = LogReader(logs[-1].store)
    try:
        started = (event for event in reader.events("none") if type(event) is RunStarted)
        return next((event.config.get("recording", "all") for event in started), "all")
    finally:
        reader.close()


async def _run_all(observers: Sequence[Observer]) -> None:
    async with trio.open_nursery() as nursery:
        for observer in observers:
            nursery.start_soon(observer.run)


def _unclean_end(run: RunFolder) -> str:
    """Why the last attempt's log ends early, or an empty string."""
    logs = attempt_logs(run)
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
