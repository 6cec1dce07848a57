"""One actor beside the step: reads the log at its own pace, and is restarted when it fails."""

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
from .runs.cursor import Cursor, CursorFile, Position, RunReader
from .secrets.redaction import without_secrets
from .statistics import ObserverStatistics
from .system.logging_setup import get_logger
from .system.shortage import is_shortage

MAX_TRACEBACK_CHARS = 16_384
COMMIT_EVERY_S = 1.0
MAX_DOUBLINGS = 60  # of the back-off; more would not fit into a float one day
MAX_SHORTAGE_WAIT_S = 2.0  # until what the process lacked is asked for again

_log = get_logger("nightbus.observer")
DEFAULT_SUPERVISION = Supervision()


class Host(Protocol):
    """What an observer needs of whoever runs it: the bus, or a replay."""

    def emit(self, kind: type[Event], *fields: Any, source: str = "") -> None:
        """Record an event."""

    def open_reader(self, start: Position) -> RunReader:
        """A reader at a position."""

    def is_closing(self, observer: "Observer") -> bool:
        """Whether the log is complete and it is the observer's turn, so that its end is the end."""

    async def pause(self, observer: "Observer", seconds: float) -> None:
        """Sleep, at most until the log is complete, or then until it is the observer's turn."""

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
        """How long to wait before the next restart; None when there is none left."""
        while self._times and now_s - self._times[0] > self._supervision.period_s:
            self._times.popleft()
        if len(self._times) >= self._supervision.restarts:
            return None
        self._times.append(now_s)
        doublings = min(len(self._times) - 1, MAX_DOUBLINGS)
        longest_s = self._supervision.max_backoff_s
        return min(self._supervision.backoff_s * 2.0**doublings, longest_s)


class Observer(StaysInRun):
    """Runs one actor beside the step: setup, running, teardown, and what a failure means.

    Args:
        actor: the actor.
        start: the first event it gets.
        host: who runs it.
        cursor_file: where its position is committed, for an actor whose effect lasts.
        supervision: instead of the actor's own.
        mailbox: its commands, when some may have come before it began.

    Attributes:
        has_begun: its start is recorded.
        gave_up: why it will not see everything; empty as long as it may.
        finished: it has seen the log's end, and stopped.
        done: set when nothing more happens here; for other threads.
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
        self._dismissed = ""  # why it is to end early
        self._host = host
        self.task: trio.lowlevel.Task | None = None  # that it runs in
        self.error: BaseException | None = None  # the last one
        self._cursor_file = cursor_file
        self._supervision = supervision or actor.supervision or DEFAULT_SUPERVISION
        self._budget = RestartBudget(self._supervision)
        self._shortages = 0  # in a row
        self.faults = 0
        self.restarts = 0
        self.events_read = 0
        self._committed: Position | None = None
        self._commit_at_s = 0.0
        self._reader: RunReader | None = None
        self._phase = "on_start"
        self._selection = actor._hook_selection()

    async def run(self) -> None:
        """Live until the log ends, the supervision gives up, or somebody cancels it."""
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
            self.bury_commands("the actor stopped before it was taken")
            self.done.set()

    async def _live_supervised(self) -> None:
        while True:
            try:
                await self._live()
            # SystemExit too, say: what an actor does beside the step ends no one but itself.
            except BaseException as error:
                if self._is_from_outside(error):
                    raise
                self._record_fault(error)
            else:
                self.finished = True
                if self._dismissed:
                    stopped = (self._dismissed, self.position.seq)
                    self._host.emit(ActorStopped, *stopped, source=self.name)
                return
            delay_s = self._next_delay_s(self.error)
            if delay_s is None:
                self._give_up(self._supervision)
                return
            self._is_waiting = True
            await self._host.pause(self, delay_s)
            self._is_waiting = False
            self.restarts += 1  # now, and not before: it may be cancelled while it waits
            self._host.emit(ActorRestarted, self.restarts, delay_s, source=self.name)

    def _next_delay_s(self, error: BaseException | None) -> float | None:
        """How long to wait before the next restart; None when there is none left. A shortage of the
        process's is not the actor's failure: it is waited out.
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
        """Whether an error is nothing that the actor did, but somebody ends it."""
        return _is_cancellation(error)

    def abandon(self, reason: str) -> None:
        """Count it as one that was not done in time; any thread may ask."""
        self._was_cancelled = True
        if self._shortages and self.error is not None:  # it waited for what the process lacks
            reason += f": {type(self.error).__name__}: {text_of(self.error)}"
        self.gave_up = self.gave_up or reason

    def cancel(self) -> None:
        """End now, unless its code does not let go; on the thread that runs it."""
        self._scope.cancel()

    def bury_commands(self, reason: str) -> None:
        """Take no more commands, and make dead letters of those that wait; any thread may ask."""
        for envelope in self.mailbox.close():
            self._host.make_dead_letter(Undelivered(self.name, envelope, reason))

    def statistics(self, attempt: int, written_seq: int) -> ObserverStatistics:
        """What it did so far; any thread may ask.

        Args:
            attempt: the attempt that is being recorded.
            written_seq: how many events of it are recorded.
        """
        position = self.position
        return ObserverStatistics(
            kind=type(self.actor).__name__,
            state=self._state(),
            phase=self._phase,
            delivered=self.events_read,
            attempt=position.attempt,
            seq=position.seq,
            lag=max(0, written_seq - (position.seq if position.attempt == attempt else 0)),
            restarts=self.restarts,
            faults=self.faults,
        )

    def _state(self) -> str:
        if self._was_cancelled:
            return "cancelled"
        if self.gave_up or self._dismissed:
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
        """Whether a replay can deliver later what it has not got."""
        return self._cursor_file is not None

    @property
    def segment(self) -> int:
        """The segment being read; those before it are not needed any more."""
        reader = self._reader.reader if self._reader else None
        return reader.segment if reader else 0

    def dismiss(self, reason: str) -> None:
        """End early, before the next event; any thread may ask for it."""
        self._dismissed = reason

    async def _live(self) -> None:
        self._phase = "on_start"
        self._close_reader()
        self._reader = self._host.open_reader(self.position)
        await self.actor.on_start()
        await self._commit(force=True)  # a killed run's sinks are known from their first moment
        self._phase = "running"
        await self._observe(self._reader)
        self._phase = "on_stop"
        await self.actor.on_stop()
        await self._commit(force=True)

    async def _observe(self, reader: RunReader) -> None:
        actor = self.actor
        while not self._dismissed:
            await self._take_commands()
            await actor._on_poll()
            closing = self._host.is_closing(self)
            events = reader.read(self._selection)
            if events:
                await self._deliver(events, reader.position)
                await self._commit()
                # Reading what little came since costs as much as reading a lot: let it gather.
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
        # Those that wait now: what it tells itself meanwhile waits until others had their turn.
        for _ in range(self.mailbox.waiting):
            if trio.current_time() > until_s:
                await trio.lowlevel.checkpoint()
                until_s = trio.current_time() + MAX_TURN_S
            envelope = self.mailbox.take()
            if envelope is None:
                return
            command, reply = envelope.command, envelope.reply
            handler = command_handler(self.actor, command, is_async=True)
            kind = type(command).__name__
            if handler is None:
                self.mailbox.refuse()
                reason = f"{self.name} has no handler for {kind} beside the step"
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
    """Whether trio, or the interpreter, is ending the task."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_cancellation(each) for each in error.exceptions)
    return isinstance(error, trio.Cancelled | GeneratorExit)


def describe(error: BaseException) -> tuple[str, str, str]:
    """An exception's type, text and traceback, as a Fault carries them, secrets struck out."""
    message, trace = text_of(error), "".join(traceback.format_exception(error))
    # Struck out before it is cut: half a secret is not known as one.
    message = without_secrets(message[: 2 * MAX_TRACEBACK_CHARS])[:MAX_TRACEBACK_CHARS]
    trace = without_secrets(trace[-2 * MAX_TRACEBACK_CHARS :])[-MAX_TRACEBACK_CHARS:]
    return type(error).__name__, message, trace


def text_of(error: BaseException) -> str:
    """What an exception says, and what to do about one slip: a live object of a hook is looked for
    in the recorded event.
    """
    if isinstance(error, AttributeError) and type(error.obj) is Hook:
        return (
            f"{error}: a coroutine gets the recorded event; a plain method (def) gets live objects "
            "such as batch and outputs, in the step"
        )
    return str(error)


def to_json(command: object) -> str:
    """A command's fields for people and tools, secrets struck out."""
    return without_secrets(msgspec.json.encode(command).decode())
