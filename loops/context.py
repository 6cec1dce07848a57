"""LoopContext: what loops know of the run, and have done for them."""

from abc import abstractmethod
from typing import Any

from ..actors.checkpointer import Checkpointer
from ..actors.metrics.predictions import Predictions
from ..actors.run_context import RunContext
from ..actors.run_optimization import RunOptimization
from ..actors.wiring import Wiring
from .running_loss import RunningLoss
from .stop_requests import StopRequests


class LoopContext(RunContext):
    """The parts that loops use besides what all parts share; the trainer is one.

    Attributes:
        optimization: optimizers and schedulers, and whose turn it is.
        wiring: what may be left out because nobody handles it.
        checkpointer: is told what a checkpoint needs to know: where an epoch was cut, for one.
        predictions: what EvalResults write to files.
        stops: who wants training to end.
        running_loss: takes the losses of the progress bar; None without one.
    """

    optimization: RunOptimization
    wiring: Wiring
    checkpointer: Checkpointer
    predictions: Predictions
    stops: StopRequests
    running_loss: RunningLoss | None

    @abstractmethod
    def safe_point(self) -> None:
        """Between two steps: write what happened, and take commands."""

    @abstractmethod
    def between_batches(self) -> None:
        """Between two evaluation batches: write what happened; only signals are heeded."""

    @abstractmethod
    def move_batch(self, batch: Any, dataloader_idx: int) -> Any:
        """A batch on the device, through the three transfer hooks."""

    @abstractmethod
    def announce_loop(self, name: str, total: int | None, unit: str, done: int = 0) -> None:
        """Record that a loop begins."""

    @abstractmethod
    def announce_iteration(self, name: str, completed: int) -> None:
        """Record that a loop of the user's own did one more iteration."""

    @abstractmethod
    def announce_loop_end(self, name: str, completed: int) -> None:
        """Record that a loop ended."""

    @abstractmethod
    def loop_connected(self, loop: Any, former: Any) -> None:
        """A loop was put in another one's place, or was added, maybe in the middle of a run."""

    @abstractmethod
    def write_predictions(self) -> None:
        """Write what EvalResults had to be written."""

    @property
    @abstractmethod
    def writes_predictions_at_end(self) -> bool:
        """Whether a callback wants all predictions at the epoch's end."""

    @property
    @abstractmethod
    def should_stop(self) -> bool:
        """Whether training ends at the next safe point, once it may."""

    @should_stop.setter
    @abstractmethod
    def should_stop(self, value: bool) -> None: ...

    @property
    @abstractmethod
    def stop_reason(self) -> str:
        """Why it ends, for the log."""

    @stop_reason.setter
    @abstractmethod
    def stop_reason(self, reason: str) -> None: ...

    @property
    @abstractmethod
    def may_stop(self) -> bool:
        """Whether min_epochs and min_steps are reached."""

    @property
    @abstractmethod
    def has_deadline(self) -> bool:
        """Whether max_time was given."""

    @property
    @abstractmethod
    def out_of_time(self) -> bool:
        """Whether max_time is over."""

    @property
    @abstractmethod
    def sanity_checking(self) -> bool:
        """Whether the validation before training runs."""

    @property
    @abstractmethod
    def num_training_batches(self) -> int | None:
        """Batches of an epoch; None when the loader cannot say."""

    @property
    @abstractmethod
    def is_last_batch(self) -> bool:
        """Whether the training batch is the epoch's last."""
