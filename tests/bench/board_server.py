"""A board in a process of its own, asked as its page asks it."""

import http.client
import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

_TICKS = os.sysconf("SC_CLK_TCK")


class Board:
    """A board that serves a folder of runs.

    Args:
        process: in which it runs.
        address: to open.
    """

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.process, self.address = process, address
        where = urlsplit(address)
        assert where.hostname is not None
        self.host, self.port = where.hostname, where.port
        self._headers = {"Authorization": f"Bearer {where.fragment.partition('=')[2]}"}

    def ask(self, path: str, **asked: Any) -> bytes:
        """The answer to a question."""
        connection = self.stream(path, **asked)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        assert answer.status == 200, content
        return content

    def stream(self, path: str, **asked: Any) -> http.client.HTTPConnection:
        """A connection on which a question has been sent."""
        connection = http.client.HTTPConnection(self.host, self.port)
        connection.request(
            "GET", f"/api/{path}?{urlencode(asked, doseq=True)}", None, self._headers
        )
        return connection

    def curve(self, metric: str, key: str) -> dict[str, Any]:
        """What is said of a curve: how many points it has, and whether all was read."""
        answer = self.ask("curves", metric=metric, run=key, stretches=800)
        (length,) = struct.unpack_from("<I", answer)
        entry: dict[str, Any] = json.loads(answer[4 : 4 + length])["entries"][0]
        return entry

    @property
    def cpu_s(self) -> float:
        """Processor time that it has taken."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    @property
    def memory_mb(self) -> float:
        """Memory that it takes now."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        (resident,) = [line.split()[1] for line in lines if line.startswith("VmRSS")]
        return int(resident) / 1024


@contextmanager
def serving(runs: Path) -> Iterator[Board]:
    """A board of a folder of runs, until the block ends."""
    command = [sys.executable, "-m", "nightbus", "board", str(runs), "--port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield Board(process, json.loads(process.stdout.readline())["address"])
    finally:
        process.terminate()
        process.wait()


def first_curve_s(board: Board, metric: str, key: str) -> tuple[float, float, float]:
    """Seconds to the first points of a curve and to all of it, and processor time of the board."""
    begin_s, before_s, first_s = time.perf_counter(), board.cpu_s, 0.0
    while True:
        said = board.curve(metric, key)
        passed_s = time.perf_counter() - begin_s
        first_s = first_s or (passed_s if said["points"] else 0.0)
        if said["is_read"]:
            return first_s, passed_s, board.cpu_s - before_s
