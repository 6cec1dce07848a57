"""Notices that a run no longer moves."""

import threading
import time
from collections.abc import Callable
from types import TracebackType

from ..system.forks import keep_when_forked, leave_when_forked
from ..system.logging_setup import get_logger

LONGEST_POLL_S = 1.0
_POLLS_A_TIMEOUT = 10

_log = get_logger("nightbus.watchdog")


class Watchdog:
    """While it is entered, a thread looks whether there is progress.

    A hang is told once; another one, after progress was seen again, is told again.

    Args:
        timeout_s: so long without progress is a hang, in s.
        progress: anything that differs once there is progress; called on the watchdog's thread.
        on_hang: called on the watchdog's thread with the seconds without progress so far.
        is_waiting: whether the run stands still because somebody asked it to.
    """

    def __init__(
        self,
        timeout_s: float,
        progress: Callable[[], object],
        on_hang: Callable[[float], None],
        is_waiting: Callable[[], bool] = lambda: False,
    ) -> None:
        self._timeout_s = timeout_s
        self._progress = progress
        self._on_hang = on_hang
        self._is_waiting = is_waiting
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Watchdog":
        self._ended.clear()
        thread = threading.Thread(target=self._watch, name="nightbus-watchdog", daemon=True)
        thread.start()
        self._thread = thread
        leave_when_forked(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._thread is not None:
            keep_when_forked(self)
            self._ended.set()
            self._thread.join()
            self._thread = None

    def leave_to_parent(self) -> None:
        """A child has no such thread, and what it waited for may be locked for ever."""
        self._thread = None

    def _watch(self) -> None:
        poll_s = min(self._timeout_s / _POLLS_A_TIMEOUT, LONGEST_POLL_S)
        seen, since_s, is_told = self._progress(), time.monotonic(), False
        while not self._ended.wait(poll_s):
            now = self._progress()
            if now != seen or self._is_waiting():
                seen, since_s, is_told = now, time.monotonic(), False
                continue
            still_s = time.monotonic() - since_s
            if still_s >= self._timeout_s and not is_told:
                is_told = True
                try:
                    self._on_hang(still_s)
                except Exception as error:
                    _log.error("a hang could not be reported", exc_info=error)
