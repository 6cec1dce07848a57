"""What is recorded when a sink is used as if it was a logger of Lightning."""

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
    """Records it in the trainer's run, once for all of its sinks.

    Args:
        metrics: take what sinks are given.
        participants: the sinks are among them.
        is_running: asked whether a run is open.
    """

    def __init__(
        self, metrics: Metrics, participants: Participants, is_running: Callable[[], bool]
    ) -> None:
        self._metrics, self._participants = metrics, participants
        self._is_running = is_running
        self._recorded: Mapping[str, Any] = {}

    def begin(self, hyperparameters: Mapping[str, Any]) -> None:
        """A run begins, which has recorded these hyperparameters."""
        self._recorded = hyperparameters

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Those that sinks were given before the run."""
        found: dict[str, Any] = {}
        for sink in self._participants.sinks:
            found |= sink.hyperparameters
        return found

    def record(self, sink: object, metrics: Mapping[str, Any], step: int | None) -> None:
        """Record metrics, at a step that was chosen or where training is."""
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
        """Record, as a text, hyperparameters that the run's begin does not have."""
        if not self._is_running():  # the next one's begin will have them
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
        """Whether it is the first sink that does what a logger would."""
        own = (entry for entry in self._participants.sinks if not isinstance(entry, LoggerSink))
        return next(own, None) is sink


def _name_of(sink: object) -> str:
    assert isinstance(sink, Sink)
    return actor_name(sink)
