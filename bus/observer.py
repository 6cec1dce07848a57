"""Observer: runs one actor on the bus thread, which reads the log at its own pace."""

import threading
import traceback
from collections import deque
from typing import Any, Protocol

import msgspec
import trio

from .actor import MAX_TURN_S, Actor, Supervision, actor_name, command_handler
from .copies import StaysInRun
from .errors import ActorRaisedError, ActorStoppedError, UnhandledCommandError
from .events import ActorRestarted, ActorStarted, ActorStopped, CommandTaken, Event, Fault, Hook
from .log.codec import DecodedEvent
from .mail.mailbox import Mailbox, Undelivered
from .named_types import label_of
from .runs.cursor import Cursor, CursorFile, Position, RunReader
from .secrets.redaction import without_secrets
from .statistics import ObserverStatistics
from .system.logging_setup import get_logger
from .system.shortage import is_shortage

MAX_TRACEBACK_CHARS = 16_384
COMMIT_EVERY_S = 1.0
MAX_DOUBLINGS = 60  # of the back-off; many more would overflow a float
MAX_SHORTAGE_WAIT_S = 2.0  # between attempts while the process lacks something

_log = get_logger("nightbus.observer")
DEFAULT_SUPERVISION = Supervision()


class Host(Protocol):
    """The bus or the replay that runs an observer."""

    def emit(self, kind: type[Event], *fields: Any, source: str = "") -> None:
        """Record an event.

        Args:
            kind: the event's type.
            *fields: its own fields, in order.
            source: the name of the actor it comes from.
        """

    def open_reader(self, start: Position) -> RunReader:
        """Return a reader at a position."""

    def is_closing(self, observer: "Observer") -> bool:
        """Return whether the log is complete and it is the observer's turn to stop."""

    async def pause(self, observer: "Observer", seconds: float) -> None:
        """Sleep, at most until the log is complete, and then until it is the observer's turn.

        Args:
            observer: the observer.
            seconds: how long, in s.
        """

    def stop_run(self, reason: str) -> None:
        """Ask the run to end gracefully."""

    def make_dead_letter(self, undelivered: Undelivered) -> None:
        """Record a command that was not taken, and tell its sender."""


class RestartBudget:
    """Counts restarts within a period."""

    def __init__(self, supervision: Supervision) -> None:
        self._supervision = supervision
        self._times: deque[float] = deque()  # s, of the restarts within the period

    def next_delay_s(self, now_s: float) -> float | None:
        """Return how long to wait before the next restart, in s; None if there is none left."""
        while self._times and now_s - self._times[0] > self._supervision.period_s:
            self._times.popleft()
        if len(self._times) >= self._supervision.restarts:
            return None
        self._times.append(now_s)
        doublings = min(len(self._times) - 1, MAX_DOUBLINGS)
        longest_s = self._supervision.max_backoff_s
        return min(self._supervision.backoff_s * 2.0**doublings, longest_s)


class Observer(StaysInRun):
    """Runs one actor on the bus thread: start, events, stop, and restarts after failures.

    Args:
        actor: the actor.
        start: the first event it gets.
        host: the bus or replay that runs it.
        cursor_file: where its position is committed, for an actor with lasting effects.
        supervision: overrides the actor's own.
        mailbox: its commands, if some may have been sent before it began.

    Attributes:
        has_begun: its start is recorded.
        gave_up: why it will not read everything; empty while it may.
        finished: it has read the whole log, and stopped.
        done: set when it has ended; for other threads.
    """

    def __init__(
        self,
        actor: Actor,
        start: Position,
        host: Host,
        cursor_file: CursorFile | None = None,
        supervision: Supervision | None = None,
        mailbox: Mailbox | None = None,
    ) -> None:
        self.actor = actor
        self.name = actor_name(actor)
        self.mailbox = Mailbox(actor.mailbox_limit) if mailbox is None else mailbox
        self.position = start
        self.has_begun = False
        self.gave_up = ""
        self.finished = False
        self.done = threading.Event()
        self._scope = trio.CancelScope()
        self._was_cancelled = False
        self._is_waiting = False
        self._stop_reason = ""  # why it has to stop early
        self._host = host
        self.task: trio.lowlevel.Task | None = None  # the task that runs it
        self.error: BaseException | None = None  # the last one
        self._cursor_file = cursor_file
        self._supervision = supervision or actor.supervision or DEFAULT_SUPERVISION
        self._budget = RestartBudget(self._supervision)
        self._shortages = 0  # consecutive
        self.faults = 0
        self.restarts = 0
        self.events_read = 0
        self._committed: Position | None = None
        self._commit_at_s = 0.0
        self._reader: RunReader | None = None
        self._phase = "on_start"
        self._selection = actor._hook_selection()

    async def run(self) -> None:
        """Run until the log ends, the supervision gives up, or the task is cancelled."""
        self.task = trio.lowlevel.current_task()
        try:
            with self._scope:
                self._host.emit(
                    ActorStarted, type(self.actor).__name__, self.position.seq, source=self.name
                )
                self.has_begun = True
                await self._live_supervised()
        finally:
            self._close_reader()
            self.close_mailbox("the actor stopped before it was taken")
            self.done.set()

    async def _live_supervised(self) -> None:
        while True:
            try:
                await self._live()
            # SystemExit too: an exception on the bus thread ends only the actor that raised it.
            except BaseException as error:
                if self._is_from_outside(error):
                    raise
                self._record_fault(error)
            else:
                self.finished = True
                if self._stop_reason:
                    stopped = (self._stop_reason, self.position.seq)
                    self._host.emit(ActorStopped, *stopped, source=self.name)
                return
            delay_s = self._next_delay_s(self.error)
            if delay_s is None:
                self._give_up(self._supervision)
                return
            self._is_waiting = True
            await self._host.pause(self, delay_s)
            self._is_waiting = False
            self.restarts += 1  # only now, because it may be cancelled while it waits
            self._host.emit(ActorRestarted, self.restarts, delay_s, source=self.name)

    def _next_delay_s(self, error: BaseException | None) -> float | None:
        """Return how long to wait before the next restart, in s; None if there is none left.

        A shortage in the process is not the actor's failure, so it does not count.
        """
        is_short = error is not None and is_shortage(error) and self._supervision.restarts > 0
        if not is_short or self._host.is_closing(self):
            self._shortages = 0
            return self._budget.next_delay_s(trio.current_time())
        self._shortages += 1
        longest_s = min(self._supervision.max_backoff_s, MAX_SHORTAGE_WAIT_S)
        return min(
            self._supervision.backoff_s * 2.0 ** min(self._shortages - 1, MAX_DOUBLINGS), longest_s
        )

    def _is_from_outside(self, error: BaseException) -> bool:
        """Return whether an error ends the actor from outside, instead of being its own."""
        return _is_cancellation(error)

    def abandon(self, reason: str) -> None:
        """Mark it as not done in time; any thread may call this."""
        self._was_cancelled = True
        if (
            self._shortages and self.error is not None
        ):  # it waited for something that the process lacks
            reason += f": {type(self.error).__name__}: {text_of(self.error)}"
        self.gave_up = self.gave_up or reason

    def cancel(self) -> None:
        """Cancel its task, on its own thread; without effect while its code does not await."""
        self._scope.cancel()

    def close_mailbox(self, reason: str) -> None:
        """Refuse further commands, and make dead letters of those waiting; for any thread."""
        for envelope in self.mailbox.close():
            self._host.make_dead_letter(Undelivered(self.name, envelope, reason))

    def statistics(self, attempt: int, written_seq: int) -> ObserverStatistics:
        """Return what it did so far; any thread may call this.

        Args:
            attempt: the attempt being recorded.
            written_seq: number of its events recorded so far.
        """
        position = self.position
        return ObserverStatistics(
            kind=type(self.actor).__name__,
            state=self._state(),
            phase=self._phase,
            delivered=self.events_read,
            attempt=position.attempt,
            seq=position.seq,
            lag=max(0, written_seq - (position.seq if position.attempt == attempt else 0))
            if self.actor._reads_log()
            else 0,
            restarts=self.restarts,
            faults=self.faults,
        )

    def _state(self) -> str:
        if self._was_cancelled:
            return "cancelled"
        if self.gave_up or self._stop_reason:
            return "stopped"
        if self.finished:
            return "finished"
        return "waiting" if self._is_waiting else "running"

    @property
    def phase(self) -> str:
        """What it is doing: starting, running or stopping."""
        return self._phase

    @property
    def resumes(self) -> bool:
        """True if a replay can later deliver what it has not received."""
        return self._cursor_file is not None

    @property
    def segment(self) -> int:
        """Number of the segment being read; earlier ones are not needed any more."""
        reader = self._reader.reader if self._reader else None
        return reader.segment if reader else 0

    def stop_early(self, reason: str) -> None:
        """Stop before the next event; any thread may call this."""
        self._stop_reason = reason

    async def _live(self) -> None:
        self._phase = "on_start"
        self._close_reader()
        self._reader = self._host.open_reader(self.position)
        await self.actor.on_start()
        await self._commit(force=True)  # so that even a run killed now has its sinks known
        if not self.actor._reads_log():
            return
        self._phase = "running"
        await self._observe(self._reader)
        self._phase = "on_stop"
        await self.actor.on_stop()
        await self._commit(force=True)

    async def _observe(self, reader: RunReader) -> None:
        actor = self.actor
        while not self._stop_reason:
            await self._take_commands()
            await actor._on_poll()
            closing = self._host.is_closing(self)
            events = reader.read(self._selection)
            if events:
                await self._deliver(events, reader.position)
                await self._commit()
                # Reading a few events costs as much as reading many, so let them gather.
                if closing or reader.has_more:
                    await trio.lowlevel.checkpoint()
                else:
                    await self._host.pause(self, actor.poll_interval_s)
            elif closing and reader.position == self.position:
                return
            else:
                self.position = reader.position
                if not closing:
                    await self._commit()
                    await self._host.pause(self, actor.poll_interval_s)

    async def _deliver(self, events: list[DecodedEvent], after: Position) -> None:
        attempt = after.attempt

        def delivered(next_seq: int) -> None:
            self.position = Position(attempt, next_seq)

        await self.actor._deliver(events, delivered)
        self.events_read += len(events)
        self.position = after

    async def _take_commands(self) -> None:
        until_s = trio.current_time() + MAX_TURN_S
        # Only commands waiting now: those it sends to itself meanwhile wait for the next turn.
        for _ in range(self.mailbox.waiting):
            if trio.current_time() > until_s:
                await trio.lowlevel.checkpoint()
                until_s = trio.current_time() + MAX_TURN_S
            envelope = self.mailbox.take()
            if envelope is None:
                return
            command, reply = envelope.command, envelope.reply
            handler = command_handler(self.actor, command, is_async=True)
            kind = label_of(type(command))
            if handler is None:
                self.mailbox.refuse()
                reason = f"{self.name} has no handler for {kind} on the bus thread"
                undelivered = Undelivered(self.name, envelope, reason, UnhandledCommandError)
                self._host.make_dead_letter(undelivered)
                continue
            self._host.emit(CommandTaken, self.name, kind, to_json(command), source=envelope.sender)
            try:
                value = await handler(command)
            except Exception as error:
                if reply:
                    reply.fail(ActorRaisedError(self.name, kind, error))
                raise
            except BaseException:
                if reply:
                    reply.fail(ActorStoppedError(f"{self.name} stopped while it handled {kind}"))
                raise
            if reply:
                reply.set(value)

    # -- the cursor --------------------------------------------------------------------------

    async def _commit(self, force: bool = False) -> None:
        if self._cursor_file is None or self.position == self._committed:
            return
        now_s = trio.current_time()
        if force or now_s >= self._commit_at_s:
            self._commit_at_s = now_s + COMMIT_EVERY_S
            await trio.to_thread.run_sync(self._commit_now, abandon_on_cancel=True)

    def _commit_now(self) -> None:
        assert self._cursor_file is not None
        position = self.position
        state = self.actor.cursor_state()  # type: ignore[attr-defined]
        cursor = Cursor(position.attempt, position.seq, type(self.actor).__name__, state)
        self._cursor_file.commit(cursor)
        self._committed = position

    # -- failure -----------------------------------------------------------------------------

    def _record_fault(self, error: BaseException) -> None:
        self.faults += 1
        _log.debug("an observer failed", actor=self.name, exc_info=error)
        self._host.emit(Fault, *describe(error), self._phase, source=self.name)
        self.error = error

    def _give_up(self, supervision: Supervision) -> None:
        error = self.error
        assert error is not None
        self.gave_up = f"{type(error).__name__}: {without_secrets(text_of(error))}"
        times = f"{supervision.restarts} restart{'' if supervision.restarts == 1 else 's'}"
        reason = f"gave up after {times}: {self.gave_up}"
        self._host.emit(ActorStopped, reason, self.position.seq, source=self.name)
        if supervision.then == "stop_run":
            self._host.stop_run(f"{self.name} {reason}")

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def _is_cancellation(error: BaseException) -> bool:
    """Return whether trio or the interpreter is ending the task."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_cancellation(each) for each in error.exceptions)
    return isinstance(error, trio.Cancelled | GeneratorExit)


def describe(error: BaseException) -> tuple[str, str, str]:
    """Return an exception's type, text and traceback for a Fault, without secrets."""
    message, trace = text_of(error), "".join(traceback.format_exception(error))
    # Secrets are removed before the text is cut, because half a secret is not recognised.
    message = without_secrets(message[: 2 * MAX_TRACEBACK_CHARS])[:MAX_TRACEBACK_CHARS]
    trace = without_secrets(trace[-2 * MAX_TRACEBACK_CHARS :])[-MAX_TRACEBACK_CHARS:]
    return type(error).__name__, message, trace


def text_of(error: BaseException) -> str:
    """Return an exception's text, with advice on one common mistake.

    The mistake is to look for a live object of a hook in the recorded event.
    """
    if isinstance(error, AttributeError) and type(error.obj) is Hook:
        return (
            f"{error}: a coroutine gets the recorded event; a plain method (def) gets live objects "
            "such as batch and outputs, on the training thread"
        )
    return str(error)


def to_json(command: object) -> str:
    """Return a command's fields as JSON, without secrets."""
    return without_secrets(msgspec.json.encode(command).decode())
