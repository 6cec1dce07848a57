"""TrainingEpochLoop: the batches of one epoch, and validation within it."""

from collections.abc import Mapping
from typing import Any, ClassVar

from ..actors.optimization.progress import Progress
from ..actors.ranks.common_end import CommonEnd
from ..bus.errors import UsageError
from ..bus.routes import SKIP
from ..bus.system.logging_setup import get_logger
from .evaluation import EvaluationLoop
from .fast.training import FastTraining
from .loop import Loop
from .optimizer import OptimizerLoop
from .outputs import carried, for_batch_end, for_epoch_end, is_plain
from .training_batch import TrainingBatchLoop

_log = get_logger("nightbus.loops")


class TrainingEpochLoop(Loop):
    """Runs the batches of one epoch.

    An iteration is::

        batch = the next one  # None is skipped
        batch = trainer.move_batch(batch)
        on_batch_start()
        on_train_batch_start(batch, batch_idx)  # returns -1 to end the epoch
        outputs = self.batch_loop.run(batch, batch_idx)
        # schedulers with interval="step" advance
        on_train_batch_end(outputs, batch, batch_idx)
        on_batch_end()
        if validation is due:
            self.val_loop.run()
        # safe point

    If the hooks that are only announced have no handlers, and the loops are not overridden,
    ``fast/`` does the same with fewer calls and readings of the clock.

    Args:
        min_steps: number of optimizer steps before a stop takes effect.
        max_steps: maximum number of optimizer steps; -1 for no limit.
    """

    END: ClassVar[object] = object()  # returned instead of a batch if there are no more
    name = "train"
    shows_iterations = False  # hooks tell its position
    _of_run: ClassVar[tuple[str, ...]] = (
        "_reader",
        "_position",
        "kept_outputs",
        "_fast",
        "common_end",
    )
    _fast: FastTraining | None = None
    common_end: CommonEnd | None = None
    _reader: Any = iter(())
    _position: Mapping[str, Any] | None = None  # of an epoch to continue
    kept_outputs: list[Any] | None = None

    def __init__(self, min_steps: int | None = None, max_steps: int = -1) -> None:
        self.min_steps = min_steps
        self.max_steps = max_steps
        self.batch_loop = TrainingBatchLoop()
        self.val_loop = EvaluationLoop("validate")
        self.batch_progress = Progress()
        self.is_last_batch = False
        self.batch_idx = -1
        self._ahead: list[Any] = []  # at most one batch, read to know whether another is the last
        self._is_open = False  # an epoch is running
        self._validated = -1  # the batch after which validation last ran in this epoch
        self._limit: int | None = None
        self._ended_early = False  # the data ended before the limit
        self.waits_for_validation = False  # a scheduler waits, with its step after this batch
        self._steps_before = -1  # optimizer steps before the epoch
        self._skipped_before = 0
        self.validates = False

    @property
    def global_step(self) -> int:
        """Optimizer steps completed."""
        return self._loop_context.global_step

    @property
    def total_batch_idx(self) -> int:
        """Number of the batch over all epochs."""
        return self.batch_progress.total.ready - 1

    @property
    def _batches_that_stepped(self) -> int:
        """Number of steps as Lightning's loggers count them; several optimizers count as one."""
        return max(self._loop_context.optimization_progress.steps_by_optimizer, default=0)

    @_batches_that_stepped.setter
    def _batches_that_stepped(self, steps: int) -> None:
        _log.warning(
            f"_batches_that_stepped = {steps} has no effect: values are logged with the steps that "
            "the optimizers have made, also in a run that is resumed by ckpt_path="
        )

    @property
    def done(self) -> bool:
        context = self._loop_context
        if self.is_last_batch or (
            self.max_steps >= 0
            and context.optimization_progress.step.total.completed >= self.max_steps
        ):
            return True
        return context.stops.any and context.may_stop

    @property
    def resumes_epoch(self) -> bool:
        """True if the next run continues in the middle of an epoch."""
        return self._position is not None

    def reset(self) -> None:
        context = self._loop_context
        position = self._position
        if position is None:
            self.batch_progress.begin_interrupted()
            self.batch_progress.begin()
            self.batch_idx, self._validated = -1, -1
        else:
            self.batch_progress.complete(position["batches"])
            self.batch_idx, self._validated = position["batches"] - 1, position["validated"]
        self.is_last_batch = self._ended_early = False
        self._limit = context.loaders.num_training_batches
        self.validates = context.loaders.can_validate
        kept = [] if position is None else list(position["outputs"])
        self.kept_outputs = kept if context.wiring.keeps_training_outputs else None

    def on_run_start(self) -> None:
        context = self._loop_context
        position, self._position = self._position, None
        resumes = position is not None
        self._reader = context.loaders.read_training(
            context.place.rank, position["data"] if position else None
        )
        self._ahead = list(position["ahead"]) if position else []
        self._is_open = True
        self._steps_before = -1 if resumes else context.global_step  # unknown if resumed
        self._skipped_before = self._turns_skipped()
        self.common_end = context.loaders.common_end
        self._find_last(has_ended=position is not None and position.get("ended", False))
        if self.common_end is not None:
            self._find_common_last(self.common_end, resumes)
        if position is not None:
            context.optimization.waiting_schedulers = position.get("schedulers", [])
            self.waits_for_validation = context.optimization.has_waiting_schedulers
            context.place.move(batch_idx=self.batch_idx)
            context.checkpointer.restore_rng()
        if context.optimization.replicas is not None:
            context.optimization.replicas.refresh()
            context.wiring.begin_epoch_of_ranks()
        if context.running_loss is not None:
            context.running_loss.begin_epoch(self._limit)
        context.wiring.sources.set("training_step", self.fetch, self._end_with_step)
        self._fast = FastTraining(self, context)
        context.announce_loop("train", self._limit, "batch")
        if resumes:
            self.on_advance_end()  # the validation after the last batch, if it did not run

    def _find_last(self, has_ended: bool) -> None:
        """Find out, at the begin, whether there is a batch."""
        if has_ended:
            self.is_last_batch = self._ended_early = True
        elif self._limit is not None and self.common_end is None:
            self.is_last_batch = self.batch_idx + 1 >= self._limit
        elif not self._ahead:
            self._read_ahead(self.batch_idx + 1)

    def _find_common_last(self, end: CommonEnd, resumes: bool) -> None:
        """Find out, at the begin, whether all ranks have a batch."""
        context = self._loop_context
        replicas = context.optimization.replicas
        if resumes:
            self._end_with_others(end.go_on(self.is_last_batch, replicas))
        else:
            end.begin(not self.is_last_batch, context.place.epoch, replicas)

    def _read_ahead(self, batch_idx: int) -> None:
        """Read the batch of this number, if there is one."""
        self._ahead = []
        if self._limit is None or batch_idx < self._limit:
            batch = next(self._reader, self.END)
            if batch is not self.END:
                self._ahead = [batch]
            elif self._limit is not None:
                self._ended_early = True
                self._loop_context.loaders.report_early_end(batch_idx)
        self.is_last_batch = not self._ahead

    def _end_with_others(self, is_last: bool) -> None:
        """End the epoch with the present batch if it is the last of another rank."""
        if is_last and not self.is_last_batch:
            self.is_last_batch = self._ended_early = True

    def learn_of_last(self) -> None:
        """Find out, after a step, whether the batch is the last of another rank."""
        assert self.common_end is not None
        self._end_with_others(self.common_end.after_batch())

    def _go_fast(self) -> bool:
        return self._fast is not None and self._fast.run()

    def advance(self) -> None:
        self.work_on(self.next_batch())

    def work_on(self, batch: Any) -> None:
        """Process what ``next_batch`` returned."""
        if batch is self.END:
            self._end_early()
            return
        batch_idx = self.begin_batch()
        if batch is None:
            self._pass_over(batch_idx)
            return
        batch = self.start_batch(batch, batch_idx)
        self.batch_progress.total.started += 1
        self.train_on(batch, batch_idx)

    def train_on(self, batch: Any, batch_idx: int) -> None:
        """Train on a batch that was announced.

        Args:
            batch: the batch, on the device.
            batch_idx: its number in the epoch, from 0.
        """
        context = self._loop_context
        routes, counts = context.routes, self.batch_progress.total
        outputs = self.batch_loop.run(batch, batch_idx)
        if self.common_end is not None and self.common_end.rides:
            self.learn_of_last()
        counts.processed += 1
        if self.kept_outputs is not None:
            self.kept_outputs.append(outputs)
        if context.optimization.has_step_schedulers:
            self.step_schedulers()
        if (hook := routes.on_train_batch_end) is not None:
            several = context.optimization.passes_optimizer_idx
            hook(for_batch_end(outputs) if several else outputs, batch, batch_idx)
        if (hook := routes.on_batch_end) is not None:
            hook()
        counts.completed += 1

    def next_batch(self) -> Any:
        """Return the epoch's next batch, or ``END`` if the data ended early.

        Raises:
            StopIteration: there is no batch, even if ``done`` is False.
        """
        if self._limit is None or self.common_end is not None:  # only the next batch tells
            if not self._ahead:
                raise StopIteration
            batch = self._ahead.pop()
            self._read_ahead(self.batch_idx + 2)
            if self.common_end is not None:
                self._tell_of_last(self.common_end)
            return batch
        self.is_last_batch = self.batch_idx + 2 >= self._limit
        try:
            batch = self._ahead.pop() if self._ahead else self._reader.__next__()
        except StopIteration:
            batch = self.END
        if batch is self.END and (self._ended_early or self.batch_idx + 1 >= self._limit):
            raise StopIteration
        return batch

    def fetch(self) -> tuple[Any, int, int]:
        """Return a further batch and its numbers for a step that fetches them itself.

        Raises:
            StopIteration: there is none.
            UsageError: ranks whose data may end at different batches cannot fetch several a step.
        """
        if self.common_end is not None:
            raise UsageError(
                "training_step(dataloader_iter) fetched a second batch; with several processes "
                "whose data may end at different batches, it may fetch one"
            )
        if self.is_last_batch:
            raise StopIteration
        context, counts = self._loop_context, self.batch_progress.total
        batch = self.next_batch()
        if batch is self.END:
            self.is_last_batch = self._ended_early = True
            context.loaders.report_early_end(self.batch_idx + 1)
            raise StopIteration
        batch_idx = self.begin_batch()
        context.place.begin_batch(batch_idx)
        batch = context.metrics.batch = context.move_batch(batch, 0)
        counts.started += 1
        counts.processed += 1
        counts.completed += 1
        return batch, batch_idx, 0

    def _end_with_step(self) -> None:
        """End the epoch with the present step, as one that fetches its batches has asked for."""
        if self._loop_context.ends_epoch_here():
            self.is_last_batch = self._ended_early = True

    def _tell_of_last(self, end: CommonEnd) -> None:
        """Tell other ranks whether the batch is the last, and learn of theirs."""
        context = self._loop_context
        steps = context.accumulate_grad_batches == 1 and not (
            context.optimization.truncated_bptt_steps
        )
        self._end_with_others(end.before_batch(self.is_last_batch, steps))

    def begin_batch(self) -> int:
        """Count a batch that was read; return its number in the epoch."""
        context = self._loop_context
        self.batch_idx += 1
        if context.metrics.step != context.place.step:
            context.metrics.begin_step(context.place.step)
        self.batch_progress.total.ready += 1
        return self.batch_idx

    def start_batch(self, batch: Any, batch_idx: int) -> Any:
        """Set the place, move the batch to the device, and announce it.

        Args:
            batch: the batch of the dataloader.
            batch_idx: its number in the epoch, from 0.

        Returns:
            The batch to train on.

        Raises:
            StopIteration: a hook ends the epoch.
        """
        context = self._loop_context
        routes = context.routes
        context.place.begin_batch(batch_idx)
        batch = context.move_batch(batch, 0)
        context.metrics.batch = batch
        if (hook := routes.on_batch_start) is not None:
            hook()
        if (hook := routes.on_train_batch_start) is not None and hook(batch, batch_idx) == SKIP:
            self.end_early()
        return batch

    def end_early(self) -> None:
        """End the epoch before this batch, or let all ranks end it soon.

        Raises:
            StopIteration: it ends here.
        """
        if self._loop_context.ends_epoch_here():
            self.is_last_batch = True
            raise StopIteration

    def step_schedulers(self) -> None:
        """Advance the schedulers due after a step; some wait for the validation."""
        optimization = self._loop_context.optimization
        optimization.step_schedulers()
        self.waits_for_validation = optimization.has_waiting_schedulers

    def _end_early(self) -> None:
        """Do what waits for the last batch, because the data ended before it."""
        self.is_last_batch = self._ended_early = True
        self._loop_context.loaders.report_early_end(self.batch_idx + 1)
        self._end_accumulation()

    def _end_accumulation(self) -> None:
        for loop in self.batch_loop.walk():
            if isinstance(loop, OptimizerLoop):
                loop.end_accumulation()
        self.waits_for_validation = self._loop_context.optimization.has_waiting_schedulers

    def _pass_over(self, batch_idx: int) -> None:
        """Skip a batch that is None; of several ranks, this one takes part without a loss."""
        context = self._loop_context
        context.loaders.report_none("training")
        context.place.begin_batch(batch_idx)
        context.metrics.batch = None
        counts = self.batch_progress.total
        counts.started += 1
        if (replicas := context.optimization.replicas) is not None:
            replicas.check_gap(batch_idx, context.optimization.truncated_bptt_steps > 0)
            self.train_on(None, batch_idx)
            return
        if self.is_last_batch:
            self._end_accumulation()
        counts.processed += 1
        outputs: Any = [] if context.optimization.passes_optimizer_idx else None
        context.routes.call("on_train_batch_end", outputs, None, batch_idx)
        context.routes.call("on_batch_end")
        counts.completed += 1

    def on_advance_end(self) -> None:
        if self.validates and self.batch_idx > self._validated and self._is_validation_due():
            context = self._loop_context
            context.checkpointer.begin_validation()
            self.val_loop.run()  # if it fails, a checkpoint saved then is resumed from its start
            self._validated = self.batch_idx
            context.loaders.schedule.begin()
            context.checkpointer.end_validation()
        if self.waits_for_validation:
            self.waits_for_validation = False
            self._loop_context.optimization.step_waiting_schedulers()

    def _is_validation_due(self) -> bool:
        schedule, epoch, idx = (
            self._loop_context.loaders.schedule,
            self._loop_context.place.epoch,
            self.batch_idx,
        )
        if schedule.is_due(epoch, idx, self.batch_progress.total.ready, self.is_last_batch):
            return True
        return (
            self._ended_early
            and self._limit is not None
            and schedule.is_due_at_early_end(epoch, idx + 1, self._limit)
        )

    def on_run_end(self) -> list[Any] | None:
        """Return the outputs of training steps, without their graphs, if a handler needs them."""
        context = self._loop_context
        if not self.is_last_batch:
            self._look_for_end()
        if not self.is_last_batch:
            context.checkpointer.end_epoch_early()
        self._report_what_is_missing()
        self._report_what_is_left()
        self._close()
        if context.running_loss is not None:
            context.running_loss.end_epoch()
        context.announce_loop_end("train", self.batch_idx + 1)
        outputs, self.kept_outputs = self.kept_outputs, None
        if outputs is None:
            return None
        return for_epoch_end(
            outputs,
            len(context.optimization.optimizers)
            if context.optimization.passes_optimizer_idx
            else 1,
        )

    def _report_what_is_missing(self) -> None:
        context = self._loop_context
        epoch = context.place.epoch
        if self.batch_idx < 0 and self.is_last_batch:  # no request to stop ended it before
            context.loaders.report_empty("training", context.loaders.training, f" in epoch {epoch}")
        elif (skipped := self._turns_skipped() - self._skipped_before) and (
            context.global_step == self._steps_before
        ):
            context.optimization.report_untrained(epoch, skipped)

    def _report_what_is_left(self) -> None:
        """Tell which ranks have more data, if the epoch ended with that of another."""
        if self.common_end is None or not self.is_last_batch:
            return
        context, batches = self._loop_context, self.batch_idx + 1
        announced = None if self._limit is None else self._limit - batches
        left = self.common_end.left_unread(len(self._ahead), announced)
        context.loaders.report_unread(batches, context.place.epoch, left)

    def _turns_skipped(self) -> int:
        loops = self.batch_loop.walk()
        return sum(loop.turns_skipped for loop in loops if isinstance(loop, OptimizerLoop))

    def _look_for_end(self) -> None:
        """Check, once max_steps is reached, whether the data ends with this batch."""
        context = self._loop_context
        if self._limit is None or not 0 <= self.max_steps <= context.global_step:
            return
        if self._reader.takes_back and not self._ahead and context.loaders.may_end_early:
            batch = next(self._reader, self.END)
            if batch is self.END:
                self._end_early()
                self.on_advance_end()
            else:
                self._ahead = [batch]

    def _close(self) -> None:
        if self._is_open:
            self._reader.close()
        self._reader = iter(())
        self._ahead = []
        self._is_open = False

    def teardown(self) -> None:
        self._close()
        self.kept_outputs = None
        self.val_loop.teardown()

    # -- state -------------------------------------------------------------------------------

    def on_save_checkpoint(self) -> dict[str, Any]:
        """Return the position in the epoch; nothing between two epochs."""
        if not self._is_open:
            return {}
        batches = self.batch_progress.current.processed
        underway = self.batch_idx + 1 - batches  # 1 if a hook within a batch or an error saves
        ahead, unused = self._ahead, 0
        if self._reader.takes_back and (underway or not is_plain(ahead)):
            ahead, unused = [], underway + len(ahead)
        return {
            "batches": batches,
            "validated": self._validated,
            "outputs": carried(self.kept_outputs or []),
            "ahead": ahead,
            "data": self._reader.state_dict(unused),
            "ended": self._ended_early and not underway,
            "schedulers": self._loop_context.optimization.waiting_schedulers,
        }

    def on_load_checkpoint(self, state_dict: Mapping[str, Any]) -> None:
        """Continue in the epoch of a checkpoint."""
        self._position = state_dict or None
