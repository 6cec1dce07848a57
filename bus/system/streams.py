"""Standard error and output, whatever a program has put in their place.

A Tee has no ``isatty`` or ``flush``; a window's program has None; a service closes them; a write
fails on a full disk or on letters that an ASCII terminal does not know. None of it ends a run.
"""

import contextlib
import os
import sys
from typing import Any

from .terminal_message import STDERR


def is_terminal(stream: Any) -> bool:
    """Whether a stream is a terminal; one that does not say is none."""
    try:
        return bool(stream.isatty())
    except Exception:  # of the program's own class: it has no such method, or is closed
        return False


def write_text(stream: Any, text: str) -> None:
    """Write on a stream of the program's, in letters that it knows.

    Raises:
        Exception: what the stream itself raises.
    """
    try:
        stream.write(text)
    except UnicodeEncodeError:
        stream.write(text.encode("ascii", "backslashreplace").decode())
    flush = getattr(stream, "flush", None)
    if flush is not None:
        flush()


def notify_user(message: str) -> None:
    """Print a line for people to standard error, or, where the program's own does not take it, to
    the process's. If that cannot be written either, nobody is left who could be told.
    """
    stream = sys.stderr
    if stream is None:  # as it is in a program without a console
        return
    try:
        write_text(stream, f"{message}\n")
    except OSError:  # a disk that is full, say
        return
    except Exception:
        with contextlib.suppress(OSError):
            os.write(STDERR, f"{message}\n".encode(errors="backslashreplace"))


def keep_standard_numbers() -> None:
    """Have the file descriptors of standard input, output and error taken, where a program has
    closed them: else the next file, the event log say, gets such a number, and whatever is printed
    goes into it.
    """
    with contextlib.suppress(OSError):
        while (fd := os.open(os.devnull, os.O_RDWR)) <= STDERR:
            os.set_inheritable(fd, True)
        os.close(fd)
