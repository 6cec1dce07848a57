"""BlackBox: writes the last events and all stacks when a run crashes, hangs or gets SIGQUIT."""

import contextlib
import os
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from ..bus import Bus
from ..errors import CheckpointError, RankLostError, UsageError
from ..event_kinds import kind_of
from ..events import Event, Fault, Put
from ..log.writer import LogIdentity, LogWriter
from ..runs.flight_file import EVENTS, STACKS, Occasion, write_flight_file
from ..secrets.redaction import without_secrets
from ..shown_text import quoted
from ..system.logging_setup import get_logger
from ..system.terminal_message import write_urgently
from .quit_signal import QuitSignal
from .stacks import all_tasks, all_threads, thread_stack
from .watchdog import Watchdog

MAX_STACK_CHARS = 16_384
HELD_UP_AFTER_S = 3.0  # that one turn on the bus thread lasts

_log = get_logger("nightbus.black_box")


class BlackBox:
    """Writes files when a crash, a hang or SIGQUIT happens, from ``begin`` to ``end``.

    ``crash-DATE-TIME-stacks.txt`` has the stack of every thread and every trio task;
    ``crash-DATE-TIME-events.nlog`` holds the last events if the run's log does not. ``hang`` and
    ``sigquit`` are the other occasions. The files are in the run's folder, or, if there is none, in
    ``folder`` with ``nightbus-`` before their names.

    Args:
        bus: the run's bus; its flight recorder has the events, if it has one.
        identity: the run and attempt.
        folder: for runs without a folder.
        hang_timeout_s: seconds without progress that count as a hang; None for no watchdog.
        iterations: returns iterations done by loops that do not change the place.
        is_waiting: returns whether the run is paused.
    """

    def __init__(
        self,
        bus: Bus,
        identity: LogIdentity,
        folder: Path,
        hang_timeout_s: float | None,
        iterations: Callable[[], int],
        is_waiting: Callable[[], bool],
    ) -> None:
        self._bus = bus
        self._identity = identity
        self._folder = folder
        self._training = threading.get_ident()
        self._begun = contextlib.ExitStack()
        self._contexts: list[contextlib.AbstractContextManager[object]] = [QuitSignal(self._quit)]
        turns = bus.thread.turns
        self._contexts.append(
            Watchdog(HELD_UP_AFTER_S, lambda: turns.number, self._held_up, lambda: turns.is_idle)
        )
        if hang_timeout_s is not None:
            place = bus.place
            watchdog = Watchdog(
                hang_timeout_s, lambda: (place.as_tuple(), iterations()), self._hang, is_waiting
            )
            self._contexts.append(watchdog)

    def begin(self) -> None:
        """Watch from now on."""
        for context in self._contexts:
            try:
                self._begun.enter_context(context)
            except (OSError, RuntimeError, MemoryError) as error:
                # No thread or file descriptor is available. The run does not depend on it.
                what = type(context).__name__
                _log.warning("not watched", what=what, error=f"{type(error).__name__}: {error}")

    def end(self) -> None:
        """Watch no longer, if it had begun."""
        self._begun.close()

    def crash(self, error: Exception) -> None:
        """Write the files for an exception that ends the run.

        Errors of usage and unusable checkpoints write nothing: their messages say what to do. Nor
        does the end of another rank, which writes its own.
        """
        if not isinstance(error, UsageError | CheckpointError | RankLostError):
            trace = "".join(traceback.format_exception(error))
            text = f"\nthread {threading.current_thread().name} (training)\n{trace}"
            why = f"the run crashed: {type(error).__name__}: {error}"
            self._write("crash", why, text, said="the run crashed")

    def hang(self, why: str) -> None:
        """Write the files for a hang that ends the run, as ranks have found it.

        Args:
            why: what has hung.
        """
        self._write("hang", why, self._unwritten())

    def _quit(self) -> None:
        self._write("sigquit", "SIGQUIT arrived; the run goes on", self._unwritten())

    def _hang(self, still_s: float) -> None:
        hook = self._bus.place.hook
        where = f" in {hook}" if hook else ""
        message = f"no progress for {still_s:.3g} s{where}; the run was not ended"
        stack = thread_stack(self._training)[-MAX_STACK_CHARS:]
        unwritten = self._unwritten()
        self._bus.emit(Fault, "Hang", message, stack, hook, source="watchdog")
        self._write("hang", message, unwritten)

    def _held_up(self, still_s: float) -> None:
        """Report a coroutine that does not yield the bus thread."""
        held_up = self._bus.thread.held_up()
        if held_up is None:  # it has yielded meanwhile
            return
        name, holder, seconds, where, stack = held_up
        message = (
            f"holds up the bus thread for {seconds:.3g} s, in {where}: sinks, actors "
            "and the control socket wait for it; let a coroutine await trio.sleep() instead of "
            "time.sleep(), and long work with trio.to_thread.run_sync()"
        )
        phase = "" if holder is None else holder.phase
        self._bus.emit(Fault, "HeldUp", message, stack, phase, source=name)
        _log.warning(f"{name} {message}")

    def _write(self, occasion: Occasion, why: str, text: str, said: str = "") -> None:
        """Write the files and report them.

        This may be the last act of a run, or the run may go on: a failure is reported, never
        raised.

        Args:
            occasion: begins the files' names.
            why: what has happened.
            text: what was not written to the log.
            said: what people are told of why, if something else tells them the rest.
        """
        try:
            stem, fd = self._begin(occasion)
            with open(fd, "w", encoding="utf-8", errors="backslashreplace") as file:
                written = f"{self._head(why)}{text}\n{self._stacks()}"
                file.write(without_secrets(written))
            message = f"where everyone was: {stem}{STACKS}"
            flight = self._bus.flight
            if flight is not None:
                events = Path(f"{stem}{EVENTS}")
                write_flight_file(events, self._identity, flight.last())
                message += f"; its last events: nightbus tail {quoted(events)}"
        except Exception as error:
            message = f"cannot write where everyone was: {type(error).__name__}: {error}"
        write_urgently(f"{said or why}; {message}")

    def _begin(self, occasion: Occasion) -> tuple[Path, int]:
        """Return the beginning of an unused name, and the open file for stacks."""
        run = self._bus.run_path
        if run is None:
            self._folder.mkdir(parents=True, exist_ok=True)
        base = (run or self._folder) / f"{'' if run else 'nightbus-'}{occasion}"
        stem = time.strftime(f"{base.name}-%Y%m%d-%H%M%S")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        number = 1
        while True:
            path = base.with_name(stem if number == 1 else f"{stem}-{number}")
            try:
                return path, os.open(f"{path}{STACKS}", flags, 0o600)
            except FileExistsError:
                number += 1

    def _head(self, why: str) -> str:
        place = self._bus.place
        hook = place.hook
        return (
            f"nightbus, run {self._identity.run}, attempt {self._identity.attempt}, "
            f"process {os.getpid()}, {time.strftime('%Y-%m-%d %H:%M:%S')}\n"
            f"{why}\n"
            f"{place.stage or 'between stages'}, epoch {place.epoch}, step {place.step}"
            f"{f', batch {place.batch_idx}' if place.batch_idx >= 0 else ''}"
            f"{f', in the hook {hook}' if hook else ''}\n"
        )

    def _unwritten(self) -> str:
        """Return what a recorded run did since the log was last written."""
        writer = self._bus.writer
        if writer is None or self._bus.flight is not None:
            return ""
        return f"\nsince the log was written last\n{_listed(writer)}"

    def _stacks(self) -> str:
        threads = all_threads(self._training)
        return f"{threads}\ntrio tasks\n{all_tasks(self._bus.thread.root_task)}"


def _listed(writer: LogWriter) -> str:
    """Return what a writer holds, as lines; another thread may keep adding to it."""
    names = [hook.name for hook in writer.trace.hooks()]
    names += [_in_a_word(event) for event in list(writer.records)]
    return "".join(f"  {name}\n" for name in names) or "  nothing\n"


def _in_a_word(event: Event) -> str:
    return f"Put {event.name}" if isinstance(event, Put) else kind_of(event)
