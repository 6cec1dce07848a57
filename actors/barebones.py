"""``barebones``: a Trainer for measuring speed, without anything that costs time."""

from collections.abc import Mapping
from typing import Any

from ..bus.errors import UsageError
from ..bus.system.streams import notify_once

_REFUSED = (
    "logger",
    "enable_checkpointing",
    "enable_progress_bar",
    "enable_model_summary",
    "num_sanity_val_steps",
    "fast_dev_run",
    "detect_anomaly",
    "profiler",
    "log_every_n_steps",
)
_MEANS: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "recording": "off",
    "control": False,
}


def barebones_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``barebones=True`` means in the Trainer's other arguments.

    Args:
        given: arguments of the user.

    Raises:
        UsageError: one of them takes time.
    """
    for name in _REFUSED:
        if given.get(name):
            raise UsageError(
                f"Trainer(barebones=True, {name}={given[name]!r}): barebones measures speed alone, "
                f"and {name} takes time; leave one of them out"
            )
    notify_once(
        "nightbus: Trainer(barebones=True) measures speed alone: no event log, checkpoints, "
        "loggers, progress bar, summary or sanity check"
    )
    return {name: value for name, value in _MEANS.items() if given.get(name) is None}
