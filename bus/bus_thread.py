"""BusThread: runs observers, housekeeping and the control socket beside training."""

import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import trio

from .control.server import ANSWER_TIMEOUT_S, ControlServer
from .copies import StaysInRun
from .housekeeping import Housekeeping
from .observer import Observer
from .post_office import PostOffice
from .system.logging_setup import get_logger
from .threads import Threads
from .turns import Turns, ancestors

CANCEL_TIMEOUT_S = 1.0  # for all cancelled tasks together to end
END_TIMEOUT_S = ANSWER_TIMEOUT_S + 1.0  # for the bus thread to end

_log = get_logger("nightbus.bus")


class HeldUp(NamedTuple):
    """A task that does not yield the bus thread.

    Attributes:
        name: of the actor, or of a task that belongs to none.
        holder: the actor's observer, if there is one.
        seconds: how long its turn has lasted, in s.
        where: the coroutine, and the line in it.
        stack: all its calls.
    """

    name: str
    holder: Observer | None
    seconds: float
    where: str
    stack: str


class BusThread(StaysInRun):
    """The thread beside training, on which trio runs; it starts when it is first needed.

    Args:
        threads: the threads of this process, or of a simulation.
        post_office: is told which thread this is.
        housekeeping: runs on it.

    Attributes:
        observers: that run on it, or did.
        control: serves the control socket on it, if there is one; to be set before the start.
        beside: more that runs on it until the log is complete; to be filled before the start.
        turns: whose turn it is.
        root_task: its first task, for diagnosis; None before the start.
        is_started: whether it was started, or should have been.
        closing: set, on the thread, when the log is complete; None before the start.
    """

    def __init__(
        self, threads: Threads, post_office: PostOffice, housekeeping: Housekeeping
    ) -> None:
        self.observers: list[Observer] = []
        self.control: ControlServer | None = None
        self.beside: list[Callable[[], Awaitable[None]]] = []
        self.turns = Turns(lambda: post_office.bus_thread, threads.now_s)
        self.root_task: trio.lowlevel.Task | None = None
        self.is_started = False
        self.closing: trio.Event | None = None
        self._threads = threads
        self._post_office = post_office
        self._housekeeping = housekeeping
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None
        self._scope = trio.CancelScope()  # of everything on the thread
        self._lock = threading.Lock()  # guards observers that attach from any thread
        self._is_closing = self._is_left = False
        self._is_up = threading.Event()  # it runs
        self._has_ended = threading.Event()

    def ensure_started(self) -> None:
        """Start it, unless it was started already."""
        if not self.is_started:
            self.is_started = True
            try:
                self._threads.start_bus_thread(self._main, self._on_ended)
            except (RuntimeError, MemoryError) as error:  # no thread is available
                self._on_ended(error)

    def add(self, observer: Observer) -> None:
        """Run an observer on it; any thread may call this."""
        with self._lock:
            self.observers.append(observer)
            if self._nursery is not None and self._token is not None:
                self._token.run_sync_soon(self._nursery.start_soon, observer.run)
        self.ensure_started()

    def call_soon(self, action: Callable[[], object]) -> None:
        """Call a function on the thread, if it runs."""
        if self._token is None:
            return
        # It may have failed, which was reported.
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(action)

    def leave_to_parent(self) -> None:
        """In a forked child: end the other coroutines at once, if one of them forked."""
        self._is_left = True
        if self._threads.current() == self._post_office.bus_thread:
            self._scope.cancel()

    # -- who uses it -------------------------------------------------------------------------

    def held_up(self) -> HeldUp | None:
        """Return the task that does not yield the bus thread, if any; for other threads."""
        turn = self.turns.now()
        if turn is None:
            return None
        tasks = ancestors(turn.task)
        holder = next((o for task in tasks for o in self.observers if o.task is task), None)
        name = turn.task.name if holder is None else holder.name
        return HeldUp(name, holder, turn.seconds, turn.where, turn.stack)

    def is_responsive(self) -> bool:
        """Return whether the thread still makes progress."""
        answered = threading.Event()
        self.call_soon(answered.set)
        return self._threads.wait(answered, CANCEL_TIMEOUT_S)

    # -- the end -----------------------------------------------------------------------------

    def begin_closing(self) -> None:
        """The run ends: if the thread starts only now, ``closing`` is set from its start."""
        with self._lock:
            self._is_closing = True

    def wait_until_up(self) -> None:
        """Wait, for a moment, until the thread runs, if it was started."""
        if self.is_started:
            self._threads.wait(self._is_up, CANCEL_TIMEOUT_S)

    def announce_closing(self) -> None:
        """Set ``closing``: the log is complete, but for what observers do until they stop."""
        if self.closing is not None:
            self.call_soon(self.closing.set)

    def wait_until_ended(self, timeout_s: float = END_TIMEOUT_S) -> None:
        """Wait until the thread has ended, if it was started; else remove its control socket.

        Args:
            timeout_s: how long to wait, in s.
        """
        if self.is_started:
            has_ended = self._threads.wait(self._has_ended, timeout_s)
            if not has_ended and self.control is not None:
                self.control.withdraw()

    def _on_ended(self, error: BaseException | None) -> None:
        if self._is_left:
            return
        if error is not None:
            _log.error("the bus thread failed; observers get the rest by replay", exc_info=error)
        self._is_up.set()
        self._has_ended.set()
        for observer in self.observers:
            observer.done.set()

    # -- on the thread -----------------------------------------------------------------------

    async def _main(self) -> None:
        self._post_office.bus_thread = self._threads.current()
        self.root_task = trio.lowlevel.current_root_task()
        trio.lowlevel.add_instrument(self.turns)
        with self._scope:
            await self._serve()

    async def _serve(self) -> None:
        async with trio.open_nursery() as housekeeping:
            housekeeping.start_soon(self._housekeeping.run)
            if self.control is not None:
                housekeeping.start_soon(self.control.run)
            for run in self.beside:
                housekeeping.start_soon(run)
            async with trio.open_nursery() as nursery:
                with self._lock:
                    self._token = trio.lowlevel.current_trio_token()
                    self._nursery = nursery
                    self.closing = trio.Event()
                    if self._is_closing:
                        self.closing.set()
                    for observer in self.observers:
                        if not observer.gave_up:
                            nursery.start_soon(observer.run)
                self._is_up.set()
                await self.closing.wait()
            housekeeping.cancel_scope.cancel()
