"""The verbs by which the shell sends a run its own commands: ``nightbus send RUN pause``."""

from collections.abc import Callable
from typing import NamedTuple

from ..errors import ControlError
from ..events import Command, Pause, Resume, RunValidation, SaveCheckpoint, Stop
from .protocol import COMMAND, STATUS, Request, RunStatus

DEFAULT_TIMEOUT_S = 10.0


class Verb(NamedTuple):
    """A verb for a command that the run itself takes.

    Attributes:
        command: the command.
        outcome: returns what was done, from the reply and the state of the run then.
        timeout_s: how long ``send`` waits by default, in s.
    """

    command: type[Command]
    outcome: Callable[[str, RunStatus], str]
    timeout_s: float = DEFAULT_TIMEOUT_S


def _outcome_of_stop(reply: str, status: RunStatus) -> str:
    when = "after the step" if status.may_stop else "when min_epochs and min_steps are reached"
    return f"the run ends {when}"


VERBS = {
    "stop": Verb(Stop, _outcome_of_stop),
    "checkpoint": Verb(SaveCheckpoint, lambda path, _: f"saved in {path}", timeout_s=600.0),
    "pause": Verb(Pause, lambda *_: "the run holds here, until resume or stop"),
    "resume": Verb(Resume, lambda *_: "the run goes on"),
    "validate": Verb(RunValidation, lambda result, _: result, timeout_s=600.0),
}
WORDS = (*VERBS, STATUS)
"""All verbs of ``nightbus send RUN``; ``status`` sends no command."""


def usual_timeout_s(verb: str) -> float:
    """Return how long to wait until something is done, in s, if nothing else is said.

    Args:
        verb: what is asked.
    """
    return VERBS[verb].timeout_s if verb in VERBS else DEFAULT_TIMEOUT_S


def command_of(request: Request) -> Command:
    """Return the command of a verb.

    Args:
        request: the request; ``status`` has no command.

    Raises:
        ControlError: there is no such verb.
    """
    verb = VERBS.get(request.verb)
    if verb is None:
        known = ", ".join(sorted([*WORDS, COMMAND]))
        raise ControlError(f"there is no verb {request.verb[:100]!r}; expected one of {known}")
    takes_reason = request.reason and "reason" in verb.command.__struct_fields__
    return verb.command(**({"reason": request.reason} if takes_reason else {}))
