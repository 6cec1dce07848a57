"""Records metrics and hyperparameters of sinks that are used as loggers of Lightning."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from ..actors.arguments import as_plain
from ..actors.metrics.metrics import Metrics
from ..bus.actor import actor_name
from ..bus.media import encode_text
from ..sinks.logger_sink import LoggerSink
from ..sinks.sink import Sink
from .participants import Participants


class ForLoggers:
    """Records the calls of logger methods in the trainer's run, once for all of its sinks.

    Args:
        metrics: records the values.
        participants: contains the sinks.
        is_running: returns whether a run is open.
    """

    def __init__(
        self, metrics: Metrics, participants: Participants, is_running: Callable[[], bool]
    ) -> None:
        self._metrics, self._participants = metrics, participants
        self._is_running = is_running
        self._recorded: Mapping[str, Any] = {}

    def begin(self, hyperparameters: Mapping[str, Any]) -> None:
        """Remember the hyperparameters that a new run has recorded."""
        self._recorded = hyperparameters

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Hyperparameters that were given to sinks before the run."""
        found: dict[str, Any] = {}
        for sink in self._participants.sinks:
            found |= sink.hyperparameters
        return found

    def record(self, sink: object, metrics: Mapping[str, Any], step: int | None) -> None:
        """Record metrics.

        Args:
            sink: sink whose method was called.
            metrics: values by name.
            step: step of the values; None for the current one.
        """
        if not self._speaks(sink):
            return
        known = self._metrics
        before = known.step
        known.step = before if step is None else step
        try:
            for name, value in metrics.items():
                known.put(_name_of(sink), name, value, ("loggers",))
        finally:
            known.step = before

    def record_hyperparameters(self, sink: object, given: Mapping[str, Any]) -> None:
        """Record hyperparameters that the run has not recorded yet, as a text.

        Args:
            sink: sink whose method was called.
            given: hyperparameters by name.
        """
        if not self._is_running():  # the next run records them when it begins
            return
        plain = as_plain(given)
        fresh = {name: value for name, value in plain.items() if self._recorded.get(name) != value}
        if not fresh or not self._speaks(sink):
            return
        self._recorded = {**self._recorded, **fresh}
        text = json.dumps(fresh, indent=1, default=str)
        name = "hyperparameters"
        self._metrics.put_media(_name_of(sink), name, encode_text(name, text))

    def _speaks(self, sink: object) -> bool:
        """Return whether a sink is the first that does not wrap a logger; only it records."""
        own = (entry for entry in self._participants.sinks if not isinstance(entry, LoggerSink))
        return next(own, None) is sink


def _name_of(sink: object) -> str:
    assert isinstance(sink, Sink)
    return actor_name(sink)
