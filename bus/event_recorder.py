"""EventRecorder: records events in the log and in memory, and passes them to plain handlers."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from .actor import Actor
from .admission import Admission
from .copies import StaysInRun
from .events import Ending, Event, RunEnded
from .log.event_buffer import MAX_BUFFERED_EVENTS
from .log.flight_recorder import NOBODY, FlightRecorder
from .log.hook_recorder import AT_ONCE, NEVER, recording_nothing
from .log.place import Place
from .log.segments import FolderStore, UnnamedStore
from .log.writer import LogWriter
from .routes import Routes
from .runs.typed_events import typed
from .secrets.redaction import without_secrets
from .statistics import LogStatistics
from .subscription import HandlerTable, Subscription
from .threads import Threads

_NEVER_SWITCH_S = 3600.0  # to another Python thread


class EventRecorder(StaysInRun):
    """Records the events of one attempt of a run.

    The thread that creates it is the training thread: it writes, at the end of each step, what it
    and other threads emitted meanwhile.

    Args:
        place: the place in training.
        threads: tells which thread an event comes from.

    Attributes:
        place: the place in training.
        routes: of the hooks.
        admission: refuses what can no longer be recorded.
        writer: the log's writer; None before it is opened, and once it is closed.
        store: segments of the log.
        flight: keeps the last events in memory; None if nothing does.
        attempt: the attempt of the run.
        has_step_handlers: whether any plain method handles events.
        keeps_failures: whether exceptions of plain handlers are kept in ``failures``, so that the
            run's end is recorded in spite of them.
        failures: the exceptions that were kept.
        log_problems: of the log, once it is closed.
    """

    def __init__(self, place: Place, threads: Threads) -> None:
        self.place = place
        self.routes = Routes(place)
        self.admission = Admission(threads)
        self.writer: LogWriter | None = None
        self.store: FolderStore | UnnamedStore | None = None
        self.flight: FlightRecorder | None = None
        self.attempt = 0
        self.has_step_handlers = False
        self.keeps_failures = False
        self.failures: list[Exception] = []
        self.log_problems: list[str] = []
        self._threads = threads
        self._tables: list[HandlerTable] = []  # event handlers on the training thread
        self._final_log: LogStatistics | None = None  # counts of the log, once it is closed

    def open_log(self, writer: LogWriter, store: FolderStore | UnnamedStore) -> None:
        """Record events from now on.

        Args:
            writer: the log's writer.
            store: its segments.
        """
        self.writer, self.store = writer, store
        self.attempt = writer.identity.attempt
        self.routes.refresh()

    def keep_last_events(self, flight: FlightRecorder) -> None:
        """Keep the last events, hooks too, in memory from now on."""
        self.flight = flight
        self.routes.refresh()

    def want_hooks(self, wanted: set[str] | None) -> None:
        """Record more hooks from now on; all of them with None."""
        assert self.writer is not None
        self.writer.want_hooks(wanted)

    # -- plain handlers ----------------------------------------------------------------------

    def add_handlers(self, actor: Actor, subscriptions: Sequence[Subscription]) -> None:
        """Pass events to an actor's plain methods from now on.

        Args:
            actor: the actor.
            subscriptions: those of its methods.
        """
        self._tables.append(HandlerTable(actor, subscriptions))
        self.has_step_handlers = True

    def remove_handlers(self, actor: Actor) -> None:
        """Pass no more events to an actor's plain methods."""
        self._tables = [table for table in self._tables if table.actor is not actor]
        self.has_step_handlers = bool(self._tables)

    def have_handled(self, event: Event) -> None:
        """Pass an event that is in the log to plain handlers."""
        if not self._tables:
            return
        delivered = typed(event)
        for table in self._tables:
            for handler in table.handlers(delivered):
                handler(delivered)

    def announce(self, event: Event) -> None:
        """Pass an event to all plain handlers before it is in the log; keep their exceptions."""
        for table in self._tables:
            for handler in table.handlers(event):
                try:
                    handler(event)
                except Exception as error:
                    self.failures.append(error)

    # -- events ------------------------------------------------------------------------------

    def emit(self, kind: type[Event], *fields: Any, source: str = "") -> None:
        """Record an event that happens now, and pass it to plain handlers.

        Args:
            kind: the event's type.
            *fields: its own fields, in order.
            source: the name of the actor it comes from.
        """
        if not self.emit_in_time(kind, *fields, source=source):
            self.admission.warn_too_late(kind, fields, source)

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
            if not self.keeps_failures:
                raise
            self.failures.append(error)
        return True

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
            self.admission.warn_too_late(kind, summary[1:], summary[0])

    # -- writing -----------------------------------------------------------------------------

    def end_step(self) -> None:
        """Write the events of a step, at its end.

        Hooks alone are written every 50 ms: a write costs more than the hooks of a fast step are
        worth. Anything else is written at once.
        """
        recorder = self.place.recorder
        if recorder.clock_ns() > recorder.flush_due_ns:
            self.flush()
        if len(recorder.trace.words) > MAX_BUFFERED_EVENTS:
            self.flush()

    def flush(self, wait: bool = False) -> None:
        """Write pending events, so that observers see them.

        Args:
            wait: also wait for values that are on their way from a GPU.
        """
        writer = self.writer
        if writer is None:
            self.place.recorder.flush_due_ns = NEVER
            if self.flight is not None:
                self.flight.keep_if_long()
            return
        owner = writer.owner
        if owner == NOBODY and writer.takes:
            return  # in the middle of a write or a put
        if writer.inbox:
            self._take_from_inbox(writer)
        writer.owner = NOBODY
        try:
            writer.flush(wait)
        finally:
            writer.owner = owner
            # After the write: another thread may have requested an event since.
            if writer.records or writer.inbox:
                writer.recorder.flush_due_ns = AT_ONCE

    def flush_all(self) -> None:
        """Write all requested events, and keep the exceptions of plain handlers."""
        writer = self.writer
        assert writer is not None
        for _ in range(writer.statistics().asked_for + 1):  # each round takes at least one
            try:
                self.flush()
                return
            except Exception as error:
                self.failures.append(error)

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

    def write_last(self, how: Ending, reason: str) -> None:
        """Write pending events and the run's end on another thread, as the last act of a process.

        For a training thread that does not come back from where it is. It is kept from going on
        meanwhile: it would write, too. If it is writing, nothing can be done.

        Args:
            how: how the run ended.
            reason: why.
        """
        sys.setswitchinterval(_NEVER_SWITCH_S)
        writer = self.writer
        if writer is None or writer.owner == NOBODY:
            return
        writer.owner = NOBODY
        while writer.inbox:
            writer.append(writer.take_from_inbox())
        writer.takes = False
        writer.append(writer.event(RunEnded, how, without_secrets(reason)))
        writer.flush_end()

    # -- the end -----------------------------------------------------------------------------

    def refuse_puts(self) -> None:
        """Refuse puts from now on, because the run is over."""
        self.place.hook = ""  # so that log() is refused too
        self.admission.end()

    def close_log(self) -> LogWriter:
        """Close the log; warn about events that were requested too late for it.

        Returns:
            The writer, which is closed.
        """
        assert self.writer is not None
        self._final_log = self.writer.statistics()
        self.refuse_puts()
        writer, self.writer = self.writer, None
        while writer.inbox:  # requested while the end was being recorded
            event = writer.take_from_inbox()
            fields = tuple(getattr(event, name) for name in _own_fields(type(event)))
            self.admission.warn_too_late(type(event), fields, event.source)
        writer.close()
        self._final_log = writer.statistics()
        self.log_problems = writer.problems()
        if self.flight is None:
            self.place.recorder = recording_nothing()
            self.routes.refresh()
        return writer

    def log_statistics(self) -> LogStatistics | None:
        """Return counts of the log, the last ones once it is closed; any thread may call this."""
        writer = self.writer  # read once, because the log may be closed meanwhile
        return self._final_log if writer is None else writer.statistics()


def _own_fields(kind: type[Event]) -> tuple[str, ...]:
    return kind.__struct_fields__[len(Event.__struct_fields__) :]
