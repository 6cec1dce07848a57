"""Bus: connects the log, the routes, the actors and the bus thread."""

import contextlib
import functools
import math
import threading
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import trio

from .actor import Actor, actor_name
from .control.server import ANSWER_TIMEOUT_S, ControlServer, Steered
from .copies import StaysInRun
from .errors import (
    OutsideRunError,
    UsageError,
)
from .events import (
    ActorStopped,
    ActorTotals,
    Command,
    CommandTaken,
    Ending,
    Event,
    Hook,
    PlainUserEvent,
    Put,
    RunEnded,
    Stop,
    UserEvent,
)
from .housekeeping import Housekeeping
from .log.flight_recorder import NOBODY, FlightRecorder
from .log.hook_recorder import AT_ONCE, NEVER, recording_nothing
from .log.place import Place
from .log.segments import FolderStore, UnnamedStore
from .log.writer import MAX_BUFFERED_EVENTS, LogWriter
from .mail.mailbox import Envelope, Mailbox, Told, Undelivered
from .mail.reply import Reply
from .media import EncodedMedia
from .observer import Observer
from .post_office import PostOffice
from .routes import Routes
from .runs.cursor import AttemptLog, CursorFile, Position, RunReader
from .runs.resume_cursor import go_on, states_of_others
from .runs.run_folder import RunFolder
from .runs.typed_events import typed
from .secrets.redaction import without_secrets
from .statistics import (
    ActorStatistics,
    BusStatistics,
    LogStatistics,
    MailboxStatistics,
    ObserverStatistics,
)
from .subscription import HandlerTable, subscriptions_of
from .system.forks import leave_when_forked, refusal
from .system.logging_setup import get_logger
from .system.streams import notify_user
from .threads import Threads
from .turns import Turns, ancestors

DRAIN_NOTICE_AFTER_S = 1.0
CANCEL_TIMEOUT_S = 1.0  # for all cancelled tasks together to end
END_TIMEOUT_S = ANSWER_TIMEOUT_S + 1.0  # for the bus thread to end

_log = get_logger("nightbus.bus")


class _Member(NamedTuple):
    """An actor of the run, or one that was removed."""

    name: str
    actor: Actor
    mailbox: Mailbox


class HeldUp(NamedTuple):
    """A task that does not yield the bus thread.

    Attributes:
        name: of the actor, or of a task that belongs to none.
        holder: the actor's observer, if there is one.
        seconds: how long its turn has lasted, in s.
        where: the coroutine, and the line in it.
        stack: all its calls.
    """

    name: str
    holder: Observer | None
    seconds: float
    where: str
    stack: str


class Bus(StaysInRun):
    """Carries one attempt of a run.

    The thread that creates it is the training thread: it emits events, takes commands at safe
    points and closes the bus. Everything else happens on the bus thread, which starts with the
    first observer, or at once if the log is kept in a folder.

    Args:
        place: the place in training.
        earlier: logs of the run's earlier attempts, for observers that have not read them all.
        run: the run's folder; None if nothing is kept.
        threads: instead of this process's own.
    """

    def __init__(
        self,
        place: Place,
        earlier: Sequence[AttemptLog] = (),
        run: RunFolder | None = None,
        threads: Threads | None = None,
    ) -> None:
        self.place = place
        self._threads = threads or Threads()
        self.routes = Routes(place)
        self.writer: LogWriter | None = None
        self._final_log: LogStatistics | None = None  # counts of the log, once it is closed
        self.flight: FlightRecorder | None = None
        self.observers: list[Observer] = []
        self.post_office = PostOffice(self, self._threads)
        self.housekeeping = Housekeeping(self)
        self.log_problems: list[str] = []  # of the log, once it is closed
        self.attention = False  # there is something to do at the next safe point
        self._actors: dict[str, Actor] = {}  # address -> actor
        self._removed: list[_Member] = []
        self._tables: list[HandlerTable] = []  # event handlers on the training thread
        self.has_step_handlers = False  # whether there are any
        self._attempt = 0
        self._control: ControlServer | None = None
        self._earlier = list(earlier)
        self._run = run
        self.store: FolderStore | UnnamedStore | None = None  # segments of the log
        self._reported_gone = False  # that the run's folder is gone
        self._is_started = False  # the bus thread
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None
        self.is_open = False  # between start and close
        self._closing = False
        self._hurries = False
        self._failures: list[Exception] = []  # of plain handlers, on the last events
        self._is_up = threading.Event()  # the bus thread runs
        self._turns: dict[Observer, trio.Event] = {}
        self._closing_event: trio.Event | None = None
        self._drained = threading.Event()
        self._thread_error: BaseException | None = None
        self.turns = Turns(lambda: self.post_office.bus_thread, self._threads.now_s)
        self.root_task: trio.lowlevel.Task | None = None  # of the bus thread, for diagnosis
        self._scope = trio.CancelScope()  # of everything on the bus thread
        self._lock = threading.Lock()  # guards observers that attach from any thread
        self._training_thread = self._threads.current()
        self._is_over = self.is_left = False
        self.take_puts(self._refuse_put, self._refuse_put, self._refuse_user_event)
        leave_when_forked(self)

    @property
    def run_path(self) -> Path | None:
        """The run's folder; None if the run keeps none."""
        return self._run.path if self._run else None

    @property
    def addresses(self) -> Collection[str]:
        """The addresses in use."""
        return self._actors.keys()

    def check_folder(self) -> None:
        """Warn, once, if the run's folder was removed or renamed."""
        if self._run is None or self._reported_gone or self._run.is_there:
            return
        self._reported_gone = True
        _log.warning(
            f"the run's folder {self._run.path} was removed or renamed: training goes on, but no "
            "checkpoint is saved in it any more, and sinks that write there stop; the recording "
            "is only where the folder is now"
        )

    def actor_at(self, address: str) -> Actor:
        """Return the actor with an address."""
        return self._actors[address]

    # -- a forked child ----------------------------------------------------------------------

    def leave_to_parent(self) -> None:
        """Refuse, in a forked child, everything that would continue the parent's run."""
        self.is_left = True
        self.take_puts(self._refuse_put, self._refuse_put, self._refuse_user_event)
        self.routes.refuse(lambda: refusal("training went on"))
        self.place.hook = ""
        self.place.recorder.flush_due_ns = AT_ONCE
        if self._threads.current() == self.post_office.bus_thread:
            self._scope.cancel()  # if a coroutine forked, the others end with it at once

    def check_is_here(self, what: str) -> None:
        """Check that this is not a forked child of the process that owns the run.

        Raises:
            ForkedChildError: it is one.
        """
        if self.is_left:
            raise refusal(what)

    # -- the log -----------------------------------------------------------------------------

    def open_log(self, writer: LogWriter, store: FolderStore | UnnamedStore) -> None:
        """Record events from now on.

        Args:
            writer: the log's writer.
            store: its segments.
        """
        self.writer, self.store = writer, store
        self._attempt = writer.identity.attempt
        self.routes.refresh()

    def keep_last_events(self, flight: FlightRecorder) -> None:
        """Keep the last events, hooks too, in memory from now on."""
        self.flight = flight
        self.routes.refresh()

    def held_up(self) -> "HeldUp | None":
        """Return the task that does not yield the bus thread, if any; for other threads."""
        turn = self.turns.now()
        if turn is None:
            return None
        tasks = ancestors(turn.task)
        holder = next((o for task in tasks for o in self.observers if o.task is task), None)
        name = turn.task.name if holder is None else holder.name
        return HeldUp(name, holder, turn.seconds, turn.where, turn.stack)

    def emit(self, kind: type[Event], *fields: Any, source: str = "") -> None:
        """Record an event that happens now, and pass it to plain handlers.

        Args:
            kind: the event's type.
            *fields: its own fields, in order.
            source: the name of the actor it comes from.
        """
        if not self.emit_in_time(kind, *fields, source=source):
            self._warn_too_late(kind, fields, source)

    def emit_in_time(self, kind: type[Event], *fields: Any, source: str = "") -> bool:
        """Record an event as ``emit`` does, unless the run's end is recorded already.

        Args:
            kind: the event's type.
            *fields: its own fields, in order.
            source: the name of the actor it comes from.

        Returns:
            Whether it was recorded.
        """
        writer = self.writer
        if writer is None:
            if self.flight is not None:
                self.flight.emit(kind, *fields, source=source)
            return True
        thread = self._threads.current()
        if thread != writer.owner:
            return writer.emit_from_any_thread(kind, *fields, source=source)
        try:
            writer.owner = NOBODY
            try:
                event = writer.event(kind, *fields, source=source)
                writer.append(event)
            finally:
                writer.owner = thread
            self.have_handled(event)
        except Exception as error:
            if not self._closing:
                raise
            self._failures.append(error)
        return True

    def have_handled(self, event: Event) -> None:
        """Pass an event that is in the log to plain handlers."""
        if not self._tables:
            return
        delivered = typed(event)
        for table in self._tables:
            for handler in table.handlers(delivered):
                handler(delivered)

    def emit_later(
        self, kind: type[Event], make: Callable[[LogWriter], Event], summary: tuple[Any, ...]
    ) -> None:
        """Record, from any thread, an event that is created when the log takes it.

        Args:
            kind: the event's type.
            make: creates it.
            summary: source and first fields, for a warning if it is too late for the log.
        """
        writer = self.writer
        if writer is not None and not writer.ask_for_event(lambda: make(writer)):
            self._warn_too_late(kind, summary[1:], summary[0])

    def _warn_too_late(self, kind: type[Event], fields: tuple[Any, ...], source: str) -> None:
        """Warn about an event that the log cannot hold, because the run's end is its last event."""
        self.check_is_here(f"{kind.__name__} was to be recorded")
        if kind not in (ActorStopped, CommandTaken):
            shown = [str(field)[:200] for field in fields[:2]]
            _log.warning(
                "too late for the log", event_type=kind.__name__, source=source, fields=shown
            )

    def flush(self) -> None:
        """Write pending events, so that observers see them."""
        writer = self.writer
        if writer is None:
            self.place.recorder.flush_due_ns = NEVER
            return
        owner = writer.owner
        if owner == NOBODY and writer.takes:
            return  # in the middle of a write or a put
        if writer.inbox:
            self._take_from_inbox(writer)
        writer.owner = NOBODY
        try:
            writer.flush()
        finally:
            writer.owner = owner
            # After the write: another thread may have requested an event since.
            if writer.others or writer.inbox:
                writer.recorder.flush_due_ns = AT_ONCE

    def _take_from_inbox(self, writer: LogWriter) -> None:
        """Take the events requested by now; later requests must not delay the step."""
        owner = writer.owner
        for _ in range(len(writer.inbox)):
            writer.owner = NOBODY
            try:
                event = writer.take_from_inbox()
                writer.append(event)
            finally:
                writer.owner = owner
            self.have_handled(event)

    def end_step(self) -> None:
        """Write the events of a step, at its end.

        Hooks alone are written every 50 ms: a write costs more than the hooks of a fast step are
        worth.
        Anything else is written at once.
        """
        recorder = self.place.recorder
        if recorder.clock_ns() > recorder.flush_due_ns:
            self.flush()
        if len(recorder.trace.words) > MAX_BUFFERED_EVENTS:
            if self.flight is not None:
                self.flight.keep()
            self.flush()

    # -- actors ------------------------------------------------------------------------------

    def register(self, actor: Actor, address: str | None = None) -> str:
        """Give an actor its address and a mailbox.

        Args:
            actor: the actor.
            address: its address; its name if not given.

        Returns:
            The address.

        Raises:
            UsageError: another actor has the address.
        """
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
        self.post_office.open_mailbox(name, actor)
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
        """Replace an actor of the training thread: its address and mailbox pass to another one.

        Args:
            former: the actor that is replaced.
            actor: the new one.
        """
        name = actor_name(former)
        self._tables = [table for table in self._tables if table.actor is not former]
        mailbox = self.post_office.mailboxes[name]
        del self._actors[name]
        self.register(actor, name)
        mailbox.limit = actor.mailbox_limit
        self.post_office.mailboxes[name] = mailbox

    def add_alias(self, alias: str, address: str) -> None:
        """Deliver commands to ``alias`` to the actor at ``address``.

        Args:
            alias: the other name.
            address: the actor's address.
        """
        self.post_office.add_alias(alias, address)

    def observe(
        self, actor: Actor, start: Position | None = None, keep_cursor: bool = False
    ) -> None:
        """Run a registered actor on the bus thread.

        Args:
            actor: the actor.
            start: the first event it gets; the next one if not given.
            keep_cursor: commit its position in the run's folder, and continue from there if one
                is committed already.
        """
        assert self.writer is not None
        self._adopt_hooks(actor)
        name = actor_name(actor)
        cursor_file = CursorFile(self._run, name) if keep_cursor and self._run else None
        if cursor_file is not None and (cursor := cursor_file.load()) is not None:
            now = AttemptLog(self._attempt, self.store)  # type: ignore[arg-type]
            start = go_on(actor, cursor, [*self._earlier, now])  # type: ignore[arg-type]
        elif cursor_file is not None and self._run is not None and self._attempt > 0:
            actor.begin_anew(states_of_others(self._run))  # type: ignore[attr-defined]
        if start is None:
            start = Position(self._attempt, self.writer.written_seq)
        mailbox = self.post_office.mailboxes[name]
        mailbox.arrived = None  # the bus thread takes from it, from now on
        observer = Observer(actor, start, self, cursor_file, mailbox=mailbox)
        with self._lock:
            self.observers.append(observer)
            if self._nursery is not None and self._token is not None:
                self._token.run_sync_soon(self._nursery.start_soon, observer.run)
        self._ensure_thread()

    def remove(self, actor: Actor, reason: str) -> None:
        """Remove an actor: its observer stops, its mailbox refuses commands, its name is free.

        Args:
            actor: the actor.
            reason: why, for the log.
        """
        name = actor_name(actor)
        for observer in self.observers:
            if observer.actor is actor:
                observer.stop_early(reason)
        mailbox = self.post_office.close_mailbox(name, reason)
        self._removed.append(_Member(name, actor, mailbox))
        del self._actors[name]
        self._tables = [table for table in self._tables if table.actor is not actor]
        self.has_step_handlers = bool(self._tables)

    def _adopt_hooks(self, actor: Actor) -> None:
        """Have the hooks recorded that an observer wants."""
        if actor._hook_selection() != "none":
            self.want_hooks(actor._observed_hooks())

    def want_hooks(self, wanted: set[str] | None) -> None:
        """Record more hooks from now on; all of them with None."""
        assert self.writer is not None
        self.writer.want_hooks(wanted)

    # -- for observers (observer.Host) -------------------------------------------------------

    def open_reader(self, start: Position) -> RunReader:
        """Return a reader of the run's log at a position."""
        assert self.writer is not None
        assert self.store is not None
        writer = self.writer
        live = AttemptLog(self._attempt, self.store, lambda: writer.committed)
        return RunReader([*self._earlier, live], start)

    def is_closing(self, observer: Observer) -> bool:
        """Return whether the log is complete and it is the observer's turn to stop."""
        turn = self._turns.get(observer)
        return turn is not None and turn.is_set()

    async def pause(self, observer: Observer, seconds: float) -> None:
        """Sleep, at most until the log is complete, or then until it is the observer's turn."""
        assert self._closing_event is not None
        event = self._closing_event
        if event.is_set():
            event = self._turn_of(observer)
        with trio.move_on_after(seconds):
            await event.wait()

    def _turn_of(self, observer: Observer) -> trio.Event:
        return self._turns.setdefault(observer, trio.Event())

    def stop_run(self, reason: str) -> None:
        """Ask the run to end gracefully."""
        self.post("fit", Stop(reason=reason), "supervisor", None)

    def make_dead_letter(self, undelivered: Undelivered) -> None:
        """Record a command that was not taken, and tell its sender."""
        self.post_office.make_dead_letter(undelivered)

    # -- for actors --------------------------------------------------------------------------

    def post(self, target: str, command: Command, sender: str, reply: Reply | None) -> Told:
        """Deliver a command, or make a dead letter of it; any thread may call this.

        Args:
            target: the address of the actor.
            command: the command.
            sender: the name of the sender.
            reply: where to set the reply; None if none is expected.

        Returns:
            An awaitable that waits for room in the mailbox, if the policy demands it.
        """
        self.check_is_here(f"{type(command).__name__} was sent to {target!r}")
        return self.post_office.post(target, Envelope(command, sender, reply))

    def put(
        self, source: str, name: str, value: object, destinations: Sequence[str] | None
    ) -> None:
        """Record a metric of an actor, in the way that the trainer chose."""
        self.record_put(source, name, value, destinations)

    record_put: Callable[[str, str, object, Sequence[str] | None], None]

    def take_puts(
        self,
        put: Callable[[str, str, Any, Sequence[str] | None], None],
        put_media: Callable[[str, str, EncodedMedia, Sequence[str] | None], None],
        emit: Callable[[str, UserEvent], None],
    ) -> None:
        """Set how puts and events of actors are recorded from now on.

        Args:
            put: records a metric.
            put_media: records an image, a text or the like.
            emit: records an event that a user defined.
        """
        self.record_put, self.record_media, self.record_user_event = put, put_media, emit

    def _refuse_put(self, source: str, name: str, *_: object) -> None:
        raise self.why_refused(f"put({name!r}) was called")

    def _refuse_user_event(self, source: str, event: UserEvent) -> None:
        raise self.why_refused(f"emit({type(event).__name__}(...)) was called")

    def why_refused(self, what: str) -> UsageError:
        """Return the error for a record in a forked child, or while no run is open.

        Args:
            what: what was to be recorded, such as a call.
        """
        if self.is_left:
            return refusal(what)
        if self._is_over:
            return OutsideRunError(
                f"{what} after the run's end, which is the last that its log holds; put it in a "
                "hook, on_fit_end at the latest, and have other threads end before the run does"
            )
        return OutsideRunError(
            f"{what} before the run has begun; put it in a hook, setup at the earliest"
        )

    def refuse_late_put(
        self, name: str, value: object, source: str, kind: type[Event] = Put
    ) -> None:
        """Refuse a put, or another event of an actor, after the run's end.

        Args:
            name: of the metric, or of the event's type.
            value: its value.
            source: the name of the actor.
            kind: the type of the event.

        Raises:
            OutsideRunError: always, except on the training thread: an interruption there while the
                run's
                end is written, such as a signal handler, must not end that; a warning is logged
                instead.
            ForkedChildError: this is a forked child.
        """
        what = f"{'emit' if kind is PlainUserEvent else 'put'}({name!r}) was called"
        self.check_is_here(what)
        if self._threads.current() != self._training_thread:
            self._is_over = True
            raise self.why_refused(what)
        self._warn_too_late(kind, (name, value), source)

    def put_media(
        self, source: str, name: str, media: EncodedMedia, destinations: Sequence[str] | None
    ) -> None:
        """Record an image, a text or the like of an actor, in the way that the trainer chose."""
        self.record_media(source, name, media, destinations)

    record_media: Callable[[str, str, EncodedMedia, Sequence[str] | None], None]

    def emit_user_event(self, source: str, event: UserEvent) -> None:
        """Record an event that a user defined, from an actor; the trainer says how."""
        self.record_user_event(source, event)

    record_user_event: Callable[[str, UserEvent], None]

    # -- statistics --------------------------------------------------------------------------

    def statistics(self) -> BusStatistics:
        """Return counts of log, mailboxes and cursors, the last ones if the run is over.

        Any thread may call this.
        """
        log = self._log_statistics()
        observers = {id(observer.actor): observer for observer in list(self.observers)}
        mailboxes = self.post_office.mailboxes
        actors = {
            name: ActorStatistics(
                mailboxes[name].statistics(), self._observed(observers.get(id(actor)), log)
            )
            for name, actor in list(self._actors.items())
            if name in mailboxes
        }
        office = self.post_office
        return BusStatistics(actors, log, office.dead_letters, office.unknown)

    def _log_statistics(self) -> LogStatistics | None:
        writer = self.writer  # read once, because the log may be closed meanwhile
        return self._final_log if writer is None else writer.statistics()

    def _observed(
        self, observer: Observer | None, log: LogStatistics | None
    ) -> ObserverStatistics | None:
        if observer is None or log is None:
            return None
        return observer.statistics(self._attempt, log.events - log.buffered)

    def _emit_totals(self) -> None:
        """Record what each actor did."""
        mailboxes = self.post_office.mailboxes
        present = [_Member(name, actor, mailboxes[name]) for name, actor in self._actors.items()]
        # By identity: an actor that is a dataclass cannot be hashed.
        observers = {id(observer.actor): observer for observer in self.observers}
        log = self._log_statistics()
        for name, actor, mailbox in (*self._removed, *present):
            mail, seen = mailbox.statistics(), self._observed(observers.get(id(actor)), log)
            if seen is not None or mail.sent:
                self.emit(ActorTotals, *_totals(actor, mail, seen), source=name)

    # -- the bus thread ----------------------------------------------------------

    def serve_control(self, steered: Steered) -> None:
        """Let others steer the run through a socket in its folder; to call before ``start``."""
        if self._run is not None:
            self._control = ControlServer(self._run.path, steered, self, self.post_office)

    def start(self) -> None:
        """Start the bus thread, if there is something for it to do."""
        self.is_open = True
        records = self._run is not None and isinstance(self.store, FolderStore)
        if records or self._control is not None:
            self._ensure_thread()

    def _ensure_thread(self) -> None:
        if not self._is_started:
            self._is_started = True
            try:
                self._threads.start_bus_thread(self._main, self._on_bus_thread_ended)
            except (RuntimeError, MemoryError) as error:  # no thread is available
                self._on_bus_thread_ended(error)

    def _on_bus_thread_ended(self, error: BaseException | None) -> None:
        if self.is_left:
            return
        if error is not None:
            self._thread_error = error
            _log.error("the bus thread failed; observers get the rest by replay", exc_info=error)
        self._is_up.set()
        self._drained.set()
        for observer in self.observers:
            observer.done.set()

    async def _main(self) -> None:
        self.post_office.bus_thread = self._threads.current()
        self.root_task = trio.lowlevel.current_root_task()
        trio.lowlevel.add_instrument(self.turns)
        with self._scope:
            await self._serve()

    async def _serve(self) -> None:
        async with trio.open_nursery() as housekeeping:
            housekeeping.start_soon(self.housekeeping.run)
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
                        if not observer.gave_up:
                            nursery.start_soon(observer.run)
                self._is_up.set()
                await self._closing_event.wait()
            housekeeping.cancel_scope.cancel()

    # -- the end -----------------------------------------------------------------------------

    def close(
        self, drain_timeout_s: float, ended: tuple[Ending, str] | None = None
    ) -> list[Observer]:
        """Close the bus: drain observers, record the end, stop observers one by one, seal the log.

        This ends in time, whatever actors on the bus thread do: within ``drain_timeout_s``, the
        observers' ``stop_timeout_s``, and a few seconds for those that ignore cancellation.

        Args:
            drain_timeout_s: how long observers may take to read up to the end, in s.
            ended: how the run ended and why, for the last event; None for a log that just stops.

        Returns:
            The observers that have not read everything.

        Raises:
            Exception: a plain handler's exception on the last events; everything is closed then.
        """
        self.is_open = False
        with self._lock:
            self._closing = True
        # Observers still take their own commands.
        self.post_office.close_all_but({observer.name for observer in self.observers})
        if self._is_started:
            self._threads.wait(self._is_up, CANCEL_TIMEOUT_S)
        if self.writer is None:
            self._announce_closing()
            if self._is_started:  # only for the control socket
                has_ended = self._threads.wait(self._drained, END_TIMEOUT_S)
                if not has_ended and self._control is not None:
                    self._control.withdraw()
            self.take_no_more_puts()
            return []
        self._flush_all()
        with self.writer.alone():
            self.writer.flush(wait=True)
        self._announce_closing()
        self._drain(drain_timeout_s)
        self._flush_all()
        self._emit_totals()
        self._record_end(ended)
        has_end = self.writer.flush_end()
        self._stop_observers()
        self.check_folder()
        self._seal()
        if ended is not None and not has_end:
            self.log_problems.append(
                f"cannot record the run's end ({ended[0]}); the run will look as if it was killed"
            )
        if self._failures:
            raise self._failures[0]
        return sorted(
            [observer for observer in self.observers if not observer.finished],
            key=lambda observer: not observer.gave_up.startswith("held up"),
        )

    def _record_end(self, ended: tuple[Ending, str] | None) -> None:
        """Record the last events.

        RunEnded, if given, is the last, after what plain handlers put when they receive it.
        """
        writer = self.writer
        assert writer is not None
        if ended is not None:
            ended = ended[0], without_secrets(ended[1])
            self._announce_end(writer, *ended)
        writer.takes = False  # requested events are recorded, new ones are refused
        self._flush_all()
        # Never reset: nothing comes after RunEnded, whatever interrupts.
        writer.owner = NOBODY
        if ended is not None:
            writer.append(writer.event(RunEnded, *ended))

    def _announce_end(self, writer: LogWriter, how: Ending, reason: str) -> None:
        with writer.alone():
            announced = writer.event(RunEnded, how, reason)
        for table in self._tables:
            for handler in table.handlers(announced):
                try:
                    handler(announced)
                except Exception as error:
                    self._failures.append(error)

    def hurry(self) -> None:
        """Stop waiting for observers, but end properly; for signal handlers."""
        self._hurries = True  # not an Event, whose lock may be held where the signal interrupts

    def _announce_closing(self) -> None:
        if self._closing_event is not None:
            self._run_on_bus_thread(self._closing_event.set)

    def _run_on_bus_thread(self, action: Callable[[], object]) -> None:
        """Run an action on the bus thread, if there is one."""
        if self._token is None:
            return
        with contextlib.suppress(
            trio.RunFinishedError
        ):  # the bus thread failed, which was reported
            self._token.run_sync_soon(action)

    def _flush_all(self) -> None:
        """Write all requested events, also if plain handlers raise on them."""
        writer = self.writer
        assert writer is not None
        for _ in range(writer.statistics().asked_for + 1):  # each round takes at least one
            try:
                self.flush()
                return
            except Exception as error:
                self._failures.append(error)

    def _drain(self, timeout_s: float) -> None:
        """Wait until observers have read the log and taken the commands sent to them by then.

        Those that have not in time are cancelled.
        """
        assert self.writer is not None
        until_s = self._threads.now_s() + timeout_s
        self._await(lambda observer: observer.has_begun, timeout_s, until_s)
        self._flush_all()  # records that they began
        target = Position(self._attempt, self.writer.readable_seq)
        late = self._await(lambda observer: observer.position >= target, timeout_s, until_s)
        sent = {observer: observer.mailbox.sent for observer in self.observers}
        self._await(lambda observer: observer.mailbox.settled >= sent[observer], timeout_s, until_s)
        if late and not self._is_responsive():
            self._leave_to_holder()
            return
        why = f"was not done after {timeout_s:g} s"
        self._cancel(late, "was not done when a signal ended the wait" if self._hurries else why)
        stuck = [observer for observer in late if not observer.done.is_set()]
        if stuck and not self._is_responsive():
            self._leave_to_holder()

    def _await(
        self, is_ready: Callable[[Observer], bool], timeout_s: float, until_s: float
    ) -> list[Observer]:
        """Wait until all observers are ready or time is over; return those that are not ready."""
        notice_s = until_s - timeout_s + DRAIN_NOTICE_AFTER_S
        while late := [o for o in self.observers if not (o.done.is_set() or is_ready(o))]:
            now_s = self._threads.now_s()
            if now_s > until_s or self._hurries:
                return late
            if now_s > notice_s:
                notice_s = math.inf
                _report_waiting(late, timeout_s)
            self._threads.wait(late[0].done, 0.002)
            self._flush_all()  # records faults of observers while they drain
        return []

    def _is_responsive(self) -> bool:
        """Return whether the bus thread still makes progress."""
        answered = threading.Event()
        self._run_on_bus_thread(answered.set)
        return self._threads.wait(answered, CANCEL_TIMEOUT_S)

    def _leave_to_holder(self) -> None:
        """Abandon everything on the bus thread, because a coroutine does not yield it.

        The report names that coroutine, and does not blame those that waited for it.
        """
        held_up = self.held_up()
        rest = [observer for observer in self.observers if not observer.done.is_set()]
        if held_up is None:
            self._cancel(rest, "the bus thread is held up by a coroutine")
            return
        name, holder, seconds, where, _ = held_up
        if holder is not None:
            holder.abandon(f"held up the bus thread for {seconds:.0f} s, in {where}")
        why = f"{name} held up the bus thread, in {where}"
        # The culprit comes first.
        self._cancel(sorted(rest, key=lambda observer: observer is not holder), why)

    def _stop_observers(self) -> None:
        """Have observers read the end and stop, in reverse start order, each within its time."""
        hurry_until_s = math.inf
        late: list[Observer] = []
        for observer in reversed(self.observers):
            if observer.gave_up:
                continue
            timeout_s = observer.actor.stop_timeout_s
            until_s = self._threads.now_s() + timeout_s
            self._run_on_bus_thread(functools.partial(self._give_turn, observer))
            while not self._wait_until(observer.done, min(until_s, self._threads.now_s() + 0.05)):
                if self._hurries and hurry_until_s == math.inf:
                    hurry_until_s = self._threads.now_s() + CANCEL_TIMEOUT_S
                if self._threads.now_s() >= min(until_s, hurry_until_s):
                    if not self._is_responsive():  # no other observer can stop either
                        self._leave_to_holder()
                        break
                    observer.abandon(f"did not stop within {timeout_s:g} s")
                    late.append(observer)
                    break
        self._cancel([observer for observer in late if not observer.done.is_set()], "")
        if self._is_started:
            # Always, because the control socket answers clients that still wait.
            is_stuck = any(not observer.done.is_set() for observer in self.observers)
            has_ended = self._threads.wait(self._drained, 0.0 if is_stuck else END_TIMEOUT_S)
            if not has_ended and self._control is not None:
                self._control.withdraw()

    def _wait_until(self, event: threading.Event, until_s: float) -> bool:
        return self._threads.wait(event, max(0.0, until_s - self._threads.now_s()))

    def _give_turn(self, observer: Observer) -> None:
        self._turn_of(observer).set()

    def _cancel(self, observers: Sequence[Observer], reason: str) -> None:
        """Cancel late observers, and abandon those that ignore cancellation."""
        for observer in observers:
            observer.abandon(reason)
            self._run_on_bus_thread(observer.cancel)
        until_s = self._threads.now_s() + CANCEL_TIMEOUT_S
        for observer in observers:
            self._wait_until(observer.done, until_s)
            self.emit(ActorStopped, observer.gave_up, observer.position.seq, source=observer.name)
            observer.close_mailbox("the run ended before it was taken")

    def take_no_more_puts(self) -> None:
        """Refuse puts from now on, because the run is over."""
        self._is_over = True
        self.place.hook = ""  # so that log() is refused too
        self.take_puts(self._refuse_put, self._refuse_put, self._refuse_user_event)

    def _seal(self) -> None:
        assert self.writer is not None
        self._final_log = self.writer.statistics()
        self.take_no_more_puts()
        writer, self.writer = self.writer, None
        while writer.inbox:  # requested while the end was being recorded
            event = writer.take_from_inbox()
            fields = tuple(getattr(event, name) for name in _own_fields(type(event)))
            self._warn_too_late(type(event), fields, event.source)
        writer.close()
        self._final_log = writer.statistics()
        self.log_problems = writer.problems()
        if self.flight is None:
            self.place.recorder = recording_nothing()
            self.routes.refresh()
        if isinstance(self.store, UnnamedStore):
            self.store.close()
        else:
            self.housekeeping.compress(writer.sealed)


def _own_fields(kind: type[Event]) -> tuple[str, ...]:
    return kind.__struct_fields__[len(Event.__struct_fields__) :]


def _report_waiting(late: Sequence[Observer], timeout_s: float) -> None:
    names = ", ".join(observer.name for observer in late)
    notify_user(
        f"nightbus: waiting up to {timeout_s:g} s for {names} to finish; Ctrl-C ends the wait"
    )


def _totals(
    actor: Actor, mail: MailboxStatistics, seen: ObserverStatistics | None
) -> tuple[Any, ...]:
    """Return the fields of ActorTotals."""
    head = ("in step", 0, 0, 0, 0)
    if seen is not None:
        state = "drained" if seen.state in ("running", "waiting") else seen.state
        head = (state, seen.delivered, seen.lag, seen.restarts, seen.faults)
    # Without commands sent after the drain, whose fate the log cannot hold.
    tail = (mail.sent - mail.waiting, mail.delivered, mail.dropped, mail.dead, mail.most_waiting)
    return (type(actor).__name__, *head, *tail)
