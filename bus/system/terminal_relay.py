"""TerminalRelay: what other processes print on this terminal goes above what is drawn there.

Each of them writes to a terminal of its own, which is read here. Where nothing is drawn, what it
writes goes on as it is; above a progress bar, in whole lines.
"""

import contextlib
import fcntl
import os
import selectors
import struct
import termios
import threading
import tty

from .terminal_message import STDERR, is_drawn, print_above, write_all

_READ_BYTES = 1 << 16
_READS = 64  # of one process, then it is another's turn
_LINE_BYTES = 1 << 16  # longer ones are cut
_WAIT_S = 1.0  # for another thread, which the terminal may hold up


class TerminalRelay:
    """Lends terminals to other processes, and prints what they write on the one that stderr is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: dict[int, bytes] = {}  # for each that was lent, the begin of a line
        self._size = _size()
        self._selector = selectors.DefaultSelector()
        threading.Thread(target=self._work, name="nightbus-relay", daemon=True).start()
        _Process.relay = self

    def lend(self) -> int:
        """Return a file that is a terminal, for a process that is started; to be closed then.

        Raises:
            OSError: there is none available.
        """
        ours, its = os.openpty()
        tty.setraw(its)  # the terminal proper does what is to be done about line ends
        _resize(ours, _size())
        os.set_blocking(ours, False)
        with self._lock:
            self._begun[ours] = b""
            self._selector.register(ours, selectors.EVENT_READ)
        return its

    @staticmethod
    def is_for(fd: int) -> bool:
        """Return whether a file is the terminal that stderr is.

        Args:
            fd: its number.
        """
        try:
            return os.isatty(STDERR) and os.isatty(fd) and os.ttyname(fd) == os.ttyname(STDERR)
        except OSError:
            return False

    def _work(self) -> None:
        while True:
            self._selector.select()
            self.carry_over()

    def carry_over(self) -> None:
        """Print what was written so far; from any thread, but from no signal handler."""
        if not self._lock.acquire(timeout=_WAIT_S):
            return
        try:
            self._follow_size()
            for ours in list(self._begun):
                self._carry(ours)
        finally:
            self._lock.release()

    def _follow_size(self) -> None:
        """Give the others' terminals the size that this one has now."""
        size = _size()
        if size != self._size:
            self._size = size
            for ours in self._begun:
                _resize(ours, size)

    def _carry(self, ours: int) -> None:
        for _ in range(_READS):
            try:
                data = os.read(ours, _READ_BYTES)
            except BlockingIOError:
                return
            except OSError:  # Linux' way to say that nobody holds the other end
                data = b""
            if data:
                self._begun[ours] = _print(self._begun[ours] + data)
                continue
            if last := self._begun.pop(ours):
                _print(last + b"\n")
            self._selector.unregister(ours)
            os.close(ours)
            return


class _Process:
    """The relay of this process, if it has one."""

    relay: TerminalRelay | None = None


def carry_over() -> None:
    """Print what other processes have written so far, if it comes here before."""
    if _Process.relay is not None:
        _Process.relay.carry_over()


def _size() -> os.terminal_size | None:
    """Return the size of the terminal that stderr is; None if it is none."""
    try:
        return os.get_terminal_size(STDERR)
    except OSError:
        return None


def _resize(terminal: int, size: os.terminal_size | None) -> None:
    """Give a terminal a size, if there is one to give; its programs are told of a change."""
    if size is not None:
        fields = struct.pack("HHHH", size.lines, size.columns, 0, 0)
        with contextlib.suppress(OSError):
            fcntl.ioctl(terminal, termios.TIOCSWINSZ, fields)


def _print(text: bytes) -> bytes:
    """Print text; return the begin of a line that has to wait for its end."""
    if not is_drawn():
        write_all(text)
        return b""
    lines, end, rest = text.rpartition(b"\n")
    if len(rest) > _LINE_BYTES:
        lines, end, rest = text, b"\n", b""
    if end:
        shown = lines.decode(errors="backslashreplace").split("\n")
        print_above("\n".join(line.removesuffix("\r") for line in shown))
    return rest
