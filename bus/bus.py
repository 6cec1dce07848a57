"""The bus: ties the log, the routes, the actors and the bus thread together."""

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
    Put,
    RunEnded,
    Stop,
)
from .housekeeping import Housekeeping
from .log.flight_recorder import FlightRecorder
from .log.place import AT_ONCE, NEVER, Place
from .log.segments import FolderStore, UnnamedStore
from .log.writer import MAX_BUFFERED_EVENTS, MAX_BUFFERED_NS, NOBODY, LogWriter
from .mail.mailbox import Envelope, Mailbox, Told, Undelivered
from .mail.reply import Reply
from .media import EncodedMedia
from .observer import Observer
from .post_office import PostOffice
from .routes import Routes
from .runs.cursor import AttemptLog, CursorFile, Position, RunReader
from .runs.resume_cursor import go_on, states_of_others
from .runs.run_folder import RunFolder
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
CANCEL_TIMEOUT_S = 1.0  # for what is cancelled to let go, all of them together
END_TIMEOUT_S = ANSWER_TIMEOUT_S + 1.0  # for the bus thread to end

_log = get_logger("nightbus.bus")


class _Member(NamedTuple):
    """An actor of the run, or one that was let go."""

    name: str
    actor: Actor
    mailbox: Mailbox


class HeldUp(NamedTuple):
    """What does not let go of the bus thread.

    Attributes:
        name: of the actor, or of a task that is none's.
        holder: the actor's observer, if it is one's.
        seconds: how long it has not let go, in s.
        where: the coroutine, and the line in it.
        stack: all calls.
    """

    name: str
    holder: Observer | None
    seconds: float
    where: str
    stack: str


class Bus(StaysInRun):
    """Carries one attempt of a run.

    The thread that makes it is the training thread: it emits events, takes commands at safe
    points and ends the bus. Everything else happens on the bus thread, which is started with the
    first observer, or at once when the log is kept in a folder.

    Args:
        place: where training is.
        earlier: logs of the run's earlier attempts, for observers that have not seen them all.
        run: the run's folder, or None when nothing is kept.
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
        self.log_problems: list[str] = []  # what became of the log, once it is closed
        self.attention = False  # something is to be done at the next safe point
        self._actors: dict[str, Actor] = {}  # address -> actor
        self._departed: list[_Member] = []
        self._tables: list[HandlerTable] = []  # event handlers in the step
        self.has_step_handlers = False  # whether there are any
        self._attempt = 0
        self._control: ControlServer | None = None
        self._earlier = list(earlier)
        self._run = run
        self.store: FolderStore | UnnamedStore | None = None  # of the log
        self._said_gone = False  # that the run's folder is not there any more
        self._is_started = False  # the bus thread
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None
        self.is_open = False  # from its start to its end
        self._closing = False
        self._hurries = False
        self._failures: list[Exception] = []  # of handlers in the step, on the last events
        self._is_up = threading.Event()  # the bus thread runs
        self._turns: dict[Observer, trio.Event] = {}
        self._closing_event: trio.Event | None = None
        self._drained = threading.Event()
        self._thread_error: BaseException | None = None
        self.turns = Turns(lambda: self.post_office.thread_beside, self._threads.now_s)
        self.root_task: trio.lowlevel.Task | None = None  # of the bus thread, for those who look
        self._scope = trio.CancelScope()  # of all that is done there
        self._lock = threading.Lock()  # who attaches, from which thread ever
        self._training_thread = self._threads.current()
        self._is_over = self.is_left = False
        self.take_puts(self._refuse_put, self._refuse_put)
        leave_when_forked(self)

    @property
    def run_path(self) -> Path | None:
        """The run's folder; None when the run keeps none."""
        return self._run.path if self._run else None

    @property
    def addresses(self) -> Collection[str]:
        """The addresses that are taken."""
        return self._actors.keys()

    def check_folder(self) -> None:
        """Say it, once, if somebody has removed or renamed the run's folder meanwhile."""
        if self._run is None or self._said_gone or self._run.is_there:
            return
        self._said_gone = True
        _log.warning(
            f"the run's folder {self._run.path} was removed or renamed: training goes on, but no "
            "checkpoint is saved in it any more, and sinks that write there stop; what was "
            "recorded is only where the folder is now"
        )

    def actor_at(self, address: str) -> Actor:
        """The actor of that address."""
        return self._actors[address]

    # -- a forked child ----------------------------------------------------------------------

    def leave_to_parent(self) -> None:
        """In a forked child the run is its parent's: all that would go on with it is refused."""
        self.is_left = True
        self.take_puts(self._refuse_put, self._refuse_put)
        self.routes.refuse(lambda: refusal("training went on"))
        self.place.hook = ""
        self.place.due_ns = AT_ONCE
        if self._threads.current() == self.post_office.thread_beside:
            self._scope.cancel()  # a coroutine forked: the others end with it, at once

    def check_is_here(self, what: str) -> None:
        """Make sure that this is not a forked child of the process whose run it is.

        Raises:
            ForkedChildError: it is one.
        """
        if self.is_left:
            raise refusal(what)

    # -- the log -----------------------------------------------------------------------------

    def open_log(self, writer: LogWriter, store: FolderStore | UnnamedStore) -> None:
        """Record from now on."""
        self.writer, self.store = writer, store
        self._attempt = writer.identity.attempt
        if self.flight is not None:
            self.flight.on_kept, writer.hand_over = writer.take_notes, self._hand_over
        self.routes.refresh()

    def keep_last_events(self, flight: FlightRecorder) -> None:
        """Keep the last events in memory from now on, hooks too."""
        self.flight = flight
        self.routes.refresh()

    def held_up(self) -> "HeldUp | None":
        """Who runs on the bus thread without an end; any other thread may ask."""
        turn = self.turns.now()
        if turn is None:
            return None
        tasks = ancestors(turn.task)
        holder = next((o for task in tasks for o in self.observers if o.task is task), None)
        name = turn.task.name if holder is None else holder.name
        return HeldUp(name, holder, turn.seconds, turn.where, turn.stack)

    def emit(self, kind: type[Event], *fields: Any, source: str = "") -> None:
        """Record an event that arises now, and route it to handlers in the step."""
        if not self.emit_in_time(kind, *fields, source=source):
            self._tell_late(kind, fields, source)

    def emit_in_time(self, kind: type[Event], *fields: Any, source: str = "") -> bool:
        """``emit``, but for an event that comes after the run's end.

        Returns:
            Whether it came before.
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
                self.append(event)
            finally:
                writer.owner = thread
            self.have_handled(event)
        except Exception as error:
            if not self._closing:
                raise
            self._failures.append(error)
        return True

    def append(self, event: Event) -> None:
        """Add an event to the log, which is to be handled in the step as soon as it is there."""
        assert self.writer is not None
        self.writer.append(event)
        if self.flight is not None:
            self.flight.add(event)

    def have_handled(self, event: Event) -> None:
        """Route an event that is in the log to handlers in the step."""
        for table in self._tables:
            for handler in table.handlers(event):
                handler(event)

    def emit_later(
        self, kind: type[Event], make: Callable[[LogWriter], Event], said: tuple[Any, ...]
    ) -> None:
        """Record an event that is made when the log takes it up, from any thread.

        Args:
            kind: of the event.
            make: makes it.
            said: source and first fields, for when it is too late for the log.
        """
        writer = self.writer
        if writer is not None and not writer.ask_for_event(lambda: make(writer)):
            self._tell_late(kind, said[1:], said[0])

    def _tell_late(self, kind: type[Event], fields: tuple[Any, ...], source: str) -> None:
        """Say what the log cannot hold, because the run's end is the last that it holds."""
        self.check_is_here(f"{kind.__name__} was to be recorded")
        if kind not in (ActorStopped, CommandTaken):
            said = [str(field)[:200] for field in fields[:2]]
            _log.warning("too late for the log", event_type=kind.__name__, source=source, said=said)

    def flush(self) -> None:
        """Write what happened, so that observers see it."""
        writer, place = self.writer, self.place
        if writer is None:
            if self.flight is not None:
                place.due_ns = NEVER
            return
        owner = writer.owner
        if owner == NOBODY and writer.takes:
            return  # in the middle of what is being written, or of a put
        if writer.inbox:
            self._take_from_inbox(writer)
        writer.owner = NOBODY
        try:
            if self.flight is not None:
                place.due_ns = NEVER
                self._hand_over()
            writer.flush()
        finally:
            writer.owner = owner
            # Behind it: another thread may have asked for an event since.
            if writer.others or writer.inbox:
                place.due_ns = AT_ONCE

    def _take_from_inbox(self, writer: LogWriter) -> None:
        """Take up what others have asked for by now; who asks meanwhile must not hold it up."""
        owner = writer.owner
        for _ in range(len(writer.inbox)):
            writer.owner = NOBODY
            try:
                event = writer.take_from_inbox()
                self.append(event)
            finally:
                writer.owner = owner
            self.have_handled(event)

    def end_step(self) -> None:
        """Write what happened in a step, at its end.

        Hooks alone wait until there are 50 ms of them: a write costs more than what a fast step
        has to say. What else there is never waits.
        """
        place = self.place
        if place.clock_ns() > place.due_ns:
            self.flush()
        if place.notes is not None and len(place.notes.words) > MAX_BUFFERED_EVENTS:
            if self.flight is not None:
                self.flight.keep()
            self.flush()

    def _hand_over(self) -> None:
        """Give the writer what the flight recorder noted for it."""
        writer, flight, place = self.writer, self.flight, self.place
        if writer is not None and flight is not None and (writer.hooks is None or writer.hooks):
            flight.keep()
            place.due_ns = place.clock_ns() + MAX_BUFFERED_NS

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
        """Let an actor in the step take the place of another one: its address and its mailbox."""
        name = actor_name(former)
        self._tables = [table for table in self._tables if table.actor is not former]
        mailbox = self.post_office.mailboxes[name]
        del self._actors[name]
        self.register(actor, name)
        mailbox.limit = actor.mailbox_limit
        self.post_office.mailboxes[name] = mailbox

    def add_alias(self, alias: str, address: str) -> None:
        """Let commands to ``alias`` reach the actor at ``address``."""
        mailboxes = self.post_office.mailboxes
        mailboxes[alias] = mailboxes[address]

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
            now = AttemptLog(self._attempt, self.store)  # type: ignore[arg-type]
            start = go_on(actor, cursor, [*self._earlier, now])  # type: ignore[arg-type]
        elif cursor_file is not None and self._run is not None and self._attempt > 0:
            actor.begin_anew(states_of_others(self._run))  # type: ignore[attr-defined]
        if start is None:
            start = Position(self._attempt, self.writer.written_seq)
        mailbox = self.post_office.mailboxes[name]
        mailbox.arrived = None  # it is taken from beside the step, from now on
        observer = Observer(actor, start, self, cursor_file, mailbox=mailbox)
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
        mailbox = self.post_office.close_mailbox(name, reason)
        self._departed.append(_Member(name, actor, mailbox))
        del self._actors[name]
        self._tables = [table for table in self._tables if table.actor is not actor]
        self.has_step_handlers = bool(self._tables)

    def _adopt_hooks(self, actor: Actor) -> None:
        """Make sure that the hooks an observer wants are recorded."""
        if actor._hook_selection() != "none":
            self.want_hooks(actor._observed_hooks())

    def want_hooks(self, wanted: set[str] | None) -> None:
        """Record hooks, or all with None, from now on; besides those that are already."""
        writer = self.writer
        assert writer is not None
        if writer.hooks is None:
            return
        if self.flight is not None:
            self.flight.keep()  # what was noted up to now is nothing that they want
            self.place.due_ns = AT_ONCE
        writer.hooks = None if wanted is None else writer.hooks | wanted

    # -- what observers ask (observer.Host) --------------------------------------------------

    def open_reader(self, start: Position) -> RunReader:
        """A reader of the run's log at a position."""
        assert self.writer is not None
        assert self.store is not None
        writer = self.writer
        live = AttemptLog(self._attempt, self.store, lambda: writer.committed)
        return RunReader([*self._earlier, live], start)

    def is_closing(self, observer: Observer) -> bool:
        """Whether the log is complete and it is the observer's turn, so that its end is the end."""
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

    # -- what actors ask ---------------------------------------------------------------------

    def post(self, target: str, command: Command, sender: str, reply: Reply | None) -> Told:
        """Deliver a command, or make a dead letter of it. Any thread may call it.

        Returns:
            What a coroutine awaits to wait for room in the mailbox, where the policy has it wait.
        """
        self.check_is_here(f"{type(command).__name__} was sent to {target!r}")
        return self.post_office.post(target, Envelope(command, sender, reply))

    def put(
        self, source: str, name: str, value: object, destinations: Sequence[str] | None
    ) -> None:
        """Record a metric from an actor; the trainer says how."""
        self.record_put(source, name, value, destinations)

    record_put: Callable[[str, str, object, Sequence[str] | None], None]

    def take_puts(
        self,
        put: Callable[[str, str, Any, Sequence[str] | None], None],
        put_media: Callable[[str, str, EncodedMedia, Sequence[str] | None], None],
    ) -> None:
        """Have what actors put taken like this from now on."""
        self.record_put, self.record_media = put, put_media

    def _refuse_put(self, source: str, name: str, *_: object) -> None:
        raise self.why_refused(f"put({name!r}) was called")

    def why_refused(self, what: str) -> UsageError:
        """Why nothing can be recorded: this is a forked child, or no run is open.

        Args:
            what: what was to be recorded, a call say.
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

    def refuse_late_put(self, name: str, value: object, source: str) -> None:
        """A put that the log does not take any more.

        Raises:
            OutsideRunError: always, but on the training thread: what strikes there while the run's
                end is written, a signal's handler say, must not end that; it is said.
            ForkedChildError: this is a forked child.
        """
        self.check_is_here(f"put({name!r}) was called")
        if self._threads.current() != self._training_thread:
            self._is_over = True
            raise self.why_refused(f"put({name!r}) was called")
        self._tell_late(Put, (name, value), source)

    def put_media(
        self, source: str, name: str, media: EncodedMedia, destinations: Sequence[str] | None
    ) -> None:
        """Record an image, a text and the like from an actor; the trainer says how."""
        self.record_media(source, name, media, destinations)

    record_media: Callable[[str, str, EncodedMedia, Sequence[str] | None], None]

    # -- statistics --------------------------------------------------------------------------

    def statistics(self) -> BusStatistics:
        """Counts of log, mailboxes and cursors at this moment, and of a run that is over the last
        ones; any thread may ask.
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
        writer = self.writer  # once: the log may be closed meanwhile
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
        for name, actor, mailbox in (*self._departed, *present):
            mail, seen = mailbox.statistics(), self._observed(observers.get(id(actor)), log)
            if seen is not None or mail.sent:
                self.emit(ActorTotals, *_totals(actor, mail, seen), source=name)

    # -- the bus thread ----------------------------------------------------------

    def serve_control(self, steered: Steered) -> None:
        """Let others steer the run through a socket in its folder; to be said before the start."""
        if self._run is not None:
            self._control = ControlServer(self._run.path, steered, self)

    def start(self) -> None:
        """Start the bus thread, when there is something for it to do."""
        self.is_open = True
        records = self._run is not None and isinstance(self.store, FolderStore)
        if records or self._control is not None:
            self._ensure_thread()

    def _ensure_thread(self) -> None:
        if not self._is_started:
            self._is_started = True
            try:
                self._threads.start_beside(self._main, self._on_ended_beside)
            except (RuntimeError, MemoryError) as error:  # no thread can be had
                self._on_ended_beside(error)

    def _on_ended_beside(self, error: BaseException | None) -> None:
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
        self.post_office.thread_beside = self._threads.current()
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
        """End: drain, record the end, let observers stop one by one, seal the log.

        All of it ends in time, whatever actors beside the step do: within ``drain_timeout_s``, the
        observers' ``stop_timeout_s``, and a few seconds for those that do not heed being cancelled.

        Args:
            drain_timeout_s: how long observers may take to read up to the end, in s.
            ended: how the run ended and why: the last event. None for a log that just stops.

        Returns:
            The observers that have not seen everything.

        Raises:
            Exception: what a handler in the step raised on the last events; all is closed then.
        """
        self.is_open = False
        with self._lock:
            self._closing = True
        # Observers still take theirs.
        self.post_office.close_all_but({observer.name for observer in self.observers})
        if self._is_started:
            self._threads.wait(self._is_up, CANCEL_TIMEOUT_S)
        if self.writer is None:
            self._announce_closing()
            if self._is_started:  # for the control socket alone
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
                f"the run's end could not be recorded: {ended[0]}; it will look as if it was killed"
            )
        if self._failures:
            raise self._failures[0]
        return sorted(
            [observer for observer in self.observers if not observer.finished],
            key=lambda observer: not observer.gave_up.startswith("held up"),
        )

    def _record_end(self, ended: tuple[Ending, str] | None) -> None:
        """Record the last events: RunEnded, if it is given, is the last, after what handlers in the
        step put when they hear of it.
        """
        writer = self.writer
        assert writer is not None
        if ended is not None:
            ended = ended[0], without_secrets(ended[1])
            self._announce_end(writer, *ended)
        writer.takes = False  # what was asked for is recorded, what comes now is refused
        self._flush_all()
        # Never given back: nothing comes after it, whatever strikes.
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
        """Wait for nobody any more, but end properly; for signal handlers."""
        self._hurries = True  # no Event: its lock may be held where the signal strikes

    def _announce_closing(self) -> None:
        if self._closing_event is not None:
            self._run_beside(self._closing_event.set)

    def _run_beside(self, action: Callable[[], object]) -> None:
        """Run it on the bus thread, if there is one."""
        if self._token is None:
            return
        with contextlib.suppress(trio.RunFinishedError):  # the bus thread failed; that was said
            self._token.run_sync_soon(action)

    def _flush_all(self) -> None:
        """Write all events that were asked for, also when handlers in the step raise on them."""
        writer = self.writer
        assert writer is not None
        for _ in range(writer.statistics().asked_for + 1):  # each takes at least one of them
            try:
                self.flush()
                return
            except Exception as error:
                self._failures.append(error)

    def _drain(self, timeout_s: float) -> None:
        """Wait until observers have read what is recorded and taken what was sent to them by then;
        cancel those that have not read it in time.
        """
        assert self.writer is not None
        until_s = self._threads.now_s() + timeout_s
        self._await(lambda observer: observer.has_begun, timeout_s, until_s)
        self._flush_all()  # that they began
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
        """Wait until all observers are ready, or time is over; returns those that are not."""
        notice_s = until_s - timeout_s + DRAIN_NOTICE_AFTER_S
        while late := [o for o in self.observers if not (o.done.is_set() or is_ready(o))]:
            now_s = self._threads.now_s()
            if now_s > until_s or self._hurries:
                return late
            if now_s > notice_s:
                notice_s = math.inf
                _tell_waiting(late, timeout_s)
            self._threads.wait(late[0].done, 0.002)
            self._flush_all()  # faults of observers, while they drain
        return []

    def _is_responsive(self) -> bool:
        """Whether the bus thread does anything any more."""
        answered = threading.Event()
        self._run_beside(answered.set)
        return self._threads.wait(answered, CANCEL_TIMEOUT_S)

    def _leave_to_holder(self) -> None:
        """Take leave of all that the bus thread has to do, because a coroutine does not
        let go of it; it is named, and those that waited for it are not blamed.
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
        # Whoever is to blame comes first.
        self._cancel(sorted(rest, key=lambda observer: observer is not holder), why)

    def _stop_observers(self) -> None:
        """Let observers see the end and stop, in reverse start order, each within its time."""
        hurry_until_s = math.inf
        late: list[Observer] = []
        for observer in reversed(self.observers):
            if observer.gave_up:
                continue
            timeout_s = observer.actor.stop_timeout_s
            until_s = self._threads.now_s() + timeout_s
            self._run_beside(functools.partial(self._give_turn, observer))
            while not self._wait_until(observer.done, min(until_s, self._threads.now_s() + 0.05)):
                if self._hurries and hurry_until_s == math.inf:
                    hurry_until_s = self._threads.now_s() + CANCEL_TIMEOUT_S
                if self._threads.now_s() >= min(until_s, hurry_until_s):
                    if not self._is_responsive():  # nor can anyone else stop
                        self._leave_to_holder()
                        break
                    observer.abandon(f"did not stop within {timeout_s:g} s")
                    late.append(observer)
                    break
        self._cancel([observer for observer in late if not observer.done.is_set()], "")
        if self._is_started:
            # Also where nobody is stuck: the control socket answers those who still wait.
            is_stuck = any(not observer.done.is_set() for observer in self.observers)
            has_ended = self._threads.wait(self._drained, 0.0 if is_stuck else END_TIMEOUT_S)
            if not has_ended and self._control is not None:
                self._control.withdraw()

    def _wait_until(self, event: threading.Event, until_s: float) -> bool:
        return self._threads.wait(event, max(0.0, until_s - self._threads.now_s()))

    def _give_turn(self, observer: Observer) -> None:
        self._turn_of(observer).set()

    def _cancel(self, observers: Sequence[Observer], reason: str) -> None:
        """Cancel what is late, and take leave of what does not heed it."""
        for observer in observers:
            observer.abandon(reason)
            self._run_beside(observer.cancel)
        until_s = self._threads.now_s() + CANCEL_TIMEOUT_S
        for observer in observers:
            self._wait_until(observer.done, until_s)
            self.emit(ActorStopped, observer.gave_up, observer.position.seq, source=observer.name)
            observer.bury_commands("the run ended before it was taken")

    def take_no_more_puts(self) -> None:
        """The run is over: whoever puts something from now on is refused."""
        self._is_over = True
        self.place.hook = ""  # so that nothing can be logged either
        self.take_puts(self._refuse_put, self._refuse_put)

    def _seal(self) -> None:
        assert self.writer is not None
        self._final_log = self.writer.statistics()
        self.take_no_more_puts()
        writer, self.writer = self.writer, None
        if self.flight is not None:
            self.flight.on_kept = None
        while writer.inbox:  # asked for while the end was being recorded
            event = writer.take_from_inbox()
            said = tuple(getattr(event, name) for name in _own_fields(type(event)))
            self._tell_late(type(event), said, event.source)
        writer.close()
        self._final_log = writer.statistics()
        self.log_problems = writer.problems()
        if self.flight is None:
            self.place.note_in(None)
            self.routes.refresh()
        if isinstance(self.store, UnnamedStore):
            self.store.close()
        else:
            self.housekeeping.compress(writer.sealed)


def _own_fields(kind: type[Event]) -> tuple[str, ...]:
    return kind.__struct_fields__[len(Event.__struct_fields__) :]


def _tell_waiting(late: Sequence[Observer], timeout_s: float) -> None:
    names = ", ".join(observer.name for observer in late)
    notify_user(
        f"nightbus: waiting up to {timeout_s:g} s for {names} to finish; Ctrl-C ends the wait"
    )


def _totals(
    actor: Actor, mail: MailboxStatistics, seen: ObserverStatistics | None
) -> tuple[Any, ...]:
    """The fields of ActorTotals."""
    head = ("in step", 0, 0, 0, 0)
    if seen is not None:
        state = "drained" if seen.state in ("running", "waiting") else seen.state
        head = (state, seen.delivered, seen.lag, seen.restarts, seen.faults)
    # Without those that came after the drain: what becomes of them, the log cannot hold.
    tail = (mail.sent - mail.waiting, mail.delivered, mail.dropped, mail.dead, mail.most_waiting)
    return (type(actor).__name__, *head, *tail)
