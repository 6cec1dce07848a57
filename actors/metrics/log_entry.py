"""LogEntry: one call site of ``log``, with its options and the values of the epoch."""

from collections.abc import Callable
from functools import partial
from types import BuiltinFunctionType
from typing import Any

from torch import Tensor

from ...bus.errors import MetricError
from ..logging_mixin import ReduceFx
from .reduction import REDUCTIONS, Reduction

# Defaults of on_step and on_epoch by hook.
_STEP = (True, False)
EVALUATION_STEP = (False, True)
ALL_LOADERS = -1
_SUFFIX = "/dataloader_idx_"
OF_EPOCH = (None, True)  # on_step is not allowed


def _log_rules() -> dict[str, tuple[bool | None, bool]]:
    """Return hook -> defaults of (on_step, on_epoch); other hooks cannot log."""
    rules: dict[str, tuple[bool | None, bool]] = {}
    for name in [
        "training_step",
        "training_step_end",
        "on_train_batch_start",
        "on_train_batch_end",
        "on_batch_start",
        "on_batch_end",
        "on_before_backward",
        "backward",
        "on_after_backward",
        "on_before_zero_grad",
        "optimizer_zero_grad",
        "on_before_optimizer_step",
        "optimizer_step",
        "configure_gradient_clipping",
        "lr_scheduler_step",
    ]:
        rules[name] = _STEP
    for stage in ("validation", "test"):
        for name in ("{}_step", "{}_step_end", "on_{}_batch_start", "on_{}_batch_end"):
            rules[name.format(stage)] = EVALUATION_STEP
    for stage in ("train", "validation", "test"):
        for name in ("on_{}_epoch_start", "on_{}_epoch_end", "on_{}_start"):
            rules[name.format(stage)] = OF_EPOCH
    for name in [
        "on_epoch_start",
        "on_epoch_end",
        "training_epoch_end",
        "validation_epoch_end",
        "test_epoch_end",
    ]:
        rules[name] = OF_EPOCH
    return rules


LOG_RULES = _log_rules()

# prog_bar, logger, on_step, on_epoch, reduce_fx, add_dataloader_idx: a plain tuple, because one
# is made and compared at each log
LogOptions = tuple[bool, bool, bool | None, bool | None, ReduceFx, bool]
_OPTION_NAMES = ("prog_bar", "logger", "on_step", "on_epoch", "reduce_fx", "add_dataloader_idx")


class LogEntry:
    """One call site of ``log``: its options, determined once, and its values of this epoch.

    Args:
        name: the metric.
        options: the options of the call.
        stage: the stage of the run.
        hook: the hook in which it was called.
        source: the name of the module or callback.
        suffix: appended to recorded names, for one of several dataloaders.

    Raises:
        MetricError: reduce_fx is neither a known name nor a function, or the name looks like that
            of one of several dataloaders.
    """

    __slots__ = (
        "dataloader_idx",
        "early_key",
        "epoch_name",
        "hook",
        "how",
        "is_restored",
        "metric",
        "name",
        "on_epoch",
        "on_step",
        "options",
        "published_updates",
        "reduction",
        "source",
        "stage",
        "step_key",
        "step_name",
        "syncs_epoch",
        "syncs_step",
        "to_epoch",
        "to_step",
        "to_step_thinned",
        "weighted",
    )

    def __init__(
        self,
        name: str,
        options: LogOptions,
        stage: str,
        hook: str,
        source: str,
        suffix: str = "",
    ) -> None:
        if _SUFFIX in name:
            raise MetricError(
                f"log({name!r}): {_SUFFIX}N is appended to the name of one of several dataloaders; "
                "give the metric another name"
            )
        self.options = options
        self.name = f"{name}{suffix}"
        self.stage = stage
        self.hook = hook
        self.source = source
        self.dataloader_idx = 0
        self.metric: Any = None
        self.published_updates = 0  # the Metric's number of updates when its value was recorded
        self.syncs_epoch = self.syncs_step = False  # with the other ranks
        self.step_key = ""  # names its step values among those of ranks,
        self.early_key = ""  # and these if they are there before backward
        self.is_restored = False  # from a checkpoint, not logged since
        prog_bar, logger, on_step, on_epoch, reduce_fx, _ = options
        by_rule = LOG_RULES[hook]
        self.on_step = bool(by_rule[0]) if on_step is None else on_step
        self.on_epoch = by_rule[1] if on_epoch is None else on_epoch
        both = self.on_step and self.on_epoch
        # The same object if they are equal, because it is compared with ``is``.
        self.step_name = f"{name}_step{suffix}" if both else self.name
        self.epoch_name = f"{name}_epoch{suffix}" if both else self.name
        how = reduce_fx.lower() if isinstance(reduce_fx, str) else reduce_fx
        how = REDUCTIONS.get(how, how)
        if isinstance(how, str) and how not in REDUCTIONS:
            raise MetricError(
                f"log({name!r}, reduce_fx={how!r}): expected 'mean', 'sum', 'min', 'max' or a "
                "function of a tensor"
            )
        self.how: str | Callable[[Tensor], Any] = how
        self.weighted = how == "mean"
        self.reduction: Reduction | None = None
        bar = ("progress_bar",) if prog_bar else ()
        loggers = ("loggers",) if logger else ()
        self.to_epoch: tuple[str, ...] = (*bar, "callbacks", *loggers)
        # Callbacks monitor the result of evaluation, not of a batch.
        callbacks = ("callbacks",) if stage == "train" else ()
        self.to_step: tuple[str, ...] = (*bar, *callbacks, *loggers)
        # ``log_every_n_steps`` counts steps of training, none of which an evaluation takes.
        self.to_step_thinned = (*bar, *callbacks) if stage == "train" else self.to_step

    def begin(self) -> Reduction:
        """Return the reduction of an epoch, created for its first value."""
        fresh = Reduction(self.how)
        # No call here, so no signal handler can run between test and assignment. A handler that
        # logs uses the same reduction.
        self.reduction = self.reduction or fresh
        return self.reduction

    def end(self) -> Reduction | None:
        """Return the reduction of an epoch that is over, if it had a value; a new one may begin."""
        reduction, self.reduction = self.reduction, None
        return reduction

    @property
    def of_loader(self) -> int:
        """The dataloader of its values; ALL_LOADERS outside of batches."""
        return self.dataloader_idx if LOG_RULES[self.hook] is EVALUATION_STEP else ALL_LOADERS

    @property
    def recorded_names(self) -> set[str]:
        """Return the names under which its values are recorded."""
        names = {self.step_name} if self.on_step else set()
        return names | {self.epoch_name} if self.on_epoch else names


def differ(options: LogOptions, others: LogOptions) -> bool:
    """Return whether a call site uses other options than before.

    A function made in the call, such as a lambda, is a new object each time, and counts as the
    same.

    Args:
        options: of one call.
        others: of the other call.
    """
    return options[:4] != others[:4] or options[5] != others[5] or not _alike(options[4], others[4])


def _alike(one: Any, other: Any) -> bool:
    if one is other or type(one) is not type(other):
        return one is other
    if isinstance(one, partial):
        return _alike(one.func, other.func)
    for attribute in ("__code__", "__func__"):  # of functions, of bound methods
        if hasattr(one, attribute):
            return bool(getattr(one, attribute) == getattr(other, attribute))
    if isinstance(one, str | BuiltinFunctionType):
        return bool(one == other)
    return True  # callable objects of the same class, such as nn.Modules


def clash(entry: LogEntry, source: str, options: LogOptions) -> MetricError:
    """Return the error for a call site that uses other options than before.

    Args:
        entry: the call site as it is known.
        source: the name of the module or callback that called.
        options: the new options.
    """
    if entry.source != source:
        who = f"both {entry.source} and {source} log {entry.name!r} in {entry.hook}"
        return MetricError(f"{who}; choose another name in one of them")
    return MetricError(
        f"{entry.name!r} is logged twice in {entry.hook} with different options: "
        f"{_shown(entry.options)} and {_shown(options)}; use the same ones, or another name"
    )


def _shown(options: LogOptions) -> str:
    return ", ".join(f"{name}={value}" for name, value in zip(_OPTION_NAMES, options, strict=True))
