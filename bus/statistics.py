"""Counts of a run that goes on: plain records, taken at one moment, for people and debuggers."""

import msgspec


class MailboxStatistics(msgspec.Struct, frozen=True):
    """Commands for one actor: ``sent == delivered + dropped + dead + waiting``.

    Attributes:
        capacity, overflow: the limit, see ``MailboxLimit``.
        waiting: how many wait now.
        most_waiting: the most that ever waited.
        sent: how many were sent to it.
        delivered: how many the actor took.
        dropped: how many the overflow policy dropped.
        dead: how many reached nobody.
    """

    capacity: int
    overflow: str
    waiting: int
    most_waiting: int
    sent: int
    delivered: int
    dropped: int
    dead: int


class ObserverStatistics(msgspec.Struct, frozen=True):
    """One actor's work beside the step.

    Attributes:
        kind: its class.
        state: ``running``, ``waiting`` for its back-off, ``finished``, ``stopped`` (it gave up, or
            was detached), or ``cancelled`` (it was not done when its time was over).
        phase: what it is in: on_start, running or on_stop.
        delivered: events it was given; those of a failed delivery that came again count again.
        attempt, seq: the next event it gets.
        lag: how many events are recorded that it has not passed yet.
        restarts: how often it was restarted.
        faults: how often it failed.
    """

    kind: str
    state: str
    phase: str
    delivered: int
    attempt: int
    seq: int
    lag: int
    restarts: int
    faults: int


class LogStatistics(msgspec.Struct, frozen=True):
    """The event log's writer.

    Attributes:
        events: how many events the log holds.
        buffered: how many of them are not written yet.
        asked_for: events of other threads that wait for the end of the step.
        lost: how many could not be written.
        segment: number of the segment being written.
        segment_bytes: its size up to what observers may read.
    """

    events: int
    buffered: int
    asked_for: int
    lost: int
    segment: int
    segment_bytes: int


class ActorStatistics(msgspec.Struct, frozen=True):
    """One actor.

    Attributes:
        mailbox: its commands.
        observer: its work beside the step; None when it has none.
    """

    mailbox: MailboxStatistics
    observer: ObserverStatistics | None = None


class BusStatistics(msgspec.Struct, frozen=True):
    """A run, at one moment. Each count is exact; they are read one after the other.

    Attributes:
        actors: by address; those that were detached are left out.
        log: the event log's writer; None when nothing is recorded.
        dead_letters: commands that reached nobody, those to unknown names included.
        unknown: commands to names that nobody has.
    """

    actors: dict[str, ActorStatistics]
    log: LogStatistics | None
    dead_letters: int
    unknown: int
