"""Other ranks of ``devices=`` that are forked, without the time that starting Python takes.

What a test says of their command line is said with processes that nightbus starts itself.
"""

import ctypes
import json
import os
import signal
from pathlib import Path
from typing import Any


class ForkedRank:
    """A rank that waits to be started; what of ``subprocess.Popen`` is used of it."""

    def __init__(self) -> None:
        reading, self._writing = os.pipe()
        started_by = os.getpid()
        self.pid = os.fork()
        if self.pid:
            os.close(reading)
            return
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # as nightbus does, before it starts Python
        if os.getppid() != started_by:
            os._exit(1)
        with open(reading) as file:
            os.environ.update(json.loads(file.readline()))

    def start(self, environment: dict[str, str]) -> "ForkedRank":
        """Let it begin."""
        with open(self._writing, "w") as file:
            file.write(json.dumps(environment) + "\n")
        return self

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def kill(self) -> None:
        if Path(f"/proc/{self.pid}").exists():
            os.kill(self.pid, signal.SIGKILL)


def fork_other_ranks(number: int) -> None:
    """Fork other ranks, which go on behind this call when nightbus would have started them.

    Called before there are threads, and before nightbus is imported.

    Args:
        number: how many.
    """
    forked: list[ForkedRank] = []
    while len(forked) < number:
        forked.append(ForkedRank())
        if not forked[-1].pid:
            return
    from nightbus.trainer.launch import OtherRanks

    def start(self: OtherRanks, rank: int) -> Any:
        variables = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        return forked[rank - 1].start({**self._environment, **variables})

    OtherRanks._start = start  # type: ignore[method-assign]
