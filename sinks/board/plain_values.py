"""Values as JSON and a page can hold them."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from ...bus.log.summary import MetricTotal

MAX_TEXT = 20_000  # characters
MAX_DEPTH = 20  # of lists and dicts in each other
_LARGEST = 1 << 53  # the largest whole number that a page can show


def plain(value: Any, depth: int = MAX_DEPTH) -> Any:
    """Return a value as JSON and a page can hold it; numbers beyond that become texts.

    Args:
        value: of plain types.
        depth: how many lists and dicts in each other are shown; of more, dots.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) <= _LARGEST else str(value)
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, MetricTotal):
        return plain(value.last)
    if isinstance(value, str):
        return value[:MAX_TEXT].encode(errors="backslashreplace").decode()
    if isinstance(value, Mapping):
        if not depth:
            return "..."
        return {plain(str(name)): plain(each, depth - 1) for name, each in value.items()}
    if isinstance(value, Iterable):
        return [plain(each, depth - 1) for each in value] if depth else "..."
    return plain(str(value))
