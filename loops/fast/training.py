"""Training batches in which nobody handles what is only announced in the middle of them."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..outputs import for_batch_end, kept_output
from .marks import (
    AFTER_BACKWARD,
    BACKWARD_BEGINS,
    BACKWARD_ENDS,
    BACKWARD_ENDS_BEFORE_STEP,
    BATCH_BEGINS,
    BATCH_ENDS,
    BATCH_STEP_AND_TRAINING_BEGIN,
    CLEARING_BEGINS,
    CLEARING_ENDS,
    CLEARING_ENDS_BACKWARD_BEGINS,
    STEP_AND_BATCH_END,
    STEP_AND_NEXT,
    STEP_BEGINS,
    TRAINING_BEGINS,
    TRAINING_ENDS,
    TRAINING_ENDS_CLEARING_BEGINS,
)
from .path import FastPath

if TYPE_CHECKING:
    from ..loop import Loop

# Hooks that the loops run one after the other, and that this leaves out but for the notes.
_START = (
    "on_before_batch_transfer",
    "transfer_batch_to_device",
    "on_after_batch_transfer",
    "on_batch_start",
    "on_train_batch_start",
)
_MIDDLE = (
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "optimizer_step",
)
_BATCH_END = ("on_train_batch_end", "on_batch_end")


class FastTraining(FastPath):
    """What TrainingEpochLoop, TrainingBatchLoop and OptimizerLoop do, safe points included.

    For automatic optimization with optimizers of torch's, which do nothing before they evaluate
    their closure, once: so it needs none. Hooks at the begin and the end of batches may be
    handled, those in between not.

    Args:
        loop: the TrainingEpochLoop of the run.
    """

    def __init__(self, loop: Any) -> None:
        super().__init__(loop)
        self._loop = loop
        self._stops = self._trainer.stops
        self._optimization = self._trainer.optimization
        self._progress = self._trainer.optimization_progress
        self._steps = self._progress.step.total
        self._announces_start = self._announces_end = self._clips = False
        self._wants_outputs = self._is_alone = False
        self._has_stepped = False  # which is noted with the batch's end

    def _loops(self) -> "list[Loop]":
        batch_loop = self._loop.batch_loop
        return [self._loop, batch_loop, getattr(batch_loop, "optimizer_loop", batch_loop)]

    def _prepare(self) -> bool:
        trainer, routes, optimization = self._trainer, self._routes, self._optimization
        wiring, device = trainer.wiring, trainer.device
        self._optimizer_loop = self._loop.batch_loop.optimizer_loop
        self._batches = self._loop.batch_progress.total
        self._announces_start = routes.do_something(*_START) or device.dtype is not None
        self._announces_end = routes.are_handled(*_BATCH_END)
        self._clips = routes.do_something("configure_gradient_clipping")
        self._wants_outputs = wiring.wants_training_outputs
        self._is_alone = not optimization.passes_optimizer_idx
        self._training_step: Any = routes.handler("training_step")
        if device.wraps_steps:
            self._training_step = self._in_context
        self._zero_grad: Any = routes.handler("optimizer_zero_grad")
        self._backward: Any = routes.handler("backward")
        return (
            bool(optimization.optimizers)
            and wiring.evaluates_first
            and not optimization.is_manual
            and not optimization.truncated_bptt_steps
            and not wiring.has_training_step_end
            and device.scaler is None
            and optimization.toggling_module is None
            and not routes.are_handled(*_MIDDLE)
            and torch.is_grad_enabled()
        )

    def _in_context(self, *arguments: Any) -> Any:
        step: Any = self._routes.handler("training_step")
        with self._trainer.device.forward_context():
            return step(*arguments)

    def run(self) -> bool:
        loop, place, steps = self._loop, self._place, self._steps
        if not self.may_go() or place.batch_idx != loop.batch_idx or place.step != steps.completed:
            return False
        trainer, bus, stops = self._trainer, self._bus, self._stops
        once = trainer.has_deadline
        while True:
            batch = loop.next_batch()
            if batch is None or batch is loop.END:
                loop.work_on(batch)
                now_ns = self._clock_ns()
            else:
                now_ns = self._train_on(batch)
            if loop.validates or loop.waits_for_validation:
                loop.on_advance_end()
            if bus.attention or self._is_writing_due(now_ns):
                trainer.safe_point()
            if (
                loop.is_last_batch
                or stops.any
                or once
                or 0 <= loop.max_steps <= steps.completed
                or not self.is_current()
            ):
                return True

    def _train_on(self, batch: Any) -> int:
        """Train on a batch; returns when it ended, in ns."""
        loop, batches = self._loop, self._batches
        batch_idx = loop.begin_batch()
        if self._announces_start:
            batch = loop.start_batch(batch, batch_idx)
            if not self.is_current():  # a hook has set something
                batches.started += 1
                loop.train_on(batch, batch_idx)
                return self._clock_ns()
        else:
            self._metrics.batch = batch
        batches.started += 1
        if self._is_alone:
            outputs = self._turn(0, batch, batch_idx)
        else:
            outputs = self._turns(batch, batch_idx)
        batches.processed += 1
        if loop.kept_outputs is not None:
            loop.kept_outputs.append(outputs)
        if self._optimization.has_step_schedulers:
            loop.step_schedulers()
        now_ns = self._end_batch(outputs, batch, batch_idx)
        batches.completed += 1
        return now_ns

    def _end_batch(self, outputs: Any, batch: Any, batch_idx: int) -> int:
        """What is done at a batch's end; returns when that was, in ns."""
        if self._announces_end:
            routes = self._routes
            if (hook := routes.on_train_batch_end) is not None:
                hook(outputs if self._is_alone else for_batch_end(outputs), batch, batch_idx)
            if (hook := routes.on_batch_end) is not None:
                hook()
            return self._clock_ns()
        now_ns = self._clock_ns()
        if self._has_stepped:
            self._has_stepped, self._place.step = False, self._steps.completed
            self._note(now_ns + STEP_AND_BATCH_END)
        else:
            self._note(now_ns + BATCH_ENDS)
        return now_ns

    # -- turns of optimizers -----------------------------------------------------------------

    def _turns(self, batch: Any, batch_idx: int) -> dict[int, Any]:
        """The turns of several optimizers; returns what each one's training_step returned."""
        optimization, outputs = self._optimization, dict[int, Any]()
        if not self._announces_start:
            now_ns, self._place.batch_idx = self._clock_ns(), batch_idx
            self._note(now_ns + BATCH_BEGINS)
        for idx in optimization.turns():
            optimization.toggle.begin(idx)
            try:
                output = self._turn(idx, batch, batch_idx, idx)
            finally:
                optimization.toggle.end()
            if output is not None:
                outputs[idx] = output
        return outputs

    def _turn(self, idx: int, *arguments: Any) -> Any:
        """An optimizer's turn; returns what its training_step returned, if somebody wants it.

        Args:
            idx: the optimizer's number.
            arguments: of training_step.
        """
        own, steps, batch_idx = self._optimizer_loop, self._steps, arguments[1]
        own.optimizer_idx = idx
        if self._trainer.accumulate_grad_batches > 1 or not own.will_step:
            own.accumulate(idx)
        steps.ready += own.will_step
        self._begin_turn(batch_idx, own.will_step)
        output = loss = self._training_step(*arguments)
        is_noted = not isinstance(output, Tensor)
        if is_noted:
            loss = self._loss_of(output)
            if loss is None:
                return None
        kept = kept_output(output) if self._wants_outputs else None
        self._minimize(loss, batch_idx, idx, is_noted)
        if self._clips and own.will_step:
            self._clip(idx)
        if (running_loss := self._trainer.running_loss) is not None:
            running_loss.add(loss, batch_idx)
        if own.will_step:
            self._step(idx)
        return kept

    def _begin_turn(self, batch_idx: int, will_step: bool) -> None:
        place, note, now_ns = self._place, self._note, self._clock_ns()
        place.hook = "training_step"
        if self._announces_start or not self._is_alone:
            if will_step:
                note(now_ns + STEP_BEGINS)
            note(now_ns + TRAINING_BEGINS)
            return
        # Nothing may come between a move and its note.
        place.batch_idx = batch_idx
        if will_step:
            note(now_ns + BATCH_STEP_AND_TRAINING_BEGIN)
        else:
            note(now_ns + BATCH_BEGINS)
            note(now_ns + TRAINING_BEGINS)

    def _loss_of(self, output: Any) -> Tensor | None:
        """The loss in an output that is more than that; None where the turn ends without one."""
        own, place, steps = self._optimizer_loop, self._place, self._steps
        self._note(self._clock_ns() + TRAINING_ENDS)
        place.hook = "optimizer_step" if own.will_step else ""
        loss: Tensor | None = own.loss_of(output)
        if loss is None:
            own.turns_skipped += 1
            place.hook, steps.ready = "", steps.completed
        return loss

    def _minimize(self, loss: Tensor, batch_idx: int, idx: int, is_noted: bool) -> None:
        """Clear gradients and compute new ones; the end of training_step may be noted already."""
        own, place, note, clock_ns = self._optimizer_loop, self._place, self._note, self._clock_ns
        optimizer = self._optimization.optimizers[idx]
        begins = CLEARING_ENDS_BACKWARD_BEGINS
        if idx not in own.cleared:
            place.hook, now_ns = "optimizer_zero_grad", clock_ns()
            note(now_ns + (CLEARING_BEGINS if is_noted else TRAINING_ENDS_CLEARING_BEGINS))
            if now_ns > place.late_ns:
                place.on_late()
            self._zero_grad(place.epoch, batch_idx, optimizer, idx)
            self._progress.zero_grad.total.completed += 1
        elif not is_noted:
            note(clock_ns() + TRAINING_ENDS)
        if self._trainer.accumulate_grad_batches > 1:
            loss = self._part_of(loss, idx)
            begins = BACKWARD_BEGINS
        place.hook = "backward"
        note(clock_ns() + begins)
        self._backward(loss, optimizer, idx)
        now_ns = clock_ns()
        if own.will_step:
            note(now_ns + BACKWARD_ENDS_BEFORE_STEP)
        else:
            note(now_ns + BACKWARD_ENDS)
            note(now_ns + AFTER_BACKWARD)
        place.hook = "optimizer_step" if own.will_step else ""
        if now_ns > place.late_ns:
            place.on_late()

    def _part_of(self, loss: Tensor, idx: int) -> Tensor:
        """The loss's share of an accumulation."""
        own = self._optimizer_loop
        if idx not in own.cleared:
            self._note(self._clock_ns() + CLEARING_ENDS)
            own.cleared.add(idx)
        self._place.hook = "optimizer_step" if own.will_step else ""
        return loss / self._trainer.accumulate_grad_batches

    def _clip(self, idx: int) -> None:
        trainer = self._trainer
        self._routes.configure_gradient_clipping(
            self._optimization.optimizers[idx],
            idx,
            trainer.gradient_clip_val,
            trainer.gradient_clip_algorithm,
        )

    def _step(self, idx: int) -> None:
        optimization, place, steps = self._optimization, self._place, self._steps
        optimization.stepping_optimizers[idx].step()
        place.hook = ""
        steps.completed += 1
        self._optimizer_loop.cleared.discard(idx)
        self._progress.steps_by_optimizer[idx] += 1
        if self._is_alone and not (self._announces_end or optimization.has_step_schedulers):
            self._has_stepped = True
            return
        now_ns, place.step = self._clock_ns(), steps.completed
        self._note(now_ns + STEP_AND_NEXT)
