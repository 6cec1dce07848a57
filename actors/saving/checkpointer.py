"""Checkpointer: decides when a run is saved, and restores it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ...bus.errors import CheckpointError, UsageError
from ...bus.events import Fault, Fork, Resumed
from ...bus.secrets.redaction import without_secrets
from ...bus.system.forks import leave_when_forked
from ...bus.system.logging_setup import get_logger
from ..checkpoints.format import Snapshot, take_snapshot
from ..run_context import RunContext
from ..run_optimization import RunOptimization
from .checks import check_optimizers, check_space, known_weights
from .kept import KeptCheckpoints
from .run_state import RunState
from .saved_hyperparameters import SavedHyperparameters
from .writing import CheckpointWriter, ToWrite

_log = get_logger("nightbus.checkpoint")


class _Begun(NamedTuple):
    """A checkpoint that all ranks have saved, of which they do not know yet how it ended.

    Attributes:
        path: the checkpoint.
        is_of_run: it can become ``last``.
        failed: takes back what was noted of it.
    """

    path: Path
    is_of_run: bool
    failed: Callable[[], object] | None


class Checkpointer:
    """Saves the run and restores it.

    A run is saved between two steps or two epochs, where its state is complete; requests made in
    hooks wait until then. A copy of the state is taken there, and a thread writes it while training
    goes on; a second save waits for the first.

    In the run's folder, ``checkpoints/last`` is a link to the newest checkpoint.

    Of several ranks, rank 0 writes, and tells the others how it ended before the next save begins,
    so that all decide alike what is saved next.

    Args:
        context: the run to save.
        optimization: its optimizers and schedulers.
    """

    def __init__(self, context: RunContext, optimization: RunOptimization) -> None:
        self._context, self._optimization = context, optimization
        self._reset()
        leave_when_forked(self)

    def _reset(self) -> None:
        self._hyperparameters = SavedHyperparameters()
        self._state = RunState(self._context, self._optimization, self._hyperparameters)
        self._kept = KeptCheckpoints(self._context)
        self._writer = CheckpointWriter(self._context, self._kept)
        self._wanted: list[Callable[[], object]] = []
        self._has_begun = False  # training, in this run
        # From where an interrupted validation is repeated.
        self._validation: dict[str, Any] | None = None
        # The state where an epoch ended before its last batch.
        self._cut: dict[str, Any] | None = None
        self._ended_epoch: int | None = None  # the epoch at whose end the run is saved now
        self._saved_here: Path | None = None  # a checkpoint of the whole run at this boundary
        self._saved_step = -1  # global_step of that checkpoint
        self._begun: _Begun | None = None
        self._error: BaseException | None = None  # why it could not be written
        self._reported: BaseException | None = None
        self._reported_gone = False  # that saving stopped because the run's folder is gone

    def leave_to_parent(self) -> None:
        """Forget, in a forked child, the writing thread and what was to be saved."""
        self._writer.leave_to_parent()
        self._wanted.clear()

    @property
    def last_path(self) -> Path | None:
        """Return the newest checkpoint in the run's folder, the target of ``last``."""
        return self._kept.last_path

    def begin(self, fork: Fork | None, state: Mapping[str, Any] | None) -> None:
        """Prepare for a run.

        Args:
            fork: the point from which it continues, if any.
            state: the checkpoint from which it continues, if any.
        """
        self._reset()
        self._kept.begin(fork, state)

    # -- before training ---------------------------------------------------------------------

    @property
    def _will_save(self) -> bool:
        """Return whether the run is saved in a folder of its own."""
        return self._kept.folder is not None and self._context.enable_checkpointing

    def check_space(self) -> None:
        """Check, before training begins, that checkpoints will fit on the disk of rank 0.

        Raises:
            CheckpointError: not even the weights do.
        """
        folder = self._kept.folder
        if self._will_save and folder is not None and self._context.group.world.is_global_zero:
            check_space(self._context.lightning_module, self._optimization, folder)

    def check_carried(self) -> None:
        """Report, before training begins, what of the run a checkpoint cannot hold.

        That is: hyperparameters, the weights, and the states of optimizers and schedulers. The run
        goes on: what can be saved is saved.
        """
        if not self._will_save:
            return
        context = self._context
        self._hyperparameters.check(context.lightning_module)
        if context.datamodule is not None:
            self._hyperparameters.check(context.datamodule)
        self._state.left_out.find({"state_dict": known_weights(context.lightning_module)})
        try:
            check_optimizers(self._optimization)
        except CheckpointError as error:
            self._state.left_out.leave_out_training(error)

    def begin_training(self) -> None:
        """Include, from now on, the modes of the module's parts in the run's state.

        What a checkpoint cannot hold of the states of callbacks, actors and the datamodule is
        reported now, before there are results to lose.
        """
        self._state.begin_training()
        self._has_begun = True
        if self._will_save:
            self._state.check_actors()

    # -- where the state is complete ---------------------------------------------------------

    def want(self, save: Callable[[], object]) -> None:
        """Request that something is saved at the next boundary between two steps or two epochs.

        Requests are served in their order.
        """
        self._wanted.append(save)
        self._context.bus.call_attention()

    def between_steps(self) -> None:
        """Save what was requested, at a boundary between two steps."""
        if self._writer.has_failed:
            self._wait_here()
        if self._wanted:
            self._saved_here = None
            self._save_wanted()

    def between_epochs(self) -> None:
        """Save what was requested, and the run, at a boundary between two epochs."""
        self._saved_here, self._ended_epoch = None, self._context.current_epoch - 1
        try:
            self._save_wanted()
        except UsageError:  # a metric's name was misspelt, which is known only now
            self._save_epoch()
            raise
        self._save_epoch()
        self._saved_here = self._ended_epoch = None

    def _save_epoch(self) -> None:
        if self._context.enable_checkpointing and self._cut is None and not self._is_saved_here:
            self.save_run(self._ended_epoch)

    def end_epoch_early(self) -> None:
        """Save the run when it ends before the last batch of an epoch.

        It is resumed in the middle of the epoch; so is everything else saved from now on.
        """
        if self._context.enable_checkpointing:
            if self._saved_step != self._context.global_step:
                self._saved_here = None  # from an earlier boundary: steps have been made since
            self.between_steps()
            self._cut = self._state.resume_point()
            if not self._is_saved_here:
                self.save_run()

    @property
    def _is_saved_here(self) -> bool:
        """Return whether the run's folder has a checkpoint of this boundary."""
        is_saved = self._saved_here is not None and self._saved_here.parent == self._kept.folder
        found: bool = self._context.group.broadcast("whether the run is saved here", is_saved)
        return found

    def _save_wanted(self) -> None:
        while self._wanted:
            self._wanted.pop(0)()

    def begin_validation(self) -> None:
        """Record that a validation in the middle of training begins.

        A checkpoint saved before it is over is resumed from here, so that the validation is
        repeated.
        """
        self._validation = self._state.resume_point()

    def end_validation(self) -> None:
        """Record that the validation is over."""
        self._validation = None

    @property
    def in_validation(self) -> bool:
        """True during a validation in the middle of training."""
        return self._validation is not None

    @property
    def can_save(self) -> bool:
        """Return whether training has begun and is not over, so that it can be resumed."""
        return self._context.enable_checkpointing and self._context.is_training_under_way

    @property
    def can_save_failed(self) -> bool:
        """Return whether a run that fails can be saved: also after training, in ``on_fit_end``."""
        return self.can_save or (self._context.enable_checkpointing and self._has_begun)

    # -- saving ------------------------------------------------------------------------------

    def save_run(self, epoch: int | None = None) -> Path | None:
        """Save the run in its folder, and point ``last`` at it; all ranks call this.

        Earlier ones are removed, except for the newest, which remains in case this one gets
        damaged.

        Args:
            epoch: for the name; the current one by default.

        Returns:
            The checkpoint; None if the run has no folder.

        Raises:
            CheckpointError: a checkpoint cannot hold the weights.
        """
        folder = self._kept.folder
        if folder is None:
            return None
        self.wait()  # the writing thread removes old checkpoints until it ends
        path = self._kept.add(folder, self._context.current_epoch if epoch is None else epoch)
        self.save(path)
        return path

    def save(
        self,
        path: Path,
        weights_only: bool = False,
        then: Callable[[], object] | None = None,
        failed: Callable[[], object] | None = None,
        replaces: bool = False,
        by_all: bool = True,
        at_boundary: bool = True,
    ) -> None:
        """Save a checkpoint at a path that does not exist yet; a thread of rank 0 writes it.

        If the run has been saved completely at this boundary, that checkpoint gets this name too.
        State that a checkpoint cannot hold is left out, which is reported.

        Args:
            path: the checkpoint.
            weights_only: leave out what only resuming needs.
            then: called by the writing thread when it is complete on disk.
            failed: called at the next boundary if it could not be written.
            replaces: replace the checkpoint at the path, which exists until then.
            by_all: all ranks save at this boundary, and each adds what is its own; otherwise,
                that of rank 0 has to do.
            at_boundary: this is a boundary between two steps or two epochs; otherwise, in a hook,
                the state is another one than at any boundary.
        """
        self._context.bus.check_is_here(f"a checkpoint was to be saved at {path}")
        world = self._context.group.world
        by_all = by_all or world.is_alone
        if not by_all and not world.is_global_zero:
            return
        if by_all:
            self.wait()  # before the state is copied again
        else:
            self._wait_here()
        content: Snapshot | Path | CheckpointError | None
        is_whole = at_boundary and not weights_only
        if self._saved_here is not None and by_all and is_whole:
            content = self._saved_here
        else:
            content = self._snapshot(weights_only, by_all)
        if by_all:
            is_of_run = path.parent == self._kept.folder and not weights_only
            self._begun = _Begun(path, is_of_run, failed)
            if is_whole:
                self._saved_here, self._saved_step = path, self._context.global_step
        if content is not None and world.is_global_zero:
            self._writer.start(ToWrite(path, content, weights_only, replaces, then))

    def _snapshot(self, weights_only: bool, by_all: bool) -> Snapshot | CheckpointError | None:
        """Return a copy of the state, or why there is none; None but on rank 0.

        A part of the state that a checkpoint cannot hold is left out.
        """
        resume_point = self._validation or self._cut
        ended = self._ended_epoch
        epoch = self._context.current_epoch if ended is None else ended
        is_zero = self._context.group.world.is_global_zero
        try:
            state = self._state.gather(weights_only, resume_point, self._kept.names, by_all, epoch)
            if not is_zero:
                return None
            try:
                return take_snapshot(state)
            except CheckpointError:
                self._state.left_out.find(state)  # for example what on_save_checkpoint added
                return take_snapshot(self._state.left_out.without(state))
        except CheckpointError as error:
            return error

    def wait(self) -> None:
        """Wait until the checkpoint being written is complete; all ranks call this.

        If writing failed, the log and the program's log report it; training goes on, and the
        checkpoint before still exists.
        """
        error = self._outcome()
        if error is not None:
            self.report(error)

    def _wait_here(self) -> None:
        """Wait until this rank writes no checkpoint, and report if that failed.

        Other ranks, which may be elsewhere, take note of it in ``wait``.
        """
        if self._context.group.world.is_alone:
            self.wait()
            return
        error = self._writer.wait()
        if error is not None:
            self.report(error)
            self._error = error

    def _outcome(self) -> BaseException | None:
        """Wait until the checkpoint being written is complete, and take note of how it ended.

        Returns:
            Why it could not be written, the same on all ranks; None if it is complete.
        """
        error = self._writer.wait() or self._error
        begun, self._begun, self._error = self._begun, None, None
        if begun is None:
            return error
        group = self._context.group
        if not group.world.is_alone:
            why = None if error is None else str(error)
            told = group.broadcast("how the saving of a checkpoint ended", why)
            if told is not None and error is None:
                error = CheckpointError(told)
        if error is not None:
            self._saved_here = None
            if begun.failed is not None:
                begun.failed()
        elif begun.is_of_run and not group.world.is_global_zero:
            self._kept.note_written(begun.path)
        return error

    def save_now(
        self, path: Path | None = None, weights_only: bool = False, by_all: bool = True
    ) -> Path:
        """Save a checkpoint, and return its path once it is complete on disk.

        Args:
            path: the checkpoint; by default one in the run's folder, to which ``last`` then points,
                saved by all ranks.
            weights_only: leave out what only resuming needs.
            by_all: all ranks call this at the same point; see ``save``.

        Returns:
            The checkpoint's path.

        Raises:
            CheckpointError: a checkpoint cannot hold the state, the disk failed, or there is no
                folder.
        """
        self._context.bus.check_is_here("a checkpoint was to be saved")
        if path is None:
            self._saved_here = None
            path = self.save_run()
            if path is None:
                raise CheckpointError(
                    "the run has no folder to save a checkpoint in; give Trainer a recording or "
                    "enable_checkpointing=True, or a path to save_checkpoint"
                )
        else:
            self.save(path, weights_only, by_all=by_all, at_boundary=False)
        error = self._outcome() if by_all else self._writer.wait()
        if error is not None:
            raise error
        return path

    def report(self, error: BaseException) -> None:
        """Report in the log and the program's log that a checkpoint could not be saved.

        Rank 0, which writes them all, reports it; once.
        """
        if error is self._reported or not self._context.group.world.is_global_zero:
            return
        self._reported = error
        run = self._context.run_folder
        is_gone = run is not None and not run.is_there
        if not (is_gone and self._reported_gone):
            self._reported_gone = is_gone
            _log.error("cannot save a checkpoint", error=str(error))
        self._context.bus.emit(
            Fault,
            type(error).__name__,
            without_secrets(str(error))[:1000],
            "",
            "",
            source="checkpointer",
        )

    def close(self) -> None:
        """Wait until the checkpoint being written is complete, because the run ends."""
        self._wait_here()
        self._state.record_last_event()

    # -- restoring ---------------------------------------------------------------------------

    def restore_module(self, state: Mapping[str, Any]) -> None:
        """Load the weights.

        Args:
            state: the checkpoint.

        Raises:
            WeightsError: they do not fit the module.
        """
        self._state.restore_module(state)

    def restore_training(self, state: Mapping[str, Any]) -> None:
        """Load everything but the weights, once optimizers are configured.

        Args:
            state: the checkpoint.

        Raises:
            CheckpointError: the checkpoint holds only weights, or another set-up.
        """
        self._state.restore_training(state)

    def restore_rng(self) -> None:
        """Restore random number generators, last before training, because set-up may draw."""
        if self._state.restore_rng():
            self._context.bus.emit(Resumed)
            self.between_steps()
