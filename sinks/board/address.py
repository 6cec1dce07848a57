"""Where the board is reached: its socket, the address to open, and the token in that."""

import ipaddress
import secrets
import socket

from ...bus.errors import UsageError

HOST, PORT = "127.0.0.1", 7979
ANY_ADDRESS = frozenset({"0.0.0.0", "::"})  # of this machine; to listen on, not to go to


def new_token() -> str:
    """Return 128 random bits, as text for an address."""
    return secrets.token_urlsafe(16)


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address.

    Args:
        host: the address or name that is listened on.
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listening(host: str, port: int | None) -> socket.socket:
    """Return a socket that listens.

    Args:
        host: the address or name to listen on.
        port: 0 for any free one; the usual one if not given, or any if that is in use.

    Raises:
        UsageError: that is not possible; the message says why.
    """
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)[0]
        for each in (PORT, 0) if port is None else (port,):
            listener = socket.socket(family, kind)
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((place[0], each, *place[2:]))
                listener.listen(128)
                return listener
            except OSError:
                listener.close()
                if each == 0 or port is not None:
                    raise
        raise AssertionError("unreachable")
    except (OSError, OverflowError) as error:
        at = host if port is None else f"{host}:{port}"
        raise UsageError(f"the board cannot listen on {at}: {error}; choose another") from error


def address_of(listener: socket.socket, host: str, token: str) -> str:
    """Return the address to open; what is behind the # is never sent to any server.

    Args:
        listener: the socket that listens.
        host: the address or name that was asked for.
        token: what the page has to send with each question.
    """
    if host in ANY_ADDRESS:  # which is none to go to
        host = socket.gethostname()
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}/#token={token}"


def place_of(listener: socket.socket) -> str:
    """Return where a board listens, as no other does at the same time: machine, address and port.

    Args:
        listener: the socket that listens.
    """
    address, port = listener.getsockname()[:2]
    return f"{socket.gethostname()} {address} {port}"
