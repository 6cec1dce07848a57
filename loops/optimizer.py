"""OptimizerLoop: training step, backward and optimizer step of one batch, for each optimizer."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..actors.metrics.results import Result
from ..bus.errors import UsageError
from .outputs import kept_output
from .step_marks import (
    BACKWARD_BEGINS,
    BACKWARD_ENDS,
    BACKWARD_ENDS_BEFORE_STEP,
    BATCH_AND_STEP_BEGIN,
    BATCH_STEP_AND_TRAINING_BEGIN,
    BEFORE_STEP,
    CLEARING_BEGINS,
    CLEARING_ENDS,
    CLEARING_ENDS_BACKWARD_BEGINS,
    STEP_AND_NEXT,
    STEP_BEGINS,
    STEP_ENDS,
    TRAINING_BEGINS,
    TRAINING_ENDS,
    TRAINING_ENDS_CLEARING_BEGINS,
)
from .training_step import TrainingStepLoop

HOOK_GROUPS = {
    "only_notes_before_zero_grad": ("on_before_zero_grad",),
    "only_notes_before_backward": ("on_before_backward",),
    "only_notes_after_backward": (
        "on_after_backward",
        "on_before_optimizer_step",
        "configure_gradient_clipping",
    ),
}


class _SkipTurn(Exception):
    """training_step returned None: leaves the optimizer's step before it changes anything."""


class OptimizerLoop(TrainingStepLoop):
    """Gives each optimizer whose turn it is its turn with a batch.

    Attributes:
        optimizer_idx: whose turn it is, or was last.
        turns_skipped: how many turns there were without a loss.
    """

    _of_run: ClassVar[tuple[str, ...]] = ("_batch", "_output")
    _batch: Any = None
    _output: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.optimizer_idx = 0
        self.turns_skipped = 0
        self._batch_idx = 0
        self._turns: Sequence[int] = (0,)
        self._turns_taken = 0
        self._outputs: dict[int, Any] = {}
        self._will_step = True
        self._is_evaluated = False  # the closure of this turn, where that is not sure
        self._turns_since_step: Counter[int] = Counter()  # by optimizer, with accumulation
        self._cleared: set[int] = set()  # optimizers whose gradients belong to this accumulation

    @property
    def done(self) -> bool:
        return self._turns_taken >= len(self._turns)

    def reset(self) -> None:
        trainer = self.trainer
        self._turns_taken = 0
        if trainer.optimization.passes_optimizer_idx:
            self._turns = trainer.optimization.turns()
            self._outputs = {}

    def advance(self, batch: Any, batch_idx: int) -> None:
        trainer = self.trainer
        optimizer_idx = self.optimizer_idx = self._turns[self._turns_taken]
        self._turns_taken += 1
        self._batch, self._batch_idx = batch, batch_idx
        if trainer.accumulate_grad_batches > 1 or not self._will_step:
            self._accumulate(optimizer_idx)
        if trainer.optimization.passes_optimizer_idx:
            self._take_toggled_turn(optimizer_idx)
        else:
            self._take_turn(optimizer_idx)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        if type(self) is not OptimizerLoop or kwargs:
            return super().run(*args, **kwargs)
        # A shorter way to the same: saves 2 us a step.
        trainer = self.trainer
        self._batch, self._batch_idx = args
        accumulates = trainer.accumulate_grad_batches > 1 or not self._will_step
        if not trainer.optimization.passes_optimizer_idx:
            if accumulates:
                self._accumulate(0)
            self._take_turn(0)
            output, self._output = self._output, None
            self._batch = None
            return output
        self._outputs = {}
        for optimizer_idx in trainer.optimization.turns():
            self.optimizer_idx = optimizer_idx
            if accumulates:
                self._accumulate(optimizer_idx)
            self._take_toggled_turn(optimizer_idx)
        self._batch = None
        return self._outputs

    @property
    def is_accumulating(self) -> bool:
        """Whether an accumulation has begun and not led to a step yet: also because training_step
        returned None where the step was due.
        """
        return bool(self._cleared) or any(self._turns_since_step.values())

    def end_accumulation(self) -> None:
        """Step with the gradients that wait for batches which do not come any more."""
        for idx in sorted(self._cleared):
            if self._turns_since_step[idx]:
                self._turns_since_step[idx] = 0
                self._will_step = True
                self._step_alone(idx)

    def _step_alone(self, idx: int) -> None:
        """An optimizer step whose gradients are there already."""
        trainer = self.trainer
        place, progress = trainer.place, trainer.optimization_progress
        is_prepared = False

        def closure() -> Tensor:
            nonlocal is_prepared
            if not is_prepared:  # an optimizer may evaluate it again
                is_prepared = True
                self._announce_step(trainer.optimizers[idx], idx)
            return torch.zeros(())

        counts = progress.step.total
        counts.ready += 1
        optimizer = trainer.optimization.stepping_optimizers[idx]
        trainer.routes.call("optimizer_step", place.epoch, place.batch_idx, optimizer, idx, closure)
        counts.completed += 1
        self._cleared.discard(idx)
        progress.steps_by_optimizer[idx] += 1
        place.complete_step(counts.completed)
        trainer.optimization.step_schedulers()

    def on_save_checkpoint(self) -> dict[str, Any]:
        """Where accumulations are."""
        if not self.is_accumulating:
            return {}
        turns = {str(idx): number for idx, number in self._turns_since_step.items()}
        return {"turns": turns, "cleared": sorted(self._cleared), "will_step": self._will_step}

    def on_load_checkpoint(self, state_dict: Mapping[str, Any]) -> None:
        """Take up what ``on_save_checkpoint`` gave."""
        turns = state_dict.get("turns", {})
        self._turns_since_step = Counter({int(idx): number for idx, number in turns.items()})
        self._cleared = set(state_dict.get("cleared", ()))
        self._will_step = state_dict.get("will_step", True)

    def _take_toggled_turn(self, optimizer_idx: int) -> None:
        """A turn in which only this optimizer's parameters require gradients."""
        trainer = self.trainer
        toggle = trainer.optimization.toggling_module
        trainer.place.settle()
        if toggle is None:
            trainer.optimization.toggle.begin(optimizer_idx)
        else:
            toggle.toggle_optimizer(trainer.optimization.optimizers[optimizer_idx], optimizer_idx)
        try:
            self._take_turn(optimizer_idx)
        finally:
            if toggle is None:
                trainer.optimization.toggle.end()
            else:
                toggle.untoggle_optimizer(optimizer_idx)
        if self._output is not None:
            self._outputs[optimizer_idx], self._output = self._output, None

    def _accumulate(self, optimizer_idx: int) -> None:
        """Find out whether this turn ends an accumulation."""
        trainer = self.trainer
        turns = self._turns_since_step[optimizer_idx] + 1
        self._will_step = turns >= trainer.accumulate_grad_batches or trainer.is_last_batch
        self._turns_since_step[optimizer_idx] = 0 if self._will_step else turns

    def _take_turn(self, optimizer_idx: int) -> None:
        trainer = self.trainer
        place = trainer.place
        progress = trainer.optimization_progress
        counts = progress.step.total
        shares = is_noted = False  # its readings of the clock with the batch; here at all
        try:
            if not self._will_step or not trainer.optimization.optimizers:
                with torch.enable_grad():
                    self._closure()
                return
            counts.ready += 1
            optimizer = trainer.optimization.stepping_optimizers[optimizer_idx]
            routes = trainer.routes
            step = routes.default_optimizer_step
            closure = self._closure
            is_sure = step is not None and trainer.wiring.evaluates_first
            if not is_sure:
                closure, self._is_evaluated = self._closure_with_grad, False
            arguments = place.epoch, self._batch_idx, optimizer, optimizer_idx, closure
            if step is None:
                routes.optimizer_step(*arguments)
            else:
                outer, place.hook = place.hook, "optimizer_step"
                if is_noted := place.note is not None:
                    if shares := place.pending is not None:  # that the batch begins
                        place.pending = BATCH_AND_STEP_BEGIN
                    else:
                        place.note_now(STEP_BEGINS)
                step(*arguments)
                place.hook = outer
            if not is_sure and not self._is_evaluated:
                raise _forgotten(optimizer, is_overridden=step is None)
        except _SkipTurn:
            self.turns_skipped += 1
            place.hook = ""  # routes leave the name, for faults
            counts.ready = counts.completed
            return
        counts.completed += 1
        self._cleared.discard(optimizer_idx)
        progress.steps_by_optimizer[optimizer_idx] += 1
        if shares and counts.completed == place.step + 1:
            if place.pending is not None:
                place.settle()
            place.step, place.pending = counts.completed, STEP_AND_NEXT
        else:
            if is_noted:
                place.note_now(STEP_ENDS)
            place.complete_step(counts.completed)

    def on_run_end(self) -> Any:
        """One optimizer: what its training_step returned, without the graph, if somebody wants
        it; several: a dict of that by optimizer_idx.
        """
        self._batch = None
        if self.trainer.optimization.passes_optimizer_idx:
            return self._outputs
        output, self._output = self._output, None
        return output

    def _loss_of(self, output: Any) -> Tensor:
        """The loss in an output that is more than a loss; what it says to log is logged.

        Raises:
            _SkipTurn: there is none.
        """
        trainer = self.trainer
        loss: Tensor | None
        if isinstance(output, Result):
            keeps = trainer.wiring.logs_collected_training
            trainer.metrics.log_result(output, "training_step", keeps)
            loss = getattr(output, "minimize", None)
        else:
            if isinstance(output, Mapping):
                trainer.metrics.log_dicts(output, is_epoch_end=False)
            loss = _minimized(output)
        if loss is None:
            raise _SkipTurn
        return loss

    def _closure_with_grad(self) -> Tensor | None:
        """The same for whoever may call it without gradients, or not at all."""
        self._is_evaluated = True
        with torch.enable_grad():
            return self._closure()

    def _closure(self) -> Tensor | None:
        """training_step, zero_grad, backward: what an optimizer's step evaluates."""
        # What nobody handles is done and noted here: a call less is 1 to 2 us of a step, whose
        # processor's caches are full of other things.
        trainer, idx = self.trainer, self.optimizer_idx
        routes, place = trainer.routes, trainer.place
        note, clock_ns = place.note, place.clock_ns
        # Ended, and noted with what begins next; nobody else notes anything until then.
        trained = cleared = False
        if self._asks_module and trainer.wiring.has_plain_training_step:
            # What the method does, without calling it.
            batch, batch_idx = self._batch, self._batch_idx
            several = trainer.optimization.passes_optimizer_idx
            step: Any = routes.plain_training_step
            if step is None or several:
                step = routes.training_step
                output = step(batch, batch_idx, idx) if several else step(batch, batch_idx)
            else:
                outer, place.hook = place.hook, "training_step"
                if note is not None:
                    if place.pending is BATCH_AND_STEP_BEGIN:
                        place.pending = None
                        note(clock_ns() + BATCH_STEP_AND_TRAINING_BEGIN)
                    else:
                        place.settle()
                        note(clock_ns() + TRAINING_BEGINS)
                output = step(batch, batch_idx)
                trained = note is not None
                place.hook = outer
        else:
            place.settle()
            output = self.training_step(self._batch, self._batch_idx, idx)
        if isinstance(output, Tensor):
            loss = output
        else:
            if trained:
                place.note_now(TRAINING_ENDS)
                trained = False
            loss = self._loss_of(output)
        if trainer.wiring.wants_training_outputs:
            self._output = kept_output(output)
        if not trainer.optimization.optimizers:
            if trained:
                place.note_now(TRAINING_ENDS)
            if trainer.running_loss is not None:
                trainer.running_loss.add(loss, self._batch_idx)
            return loss
        optimizer = trainer.optimization.optimizers[idx]
        if idx not in self._cleared:
            epoch, batch_idx = place.epoch, self._batch_idx
            clear = routes.plain_optimizer_zero_grad
            if clear is None or not routes.only_notes_before_zero_grad:
                if trained:
                    place.note_now(TRAINING_ENDS)
                routes.call("on_before_zero_grad", optimizer)
                routes.optimizer_zero_grad(epoch, batch_idx, optimizer, idx)
            else:
                outer, place.hook = place.hook, "optimizer_zero_grad"
                if note is not None:
                    now_ns = clock_ns()
                    note(now_ns + (TRAINING_ENDS_CLEARING_BEGINS if trained else CLEARING_BEGINS))
                    if now_ns > place.late_ns:
                        place.on_late()
                clear(epoch, batch_idx, optimizer, idx)
                cleared = note is not None
                place.hook = outer
            trained = False
            trainer.optimization_progress.zero_grad.total.completed += 1
        if trained:
            place.note_now(TRAINING_ENDS)
        minimized, scaler = loss, trainer.device.scaler
        if trainer.accumulate_grad_batches > 1 or scaler is not None:
            if cleared:
                place.note_now(CLEARING_ENDS)
                cleared = False
            if trainer.accumulate_grad_batches > 1:
                self._cleared.add(idx)
                loss = loss / trainer.accumulate_grad_batches
            if scaler is not None:
                loss = scaler.scale(loss)
        only_steps = self._will_step and scaler is None and routes.only_notes_after_backward
        backward = routes.plain_backward
        if backward is None or not routes.only_notes_before_backward:
            if cleared:
                place.note_now(CLEARING_ENDS)
            routes.call("on_before_backward", loss)
            routes.backward(loss, optimizer, idx)
            if only_steps:
                place.note_now(BEFORE_STEP)
        else:
            outer, place.hook = place.hook, "backward"
            if note is not None:
                note(clock_ns() + (CLEARING_ENDS_BACKWARD_BEGINS if cleared else BACKWARD_BEGINS))
            backward(loss, optimizer, idx)
            if note is not None:
                now_ns = clock_ns()
                note(now_ns + (BACKWARD_ENDS_BEFORE_STEP if only_steps else BACKWARD_ENDS))
                if now_ns > place.late_ns:
                    place.on_late()
            place.hook = outer
        if not only_steps:
            self._prepare_step(optimizer, idx)
        if trainer.running_loss is not None:
            trainer.running_loss.add(minimized, self._batch_idx)
        return loss

    def _prepare_step(self, optimizer: Optimizer, idx: int) -> None:
        """What is done between backward and the step, if a step is due."""
        self.trainer.routes.call("on_after_backward")
        if self._will_step:
            self._announce_step(optimizer, idx)

    def _announce_step(self, optimizer: Optimizer, idx: int) -> None:
        trainer = self.trainer
        routes, scaler = trainer.routes, trainer.device.scaler
        if scaler is not None:
            scaler.unscale_(optimizer)
        clip = trainer.gradient_clip_val, trainer.gradient_clip_algorithm
        routes.call("on_before_optimizer_step", optimizer, idx)
        routes.call("configure_gradient_clipping", optimizer, idx, *clip)


def _forgotten(optimizer: Any, is_overridden: bool) -> UsageError:
    """The error for a closure that nobody called."""
    who = "optimizer_step" if is_overridden else f"{type(optimizer).__name__}.step"
    how = (
        "call optimizer.step(closure=optimizer_closure), or optimizer_closure() alone to "
        "accumulate gradients without a step"
        if is_overridden
        else "it has to call the closure that it is given; or override optimizer_step to call "
        "optimizer_closure() and then optimizer.step()"
    )
    return UsageError(
        f"{who} did not call its closure, which runs training_step and backward, so nothing was "
        f"trained: {how}"
    )


def _minimized(output: Any) -> Tensor | None:
    """The loss in what training_step returned.

    Raises:
        UsageError: there is none, or it cannot be differentiated.
    """
    loss = output
    if isinstance(output, Mapping):
        if "loss" not in output:
            raise UsageError(
                f"training_step returned a dict without 'loss'; it has {sorted(map(str, output))}"
            )
        loss = output["loss"]
    if loss is None or isinstance(loss, Tensor):
        return loss
    raise UsageError(
        f"training_step returned {type(loss).__name__}; expected a loss tensor, a dict with "
        "'loss', a TrainResult, or None to skip the batch"
    )
