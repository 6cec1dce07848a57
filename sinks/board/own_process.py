"""Starts the board in a process of its own, which ends with this one."""

import os
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from ...bus.system.forks import leave_when_forked
from ...bus.system.logging_setup import get_logger
from . import page_files
from .address import address_of, listening
from .kept_token import token_for

_PROGRAM = f"{__package__}.beside"
_MAX_SAID = 500  # characters of what a board that failed has said
_log = get_logger("nightbus.board")


class Wanted(NamedTuple):
    """Which board: those that are alike are one.

    Attributes:
        root: the folder of runs.
        host: the address or name to listen on.
        port: 0 for any free one; the usual one if None, or any if that is in use.
        stays: it goes on when this process has ended.
        steers: pages may steer runs.
    """

    root: Path
    host: str
    port: int | None
    stays: bool
    steers: bool


class BoardProcess:
    """A board that serves in another process. That ends with this one, even if this is killed.

    Args:
        wanted: which board.

    Attributes:
        address: the address to open.
        pid: id of the process.

    Raises:
        UsageError: it cannot listen there.
        OSError: there is no process available.
    """

    def __init__(self, wanted: Wanted) -> None:
        token = token_for(wanted.host)
        self._is_stopped = False
        with listening(wanted.host, wanted.port) as listener, ExitStack() as unless_it_starts:
            errors = unless_it_starts.enter_context(tempfile.TemporaryFile())
            self.address = address_of(listener, wanted.host, token)
            # Not of this terminal's group: Ctrl-C is for training. Arguments are for all to see, so
            # the token is not among them.
            self._process = subprocess.Popen(
                [sys.executable, "-m", _PROGRAM],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                pass_fds=[listener.fileno()],
                start_new_session=True,
                env=_environment(),
            )
            unless_it_starts.pop_all()
            self.pid = self._process.pid
            leave_when_forked(self)  # a worker would keep the pipe, and the board with it
            order = {
                "root": str(wanted.root),
                "page": str(page_files.BUILT),
                "fd": listener.fileno(),
                "host": wanted.host,
                "token": token,
                "stays": wanted.stays,
                "steers": wanted.steers,
            }
            self._say(msgspec.json.encode(order) + b"\n")
        threading.Thread(target=self._wait, args=(errors,), name="board", daemon=True).start()

    @property
    def is_there(self) -> bool:
        """True until it has ended."""
        return self._process.returncode is None

    def stop(self) -> None:
        """End it, and wait until it has."""
        self._is_stopped = True
        self._process.terminate()
        self._process.wait()
        self.leave_to_parent()

    def leave_to_parent(self) -> None:
        """Close the pipe, in a forked child too, for which it is not."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def _say(self, line: bytes) -> None:
        assert self._process.stdin is not None
        # One that has ended already is told of by the thread that waits for it.
        with suppress(BrokenPipeError):
            self._process.stdin.write(line)

    def _wait(self, errors: IO[bytes]) -> None:
        code = self._process.wait()
        with errors:
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().rpartition("\n")[2]
        if code != 0 and not self._is_stopped:
            _log.warning(f"the board has ended, training goes on without it: {said[:_MAX_SAID]}")


def _environment() -> dict[str, str]:
    """Return variables with which another process finds what this one has imported."""
    paths = [os.path.abspath(path) for path in sys.path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1"}
