"""What the ranks of one training send each other, as bytes and back.

Rank 0 keeps a desk: a Unix socket for the ranks of its machine, a TCP port for those of others.
Each rank holds one connection to it open. It sends ``Hello`` first, with the token of the run, then
``Whereabouts``, ``Ask``, ``Answer``, ``Arrived``, ``Failure`` and ``Ping``, at last ``Done``. The
desk sends all of them ``Proposal`` and ``Decision``, ``Met``, ``Failure``, ``Ended`` and rank 0's
own ``Whereabouts`` and ``Done``, and to whom it concerns ``Pong``.

A message is one line of JSON of a declared type, with a tag. Ranks trust each other as far as the
token goes; what comes in is checked all the same, because whatever can connect can send: nothing
is executed, sizes are limited, and what is refused is refused by RankMessageError with the reason.
"""

from typing import Annotated, Literal

import msgspec

from ..errors import MALFORMED, RankMessageError

MAX_MESSAGE_BYTES = 256 << 10
MAX_PAYLOAD_BYTES = 16 << 10
MAX_ASKS = 8  # of one proposal: with the largest payloads it is still one message
MAX_TEXT_CHARS = 4_000
MIN_TOKEN_CHARS = 16
_MAX_INT = (1 << 53) - 1
_MAX_NS = (1 << 63) - 1  # a clock in ns exceeds 53 bits after 104 days

Count = Annotated[int, msgspec.Meta(ge=0, le=_MAX_INT)]
BatchIdx = Annotated[int, msgspec.Meta(ge=-1, le=_MAX_INT)]
Nanoseconds = Annotated[int, msgspec.Meta(ge=0, le=_MAX_NS)]
Kind = Annotated[str, msgspec.Meta(min_length=1, max_length=300)]
Name = Annotated[str, msgspec.Meta(max_length=100)]
Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT_CHARS)]
Token = Annotated[str, msgspec.Meta(min_length=MIN_TOKEN_CHARS, max_length=300)]

Readiness = Literal["ready", "late"]
Cause = Literal["raised", "dead", "silent", "stuck"]
Activity = Literal["trains", "waits", "rests", "left"]

_NO_PAYLOAD = msgspec.Raw(b"{}")


class _Message(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="type"
):
    """Base of what is sent."""


class Hello(_Message, frozen=True, tag="hello"):
    """The first line of a rank to the desk.

    Attributes:
        token: that of the run, which only its processes know.
        rank: the sender.
    """

    token: Token
    rank: Count


class Ask(_Message, frozen=True, tag="ask"):
    """Something decided on one rank, on which all are to act at the same point.

    Attributes:
        kind: what is asked. Asks of one kind are one as long as nobody has acted on them; who
            needs each of its asks acted on gives each a kind of its own, as by a number.
        rank: who asks.
        point: the last point that this rank had done with when it asked.
        payload: a line of JSON with the rest, such as the fields of the command.
        run: how many runs these processes had begun: what comes too late for one is not for the
            next.
    """

    kind: Kind
    rank: Count
    point: Count
    payload: msgspec.Raw = _NO_PAYLOAD
    run: Count = 0


class Proposal(_Message, frozen=True, tag="proposal"):
    """The chair's question whether all ranks can act at a point.

    Attributes:
        number: of the proposal, from 0, in the order in which they are made.
        point: where to act.
        asks: on what, in this order.
    """

    number: Count
    point: Count
    asks: Annotated[tuple[Ask, ...], msgspec.Meta(min_length=1, max_length=MAX_ASKS)]


class Answer(_Message, frozen=True, tag="answer"):
    """A rank's answer to a proposal, of which only their numbers reach the chair.

    Attributes:
        number: of the proposal.
        readiness: ``ready`` to act there, or ``late``: the rank is there or beyond.
    """

    number: Count
    readiness: Readiness


class Decision(_Message, frozen=True, tag="decision"):
    """What became of a proposal.

    Attributes:
        number: of the proposal.
        holds: all act at its point; otherwise nobody does, and its asks are proposed again.
    """

    number: Count
    holds: bool


class Arrived(_Message, frozen=True, tag="arrived"):
    """Word of a rank that it is at the end of an evaluation, and waits there for the others.

    Attributes:
        run: how many runs these processes have begun.
        number: of the meeting within the run, from 1.
        point: the safe points that the rank has come to.
    """

    run: Count
    number: Count
    point: Count


class Met(_Message, frozen=True, tag="met"):
    """Word of the chair that all ranks have arrived at a meeting.

    Attributes:
        run: as in Arrived.
        number: as in Arrived.
        point: the one to which all come before they go on.
    """

    run: Count
    number: Count
    point: Count


class Failure(_Message, frozen=True, tag="failure"):
    """Word that a rank is lost to the others; the first word stands.

    Attributes:
        rank: the culprit.
        cause: it raised; its process is dead; it is silent; or it is stuck in a hook while others
            wait for it.
        what: what happened, a sentence for people.
        point: the point that it had come to, as far as is known.
        hook: the hook that it was in; empty if that is not known.
        batch_idx: its batch within the epoch, from 0; -1 outside a batch.
    """

    rank: Count
    cause: Cause
    what: Text
    point: Count = 0
    hook: Name = ""
    batch_idx: BatchIdx = -1


class Whereabouts(_Message, frozen=True, tag="whereabouts"):
    """Where a rank's training thread is, as its side thread saw it.

    Attributes:
        rank: whose.
        beat: how many of these the rank has sent.
        point: the safe points that it has come to.
        progress: what it has done since that point, such as the hooks that it has called: of two
            ranks that have met as often, that with less is behind.
        hook: the hook that it is in; empty outside of hooks.
        batch_idx: its batch within the epoch, from 0; -1 outside a batch.
        activity: it trains; it waits for the others at the end of an evaluation; it rests, because
            the run is paused; or it has left: it is in no run, or has come to its last point.
        run: how many runs these processes have begun.
        met: how often in this run it has come to where all ranks meet, such as for the gradients
            of a step, or left its own part there behind: of two ranks at one point, that with less
            is behind.
        awaits: the exchange in which it waits for others that have not called it yet.
    """

    rank: Count
    beat: Count
    point: Count
    progress: Count = 0
    hook: Name = ""
    batch_idx: BatchIdx = -1
    activity: Activity = "trains"
    run: Count = 0
    met: Count = 0
    awaits: Name = ""


class Done(_Message, frozen=True, tag="done"):
    """The last line of a rank: its process may end now."""


class Ended(_Message, frozen=True, tag="ended"):
    """Word of the desk that the process of the rank that is lost has ended."""


class Ping(_Message, frozen=True, tag="ping"):
    """A question for the time at the desk.

    Attributes:
        sent_ns: when it was sent, on the sender's clock.
    """

    sent_ns: Nanoseconds


class Pong(_Message, frozen=True, tag="pong"):
    """The answer to a Ping.

    Attributes:
        sent_ns: of the Ping.
        desk_ns: when it was answered, on the clock of rank 0.
    """

    sent_ns: Nanoseconds
    desk_ns: Nanoseconds


Message = (
    Hello
    | Ask
    | Proposal
    | Answer
    | Decision
    | Arrived
    | Met
    | Failure
    | Whereabouts
    | Done
    | Ended
    | Ping
    | Pong
)

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


def encode(message: Message) -> bytes:
    """Return a message as bytes, without a line's end.

    Raises:
        RankMessageError: it is too large, or an ask whose payload is not a line of JSON.
    """
    if isinstance(message, Ask):
        _check_payload(message)
    data = _encoder.encode(message)
    if len(data) > MAX_MESSAGE_BYTES:
        raise RankMessageError(
            f"a {type(message).__name__} of {len(data)} bytes is too large for the other ranks; "
            f"at most {MAX_MESSAGE_BYTES} are sent"
        )
    return data


def decode(data: bytes) -> Message:
    """Return the message in bytes that came from another process.

    Raises:
        RankMessageError: they are no such message; nothing of them was used.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise RankMessageError(
            f"a message of {len(data)} bytes came from another rank; expected "
            f"{MAX_MESSAGE_BYTES} at most"
        )
    try:
        message = _decoder.decode(data)
    except MALFORMED as error:
        raise RankMessageError(
            f"a message of {len(data)} bytes from another rank cannot be read: {error}. All ranks "
            "have to run the same version of nightbus, and nothing else may use their store and "
            "sockets"
        ) from None
    if isinstance(message, Ask):
        _check_payload(message)
    return message


def _check_payload(ask: Ask) -> None:
    """Refuse a payload that is too large, or would end the line that it is sent in."""
    payload = bytes(ask.payload)
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise RankMessageError(
            f"the payload of the ask {ask.kind!r} has {len(payload)} bytes; at most "
            f"{MAX_PAYLOAD_BYTES} are sent to other ranks: send the name of a file instead"
        )
    try:
        msgspec.json.decode(payload)
    except MALFORMED as error:
        raise RankMessageError(
            f"the payload of the ask {ask.kind!r} is not JSON: {error}"
        ) from None
    if b"\n" in payload:
        raise RankMessageError(f"the payload of the ask {ask.kind!r} is to be one line of JSON")


class Lines:
    """Makes messages of the bytes that come over a socket, in whatever pieces."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that are complete with these bytes.

        Raises:
            RankMessageError: a line is no message, or too long to be one; the connection is of no
                use any more.
        """
        self._rest += data
        *lines, rest = bytes(self._rest).split(b"\n")
        self._rest = bytearray(rest)
        if len(rest) > MAX_MESSAGE_BYTES:
            raise RankMessageError(
                f"{len(rest)} bytes from another rank without a line's end; expected "
                f"{MAX_MESSAGE_BYTES} at most"
            )
        return [decode(line) for line in lines]


def failure(rank: int, cause: Cause, what: str, where: Whereabouts | None = None) -> Failure:
    """Return the word that a rank is lost, with its texts cut to what may be sent.

    Args:
        rank: the culprit.
        cause: as in Failure.
        what: what happened, a sentence for people.
        where: what was last known of it; None if nothing was.
    """
    what = what[:MAX_TEXT_CHARS]
    if where is None:
        return Failure(rank, cause, what)
    return Failure(rank, cause, what, where.point, where.hook, where.batch_idx)


def describe(failure: Failure) -> str:
    """Return the word of a lost rank as a sentence for people."""
    return f"rank {failure.rank} is lost: {failure.what} (last seen {describe_place(failure)})"


def describe_place(where: Failure | Whereabouts) -> str:
    """Return where a rank is, for people."""
    place = f"point {where.point}"
    if where.batch_idx >= 0:
        place = f"batch {where.batch_idx}, {place}"
    return f"in {where.hook}, {place}" if where.hook else f"at {place}"
