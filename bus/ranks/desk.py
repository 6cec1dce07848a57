"""Desk: where all ranks are connected to rank 0."""

import contextlib
import hmac
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable

from ..errors import RankMessageError
from .connection import Connection
from .messages import Hello, Message, Whereabouts, failure
from .private_folder import PrivateFolder

GREETING_S = 10.0
"""How long a process may be connected before it has said which rank it is."""
MAX_STRANGERS = 64


class _Stranger:
    """A connection that has not said which rank it is.

    Args:
        connection: the connection.
        until_s: when it has to have.
    """

    def __init__(self, connection: Connection, until_s: float) -> None:
        self.connection, self.until_s = connection, until_s


class Desk:
    """Takes the connections of all ranks but rank 0, whose side thread calls it.

    Whoever can connect can send: the first line has to be a Hello with the token of the run, and a
    connection with anything else than messages is closed. What is refused is counted.

    Args:
        ranks: how many there are.
        token: of the run, which only its processes know.
        selector: waits for the sockets; the data of its keys are called without arguments.
        takes_other_machines: listen on a TCP port too.

    Attributes:
        path: the Unix socket for ranks of this machine, in a folder that only its user can enter.
        port: the TCP port for those of others; 0 if there is none.
        arrived: messages with their senders, to be taken out; None for a connection that ended.
        refused: how many connections were, and how many ranks that sent what ranks do not send.
    """

    def __init__(
        self,
        ranks: int,
        token: str,
        selector: selectors.BaseSelector,
        takes_other_machines: bool = False,
    ) -> None:
        self._ranks, self._token, self._selector = ranks, token, selector
        self._connections: dict[int, Connection] = {}
        self._greeted: set[int] = set()
        self._said: list[Message] = []  # to all, while some were still to say who they are
        self._strangers: list[_Stranger] = []
        self._listening: list[socket.socket] = []
        self.arrived: deque[tuple[int, Message | None]] = deque()
        self.refused = 0
        self._folder = PrivateFolder()
        self.path = self._folder.socket
        self.port = 0
        try:
            self._listen_at(socket.AF_UNIX, str(self.path))
            if takes_other_machines:
                self._listen_at(_family_of_machines(), ("", 0))
                self.port = int(self._listening[-1].getsockname()[1])
        except OSError:
            self.close()
            raise

    def _listen_at(self, family: int, address: str | tuple[str, int]) -> None:
        listening = socket.socket(family, socket.SOCK_STREAM)
        self._listening.append(listening)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind(address)
        listening.listen(min(self._ranks, socket.SOMAXCONN))
        listening.setblocking(False)
        self._selector.register(
            listening, selectors.EVENT_READ, lambda: self._take_connection(listening)
        )

    # -- connections -------------------------------------------------------------------------

    def _take_connection(self, listening: socket.socket) -> None:
        try:
            connection = Connection(listening.accept()[0])
        except OSError:  # whoever it was has gone
            return
        if len(self._strangers) >= MAX_STRANGERS:
            self._refuse(connection)
            return
        stranger = _Stranger(connection, time.monotonic() + GREETING_S)
        self._strangers.append(stranger)
        self._watch(connection, lambda: self._greet(stranger))

    def _greet(self, stranger: _Stranger) -> None:
        """Take the first message of a connection, and those behind it."""
        connection = stranger.connection
        try:
            messages = connection.receive()
        except RankMessageError:
            self._dismiss(stranger)
            return
        if not messages:
            if connection.has_ended:
                self._dismiss(stranger)
            return
        hello, *others = messages
        if not isinstance(hello, Hello) or not self._is_expected(hello):
            self._dismiss(stranger)
            return
        self._strangers.remove(stranger)
        self._connections[hello.rank] = connection
        self._greeted.add(hello.rank)
        self._unwatch(connection)
        self._watch(connection, lambda: self._receive(hello.rank))
        self.arrived += ((hello.rank, message) for message in messages[:1] + others)
        for said in self._said:
            connection.send(said)
        self._settle(hello.rank)
        if len(self._greeted) == self._ranks - 1:
            self._stop_listening()

    def _is_expected(self, hello: Hello) -> bool:
        knows = hmac.compare_digest(hello.token.encode(), self._token.encode())
        return knows and 0 < hello.rank < self._ranks and hello.rank not in self._greeted

    def _receive(self, rank: int) -> None:
        connection = self._connections[rank]
        connection.send_on()
        try:
            self.arrived += ((rank, message) for message in connection.receive())
        except RankMessageError as error:
            self.refuse(rank, error)
            return
        self._settle(rank)

    def _settle(self, rank: int) -> None:
        """Watch a rank's connection for what it needs, or drop it."""
        connection = self._connections[rank]
        if connection.has_ended:
            self._drop(rank)
            return
        events = selectors.EVENT_READ | selectors.EVENT_WRITE * connection.has_unsent
        if self._selector.get_key(connection).events != events:
            self._selector.modify(connection, events, lambda: self._receive(rank))

    def refuse(self, rank: int, why: RankMessageError) -> None:
        """Close the connection of a rank that sent what ranks do not send.

        Args:
            rank: which; it is lost.
            why: what it sent.
        """
        self.refused += 1
        word = failure(rank, "dead", f"it sent what ranks do not send: {why}")
        self.arrived.append((rank, word))
        if rank in self._connections:
            self._drop(rank)

    def _drop(self, rank: int) -> None:
        self._close(self._connections.pop(rank))
        self.arrived.append((rank, None))

    def _dismiss(self, stranger: _Stranger) -> None:
        self._strangers.remove(stranger)
        self._refuse(stranger.connection)

    def _refuse(self, connection: Connection) -> None:
        self.refused += 1
        self._close(connection)

    def _watch(self, connection: Connection, ready: Callable[[], None]) -> None:
        self._selector.register(connection, selectors.EVENT_READ, ready)

    def _unwatch(self, connection: Connection) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(connection)

    def _close(self, connection: Connection) -> None:
        self._unwatch(connection)
        connection.close()

    # -- what rank 0 does --------------------------------------------------------------------

    def look(self, now_s: float) -> None:
        """Close connections that have not said in time which rank they are.

        Args:
            now_s: what time it is.
        """
        for stranger in [each for each in self._strangers if each.until_s < now_s]:
            self._dismiss(stranger)

    def waits_for(self, rank: int) -> bool:
        """Return whether a rank has not connected yet."""
        return rank not in self._greeted and rank != 0

    def pid_of(self, rank: int) -> int:
        """Return the process of a rank of this machine; 0 if it is not known."""
        return self._connections[rank].pid if rank in self._connections else 0

    def send(self, rank: int, message: Message) -> None:
        """Send a message to a rank, if it is connected.

        Args:
            rank: the rank.
            message: the message.
        """
        if rank in self._connections:
            self._connections[rank].send(message)
            self._settle(rank)

    def send_all(self, message: Message) -> None:
        """Send a message to all ranks; those that connect later get it then."""
        if len(self._greeted) < self._ranks - 1 and not isinstance(message, Whereabouts):
            self._said.append(message)
        for rank in list(self._connections):
            self.send(rank, message)

    def _stop_listening(self) -> None:
        """Take no more connections, and leave nothing on disk."""
        for listening in self._listening:
            with contextlib.suppress(KeyError):
                self._selector.unregister(listening)
            listening.close()
        self._listening, self._said = [], []
        self._folder.remove()

    def leave_to_parent(self) -> None:
        """Close the sockets in a forked child; the selector and the folder are its parent's."""
        for listening in self._listening:
            listening.close()
        for connection in self._all_connections():
            connection.close()
        self._folder.leave()

    def close(self) -> None:
        """Close everything."""
        self._stop_listening()
        for connection in self._all_connections():
            self._close(connection)
        self._connections, self._strangers = {}, []

    def _all_connections(self) -> list[Connection]:
        strangers = (stranger.connection for stranger in self._strangers)
        return [*self._connections.values(), *strangers]


def _family_of_machines() -> socket.AddressFamily:
    """Return the family of a socket that takes connections of IPv4 and, if it can, of IPv6."""
    return socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
