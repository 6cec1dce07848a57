"""OptimizerLoop: training step, backward and optimizer step of one batch, for each optimizer."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..actors.metrics.results import Result
from ..bus.errors import UsageError
from .outputs import kept_output
from .step_errors import exhausted
from .training_step import TrainingStepLoop

Closure = Callable[[], Tensor]


class SkipTurn(Exception):
    """Raised if training_step returned None, to leave the optimizer's step unchanged."""


class OptimizerLoop(TrainingStepLoop):
    """Gives each optimizer whose turn it is its turn with a batch.

    A turn is::

        if a step is due:  # with accumulate_grad_batches=n, after each n batches
            self.optimizer_step(optimizer, optimizer_idx, closure)
        else:
            closure()

    and ``closure``, which some optimizers evaluate several times, is::

        loss = self.loss_of(self.training_step(batch, batch_idx, optimizer_idx))
        if loss is None:
            # the turn ends here, without a step
        self.zero_grad(optimizer, optimizer_idx)  # unless gradients are being accumulated
        self.backward(loss, optimizer, optimizer_idx)
        if a step is due:
            self.before_step(optimizer, optimizer_idx)

    Each of these can be overridden separately. With several optimizers, the parameters of the
    others require no gradients meanwhile.

    Attributes:
        optimizer_idx: number of the optimizer of the present or last turn.
        turns_skipped: number of turns without a loss.
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
        self.will_step = True
        self._is_evaluated = False  # the closure of this turn was called, if that is not certain
        self._turns_since_step: Counter[int] = Counter()  # by optimizer, with accumulation
        self.cleared: set[int] = set()  # optimizers whose gradients belong to this accumulation

    @property
    def done(self) -> bool:
        return self._turns_taken >= len(self._turns)

    def reset(self) -> None:
        optimization = self._loop_context.optimization
        self._turns_taken = 0
        self._turns = optimization.turns() if optimization.passes_optimizer_idx else (0,)
        self._outputs = {}

    def advance(self, batch: Any, batch_idx: int) -> None:
        idx = self.optimizer_idx = self._turns[self._turns_taken]
        self._turns_taken += 1
        self._batch, self._batch_idx = batch, batch_idx
        self.accumulate(idx)
        if self._loop_context.optimization.passes_optimizer_idx:
            self._take_toggled_turn(idx)
        else:
            self._take_turn(idx)

    def on_run_end(self) -> Any:
        """Return the output of training_step without the graph, if a handler needs it.

        With several optimizers, it is a dict by optimizer_idx.
        """
        self._batch = None
        if self._loop_context.optimization.passes_optimizer_idx:
            return self._outputs
        output, self._output = self._output, None
        return output

    # -- what a turn consists of -------------------------------------------------------------

    def loss_of(self, output: Any) -> Tensor | None:
        """Return the loss in the output of ``training_step``, and log what the output has to log.

        Args:
            output: a loss of shape (), a dict with ``loss``, a TrainResult, or None.

        Returns:
            The loss, of shape (); None to skip the turn.

        Raises:
            UsageError: it is none of these.
        """
        if isinstance(output, Tensor):
            return output
        context = self._loop_context
        if isinstance(output, Result):
            keeps = context.wiring.logs_collected_training
            context.metrics.log_result(output, "training_step", keeps)
            return getattr(output, "minimize", None)
        if isinstance(output, Mapping):
            context.metrics.log_dicts(output, is_epoch_end=False)
        return _minimized(output)

    def zero_grad(self, optimizer: Optimizer, optimizer_idx: int) -> None:
        """Clear the gradients, with its hooks; not called while they are being accumulated.

        Args:
            optimizer: the optimizer of this turn.
            optimizer_idx: its number.
        """
        routes = self._loop_context.routes
        if (hook := routes.on_before_zero_grad) is not None:
            hook(optimizer)
        routes.optimizer_zero_grad(
            self._loop_context.place.epoch, self._batch_idx, optimizer, optimizer_idx
        )

    def backward(self, loss: Tensor, optimizer: Optimizer, optimizer_idx: int) -> None:
        """Add the loss's gradients to the present ones, with its hooks.

        Args:
            loss: of shape (), divided by ``accumulate_grad_batches``, and scaled for 16-mixed.
            optimizer: the optimizer of this turn.
            optimizer_idx: its number.
        """
        routes = self._loop_context.routes
        if (hook := routes.on_before_backward) is not None:
            hook(loss)
        routes.backward(loss, optimizer, optimizer_idx)
        if (hook := routes.on_after_backward) is not None:
            hook()

    def before_step(self, optimizer: Optimizer, optimizer_idx: int) -> None:
        """Run the hook before a step, and clip gradients.

        Args:
            optimizer: the optimizer about to step.
            optimizer_idx: its number.
        """
        context = self._loop_context
        routes, scaler = context.routes, context.device.scaler
        if scaler is not None:
            scaler.unscale_(optimizer)
        if (hook := routes.on_before_optimizer_step) is not None:
            hook(optimizer, optimizer_idx)
        if (hook := routes.configure_gradient_clipping) is not None:
            hook(
                optimizer,
                optimizer_idx,
                context.gradient_clip_val,
                context.gradient_clip_algorithm,
            )

    def optimizer_step(self, optimizer: Any, optimizer_idx: int, closure: Closure) -> None:
        """Step the optimizer, with its hook.

        Args:
            optimizer: the optimizer; a LightningOptimizer if the module overrides the hook.
            optimizer_idx: its number.
            closure: computes loss and gradients, and returns the loss; it has to be called.
        """
        context = self._loop_context
        context.routes.optimizer_step(
            context.place.epoch, self._batch_idx, optimizer, optimizer_idx, closure
        )

    # -- a turn ------------------------------------------------------------------------------

    def _take_toggled_turn(self, idx: int) -> None:
        """Take a turn in which only this optimizer's parameters require gradients."""
        optimization = self._loop_context.optimization
        toggle = optimization.toggling_module
        if toggle is None:
            optimization.toggle.begin(idx)
        else:
            toggle.toggle_optimizer(optimization.optimizers[idx], idx)
        try:
            self._take_turn(idx)
        finally:
            if toggle is None:
                optimization.toggle.end()
            else:
                toggle.untoggle_optimizer(idx)
        if self._output is not None:
            self._outputs[idx], self._output = self._output, None

    def _take_turn(self, idx: int) -> None:
        context = self._loop_context
        counts = context.optimization_progress.step.total
        self._is_evaluated = False
        try:
            if not self.will_step or not context.optimization.optimizers:
                self._closure()
                return
            counts.ready += 1
            optimizer = context.optimization.stepping_optimizers[idx]
            self.optimizer_step(optimizer, idx, self._closure)
            if not self._is_evaluated:
                raise _forgotten(optimizer, context.routes.are_handled("optimizer_step"))
        except SkipTurn:
            self.turns_skipped += 1
            context.place.hook = ""  # routes leave the name, for faults
            counts.ready = counts.completed
            return
        self._count_step(idx)

    def _count_step(self, idx: int) -> None:
        progress = self._loop_context.optimization_progress
        counts = progress.step.total
        counts.completed += 1
        self.cleared.discard(idx)
        progress.steps_by_optimizer[idx] += 1
        self._loop_context.place.complete_step(counts.completed)

    def _closure(self) -> Tensor:
        """Compute loss and gradients for an optimizer's step, which may run without gradients."""
        self._is_evaluated = True
        context, idx = self._loop_context, self.optimizer_idx
        optimizers = context.optimization.optimizers
        with torch.enable_grad():
            try:
                output = self._call_training_step(idx)
            except StopIteration as error:
                raise exhausted("training_step") from error
            loss = self.loss_of(output)
            if loss is None:
                raise SkipTurn
            if context.wiring.wants_training_outputs:
                self._output = kept_output(output)
            if optimizers:
                self._compute_gradients(loss, optimizers[idx], idx)
        if context.running_loss is not None:
            context.running_loss.add(loss, self._batch_idx)
        return loss

    def _call_training_step(self, idx: int) -> Any:
        replicas = self._loop_context.optimization.replicas
        if self.asks_module or replicas is None:
            return self.training_step(self._batch, self._batch_idx, idx)
        return replicas.run_own_step(self.training_step, self._batch, self._batch_idx, idx)

    def _compute_gradients(self, loss: Tensor, optimizer: Optimizer, idx: int) -> None:
        context = self._loop_context
        if idx not in self.cleared:
            self.zero_grad(optimizer, idx)
            context.optimization_progress.zero_grad.total.completed += 1
        if context.accumulate_grad_batches > 1:
            self.cleared.add(idx)
            loss = loss / context.accumulate_grad_batches
        if context.device.scaler is not None:
            loss = context.device.scaler.scale(loss)
        self.backward(loss, optimizer, idx)
        if self.will_step:
            self.before_step(optimizer, idx)

    # -- accumulation ------------------------------------------------------------------------

    def accumulate(self, idx: int) -> bool:
        """Count a turn, and return whether it ends an accumulation; without one, each turn does."""
        context = self._loop_context
        if context.accumulate_grad_batches > 1 or not self.will_step:
            turns = self._turns_since_step[idx] + 1
            self.will_step = turns >= context.accumulate_grad_batches or context.is_last_batch
            self._turns_since_step[idx] = 0 if self.will_step else turns
            if (replicas := context.optimization.replicas) is not None:
                replicas.accumulate(idx, self.will_step, keeps=idx in self.cleared)
        return self.will_step

    @property
    def is_accumulating(self) -> bool:
        """True if an accumulation has begun and not led to a step yet.

        That may also be because training_step returned None where the step was due.
        """
        return bool(self.cleared) or any(self._turns_since_step.values())

    def end_accumulation(self) -> None:
        """Step with the gradients that wait for batches that will not come."""
        for idx in sorted(self.cleared):
            if self._turns_since_step[idx]:
                self._turns_since_step[idx] = 0
                self.will_step = True
                self._step_alone(idx)

    def _step_alone(self, idx: int) -> None:
        """Step an optimizer whose gradients are computed already."""
        context = self._loop_context
        is_prepared = False

        def closure() -> Tensor:
            nonlocal is_prepared
            if not is_prepared:  # an optimizer may evaluate it again
                is_prepared = True
                self.before_step(context.optimization.optimizers[idx], idx)
            return torch.zeros(())

        if context.optimization.replicas is not None:
            context.optimization.replicas.average_gradients(idx)
        self._batch_idx = context.place.batch_idx
        context.optimization_progress.step.total.ready += 1
        self.optimizer_step(context.optimization.stepping_optimizers[idx], idx, closure)
        self._count_step(idx)
        context.optimization.step_schedulers()

    def on_save_checkpoint(self) -> dict[str, Any]:
        """Return the state of accumulations."""
        if not self.is_accumulating:
            return {}
        turns = {str(idx): number for idx, number in self._turns_since_step.items()}
        return {"turns": turns, "cleared": sorted(self.cleared), "will_step": self.will_step}

    def on_load_checkpoint(self, state_dict: Mapping[str, Any]) -> None:
        """Restore what ``on_save_checkpoint`` returned."""
        turns = state_dict.get("turns", {})
        self._turns_since_step = Counter({int(idx): number for idx, number in turns.items()})
        self.cleared = set(state_dict.get("cleared", ()))
        self.will_step = state_dict.get("will_step", True)


def _forgotten(optimizer: Any, is_overridden: bool) -> UsageError:
    """Return the error for a closure that was not called."""
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
    """Return the loss in the output of training_step.

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
