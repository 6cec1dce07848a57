"""Timer: measures stages, and limits the time of training."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from ...bus.clock import monotonic
from ...bus.errors import UsageError
from ...bus.system.streams import notify_user
from ..arguments import check_choice, parse_max_time
from ..callback import Callback

if TYPE_CHECKING:
    from ..module import LightningModule
    from ..trainer_type import Trainer

_STAGES = ("train", "validate", "test", "predict", "sanity_check")


class Timer(Callback):
    """Measures the time of each stage, and ends training after ``duration``.

    Each ``fit`` counts anew; one that resumes a run continues from the time in the checkpoint.
    Validation within training counts for both stages. ``Trainer(max_time=...)`` adds a Timer.

    Args:
        duration: maximum time of training: ``"DD:HH:MM:SS"``, a timedelta, or a dict of its
            arguments; None for no limit.
        interval: check the clock after each batch (``step``) or after each epoch (``epoch``).
        verbose: report the stop on stderr.

    Raises:
        UsageError: an argument is wrong.
    """

    def __init__(
        self,
        duration: str | timedelta | dict[str, int] | None = None,
        interval: Literal["step", "epoch"] = "step",
        verbose: bool = True,
    ) -> None:
        try:
            self._duration_s = parse_max_time(duration)
        except UsageError:
            raise UsageError(
                f"duration={duration!r}: expected 'DD:HH:MM:SS', a timedelta, or a dict such as "
                "{'hours': 8}"
            ) from None
        self._interval = check_choice("interval", interval, ("step", "epoch"))
        self._verbose = verbose
        self._is_over = False  # training was asked to stop
        self._start: dict[str, float] = {}  # stage -> time of its last start
        self._end: dict[str, float] = {}  # stage -> time of its last end; absent while it runs
        self._before: dict[str, float] = dict.fromkeys(_STAGES, 0.0)  # seconds of earlier periods

    def start_time(self, stage: str = "train") -> float | None:
        """Return when a stage last began, on the monotonic clock in s; None if it never did."""
        return self._start.get(_stage(stage))

    def end_time(self, stage: str = "train") -> float | None:
        """Return when a stage last ended, on the monotonic clock in s; None if it did not."""
        return self._end.get(_stage(stage))

    def time_elapsed(self, stage: str = "train") -> float:
        """Return the total time of a stage in s, including that before a resume.

        Args:
            stage: ``train``, ``validate``, which has the sanity check in it, ``test``,
                ``predict`` or ``sanity_check``.

        Raises:
            UsageError: there is no such stage.
        """
        stage = _stage(stage)
        is_running = stage in self._start and stage not in self._end
        took = self._before[stage] + (monotonic() - self._start[stage] if is_running else 0.0)
        return took + self.time_elapsed("sanity_check") if stage == "validate" else took

    def time_remaining(self, stage: str = "train") -> float | None:
        """Return how long a stage may still take, in s; None without a limit."""
        if self._duration_s is None:
            return None
        return self._duration_s - self.time_elapsed(stage)

    # -- hooks -------------------------------------------------------------------------------

    def setup(self, trainer: "Trainer", pl_module: "LightningModule", stage: str) -> None:
        if stage == "fit":
            self._restart(dict.fromkeys(_STAGES, 0.0))

    def on_train_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        self._begin("train")
        self._is_over = False
        self._stop_if_over(trainer)  # a resumed run may have no time left

    def on_batch_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        if self._interval == "step" and self._duration_s is not None:
            self._stop_if_over(trainer)

    def on_train_epoch_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        self._stop_if_over(trainer)

    def on_train_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        self._finish("train")

    def on_validation_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        self._begin("sanity_check" if trainer.sanity_checking else "validate")

    def on_validation_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        self._finish("sanity_check" if trainer.sanity_checking else "validate")

    def on_test_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        self._begin("test")

    def on_test_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        self._finish("test")

    def on_predict_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        self._begin("predict")

    def on_predict_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        self._finish("predict")

    def on_exception(
        self, trainer: "Trainer", pl_module: "LightningModule", exception: BaseException
    ) -> None:
        for stage in _STAGES:
            self._finish(stage)

    def _begin(self, stage: str) -> None:
        self._finish(stage)
        self._start[stage] = monotonic()
        self._end.pop(stage, None)

    def _finish(self, stage: str) -> None:
        if stage in self._start and stage not in self._end:
            self._end[stage] = monotonic()
            self._before[stage] += self._end[stage] - self._start[stage]

    def _stop_if_over(self, trainer: "Trainer") -> None:
        remaining = self.time_remaining()
        if remaining is not None and remaining <= 0 and not self._is_over:
            self._is_over = True
            reason = f"the Timer's {timedelta(seconds=self._duration_s or 0)} are over"
            trainer.ask_to_stop(self, reason)
            if self._verbose:
                notify_user(f"nightbus: {reason}")

    # -- state -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return plain data for a checkpoint."""
        return {"time_elapsed": dict(self._so_far())}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._restart(dict.fromkeys(_STAGES, 0.0) | state_dict["time_elapsed"])

    def _so_far(self) -> Iterator[tuple[str, float]]:
        """Yield the time of each stage alone."""
        for stage in _STAGES:
            took = self.time_elapsed(stage)
            yield stage, took - self.time_elapsed("sanity_check") if stage == "validate" else took

    def _restart(self, before: dict[str, float]) -> None:
        self._start, self._end, self._before = {}, {}, before


def _stage(stage: str) -> str:
    return str(check_choice("stage", stage, _STAGES))
