"""How an alert is sent: an HTTP request, or a program; each on a thread of its own."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from ..bus.errors import UsageError
from ..bus.secrets.texts import remember

_CHAT_FIELDS = {  # the end of a host's name -> the one field that its webhooks take
    "slack.com": "text",
    "office.com": "text",
    "discord.com": "content",
    "discordapp.com": "content",
}


class Sender(Protocol):
    """Where messages go.

    Attributes:
        name: where, for people, without secrets.
    """

    name: str

    def send(self, message: Mapping[str, Any], timeout_s: float) -> None:
        """Send a message once.

        Args:
            message: its fields; ``text`` is for people.
            timeout_s: how long it may take, in s.

        Raises:
            Exception: it was not delivered.
        """


class _NoRedirects(HTTPRedirectHandler):
    """Follows none: a POST would arrive as a GET, without the message."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class WebhookSender:
    """Posts JSON to an address.

    Args:
        address: the address, which is kept out of all texts from now on.

    Attributes:
        name: the host alone.

    Raises:
        UsageError: it is no address of http or https.
    """

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError("Alert(webhook=...): expected an address that begins with https://")
        remember(address, outright=True)
        remember(parts.path.strip("/"), outright=True)
        self._address = address
        host = parts.hostname
        self.name = f"webhook {host}"
        self._field = next(
            (field for end, field in _CHAT_FIELDS.items() if f".{host}".endswith(f".{end}")), None
        )

    def send(self, message: Mapping[str, Any], timeout_s: float) -> None:
        """See Sender.

        Raises:
            OSError: it was not delivered.
        """
        body = message if self._field is None else {self._field: message["text"]}
        headers = {"Content-Type": "application/json", "User-Agent": "nightbus"}
        request = Request(self._address, json.dumps(body).encode(), headers, method="POST")
        try:
            with build_opener(_NoRedirects).open(request, timeout=timeout_s):
                pass
        except HTTPError as error:
            error.close()
            raise OSError(f"{error.code} {error.reason}") from None


class CommandSender:
    """Runs a program.

    Args:
        command: the program and its arguments.

    Attributes:
        name: the program alone: arguments may be secrets.

    Raises:
        UsageError: it is no list of texts.
    """

    def __init__(self, command: Sequence[str]) -> None:
        if isinstance(command, str) or not command or not all(isinstance(c, str) for c in command):
            raise UsageError(
                f"Alert(command={command!r}): expected a list of a program and its arguments, such "
                'as ["notify-send", "nightbus"]'
            )
        self._command = list(command)
        self.name = f"command {command[0]}"

    def send(self, message: Mapping[str, Any], timeout_s: float) -> None:
        """See Sender.

        Raises:
            OSError: the program cannot be run, or failed.
            TimeoutExpired: it took too long, and was ended.
        """
        ended = subprocess.run(
            [*self._command, message["text"]],
            input=json.dumps(message).encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=timeout_s,
        )
        if ended.returncode:
            raise OSError(f"it ended with {ended.returncode}")
