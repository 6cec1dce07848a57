"""Messages that must be seen at once: on stderr, past whoever draws there."""

import contextlib
import os

STDERR = 2
_ERASE_LINE, _UP = "\r\x1b[2K", "\x1b[1A"


class _Drawing:
    """How many lines at the terminal's end are drawn again and again; 0 when none are."""

    lines = 0


def drawn_lines(count: int) -> None:
    """Tell of the lines that are drawn at the end of the terminal that stderr is.

    Args:
        count: how many; the cursor is in the last of them. 0 when they are gone.
    """
    _Drawing.lines = count


def write_urgently(message: str) -> None:
    """Write a message on stderr from any thread, or from a signal's handler that may have come in
    the middle of a print. On a terminal it begins a line, whatever a key has left there; it takes
    the place of lines that are drawn, which come again below it.
    """
    text = f"nightbus: {message}\n"
    if lines := _Drawing.lines:
        # Who draws them next goes up from the last one, so the cursor has to be as far down.
        text = _ERASE_LINE + (_UP + _ERASE_LINE) * (lines - 1) + text + "\n" * (lines - 1)
    elif os.isatty(STDERR):
        text = "\n" + text
    with contextlib.suppress(OSError):  # there is no stderr: then nobody listens
        os.write(STDERR, text.encode(errors="backslashreplace"))
