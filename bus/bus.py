"""The bus: ties the log, the routes, the actors and the thread beside the step together."""

import contextlib
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import trio

from .actor import Actor, actor_name, command_handler
from .control import ControlServer, Steered
from .cursor import AttemptLog, CursorFile, Position, RunReader
from .errors import (
    ActorStoppedError,
    DeliveryError,
    LogFormatError,
    UnknownActorError,
    UsageError,
)
from .events import Command, CommandTaken, DeadLetter, Event, Hook, Stop
from .flight_recorder import FlightRecorder
from .log_writer import LogWriter
from .logging_setup import get_logger
from .mailbox import Envelope, Mailbox, Reply
from .media import EncodedMedia
from .observer import Observer, to_json
from .place import Place
from .routes import Routes
from .run_folder import RunFolder
from .segments import FolderStore, UnnamedStore, compress_segment
from .subscription import HandlerTable, subscriptions_of

SYNC_EVERY_S = 1.0
DRAIN_NOTICE_AFTER_S = 1.0

_log = get_logger("nightbus.bus")


class Bus:
    """Carries one attempt of a run.

    The thread that makes it is the training thread: it emits events, takes commands at safe
    points and ends the bus. Everything else happens on the bus thread, which is started with the
    first observer, or at once when the log is kept in a folder.

    Args:
        place: where training is.
        earlier: logs of the run's earlier attempts, for observers that have not seen them all.
        run: the run's folder, or None when nothing is kept.
    """

    def __init__(
        self, place: Place, earlier: Sequence[AttemptLog] = (), run: RunFolder | None = None
    ) -> None:
        self.place = place
        self.routes = Routes(place)
        self.writer: LogWriter | None = None
        self.flight: FlightRecorder | None = None
        self.observers: list[Observer] = []
        self.dead_letters = 0
        self.log_problems: list[str] = []  # what became of the log, once it is closed
        self.attention = False  # something is to be done at the next safe point
        self._actors: dict[str, Actor] = {}  # address -> actor
        self._mailboxes: dict[str, Mailbox] = {}  # address -> its mailbox
        self._agenda: deque[str] = deque()  # addresses in the step, one entry for each command
        self._agenda_filled = threading.Event()
        self._tables: list[HandlerTable] = []  # event handlers in the step
        self.has_step_handlers = False  # whether there are any
        self._attempt = 0
        self._control: ControlServer | None = None
        self._earlier = list(earlier)
        self._run = run
        self._store: FolderStore | UnnamedStore | None = None
        self._thread: threading.Thread | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None
        self._closing = False
        self._closing_event: trio.Event | None = None
        self._drained = threading.Event()
        self._ends_drain = False
        self._thread_error: BaseException | None = None
        self.root_task: trio.lowlevel.Task | None = None  # of the bus thread, for those who look
        self._lock = threading.Lock()  # who attaches, from which thread ever

    @property
    def run_path(self) -> Path | None:
        """The run's folder; None when the run keeps none."""
        return self._run.path if self._run else None

    @property
    def addresses(self) -> Collection[str]:
        """The addresses that are taken."""
        return self._actors.keys()

    # -- the log -----------------------------------------------------------------------------

    def open_log(self, writer: LogWriter, store: FolderStore | UnnamedStore) -> None:
        """Record from now on."""
        self.writer, self._store = writer, store
        self._attempt = writer.identity.attempt
        if self.flight is not None:
            self.flight.follow_place()  # besides the writer, who wants to hear of it alone

    def keep_last_events(self, flight: FlightRecorder) -> None:
        """Keep the last events in memory from now on, hooks too."""
        self.flight = flight
        flight.follow_place()
        self.routes.set_flight(flight)

    def emit(self, kind: type[Event], *fields: Any, source: str = "") -> None:
        """Record an event that arises now, and route it to handlers in the step."""
        writer = self.writer
        if writer is None:
            if self.flight is not None:
                self.flight.emit(kind, *fields, source=source)
            return
        if threading.get_ident() != writer.owner:
            writer.emit_from_any_thread(kind, *fields, source=source)
            return
        self.append(writer.event(kind, *fields, source=source))

    def append(self, event: Event) -> None:
        """Add an event to the log, and route it to handlers in the step."""
        assert self.writer is not None
        self.writer.append(event)
        if self.flight is not None:
            self.flight.add(event)
        for table in self._tables:
            for handler in table.handlers(event):  # type: ignore[arg-type]
                handler(event)

    def flush(self) -> None:
        """Write the step's events. Called once a step."""
        writer = self.writer
        if writer is not None:
            while writer.inbox_waiting:
                self.append(writer.take_from_inbox())
            writer.flush()

    # -- actors ------------------------------------------------------------------------------

    def register(self, actor: Actor, address: str | None = None) -> str:
        """Give an actor its address and a mailbox; returns the address."""
        wanted = address or actor.name or type(actor).__name__.lower()
        name, number = wanted, 1
        while name in self._actors:
            if actor.name or address:
                raise UsageError(f"two actors are called {wanted!r}; give one another name")
            number += 1
            name = f"{wanted}-{number}"
        object.__setattr__(actor, "_address", name)
        object.__setattr__(actor, "_context", self)
        object.__setattr__(actor, "_table", None)
        self._actors[name] = actor
        self._mailboxes[name] = Mailbox(arrived=lambda: self._on_agenda(name))
        entries = [
            entry
            for entry in subscriptions_of(type(actor))
            if issubclass(entry.kind, Event) and entry.kind is not Hook and not entry.is_async
        ]
        if entries:
            self._tables.append(HandlerTable(actor, entries))
            self.has_step_handlers = True
        return name

    def hand_over(self, former: Actor, actor: Actor) -> None:
        """Let an actor in the step take the place of another one: its address and its mailbox."""
        name = actor_name(former)
        self._tables = [table for table in self._tables if table.actor is not former]
        mailbox = self._mailboxes[name]
        del self._actors[name]
        self.register(actor, name)
        self._mailboxes[name] = mailbox

    def add_alias(self, alias: str, address: str) -> None:
        """Let commands to ``alias`` reach the actor at ``address``."""
        self._mailboxes[alias] = self._mailboxes[address]

    def observe(
        self, actor: Actor, start: Position | None = None, keep_cursor: bool = False
    ) -> None:
        """Run a registered actor beside the step.

        Args:
            actor: the actor.
            start: the first event it gets; by default what is recorded from now on.
            keep_cursor: commit its position in the run's folder, and go on from there if one is
                committed already.
        """
        assert self.writer is not None
        self._adopt_hooks(actor)
        name = actor_name(actor)
        cursor_file = CursorFile(self._run, name) if keep_cursor and self._run else None
        if cursor_file is not None and (cursor := cursor_file.load()) is not None:
            start = Position(cursor.attempt, cursor.seq)
            actor.load_cursor_state(cursor.state)  # type: ignore[attr-defined]
        if start is None:
            start = Position(self._attempt, self.writer.written_seq)
        observer = Observer(actor, start, self, cursor_file)
        self._mailboxes[name] = observer.mailbox
        with self._lock:
            self.observers.append(observer)
            if self._nursery is not None and self._token is not None:
                self._token.run_sync_soon(self._nursery.start_soon, observer.run)
        self._ensure_thread()

    def dismiss(self, actor: Actor, reason: str) -> None:
        """Let an actor go: its work beside the step ends, its mailbox refuses, its name is free."""
        name = actor_name(actor)
        for observer in self.observers:
            if observer.actor is actor:
                observer.dismiss(reason)
        mailbox = self._mailboxes.pop(name)
        for envelope in mailbox.close():
            self.bury(name, envelope, reason)
        del self._actors[name]
        self._tables = [table for table in self._tables if table.actor is not actor]
        self.has_step_handlers = bool(self._tables)

    def _adopt_hooks(self, actor: Actor) -> None:
        """Make sure that the hooks an observer wants are recorded."""
        writer, recorded = self.writer, self.routes.recorded
        if recorded is None or actor._hook_selection() == "none":
            return
        wanted = actor._observed_hooks()
        self.routes.set_writer(writer, None if wanted is None else recorded | wanted)

    # -- what observers ask (observer.Host) --------------------------------------------------

    def open_reader(self, start: Position) -> RunReader:
        """A reader of the run's log at a position."""
        assert self.writer is not None
        assert self._store is not None
        writer = self.writer
        live = AttemptLog(self._attempt, self._store, lambda: writer.committed)
        return RunReader([*self._earlier, live], start)

    def is_closing(self) -> bool:
        """Whether the log is complete, so that its end is the end."""
        return self._closing

    async def pause(self, seconds: float) -> None:
        """Sleep, at most until the log is complete."""
        assert self._closing_event is not None
        with trio.move_on_after(seconds):
            await self._closing_event.wait()

    def stop_run(self, reason: str) -> None:
        """Ask the run to end gracefully."""
        self.post("fit", Stop(reason=reason), "supervisor", None)

    def bury(self, target: str, envelope: Envelope, reason: str) -> None:
        """Make a dead letter of a command that was not taken."""
        if envelope.reply is not None:
            envelope.reply.fail(ActorStoppedError(f"{target}: {reason}"))
        self._bury(target, envelope.command, envelope.sender, reason)

    # -- commands ----------------------------------------------------------------------------

    def post(self, target: str, command: Command, sender: str, reply: Reply | None) -> None:
        """Deliver a command, or make a dead letter of it. Any thread may call it."""
        mailbox = self._mailboxes.get(target)
        if mailbox is None:
            near = ", ".join(sorted(self._mailboxes)) or "nobody"
            reason = f"there is no actor {target!r} in this run; there are: {near}"
            error: DeliveryError = UnknownActorError(reason)
        else:
            reason = mailbox.post(Envelope(command, sender, reply))
            if not reason:
                return
            error = ActorStoppedError(f"{target}: {reason}")
        if reply is not None:
            reply.fail(error)
        self._bury(target, command, sender, reason)

    def _bury(self, target: str, command: Command, sender: str, reason: str) -> None:
        self.dead_letters += 1
        _log.info("dead letter", target=target, command=type(command).__name__, reason=reason)
        self.emit(DeadLetter, target, type(command).__name__, reason, source=sender)

    def put(
        self, source: str, name: str, value: object, destinations: Sequence[str] | None
    ) -> None:
        """Record a metric from an actor; the trainer says how."""
        self.record_put(source, name, value, destinations)

    record_put: Callable[[str, str, object, Sequence[str] | None], None]

    def put_media(
        self, source: str, name: str, media: EncodedMedia, destinations: Sequence[str] | None
    ) -> None:
        """Record an image, a text and the like from an actor; the trainer says how."""
        self.record_media(source, name, media, destinations)

    record_media: Callable[[str, str, EncodedMedia, Sequence[str] | None], None]

    def _on_agenda(self, name: str) -> None:
        self._agenda.append(name)
        self.attention = True
        self._agenda_filled.set()

    def wait_for_command(self, timeout_s: float) -> None:
        """Block until a command waits for an actor in the step, or the time is over."""
        self._agenda_filled.wait(timeout_s)

    def take_commands(self) -> None:
        """At a safe point: let actors in the step handle the commands that wait for them."""
        self._agenda_filled.clear()
        while self._agenda:
            name = self._agenda.popleft()
            envelope = self._mailboxes[name].take()
            if envelope is None:
                continue
            actor, command, kind = self._actors[name], envelope.command, type(envelope.command)
            handler = command_handler(actor, command, is_async=False)
            if handler is None:
                reason = f"{name} has no handler for {kind.__name__}"
                if envelope.reply:
                    envelope.reply.fail(DeliveryError(reason))
                self._bury(name, command, envelope.sender, reason)
                continue
            self.emit(CommandTaken, name, kind.__name__, to_json(command), source=envelope.sender)
            try:
                value = handler(command)
            except Exception as error:
                if envelope.reply:
                    envelope.reply.fail(error)
                raise
            if envelope.reply:
                envelope.reply.set(value)

    # -- the thread beside the step ----------------------------------------------------------

    def serve_control(self, steered: Steered) -> None:
        """Let others steer the run through a socket in its folder; to be said before the start."""
        if self._run is not None:
            self._control = ControlServer(self._run.path, steered, self)

    def start(self) -> None:
        """Start the bus thread, when there is something for it to do."""
        records = self._run is not None and isinstance(self._store, FolderStore)
        if records or self._control is not None:
            self._ensure_thread()

    def _ensure_thread(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._beside, name="nightbus", daemon=True)
            self._thread.start()

    def _beside(self) -> None:
        try:
            trio.run(self._main)
        except BaseException as error:
            self._thread_error = error
            _log.error("the bus thread failed; observers get the rest by replay", exc_info=error)
        finally:
            self._drained.set()

    async def _main(self) -> None:
        self.root_task = trio.lowlevel.current_root_task()
        async with trio.open_nursery() as housekeeping:
            housekeeping.start_soon(self._keep_house)
            if self._control is not None:
                housekeeping.start_soon(self._control.run)
            async with trio.open_nursery() as nursery:
                with self._lock:
                    self._token = trio.lowlevel.current_trio_token()
                    self._nursery = nursery
                    self._closing_event = trio.Event()
                    if self._closing:
                        self._closing_event.set()
                    for observer in self.observers:
                        nursery.start_soon(observer.run)
                await self._closing_event.wait()
            housekeeping.cancel_scope.cancel()

    async def _keep_house(self) -> None:
        """Make the log durable once a second, compress what is sealed, give up what is read."""
        while True:
            await trio.sleep(SYNC_EVERY_S)
            if isinstance(self._store, UnnamedStore):
                positions = [o.segment for o in self.observers if not o.gave_up]
                self._store.release_before(min(positions, default=0))
            elif self.writer is not None:
                await trio.to_thread.run_sync(self._sync_and_compress, abandon_on_cancel=False)

    def _sync_and_compress(self) -> None:
        writer = self.writer
        if writer is None:
            return
        try:
            writer.sync()
        except OSError as error:
            _log.warning("the event log could not be made durable", error=str(error))
        self._compress_sealed(writer.sealed)

    def _compress_sealed(self, sealed: deque[int]) -> None:
        assert isinstance(self._store, FolderStore)
        while sealed:
            try:
                compress_segment(self._store, sealed.popleft())
            except (OSError, LogFormatError) as error:
                _log.warning("a log segment stays uncompressed", error=str(error))

    # -- the end -----------------------------------------------------------------------------

    def close(self, drain_timeout_s: float) -> list[Observer]:
        """End: let observers read to the log's end, then seal it.

        Args:
            drain_timeout_s: how long observers are waited for, in s.

        Returns:
            The observers that have not seen everything.
        """
        self._bury_mail()
        if self.writer is None:
            if self._thread is not None:  # for the control socket alone
                self._announce_closing()
                self._drain(drain_timeout_s)
            return []
        self.flush()
        self.writer.flush(wait=True)
        self._announce_closing()
        if self._thread is not None:
            self._drain(drain_timeout_s)
        self.flush()
        writer, self.writer = self.writer, None
        writer.close()
        self.log_problems = writer.problems()
        self.routes.set_writer(None, set())
        if isinstance(self._store, UnnamedStore):
            self._store.close()
        else:
            self._compress_sealed(writer.sealed)
        return [observer for observer in self.observers if not observer.finished]

    def _bury_mail(self) -> None:
        """Dead letters of what actors in the step did not take; observers still take theirs."""
        beside = {observer.name for observer in self.observers}
        for name, mailbox in list(self._mailboxes.items()):
            if name not in beside:
                for envelope in mailbox.close():
                    self.bury(name, envelope, "the run ended before it was taken")

    def _announce_closing(self) -> None:
        with self._lock:
            self._closing = True
            if self._token is not None and self._closing_event is not None:
                self._run_beside(self._closing_event.set)

    def _run_beside(self, action: Callable[[], object]) -> None:
        assert self._token is not None
        with contextlib.suppress(trio.RunFinishedError):  # the bus thread failed; that was said
            self._token.run_sync_soon(action)

    def _drain(self, timeout_s: float) -> None:
        begin_s = time.monotonic()
        told = False
        while not self._drained.wait(0.005 if not told else 0.05):
            self.flush()  # faults of observers, while they drain
            waited_s = time.monotonic() - begin_s
            if waited_s > timeout_s or self._ends_drain:
                break
            if waited_s > DRAIN_NOTICE_AFTER_S and not told:
                told = True
                names = ", ".join(o.name for o in self.observers if not (o.finished or o.gave_up))
                print(
                    f"nightbus: waiting up to {timeout_s:g} s for {names} to finish",
                    file=sys.stderr,
                )
        else:
            return
        self._cancel()

    def end_drain(self) -> None:
        """Wait no longer for observers when the run ends. A signal handler may call it."""
        self._ends_drain = True

    def _cancel(self) -> None:
        with self._lock:
            if self._token is not None and self._nursery is not None:
                self._run_beside(self._nursery.cancel_scope.cancel)
        self._drained.wait(1.0)
