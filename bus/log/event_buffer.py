"""EventBuffer: what happened and is not written yet, in one order."""

import contextlib
import threading
from abc import ABC, abstractmethod
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from ..copies import StaysInRun
from ..events import Event, Put
from ..system.uninterrupted import uninterrupted
from .codes import BEGIN, END, NUMBER, RAN, Origin
from .flight_recorder import MAX_STEP_NS, NOBODY, FlightRecorder
from .hook_recorder import AT_ONCE, HookRecorder
from .place import Place
from .trace import HookTrace, count_hooks, shape_of

# A step with many events is written in parts, and a long one before it has ended. Fast steps with
# only hooks are written several at once.
MAX_BUFFERED_EVENTS = 4096
MAX_BUFFERED_NS = 50_000_000

E_ = TypeVar("E_", bound=Event)


class EventBuffer(StaysInRun, ABC):
    """Numbers events, and keeps them until a flush: hooks in a trace, the others in a list.

    Only the thread that created it may call ``flush`` and ``close`` or append events, and only
    while it is the ``owner``; records use ``emit_from_any_thread``. During these calls the owner is
    ``NOBODY``, so that code that interrupts them and puts something (a signal handler, ``__del__``
    or a trace function) is treated like another thread.

    Args:
        place: the place in training, which has hooks recorded here from now on, unless another
            recorder has them already.
        clock_ns: monotonic clock.
        hooks: names of the hooks to write, of those that ``flight`` records; None for all.
        flight: records hooks instead, and keeps the last events; None if there is none.

    Attributes:
        trace: hooks to be written; emptied in place by flush. Without ``flight`` it is the trace of
            the recorder, otherwise those selected from it.
        records: events that are no hooks; emptied in place by flush.
        recorder: what records hooks, and is told when a flush is due.
        owner: the thread that may append now; ``NOBODY`` while it does, and at the end.
        takes: other threads may request events, which ends once the end is recorded.
        inbox: creates the events that other threads requested.
    """

    def __init__(
        self,
        place: Place,
        clock_ns: Callable[[], int],
        hooks: set[str] | None,
        flight: FlightRecorder | None,
    ) -> None:
        self.trace = HookTrace()
        self.records: list[Event] = []
        self.hooks = hooks
        self.place = place
        self.flight = flight
        self.clock_ns = clock_ns
        self.recorder = place.recorder
        self.owner = threading.get_ident()
        self.takes = True
        self.inbox: deque[Callable[[], Event]] = deque()
        self._counted_words = 0  # words of the trace counted so far,
        self._counted_hooks = 0  # and hooks in them
        self._flushed_seq = 0
        self._pending: deque[Put] = deque()  # puts whose value is still being copied
        self.not_finite: Callable[[Put], object] = id  # is told of such a value of them
        self._selects = flight is not None and hooks != set()
        self._next_word = 0  # position of the first recorded one from which is to be selected,
        self._next_origin = place.origin()  # and the place before it

    def _begin_recording(self) -> None:
        """Have hooks recorded here, or select from those that ``flight`` records."""
        place = self.place
        if self.hooks is None and not place.recorder.is_on:
            place.recorder = HookRecorder(place.origin(), self.clock_ns, self._flush_within_step)
            self.trace = place.recorder.trace
        self.recorder = place.recorder
        if self.flight is not None:
            self.recorder.flush_within_step = self._flush_within_step
            self._skip_recorded()
        self._set_due(self.recorder.clock_ns())

    @abstractmethod
    def flush(self, wait: bool = False) -> None:
        """Write what was appended; afterwards observers may see it.

        An interrupt (Ctrl-C) may end it anywhere: the next flush continues from there.

        Args:
            wait: also wait for pending values, so that everything is written.

        Raises:
            MetricError: an event is larger than a frame. It is left out, the others are written.
            ForkedChildError: this is a forked child; the log is its parent's.
        """

    def _flush_within_step(self) -> None:
        """Write a step before it has ended; the rest of it is written at its end."""
        with self.alone():
            self.flush()
        self.recorder.flush_due_ns = AT_ONCE

    def _set_due(self, time_ns: int) -> None:
        recorder = self.recorder
        recorder.flush_due_ns = time_ns + MAX_BUFFERED_NS
        recorder.flush_latest_ns = time_ns + MAX_STEP_NS

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Treat code that interrupts meanwhile like another thread; not for the hot path."""
        owner, self.owner = self.owner, NOBODY
        try:
            yield
        finally:
            self.owner = owner

    # -- appending ---------------------------------------------------------------------------

    def event(
        self,
        kind: type[E_],
        *fields: Any,
        source: str = "",
        time_ns: int | None = None,
        step: int | None = None,
    ) -> E_:
        """Return the next event, which has to be appended before another is made.

        Args:
            kind: its class.
            *fields: its own fields, in order.
            source: the name of the actor it comes from.
            time_ns: its time, on the log's clock; now if not given.
            step: the step it belongs to; the present one if not given.
        """
        seq = self.next_seq()
        if time_ns is None:
            time_ns = self.clock_ns()
        return self.place.event(
            kind, seq, time_ns, self.place.step if step is None else step, source, *fields
        )

    def next_seq(self) -> int:
        """Sequence number of the next event."""
        if self._selects:
            self._select()
        return self._flushed_seq + self._count_recorded() + len(self.records)

    def _count_recorded(self) -> int:
        """Return how many hooks the trace holds, reading each word once."""
        words = self.trace.words
        number = len(words)
        if self._counted_words < number:
            count = count_hooks(shape_of(words[self._counted_words : number]))
            self._counted_words, self._counted_hooks = number, self._counted_hooks + count
        return self._counted_hooks

    def append(self, event: Event) -> None:
        """Add an event, to be written by the next flush."""
        self.records.append(event)
        if self.flight is not None:
            self.flight.add(event)
        if len(self.records) > MAX_BUFFERED_EVENTS:
            self.flush()
        self.recorder.flush_due_ns = AT_ONCE

    def append_pending(self, event: Put) -> None:
        """Add an event whose ``value`` is a PendingValue; later events wait for it."""
        self.records.append(event)
        self._pending.append(event)
        if self.flight is not None:
            self.flight.add(event)
        self.recorder.flush_due_ns = AT_ONCE

    def want_hooks(self, wanted: set[str] | None) -> None:
        """Write more of the hooks that ``flight`` records, from now on.

        Args:
            wanted: their names; None for all.
        """
        if self.hooks is None:
            return
        if self._selects:
            self._select()  # what was recorded up to now is not wanted
        elif self.flight is not None:
            self._skip_recorded()
        self.hooks = None if wanted is None else self.hooks | wanted
        self._selects = self.flight is not None and self.hooks != set()
        self.recorder.flush_due_ns = AT_ONCE

    def _skip_recorded(self) -> None:
        """Select from the hooks that are recorded from now on."""
        recorded = self.recorder.trace
        self.trace = recorded.rest(self.place.origin())
        self._next_origin = self.trace.origin
        self._next_word = recorded.recorded

    def _select(self) -> None:
        """Add those hooks recorded since the last time that have to be written."""
        recorded = self.recorder.trace
        new = recorded.rest(self._next_origin)
        new.words = recorded.words[self._next_word - recorded.removed :]
        if new.words:
            number, origin = len(new.words), self.place.origin()
            self._add_selected(new.selected(self.hooks).words, self._next_word + number, origin)

    @uninterrupted
    def _add_selected(self, words: "array[int]", next_word: int, origin: Origin) -> None:
        self.trace.words += words
        self._next_word, self._next_origin = next_word, origin

    def add_hook(self, name: str, time_ns: int, duration_ns: int | None = None) -> None:
        """Add a hook that has ended.

        Args:
            name: the hook.
            time_ns: when it was done.
            duration_ns: how long its handlers took; None for one without.
        """
        trace = self.trace
        if duration_ns is None:
            trace.appender(RAN, name)(time_ns & NUMBER)
        else:
            trace.appender(BEGIN, name)(time_ns - duration_ns & NUMBER)
            trace.appender(END, name)(time_ns & NUMBER)

    def emit_from_any_thread(self, kind: type[Event], *fields: Any, source: str = "") -> bool:
        """Have the owner's next flush write an event.

        Args:
            kind: its class.
            *fields: its own fields, in order.
            source: the name of the actor it comes from.

        Returns:
            Whether it will be written; False if it is too late.
        """
        time_ns = self.clock_ns()
        return self.ask_for_event(lambda: self.event(kind, *fields, source=source, time_ns=time_ns))

    @uninterrupted
    def ask_for_event(self, make: Callable[[], Event]) -> bool:
        """Have the owner's next flush create and write an event; any thread may call this.

        Returns:
            Whether it will be written; False if it is too late.
        """
        # Nothing comes between the check and the append, so what is in the inbox is there when it
        # is emptied at the end.
        if not self.takes:
            return False
        self.inbox += (make,)
        self.recorder.flush_due_ns = AT_ONCE
        return True

    def take_from_inbox(self) -> Event:
        """Return the next event requested by another thread, with its number, to be appended."""
        return self.inbox.popleft()()
