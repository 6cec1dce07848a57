"""LearningRateMonitor: records learning rates as metrics."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from ...bus.errors import UsageError
from ...bus.system.logging_setup import get_logger
from ..arguments import check_choice
from ..callback import Callback
from .without_sinks import say_without_sinks

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from ..module import LightningModule
    from ..optimization.lr_schedulers import LRSchedulerConfig
    from ..trainer_type import Trainer

_log = get_logger("nightbus.learning_rate_monitor", of_all_ranks=True)


class LearningRateMonitor(Callback):
    """Records the learning rate of each optimizer, before the steps that use it.

    A rate is named ``lr-SGD`` after the optimizer's class, ``lr-SGD-1`` for the second optimizer
    of that class, or by the ``name`` in the scheduler's configuration; the ``name`` of a parameter
    group follows, or with several groups ``/pg1``, ``/pg2``. Every value is in the log; sinks get
    values of steps every ``log_every_n_steps``.

    Args:
        logging_interval: record at each step (``step``) or when an epoch begins (``epoch``). By
            default as often as the optimizer's scheduler advances: without a scheduler, when an
            epoch begins.
        log_momentum: record momentum too (of Adam and its kin, the first of the betas), as
            ``lr-SGD-momentum``.
        log_weight_decay: record weight decay too, as ``lr-SGD-weight_decay``.

    Attributes:
        lrs: name -> the rates that sinks get. If a parameter group is added to an optimizer that
            had one, the first one's rates get its new name.
        last_momentum_values: name -> the latest momentum.
        last_weight_decay_values: name -> the latest weight decay.

    Raises:
        UsageError: an argument is wrong.
    """

    why_not_replayed = (
        "it reads the optimizers, which a log does not hold; its values are among the run's metrics"
    )

    def __init__(
        self,
        logging_interval: Literal["step", "epoch"] | None = None,
        log_momentum: bool = False,
        log_weight_decay: bool = False,
    ) -> None:
        check_choice("logging_interval", logging_interval, (None, "step", "epoch"))
        self.logging_interval = logging_interval
        self.log_momentum = log_momentum
        self.log_weight_decay = log_weight_decay
        self.lrs: dict[str, list[float]] = {}
        self.last_momentum_values: dict[str, float] = {}
        self.last_weight_decay_values: dict[str, float] = {}
        self._names: dict[int, str] = {}

    @property
    def lr_sch_names(self) -> list[str]:
        """Names of the recorded rates, under the name that Lightning 1.x has for them."""
        return list(self.lrs)

    def on_train_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Name the optimizers.

        Raises:
            UsageError: two would have the same name.
        """
        say_without_sinks(self, trainer)
        self.lrs = {}
        optimizers = trainer.optimization.optimizers
        self._names = _names(optimizers, trainer.optimization.schedulers)
        for idx, optimizer in enumerate(optimizers):
            self.lrs |= {name: [] for name, _ in _named_groups(optimizer, self._names[idx])}
        if not trainer.optimization.optimizers:
            _log.warning("LearningRateMonitor: there is no optimizer")
        without = {
            type(optimizer).__name__
            for optimizer in trainer.optimization.optimizers
            if not {"momentum", "betas"} & optimizer.param_groups[0].keys()
        }
        if self.log_momentum and without:
            _log.warning(
                "LearningRateMonitor: optimizers have no momentum, which is recorded as 0",
                optimizers=", ".join(sorted(without)),
            )

    def on_train_batch_start(
        self, trainer: "Trainer", pl_module: "LightningModule", batch: Any, batch_idx: int
    ) -> None:
        self._record(trainer, "step")

    def on_train_epoch_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        self._record(trainer, "epoch")

    def _record(self, trainer: "Trainer", interval: Literal["step", "epoch"]) -> None:
        if self.logging_interval not in (None, interval):
            return
        due = interval == "epoch" or trainer.metrics.is_due
        destinations = ("callbacks", "loggers") if due else ("callbacks",)
        for idx, optimizer in enumerate(trainer.optimization.optimizers):
            if self.logging_interval is None and interval not in _intervals(trainer, optimizer):
                continue
            named = _named_groups(optimizer, self._names[idx])
            if len(named) > 1 and self._names[idx] in self.lrs:  # a group has been added
                self.lrs[named[0][0]] = self.lrs.pop(self._names[idx])
            for name, group in named:
                if due:
                    self.lrs.setdefault(name, []).append(float(group["lr"]))
                for key, value in self._values(name, group).items():
                    self.put(key, value, destinations)

    def _values(self, name: str, group: Mapping[str, Any]) -> dict[str, float]:
        values = {name: float(group["lr"])}
        if self.log_momentum:
            betas = group.get("betas")
            momentum = float(betas[0] if betas else group.get("momentum", 0.0))
            self.last_momentum_values[f"{name}-momentum"] = momentum
            values[f"{name}-momentum"] = momentum
        if self.log_weight_decay:
            decay = float(group.get("weight_decay", 0.0))
            self.last_weight_decay_values[f"{name}-weight_decay"] = decay
            values[f"{name}-weight_decay"] = decay
        return values


def _intervals(trainer: "Trainer", optimizer: "Optimizer") -> set[str]:
    """Return the intervals at which an optimizer's schedulers advance."""
    configs = trainer.optimization.schedulers
    return {c.interval for c in configs if c.scheduler.optimizer is optimizer} or {"epoch"}


def _names(optimizers: "list[Optimizer]", configs: "list[LRSchedulerConfig]") -> dict[int, str]:
    """Return a name for each optimizer, by its number."""
    names: dict[int, str] = {}
    seen: dict[str, int] = {}
    for idx, optimizer in enumerate(optimizers):
        given = [
            config.name
            for config in configs
            if config.scheduler.optimizer is optimizer and config.name is not None
        ]
        if given:
            name = given[0]
        else:
            kind = type(optimizer).__name__
            number = seen.get(kind, 0)
            seen[kind] = number + 1
            name = f"lr-{kind}" if number == 0 else f"lr-{kind}-{number}"
        if name in names.values():
            raise UsageError(
                f"LearningRateMonitor: two optimizers' schedulers have the name {name!r}; give "
                "them different names in configure_optimizers"
            )
        names[idx] = name
    return names


def _named_groups(optimizer: "Optimizer", name: str) -> list[tuple[str, dict[str, Any]]]:
    groups = optimizer.param_groups
    if len(groups) == 1 and "name" not in groups[0]:
        return [(name, groups[0])]
    named = [(f"{name}/{g.get('name', f'pg{i}')}", g) for i, g in enumerate(groups, start=1)]
    if len({each for each, _ in named}) < len(named):
        found = ", ".join(str(group.get("name", "")) for group in groups)
        raise UsageError(
            f"LearningRateMonitor: parameter groups of {type(optimizer).__name__} have the same "
            f"name: {found}"
        )
    return named
