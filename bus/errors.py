"""All errors that nightbus raises on purpose.

NightbusError
├── UsageError              the caller's arguments or code are wrong; a ValueError too
│   ├── UnknownHookError    a handler names a hook that does not exist
│   ├── UnsupportedArgumentError   known from elsewhere; the message says what to use instead
│   ├── MissingPackageError a feature needs a package that is not installed; a
│   │                       ModuleNotFoundError too
│   ├── MetricError         a metric's name, value, options or place is wrong
│   ├── OutsideRunError     no run is active that could record it
│   ├── ArgumentTypeError   an argument is unknown, or of another type than is needed; a
│   │                       TypeError too
│   ├── MissingMetricError  a metric that ends training was not recorded; a RuntimeError too
│   ├── MissingAttributeError   the tuner has no attribute to set; an AttributeError too
│   ├── NotAttachedError    a module, callback or loop is in no run; a RuntimeError too
│   │   └── NoModuleError   a Trainer has no module to save; an AttributeError too
│   ├── StateKeyError       two callbacks would save their states under one key; a RuntimeError too
│   └── ForkedChildError    a forked child tried to continue its parent's run
├── RunFolderError          the run's folder is missing, locked or cannot be written
├── LogError                the event log
│   ├── LogFormatError      not a log, or damaged where damage cannot be skipped
│   └── NewerFormatError    written by a newer major version of the format
├── SinkError               a destination cannot be written, or is not as it was left
├── CheckpointError         a checkpoint cannot be written or read
│   ├── MissingCheckpointError   there is none at that path; a FileNotFoundError too
│   ├── NoBestCheckpointError   ``best`` was asked for, and none was saved; a UsageError too
│   └── WeightsError        its weights do not fit the module; a RuntimeError too
├── DeliveryError           a message to an actor was not answered
│   ├── UnknownActorError   there is no actor of that name
│   ├── UnhandledCommandError   the actor has no handler for the command
│   ├── MailboxFullError    too many commands wait for the actor
│   ├── CommandDroppedError the mailbox dropped the command, as its policy says
│   ├── AskTimeoutError     no reply within the deadline
│   ├── ActorRaisedError    the actor's handler raised; the cause is its exception
│   ├── ActorStoppedError   the actor stopped before it replied
│   └── NobodyInReplayError   asked in a replay, where no actor acts on commands
├── RankError               the ranks of one training
│   ├── RankMismatchError   ranks do different things where all have to do the same
│   ├── RankLostError       a rank failed, is silent or stuck; the message names it
│   ├── RankMessageError    what came from another rank, or is to go there, is no message
│   └── RankOrderError      messages of an agreement came in another order than they were sent
├── ControlError            a run cannot be steered from outside: gone, silent, or another user's
└── NotRecorded             replay was asked for something the log does not hold
    └── MetricNotRecorded   a metric that had no value yet; a KeyError too, as it is live
"""

import difflib
from collections.abc import Iterable

import msgspec

MAX_KNOWN_NAMES = 12
# What msgspec raises for malformed bytes: wrong types, text that is not UTF-8 (a ValueError),
# nesting too deep.
MALFORMED = (msgspec.DecodeError, ValueError, RecursionError)


class NightbusError(Exception):
    """Root of every error that nightbus raises on purpose."""


class UsageError(NightbusError, ValueError):
    """The caller's arguments or code are wrong; nothing was recorded or changed."""


class UnknownHookError(UsageError):
    """A handler names a hook that does not exist.

    Args:
        name: the given name.
        where: the method, e.g. ``NanWatch.grads``.
        known: names of the existing hooks.
    """

    def __init__(self, name: str, where: str, known: Iterable[str]) -> None:
        self.name = name
        near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "see nightbus.HOOKS for all hooks."
        super().__init__(f"{where} subscribes to the hook {name!r}, which does not exist; {hint}")


class UnsupportedArgumentError(UsageError):
    """An argument that users know from elsewhere and nightbus does not support."""


class MissingPackageError(UsageError, ModuleNotFoundError):
    """A feature needs a package that is not installed.

    Args:
        who: the feature.
        package: the package's name on the package index.
        extra: the extra of nightbus that installs it; empty if none does.
    """

    def __init__(self, who: str, package: str, extra: str) -> None:
        what = f"'nightbus[{extra}]'" if extra else package
        super().__init__(f"{who} needs the package {package}; install it with: pip install {what}")


class MetricError(UsageError):
    """A metric's name, value, options or the place where it was logged is wrong."""


class OutsideRunError(UsageError):
    """No run is active, yet or any more, that could record it."""


class ArgumentTypeError(UsageError, TypeError):
    """An argument is unknown, missing, or of another type than is needed."""


class MissingMetricError(UsageError, RuntimeError):
    """A metric by which a callback ends training was not recorded."""


class MissingAttributeError(UsageError, AttributeError):
    """A module or datamodule has no attribute of a name that is to be set."""


class NotAttachedError(UsageError, RuntimeError):
    """A module, datamodule, callback or loop was asked for its Trainer, and has none."""


class NoModuleError(NotAttachedError, AttributeError):
    """A Trainer that has not run a module yet was asked to save it."""


class StateKeyError(UsageError, RuntimeError):
    """Two callbacks would save their states under the same key, so that one would be lost."""


class ForkedChildError(UsageError):
    """A forked child tried to continue its parent's run; the run was not touched."""


class RunFolderError(NightbusError):
    """The run's folder is missing, in use by another process, or cannot be written."""


class LogError(NightbusError):
    """Base of errors about the event log."""


class LogFormatError(LogError):
    """The file is not an event log, or is damaged at its head."""


class NewerFormatError(LogError):
    """The log was written by a newer major version of the format."""


class SinkError(NightbusError):
    """A destination cannot be written, or is not as it was left."""


class CheckpointError(NightbusError):
    """A checkpoint cannot be written or read."""


class MissingCheckpointError(CheckpointError, FileNotFoundError):
    """There is no checkpoint at the path that was given."""


class NoBestCheckpointError(CheckpointError, UsageError):
    """``ckpt_path="best"`` was given, and no best checkpoint was saved."""


class WeightsError(CheckpointError, RuntimeError):
    """The weights of a checkpoint do not fit the module."""


class DeliveryError(NightbusError):
    """A message to an actor was not answered."""


class UnknownActorError(DeliveryError):
    """There is no actor of that name in this run."""


class UnhandledCommandError(DeliveryError):
    """The actor took the command, but has no handler for its type."""


class MailboxFullError(DeliveryError):
    """The actor's mailbox is full and refuses commands; see ``MailboxLimit``."""


class CommandDroppedError(DeliveryError):
    """The mailbox dropped the command for another one, according to its overflow policy."""


class ActorRaisedError(DeliveryError):
    """The actor's handler raised; ``__cause__`` is its exception.

    Args:
        target: the actor.
        command: the command's type.
        cause: the exception.
    """

    def __init__(self, target: str, command: str, cause: BaseException) -> None:
        self.__cause__ = cause
        super().__init__(f"{target} raised on {command}: {type(cause).__name__}: {cause}")


class AskTimeoutError(DeliveryError):
    """No reply came within the deadline; the actor may still act on the command."""


class ActorStoppedError(DeliveryError):
    """The actor stopped, or the run ended, before it replied."""


class NobodyInReplayError(DeliveryError):
    """Asked in a replay, where no actor acts on commands; the command is in the replay's result.

    A handler that does not catch it ends there, and the replay continues with the next event.

    Args:
        target: the actor it was sent to.
        command: the command's type.
    """

    def __init__(self, target: str, command: str) -> None:
        super().__init__(
            f"{command} for {target!r} gets no reply in a replay: commands are only collected "
            "in the result there. The handler ends here; to continue, have it catch "
            "nightbus.DeliveryError"
        )


class ControlError(NightbusError):
    """A run cannot be steered from outside: it is gone, silent, another user's, or refuses."""


class RankError(NightbusError):
    """Base of errors between the ranks of one training."""


class RankMismatchError(RankError):
    """Ranks do different things where all have to do the same."""


class RankLostError(RankError):
    """A rank failed, is silent or stuck, so the others cannot continue.

    Args:
        rank: the culprit; -1 if unknown.
        message: the same for people, with where it was.

    Attributes:
        rank: as given.
    """

    def __init__(self, rank: int, message: str) -> None:
        self.rank = rank
        super().__init__(message)


class RankMessageError(RankError):
    """What came from another rank, or is to go there, is no message of this version."""


class RankOrderError(RankError):
    """Messages of an agreement came in another order than they were sent: a defect of nightbus."""


class NotRecorded(NightbusError):
    """Replay was asked for something that the log does not hold: a tensor, an optimizer, a hook.

    Args:
        name: the missing thing.
        owner: what it would belong to.
        known: what the log has instead.

    Attributes:
        name: as given.
    """

    def __init__(self, name: str, owner: str, known: Iterable[str] | None = None) -> None:
        self.name = name
        if known is None:
            instead = (
                ": a log holds what happened and each put's value, not the live objects; put what "
                "you need in replay as a metric while training"
            )
        else:
            names = list(known)
            more = len(names) - MAX_KNOWN_NAMES
            shown = [*names[:MAX_KNOWN_NAMES], *([f"and {more} more"] if more > 0 else [])]
            instead = f"; recorded are: {', '.join(shown)}" if shown else "; none was"
        super().__init__(f"{name!r} of {owner} was not recorded{instead}")


class MetricNotRecorded(NotRecorded, KeyError):
    """A callback in replay asked for a metric without a value; live, it gets a KeyError.

    Args:
        name: the metric.
        known: the metrics that have a value.
    """

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(name, "the metrics up to here", known)

    __str__ = Exception.__str__  # KeyError's puts quotes around the message
