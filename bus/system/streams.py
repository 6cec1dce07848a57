"""Writes to standard error and output, whatever a program has replaced them with.

A Tee has no ``isatty`` or ``flush``; a program without a console has None; a service closes them; a
write fails on a full disk or on characters that an ASCII terminal does not have. None of this ends
a run.
"""

import contextlib
import os
import sys
from typing import Any

from .terminal_message import STDERR


def is_terminal(stream: Any) -> bool:
    """Return whether a stream is a terminal; one that cannot tell is not."""
    try:
        return bool(stream.isatty())
    except Exception:  # of the program's own class, which has no such method or is closed
        return False


def write_text(stream: Any, text: str) -> None:
    """Write on one of the program's streams, in characters that it has.

    Args:
        stream: the stream.
        text: the text.

    Raises:
        Exception: whatever the stream raises.
    """
    try:
        stream.write(text)
    except UnicodeEncodeError:
        stream.write(text.encode("ascii", "backslashreplace").decode())
    flush = getattr(stream, "flush", None)
    if flush is not None:
        flush()


def notify_user(message: str) -> None:
    """Print a line for people on standard error.

    If the program's own stream does not take it, the process's is used; if that fails too, the line
    is lost.
    """
    stream = sys.stderr
    if stream is None:  # in a program without a console
        return
    try:
        write_text(stream, f"{message}\n")
    except OSError:  # for example a full disk
        return
    except Exception:
        with contextlib.suppress(OSError):
            os.write(STDERR, f"{message}\n".encode(errors="backslashreplace"))


_TOLD: set[str] = set()


def notify_once(message: str) -> None:
    """Print a line for people on standard error, the first time that this process has it.

    Args:
        message: as for ``notify_user``.
    """
    if message not in _TOLD:
        _TOLD.add(message)
        notify_user(message)


def keep_standard_numbers() -> None:
    """Occupy the file descriptors of standard input, output and error if a program has closed them.

    Otherwise the next file, for example the event log, would get such a number, and printed text
    would be written into it.
    """
    with contextlib.suppress(OSError):
        while (fd := os.open(os.devnull, os.O_RDWR)) <= STDERR:
            os.set_inheritable(fd, True)
        os.close(fd)
