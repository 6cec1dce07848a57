"""Steers runs from the page, through their control sockets, as ``nightbus send`` does."""

from typing import Any

import msgspec

from ...bus.control.protocol import COMMAND, STATUS, Request
from ...bus.control.verbs import VERBS, WORDS, usual_timeout_s
from ...bus.errors import MALFORMED, UsageError
from ...bus.inspection.control_client import outcome_of, send
from ...bus.runs.run_summary import RunSummary
from .address import new_token
from .answers import open_folder
from .plain_values import plain

MAX_BODY_BYTES = 64 << 10


class Wish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a page asks of a run.

    Attributes:
        verb: one of those of ``nightbus send``; empty with a command.
        reason: for ``stop``: why.
        command: the name of a command of the user's own.
        to: the actor that is to take it; the run itself if empty.
        fields: its fields.
    """

    verb: str = ""
    reason: str = ""
    command: str = ""
    to: str = ""
    fields: dict[str, Any] = {}


class Steering:
    """Passes on what pages ask of runs, and the answers.

    Attributes:
        token: what a page has to send with each wish, besides the board's own token: that of a page
            that was opened before the board was started again is refused.
    """

    def __init__(self) -> None:
        self.token = new_token()

    def offer(self) -> dict[str, Any]:
        """Return what a page needs to steer: the token, and the verbs."""
        return {"token": self.token, "verbs": list(VERBS)}

    def pass_on(self, run: RunSummary, body: bytes) -> dict[str, Any]:
        """Ask something of a run, and wait for the answer.

        Args:
            run: the run.
            body: the wish, as JSON.

        Returns:
            The answer: what has become of it, in words, and where the run is.

        Raises:
            UsageError: it is no wish.
            ControlError: the run has ended, or does not answer.
        """
        request = _request(body)
        answer = send(open_folder(run), request)
        return {
            "kind": answer.kind,
            "said": plain(outcome_of(request, answer)),
            "status": None if answer.status is None else plain(msgspec.to_builtins(answer.status)),
        }


def _request(body: bytes) -> Request:
    try:
        wish = msgspec.json.decode(body, type=Wish)
    except MALFORMED as error:
        raise UsageError(f"the wish cannot be read: {error}") from None
    if wish.command:
        fields = msgspec.Raw(msgspec.json.encode(wish.fields))
        timeout_s = usual_timeout_s(COMMAND)
        return Request(COMMAND, "", timeout_s, to=wish.to, command=wish.command, arguments=fields)
    if wish.verb not in WORDS:
        raise UsageError(f"verb={wish.verb[:80]!r}: expected {', '.join(WORDS)}, or a command")
    reason = wish.reason if wish.verb != STATUS else ""
    return Request(wish.verb, reason, usual_timeout_s(wish.verb))
