"""Signals that end a run in good order, or have it saved: Ctrl-C, SIGTERM, SIGHUP, SIGUSR1."""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from ...bus.system.forks import is_loader_worker, leave_when_forked
from ...bus.system.logging_setup import get_logger
from ...bus.system.terminal_message import write_urgently

PREEMPTED_EXIT_CODE = 128 + signal.SIGTERM
"""What a process ends with that SIGTERM has ended, as schedulers know it."""
_TERMINATING = (signal.SIGTERM, signal.SIGHUP)

_log = get_logger("nightbus.signals")


class StopSignals:
    """While it is entered on the main thread, signals are noted for the next safe point.

    - Ctrl-C (SIGINT) sets ``interrupted``; again, it raises KeyboardInterrupt at once.
    - SIGTERM, and SIGHUP of a terminal that is closed, set ``preempted``; again, or where no safe
      point will come, they raise SystemExit at once.
    - SIGUSR1 sets ``save_requested``.

    While a run is opened, signals are only noted, so that nothing is left half done; from
    ``let_through`` on they are heeded. After one has raised, none raises until ``rearm``, and none
    does while the run's end is recorded: it ends the wait there.

    A handler for SIGTERM, SIGHUP or SIGUSR1 that is there already is left alone, and so is that one
    is ignored, as nohup has SIGHUP ignored.

    Args:
        on_request: called in the signal handler when something was noted.
        has_safe_points: whether a safe point will come.

    Attributes:
        interrupted: Ctrl-C was pressed.
        preempted: SIGTERM or SIGHUP came.
        preempted_by: which of them; SIGTERM before.
        save_requested: SIGUSR1 came; whoever saves sets it back.
        at_once: the run is to end at once.
        interrupts_while_ending: how often Ctrl-C was pressed while the end was recorded.
        terminated_while_ending: SIGTERM or SIGHUP came meanwhile.
        is_held: signals are only noted.
    """

    def __init__(self, on_request: Callable[[], None], has_safe_points: Callable[[], bool]) -> None:
        self._on_request = on_request
        self._has_safe_points = has_safe_points
        self.interrupted = self.preempted = self.save_requested = self.at_once = False
        self.interrupts_while_ending = 0
        self.terminated_while_ending = False
        self.preempted_by: signal.Signals = signal.SIGTERM
        self._on_hurry: Callable[[], None] | None = None
        self._has_raised = False
        self.is_held = True
        self._previous: dict[int, Any] = {}
        leave_when_forked(self)

    def let_through(self) -> None:
        """From now on somebody heeds what is noted.

        Raises:
            KeyboardInterrupt, SystemExit: something was noted already that ends the run.
        """
        self.is_held = False
        self.raise_if_asked()

    def raise_if_asked(self) -> None:
        """End the run, if a signal asked for it.

        Raises:
            KeyboardInterrupt, SystemExit: one did.
        """
        if self.ends_run:
            raise SystemExit(self.exit_code) if self.preempted else KeyboardInterrupt

    @property
    def exit_code(self) -> int:
        """What the process ends with if it was preempted, as shells and schedulers know it."""
        return 128 + self.preempted_by

    @property
    def ends_run(self) -> bool:
        """Whether the run is to end at the next safe point."""
        return self.interrupted or self.preempted

    def __enter__(self) -> "StopSignals":
        self.interrupted = self.preempted = self.save_requested = self.at_once = False
        self.interrupts_while_ending, self.terminated_while_ending = 0, False
        self._on_hurry, self._has_raised = None, False
        self.preempted_by = signal.SIGTERM
        self.is_held = True
        if threading.current_thread() is not threading.main_thread():
            return self
        self._install(signal.SIGINT, self._on_interrupt)
        handlers = dict.fromkeys(_TERMINATING, self._on_terminate)
        for number, handler in {**handlers, signal.SIGUSR1: self._on_save}.items():
            if (known := signal.getsignal(number)) == signal.SIG_DFL:
                self._install(number, handler)
            elif known != signal.SIG_IGN:
                _log.info("a handler is there already and is left alone", signal=number.name)
        return self

    def _install(self, number: signal.Signals, handler: Callable[..., None]) -> None:
        self._previous[number] = signal.signal(number, handler)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        outer = getattr(self._previous.get(signal.SIGINT), "__self__", None)
        while self._previous:
            signal.signal(*self._previous.popitem())
        if self.interrupted and isinstance(outer, StopSignals):
            outer.interrupted = True  # who presses Ctrl-C means the run around this one too
            outer._on_request()

    def leave_to_parent(self) -> None:
        """In a forked child: what ends or saves the run is its parent's to hear; the child's
        signals do what they did before. Workers that load the parent's data live on until it has
        come to its safe point: Ctrl-C and SIGUSR1 reach them too, from a terminal or a scheduler.
        """
        while self._previous:
            number, previous = self._previous.popitem()
            stays = is_loader_worker() and number != signal.SIGTERM
            signal.signal(number, _ignore if stays else previous)

    def hold(self, on_hurry: Callable[[], None]) -> None:
        """The run ends: from now on signals raise nothing, but call ``on_hurry``."""
        self._on_hurry = on_hurry

    def rearm(self) -> None:
        """Let the next signal that is to raise do so, once: what comes now may hang, too."""
        self._has_raised = False

    def _raise(self, error: BaseException) -> None:
        if not self._has_raised:
            self._has_raised = True
            raise error

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._on_hurry is not None:
            self.interrupts_while_ending += 1
            self._on_hurry()
            return
        if self.interrupted:
            self.at_once = True
            self._raise(KeyboardInterrupt())
            return
        self.interrupted = True
        self._on_request()
        write_urgently(f"ending the run {self._when}; Ctrl-C again ends it at once")

    def _on_terminate(self, number: int, frame: FrameType | None) -> None:
        if not self.preempted and not self.terminated_while_ending:
            self.preempted_by = signal.Signals(number)
        if self._on_hurry is not None:
            self.terminated_while_ending = True
            self._on_hurry()
            return
        if self.preempted or not (self.is_held or self._has_safe_points()):
            self.preempted = self.at_once = True
            self._raise(SystemExit(self.exit_code))
            return
        self.preempted = True
        self._on_request()
        write_urgently(f"{self.preempted_by.name}: ending the run {self._when}")

    @property
    def _when(self) -> str:
        return "after this step" if self._has_safe_points() and not self.is_held else "soon"

    def _on_save(self, number: int, frame: FrameType | None) -> None:
        self.save_requested = True
        self._on_request()


def _ignore(number: int, frame: FrameType | None) -> None:
    """A handler, where SIG_IGN would be inherited by the processes that a worker starts."""
