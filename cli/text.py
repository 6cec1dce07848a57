"""How values are shown to people, and to programs as JSON."""

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from ..bus.shown_text import plain as plain
from ..bus.shown_text import quoted

# As shells and the other tools of this kind have them; __main__ explains them to users.
OK, ERROR, USAGE, LOSSY, DIFFERS, REFUSED = 0, 1, 2, 3, 4, 5
MAX_MESSAGE_CHARS = 300


def tell(message: str) -> None:
    """Say something to the person at the terminal."""
    print(f"nightbus: {plain(message)}", file=sys.stderr)


def tell_problem(problem: str, run: Path | str, about: str = "") -> None:
    """Say what is wrong with a run, and how to look closer.

    Args:
        problem: what is wrong.
        run: its folder.
        about: which run or part of it, to begin with.
    """
    tell(f"{about}{one_line(problem)}; look closer with: nightbus doctor {quoted(run)}")


def tell_missing(number: int) -> None:
    """Say how many events a recording lacks, if it does."""
    if number:
        are = "is" if number == 1 else "are"
        tell(f"{how_many(number, 'event')} {are} missing in the recording")


def one_line(text: str) -> str:
    """The text in one line, and not a long one."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_MESSAGE_CHARS else f"{line[:MAX_MESSAGE_CHARS]} ..."


def how_many(number: int, what: str) -> str:
    """``1,204 steps``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """A duration with three digits or more, in the unit that suits it."""
    if seconds >= 3600:
        return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"
    if seconds >= 60:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def size(number_of_bytes: int) -> str:
    """``1.2 MB``."""
    amount = float(number_of_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} TB"


def as_json(value: object) -> str:
    """Indented JSON, and a newline."""
    return json.dumps(_for_json(value), indent=2) + "\n"


def as_json_line(value: object) -> str:
    """JSON in one line, and a newline."""
    return json.dumps(_for_json(value), separators=(",", ":")) + "\n"


def _for_json(value: object) -> Any:
    import msgspec

    # What is beyond ASCII is escaped: half a surrogate pair has no other form, and what changes the
    # direction of writing should have none.
    return finite(msgspec.to_builtins(value))


def moment(wall_ns: int, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """A time since 1970 in ns as the clock here says it; one that no calendar has, as a number."""
    try:
        return f"{datetime.fromtimestamp(wall_ns / 1e9).astimezone():{form}}"
    except (ValueError, OverflowError, OSError):
        return f"{wall_ns / 1e9:.6g} s"


def finite(value: Any) -> Any:
    """The same with NaN and infinities, which JSON has no numbers for, as strings."""
    if isinstance(value, float) and value - value != 0:
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [finite(entry) for entry in value]
    return value
