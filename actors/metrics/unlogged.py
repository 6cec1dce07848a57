"""UnloggedMetrics: metrics of a Trainer that measures speed alone."""

from typing import Any

from ...bus.system.logging_setup import get_logger
from .metrics import Metrics

_log = get_logger("nightbus.metrics")


class UnloggedMetrics(Metrics):
    """Records what is put, and nothing of what is logged, which a warning says once."""

    _has_said_so = False

    def log(self, *_: Any, **__: Any) -> None:
        """Record nothing."""
        if not self._has_said_so:
            self._has_said_so = True
            _log.warning(
                "log() and log_dict() record nothing, because `Trainer(barebones=True)` is "
                "configured, which measures speed alone; leave it out for metrics"
            )
