"""Starts a rank of a trial, on its machine if there are two, without the time that imports take.

The ranks of ``devices=`` are forked here, before there are threads, and wait until it starts them.
"""

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from two_machines import MACHINE, enter

TRIAL: dict[str, Any] = json.loads(os.environ["TRIAL"])


class Forked:
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

    def start(self, environment: dict[str, str]) -> "Forked":
        """Let it begin."""
        with open(self._writing, "w") as file:
            file.write(json.dumps(environment) + "\n")
        return self

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def kill(self) -> None:
        if Path(f"/proc/{self.pid}").exists():
            os.kill(self.pid, signal.SIGKILL)


def fork_ranks(number: int) -> list[Forked]:
    """Fork other ranks; in each of them, return none."""
    forked: list[Forked] = []
    while len(forked) < number:
        forked.append(Forked())
        if not forked[-1].pid:
            return []
    return forked


def main() -> None:
    """Train."""
    if MACHINE in os.environ:
        enter(int(os.environ[MACHINE]))
    forked = fork_ranks(TRIAL["size"] - 1) if TRIAL["forks"] else []
    import rank_trial_program

    from nightbus.trainer.launch import OtherRanks

    if forked:

        def start(others: OtherRanks, rank: int) -> Any:
            variables = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            return forked[rank - 1].start({**others._environment, **variables})

        OtherRanks._start = start  # type: ignore[assignment, method-assign]
    rank_trial_program.main()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
