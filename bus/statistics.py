"""Counts of a running run: plain records, taken at one moment, for people and debuggers."""

import msgspec


class MailboxStatistics(msgspec.Struct, frozen=True):
    """Commands for one actor: ``sent == delivered + dropped + dead + waiting``.

    Attributes:
        capacity, overflow: the limit, see ``MailboxLimit``.
        waiting: number waiting now.
        most_waiting: highest number that ever waited.
        sent: number sent to the actor.
        delivered: number that the actor took.
        dropped: number that the overflow policy dropped.
        dead: number that became dead letters.
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
    """One actor's work on the bus thread.

    Attributes:
        kind: its class.
        state: ``running``, ``waiting`` for its back-off, ``finished``, ``stopped`` (it gave up, or
            was removed), or ``cancelled`` (it was not done when its time was over).
        phase: on_start, running or on_stop.
        delivered: number of events it got; those delivered again after a failure count again.
        attempt, seq: the next event it gets.
        lag: number of recorded events that it has not passed yet.
        restarts: number of restarts.
        faults: number of failures.
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
        events: number of events in the log.
        buffered: number of those not written yet.
        asked_for: events requested by other threads that wait for the end of the step.
        lost: number of events that could not be written.
        segment: number of the segment being written.
        segment_bytes: size of the part that observers may read.
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
        observer: its work on the bus thread; None if it has none.
    """

    mailbox: MailboxStatistics
    observer: ObserverStatistics | None = None


class BusStatistics(msgspec.Struct, frozen=True):
    """A run at one moment; each count is exact, but they are read one after the other.

    Attributes:
        actors: by address, without removed ones.
        log: the event log's writer; None if nothing is recorded.
        dead_letters: number of commands that reached no actor, including those to unknown names.
        unknown: number of commands to unknown names.
    """

    actors: dict[str, ActorStatistics]
    log: LogStatistics | None
    dead_letters: int
    unknown: int
