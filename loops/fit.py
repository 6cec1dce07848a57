"""FitLoop: the epochs of a fit."""

from typing import Any

from ..actors.arguments import check_at_least
from ..actors.optimization.progress import Progress
from ..bus.errors import UsageError
from ..bus.events import RunValidation
from ..bus.subscription import on
from ..bus.system.streams import notify_user
from .data_source import DataSource
from .loop import Loop
from .outputs import in_one
from .training_epoch import TrainingEpochLoop

# Manual accumulation, perhaps over epochs, may make no step for this many batches.
_IDLE_BATCHES = 100


class FitLoop(Loop):
    """Runs epochs until a limit is reached or a stop is requested.

    Takes the command RunValidation too.

    A warning reports manual optimization that makes no step in 100 batches or in the whole fit. If
    only max_steps could end the fit, it ends with an error after as many batches, at least 100,
    without a step.

    Args:
        min_epochs: number of epochs before a stop takes effect.
        max_epochs: maximum number of epochs; None or -1 for no limit.
        min_steps: number of optimizer steps before a stop takes effect.
        max_steps: maximum number of optimizer steps; -1 for no limit.
    """

    name = "fit"
    shows_iterations = False  # it announces its position itself
    _outputs: list[Any] | None = None
    _resumes_epoch = False  # the next epoch continues one in which a checkpoint was saved
    _finishes_epoch = False  # a checkpoint was saved in the last hooks of an epoch
    _steps_before = 0  # this epoch
    _said_it_waits = False
    _idle = 0  # consecutive batches, of whole epochs, without an optimizer step
    _unstepped = 0  # those of them that were trained on
    _batches_before = 0  # this epoch

    def __init__(
        self,
        min_epochs: int | None = None,
        max_epochs: int | None = None,
        min_steps: int | None = None,
        max_steps: int = -1,
    ) -> None:
        self.min_epochs = min_epochs
        self.max_epochs = max_epochs
        self._min_steps = min_steps
        self._max_steps = _checked_steps(max_steps)
        self.epoch_loop: Any = TrainingEpochLoop(min_steps, self._max_steps)
        self.epoch_progress = Progress()

    @property
    def _data_source(self) -> DataSource:
        return DataSource(self._loop_context, "train")

    def setup_data(self) -> None:
        """Make the training loader, if it is not there yet: ``trainer.train_dataloader`` is it.

        Code written for Lightning calls this in ``configure_optimizers`` and ``setup``.

        Raises:
            UsageError: there is no training data.
        """
        self._loop_context.loaders.request_training()

    @property
    def min_steps(self) -> int | None:
        """Number of optimizer steps before a stop takes effect."""
        return self._min_steps

    @min_steps.setter
    def min_steps(self, value: int | None) -> None:
        self._min_steps = self.epoch_loop.min_steps = value

    @property
    def max_steps(self) -> int:
        """Maximum number of optimizer steps; -1 for no limit."""
        return self._max_steps

    @max_steps.setter
    def max_steps(self, value: int) -> None:
        self._max_steps = self.epoch_loop.max_steps = _checked_steps(value)

    @property
    def max_epochs(self) -> int | None:
        """Maximum number of epochs; None or -1 for no limit."""
        return self._max_epochs

    @max_epochs.setter
    def max_epochs(self, value: int | None) -> None:
        self._max_epochs = check_at_least("max_epochs", value, -1)

    @property
    def _epochs(self) -> int | None:
        return None if self.max_epochs == -1 else self.max_epochs

    @property
    def batch_idx(self) -> int:
        """Number of the batch in its epoch; -1 before the first."""
        return int(getattr(self.epoch_loop, "batch_idx", self._loop_context.place.batch_idx))

    @property
    def total_batch_idx(self) -> int:
        """Number of the batch over all epochs; -1 before the first."""
        return int(getattr(self.epoch_loop, "total_batch_idx", self.batch_idx))

    def copy_limits(self, other: "FitLoop") -> None:
        """Take another loop's limits if this one was created without any."""
        mine = (self.min_epochs, self.max_epochs, self.min_steps, self.max_steps)
        if mine == (None, None, None, -1):
            self.min_epochs, self.max_epochs = other.min_epochs, other.max_epochs
            self.min_steps, self.max_steps = other.min_steps, other.max_steps

    @property
    def current_epoch(self) -> int:
        """Epochs completed."""
        return self.epoch_progress.total.completed

    @property
    def global_step(self) -> int:
        """Optimizer steps completed."""
        return self._loop_context.global_step

    @property
    def reached_limit(self) -> bool:
        """True if max_epochs or max_steps are done."""
        epochs = self._epochs
        if epochs is not None and self.current_epoch >= epochs:
            return True
        return 0 <= self.max_steps <= self.global_step

    @property
    def done(self) -> bool:
        return self.reached_limit or (self._loop_context.stops.any and self.may_stop)

    @property
    def may_stop(self) -> bool:
        """True if min_epochs and min_steps are reached."""
        return self.current_epoch >= (self.min_epochs or 0) and self.global_step >= (
            self.min_steps or 0
        )

    @property
    def skip(self) -> bool:
        return self._loop_context.loaders.num_training_batches == 0

    @property
    def _batches_trained_on(self) -> int:
        progress = getattr(self.epoch_loop, "batch_progress", None)
        return 0 if progress is None else int(progress.total.processed)

    def reset(self) -> None:
        self._idle, self._steps_before = 0, self.global_step
        self._unstepped, self._batches_before = 0, self._batches_trained_on
        self._said_it_waits = False
        if not self.restarting:
            self.epoch_progress.begin()
        total = self.epoch_progress.total
        self._finishes_epoch = self.restarting and total.processed > total.completed
        self.epoch_progress.begin_interrupted()
        self._resumes_epoch = getattr(self.epoch_loop, "resumes_epoch", False)

    def on_run_start(self) -> None:
        context = self._loop_context
        # A run that was saved when complete is still at its last epoch.
        ended = 1 if self.done and self.current_epoch else 0
        context.place.move(epoch=self.current_epoch - ended, batch_idx=-1)
        context.announce_loop("fit", self._epochs, "epoch", done=self.current_epoch)
        context.routes.call("on_train_start")
        context.checkpointer.begin_training()
        if (
            not self._resumes_epoch
        ):  # the epoch loop does it once it has found its place in the data
            context.checkpointer.restore_rng()
        if self._finishes_epoch:
            self._finishes_epoch = False
            self._complete_epoch()

    def on_advance_start(self) -> None:
        context = self._loop_context
        if self._resumes_epoch:
            self._resumes_epoch = False
            self.epoch_progress.total.ready += 1
            self.epoch_progress.total.started += 1
            context.place.move(epoch=self.current_epoch)
            context.loaders.begin_epoch(self.current_epoch, resumes=True)
            return
        self.epoch_progress.total.ready += 1
        context.place.move(epoch=self.current_epoch, batch_idx=-1)
        context.loaders.begin_epoch(self.current_epoch)
        context.routes.call("on_epoch_start")
        context.routes.call("on_train_epoch_start")
        self.epoch_progress.total.started += 1

    def advance(self) -> None:
        self._outputs = self.epoch_loop.run()

    def on_advance_end(self) -> None:
        context, total = self._loop_context, self.epoch_progress.total
        total.processed += 1
        context.place.move(batch_idx=-1)
        context.metrics.publish_epoch()
        outputs, self._outputs = self._outputs, None
        progress = getattr(self.epoch_loop, "batch_progress", None)
        is_empty = progress is not None and not progress.current.ready
        if outputs is not None and context.wiring.logs_collected_training and not is_empty:
            outputs = in_one(outputs)
            context.metrics.log_epoch_end(
                context.routes.call("training_epoch_end", outputs), outputs, "training_step"
            )
            context.metrics.publish_epoch()
        context.routes.call("on_train_epoch_end", outputs)
        context.metrics.publish_epoch()
        context.routes.call("on_epoch_end")
        context.metrics.publish_epoch()
        context.metrics.end_epoch()
        context.metrics.end_steps()
        self._complete_epoch(is_whole=getattr(self.epoch_loop, "is_last_batch", True))
        context.checkpointer.between_epochs()
        context.share_stops()
        self._report_stop_that_waits()
        if context.optimization.replicas is not None:
            context.optimization.replicas.compare_weights()
        self._check_that_it_ends()

    def _report_stop_that_waits(self) -> None:
        """Tell, once a fit, that training goes on until the minimum is reached."""
        if self._said_it_waits or not self._loop_context.stops.any or self.may_stop:
            return
        self._said_it_waits = True
        notify_user(
            f"nightbus: training is to end ({self._loop_context.stop_reason}), and goes on until "
            f"min_epochs={self.min_epochs} and min_steps={self.min_steps} are reached"
        )

    def _check_that_it_ends(self) -> None:
        """Check that there are steps, if only max_steps could end the fit.

        Raises:
            UsageError: there was no step in as many batches, and more than manual steps may need.
        """
        steps, before = self.global_step, self._steps_before
        self._steps_before = steps
        self._idle = 0 if steps > before else self._idle + max(1, self.batch_idx + 1)
        self._look_for_steps()
        if self._epochs is not None or self._loop_context.has_time_limit:
            return
        if self.max_steps > 0 and self._idle >= max(self.max_steps, _IDLE_BATCHES):
            raise UsageError(
                f"max_steps={self.max_steps} is never reached: the last {self._idle} batches, or "
                "epochs without any, led to no optimizer step, and there is no max_epochs. Does "
                "training_step return the loss, configure_optimizers an optimizer, and the "
                "dataloader batches?"
            )

    def _look_for_steps(self) -> None:
        """Report that steps are missing, once there were more batches than manual ones may need."""
        trained, progress = (
            self._batches_trained_on,
            getattr(self.epoch_loop, "batch_progress", None),
        )
        # An epoch that a hook or a request ended may have had no time for its step.
        is_whole = getattr(self.epoch_loop, "is_last_batch", False) and (
            progress is not None and progress.total.ready == trained
        )
        if not self._idle:
            self._unstepped = 0
        elif is_whole:
            self._unstepped += trained - self._batches_before
        self._batches_before = trained
        if self._unstepped >= _IDLE_BATCHES:
            self._loop_context.optimization.report_unstepped(self._unstepped)

    def _complete_epoch(self, is_whole: bool = True) -> None:
        self._loop_context.optimization.step_epoch_schedulers(self.current_epoch + 1, is_whole)
        total = self.epoch_progress.total
        total.ready = total.started = total.processed = total.completed = total.completed + 1

    def on_run_end(self) -> None:
        if self._loop_context.optimization.replicas is not None:
            self._loop_context.optimization.replicas.share_buffers()
        if self._unstepped and not self.global_step:
            self._loop_context.optimization.report_unstepped(self._unstepped)
        self._loop_context.routes.call("on_train_end")
        self._loop_context.announce_loop_end("fit", self.epoch_progress.current.completed)

    def teardown(self) -> None:
        self.epoch_loop.teardown()

    # -- commands ----------------------------------------------------------------------------

    @on(RunValidation)
    def run_validation(self, _: RunValidation) -> str:
        """Validate at this safe point."""
        val_loop = getattr(self.epoch_loop, "val_loop", None)
        if val_loop is None or not self._loop_context.loaders.can_validate:
            return "there is nothing to validate on"
        self._loop_context.checkpointer.begin_validation()
        val_loop.run()
        self._loop_context.loaders.schedule.begin()
        self._loop_context.checkpointer.end_validation()
        return "validated"


def _checked_steps(max_steps: int | None) -> int:
    checked = check_at_least("max_steps", max_steps, -1)
    return -1 if checked is None else checked
