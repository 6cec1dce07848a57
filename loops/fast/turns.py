"""FastTurns: an optimizer's turn without handlers for what is only announced."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor

from ...actors.optimization.backward import run_backward
from ...actors.ranks.replicas import Replicas
from ...bus.routes import HookHandler
from ..context import LoopContext
from ..optimizer import OptimizerLoop
from ..outputs import kept_output
from ..step_errors import exhausted
from .clearing import clear_gradients
from .codes import (
    AFTER_BACKWARD,
    BACKWARD_BEGINS,
    BACKWARD_ENDS,
    BACKWARD_ENDS_BEFORE_STEP,
    BATCH_BEGINS,
    BATCH_STEP_AND_TRAINING_BEGIN,
    CLEARING_BEGINS,
    CLEARING_ENDS,
    CLEARING_ENDS_BACKWARD_BEGINS,
    STEP_AND_NEXT,
    STEP_BEGINS,
    TRAINING_BEGINS,
    TRAINING_ENDS,
    TRAINING_ENDS_CLEARING_BEGINS,
)
from .path import FastPath


class FastTurns(FastPath):
    """The fast path of an OptimizerLoop.

    For optimizers that evaluate their closure first and once, so that they need none.

    Args:
        context: the run.
    """

    _optimizer_loop: OptimizerLoop  # known once it was asked whether the path may be taken

    def __init__(self, context: LoopContext) -> None:
        super().__init__(context)
        self._optimization = self._context.optimization
        self._progress = self._context.optimization_progress
        self._steps = self._progress.step.total
        self._cleared = self._progress.zero_grad.total
        self._announces_start = self._announces_end = self._clips = False
        self._wants_outputs = self._is_alone = False
        self._zero_grad: HookHandler | None = None
        self._backward: HookHandler | None = None
        self._has_stepped = False  # recorded with the batch's end
        self._running_loss = self._context.running_loss
        self._replicas: Replicas | None = None

    def _prepare_turns(self) -> None:
        context, routes = self._context, self._routes
        self._clips = routes.do_something("configure_gradient_clipping")
        self._wants_outputs = context.wiring.wants_training_outputs
        self._is_alone = not self._optimization.passes_optimizer_idx
        self._replicas = self._optimization.replicas
        self._training_step: Any = routes.handler("training_step")
        if context.device.wraps_steps:
            self._training_step = self._in_context
        # None for a default, which is called directly.
        self._zero_grad = self._backward = None
        if routes.are_handled("optimizer_zero_grad"):
            self._zero_grad = routes.handler("optimizer_zero_grad")
        if routes.are_handled("backward"):
            self._backward = routes.handler("backward")

    def _roots_taken(self) -> AbstractContextManager[None]:
        """Tell replicas that ``run_backward`` takes their root, unless a handler does backward."""
        if self._replicas is None:
            return nullcontext()
        return self._replicas.roots_taken(self._backward is None)

    def _in_context(self, *arguments: Any) -> Any:
        step: Any = self._routes.handler("training_step")
        with self._context.device.forward_context():
            return step(*arguments)

    def _short_turn(self, batch: Any, batch_idx: int) -> Any:
        """Take a turn like ``_turn``, for the only optimizer, if each turn leads to a step."""
        place, note, now_ns = self._place, self._note, self._clock_ns()
        self._steps.ready += 1
        place.hook = "training_step"
        if self._announces_start:
            note(now_ns + STEP_BEGINS)
            note(now_ns + TRAINING_BEGINS)
        else:  # nothing may come between a move and its record
            place.batch_idx = batch_idx
            note(now_ns + BATCH_STEP_AND_TRAINING_BEGIN)
        try:
            output = loss = self._training_step(batch, batch_idx)
        except StopIteration as error:
            raise exhausted("training_step") from error
        begins = TRAINING_ENDS_CLEARING_BEGINS
        if not isinstance(output, Tensor):
            loss, begins = self._loss_of(output), CLEARING_BEGINS
            if loss is None:
                return None
        outputs = kept_output(output) if self._wants_outputs else None
        self._minimize_at_once(loss, batch_idx, begins)
        self._step(0, loss, batch_idx)
        return outputs

    def _minimize_at_once(self, loss: Tensor, batch_idx: int, begins: int) -> None:
        """Do the work of ``_minimize`` for a short turn; clearing gradients ``begins``."""
        place, note, clock_ns = self._place, self._note, self._clock_ns
        optimizer = self._optimization.optimizers[0]
        place.hook, now_ns = "optimizer_zero_grad", clock_ns()
        note(now_ns + begins)
        if now_ns > self._recorder.flush_latest_ns:
            self._recorder.flush_within_step()
        if self._zero_grad is None:
            clear_gradients(optimizer)
        else:
            self._zero_grad(place.epoch, batch_idx, optimizer, 0)
        self._cleared.completed += 1
        place.hook = "backward"
        note(clock_ns() + CLEARING_ENDS_BACKWARD_BEGINS)
        if self._backward is None:
            run_backward(loss, None if self._replicas is None else self._replicas.take_root())
        else:
            self._backward(loss, optimizer, 0)
        now_ns = clock_ns()
        note(now_ns + BACKWARD_ENDS_BEFORE_STEP)
        place.hook = "optimizer_step"
        if now_ns > self._recorder.flush_latest_ns:
            self._recorder.flush_within_step()

    def _turn(self, idx: int, *arguments: Any) -> Any:
        """Take an optimizer's turn.

        Args:
            idx: the optimizer's number.
            arguments: of training_step.

        Returns:
            The output of training_step, if a handler needs it.
        """
        own, batch_idx = self._optimizer_loop, arguments[1]
        own.optimizer_idx = idx
        own.accumulate(idx)
        self._steps.ready += own.will_step
        self._begin_turn(batch_idx, own.will_step)
        try:
            output = loss = self._training_step(*arguments)
        except StopIteration as error:
            raise exhausted("training_step") from error
        is_noted = not isinstance(output, Tensor)
        if is_noted:
            loss = self._loss_of(output)
            if loss is None:
                return None
        outputs = kept_output(output) if self._wants_outputs else None
        self._minimize(loss, batch_idx, idx, is_noted)
        if own.will_step:
            self._step(idx, loss, batch_idx)
        elif self._running_loss is not None:
            self._running_loss.add(loss, batch_idx)
        return outputs

    def _begin_turn(self, batch_idx: int, will_step: bool) -> None:
        place, note, now_ns = self._place, self._note, self._clock_ns()
        place.hook = "training_step"
        if self._announces_start or not self._is_alone:
            if will_step:
                note(now_ns + STEP_BEGINS)
            note(now_ns + TRAINING_BEGINS)
            return
        place.batch_idx = batch_idx
        if will_step:
            note(now_ns + BATCH_STEP_AND_TRAINING_BEGIN)
        else:
            note(now_ns + BATCH_BEGINS)
            note(now_ns + TRAINING_BEGINS)

    def _loss_of(self, output: Any) -> Tensor | None:
        """Return the loss in an output with more than that; None if the turn ends without one."""
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
            if now_ns > self._recorder.flush_latest_ns:
                self._recorder.flush_within_step()
            if self._zero_grad is None:
                clear_gradients(optimizer)
            else:
                self._zero_grad(place.epoch, batch_idx, optimizer, idx)
            self._cleared.completed += 1
        elif not is_noted:
            note(clock_ns() + TRAINING_ENDS)
        if self._context.accumulate_grad_batches > 1:
            loss = self._part_of(loss, idx)
            begins = BACKWARD_BEGINS
        place.hook = "backward"
        note(clock_ns() + begins)
        if self._backward is None:
            run_backward(loss, None if self._replicas is None else self._replicas.take_root())
        else:
            self._backward(loss, optimizer, idx)
        now_ns = clock_ns()
        if own.will_step:
            note(now_ns + BACKWARD_ENDS_BEFORE_STEP)
        else:
            note(now_ns + BACKWARD_ENDS)
            note(now_ns + AFTER_BACKWARD)
        place.hook = "optimizer_step" if own.will_step else ""
        if now_ns > self._recorder.flush_latest_ns:
            self._recorder.flush_within_step()

    def _part_of(self, loss: Tensor, idx: int) -> Tensor:
        """Return the loss's share of an accumulation."""
        own = self._optimizer_loop
        if idx not in own.cleared:
            self._note(self._clock_ns() + CLEARING_ENDS)
            own.cleared.add(idx)
        self._place.hook = "optimizer_step" if own.will_step else ""
        return loss / self._context.accumulate_grad_batches

    def _step(self, idx: int, loss: Tensor, batch_idx: int) -> None:
        """Run the optimizer's step, and what comes between backward and it."""
        optimization, steps = self._optimization, self._steps
        if self._clips:
            context = self._context
            self._routes.configure_gradient_clipping(
                optimization.optimizers[idx],
                idx,
                context.gradient_clip_val,
                context.gradient_clip_algorithm,
            )
        if self._running_loss is not None:
            self._running_loss.add(loss, batch_idx)
        optimization.stepping_optimizers[idx].step()
        self._place.hook = ""
        steps.completed += 1
        if self._optimizer_loop.cleared:
            self._optimizer_loop.cleared.discard(idx)
        self._progress.steps_by_optimizer[idx] += 1
        if self._is_alone and not (self._announces_end or optimization.has_step_schedulers):
            self._has_stepped = True
            return
        now_ns, self._place.step = self._clock_ns(), steps.completed
        self._note(now_ns + STEP_AND_NEXT)
