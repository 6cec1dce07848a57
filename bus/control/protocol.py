"""The protocol of a run's control socket: one line of JSON each way, then the connection ends."""

from typing import Literal

import msgspec

from ..errors import MALFORMED, ControlError
from ..events import Stage

MAX_LINE_BYTES = 64 << 10
MAX_REASON_CHARS = 1_000
MAX_WAIT_S = 3600.0
CONTROL_VERSION = 1

STATUS, COMMAND = "status", "command"  # verbs of their own; the others are in verbs.py

_NO_ARGUMENTS, _NO_REPLY = msgspec.Raw(b"{}"), msgspec.Raw(b"null")


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The request of a client.

    Attributes:
        verb: what to do: one of the verbs of verbs.py, status, or command.
        reason: why, for ``stop``.
        timeout_s: how long to wait until it is done, in s.
        version: of this protocol.
        to: for a command, the actor that is to take it; the run itself if empty.
        command: for a command, its name.
        arguments: for a command, its fields as a JSON object.
    """

    verb: str
    reason: str = ""
    timeout_s: float = 10.0
    version: int = CONTROL_VERSION
    to: str = ""
    command: str = ""
    arguments: msgspec.Raw = _NO_ARGUMENTS


class RunStatus(msgspec.Struct, frozen=True):
    """The state of a run.

    Attributes:
        pid: id of its process.
        run, attempt: of the run.
        fn: fit, validate, test or predict.
        stage: what it is doing.
        epoch: epochs completed before this one, so the first is 0.
        step: optimizer steps completed.
        batch_idx: batch within the epoch, from 0; -1 outside a batch.
        paused: it waits at a safe point.
        stopping: it was asked to stop.
        may_stop: min_epochs and min_steps are reached, so that it stops when asked to.
        running_s: how long the attempt has run, in s.
        dead_letters: number of commands that reached no actor.
    """

    pid: int
    run: str
    attempt: int
    fn: str
    stage: Stage
    epoch: int
    step: int
    batch_idx: int
    paused: bool
    stopping: bool
    may_stop: bool
    running_s: float
    dead_letters: int


AnswerKind = Literal["done", "late", "busy", "refused", "failed"]


class Answer(msgspec.Struct, frozen=True):
    """The answer of the run.

    Attributes:
        kind: done; late, if it may still be done; busy, if too many others are connected;
            refused, if the request is wrong; failed.
        message: what was done, or why not.
        status: the state of the run then; None if the request was not understood.
        reply: for a command, what its handler returned, as JSON.
    """

    kind: AnswerKind
    message: str = ""
    status: RunStatus | None = None
    reply: msgspec.Raw = _NO_REPLY


_request_decoder = msgspec.json.Decoder(Request)
_answer_decoder = msgspec.json.Decoder(Answer)


def encode_line(message: Request | Answer) -> bytes:
    """Return a message as a line for the socket."""
    return msgspec.json.encode(message) + b"\n"


def decode_request(line: bytes) -> Request:
    """Return the request in a line.

    Raises:
        ControlError: it is malformed, or out of range.
    """
    try:
        request = _request_decoder.decode(line)
    except MALFORMED as error:
        raise ControlError(
            f'the request cannot be read: {error}; expected a line like {{"verb": "status"}}'
        ) from None
    if request.version != CONTROL_VERSION:
        raise ControlError(
            f"the request has version {request.version}, this run uses {CONTROL_VERSION}; use "
            "the nightbus that the run uses"
        )
    if not 0 <= request.timeout_s <= MAX_WAIT_S:
        raise ControlError(f"timeout_s={request.timeout_s}: expected 0 to {MAX_WAIT_S:g}")
    if len(request.reason) > MAX_REASON_CHARS:
        raise ControlError(
            f"the reason has {len(request.reason)} characters; at most {MAX_REASON_CHARS} are taken"
        )
    return request


def decode_answer(line: bytes) -> Answer:
    """Return the answer in a line.

    Raises:
        ControlError: it is malformed.
    """
    try:
        return _answer_decoder.decode(line)
    except MALFORMED as error:
        raise ControlError(
            f"the answer is not that of a run of this version of nightbus: {error}"
        ) from None
