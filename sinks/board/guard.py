"""Who may ask the board: checked before any route, and said to the browser with each answer."""

import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Iterable

from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .address import is_loopback

API = "/api/"
PROOF = "/api/proof"
STEER = "/api/steer/"
STEERING_HEADER = b"nightbus-steering"
_NONCE = re.compile(rb"nonce=([0-9a-f]{32})")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]


class Guard:
    """An application within another, which passes on what may be asked.

    The page itself holds nothing of any run, so that it needs no token. Answers of the API do, for
    loopback too: other users of the machine reach it as well, though they cannot read the runs.
    Names in ``Host`` are checked because a stranger's page can have its name lead here; an address
    cannot be made to lead elsewhere.

    One question needs no token: whether the board knows it. A page asks that before it sends the
    token, since the board may have ended and another user's program listen in its place. The proof
    says where the board listens, so that none can be passed on from another board of this token.

    Args:
        app: what is guarded.
        token: what has to be sent with every question.
        host: the address or name that is listened on.
        steering: what has to be sent with every wish to steer a run, besides the token; empty to
            refuse all of them.
        place: where the board listens, in words of its own.
    """

    def __init__(
        self, app: ASGIApp, token: str, host: str, steering: str = "", place: str = ""
    ) -> None:
        self._app = app
        self._steering = steering
        self._place, self._secret = place, token.encode()
        self._token = f"Bearer {token}".encode()
        self._takes_addresses = not is_loopback(host)
        self._names = _LOOPBACK | {host.lower()}
        if self._takes_addresses:
            self._names |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request, or refuse it."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        answer = self._own_answer(scope)
        await (answer or self._app)(scope, receive, send_guarded)

    def _own_answer(self, scope: Scope) -> Response | None:
        """Return a refusal or the proof; None for what is passed on."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        steers = bool(self._steering) and scope["path"].startswith(STEER)
        allowed = ("POST",) if steers else ("GET", "HEAD")
        if scope["method"] not in allowed:
            said = f"only {' and '.join(allowed)} can be asked for here"
            return PlainTextResponse(said, 405, {"Allow": ", ".join(allowed)})
        hosts = _all_of(headers, b"host")
        if len(hosts) != 1 or not self._is_ours(hosts[0]):
            return PlainTextResponse("the board is not known by the name that was asked for", 403)
        if any(origin != f"http://{hosts[0]}" for origin in _all_of(headers, b"origin")):
            return PlainTextResponse("another page may not ask the board", 403)
        if not scope["path"].startswith(API):
            return None
        if any(site not in ("same-origin", "none") for site in _all_of(headers, b"sec-fetch-site")):
            return PlainTextResponse("another page may not ask the board", 403)
        if scope["path"] == PROOF:
            return self._proof(scope["query_string"])
        given = _all_of(headers, b"authorization")
        if len(given) != 1 or not secrets.compare_digest(given[0].encode(), self._token):
            said = "open the address that nightbus board has printed: it has the token"
            return PlainTextResponse(said, 401)
        return self._refusal_to_steer(headers) if steers else None

    def _proof(self, query: bytes) -> Response:
        """Prove to whoever knows the token that the board knows it."""
        if (asked := _NONCE.fullmatch(query)) is None:
            return PlainTextResponse("expected nonce= and 32 digits of 0 to 9 and a to f", 400)
        proved = f"{self._place}\n{asked[1].decode()}".encode()
        proof = hmac.digest(self._secret, proved, "sha256").hex()
        return JSONResponse({"place": self._place, "proof": proof})

    def _refusal_to_steer(self, headers: list[tuple[bytes, bytes]]) -> PlainTextResponse | None:
        """Refuse what the board's own page does not send, though it has the token."""
        if len(_all_of(headers, b"origin")) != 1:  # where it leads is checked for all
            return PlainTextResponse("a run is steered from the board's own page", 403)
        if _all_of(headers, b"content-type") != ["application/json"]:
            return PlainTextResponse("expected Content-Type: application/json", 415)
        given = _all_of(headers, STEERING_HEADER)
        if len(given) != 1 or not secrets.compare_digest(
            given[0].encode(), self._steering.encode()
        ):
            return PlainTextResponse("the board was started again: load the page again", 403)
        return None

    def _is_ours(self, host: str) -> bool:
        name, _, port = host.lower().rpartition(":")
        if not name or not port.isdigit():
            name = host.lower()
        name = name.removeprefix("[").removesuffix("]")
        return name in self._names or (self._takes_addresses and _is_address(name))


def _all_of(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in headers if name == wanted]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
