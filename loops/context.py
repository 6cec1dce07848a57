"""LoopContext: the run as loops see it."""

from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from ..actors.metrics.predictions import Predictions
from ..actors.run_context import RunContext
from ..actors.run_optimization import RunOptimization
from ..actors.saving.checkpointer import Checkpointer
from ..actors.wiring import Wiring
from .running_loss import RunningLoss
from .stop_requests import StopRequests


class LoopContext(RunContext):
    """All that the built-in loops and their fast paths know of a run.

    The trainer is the context of its loops, which get it as ``_loop_context`` when a run begins and
    when they are connected. Loops of users know it as ``self.trainer``. Of what all parts share,
    loops use:

    - ``routes`` call the handlers of hooks, and ``place`` is where training has got to;
    - ``loaders`` give the batches, tell how many there are, and when validation is due;
    - ``metrics`` log results, and publish at an epoch's end what was logged in it;
    - ``device`` gives the precision of steps, and the scaler of gradients;
    - ``optimization_progress`` counts steps, and ``bus`` writes events at once.

    Attributes:
        optimization: gives the optimizers and whose turn it is, and steps the schedulers.
        wiring: tells what may be left out because it has no handler.
        checkpointer: saves the run, and is told what a checkpoint has to know, such as where an
            epoch was cut.
        predictions: collects the predictions of EvalResults.
        stops: requests to end training.
        running_loss: gets the losses for the progress bar; None without one.
    """

    optimization: RunOptimization
    wiring: Wiring
    checkpointer: Checkpointer
    predictions: Predictions
    stops: StopRequests
    running_loss: RunningLoss | None

    @abstractmethod
    def safe_point(self) -> None:
        """Write events and take commands, between two steps."""

    @abstractmethod
    def between_batches(self) -> None:
        """Write events, between two evaluation batches; only signals take effect."""

    @property
    @abstractmethod
    def count_point(self) -> Callable[[int], bool] | None:
        """Counts a safe point where there is nothing to write; None in one process.

        It is given how many words are recorded, and returns whether ranks do something there.
        """

    @abstractmethod
    def attend(self) -> None:
        """Do what was requested, between two steps, at a safe point that was counted."""

    @abstractmethod
    def attend_between_batches(self) -> None:
        """Do what signals ask for, between two evaluation batches, at one that was counted."""

    @abstractmethod
    def wait_for_others(self) -> None:
        """Wait, at the end of an evaluation, for ranks that have more batches."""

    @abstractmethod
    def ends_epoch_here(self) -> bool:
        """Have the training epoch end early; return whether it ends at this batch.

        On several ranks it continues until all ranks end it.
        """

    @abstractmethod
    def share_stops(self) -> None:
        """Take the requests to stop of other ranks, at the end of an epoch."""

    @abstractmethod
    def move_batch(self, batch: Any, dataloader_idx: int) -> Any:
        """Return a batch on the device, through the three transfer hooks.

        Args:
            batch: the batch of the dataloader.
            dataloader_idx: the number of the dataloader, from 0.
        """

    @abstractmethod
    def announce_loop(self, name: str, total: int | None, unit: str, done: int = 0) -> None:
        """Record that a loop begins.

        Args:
            name: the loop's name.
            total: iterations it expects; None if unknown.
            unit: what one iteration is.
            done: iterations completed before.
        """

    @abstractmethod
    def announce_iteration(self, name: str, completed: int) -> None:
        """Record an iteration of a user's loop.

        Args:
            name: the loop's name.
            completed: iterations completed in this run of the loop.
        """

    @abstractmethod
    def announce_loop_end(self, name: str, completed: int) -> None:
        """Record that a loop ended.

        Args:
            name: the loop's name.
            completed: iterations completed in this run of the loop.
        """

    @abstractmethod
    def loop_connected(self, loop: Any, former: Any) -> None:
        """Handle that a loop replaced another or was added, perhaps during a run.

        Args:
            loop: the new loop.
            former: the loop that it replaced, if any.
        """

    @abstractmethod
    def write_predictions(self) -> None:
        """Write the predictions of EvalResults."""

    @property
    @abstractmethod
    def writes_predictions_at_end(self) -> bool:
        """Return whether a callback writes all predictions at the end of the epoch."""

    @property
    @abstractmethod
    def should_stop(self) -> bool:
        """True if training ends at the next safe point, once it may."""

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
        """True if min_epochs and min_steps are reached."""

    @property
    @abstractmethod
    def has_time_limit(self) -> bool:
        """True if a Timer ends training."""

    @abstractmethod
    def without_gradients(self) -> AbstractContextManager[Any]:
        """Return the context in which an evaluation runs."""

    @property
    @abstractmethod
    def sanity_checking(self) -> bool:
        """True during the validation before training."""

    @property
    @abstractmethod
    def is_last_batch(self) -> bool:
        """True if the training batch is the epoch's last."""
