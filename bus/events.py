"""The vocabulary of the bus: every event and every command as a struct.

An event is an immutable fact. On disk it is a compact array ``[tag, *fields]``; the rules for
change are the format's: append fields with defaults only, never change a field's meaning, never
use a tag again.

A class with a tag is all that a new event takes: the tables at the end are made of what is here.
"""

import functools
import operator
from typing import TYPE_CHECKING, Any, Literal, dataclass_transform

import msgspec

from .errors import MALFORMED, LogFormatError
from .named_types import NamedType, reserve_fields

SCHEMA_VERSION = 1
MAX_FIELD_DEPTH = 32  # of lists and dicts in one another, in a field of a user's event

Stage = Literal["", "train", "validate", "test", "predict", "sanity_check"]
Ending = Literal["completed", "stopped", "interrupted", "failed", "preempted"]
MediaKind = Literal["image", "figure", "histogram", "text", "table"]
Scalar = bool | int | float
Plain = None | bool | int | float | str


class Event(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The base of all events, with the fields that each has.

    Attributes:
        seq: place in the log of this attempt and rank, gapless from 0.
        time_ns: monotonic clock in ns when it was recorded; RunStarted pairs it with wall time.
        rank: the process that recorded it.
        stage: what the trainer was doing.
        epoch: epochs completed before this one, so the first is 0.
        step: optimizer steps completed. Values and media of a training batch, of the validation
            after it and of the hooks that end its epoch all have that of the batch's start.
        batch_idx: batch within the epoch, from 0; -1 outside a batch.
        dataloader_idx: number of the dataloader, from 0.
        source: name of the actor it came from; empty for hooks, which belong to no actor.
    """

    seq: int
    time_ns: int
    rank: int
    stage: Stage
    epoch: int
    step: int
    batch_idx: int
    dataloader_idx: int
    source: str


class Hook(Event, frozen=True, array_like=True, tag=1, gc=False):
    """A hook ran: all its handlers together.

    Attributes:
        name: the hook's name, e.g. ``on_train_batch_end``.
        duration_ns: how long its handlers took; ``time_ns`` is when they were done.
    """

    name: str
    duration_ns: int


class Put(Event, frozen=True, array_like=True, tag=2, gc=False):
    """A metric's value.

    Attributes:
        name: the metric.
        value: a number, bit-exact; NaN and infinities are kept.
        destinations: labels of its destinations.
        hook: the hook it was put from; empty between hooks.
    """

    name: str
    value: Scalar
    destinations: tuple[str, ...]
    hook: str


class Fork(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where a resumed attempt left its parent.

    Attributes:
        attempt: the parent attempt.
        seq: the last event of the parent that the checkpoint includes.
        checkpoint: the checkpoint's path relative to the run's folder.
        gone: ranks of the parent that the attempt does not have, each with the last event in its
            log that the checkpoint includes.
    """

    attempt: int
    seq: int
    checkpoint: str
    gone: tuple[tuple[int, int], ...] = ()


class RunStarted(Event, frozen=True, array_like=True, tag=3, gc=False):
    """An attempt began.

    Attributes:
        run: the run's id.
        attempt: number of the attempt, from 0.
        fn: fit, validate, test or predict.
        wall_ns: wall clock in ns since 1970 at this event's ``time_ns``.
        config: the trainer's arguments, as plain values.
        versions: of Python and of the packages that are loaded.
        fork: set when resumed from a checkpoint.
        hparams: hyperparameters that module and datamodule saved, as plain values.
        changed: names of the trainer's arguments that differ from their defaults.
        environment: the process, its machine and its code, as plain values.
    """

    run: str
    attempt: int
    fn: str
    wall_ns: int
    config: dict[str, Plain]
    versions: dict[str, str]
    fork: Fork | None = None
    hparams: dict[str, Plain] = {}
    changed: tuple[str, ...] = ()
    environment: dict[str, Plain] = {}


class RunEnded(Event, frozen=True, array_like=True, tag=4, gc=False):
    """An attempt ended.

    Attributes:
        how: completed, stopped (by a command or callback), interrupted (Ctrl-C), failed, or
            preempted (SIGTERM, SIGHUP).
        reason: one line for people.
    """

    how: Ending
    reason: str


class CommandTaken(Event, frozen=True, array_like=True, tag=5, gc=False):
    """An actor took a command out of its mailbox; ``source`` is who sent it.

    Attributes:
        target: the actor.
        command: the command's type.
        arguments: the command as JSON.
    """

    target: str
    command: str
    arguments: str


class Fault(Event, frozen=True, array_like=True, tag=6, gc=False):
    """An exception in ``source``: an observer's, or the one that ended the run.

    Attributes:
        error: the exception's type.
        message: its text.
        traceback: its traceback, at most 16 KiB.
        hook: the hook or phase it happened in.
    """

    error: str
    message: str
    traceback: str
    hook: str


class ActorStarted(Event, frozen=True, array_like=True, tag=7, gc=False):
    """An observer began; ``source`` names it.

    Attributes:
        kind: its class.
        from_seq: the first event it will see.
    """

    kind: str
    from_seq: int


class ActorRestarted(Event, frozen=True, array_like=True, tag=8, gc=False):
    """An observer was restarted after a fault.

    Attributes:
        restarts: number of restarts so far.
        delay_s: the back-off before this one.
    """

    restarts: int
    delay_s: float


class ActorStopped(Event, frozen=True, array_like=True, tag=9, gc=False):
    """An actor ended before the run did.

    Attributes:
        reason: why.
        at_seq: the first event it has not handled.
    """

    reason: str
    at_seq: int


class DeadLetter(Event, frozen=True, array_like=True, tag=10, gc=False):
    """A command that reached no actor; ``source`` is who sent it.

    Attributes:
        target: the name it was sent to.
        command: the command's type.
        reason: why it was not delivered.
    """

    target: str
    command: str
    reason: str


class CheckpointSaved(Event, frozen=True, array_like=True, tag=11, gc=False):
    """A checkpoint is complete on disk.

    Attributes:
        path: relative to the run's folder.
        digest: blake2b-128 of its files.
        size_bytes: its size on disk.
    """

    path: str
    digest: str
    size_bytes: int


class Gap(Event, frozen=True, array_like=True, tag=12, gc=False):
    """Events that could not be written.

    Attributes:
        count: number missing before this event; their sequence numbers are not used again.
        reason: the text of the operating system.
    """

    count: int
    reason: str


class LoopStarted(Event, frozen=True, array_like=True, tag=13, gc=False):
    """A loop began to run; ``source`` names it.

    Attributes:
        total: iterations it expects; None if unknown.
        unit: what one iteration is: epoch, batch, ...
    """

    total: int | None
    unit: str


class LoopEnded(Event, frozen=True, array_like=True, tag=14, gc=False):
    """A loop ended; ``source`` names it.

    Attributes:
        completed: iterations done in this run of the loop.
    """

    completed: int


class Media(Event, frozen=True, array_like=True, tag=15, gc=False):
    """A value that is more than a number.

    Attributes:
        name: its name, as of a metric.
        kind: image and figure are PNG; text is UTF-8; a table is JSON with ``columns`` and
            ``rows``; a histogram is JSON with ``edges`` (one more than) and ``counts``.
        data: its bytes.
        destinations: labels of its destinations.
        hook: the hook it was put from; empty between hooks.
    """

    name: str
    kind: MediaKind
    data: bytes
    destinations: tuple[str, ...]
    hook: str


class LoopAdvanced(Event, frozen=True, array_like=True, tag=16, gc=False):
    """A loop of the user's own did one more iteration; ``source`` names it.

    Attributes:
        completed: iterations done in this run of the loop.
    """

    completed: int


class CommandsDropped(Event, frozen=True, array_like=True, tag=17, gc=False):
    """Commands that a full mailbox dropped by its policy; ``source`` is who sent them.

    Attributes:
        target: the actor with the mailbox.
        command: the commands' type.
        policy: the overflow policy: drop_oldest, drop_newest or coalesce.
        count: number dropped since the last such event.
    """

    target: str
    command: str
    policy: str
    count: int


class ActorTotals(Event, frozen=True, array_like=True, tag=18, gc=False):
    """What an actor did in an attempt, recorded at its end; ``source`` names it.

    Recorded only for actors that worked on the bus thread or were sent commands. Of the commands,
    ``sent == delivered + dropped + dead``; those still waiting at the end are not counted.

    Attributes:
        kind: its class.
        state: ``drained`` if only RunEnded was left for it; ``stopped`` if it gave up or was
            detached; ``cancelled`` if it was not done in time; ``finished``; or ``in step`` for
            one without work on the bus thread.
        events: number of events it got on the bus thread.
        lag: number of events up to RunEnded that it had not passed.
        restarts, faults: number of restarts and failures.
        sent, delivered, dropped, dead: commands: all, those it took, those that the overflow policy
            dropped, and dead letters.
        most_waiting: highest number of commands that waited at once.
    """

    kind: str
    state: str
    events: int
    lag: int
    restarts: int
    faults: int
    sent: int
    delivered: int
    dropped: int
    dead: int
    most_waiting: int


class Resumed(Event, frozen=True, array_like=True, tag=19, gc=False):
    """A resumed run continues here; what came before in this attempt was set-up."""


class RankStarted(Event, frozen=True, array_like=True, tag=21, gc=False):
    """A rank of several takes part in the run from here on.

    Attributes:
        world_size: number of ranks.
        local_rank: number of this rank among those of its machine, from 0.
        node: number of its machine, from 0.
        host: the machine's name.
        pid: number of its process.
        device: what it trains on.
        restart: number of times that the launcher has started all processes again.
    """

    world_size: int
    local_rank: int
    node: int
    host: str
    pid: int
    device: str
    restart: int


class Agreed(Event, frozen=True, array_like=True, tag=22, gc=False):
    """All ranks act here on a request that one of them got.

    Attributes:
        point: the count of safe points, which is the same on all ranks.
        what: the request, such as ``nightbus.Stop``.
        asked_by: the rank that got the request.
    """

    point: int
    what: str
    asked_by: int


class RankLost(Event, frozen=True, array_like=True, tag=23, gc=False):
    """A rank was lost, and all ranks end.

    Attributes:
        lost_rank: which one.
        cause: ``raised`` (an exception), ``dead`` (its process), ``silent``, or ``stuck`` while
            others waited for it.
        what: what happened, for people.
        point: number of safe points that it had reached, as far as is known.
        hook: the hook that it was in; empty if that is not known.
    """

    lost_rank: int
    cause: str
    what: str
    point: int
    hook: str


class ClockOffset(Event, frozen=True, array_like=True, tag=24, gc=False):
    """How far this rank's clock is from that of rank 0.

    Attributes:
        offset_ns: add this to a ``time_ns`` of this log to get the time of rank 0.
        bound_ns: the largest error that ``offset_ns`` can have.
    """

    offset_ns: int
    bound_ns: int


class Resharded(Event, frozen=True, array_like=True, tag=25, gc=False):
    """A run was resumed with another number of ranks than it was saved with.

    Attributes:
        was: number of ranks that saved the run.
        now: number of ranks that resumed it.
        exact: whether the data continues at the next sample; otherwise at the next whole step.
    """

    was: int
    now: int
    exact: bool


class SystemMetrics(Event, frozen=True, array_like=True, tag=26, gc=False):
    """What the process and its machine use, recorded every few seconds, whatever training does.

    Attributes:
        values: by name. A name ends in its unit: ``process/cpu_percent`` (100 is one core),
            ``machine/cpu_percent`` (100 is all cores), ``process/memory_bytes``,
            ``machine/disk_read_bytes_per_s``, ``gpu0/use_percent``, ``gpu0/power_w``,
            ``gpu0/temperature_c`` and others; what cannot be read is left out.
    """

    values: dict[str, float]


class ConsoleLine(Event, frozen=True, array_like=True, tag=27, gc=False):
    """A line that the process printed, with ``Trainer(record_console=True)``.

    Attributes:
        stream: ``stdout`` or ``stderr``.
        text: the line as a terminal shows it in the end, without colours and secrets.
        dropped: number of characters before this line that are not recorded, because it was too
            much.
    """

    stream: str
    text: str
    dropped: int


class AlertSent(Event, frozen=True, array_like=True, tag=28, gc=False):
    """An Alert has sent a message, or given it up; ``source`` names it.

    Attributes:
        occasion: ``end``, ``crash``, ``nan``, ``hang``, ``plateau`` or ``when``.
        text: the message.
        to: ``webhook`` with the host, or ``command`` with the program.
        attempts: how often it was tried.
        problem: why it was not delivered; empty if it was.
    """

    occasion: str
    text: str
    to: str
    attempts: int
    problem: str


class ActorBacklogs(Event, frozen=True, array_like=True, tag=29, gc=False):
    """How far actors are behind training, recorded beside SystemMetrics when it has changed.

    Attributes:
        lag: number of recorded events that an actor on the bus thread has not passed, by its name.
        waiting: number of commands that wait for an actor, by its name; without those that were
            sent none.
    """

    lag: dict[str, int]
    waiting: dict[str, int]


# So that type checkers know: what derives from it is frozen without saying so.
@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class UserEvent(Event, metaclass=NamedType, frozen=True, array_like=False, kw_only=True, gc=True):
    """An event of your own: subclass it, with a name of your namespace, and ``emit`` it.

    ::

        class SampleSeen(nb.UserEvent, name="myteam.SampleSeen"):
            path: str
            score: float

    Fields are plain data: numbers, text, bytes, dates, enums, and lists, dicts, dataclasses and
    structs of those. Where it arose is filled in when it is emitted: ``seq``, ``time_ns``,
    ``rank``, ``stage``, ``epoch``, ``step``, ``batch_idx``, ``dataloader_idx`` and ``source``.

    Attributes:
        hook: the hook it was emitted from; empty between hooks.
    """

    seq: int = -1
    time_ns: int = 0
    rank: int = 0
    stage: Stage = ""
    epoch: int = 0
    step: int = 0
    batch_idx: int = -1
    dataloader_idx: int = 0
    source: str = ""
    hook: str = ""

    if TYPE_CHECKING:

        def __init_subclass__(cls, *, name: str | None = None, **options: Any) -> None: ...


reserve_fields(UserEvent)


class PlainUserEvent(UserEvent, frozen=True, array_like=True, tag=20, gc=False):
    """An event of a user's as it is recorded; read as this where its class is not defined.

    Attributes:
        name: its type's name, such as ``myteam.SampleSeen``.
        data: its fields by name, as a msgpack map.
    """

    seq: int
    time_ns: int
    rank: int
    stage: Stage
    epoch: int
    step: int
    batch_idx: int
    dataloader_idx: int
    source: str
    hook: str
    name: str
    data: bytes

    @property
    def fields(self) -> dict[str, Any]:
        """Return its fields as plain data.

        Raises:
            LogFormatError: ``data`` is not such a map.
        """
        try:
            found = _fields.decode(self.data)
            if is_deeper(found, MAX_FIELD_DEPTH):
                raise ValueError(f"they are nested more than {MAX_FIELD_DEPTH} deep")
        except MALFORMED as error:
            raise LogFormatError(f"the fields of {self.name!r} cannot be read: {error}") from None
        return found


_fields = msgspec.msgpack.Decoder(dict[str, Any])


def is_deeper(value: object, depth: int) -> bool:
    """Return whether lists and dicts are nested deeper than a limit.

    Args:
        value: plain data.
        depth: the limit; a number has depth 0.
    """
    level = [value]
    for _ in range(depth + 1):
        inner: list[object] = []
        for each in level:
            if isinstance(each, dict):
                inner += each.values()
            elif isinstance(each, list | tuple):
                inner += each
        if not inner:
            return False
        level = inner
    return True


class Unknown(msgspec.Struct, frozen=True):
    """An event of a type that this version does not know; kept as it was.

    Attributes:
        seq: its place in the log.
        tag: its type's number.
        raw: its msgpack bytes.
    """

    seq: int
    tag: int
    raw: bytes


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class Command(
    msgspec.Struct, metaclass=NamedType, frozen=True, kw_only=True, forbid_unknown_fields=True
):
    """A request to an actor. Subclass it for your own; fields must be plain data.

    With a name, ``class SetRate(nb.Command, name="myteam.SetRate")``, it can also be sent from the
    shell: ``nightbus send RUN --to ACTOR --command myteam.SetRate --json '{"rate": 0.1}'``.
    """

    if TYPE_CHECKING:

        def __init_subclass__(cls, *, name: str | None = None, **options: Any) -> None: ...


class Stop(Command, name="nightbus.Stop", frozen=True, kw_only=True):
    """End the run at the next safe point, after min_epochs and min_steps.

    Attributes:
        reason: one line for people.
    """

    reason: str = ""


class Pause(Command, name="nightbus.Pause", frozen=True, kw_only=True):
    """Hold the run at the next safe point until Resume or Stop."""


class Resume(Command, name="nightbus.Resume", frozen=True, kw_only=True):
    """Continue after Pause."""


class SaveCheckpoint(Command, name="nightbus.SaveCheckpoint", frozen=True, kw_only=True):
    """Save the run at the next safe point; the reply is the checkpoint's path."""


class RunValidation(Command, name="nightbus.RunValidation", frozen=True, kw_only=True):
    """Run validation at the next safe point."""


def _classes(base: type) -> list[type[Any]]:
    """Return the classes of this module that derive from ``base``, and itself."""
    found = [each for each in globals().values() if isinstance(each, type)]
    return [each for each in found if issubclass(each, base)]


_recorded = [kind for kind in _classes(Event) if kind.__struct_config__.tag is not None]
EVENT_TYPES: dict[int, type[Event]] = {
    kind.__struct_config__.tag: kind
    for kind in sorted(_recorded, key=lambda kind: kind.__struct_config__.tag)
}
PUBLIC_NAMES = tuple(sorted(kind.__name__ for kind in _classes(Event) + _classes(Command)))
"""What the package has of this module: its events and commands."""

if TYPE_CHECKING:
    OtherEvent = Event
else:  # what decoders take; they refuse two types of one tag
    OtherEvent = functools.reduce(operator.or_, [kind for kind in _recorded if kind is not Hook])
