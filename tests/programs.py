"""Starts Python programs as ``subprocess`` does, without the seconds in which each imports torch.

What a test says of a fresh interpreter, such as what it imports or how much memory it takes, is
said with ``subprocess``.
"""

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

SERVER = Path(__file__).with_name("program_server.py")


@cache
def _server() -> socket.socket:
    """The socket of this process' server, which ends with it."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    folder = tempfile.TemporaryDirectory()
    with its:
        command = [sys.executable, str(SERVER), str(its.fileno()), folder.name]
        process = subprocess.Popen(
            command,
            pass_fds=[its.fileno()],
            start_new_session=True,
            env={**os.environ, "TORCH_CPP_LOG_LEVEL": "ERROR"},  # read as torch is imported
        )

    def end() -> None:
        ours.close()
        process.wait()
        folder.cleanup()

    atexit.register(end)
    return ours


class Program:
    """A Python program that runs: what of ``subprocess.Popen`` tests use, with texts.

    Args:
        arguments: what would follow ``python`` on a command line.
        cwd: its folder; this process' one by default.
        env: its environment; this process' one by default.
        stdin, stdout, stderr: ``subprocess.PIPE``, ``DEVNULL``, ``STDOUT`` or a file; by default,
            those of this process.
        start_new_session: it is in a session of its own.
    """

    def __init__(
        self,
        arguments: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: int | IO[str] | None = None,
        stdout: int | IO[str] | None = None,
        stderr: int | IO[str] | None = None,
        start_new_session: bool = False,
    ) -> None:
        self.args = list(map(str, arguments))
        self.returncode: int | Any = None  # None until it has ended
        self.stdin: IO[str] | None = None
        self.stdout: IO[str] | None = None
        self.stderr: IO[str] | None = None
        request = {
            "arguments": self.args,
            "cwd": str(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env),
            "new_session": start_new_session,
        }
        ours = [self._stream("stdin", stdin), self._stream("stdout", stdout)]
        ours.append(ours[1] if stderr == subprocess.STDOUT else self._stream("stderr", stderr))
        self._status, status = os.pipe()
        socket.send_fds(_server(), [json.dumps(request).encode()], [*ours, status])
        for fd in {*ours, status}:
            os.close(fd)
        self.pid = int(self._read_status())

    def _stream(self, name: str, wanted: int | IO[str] | None) -> int:
        """A file for the program, to be closed here once it has it."""
        if wanted == subprocess.PIPE:
            reading, writing = os.pipe()
            if name == "stdin":
                self.stdin = os.fdopen(writing, "w")
                return reading
            setattr(self, name, os.fdopen(reading))
            return writing
        if wanted == subprocess.DEVNULL:
            return os.open(os.devnull, os.O_RDWR)
        if wanted is None:
            return os.dup(("stdin", "stdout", "stderr").index(name))
        return os.dup(wanted if isinstance(wanted, int) else wanted.fileno())

    def _read_status(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            part = os.read(self._status, 1)
            if not part:
                raise AssertionError(f"the server of programs has ended: {self.args}")
            line += part
        return line

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            return self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
            self.returncode = int(self._read_status())
            os.close(self._status)
        return self.returncode

    def communicate(
        self, input: str | None = None, timeout: float | None = None
    ) -> tuple[str, str]:
        """Write to it, read all of both outputs, and wait for its end."""
        read: dict[str, str] = {}

        def read_all(name: str, file: IO[str]) -> None:
            read[name] = file.read()

        readers = [
            threading.Thread(target=read_all, args=(name, file), daemon=True)
            for name in ("stdout", "stderr")
            if (file := getattr(self, name)) is not None and not file.closed
        ]
        for reader in readers:
            reader.start()
        if self.stdin is not None and not self.stdin.closed:
            try:
                self.stdin.write(input or "")
                self.stdin.close()
            except BrokenPipeError:
                pass
        deadline_s = None if timeout is None else time.monotonic() + timeout
        for reader in readers:
            reader.join(None if deadline_s is None else max(0.0, deadline_s - time.monotonic()))
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        self.wait(None if deadline_s is None else max(0.0, deadline_s - time.monotonic()))
        self._close()
        return read.get("stdout", ""), read.get("stderr", "")

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def _close(self) -> None:
        for file in (self.stdin, self.stdout, self.stderr):
            if file is not None:
                file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()
        self.wait()


def run_program(
    *arguments: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    input: str = "",
    timeout: float | None = None,
) -> "subprocess.CompletedProcess[str]":
    """Run a Python program to its end, and return what it wrote.

    Args:
        arguments: what would follow ``python`` on a command line.
        cwd, env: see ``Program``.
        input: what it reads.
        timeout: it is killed after so many seconds.
    """
    with tempfile.TemporaryFile("w+") as into:
        into.write(input)
        into.seek(0)
        pipe = subprocess.PIPE
        program = Program(arguments, cwd=cwd, env=env, stdin=into, stdout=pipe, stderr=pipe)
        try:
            out, err = program.communicate(timeout=timeout)
        except BaseException:
            program.kill()
            raise
    return subprocess.CompletedProcess(program.args, program.returncode, out, err)
