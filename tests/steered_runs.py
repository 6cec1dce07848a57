"""Runs in other processes, which tests steer through their sockets."""

import contextlib
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
from helpers import DEADLINE_S, eventually
from programs import Program

import nightbus as nb
from nightbus.bus.control.protocol import Answer, Request, decode_answer
from nightbus.bus.control.socket import SOCKET_NAME, connect
from nightbus.bus.inspection.control_client import send
from nightbus.bus.log.reader import LogReader

PROGRAM = Path(__file__).parent / "steered_process.py"


class Training:
    """A training process, and the folder of its run."""

    def __init__(self, folder: Path, *options: str, program: Path = PROGRAM) -> None:
        self.process = Program(
            [str(program), str(folder), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        line = self.read_until("batch")
        self.run = nb.RunFolder.open(line.split(" ", 2)[2])
        self._rest: list[str] = []
        # So that a full pipe does not hold it up.
        self._reading = threading.Thread(target=self._read_on, daemon=True)
        self._reading.start()

    def read_until(self, beginning: str) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(beginning):
                return line.strip()
        assert self.process.stderr is not None
        raise AssertionError(self.process.stderr.read())

    def _read_on(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._rest = [*self._rest[-9:], line.strip()]

    def end(self) -> str:
        """Wait until it ends by itself; its last line."""
        self.process.wait(DEADLINE_S)
        self._reading.join(DEADLINE_S)
        return self._rest[-1]

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        eventually(lambda: psutil.Process(self.process.pid).status() == psutil.STATUS_STOPPED)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE_S)

    @property
    def socket_path(self) -> Path:
        return self.run.path / SOCKET_NAME

    def step(self) -> int:
        answer = send(self.run, Request("status"))
        assert answer.status is not None
        return answer.status.step


@contextlib.contextmanager
def training(folder: Path, *options: str, program: Path = PROGRAM) -> Iterator[Training]:
    """A training process that listens at its socket; killed at the end.

    Args:
        folder: for its run.
        options: of the program.
        program: what trains.
    """
    started = Training(folder, *options, program=program)
    try:
        eventually(started.socket_path.exists)
        yield started
    finally:
        started.kill()
        for pipe in (started.process.stdout, started.process.stderr):
            assert pipe is not None
            pipe.close()


def talk(path: Path, data: bytes) -> Answer:
    """Say something to a run that need not make sense, and take its answer."""
    with connect(path.parent, DEADLINE_S) as connection:
        with contextlib.suppress(BrokenPipeError):  # it does not listen to the end
            connection.sendall(data)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while not received.endswith(b"\n") and (chunk := connection.recv(1 << 16)):
                received += chunk
    return decode_answer(received)


def recorded(run: nb.RunFolder, attempt: int = 0) -> list[Any]:
    reader = LogReader(run.store(attempt))
    try:
        return list(reader.events("none"))
    finally:
        reader.close()
