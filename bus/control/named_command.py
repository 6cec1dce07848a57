"""Looks up commands that are sent by their names, and makes them of what was sent."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from ..errors import MALFORMED, ControlError
from ..events import Command
from ..named_types import declared_fields, find_named
from .protocol import MAX_LINE_BYTES, Request


class Directory(Protocol):
    """Knows the actors of a run and their commands: the post office."""

    def addresses(self) -> list[str]:
        """Return the addresses of actors, in order."""

    def commands_of(self, address: str) -> list[str]:
        """Return the names of the commands that an actor takes, in order.

        Args:
            address: the actor's address.
        """

    def waits_for_safe_point(self, address: str) -> bool:
        """Return whether an actor takes commands on the training thread, at safe points.

        Args:
            address: the actor's address.
        """


def named_command(request: Request, target: str, directory: Directory) -> Command:
    """Return the command that a request names.

    The name is looked up among the classes that this process has defined, and among those that the
    actor takes; nothing else is created.

    Args:
        request: the request.
        target: the address of the actor.
        directory: knows the actors.

    Returns:
        The command.

    Raises:
        ControlError: there is no such actor, it takes no such command, or the fields do not fit.
    """
    addresses = directory.addresses()
    if target not in addresses:
        raise ControlError(
            f"there is no actor {target[:100]!r} in this run; there are: {_listed(addresses)}"
        )
    name = request.command[:100]
    named = find_named(request.command, Command)
    known = directory.commands_of(target)
    if named is None or named.name not in known:
        why = (
            f"no command {name!r} is defined in this run"
            if named is None
            else f"{target} does not handle {name}"
        )
        raise ControlError(f"{why}; {target} takes: {_listed(known)}")
    try:
        command = msgspec.json.decode(request.arguments, type=named.kind)
    except MALFORMED as error:
        fields = declared_fields(named) or "none"
        raise ControlError(f"the fields do not fit: {error}; {name} has: {fields}") from None
    assert isinstance(command, Command)
    return command


def encoded_reply(reply: object) -> bytes:
    """Return the result of a handler as JSON.

    Args:
        reply: the value: plain data, a tensor of one element as a number; of anything else, its
            text.

    Returns:
        The JSON; too long for an answer, maybe.
    """
    try:
        return msgspec.json.encode(reply, enc_hook=_as_plain)
    except Exception:  # whatever the handler's own objects raise
        return msgspec.json.encode(f"a {type(reply).__name__}, which cannot be shown")


def is_too_long(reply: bytes) -> bool:
    """Return whether a reply does not fit into an answer.

    Args:
        reply: as ``encoded_reply`` returns it.
    """
    return len(reply) > MAX_LINE_BYTES


def _as_plain(value: object) -> object:
    try:
        return value.item()  # type: ignore[attr-defined]
    except (AttributeError, ValueError, RuntimeError):
        return str(value)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
