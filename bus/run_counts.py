"""RunCounts: counts what actors, mailboxes and the log did, during a run and at its end."""

from collections.abc import Mapping, Sequence
from typing import Any

from .actor import Actor
from .copies import StaysInRun
from .event_recorder import EventRecorder
from .events import ActorTotals
from .members import Members
from .observer import Observer
from .post_office import PostOffice
from .statistics import (
    ActorStatistics,
    BusStatistics,
    LogStatistics,
    MailboxStatistics,
    ObserverStatistics,
)


class RunCounts(StaysInRun):
    """Counts of one attempt of a run.

    Args:
        recorder: has the log, where totals are recorded.
        members: the actors.
        observers: those on the bus thread.
        post_office: counts dead letters.
    """

    def __init__(
        self,
        recorder: EventRecorder,
        members: Members,
        observers: Sequence[Observer],
        post_office: PostOffice,
    ) -> None:
        self._recorder = recorder
        self._members = members
        self._observers = observers
        self._post_office = post_office

    def statistics(self) -> BusStatistics:
        """Return counts of log, mailboxes and cursors, the last ones if the run is over.

        Any thread may call this.
        """
        log, observers = self._recorder.log_statistics(), self._observers_by_actor()
        actors = {
            name: ActorStatistics(
                mailbox.statistics(), self._observed(observers.get(id(actor)), log)
            )
            for name, actor, mailbox in self._members.present()
        }
        office = self._post_office
        return BusStatistics(actors, log, office.dead_letters, office.unknown)

    def record_totals(self) -> None:
        """Record what each actor did."""
        log, observers = self._recorder.log_statistics(), self._observers_by_actor()
        for name, actor, mailbox in (*self._members.removed, *self._members.present()):
            mail, seen = mailbox.statistics(), self._observed(observers.get(id(actor)), log)
            if seen is not None or mail.sent:
                self._recorder.emit(ActorTotals, *_totals(actor, mail, seen), source=name)

    def _observers_by_actor(self) -> Mapping[int, Observer]:
        # By identity: an actor that is a dataclass cannot be hashed.
        return {id(observer.actor): observer for observer in list(self._observers)}

    def _observed(
        self, observer: Observer | None, log: LogStatistics | None
    ) -> ObserverStatistics | None:
        if observer is None or log is None:
            return None
        return observer.statistics(self._recorder.attempt, log.events - log.buffered)


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
