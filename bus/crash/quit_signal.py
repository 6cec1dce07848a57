"""SIGQUIT (Ctrl-backslash) has a run report where it is, and the run continues."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from ..system.forks import keep_when_forked, leave_when_forked
from ..system.logging_setup import get_logger

_MANY_SIGNALS = 4096
_END = b"\0"  # no signal has this number
_log = get_logger("nightbus.quit_signal")


class QuitSignal:
    """While it is entered on the main thread, SIGQUIT is handled instead of ending the process.

    A thread of its own handles it, so the main thread may be in a call that never returns. An
    existing Python handler is called as well, and restored at the end. An existing handler in C,
    such as that of ``faulthandler.register``, stays in charge alone.

    Args:
        on_quit: called on that thread.
    """

    def __init__(self, on_quit: Callable[[], None]) -> None:
        self._on_quit = on_quit
        self._previous: Any = None
        self._previous_fd = -1
        self._thread: threading.Thread | None = None
        self._read_fd = self._write_fd = -1
        self._is_left = False  # in a forked child

    def __enter__(self) -> "QuitSignal":
        if threading.current_thread() is not threading.main_thread():
            return self  # only the main thread can handle signals
        if _is_handled_in_c(signal.SIGQUIT):
            _log.info("SIGQUIT has a handler in C already, which stays in charge")
            return self
        self._read_fd, self._write_fd = os.pipe()
        os.set_blocking(self._write_fd, False)  # required of a wakeup fd
        thread = threading.Thread(target=self._answer, name="nightbus-sigquit", daemon=True)
        try:
            thread.start()
        except BaseException:
            os.close(self._read_fd)
            os.close(self._write_fd)
            raise
        self._thread = thread
        # The C part of any signal handler writes to it at once, whatever the main thread does.
        self._previous_fd = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        self._previous = signal.signal(signal.SIGQUIT, self._on_signal)
        leave_when_forked(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_left:
            signal.signal(signal.SIGQUIT, self._previous)
        if self._thread is None:
            return
        keep_when_forked(self)
        signal.signal(signal.SIGQUIT, self._previous)
        current = signal.set_wakeup_fd(self._previous_fd)
        if current != self._write_fd:
            signal.set_wakeup_fd(current)  # it belongs to other code by now
        with contextlib.suppress(OSError):  # closed by other code, which has ended the thread
            # A byte, not an end of file: a forked child may still have the pipe open.
            os.write(self._write_fd, _END)
        self._thread.join()
        self._thread = None
        for fd in (self._write_fd, self._read_fd):
            with contextlib.suppress(OSError):
                os.close(fd)

    def leave_to_parent(self) -> None:
        """Stop handling SIGQUIT in a forked child; the parent handles it."""
        signal.set_wakeup_fd(-1)
        self._write_fd = -1
        self._thread, self._is_left = None, True

    def _answer(self) -> None:
        numbers = b""
        while not numbers.endswith(_END):
            numbers = os.read(self._read_fd, _MANY_SIGNALS)
            if not numbers:
                return  # other code has closed the pipe
            if self._previous_fd >= 0:
                with contextlib.suppress(OSError):  # full, so its reader is awake; or closed
                    os.write(self._previous_fd, numbers.removesuffix(_END))
            if signal.SIGQUIT in numbers:
                self._on_quit()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._write_fd >= 0:
            current = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
            if current != self._write_fd:  # other code took it over, such as an event loop
                signal.set_wakeup_fd(current)
                os.write(self._write_fd, bytes([number]))
        if callable(self._previous):
            self._previous(number, frame)


def _is_handled_in_c(number: int) -> bool:
    """Return whether a signal has a handler that Python does not know and could not restore."""
    known = signal.getsignal(number)
    if known is None or callable(known):
        return known is None
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:  # unknown outside Linux
        return False
    (caught,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1)
