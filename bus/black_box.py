"""What is left of a run that crashes, hangs or is asked: its last events, and where everyone is."""

import contextlib
import os
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType

from .bus import Bus
from .errors import RunFolderError, UsageError
from .events import Fault
from .flight_file import FLIGHT, LONE_FLIGHT, SUFFIX, write_flight_file
from .log_writer import LogIdentity
from .quit_signal import QuitSignal
from .stacks import all_tasks, all_threads, thread_stack
from .watchdog import Watchdog

MAX_STACK_CHARS = 16_384


class BlackBox:
    """While it is entered, a crash, SIGQUIT and a hang leave files behind.

    ``NAME.txt`` says where every thread and every trio task was, ``NAME.nlog`` holds the last
    events where the run's log does not: it lies in the run's folder, or, where there is none, in
    the working directory.

    Args:
        bus: the run's bus; its flight recorder has the events, if it has one.
        identity: which run.
        hang_timeout_s: so long without progress is a hang, in s; None looks for none.
        iterations: of loops that do not move the place, how many are done.
        is_waiting: whether the run is paused.
    """

    def __init__(
        self,
        bus: Bus,
        identity: LogIdentity,
        hang_timeout_s: float | None,
        iterations: Callable[[], int],
        is_waiting: Callable[[], bool],
    ) -> None:
        self._bus = bus
        self._identity = identity
        self._training = threading.get_ident()
        self._entered = contextlib.ExitStack()
        self._contexts: list[contextlib.AbstractContextManager[object]] = [QuitSignal(self._quit)]
        if hang_timeout_s is not None:
            place = bus.place
            watchdog = Watchdog(
                hang_timeout_s, lambda: (place.mark(), iterations()), self._hang, is_waiting
            )
            self._contexts.append(watchdog)

    def __enter__(self) -> "BlackBox":
        with contextlib.ExitStack() as entered:
            for context in self._contexts:
                entered.enter_context(context)
            self._entered = entered.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._entered.close()

    def crash(self, error: BaseException) -> None:
        """An exception ends the run. Where the log has everything, it has this too; and what the
        user did wrong says itself what to do.
        """
        if self._bus.flight is not None and not isinstance(error, UsageError):
            text = "".join(traceback.format_exception(error))
            self._write(f"the run crashed: {type(error).__name__}: {error}", f"{text}\n")

    def _quit(self, frame: FrameType | None) -> None:
        self._write("SIGQUIT arrived; the run goes on", here=frame)

    def _hang(self, still_s: float) -> None:
        place = self._bus.place
        hook = self._hook()
        what = f" in {hook}" if hook else ""
        message = f"no progress for {still_s:.3g} s{what}; the run was not ended"
        stack = thread_stack(self._training)[-MAX_STACK_CHARS:]
        self._bus.emit(Fault, "Hang", message, stack, place.hook, source="watchdog")
        self._write(message)

    def _hook(self) -> str:
        return self._bus.place.hook

    def _write(self, why: str, text: str = "", here: FrameType | None = None) -> None:
        """Write both files and say so. It may be the last that can be done for a run, or happen
        within a signal handler: what fails is said, and nothing is raised.
        """
        try:
            base = self._base()
            stacks = base.with_name(f"{base.name}.txt")
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with open(os.open(stacks, flags, 0o600), "w", encoding="utf-8") as file:
                file.write(f"{self._head(why)}\n{text}{self._stacks(here)}")
            written = str(stacks)
            flight = self._bus.flight
            if flight is not None:
                events = base.with_name(f"{base.name}{SUFFIX}")
                write_flight_file(events, self._identity, flight.last())
                written += f"; its last events: nightbus tail {events}"
            _say(f"{why}; where everyone was: {written}")
        except (OSError, RunFolderError, ValueError) as error:
            _say(f"{why}; where everyone was could not be written: {error}")

    def _base(self) -> Path:
        """A path that nobody has yet, without its ending."""
        run = self._bus.run_path
        folder, stem = (Path.cwd(), LONE_FLIGHT) if run is None else (run, FLIGHT)
        name = f"{stem}{time.strftime('%Y%m%d-%H%M%S')}"
        number = 1
        while True:
            base = folder / (name if number == 1 else f"{name}-{number}")
            if not base.with_name(f"{base.name}.txt").exists():
                return base
            number += 1

    def _head(self, why: str) -> str:
        place = self._bus.place
        hook = self._hook()
        return (
            f"nightbus, run {self._identity.run}, attempt {self._identity.attempt}, "
            f"process {os.getpid()}, {time.strftime('%Y-%m-%d %H:%M:%S')}\n"
            f"{why}\n"
            f"{place.stage or 'between stages'}, epoch {place.epoch}, step {place.step}, "
            f"batch {place.batch_idx}{f', in the hook {hook}' if hook else ''}\n"
        )

    def _stacks(self, here: FrameType | None) -> str:
        threads = all_threads(self._training, here)
        return f"{threads}\ntrio tasks\n{all_tasks(self._bus.root_task)}"


def _say(message: str) -> None:
    """Say something on stderr, also in a signal handler, which may have come in the middle of a
    print.
    """
    with contextlib.suppress(OSError):  # there is no stderr: then nobody listens
        os.write(2, f"nightbus: {message}\n".encode(errors="backslashreplace"))
