"""OptimizerLoop: training step, backward and optimizer step of one batch."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..bus.errors import UsageError
from .loop import Loop
from .progress import Progress

HOOK_GROUPS = {
    "after_backward": (
        "on_after_backward",
        "on_before_optimizer_step",
        "configure_gradient_clipping",
    ),
}


class _SkipTurn(Exception):
    """training_step returned None: leaves the optimizer's step before it changes anything."""


class OptimizerLoop(Loop):
    """Runs the optimizer's turn for a batch.

    Attributes:
        steps: optimizer steps completed, over the whole run.
        stepped: whether the last batch ended with an optimizer step.
    """

    def __init__(self) -> None:
        self.optim_progress = Progress()
        self.stepped = False
        self._batch: Any = None
        self._batch_idx = 0
        self._done = True
        self._output: Any = None
        self._will_step = True
        self._begins_accumulation = True

    @property
    def steps(self) -> int:
        """Optimizer steps completed."""
        return self.optim_progress.total.completed

    @property
    def done(self) -> bool:
        return self._done

    def reset(self) -> None:
        self._done = False

    def advance(self, batch: Any, batch_idx: int) -> None:
        self._done = True
        trainer = self.trainer
        self._batch, self._batch_idx = batch, batch_idx
        accumulate = trainer.accumulate_grad_batches
        if accumulate > 1:
            self._begins_accumulation = batch_idx % accumulate == 0
            self._will_step = (batch_idx + 1) % accumulate == 0 or trainer.is_last_batch
        else:
            self._begins_accumulation = self._will_step = True
        self.stepped = False
        try:
            if not self._will_step or not trainer.optimizers:
                with torch.enable_grad():
                    self._closure()
                return
            counts = self.optim_progress.total
            counts.ready += 1
            trainer.routes.optimizer_step(  # type: ignore[misc]
                trainer.place.epoch, batch_idx, trainer.stepping_optimizers[0], 0, self._closure
            )
        except _SkipTurn:
            return
        counts.completed += 1
        self.stepped = True
        trainer.place.complete_step(counts.completed)

    def on_run_end(self) -> Any:
        self._batch = None
        output, self._output = self._output, None
        return output

    def _closure(self) -> Tensor | None:
        """training_step, zero_grad, backward: what an optimizer's step evaluates."""
        trainer = self.trainer
        routes = trainer.routes
        if trainer.has_special_forward:
            output = self._special_forward()
        else:
            output = routes.training_step(self._batch, self._batch_idx)  # type: ignore[misc]
        loss = output if isinstance(output, Tensor) else _loss_of(output)
        if loss is None:
            raise _SkipTurn
        if trainer.wants_training_outputs:
            self._output = _detached(output, loss)
        if not trainer.optimizers:
            return loss
        optimizer = trainer.optimizers[0]
        if self._begins_accumulation:
            if (hook := routes.on_before_zero_grad) is not None:
                hook(optimizer)
            routes.optimizer_zero_grad(trainer.place.epoch, self._batch_idx, optimizer, 0)  # type: ignore[misc]
        if trainer.accumulate_grad_batches > 1:
            loss = loss / trainer.accumulate_grad_batches
        scaler = trainer.device.scaler
        if scaler is not None:
            loss = scaler.scale(loss)
        if (hook := routes.on_before_backward) is not None:
            hook(loss)
        routes.backward(loss, optimizer, 0)  # type: ignore[misc]
        if self._will_step and scaler is None and (group := routes.after_backward) is not None:
            group()
            return loss
        routes.call("on_after_backward")
        if self._will_step:
            if scaler is not None:
                scaler.unscale_(optimizer)
            routes.call("on_before_optimizer_step", optimizer, 0)
            clip = trainer.gradient_clip_val, trainer.gradient_clip_algorithm
            routes.call("configure_gradient_clipping", optimizer, 0, *clip)
        return loss

    def _special_forward(self) -> Any:
        """training_step in a lower precision, or followed by training_step_end."""
        trainer = self.trainer
        step: Any = trainer.routes.training_step
        with trainer.device.forward_context():
            output = step(self._batch, self._batch_idx)
        if trainer.has_training_step_end:
            output = trainer.routes.call("training_step_end", output)
        return output


def _loss_of(output: Any) -> Tensor | None:
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
        "'loss', or None to skip the batch"
    )


def _detached(output: Any, loss: Tensor) -> Any:
    """What hooks and epoch ends get to see: without the graph."""
    if output is loss:
        return {"loss": loss.detach()}
    if isinstance(output, Mapping):
        return {
            key: value.detach() if isinstance(value, Tensor) else value
            for key, value in output.items()
        }
    return {"loss": loss.detach()}
