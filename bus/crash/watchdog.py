"""Watchdog: notices that a run makes no progress."""

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
    """While it is entered, a thread checks for progress.

    A hang is reported once, and again only after progress in between.

    Args:
        timeout_s: seconds without progress that count as a hang.
        progress: returns a value that changes with progress; called on the watchdog's thread.
        on_hang: called on the watchdog's thread with the seconds without progress so far.
        is_waiting: returns whether the run stands still on request.
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
        """Forget the thread in a forked child: it has none, and locks may never be released."""
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
                    _log.error("cannot report a hang", exc_info=error)
