"""The threads of a simulated process, all in one real one: same seed, same order of events.

The training thread is the caller. Trio runs as its guest: while the training thread waits, or
computes, as it says, trio's tasks take their turns; and time passes when none of them can run, up
to the next deadline. What trio hands to worker threads is done by a task, after a while that the
simulation chooses. Trio's own random order of tasks is that of the seed.
"""

import contextlib
import math
import os
import random
import secrets
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import outcome
import pytest
import trio

from nightbus.bus import drain
from nightbus.bus.log import segment_file
from nightbus.bus.system import logging_setup
from nightbus.bus.threads import Threads

TRAINING, BESIDE, WORKER = 1, 2, 3  # what ``current`` gives
WALL_NS = 1_700_000_000_000_000_000  # wall clock when the virtual clock shows 0
MAPPED_BYTES = 1 << 12  # at once, so that a small log needs several
MAX_TURNS_TO_END = 20_000
MAX_TURNS_IN_NO_TIME = 5_000


class VirtualClock(trio.abc.Clock):
    """Stands still until it is moved; trio never sleeps by it."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def start_clock(self) -> None:
        """It was started when it was made."""

    def current_time(self) -> float:
        return self.now_s

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return 0.0  # whoever runs the guest sees to it that time passes

    def now_ns(self) -> int:
        """The same in whole nanoseconds."""
        return round(self.now_s * 1e9)


class VirtualThreads(Threads):
    """The training thread, the bus thread and workers of one process.

    Args:
        clock: what time it is.
        latency_s: how long a worker takes to begin with a function; for ever, if it hangs.

    Attributes:
        before_turn: called before each turn of trio; what it raises, the training thread raises.
        turns: how often trio had its turn.
    """

    def __init__(
        self, clock: VirtualClock, latency_s: Callable[[Callable[..., Any]], float]
    ) -> None:
        self.clock = clock
        self.before_turn: Callable[[], None] = lambda: None
        self.turns = 0
        self._latency_s = latency_s
        self._here = TRAINING
        self._turns: deque[Callable[[], object]] = deque()
        self._turned_s, self._turns_then = 0.0, 0  # when time last passed, and at which turn
        self._runner: Any = None
        self._scope = trio.CancelScope()

    def current(self) -> int:
        return self._here

    def now_s(self) -> float:
        return self.clock.now_s

    def start_bus_thread(
        self,
        main: Callable[[], Awaitable[None]],
        ended: Callable[[BaseException | None], None],
    ) -> None:
        async def run() -> None:
            self._runner = trio._core._run.GLOBAL_RUN_CONTEXT.runner
            with self._scope:
                await main()

        trio.lowlevel.start_guest_run(
            run,
            run_sync_soon_threadsafe=self._turns.append,
            done_callback=lambda result: ended(getattr(result, "error", None)),
            host_uses_signal_set_wakeup_fd=True,
            clock=self.clock,
        )

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        return self.pass_time(timeout_s, event.is_set)

    # -- the training thread -----------------------------------------------------------------

    def pass_time(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Let trio have its turns for so long, at most until ``until`` is true; whether it is."""
        end_s = self.clock.now_s + seconds
        while not until():
            if self._nothing_can_run():
                next_s = self._runner.deadlines.next_deadline() if self._turns else math.inf
                if next_s >= end_s:
                    self.clock.now_s = end_s
                    return until()
                self.clock.now_s = max(self.clock.now_s, next_s)
            self.take_turn()
        return True

    def take_turns(self, number: int) -> None:
        """Let trio have some turns, in no time."""
        for _ in range(number):
            self.take_turn()

    def take_turn(self) -> None:
        """Let trio run each of its tasks that can run, up to its next await."""
        self.before_turn()
        if not self._turns:
            return
        self.turns += 1
        if self.clock.now_s > self._turned_s:
            self._turned_s, self._turns_then = self.clock.now_s, self.turns
        if self.turns - self._turns_then > MAX_TURNS_IN_NO_TIME:
            raise AssertionError(f"tasks do not come to rest at {self._turned_s} s")
        before, self._here = self._here, BESIDE
        try:
            self._turns.popleft()()
        finally:
            self._here = before

    def _nothing_can_run(self) -> bool:
        if not self._turns:
            return True
        runner = self._runner
        if runner is None:
            return False
        entry = runner.entry_queue
        return not (runner.runq or entry.queue or entry.idempotent_queue)

    def end(self) -> None:
        """Have trio end, now that the process is gone."""
        self.before_turn = lambda: None
        self._turned_s = math.inf
        self._turns_then = self.turns + MAX_TURNS_TO_END
        for _ in range(MAX_TURNS_TO_END):
            if not self._turns:
                return
            if self._runner is not None and not self._scope.cancel_called:
                with contextlib.suppress(trio.RunFinishedError):  # it is about to end by itself
                    self._runner.entry_queue.run_sync_soon(self._scope.cancel)
            elif self._nothing_can_run():  # a worker that cannot be abandoned is at it
                self.clock.now_s = max(self.clock.now_s, self._runner.deadlines.next_deadline())
            self.take_turn()
        trio._core._run.GLOBAL_RUN_CONTEXT.__dict__.clear()  # so that others may run
        raise AssertionError("trio does not end, though all of it is cancelled")

    # -- workers -----------------------------------------------------------------------------

    async def run_in_worker(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        abandon_on_cancel: bool = False,
    ) -> Any:
        """In the place of ``trio.to_thread.run_sync``: what it began, an abandoned worker does."""
        await trio.lowlevel.checkpoint_if_cancelled()
        results: list[outcome.Outcome[Any]] = []
        done = trio.Event()

        async def work() -> None:
            await trio.sleep(self._latency_s(function))
            before, self._here = self._here, WORKER
            try:
                results.append(outcome.capture(function, *arguments))
            finally:
                self._here = before
            done.set()

        trio.lowlevel.spawn_system_task(work)
        with trio.CancelScope(shield=not abandon_on_cancel):
            await done.wait()
        return results[0].unwrap()


async def run_at_once(
    function: Callable[..., Any], *arguments: Any, abandon_on_cancel: bool = False
) -> Any:
    """In the place of ``trio.to_thread.run_sync``, where time does not matter."""
    await trio.lowlevel.checkpoint()
    return function(*arguments)


class OwnRandom(random.Random):
    """Is random as its seed says in the thread that made it, whatever others draw from it.

    An actor that hangs, in a test before, may have left a bus thread, whose trio has the same
    source of chance.
    """

    def __init__(self, seed: int | str) -> None:
        super().__init__(seed)
        self._owner = threading.get_ident()
        self._for_others = random.Random()

    def random(self) -> float:
        is_owner = threading.get_ident() == self._owner
        return super().random() if is_owner else self._for_others.random()

    def getrandbits(self, k: int) -> int:
        is_owner = threading.get_ident() == self._owner
        return super().getrandbits(k) if is_owner else self._for_others.getrandbits(k)


@contextmanager
def determined_by(
    seed: int, clock: VirtualClock, said: Callable[[str], None]
) -> Iterator[pytest.MonkeyPatch]:
    """Let nothing depend on anything but the seed, and keep the library's messages.

    Args:
        seed: of all that is random.
        clock: what time it is.
        said: called with each message of this thread.
    """
    chance, own = OwnRandom(f"{seed}/library"), threading.get_ident()

    def said_here(message: str) -> None:
        if threading.get_ident() == own:
            said(message)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
        patch.setattr(trio._core._run, "_r", OwnRandom(seed))
        patch.setattr(trio.to_thread, "run_sync", run_at_once)
        patch.setattr(secrets, "token_hex", lambda size: f"{chance.randrange(1 << 8 * size):x}")
        patch.setattr(secrets, "randbits", chance.getrandbits)
        patch.setattr(time, "time_ns", lambda: WALL_NS + clock.now_ns())
        patch.setattr(segment_file, "CHUNK_BYTES", MAPPED_BYTES)
        # What reaches the disk is worked out, so the real one need not be waited for.
        patch.setattr(os, "fsync", lambda fd: None)
        patch.setattr(os, "fdatasync", lambda fd: None)
        patch.setattr(logging_setup.Logger, "_log", lambda *message: said_here(message[3]))
        patch.setattr(drain, "notify_user", said_here)
        yield patch
