"""Connection: messages over a socket, in both directions, without waiting for the other side."""

import contextlib
import socket

from .messages import Lines, Message, encode
from .processes import pid_of

MAX_UNSENT_BYTES = 4 << 20  # for a process that has stopped reading: it is silent soon
_READ_BYTES = 1 << 16


class Connection:
    """A socket of messages, for one thread.

    Args:
        connected: the socket; closed with this.

    Attributes:
        pid: the process at the other end, if it is of this machine; 0 if that is unknown.
        has_ended: the other side closed it, and all that it had sent was read, or too much waits
            to be sent: it is of no use.
    """

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        if connected.family != socket.AF_UNIX:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connected
        self.pid = pid_of(connected)
        self._lines = Lines()
        self._unsent = bytearray()
        self._is_deaf = False  # the other side: it has closed, and takes nothing any more
        self.has_ended = False

    def fileno(self) -> int:
        """Return the number of its file descriptor, for selectors."""
        return self._socket.fileno()

    @property
    def has_unsent(self) -> bool:
        """Whether something waits until the other side reads."""
        return bool(self._unsent) and not self.has_ended

    def send(self, message: Message) -> None:
        """Send a message, or keep it until the other side reads."""
        if not self.has_ended and not self._is_deaf:
            self._unsent += encode(message) + b"\n"
            self.send_on()
            self.has_ended = self.has_ended or len(self._unsent) > MAX_UNSENT_BYTES

    def send_on(self) -> None:
        """Send what was kept, as far as the other side takes it."""
        try:
            while self._unsent and not self.has_ended:
                del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            return
        except OSError:  # its last words may be there to be read
            self._is_deaf = True
            self._unsent.clear()

    def receive(self) -> list[Message]:
        """Return the messages that are here.

        Raises:
            RankMessageError: something else is; nothing of the rest is of use.
        """
        messages: list[Message] = []
        while not self.has_ended:
            try:
                data = self._socket.recv(_READ_BYTES)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            self.has_ended = not data
            messages += self._lines.feed(data)
        return messages

    def close(self) -> None:
        """Close the socket."""
        self.has_ended = True
        with contextlib.suppress(OSError):
            self._socket.close()
