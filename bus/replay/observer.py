"""An observer in a replay: gets the selected events, each at its time."""

from collections.abc import Callable

from ..actor import Actor, Supervision
from ..clock import follow_recording
from ..errors import NobodyInReplayError
from ..events import Event
from ..log.codec import DecodedEvent
from ..observer import Host, Observer
from ..runs.cursor import CursorFile, Position
from ..runs.lineage import Timeline
from .pace import Jumping, Pace
from .selection import Selection, Selector

NO_RESTARTS = Supervision(restarts=0)


class ReplayObserver(Observer):
    """An observer of a recording.

    Args:
        actor: the actor.
        start: the first event that is read for it.
        host: the replay.
        cursor_file: where its position is committed.
        selection: the events it gets.
        timeline: times of events.
        pass_over: called with the other events.

    Attributes:
        epoch_and_step: the place of the last event that the actor got.
    """

    def __init__(
        self,
        actor: Actor,
        start: Position,
        host: Host,
        cursor_file: CursorFile | None,
        selection: Selection,
        timeline: Timeline,
        pass_over: Callable[[Event], None],
    ) -> None:
        super().__init__(actor, start, host, cursor_file, NO_RESTARTS)
        self.selector = Selector(selection, timeline.seconds, pass_over)
        self.pace: Pace | None = None
        self.epoch_and_step = (0, 0)
        self.has_recorded_time = False
        # A sink gets many events at once, other actors one by one, each at its time.
        self.takes_batches = type(actor)._deliver is not Actor._deliver
        self._timeline = timeline
        self._now_s = 0.0

    async def run(self) -> None:
        """Run until the recording, or the selected part of it, ends."""
        if self.has_recorded_time:
            follow_recording(lambda: self._now_s)
        if isinstance(self.pace, Jumping):
            self.pace.begin()
        await super().run()

    def _is_from_outside(self, error: BaseException) -> bool:
        # A replay runs on the main thread, so Ctrl-C may interrupt an actor.
        return _is_ctrl_c(error) or super()._is_from_outside(error)

    async def _deliver(self, events: list[DecodedEvent], after: Position) -> None:
        attempt = after.attempt

        def delivered(next_seq: int) -> None:
            self.position = Position(attempt, next_seq)

        selected = self.selector.select(attempt, events)
        if self.takes_batches and selected and isinstance(selected[-1], Event):
            self.epoch_and_step = selected[-1].epoch, selected[-1].step
        if not self.takes_batches:
            await self._handle(attempt, selected)
        elif self.pace is None:
            await self.actor._deliver(selected, delivered)
        else:
            await self._carry(self.pace, attempt, selected, delivered)
        self.events_read += len(selected)
        self.position = after
        if self.selector.is_over:
            self.stop_early("the selected part is over")

    async def _handle(self, attempt: int, events: list[DecodedEvent]) -> None:
        """Call an actor's handlers with events one by one, each at its time."""
        table, pace, seconds = self.actor._nightbus_handler_table, self.pace, self._timeline.seconds
        assert table is not None
        handlers_of = table.handlers
        for event in events:
            handlers = handlers_of(event)
            if not handlers:
                continue
            if isinstance(event, Event):
                self._now_s = max(self._now_s, seconds(attempt, event))
                self.epoch_and_step = event.epoch, event.step
            if pace is not None and not pace.is_due(self._now_s):
                await pace.reach(self._now_s)
            self.position = Position(attempt, event.seq)  # what the actor does now, it does here
            for handler in handlers:
                try:
                    await handler(event)
                except (NobodyInReplayError, BaseExceptionGroup) as error:
                    # The result has the command; later events may bring more.
                    if not _is_of_asking(error):
                        raise
        # The actor's own tasks run until the last event.
        if pace is not None and events and isinstance(events[-1], Event):
            self._now_s = max(self._now_s, seconds(attempt, events[-1]))
            if not pace.is_due(self._now_s):
                await pace.reach(self._now_s)

    async def _carry(
        self,
        pace: Pace,
        attempt: int,
        events: list[DecodedEvent],
        delivered: Callable[[int], None],
    ) -> None:
        """Pass events to a sink in batches, as their times come."""
        due: list[DecodedEvent] = []
        for event in events:
            if isinstance(event, Event):
                self._now_s = max(self._now_s, self._timeline.seconds(attempt, event))
            if not pace.is_due(self._now_s):
                await self.actor._deliver(due, delivered)
                due = []
                await pace.reach(self._now_s)
            due.append(event)
        await self.actor._deliver(due, delivered)


def _is_ctrl_c(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(KeyboardInterrupt) is not None
    return isinstance(error, KeyboardInterrupt)


def _is_of_asking(error: BaseException) -> bool:
    """Return whether every failure is that nobody replied, also in the handler's own tasks."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(NobodyInReplayError)[1] is None
    return isinstance(error, NobodyInReplayError)
