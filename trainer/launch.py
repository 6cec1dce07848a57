"""Starts the other ranks of a script that asks for several, and joins them.

The process that runs the script becomes rank 0 and keeps its terminal. The others run the same
command line, and get as far as it by themselves; they are killed when its process ends.
"""

import atexit
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import torch

from .._began_in import BEGAN_IN
from ..actors.process.stop_signals import TERMINATING
from ..actors.ranks.group import Group
from ..actors.ranks.joining import has_run_alone, join, joined_group, leave
from ..actors.ranks.last_act import OTHERS_EXIT_CODE
from ..actors.ranks.world import STARTED_BY, TOKEN, World
from ..bus.errors import UsageError
from ..bus.system.streams import notify_user
from ..bus.system.terminal_message import STDERR, STDOUT, write_urgently
from ..bus.system.terminal_relay import TerminalRelay, carry_over

# Runs in a new rank before the script does: it dies with the process that has started it.
_BOOT = """
import os, sys
if sys.platform == "linux":
    import ctypes, signal
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != int(os.environ["NIGHTBUS_RANKS_STARTED_BY"]):
        sys.exit(1)
os.execv(sys.argv[1], sys.argv[1:])
"""
# That the others may take to end once one has failed. One that waits for this rank within gloo does
# not end by itself: its connections close with this process only.
_AFTER_FAILURE_S = 5.0
_HAS_NOT_JOINED = (
    "has ended its script without joining: all ranks have to call what they do together, such as "
    "fit; move it out of the `if` that only some ranks run"
)
_EXIT_CODES_OF_SIGNALS = {128 + number for number in (signal.SIGINT, *TERMINATING)}


def launch_and_join(world: World, backends: str, timeout: timedelta | None) -> Group:
    """Join the other ranks, and start them before if no launcher has; once for a process.

    Args:
        world: which rank this is.
        backends: of torch.distributed, by device, see ``DDPStrategy.backends``.
        timeout: of a collective operation; torch's default if None.

    Returns:
        The group of all ranks; that of this process alone if it trains alone.

    Raises:
        UsageError: this process cannot be started again, as in a notebook, or has run alone.
    """
    starts = world.started_by == "nightbus" and world.rank == 0
    if not starts or joined_group() is not None:
        return join(world, backends, timeout)
    if has_run_alone():
        raise UsageError(
            f"a Trainer of this process has run alone, and this one asks for {world.size} devices: "
            "the other processes run the script from its beginning, so they would do the same "
            "again, each for itself; give all Trainers the same devices, or write two scripts"
        )
    from ..actors.ranks.process_group import tell_failure
    from ..actors.ranks.store import client_of, known_to_ranks, serve_on_loopback  # optional

    command = _command_line(world.size)
    if sys.platform == "linux":  # all are on this machine, whatever its name leads to
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    store, token = serve_on_loopback(), secrets.token_hex(16)

    def tell(rank: int, how: str) -> None:
        # By a client of its own: that of the training thread may be in use.
        tell_failure(known_to_ranks(client_of(store), token), world, rank, how)

    relay = TerminalRelay() if TerminalRelay.is_for(STDERR) else None
    others = OtherRanks(command, _environment(world, store.port, token), tell, relay)
    try:
        for rank in range(1, world.size):
            others.start(rank)
        group = join(world, backends, timeout, known_to_ranks(store, token))
    except BaseException:
        others.kill()
        raise
    others.startup_is_over.set()
    atexit.register(others.end)  # which comes before what join has registered
    return group


class OtherRanks:
    """The processes of all ranks but this one, which is rank 0.

    Args:
        command: their command line.
        environment: their variables, without those that say which rank one is.
        tell_failure: tells all ranks that one has failed, from the thread that watches it.
        relay: prints what they write on the terminal that stderr is; None if it is none.

    Attributes:
        startup_is_over: set once all ranks have joined, or none will.
    """

    def __init__(
        self,
        command: list[str],
        environment: dict[str, str],
        tell_failure: Callable[[int, str], None],
        relay: TerminalRelay | None = None,
    ) -> None:
        self._relay = relay
        self._command, self._environment = command, environment
        self._tell_failure = tell_failure
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._threads: list[threading.Thread] = []
        self._failed: list[int] = []
        self.startup_is_over = threading.Event()

    def start(self, rank: int) -> None:
        """Start a rank, and watch it.

        Args:
            rank: which one.

        Raises:
            OSError: there is no process available.
        """
        has_started, problems = threading.Event(), list[OSError]()

        # A process dies with the thread that has started it, so this one waits for its end.
        def start_and_watch() -> None:
            try:
                self._processes[rank] = process = self._start(rank)
            except OSError as error:
                problems.append(error)
                return
            finally:
                has_started.set()
            self._ended(rank, process.wait())

        thread = threading.Thread(target=start_and_watch, name=f"nightbus-rank-{rank}", daemon=True)
        self._threads.append(thread)
        thread.start()
        has_started.wait()
        if problems:
            raise problems[0]

    def _start(self, rank: int) -> "subprocess.Popen[bytes]":
        terminal = None if self._relay is None else self._relay.lend()
        try:
            return subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _BOOT, *self._command],
                cwd=BEGAN_IN,
                env={**self._environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdin=subprocess.DEVNULL,
                stdout=terminal if TerminalRelay.is_for(STDOUT) else None,
                stderr=terminal,
            )
        finally:
            if terminal is not None:
                os.close(terminal)

    def _ended(self, rank: int, code: int) -> None:
        carry_over()
        if code == 0:
            if not self.startup_is_over.is_set():
                self._tell_failure(rank, _HAS_NOT_JOINED)
            return
        if code not in _EXIT_CODES_OF_SIGNALS:  # by which all end together, as was agreed
            self._failed.append(rank)
        group = joined_group()
        if group is not None and group.link is not None:
            group.link.process_ended(rank, code)
        how = f"ended with exit code {code}" if code > 0 else f"was killed by signal {-code}"
        self._tell_failure(rank, how)
        if not self.startup_is_over.wait(_AFTER_FAILURE_S):
            # This rank waits for it within torch, which does not hear of it.
            write_urgently(f"rank {rank} {how} before all ranks had joined")
            os._exit(OTHERS_EXIT_CODE)

    def kill(self) -> None:
        """Kill those that are left."""
        self.startup_is_over.set()
        for process in self._processes.values():
            process.kill()
        self._join(None)

    def _join(self, limit_s: float | None) -> None:
        end_s = None if limit_s is None else time.monotonic() + limit_s
        for thread in self._threads:
            thread.join(None if end_s is None else max(0.0, end_s - time.monotonic()))
        carry_over()

    def end(self) -> None:
        """Wait for their ends when this process ends; if it fails, or one of them, for a moment.

        If this process ends well and one of them does not, its exit code becomes 1.
        """
        group, error = joined_group(), getattr(sys, "last_value", None)
        link = None if group is None else group.link
        has_failed = link is None or link.has_failed or link.has_raised or error is not None
        leave()
        self._join(_AFTER_FAILURE_S if has_failed or self._failed else None)
        self.kill()
        if self._failed and not has_failed:
            ranks = ", ".join(map(str, sorted(self._failed)))
            notify_user(f"nightbus: rank {ranks} failed after rank 0 had ended its runs")
            atexit.unregister(self.end)
            _exit(1)


def _exit(code: int) -> None:
    """End the process with a code, from within what is done at its exit, after the rest of that."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def _environment(world: World, port: int, token: str) -> dict[str, str]:
    """Return the variables of the others, and share the processor's cores among all ranks."""
    variables = dict(os.environ)
    if "OMP_NUM_THREADS" not in variables:
        cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
        threads = max(1, cores // world.local_size)
        torch.set_num_threads(threads)
        variables["OMP_NUM_THREADS"] = str(threads)
    return {
        **variables,
        "WORLD_SIZE": str(world.size),
        "LOCAL_WORLD_SIZE": str(world.local_size),
        "GROUP_RANK": "0",
        "MASTER_ADDR": world.address,
        "MASTER_PORT": str(port),
        STARTED_BY: str(os.getpid()),
        TOKEN: token,
    }


def _command_line(size: int) -> list[str]:
    """Return this process's command line.

    Raises:
        UsageError: it would not do the same again.
    """
    run = f"torchrun --standalone --nproc-per-node={size} script.py"
    if hasattr(sys, "ps1") or not sys.orig_argv[1:] or sys.orig_argv[1] == "-":
        raise UsageError(
            f"devices={size}: a notebook or an interactive session cannot be started {size} times; "
            f"put the code into a script and run it, for example with !python script.py"
        )
    if "PYTEST_CURRENT_TEST" in os.environ and "pytest" in sys.modules:
        raise UsageError(
            f"devices={size}: the other processes would run all of these tests; let the test start "
            f"a script, for example with subprocess, or with {run}"
        )
    return [sys.executable, *sys.orig_argv[1:]]
