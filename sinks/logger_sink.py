"""LoggerSink: a Lightning logger as a sink."""

from typing import Any

from ..bus.events import Event, Put, RunEnded, RunStarted
from ..bus.runs.cursor import PlainState
from .sink import Sink
from .step_rows import StepRow, StepRows, is_extreme


class LoggerSink(Sink):
    """Carries metrics and hyperparameters to a Lightning logger, on the bus thread.

    ``Trainer(logger=TensorBoardLogger("logs"))`` means this. ``log_hyperparams`` is called when
    the run begins, ``log_metrics`` once for each step, with ``epoch`` among the metrics, ``save``
    after each delivery, ``finalize`` at the end. Media are not carried; put them to
    ``self.logger.experiment`` as before, or choose a sink that takes them.

    Args:
        logger: has ``log_metrics(metrics, step)``; ``log_hyperparams(params)``, ``save()`` and
            ``finalize(status)`` are called if it has them.
    """

    events: tuple[type[Event], ...] = (Put, RunStarted, RunEnded)

    def __init__(self, logger: Any) -> None:
        self.logger = logger
        self._rows = StepRows()
        self._has_news = False
        self._status = "success"

    def write(self, batch: list[Put | RunStarted | RunEnded]) -> None:
        for event in batch:
            if type(event) is Put:
                self._log(self._rows.add(event, self.wall_ns(event)))
                continue
            self._log(self._rows.end())
            if type(event) is RunStarted:
                self._status = "failed"  # until RunEnded says otherwise
                if event.hparams and event.attempt == 0:
                    self._call("log_hyperparams", dict(event.hparams))
            elif type(event) is RunEnded:
                self._status = "failed" if event.how == "failed" else "success"

    def finish(self) -> None:
        """Hand over the last row, which is complete now."""
        self._log(self._rows.end())

    def _log(self, row: StepRow | None) -> None:
        if row is None:
            return
        try:
            self.logger.log_metrics({**row.values, "epoch": row.epoch}, step=row.step)
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
        return self._rows.state()

    def load_state(self, state: PlainState) -> None:
        self._rows.load_state(state)
