"""LoggerSink: a Lightning logger as a sink."""

from collections.abc import Mapping
from typing import Any

from ..bus.actor import actor_name
from ..bus.events import Event, Media, Put, RunEnded, RunStarted
from ..bus.media import EncodedMedia
from ..bus.runs.cursor import PlainState
from .sink import Sink
from .step_rows import StepRow, StepRows, is_extreme


class LoggerSink(Sink):
    """Carries metrics and hyperparameters to a Lightning logger, on the bus thread.

    ``Trainer(logger=TensorBoardLogger("logs"))`` means this. ``log_hyperparams`` is called when
    the run begins, ``log_metrics`` once for each step, with ``epoch`` among the metrics, ``save``
    after each delivery, ``finalize`` at the end. Media are carried to a logger that has
    ``log_media(event)``, as those of nightbus do; put them to ``self.logger.experiment`` of others.

    A logger of nightbus records the calls that training makes on it. They come back from the log,
    and go past its ``log_metrics``, which a subclass may override, to ``write_metrics``.

    Args:
        logger: has ``log_metrics(metrics, step)``; ``log_hyperparams(params)``, ``save()`` and
            ``finalize(status)`` are called if it has them.

    Attributes:
        hparams_of_run: the run's hyperparameters with their structure, if it is known.
    """

    events: tuple[type[Event], ...] = (Put, Media, RunStarted, RunEnded)
    hparams_of_run: Mapping[str, Any] | None = None

    def __init__(self, logger: Any) -> None:
        self.logger = logger
        self._rows = StepRows()
        self._called = StepRows()  # what came by calls on the logger itself
        self._stage = ""
        self._has_news = False
        self._status = "success"
        self._writes = getattr(logger, "write_metrics", None)
        if self._writes is not None:
            logger._sink = self

    @property
    def records_calls(self) -> bool:
        """True on the training thread of an open run."""
        return self._nightbus_for_loggers is not None and self._nightbus_for_loggers.is_recording()

    def record_call(self, metrics: Mapping[str, Any], step: int | None) -> None:
        """Record metrics that the logger was called with.

        Args:
            metrics: value of each metric.
            step: their step; the current one if None.
        """
        assert self._nightbus_for_loggers is not None
        self._nightbus_for_loggers.record(self, metrics, step)

    def record_media(self, media: Mapping[str, EncodedMedia], step: int | None) -> None:
        """Record media that the logger was called with.

        Args:
            media: kind and bytes of each, by name.
            step: their step; the current one if None.
        """
        assert self._nightbus_for_loggers is not None
        self._nightbus_for_loggers.record_media(self, media, step)

    def record_hyperparameters(self, given: Mapping[str, Any]) -> None:
        """Record hyperparameters that the logger was called with.

        Args:
            given: name -> value.
        """
        assert self._nightbus_for_loggers is not None
        self._nightbus_for_loggers.record_hyperparameters(self, given)

    def write(self, batch: list[Put | Media | RunStarted | RunEnded]) -> None:
        for event in batch:
            if type(event) is Put:
                if self._writes is not None and event.source == actor_name(self):
                    self._log_called(self._called.add(event, self.wall_ns(event)))
                else:
                    self._log_stage(event.stage)
                    self._log(self._rows.add(event, self.wall_ns(event)))
                continue
            self.finish()
            if type(event) is Media:
                self._call("log_media", event)
                self._has_news = True
            elif type(event) is RunStarted:
                self._status = "failed"  # until RunEnded says otherwise
                if event.hparams and event.attempt == 0:
                    known = self.hparams_of_run
                    self._call("log_hyperparams", dict(event.hparams if known is None else known))
                self._has_news = True
            elif type(event) is RunEnded:
                self._status = "failed" if event.how == "failed" else "success"

    def finish(self) -> None:
        """Hand over the last rows, which are complete now."""
        self._log(self._rows.end())
        self._log_called(self._called.end())

    def _log_stage(self, stage: str) -> None:
        """Hand over the row of another stage, which is complete now."""
        if stage != self._stage:
            self._log(self._rows.end())
            self._stage = stage

    def _log_called(self, row: StepRow | None) -> None:
        if row is not None and self._writes is not None:
            self._writes(row.values, row.step)
            self._has_news = True

    def _log(self, row: StepRow | None) -> None:
        if row is None:
            return
        try:
            self.logger.log_metrics(metrics={**row.values, "epoch": row.epoch}, step=row.step)
        except (OverflowError, ValueError, TypeError) as error:
            if not is_extreme(row):
                raise
            self.refuse(row.values, row.step, error)
        self._has_news = True

    def flush(self) -> None:
        if self._has_news:
            self._has_news = False
            self._call("save")

    def close(self) -> None:
        self._call("finalize", self._status)

    def _call(self, method: str, *arguments: Any) -> None:
        if (found := getattr(self.logger, method, None)) is not None:
            found(*arguments)

    def state(self) -> PlainState:
        called = {f"called_{name}": value for name, value in self._called.state().items()}
        return {**self._rows.state(), **called, "stage": self._stage}

    def load_state(self, state: PlainState) -> None:
        self._rows.load_state(state)
        own = {k.removeprefix("called_"): v for k, v in state.items() if k.startswith("called_")}
        self._called.load_state(own)
        self._stage = str(state.get("stage", ""))
