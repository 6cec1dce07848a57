"""Checks what ``configure_optimizers`` returned, and converts it to one form."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from torch.optim import Optimizer

from ...bus.errors import UsageError
from ...bus.system.logging_setup import get_logger
from .lr_schedulers import LRSchedulerConfig

_log = get_logger("nightbus.optimizers", of_all_ranks=True)
_SCHEDULER_KEYS = {
    "scheduler",
    "interval",
    "frequency",
    "monitor",
    "strict",
    "name",
    "reduce_on_plateau",
}
_OPTIMIZER_KEYS = {"optimizer", "lr_scheduler", "monitor", "frequency"}


class ConfiguredOptimizers(NamedTuple):
    """The optimizers and schedulers of ``configure_optimizers``.

    Attributes:
        optimizers: in order; the position is the ``optimizer_idx``.
        schedulers: of any of them.
        frequencies: number of consecutive batches for each optimizer; empty if all are used on
            every batch.
    """

    optimizers: list[Optimizer]
    schedulers: list[LRSchedulerConfig]
    frequencies: list[int]

    @property
    def cycle(self) -> list[int]:
        """Return the optimizer of each batch of a cycle of frequencies; empty if all are used."""
        return [idx for idx, n in enumerate(self.frequencies) for _ in range(n)]


def parse_optimizers(returned: Any) -> ConfiguredOptimizers:
    """Convert the forms of ``configure_optimizers`` to one.

    Args:
        returned: an optimizer; a list or tuple of them; two lists, of optimizers and of schedulers
            or their configurations; a dict with ``optimizer`` and optionally ``lr_scheduler``;
            several of these dicts, optionally with ``frequency``; or None.

    Raises:
        UsageError: it is none of these, or a scheduler's configuration is wrong.
    """
    if returned is None:
        _log.warning("configure_optimizers returned None; training will run with no optimizer")
        return ConfiguredOptimizers([], [], [])
    if isinstance(returned, Optimizer):
        return ConfiguredOptimizers([returned], [], [])
    if isinstance(returned, Mapping):
        return _from_dicts([returned])
    if isinstance(returned, list | tuple):
        if len(returned) == 2 and isinstance(returned[0], list | tuple):
            optimizers, schedulers = returned
            if not isinstance(schedulers, list | tuple):
                schedulers = [schedulers]
            _check_optimizers(optimizers)
            configs = [_scheduler_config(entry, optimizers) for entry in schedulers]
            return ConfiguredOptimizers(list(optimizers), configs, [])
        if returned and all(isinstance(entry, Mapping) for entry in returned):
            return _from_dicts(returned)
        if returned:
            _check_optimizers(returned)
            return ConfiguredOptimizers(list(returned), [], [])
    if isinstance(returned, type):
        raise UsageError(
            f"configure_optimizers returned the class {returned.__name__}; return an instance of "
            f"it: {returned.__name__}(self.parameters(), ...)"
        )
    shown = "an empty list" if isinstance(returned, list | tuple) else type(returned).__name__
    if isinstance(returned, Iterator):
        shown += ", which can be read only once: return a list, without yield"
    raise UsageError(
        f"configure_optimizers returned {shown}; expected an optimizer, a list of them, two lists "
        "(optimizers, schedulers), a dict with 'optimizer', several of these, or None"
    )


def _check_optimizers(entries: Sequence[Any]) -> None:
    for entry in entries:
        if not isinstance(entry, Optimizer):
            raise UsageError(
                f"configure_optimizers returned {type(entry).__name__} where an optimizer is "
                "expected"
            )


def check_schedulers(configs: Sequence[LRSchedulerConfig], is_manual: bool) -> None:
    """Refuse schedulers that cannot be advanced, and warn of options that nobody will read.

    Args:
        configs: the schedulers of a run.
        is_manual: the module's own code advances them.

    Raises:
        UsageError: one has no ``step``, and is to be advanced.
    """
    for config in configs:
        kind = type(config.scheduler).__name__
        if not is_manual and not hasattr(config.scheduler, "step"):
            raise UsageError(f"{kind} is not a scheduler: it has no step()")
        options = {"monitor": None, "frequency": 1, "strict": True}
        given = [name for name, default in options.items() if getattr(config, name) != default]
        if is_manual and given:
            _log.warning(
                f"{', '.join(given)} of {kind} have no effect: in manual optimization your code "
                "advances schedulers, self.lr_schedulers().step(...)"
            )


def _from_dicts(entries: Sequence[Mapping[str, Any]]) -> ConfiguredOptimizers:
    for entry in entries:
        unknown = set(entry) - _OPTIMIZER_KEYS
        if unknown & _SCHEDULER_KEYS or "optimizer" not in entry:
            raise UsageError(
                "configure_optimizers returned a dict with the keys "
                f"{', '.join(sorted(map(str, entry)))}; expected 'optimizer' and optionally "
                "'lr_scheduler', 'monitor' and 'frequency'; options of the scheduler belong "
                "into a dict under 'lr_scheduler'"
            )
        _report_unknown(unknown, "configure_optimizers returned a dict", _OPTIMIZER_KEYS)
    optimizers = [entry["optimizer"] for entry in entries]
    _check_optimizers(optimizers)
    schedulers: list[LRSchedulerConfig] = []
    for entry in entries:
        if entry.get("lr_scheduler") is not None:
            monitor = entry.get("monitor")
            schedulers.append(_scheduler_config(entry["lr_scheduler"], optimizers, monitor))
    return ConfiguredOptimizers(optimizers, schedulers, _frequencies(entries))


def _report_unknown(unknown: Collection[Any], what: str, known: Collection[str]) -> None:
    if unknown:
        _log.warning(
            f"{what} with the keys {', '.join(sorted(map(str, unknown)))}, which are ignored; "
            f"known are {', '.join(sorted(known))}"
        )


def _frequencies(entries: Sequence[Mapping[str, Any]]) -> list[int]:
    found = [entry.get("frequency") for entry in entries]
    given = [frequency for frequency in found if frequency is not None]
    if not given:
        return []
    if len(given) < len(found):
        raise UsageError(
            "'frequency' is given for some optimizers but not for all: "
            f"{', '.join(map(str, found))}; set it for none or for all"
        )
    for frequency in given:
        if isinstance(frequency, bool) or not isinstance(frequency, int) or frequency < 1:
            raise UsageError(
                f"an optimizer's frequency is a number of batches, at least 1, not {frequency!r}"
            )
    return given if len(given) > 1 else []


def _scheduler_config(
    entry: Any, optimizers: Sequence[Optimizer], monitor: str | None = None
) -> LRSchedulerConfig:
    if isinstance(entry, Mapping):
        unknown = set(entry) - _SCHEDULER_KEYS
        if "scheduler" not in entry:
            raise UsageError(
                f"an lr_scheduler dict has {', '.join(sorted(_SCHEDULER_KEYS))}; this one has "
                f"{', '.join(sorted(map(str, entry)))}"
            )
        _report_unknown(unknown, "an lr_scheduler dict", _SCHEDULER_KEYS)
        config = LRSchedulerConfig(**{k: v for k, v in entry.items() if k not in unknown})
    else:
        config = LRSchedulerConfig(entry)
    scheduler = config.scheduler
    config.monitor = monitor if config.monitor is None else config.monitor
    if isinstance(scheduler, type):
        raise UsageError(
            f"the type {scheduler.__name__} is not a scheduler; return an instance of it"
        )
    if config.interval not in ("epoch", "step"):
        raise UsageError(f"a scheduler's interval is 'epoch' or 'step', not {config.interval!r}")
    frequency: Any = config.frequency
    if isinstance(frequency, bool) or not isinstance(frequency, int) or frequency < 1:
        raise UsageError(f"a scheduler's frequency is an int of at least 1, not {frequency!r}")
    config.optimizer_idx = _owner(scheduler, optimizers)
    config.reduce_on_plateau = config.needs_metric
    return config


def _owner(scheduler: Any, optimizers: Sequence[Optimizer]) -> int:
    """Return the number of a scheduler's optimizer; the first if it does not tell."""
    own = getattr(scheduler, "optimizer", None)
    if own is None:
        return 0
    for idx, optimizer in enumerate(optimizers):
        if optimizer is own:
            return idx
    raise UsageError(
        f"{type(scheduler).__name__} belongs to an optimizer that configure_optimizers did not "
        "return; return that optimizer too"
    )
