"""Handles signals that end or save a run: Ctrl-C, SIGTERM, SIGHUP, SIGUSR1."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from ...bus.system.forks import is_loader_worker, leave_when_forked
from ...bus.system.logging_setup import get_logger
from ...bus.system.terminal_message import write_urgently

PREEMPTED_EXIT_CODE = 128 + signal.SIGTERM
"""Exit code of a process ended by SIGTERM, as schedulers expect it."""
TERMINATING = (signal.SIGTERM, signal.SIGHUP)

_log = get_logger("nightbus.signals")


class StopSignals:
    """Records signals for the next safe point, while it is entered on the main thread.

    - Ctrl-C (SIGINT) sets ``interrupted``; again, it raises KeyboardInterrupt at once.
    - SIGTERM, and SIGHUP of a closed terminal, set ``preempted``; again, or if no safe point will
      come, they raise SystemExit at once.
    - SIGUSR1 sets ``save_requested``.

    While a run is being opened, signals are only recorded, so that nothing is left half done; they
    take effect once ``is_held`` is False. After one has raised, none raises until ``rearm``, and
    none does while the run's end is recorded: it ends the wait there.

    An existing handler for SIGTERM, SIGHUP or SIGUSR1 is left alone, and so is an ignored signal,
    as
    SIGHUP with nohup.

    Args:
        on_request: called in the signal handler after a signal was recorded.
        has_safe_points: returns whether a safe point will come.

    Attributes:
        interrupted: Ctrl-C was pressed.
        preempted: SIGTERM or SIGHUP came.
        preempted_by: which of them; SIGTERM until then.
        save_requested: SIGUSR1 came; reset by the code that saves.
        at_once: the run has to end at once.
        interrupts_while_ending: number of Ctrl-C while the end was recorded.
        terminated_while_ending: SIGTERM or SIGHUP came while the end was recorded.
        is_held: signals are only recorded.
        is_outranked: returns whether something ends the process that goes before any signal.
        announces_interrupts: say on the terminal what Ctrl-C does; it reaches all ranks, and one
            says it.
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
        self._is_undisturbed = False
        self._put_off: BaseException | None = None
        self.is_held = True
        self.is_outranked: Callable[[], bool] = lambda: False
        self.announces_interrupts = True
        self._previous: dict[int, Any] = {}
        leave_when_forked(self)

    def raise_if_asked(self) -> None:
        """End the run if a signal requested it.

        Raises:
            KeyboardInterrupt, SystemExit: one did.
        """
        if self.ends_run:
            raise SystemExit(self.exit_code) if self.preempted else KeyboardInterrupt

    @property
    def exit_code(self) -> int:
        """Exit code of a preempted process, as shells and schedulers expect it."""
        return 128 + self.preempted_by

    @property
    def number(self) -> int:
        """The signal that ends the run; 0 if none does."""
        if self.preempted:
            return self.preempted_by
        return signal.SIGINT if self.interrupted else 0

    @property
    def ends_run(self) -> bool:
        """True if the run has to end at the next safe point."""
        return self.interrupted or self.preempted

    def __enter__(self) -> "StopSignals":
        self.interrupted = self.preempted = self.save_requested = self.at_once = False
        self.interrupts_while_ending, self.terminated_while_ending = 0, False
        self._on_hurry, self._has_raised, self._put_off = None, False, None
        self.preempted_by = signal.SIGTERM
        self.is_held = True
        if threading.current_thread() is not threading.main_thread():
            return self
        self._install(signal.SIGINT, self._on_interrupt)
        handlers = dict.fromkeys(TERMINATING, self._on_terminate)
        for number, handler in {**handlers, signal.SIGUSR1: self._on_save}.items():
            if (known := signal.getsignal(number)) == signal.SIG_DFL:
                self._install(number, handler)
            elif known != signal.SIG_IGN:
                _log.info("an existing handler is left alone", signal=number.name)
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
            outer.interrupted = True  # Ctrl-C ends the run around this one too
            outer._on_request()

    def leave_to_parent(self) -> None:
        """Restore the previous handlers in a forked child, because the parent's run is not its own.

        Workers that load the parent's data ignore Ctrl-C and SIGUSR1, which reach them too, and
        live on until the parent reaches its safe point.
        """
        while self._previous:
            number, previous = self._previous.popitem()
            stays = is_loader_worker() and number != signal.SIGTERM
            signal.signal(number, _ignore if stays else previous)

    def hold(self, on_hurry: Callable[[], None]) -> None:
        """Call ``on_hurry`` from now on instead of raising, because the run ends."""
        self._on_hurry = on_hurry

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Put off what a signal would raise, so that what is within is not left half done.

        Raises:
            KeyboardInterrupt, SystemExit: a signal has asked for it meanwhile.
        """
        self._is_undisturbed = True
        try:
            yield
        finally:
            self._is_undisturbed = False
            error, self._put_off = self._put_off, None
        if error is not None:
            self._raise(error)

    def rearm(self) -> None:
        """Let the next signal raise again, once, because what follows may hang too."""
        self._has_raised = False

    def take_over(self, number: signal.Signals) -> None:
        """Take a signal that another rank got for one of this process.

        Args:
            number: the signal.
        """
        if number == signal.SIGINT:
            self.interrupted = True
        else:
            self.preempted, self.preempted_by = True, number

    def _raise(self, error: BaseException) -> None:
        if self._is_undisturbed:
            self._put_off = error
        elif not self._has_raised:
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
        if self.announces_interrupts:
            write_urgently(f"ending the run {self._when}; Ctrl-C again ends it at once")

    def _on_terminate(self, number: int, frame: FrameType | None) -> None:
        if self.is_outranked():
            return
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
    """Ignore a signal, without SIG_IGN, which processes started by a worker would inherit."""
