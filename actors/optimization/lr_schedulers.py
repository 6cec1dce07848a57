"""LRSchedulers: advances learning-rate schedulers, each at its time and with its metric."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ...bus.errors import UsageError
from ...bus.routes import Routes
from ...bus.system.logging_setup import get_logger

_log = get_logger("nightbus.optimizers", of_all_ranks=True)


class LRSchedulerConfig(msgspec.Struct):
    """One scheduler with its configuration.

    Attributes:
        scheduler: the torch scheduler.
        interval: ``epoch`` or ``step``: a step of the scheduler's own optimizer.
        frequency: epochs or steps between two advances.
        monitor: metric for the scheduler's step.
        strict: a missing monitor is an error; otherwise a warning is logged.
        name: for callbacks that show the learning rate.
        reduce_on_plateau: step takes the monitored value, as ReduceLROnPlateau's does.
        optimizer_idx: number of its optimizer.
    """

    scheduler: Any
    interval: str = "epoch"
    frequency: int = 1
    monitor: str | None = None
    strict: bool = True
    name: str | None = None
    reduce_on_plateau: bool = False
    optimizer_idx: int = 0

    @property
    def opt_idx(self) -> int:
        """The same as ``optimizer_idx``, as Lightning 1.x calls it."""
        return self.optimizer_idx

    @property
    def needs_metric(self) -> bool:
        """True if its step takes a metric."""
        return self.reduce_on_plateau or isinstance(self.scheduler, ReduceLROnPlateau)


class LRSchedulers:
    """Advances a run's schedulers when they are due.

    Args:
        configs: the schedulers.
        routes: calls ``lr_scheduler_step``.
        metrics: returns the latest value of each metric, for monitors.
        steps_by_optimizer: completed steps of each optimizer so far.
        is_new: tells whether a metric got a value within the last epochs; a scheduler by epochs
            does not get an old value again.
        agreed: given what it is and this rank's value, returns that of rank 0.

    Attributes:
        wants_steps: a scheduler advances with the steps.
        waiting: schedulers due after the batch's validation, if there is one.

    Raises:
        UsageError: a scheduler takes a metric, but has no monitor.
    """

    def __init__(
        self,
        configs: Sequence[LRSchedulerConfig],
        routes: Routes,
        metrics: Callable[[], Mapping[str, Any]],
        steps_by_optimizer: Sequence[int],
        is_new: Callable[[str, int], bool] = lambda monitor, epochs: True,
        agreed: Callable[[str, Any], Any] = lambda what, value: value,
    ) -> None:
        for config in configs:
            if config.needs_metric and config.monitor is None:
                raise UsageError(
                    f"{type(config.scheduler).__name__} needs a metric to monitor: return "
                    '{"optimizer": ..., "lr_scheduler": {"scheduler": ..., "monitor": "val_loss"}}'
                )
        self._by_step = [config for config in configs if config.interval == "step"]
        self._by_epoch = [config for config in configs if config.interval == "epoch"]
        self._routes = routes
        self._metrics = metrics
        self._is_new = is_new
        self._agreed = agreed
        self._seen = list(steps_by_optimizer)
        self.waiting: list[LRSchedulerConfig] = []
        self.wants_steps = bool(self._by_step)

    def after_batch(self, steps_by_optimizer: Sequence[int]) -> int:
        """Advance the schedulers that wait for the step just made; return their number.

        Those with a metric wait until ``after_validation``.
        """
        advanced = 0
        for config in self._by_step:
            seen, now = self._seen[config.optimizer_idx], steps_by_optimizer[config.optimizer_idx]
            if now // config.frequency > seen // config.frequency:
                if config.needs_metric:
                    self.waiting.append(config)
                else:
                    advanced += self._advance(config)
        self._seen = list(steps_by_optimizer)
        return advanced

    def after_validation(self) -> int:
        """Advance the schedulers with a metric after a batch's validation; return their number.

        Raises:
            UsageError: a strict monitor was never recorded.
        """
        waiting, self.waiting = self.waiting, []
        return sum(map(self._advance, waiting))

    def after_epoch(self, epochs: int, is_whole: bool = True) -> int:
        """Advance the schedulers that wait for the end of an epoch.

        Args:
            epochs: epochs completed.
            is_whole: the last epoch had all its batches; one that ended early may lack a monitor.

        Returns:
            The number of schedulers advanced.

        Raises:
            UsageError: a strict monitor was never recorded.
        """
        by_epoch = [config for config in self._by_epoch if epochs % config.frequency == 0]
        due = [c for c in by_epoch if not c.needs_metric or self._is_due(c, is_whole)]
        return sum(map(self._advance, due))

    def _is_due(self, config: LRSchedulerConfig, is_whole: bool) -> bool:
        """Return whether a scheduler's metric has got a value, on rank 0."""
        is_new = self._is_new(config.monitor or "", config.frequency)
        own = is_new and (is_whole or config.monitor in self._metrics())
        return bool(self._agreed("whether a learning rate scheduler is due", own))

    def _advance(self, config: LRSchedulerConfig) -> bool:
        metric = monitored_value(config, self._recorded_for(config))
        if metric is None and config.needs_metric:
            return False
        self._routes.call("lr_scheduler_step", config.scheduler, config.optimizer_idx, metric)
        return True

    def _recorded_for(self, config: LRSchedulerConfig) -> Mapping[str, Any]:
        """Return the latest value of each metric; of the monitored one, that of rank 0."""
        if not config.needs_metric:
            return {}
        recorded, monitor = dict(self._metrics()), config.monitor or ""
        own = recorded.pop(monitor, None)
        value = self._agreed(f"the value of {monitor}", None if own is None else float(own))
        if value is not None:
            recorded[monitor] = torch.tensor(value, dtype=torch.float64)
        return recorded


def monitored_value(config: LRSchedulerConfig, recorded: Mapping[str, Any]) -> Any:
    """Return the metric for a scheduler, or None if it takes none or there is none.

    Args:
        config: the scheduler.
        recorded: latest value of each metric.

    Raises:
        UsageError: the monitor was never recorded and the configuration is strict.
    """
    if not config.needs_metric:
        return None
    assert config.monitor is not None
    if config.monitor in recorded:
        return recorded[config.monitor]
    known = ", ".join(sorted(recorded)) or "nothing yet"
    message = (
        f"{type(config.scheduler).__name__} monitors {config.monitor!r}, which was not recorded; "
        f"recorded: {known}"
    )
    if config.strict:
        raise UsageError(
            message + "; log it, set the scheduler's frequency so that it comes after each "
            "validation (check_val_every_n_epoch by epochs, val_check_interval by steps), or set "
            "strict=False to skip the scheduler until the metric is recorded"
        )
    _log.warning(message)
    return None
