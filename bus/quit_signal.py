"""SIGQUIT (Ctrl-backslash) asks a run where it is; the run goes on."""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any


class QuitSignal:
    """While it is entered on the main thread, SIGQUIT is answered instead of ending the process.

    A handler that was there is called afterwards, and is there again at the end.

    Args:
        on_quit: called in the signal handler with where the main thread was.
    """

    def __init__(self, on_quit: Callable[[FrameType | None], None]) -> None:
        self._on_quit = on_quit
        self._previous: Any = None
        self._installed = False

    def __enter__(self) -> "QuitSignal":
        in_main_thread = threading.current_thread() is threading.main_thread()
        # None: a handler written in C, which Python could not put back.
        if in_main_thread and signal.getsignal(signal.SIGQUIT) is not None:
            self._previous = signal.signal(signal.SIGQUIT, self._on_signal)
            self._installed = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._installed:
            signal.signal(signal.SIGQUIT, self._previous)
            self._installed = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._on_quit(frame)
        if callable(self._previous):
            self._previous(number, frame)
