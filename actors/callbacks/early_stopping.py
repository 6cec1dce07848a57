"""EarlyStopping: ends training when a metric stops improving."""

import math
from collections.abc import Callable, Mapping
from enum import Enum
from inspect import signature
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from ...bus.errors import MissingMetricError, NotRecorded, UsageError
from ...bus.system.logging_setup import get_logger
from ...bus.system.streams import notify_user
from ..arguments import check_at_least, check_choice
from ..callback import Callback
from ..former_arguments import check_former, mode_of

if TYPE_CHECKING:
    from ..module import LightningModule
    from ..trainer_type import Trainer

_log = get_logger("nightbus.early_stopping", of_all_ranks=True)


class EarlyStoppingReason(Enum):
    """Why EarlyStopping ended a run.

    Attributes:
        NOT_STOPPED: it did not.
        STOPPING_THRESHOLD: the metric was better than ``stopping_threshold``.
        DIVERGENCE_THRESHOLD: it was worse than ``divergence_threshold``.
        PATIENCE_EXHAUSTED: it did not improve for ``patience`` checks.
        NON_FINITE_METRIC: it was NaN or infinite.
    """

    NOT_STOPPED = 0
    STOPPING_THRESHOLD = 1
    DIVERGENCE_THRESHOLD = 2
    PATIENCE_EXHAUSTED = 3
    NON_FINITE_METRIC = 4


class EarlyStopping(Callback):
    """Stops training when the monitored metric has not improved for ``patience`` checks.

    Before min_epochs and min_steps are reached, only its last check counts: if the metric has
    improved again by then, training continues.

    It reads only metrics, so ``nb.replay(run, actors=[EarlyStopping(...)])`` shows where other
    arguments would have stopped a recorded run.

    Args:
        monitor: the metric.
        min_delta: changes up to this are no improvement.
        patience: number of consecutive checks without improvement that end the run.
        verbose: report each improvement and the stop on stderr.
        mode: ``min`` if less is better, ``max`` if more is.
        strict: a missing metric is an error; otherwise a warning is logged.
        check_finite: stop when the metric is NaN or infinite.
        stopping_threshold: stop when the metric is better than this.
        divergence_threshold: stop when the metric is worse than this.
        check_on_train_epoch_end: check at the end of training epochs (True) or of validation
            (False); by default where the metric is first found.
        log_rank_zero_only: accepted for code written for Lightning, without effect: what is
            reported is the same on all ranks, and reported once.
        former: arguments that it does not have, for an error that names one that is near.

    Attributes:
        wait_count: checks since the last improvement.
        stopped_epoch: the epoch in which it stopped the run; 0 if it did not.
        best_score: the best value so far, a tensor of shape ().
        stopping_reason: why it stopped the run, an EarlyStoppingReason.
        stopping_reason_message: the same as a sentence; None if it did not stop the run.

    Raises:
        UsageError: an argument is wrong.
    """

    mode_dict: ClassVar[dict[str, Callable[[Tensor, Tensor], Tensor]]] = {
        "min": torch.lt,
        "max": torch.gt,
    }
    order_dict: ClassVar[dict[str, str]] = {"min": "<", "max": ">"}

    def __init__(
        self,
        monitor: str,
        min_delta: float = 0.0,
        patience: int = 3,
        verbose: bool = False,
        mode: Literal["min", "max"] = "min",
        strict: bool = True,
        check_finite: bool = True,
        stopping_threshold: float | None = None,
        divergence_threshold: float | None = None,
        check_on_train_epoch_end: bool | None = None,
        log_rank_zero_only: bool = False,
        **former: Any,
    ) -> None:
        check_former("EarlyStopping", former, list(signature(type(self)).parameters))
        if not isinstance(monitor, str) or not monitor:
            raise UsageError(f"monitor={monitor!r}: expected the name of a metric")
        if isinstance(min_delta, bool) or not isinstance(min_delta, int | float) or min_delta < 0:
            raise UsageError(f"min_delta={min_delta!r}: expected a number of at least 0")
        better = mode_of("EarlyStopping", mode, monitor)
        check_choice("check_on_train_epoch_end", check_on_train_epoch_end, (None, True, False))
        if patience is None:
            raise UsageError("patience=None: expected an int of at least 0")
        check_at_least("patience", patience, 0)
        self.monitor = monitor
        self.min_delta = min_delta
        self.patience = patience
        self.verbose = verbose
        self.mode = better
        self.strict = strict
        self.check_finite = check_finite
        self.stopping_threshold = stopping_threshold
        self.divergence_threshold = divergence_threshold
        self.wait_count = 0
        self.stopped_epoch = 0
        self.log_rank_zero_only = log_rank_zero_only
        self.stopping_reason = EarlyStoppingReason.NOT_STOPPED
        self.stopping_reason_message: str | None = None
        self.best_score = torch.tensor(math.inf if mode == "min" else -math.inf).double()
        self._checks_at: Literal["validation", "epoch", ""] = ""
        self._where_given = check_on_train_epoch_end
        # Where the metric was found before the run was resumed, when both places have a value.
        self._found_before: Literal["validation", "epoch", ""] = ""
        # Of a run resumed before min_epochs or min_steps: why it was to stop, and in words.
        self._verdict_before = ("NOT_STOPPED", "")
        self._validated = False  # since fit began
        self._epochs = 0  # since fit began
        self._is_fitting = False
        self._epoch_is_over = False
        self._said_missing = False

    @property
    def monitor_op(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The comparison that says whether a first value is better than a second."""
        return self.mode_dict[self.mode]

    # -- when --------------------------------------------------------------------------------

    def on_train_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        found: Literal["validation", "epoch", ""] = (
            "" if self._where_given is None else "validation"
        )
        self._checks_at = "epoch" if self._where_given else self._found_before or found
        self._found_before = ""
        self._validated = self._epoch_is_over = self._said_missing = False
        self._epochs = 0
        (name, reason), self._verdict_before = self._verdict_before, ("NOT_STOPPED", "")
        if reason and trainer.may_stop:
            name, reason = "NOT_STOPPED", ""  # it ended the run, which was resumed nevertheless
        self._settle(EarlyStoppingReason[name], reason)
        if reason:
            trainer.ask_to_stop(self, reason, alike=True)

    def on_validation_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        if self._should_skip_check(trainer) or trainer.fast_dev_run:
            return
        self._validated = True
        if self._checks_at == "" and self._value(trainer) is not None:
            self._checks_at = "validation"
        if self._checks_at == "validation":
            self._run_early_stopping_check(trainer)

    def on_train_epoch_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        # What the module logs in this hook is available in the next one, on_epoch_end.
        self._epoch_is_over = True
        self._epochs += _is_whole(trainer)

    def on_epoch_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        if not self._epoch_is_over or trainer.fast_dev_run:
            return  # of validation
        self._epoch_is_over = False
        if self._checks_at == "":
            if self._value(trainer) is not None:
                self._checks_at = "epoch"
            elif self._validated or not _may_validate(trainer):
                self._miss(trainer)
        if self._checks_at == "epoch":
            self._run_early_stopping_check(trainer)

    def on_train_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        if self._checks_at == "" and self._epochs > 0 and not trainer.fast_dev_run:
            self._miss(trainer)
        self._is_fitting = False

    def on_pretrain_routine_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        self._is_fitting = True

    # -- what --------------------------------------------------------------------------------

    # Under Lightning's names, because code overrides and calls them, to check later or elsewhere.

    def _should_skip_check(self, trainer: "Trainer") -> bool:
        return trainer.sanity_checking or not self._is_fitting

    @property
    def _check_on_train_epoch_end(self) -> bool | None:
        return self._checks_at == "epoch" if self._checks_at else self._where_given

    @_check_on_train_epoch_end.setter
    def _check_on_train_epoch_end(self, where: bool | None) -> None:
        check_choice("check_on_train_epoch_end", where, (None, True, False))
        self._where_given = where
        self._checks_at = "" if where is None else "epoch" if where else "validation"

    def _run_early_stopping_check(self, trainer: "Trainer", *_: Any) -> None:
        value = self._value(trainer)
        if value is None:
            self._miss(trainer)
            return
        reason = self.evaluate(value)
        if not reason:
            self.stopped_epoch = 0
            trainer.withdraw_stop(self)
        else:
            self.stopped_epoch = trainer.current_epoch
            trainer.ask_to_stop(self, reason, alike=True)
            if self.verbose:
                notify_user(f"EarlyStopping: {reason}")

    def _value(self, trainer: "Trainer") -> float | None:
        """Return the metric's value, that of rank 0 on all ranks; None if there is none."""
        value = trainer.callback_metrics.get(self.monitor)
        own = None if value is None else float(value)
        found: float | None = trainer.agreed(f"the value of {self.monitor}", own)
        return found

    def _settle(self, reason: EarlyStoppingReason, message: str) -> str:
        self.stopping_reason, self.stopping_reason_message = reason, message or None
        return message

    def evaluate(self, current: float) -> str:
        """Judge a new value of the metric, and set ``stopping_reason``.

        Args:
            current: the value.

        Returns:
            Why the run should end now; empty if it should not.
        """
        return self._settle(*self._judge(current))

    def _judge(self, current: float) -> tuple[EarlyStoppingReason, str]:
        name, best = self.monitor, self.best_score.item()
        if self.check_finite and not math.isfinite(current):
            message = f"{name} is {current}, which is not finite; best: {best:g}"
            return EarlyStoppingReason.NON_FINITE_METRIC, message
        if self.stopping_threshold is not None and self._better(current, self.stopping_threshold):
            message = (
                f"{name}={current:g} has passed stopping_threshold={self.stopping_threshold:g}"
            )
            return EarlyStoppingReason.STOPPING_THRESHOLD, message
        if self.divergence_threshold is not None and self._better(
            self.divergence_threshold, current
        ):
            return (
                EarlyStoppingReason.DIVERGENCE_THRESHOLD,
                f"{name}={current:g} has passed divergence_threshold={self.divergence_threshold:g}",
            )
        margin = self.min_delta if self.mode == "min" else -self.min_delta
        if self._better(current + margin, best):
            if self.verbose:
                before = f", before: {best:g}" if math.isfinite(best) else ""
                notify_user(f"EarlyStopping: best {name} so far: {current:g}{before}")
            self.best_score = torch.tensor(current, dtype=torch.float64)
            self.wait_count = 0
            return EarlyStoppingReason.NOT_STOPPED, ""
        self.wait_count += 1
        if self.wait_count < self.patience:
            return EarlyStoppingReason.NOT_STOPPED, ""
        checks = "1 check" if self.wait_count == 1 else f"{self.wait_count} checks"
        return (
            EarlyStoppingReason.PATIENCE_EXHAUSTED,
            f"{name} did not improve in the last {checks}; best: {best:g}",
        )

    def _better(self, value: float, than: float) -> bool:
        return value < than if self.mode == "min" else value > than

    def _miss(self, trainer: "Trainer") -> None:
        known = ", ".join(sorted(trainer.callback_metrics)) or "nothing"
        message = (
            f"EarlyStopping(monitor={self.monitor!r}): no such metric was recorded; recorded: "
            f"{known}"
        )
        if self.strict:
            raise MissingMetricError(
                message + "; log it, or pass strict=False to continue without it"
            )
        if not self._said_missing:
            self._said_missing = True
            _log.warning(message)

    # -- state -------------------------------------------------------------------------------

    def _told_apart_by(self) -> dict[str, Any]:
        return {"monitor": self.monitor, "mode": self.mode}

    def state_dict(self) -> dict[str, Any]:
        """Return plain data and tensors for a checkpoint."""
        return {
            **self._told_apart_by(),
            "wait_count": self.wait_count,
            "stopped_epoch": self.stopped_epoch,
            "best_score": self.best_score,
            "patience": self.patience,
            "checks_at": self._checks_at,
            "verdict": self.stopping_reason_message or "",
            "reason": self.stopping_reason.name,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned, or Lightning's, if it was for the same metric.

        ``patience`` stays as given now, so that a run may be resumed with a larger one.
        """
        monitor = state_dict.get("monitor", self.monitor)
        if (monitor, state_dict.get("mode", self.mode)) != (self.monitor, self.mode):
            _log.warning(
                "early stopping starts anew: the checkpoint's monitored another metric",
                monitor=self.monitor,
                checkpoint=monitor,
            )
            return
        self.wait_count = state_dict["wait_count"]
        self.stopped_epoch = state_dict["stopped_epoch"]
        self.best_score = state_dict["best_score"]
        if self.patience <= state_dict["patience"]:  # otherwise it was increased
            name, verdict = state_dict.get("reason", "NOT_STOPPED"), state_dict.get("verdict", "")
            self._verdict_before = name, verdict
            self._settle(EarlyStoppingReason[name], verdict)
        if self._where_given is None:
            self._found_before = state_dict.get("checks_at", "")


def _is_whole(trainer: "Trainer") -> bool:
    """Return whether the epoch had all its batches; unknown in replay.

    An epoch that ended early may not have recorded the metric.
    """
    try:
        return trainer.is_last_batch
    except NotRecorded:
        return True


def _may_validate(trainer: "Trainer") -> bool:
    """Return whether validation may still come; unknown in replay."""
    try:
        return trainer.loaders.can_validate
    except NotRecorded:
        return True
