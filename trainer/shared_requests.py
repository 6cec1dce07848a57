"""SharedRequests: what is asked on one rank, and done on all ranks at the same safe point."""

import itertools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import msgspec

from ..actors.ranks.link import Link
from ..bus.control.server import SENDER
from ..bus.errors import MALFORMED, RankMessageError
from ..bus.events import (
    Agreed,
    Command,
    Pause,
    Resume,
    RunValidation,
    SaveCheckpoint,
    Stop,
)
from ..bus.mail.mailbox import Envelope, Undelivered
from ..bus.mail.reply import Reply
from ..bus.named_types import find_named, named_class
from ..bus.post_office import PostOffice
from ..bus.ranks.messages import MAX_PAYLOAD_BYTES

_OF_RUN = (Stop, Pause, Resume, SaveCheckpoint, RunValidation)

Kind = Literal["save", "end", "stop", "do not stop", "end of epoch", "command"]


class Request(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What is asked, as it is sent to the other ranks.

    Attributes:
        kind: what.
        reason: of a stop.
        signal: that ends the run.
        address: of the actor that a command is for.
        command: its name.
        fields: its fields, as JSON.
    """

    kind: Kind
    reason: str = ""
    signal: int = 0
    address: str = ""
    command: str = ""
    fields: str = ""


class Due(NamedTuple):
    """A request that all ranks do now.

    Attributes:
        request: the request.
        asked_by: the rank that asked.
        ask_kind: under what it was asked.
    """

    request: Request
    asked_by: int
    ask_kind: str


class SharedRequests:
    """Passes requests of this rank on to all ranks, and says when all do them.

    Args:
        link: to the other ranks.
        post_office: delivers the commands among them.
        emit: records an event.

    """

    def __init__(self, link: Link, post_office: PostOffice, emit: Callable[..., None]) -> None:
        self._link, self._post_office, self._emit = link, post_office, emit
        self._own_commands: dict[str, list[tuple[str, Envelope]]] = {}  # by kinds of asks
        self._numbers = itertools.count()

    def ask(self, kind: Kind, reason: str = "", number: int = 0) -> None:
        """Ask all ranks for something; the same, asked again before it is done, is one request.

        Args:
            kind: what.
            reason: of a stop.
            number: of the signal that ends the run.
        """
        self._link.ask(kind, msgspec.json.encode(Request(kind, reason, number)))

    def share(self, address: str, envelope: Envelope) -> bool:
        """Pass a command on, if all ranks have to handle it.

        These are the commands of the run itself, and all that come from the run's socket, which
        only rank 0 has. What actors tell each other stays on their rank: all ranks have the same
        actors.

        Args:
            address: the actor that it is for.
            envelope: the command.

        Returns:
            Whether it was passed on.
        """
        command = envelope.command
        named = named_class(type(command))
        is_of_run = isinstance(command, _OF_RUN)
        if named is None or not (is_of_run or envelope.sender.startswith(SENDER)):
            return False
        kind = named.name if is_of_run else f"{named.name} {next(self._numbers)}"
        fields = msgspec.json.encode(command).decode()
        request = Request("command", address=address, command=named.name, fields=fields)
        payload = msgspec.json.encode(request)
        if len(payload) > MAX_PAYLOAD_BYTES:
            reason = f"it has {len(payload)} bytes; at most {MAX_PAYLOAD_BYTES} reach all ranks"
            self._post_office.make_dead_letter(Undelivered(address, envelope, reason))
            return True
        self._own_commands.setdefault(kind, []).append((address, envelope))
        self._link.ask(kind, payload)
        return True

    def arrive(self) -> None:
        """Arrive at the end of an evaluation, where all ranks meet; ``has_met`` is to follow."""
        self._link.arrive()

    def has_met(self, within_s: float) -> bool:
        """Return whether all ranks are at the end of the evaluation, and have as many points.

        Args:
            within_s: how long to wait for that, or for something else to do.

        Raises:
            RankLostError: a rank is lost.
        """
        return self._link.has_met(within_s)

    @property
    def is_behind(self) -> bool:
        """Whether this rank, at the end of an evaluation, has to come to a further safe point."""
        return self._link.member.is_behind

    @property
    def needs_attention(self) -> bool:
        """Whether something is asked for which this rank has to come to further safe points."""
        return self._link.member.attention

    @property
    def count_point(self) -> Callable[[int], bool]:
        """Counts a safe point, given how much has been recorded; returns whether to ``take``."""
        return self._link.member.come

    def take(self) -> list[Due]:
        """Return what all ranks do at the safe point that was counted.

        Raises:
            RankLostError: a rank is lost.
        """
        due = []
        for ask in self._link.take():
            if ask.run == self._link.runs:  # not one that came too late for the run before
                self._emit(Agreed, self._link.member.point, ask.kind, ask.rank, source="ranks")
                due.append(Due(_decode(bytes(ask.payload)), ask.rank, ask.kind))
        return due

    def handle(self, due: Due) -> None:
        """Have the actor of this rank handle a command."""
        own = self._own_commands.pop(due.ask_kind, [])
        if not own:
            address = due.request.address
            command = _command_of(due.request)
            own = [(address, Envelope(command, f"rank {due.asked_by}", None))]
        (address, envelope), *others = own
        reply = envelope.reply or Reply()
        for _, other in others:  # the same command, sent again before it was done
            if other.reply is not None:
                reply.pass_on(other.reply)
        self._post_office.have_handled(address, envelope._replace(reply=reply))

    def end(self) -> None:
        """Make dead letters of the commands that came too late for the run."""
        for address, envelope in itertools.chain(*self._own_commands.values()):
            reason = "the run ended before all ranks could handle it"
            self._post_office.make_dead_letter(Undelivered(address, envelope, reason))
        self._own_commands = {}


def _decode(payload: bytes) -> Request:
    try:
        return msgspec.json.decode(payload, type=Request)
    except MALFORMED as error:
        raise RankMessageError(f"an ask of another rank cannot be read: {error}") from None


def _command_of(request: Request) -> Command:
    named = find_named(request.command, Command)
    if named is None:
        raise RankMessageError(
            f"another rank was sent {request.command}, which this one does not define; all ranks "
            "have to run the same script"
        )
    command: Any = msgspec.json.decode(request.fields, type=named.kind)
    assert isinstance(command, Command)
    return command
