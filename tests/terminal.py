"""Runs a program on a terminal, and says what is on its screen in the end."""

import fcntl
import os
import pty
import re
import select
import struct
import termios
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from helpers import DEADLINE_S
from programs import Program


class Terminal:
    """A Python program on a terminal of its own.

    Args:
        *arguments: what would follow ``python`` on a command line.
        columns: the terminal's width.
        stdout: a file, instead of the terminal.
        cwd: the program's folder; this process' one by default.
        env: the program's environment, but for what tells of the terminal.
    """

    def __init__(
        self,
        *arguments: str | Path,
        columns: int = 80,
        stdout: Any = None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        given = os.environ if env is None else env
        environment = {k: v for k, v in given.items() if k not in ("COLUMNS", "LINES")}
        self.process = Program(
            [*map(str, arguments)],
            stdin=slave,
            stdout=stdout or slave,
            stderr=slave,
            env={**environment, "TERM": "xterm-256color"},
            start_new_session=True,
            cwd=cwd,
        )
        os.close(slave)
        self._ready = select.poll()  # select knows no more than 1,024 files
        self._ready.register(self.master, select.POLLIN)
        self.output = ""

    def read_until(self, text: str | None) -> str:
        """What the terminal got, up to a text, or up to the process's end."""
        deadline_s = time.monotonic() + DEADLINE_S
        while text is None or text not in self.output:
            if not self._ready.poll(max(0.0, deadline_s - time.monotonic()) * 1e3):
                raise TimeoutError(f"{text!r} did not come; got {self.output!r}")
            try:
                data = os.read(self.master, 65536)
            except OSError:  # Linux' way to say that nobody holds the other end
                data = b""
            if not data:
                break
            self.output += data.decode(errors="replace")
        return self.output

    def finish(self) -> str:
        """Everything it got, once the process has ended."""
        output = self.read_until(None)
        self.process.wait(DEADLINE_S)
        os.close(self.master)
        return output


def screen(output: str) -> list[str]:
    """The lines that a terminal shows in the end, of the sequences that the bar uses."""
    lines, row, column = [""], 0, 0
    for control, char in re.findall(r"\x1b\[([?\d;]*[A-Za-z])|([^\x1b])", output):
        if control == "2K":
            lines[row] = ""
        elif control.endswith("A"):
            row -= int(control[:-1])
            assert row >= 0
        elif char == "\r":
            column = 0
        elif char == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif char:
            line = lines[row].ljust(column)
            lines[row] = line[:column] + char + line[column + 1 :]
            column += 1
    return [line.rstrip() for line in lines if line.strip()]
