"""Messages that must be seen at once, written on stderr in spite of anything drawn there."""

import contextlib
import os
from collections.abc import Callable

STDOUT, STDERR = 1, 2
_ERASE_LINE, _UP = "\r\x1b[2K", "\x1b[1A"


class _Drawing:
    """The number of lines drawn again and again at the terminal's end; 0 if there are none."""

    lines = 0
    is_over = False
    above: Callable[[str], None] | None = None


def drawn_lines(count: int, above: Callable[[str], None] | None = None) -> None:
    """Record how many lines are drawn at the end of the terminal that stderr is.

    Args:
        count: number of lines; the cursor is in the last one. 0 once they are gone.
        above: prints whole lines above them, from any thread.
    """
    _Drawing.above, _Drawing.lines = above, count


def is_drawn() -> bool:
    """Return whether lines are drawn, which what is printed has to go above."""
    return _Drawing.lines > 0 and _Drawing.above is not None and not _Drawing.is_over


def print_above(lines: str) -> None:
    """Print whole lines above what is drawn, if anything is.

    Args:
        lines: the text, without its last newline.
    """
    above = _Drawing.above if is_drawn() else None
    if above is None:
        write_all(f"{lines}\n".encode(errors="backslashreplace"))
    else:
        above(lines)


def write_all(text: bytes) -> None:
    """Write on stderr, if there is one.

    Args:
        text: the text.
    """
    with contextlib.suppress(OSError):
        while text:
            text = text[os.write(STDERR, text) :]


def end_drawing() -> None:
    """Erase drawn lines, and have none drawn from now on; from any thread.

    Other processes write on the same terminal at their end, and drawing would erase that.
    """
    _Drawing.is_over = True
    lines, _Drawing.lines = _Drawing.lines, 0
    if lines:
        with contextlib.suppress(OSError):
            os.write(STDERR, (_ERASE_LINE + (_UP + _ERASE_LINE) * (lines - 1)).encode())


def drawing_is_over() -> bool:
    """Return whether nothing may be drawn any more."""
    return _Drawing.is_over


def write_urgently(message: str) -> None:
    """Write a message on stderr, from any thread or from a signal handler.

    The handler may run in the middle of a print. On a terminal the message begins a line, and
    replaces drawn lines, which are drawn again below it.
    """
    text = f"nightbus: {message}\n"
    if lines := _Drawing.lines:
        # Drawing them again starts by moving up from the last one, so the cursor has to be there.
        text = _ERASE_LINE + (_UP + _ERASE_LINE) * (lines - 1) + text + "\n" * (lines - 1)
    elif os.isatty(STDERR):
        text = "\n" + text
    with contextlib.suppress(OSError):  # there is no stderr
        os.write(STDERR, text.encode(errors="backslashreplace"))
