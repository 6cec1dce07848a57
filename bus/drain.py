"""Drain: waits for observers at the end of a run, and abandons those that ignore cancellation."""

import functools
import math
import threading
from collections.abc import Callable, Sequence

from .bus_thread import CANCEL_TIMEOUT_S, END_TIMEOUT_S, BusThread
from .copies import StaysInRun
from .event_recorder import EventRecorder
from .events import ActorStopped
from .live_host import LiveHost
from .observer import Observer
from .runs.cursor import Position
from .system.streams import notify_user
from .threads import Threads

NOTICE_AFTER_S = 1.0  # that the end of the run waits for observers


class Drain(StaysInRun):
    """Ends observers in time, whatever they do.

    Args:
        recorder: records what becomes of them.
        thread: runs them.
        host: tells them that they may stop.
        threads: has the clock.
    """

    def __init__(
        self, recorder: EventRecorder, thread: BusThread, host: LiveHost, threads: Threads
    ) -> None:
        self._recorder = recorder
        self._thread = thread
        self._host = host
        self._threads = threads
        self._hurries = False
        self._hurry_until_s = math.inf

    def hurry(self) -> None:
        """Stop waiting for observers; for signal handlers."""
        self._hurries = True  # not an Event, whose lock may be held where the signal interrupts

    def until_read(self, timeout_s: float) -> None:
        """Wait until observers have read the log and taken the commands sent to them by then.

        Those that have not in time are cancelled.

        Args:
            timeout_s: how long they may take, in s.
        """
        writer = self._recorder.writer
        assert writer is not None
        until_s = self._threads.now_s() + timeout_s
        self._await(lambda observer: observer.has_begun, timeout_s, until_s)
        self._recorder.flush_all()  # records that they began
        target = Position(self._recorder.attempt, writer.readable_seq)
        late = self._await(
            lambda observer: observer.position >= target and observer.actor._is_settled(),
            timeout_s,
            until_s,
        )
        sent = {observer: observer.mailbox.sent for observer in self._thread.observers}
        self._await(lambda observer: observer.mailbox.settled >= sent[observer], timeout_s, until_s)
        if late and not self._thread.is_responsive():
            self._leave_to_holder()
            return
        why = f"was not done after {timeout_s:g} s"
        self._cancel(late, "was not done when a signal ended the wait" if self._hurries else why)
        stuck = [observer for observer in late if not observer.done.is_set()]
        if stuck and not self._thread.is_responsive():
            self._leave_to_holder()

    def _await(
        self, is_ready: Callable[[Observer], bool], timeout_s: float, until_s: float
    ) -> list[Observer]:
        """Wait until all observers are ready or time is over; return those that are not ready."""
        notice_s = until_s - timeout_s + NOTICE_AFTER_S
        observers = self._thread.observers
        while late := [o for o in observers if not (o.done.is_set() or is_ready(o))]:
            now_s = self._threads.now_s()
            if now_s > until_s or self._hurries:
                return late
            if now_s > notice_s:
                notice_s = math.inf
                _report_waiting(late, timeout_s)
            self._threads.wait(late[0].done, 0.002)
            self._recorder.flush_all()  # records faults of observers while they drain
        return []

    def stop_observers(self) -> None:
        """Have observers read the end and stop, in reverse start order, each within its time."""
        observers = self._thread.observers
        late: list[Observer] = []
        for observer in reversed(observers):
            if observer.gave_up or self._stops_in_time(observer):
                continue
            if self._thread.is_responsive():
                observer.abandon(f"did not stop within {observer.actor.stop_timeout_s:g} s")
                late.append(observer)
            else:  # no other observer can stop either
                self._leave_to_holder()
        self._cancel([observer for observer in late if not observer.done.is_set()], "")
        # Also if all have stopped, because the control socket answers clients that still wait.
        is_stuck = any(not observer.done.is_set() for observer in observers)
        self._thread.wait_until_ended(0.0 if is_stuck else END_TIMEOUT_S)

    def _stops_in_time(self, observer: Observer) -> bool:
        until_s = self._threads.now_s() + observer.actor.stop_timeout_s
        self._thread.call_soon(functools.partial(self._host.give_turn, observer))
        while not self._wait_until(observer.done, min(until_s, self._threads.now_s() + 0.05)):
            if self._hurries and self._hurry_until_s == math.inf:
                self._hurry_until_s = self._threads.now_s() + CANCEL_TIMEOUT_S
            if self._threads.now_s() >= min(until_s, self._hurry_until_s):
                return False
        return True

    def _leave_to_holder(self) -> None:
        """Abandon everything on the bus thread, because a coroutine does not yield it.

        The report names that coroutine, and does not blame those that waited for it.
        """
        held_up = self._thread.held_up()
        rest = [observer for observer in self._thread.observers if not observer.done.is_set()]
        if held_up is None:
            self._cancel(rest, "the bus thread is held up by a coroutine")
            return
        name, holder, seconds, where, _ = held_up
        if holder is not None:
            holder.abandon(f"held up the bus thread for {seconds:.0f} s, in {where}")
        why = f"{name} held up the bus thread, in {where}"
        # The culprit comes first.
        self._cancel(sorted(rest, key=lambda observer: observer is not holder), why)

    def _cancel(self, observers: Sequence[Observer], reason: str) -> None:
        """Cancel late observers, and abandon those that ignore cancellation."""
        for observer in observers:
            observer.abandon(reason)
            self._thread.call_soon(observer.cancel)
        until_s = self._threads.now_s() + CANCEL_TIMEOUT_S
        for observer in observers:
            self._wait_until(observer.done, until_s)
            stopped = (observer.gave_up, observer.position.seq)
            self._recorder.emit(ActorStopped, *stopped, source=observer.name)
            observer.close_mailbox("the run ended before it was taken")

    def _wait_until(self, event: threading.Event, until_s: float) -> bool:
        return self._threads.wait(event, max(0.0, until_s - self._threads.now_s()))


def _report_waiting(late: Sequence[Observer], timeout_s: float) -> None:
    names = ", ".join(observer.name for observer in late)
    notify_user(
        f"nightbus: waiting up to {timeout_s:g} s for {names} to finish; Ctrl-C ends the wait"
    )
