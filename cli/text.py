"""Formats values for people, and as JSON for programs."""

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from ..bus.shown_text import plain as plain
from ..bus.shown_text import quoted

# As in shells and similar tools; __main__ explains them to users.
OK, ERROR, USAGE, LOSSY, DIFFERS, REFUSED = 0, 1, 2, 3, 4, 5
MAX_MESSAGE_CHARS = 300


def print_note(message: str) -> None:
    """Print a message on stderr."""
    print(f"nightbus: {plain(message)}", file=sys.stderr)


def print_problem(problem: str, run: Path | str, about: str = "") -> None:
    """Print what is wrong with a run, and how to look closer.

    Args:
        problem: what is wrong.
        run: its folder.
        about: a prefix that names the run or a part of it.
    """
    print_note(f"{about}{one_line(problem)}; look closer with: nightbus doctor {quoted(run)}")


def print_missing(number: int) -> None:
    """Print how many events a recording lacks, if any."""
    if number:
        are = "is" if number == 1 else "are"
        print_note(f"{how_many(number, 'event')} {are} missing in the recording")


def one_line(text: str) -> str:
    """Return the text in one line, shortened if it is long."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_MESSAGE_CHARS else f"{line[:MAX_MESSAGE_CHARS]} ..."


def how_many(number: int, what: str) -> str:
    """Return a count with its noun, such as ``1,204 steps``.

    Args:
        number: how many.
        what: the noun in the singular.
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return a duration with three or more digits, in a fitting unit."""
    if seconds >= 3600:
        return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"
    if seconds >= 60:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def size(number_of_bytes: float) -> str:
    """Return a size such as ``1.2 MB``."""
    amount = float(number_of_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} TB"


def as_json(value: object) -> str:
    """Return indented JSON and a newline."""
    return json.dumps(_for_json(value), indent=2) + "\n"


def as_json_line(value: object) -> str:
    """Return JSON in one line and a newline."""
    return json.dumps(_for_json(value), separators=(",", ":")) + "\n"


def _for_json(value: object) -> Any:
    import msgspec

    # Everything outside ASCII is escaped: lone surrogates have no other form, and characters that
    # change the direction of writing should not be shown raw.
    return finite(msgspec.to_builtins(value))


def moment(wall_ns: int, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Return a local time as text; a time outside the calendar as a number.

    Args:
        wall_ns: ns since 1970.
        form: of ``strftime``.
    """
    try:
        return f"{datetime.fromtimestamp(wall_ns / 1e9).astimezone():{form}}"
    except (ValueError, OverflowError, OSError):
        return f"{wall_ns / 1e9:.6g} s"


def finite(value: Any) -> Any:
    """Return the value with NaN and infinities, which JSON has no numbers for, as strings."""
    if isinstance(value, float) and value - value != 0:
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [finite(entry) for entry in value]
    return value


def cell(value: Any) -> str:
    """Return a value of any type in one line, for a table.

    Args:
        value: the value; None leaves the cell empty.
    """
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple | list):
        value = ", ".join(map(str, value))
    return plain(one_line(str(value)))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> None:
    """Print a table, whose columns are as wide as what is in them.

    Without rich, which takes longer to load than most tables to make.

    Args:
        header: the titles of the columns.
        rows: a text for each of them.
        left: the number of columns that are aligned left; the others are aligned right.
    """
    titles = [plain(title) for title in header]
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    signs = "<" * left + ">" * (len(widths) - left)
    form = "  ".join(f"{{:{sign}{width}}}" for sign, width in zip(signs, widths, strict=False))
    sys.stdout.write("".join(f"{form.format(*row).rstrip()}\n" for row in (titles, *rows)))
