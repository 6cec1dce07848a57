"""Ctrl-C: the first ends the run at the next safe point, the second at once.

While the run's end is being recorded none raises, so that the end is recorded: it ends the wait.
"""

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any


class InterruptWatch:
    """While it is entered on the main thread, SIGINT sets ``requested`` once, then raises.

    Args:
        on_request: called in the signal handler at the first Ctrl-C.

    Attributes:
        requested: Ctrl-C was pressed.
        at_once: it was pressed again.
        while_ending: how often it was pressed while the run's end was recorded.
    """

    def __init__(self, on_request: Callable[[], None]) -> None:
        self._on_request = on_request
        self.requested = False
        self.at_once = False
        self.while_ending = 0
        self._on_hurry: Callable[[], None] | None = None
        self._previous: Any = None
        self._installed = False

    def __enter__(self) -> "InterruptWatch":
        self.requested = self.at_once = False
        self.while_ending, self._on_hurry = 0, None
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._on_signal)
            self._installed = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, self._previous)
            self._installed = False

    def hold(self, on_hurry: Callable[[], None]) -> None:
        """The run ends: from now on Ctrl-C raises nothing, but calls ``on_hurry``."""
        self._on_hurry = on_hurry

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._on_hurry is not None:
            self.while_ending += 1
            self._on_hurry()
            return
        if self.at_once:
            return  # it was raised once, and the end is on its way
        if self.requested:
            self.at_once = True
            raise KeyboardInterrupt
        self.requested = True
        self._on_request()
        if sys.__stderr__ is not None:  # not print: the signal may have come in the middle of one
            sys.__stderr__.write(
                "\nnightbus: ending the run after this step; Ctrl-C again ends it at once\n"
            )
