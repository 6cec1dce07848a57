"""Starts ranks of a script, and waits for their end; whatever happens, none is left running."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers import DEADLINE_S
from programs import Program

TESTS = Path(__file__).parent
# What two ranks train on: processors, or one GPU that they share.
DEVICES = ["cpu", pytest.param("gpu", marks=pytest.mark.gpu)]
# What whoever runs the tests may have of a launcher's variables.
_OF_LAUNCHERS = (
    "SLURM_",
    "OMPI_",
    "PMI_",
    "MPI_",
    "MV2_",
    "JSM_",
    "TORCHELASTIC_",
    "NIGHTBUS_RANKS",
)
_OF_TORCHRUN = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
    "MASTER_ADDR",
    "MASTER_PORT",
)


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it wrote."""

    code: int
    out: str
    err: str


def environment_alone(**more: str) -> dict[str, str]:
    """The environment of a process that no launcher has started; it can import what tests can."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in _OF_TORCHRUN and not name.startswith(_OF_LAUNCHERS)
    }
    path = os.pathsep.join([str(TESTS), *filter(None, [kept.get("PYTHONPATH")])])
    quiet = {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR", "COLUMNS": "80"}
    return {**kept, **quiet, "PYTHONPATH": path, **more}


def environment_of_rank(rank: int, size: int, port: int, **more: str) -> dict[str, str]:
    """The environment of a rank that torchrun would start, whose rank 0 serves the store."""
    return environment_alone(
        RANK=str(rank),
        WORLD_SIZE=str(size),
        LOCAL_RANK=str(rank),
        LOCAL_WORLD_SIZE=str(size),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        **more,
    )


@contextmanager
def started(
    commands: Sequence[Sequence[str]], environments: Sequence[Mapping[str, str]], folder: Path
) -> Iterator[list[Program]]:
    """Python programs that run meanwhile, each in a session of its own, which is killed in the end.

    Args:
        commands: each begins with this Python.
        environments: of each.
        folder: where they run, and where their outputs are kept.
    """
    processes: list[Program] = []
    try:
        for number, (command, environment) in enumerate(zip(commands, environments, strict=True)):
            with (
                (folder / f"out-{number}").open("w") as out,
                (folder / f"err-{number}").open("w") as err,
            ):
                processes.append(
                    Program(
                        command[1:],
                        cwd=folder,
                        env=environment,
                        stdin=subprocess.DEVNULL,
                        stdout=out,
                        stderr=err,
                        start_new_session=True,
                    )
                )
        yield processes
    finally:
        for process in processes:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for process in processes:
            process.wait()


def ended(processes: Sequence[Program], folder: Path) -> list[Ended]:
    """How the processes of ``started`` ended; those that do not in time have failed."""
    deadline_s = time.monotonic() + DEADLINE_S
    late = []
    for number, process in enumerate(processes):
        try:
            process.wait(max(0.1, deadline_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            late.append(number)
    found = [
        Ended(
            999 if number in late else process.returncode,
            (folder / f"out-{number}").read_text(),
            (folder / f"err-{number}").read_text(),
        )
        for number, process in enumerate(processes)
    ]
    assert not late, f"processes {late} did not end: {found}"
    return found


def run_ranks(folder: Path, script: Path | str, size: int = 2, **more: str) -> list[Ended]:
    """Run ranks of a script to their end, with the variables of torchrun.

    Args:
        folder: where they run, and where their outputs are kept.
        script: a file, or source text.
        size: how many.
        **more: further variables of their environment.
    """
    file = script_file(folder, script)
    port = free_port()
    commands = [[sys.executable, str(file)]] * size
    environments = [environment_of_rank(rank, size, port, **more) for rank in range(size)]
    with started(commands, environments, folder) as processes:
        return ended(processes, folder)


def found_by_ranks(
    folder: Path, program: str, device: str = "cpu", size: int = 2
) -> list[dict[str, Any]]:
    """Run one of the programs of cases on two ranks; return what each rank's cases found.

    Args:
        folder: where they run.
        program: file of the tests.
        device: what they train on, see ``ranks_fit.ON``.
        size: number of ranks.
    """
    ended = run_ranks(folder, TESTS / program, size, RANKS_ON=device)
    assert [each.code for each in ended] == [0] * size, [each.err for each in ended]
    return [json.loads((folder / f"found-{rank}.json").read_text()) for rank in range(size)]


def run_alone(folder: Path, script: Path | str, *arguments: str, **more: str) -> Ended:
    """Run a script that no launcher starts to its end; it may start ranks itself."""
    command = [sys.executable, str(script_file(folder, script)), *arguments]
    with started([command], [environment_alone(**more)], folder) as processes:
        return ended(processes, folder)[0]


def script_file(folder: Path, script: Path | str) -> Path:
    """The file of a script; source text is written to one."""
    if isinstance(script, Path):
        return script
    file = folder / "script.py"
    file.write_text(textwrap.dedent(script))
    return file


def free_port() -> int:
    """A port of the loopback that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
