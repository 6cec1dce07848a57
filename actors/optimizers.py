"""What ``configure_optimizers`` returned, checked and in one form."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from torch.optim import LBFGS, Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from ..bus.errors import UsageError
from ..bus.logging_setup import get_logger
from ..bus.routes import HookHandler

if TYPE_CHECKING:
    from .device import Device

_log = get_logger("nightbus.optimizers")
_SCHEDULER_KEYS = {"scheduler", "interval", "frequency", "monitor", "strict", "name"}


class LRSchedulerConfig(msgspec.Struct):
    """One scheduler and when it advances.

    Attributes:
        scheduler: the torch scheduler.
        interval: ``epoch`` or ``step``.
        frequency: every so many epochs or steps.
        monitor: metric that ReduceLROnPlateau is given.
        strict: whether a missing monitor is an error.
        name: for callbacks that show the learning rate.
    """

    scheduler: Any
    interval: str = "epoch"
    frequency: int = 1
    monitor: str | None = None
    strict: bool = True
    name: str | None = None

    @property
    def needs_metric(self) -> bool:
        """Whether its step takes a metric."""
        return isinstance(self.scheduler, ReduceLROnPlateau)


class SteppingOptimizer:
    """An optimizer as ``optimizer_step`` overrides get it: its step respects the precision.

    Everything else is the wrapped optimizer's.
    """

    def __init__(self, optimizer: Optimizer, device: "Device") -> None:
        self.optimizer = optimizer
        self._device = device

    def step(self, closure: Any = None) -> Any:
        """Step the wrapped optimizer."""
        return self._device.step(self.optimizer, closure)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["optimizer"], name)


def default_step(optimizers: Sequence[Optimizer]) -> HookHandler:
    """What ``optimizer_step`` does when the module does not override it.

    torch's own optimizers, LBFGS apart, evaluate a closure once and first thing. Doing that for
    them saves a change of grad mode, 3 us a step, and is the same to the bit.
    """
    if optimizers and all(_evaluates_closure_once(optimizer) for optimizer in optimizers):

        def evaluate_then_step(
            epoch: int, batch_idx: int, optimizer: Any, optimizer_idx: int, closure: Any
        ) -> None:
            closure()
            optimizer.step()

        return evaluate_then_step

    def step(epoch: int, batch_idx: int, optimizer: Any, optimizer_idx: int, closure: Any) -> None:
        optimizer.step(closure)

    return step


def _evaluates_closure_once(optimizer: Optimizer) -> bool:
    kind = type(optimizer)
    return kind.__module__.startswith("torch.optim.") and not isinstance(optimizer, LBFGS)


def parse_optimizers(returned: Any) -> tuple[list[Optimizer], list[LRSchedulerConfig]]:
    """Bring the forms of ``configure_optimizers`` into one.

    Args:
        returned: an optimizer; a list or tuple of them; two lists, of optimizers and schedulers;
            a dict with ``optimizer`` and maybe ``lr_scheduler``; or None.

    Raises:
        UsageError: it is none of these, or a scheduler's configuration is wrong.
    """
    if returned is None:
        _log.warning("configure_optimizers returned None; training runs without an optimizer")
        return [], []
    if isinstance(returned, Optimizer):
        return [returned], []
    if isinstance(returned, Mapping):
        return _from_dicts([returned])
    if isinstance(returned, Sequence):
        if len(returned) == 2 and all(isinstance(part, list | tuple) for part in returned):
            optimizers, schedulers = returned
            _check_optimizers(optimizers)
            return list(optimizers), [_scheduler_config(entry) for entry in schedulers]
        if returned and all(isinstance(entry, Mapping) for entry in returned):
            return _from_dicts(returned)
        _check_optimizers(returned)
        return list(returned), []
    raise UsageError(
        f"configure_optimizers returned {type(returned).__name__}; expected an optimizer, a list "
        "of them, two lists (optimizers, schedulers), a dict with 'optimizer', or None"
    )


def _check_optimizers(entries: Sequence[Any]) -> None:
    for entry in entries:
        if not isinstance(entry, Optimizer):
            raise UsageError(
                f"configure_optimizers returned {type(entry).__name__} where an optimizer is "
                "expected"
            )


def _from_dicts(
    entries: Sequence[Mapping[str, Any]],
) -> tuple[list[Optimizer], list[LRSchedulerConfig]]:
    optimizers: list[Optimizer] = []
    schedulers: list[LRSchedulerConfig] = []
    for entry in entries:
        if "optimizer" not in entry:
            raise UsageError(
                f"configure_optimizers returned a dict without 'optimizer': {sorted(entry)}"
            )
        if "frequency" in entry:
            raise UsageError(
                "optimizer frequencies are not supported; step the optimizers by hand instead"
            )
        _check_optimizers([entry["optimizer"]])
        optimizers.append(entry["optimizer"])
        if entry.get("lr_scheduler") is not None:
            config = _scheduler_config(entry["lr_scheduler"])
            if "monitor" in entry and config.monitor is None:
                config.monitor = entry["monitor"]
            schedulers.append(config)
    return optimizers, schedulers


def _scheduler_config(entry: Any) -> LRSchedulerConfig:
    if isinstance(entry, Mapping):
        unknown = set(entry) - _SCHEDULER_KEYS - {"reduce_on_plateau"}
        if unknown or "scheduler" not in entry:
            raise UsageError(
                f"an lr_scheduler dict has {', '.join(sorted(_SCHEDULER_KEYS))}; this one has "
                f"{', '.join(sorted(map(str, entry)))}"
            )
        config = LRSchedulerConfig(**{k: v for k, v in entry.items() if k in _SCHEDULER_KEYS})
    else:
        config = LRSchedulerConfig(entry)
    scheduler = config.scheduler
    if not isinstance(scheduler, LRScheduler) and not hasattr(scheduler, "step"):
        raise UsageError(f"{type(scheduler).__name__} is no scheduler: it has no step()")
    if config.interval not in ("epoch", "step"):
        raise UsageError(f"a scheduler's interval is 'epoch' or 'step', not {config.interval!r}")
    if config.frequency < 1:
        raise UsageError(f"a scheduler's frequency is at least 1, not {config.frequency}")
    if config.needs_metric and config.monitor is None:
        raise UsageError(
            "ReduceLROnPlateau needs to know what to watch: return "
            '{"optimizer": ..., "lr_scheduler": {"scheduler": ..., "monitor": "val_loss"}}'
        )
    return config


def monitored_value(config: LRSchedulerConfig, recorded: Mapping[str, Any]) -> Any:
    """The metric that a scheduler is given, or None if it takes none or there is none.

    Raises:
        UsageError: the monitor was never recorded and the configuration is strict.
    """
    if not config.needs_metric or config.monitor is None:
        return None
    if config.monitor in recorded:
        return recorded[config.monitor]
    known = ", ".join(sorted(recorded)) or "nothing yet"
    message = (
        f"{type(config.scheduler).__name__} monitors {config.monitor!r}, which was not recorded; "
        f"recorded: {known}"
    )
    if config.strict:
        raise UsageError(message + "; log it, or set strict=False to skip the scheduler")
    _log.warning(message)
    return None
