"""A thread that notices that nothing moves."""

import threading
from collections.abc import Callable

from helpers import DEADLINE_S

from nightbus.bus.crash.watchdog import Watchdog


class Looked:
    """Counts how often it was asked, and lets a test wait for a number."""

    def __init__(self, progress: Callable[[int], object]) -> None:
        self.times = 0
        self._progress = progress
        self._changed = threading.Condition()

    def __call__(self) -> object:
        with self._changed:
            self.times += 1
            self._changed.notify_all()
            return self._progress(self.times)

    def wait_for(self, times: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.times >= times, DEADLINE_S)


def test_a_hang_is_told_once_however_long_it_lasts() -> None:
    looked, told = Looked(lambda times: 0), list[float]()
    with Watchdog(0.01, looked, told.append):
        looked.wait_for(100)

    assert len(told) == 1
    assert told[0] >= 0.01


def test_what_moves_does_not_hang() -> None:
    looked, told = Looked(lambda times: times), list[float]()
    with Watchdog(0.01, looked, told.append):
        looked.wait_for(100)

    assert told == []


def test_a_second_hang_after_progress_is_told_again() -> None:
    looked, told = Looked(lambda times: times > 100), list[float]()
    with Watchdog(0.01, looked, told.append):
        looked.wait_for(200)

    assert len(told) == 2


def test_a_run_that_was_asked_to_wait_does_not_hang() -> None:
    looked, told = Looked(lambda times: 0), list[float]()
    with Watchdog(0.01, looked, told.append, is_waiting=lambda: True):
        looked.wait_for(100)

    assert told == []


def test_a_report_that_fails_does_not_end_the_watch() -> None:
    looked, told = Looked(lambda times: times > 100), list[float]()

    def report(still_s: float) -> None:
        told.append(still_s)
        raise OSError("disk full")

    with Watchdog(0.01, looked, report):
        looked.wait_for(200)

    assert len(told) == 2


def test_its_thread_is_gone_afterwards() -> None:
    with Watchdog(60, lambda: 0, print):
        assert "nightbus-watchdog" in [thread.name for thread in threading.enumerate()]

    assert "nightbus-watchdog" not in [thread.name for thread in threading.enumerate()]
