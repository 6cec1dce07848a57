"""UnloggedMetrics: metrics of a Trainer that measures speed alone."""

from typing import Any

from ...bus.system.logging_setup import get_logger, hands_warnings_on
from .metrics import Metrics

_log = get_logger("nightbus.metrics")


class UnloggedMetrics(Metrics):
    """Records what is put, and nothing of what is logged, which a warning says.

    It does so once, unless Python's filters choose how often a warning is shown.
    """

    _has_said_so = False

    def log(self, *_: Any, **__: Any) -> None:
        """Record nothing."""
        if not self._has_said_so or hands_warnings_on():
            self._has_said_so = True
            _log.warning(
                "log() and log_dict() record nothing, because `Trainer(barebones=True)` is "
                "configured, which measures speed alone; leave it out for metrics"
            )
