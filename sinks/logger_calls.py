"""What modules and scripts ask of a logger of Lightning, asked of a sink."""

from collections.abc import Mapping
from typing import Any, Protocol

from ..bus.errors import OutsideRunError, UsageError


class ForLoggers(Protocol):
    """Does it in a run."""

    def record(self, sink: object, metrics: Mapping[str, Any], step: int | None) -> None:
        """Record metrics for sinks."""

    def record_hyperparameters(self, sink: object, given: Mapping[str, Any]) -> None:
        """Record hyperparameters that the run's begin does not have."""


class LoggerCalls:
    """The methods of a logger, for code that was written for one.

    What is recorded is for all sinks of the trainer: of several sinks that are told the same, one
    after the other, the first records it.

    Attributes:
        hyperparameters: given by ``log_hyperparams``; the begin of each run to come records them.
    """

    hyperparameters: Mapping[str, Any] = {}
    _for_loggers: ForLoggers | None = None  # while it is in a run

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Record metrics for sinks, as ``put`` does; from the training thread.

        Args:
            metrics: name -> value.
            step: which they belong to, of at least 0; that where training is if not given.

        Raises:
            OutsideRunError: nothing runs.
            UsageError: step is none.
        """
        if self._for_loggers is None:
            raise OutsideRunError(
                f"{type(self).__name__}.log_metrics() was called outside a run; call it in a hook, "
                "or record with self.log or self.put there"
            )
        if step is not None and (isinstance(step, bool) or not isinstance(step, int) or step < 0):
            raise UsageError(f"log_metrics(step={step!r}): expected an int of at least 0")
        self._for_loggers.record(self, metrics, step)

    def log_hyperparams(self, params: Any, metrics: Mapping[str, Any] | None = None) -> None:
        """Record hyperparameters: before a run, at its begin with those that the module saves; in a
        run, as a text, those that it has not recorded yet.

        Args:
            params: a mapping, or an object whose attributes they are, a Namespace say.
            metrics: recorded as by ``log_metrics``; only in a run.

        Raises:
            UsageError: params is neither.
        """
        if isinstance(params, Mapping):
            given = dict(params)
        elif hasattr(params, "__dict__"):
            given = dict(vars(params))
        else:
            raise UsageError(
                f"log_hyperparams takes a mapping or a Namespace, not {type(params).__name__}"
            )
        if self._for_loggers is not None:
            self._for_loggers.record_hyperparameters(self, given)
        self.hyperparameters = {**self.hyperparameters, **given}
        if metrics:
            self.log_metrics(metrics)

    def save(self) -> None:
        """Nothing: sinks write by themselves."""

    def finalize(self, status: str) -> None:
        """Nothing: a run's end is recorded by itself."""
