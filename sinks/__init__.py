"""Sinks: actors that carry events to a destination."""

from typing import TYPE_CHECKING

from .._lazy import lazy_names

if TYPE_CHECKING:
    from .csv import CSV as CSV
    from .json_lines import JSONLines as JSONLines
    from .progress_bar import ProgressBar as ProgressBar
    from .sink import Sink as Sink

__getattr__ = lazy_names(
    __name__,
    {
        "CSV": ".csv",
        "JSONLines": ".json_lines",
        "ProgressBar": ".progress_bar",
        "Sink": ".sink",
    },
)
__all__ = ["CSV", "JSONLines", "ProgressBar", "Sink"]
