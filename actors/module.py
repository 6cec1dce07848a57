"""LightningModule: the model, and what a step of it is."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..bus.actor import Actor
from ..bus.errors import UsageError
from .device import move_data_to_device
from .logging_mixin import LoggingMixin
from .model_hooks import ModelHooks

if TYPE_CHECKING:
    from ..trainer import Trainer


class LightningModule(nn.Module, ModelHooks, LoggingMixin, Actor):
    """A torch module that knows its training step, its optimizers and its hooks.

    Override ``training_step`` and ``configure_optimizers``, and what else you need. It is an
    actor: ``put`` records metrics, ``@on`` subscribes, ``tell`` sends commands.

    Attributes:
        automatic_optimization: the trainer does backward, step and zero_grad.
    """

    automatic_optimization: bool = True

    # -- what users define -------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's output; define it if you call the module."""
        return super().forward(*args, **kwargs)

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """The loss of one batch: a scalar tensor, a dict with ``loss``, or None to skip it."""
        raise UsageError(f"{type(self).__name__} must define training_step()")

    def validation_step(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate one validation batch."""

    def test_step(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate one test batch."""

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        """Predictions for one batch; by default ``self(batch)``."""
        return self(batch)

    def configure_optimizers(self) -> Any:
        """The optimizer, or (with schedulers) one of the forms that users know from Lightning."""
        raise UsageError(f"{type(self).__name__} must define configure_optimizers()")

    def configure_callbacks(self) -> Any:
        """Callbacks that belong to this module."""
        return []

    # -- data, when there is no datamodule ---------------------------------------------------

    def prepare_data(self) -> None:
        """Download and prepare, once; assign no state here."""

    def setup(self, stage: str) -> None:
        """Called when fit, validate, test or predict begins."""

    def teardown(self, stage: str) -> None:
        """Called when fit, validate, test or predict ends."""

    def train_dataloader(self) -> Any:
        """One dataloader, or a collection of them, for training."""

    def val_dataloader(self) -> Any:
        """One dataloader, or several, for validation."""

    def test_dataloader(self) -> Any:
        """One dataloader, or several, for testing."""

    def predict_dataloader(self) -> Any:
        """One dataloader, or several, for prediction."""

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Alter a batch before it goes to the device."""
        return batch

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        """Move a batch; override it for batches of your own type."""
        return move_data_to_device(batch, device)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Alter a batch on the device."""
        return batch

    # -- optimization ------------------------------------------------------------------------

    def backward(
        self, loss: Tensor, optimizer: Optimizer | None = None, optimizer_idx: int | None = None
    ) -> None:
        """Compute gradients of the loss."""
        loss.backward()

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_idx: int = 0,
        optimizer_closure: Any = None,
        **kwargs: Any,
    ) -> None:
        """One step of an optimizer; the closure runs training_step, zero_grad and backward."""
        optimizer.step(closure=optimizer_closure)

    def optimizer_zero_grad(
        self, epoch: int, batch_idx: int, optimizer: Optimizer, optimizer_idx: int = 0
    ) -> None:
        """Clear gradients."""
        optimizer.zero_grad()

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        optimizer_idx: int = 0,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip gradients after backward; by default as the Trainer's arguments say."""
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def clip_gradients(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients of an optimizer's parameters.

        Args:
            optimizer: whose parameters.
            gradient_clip_val: largest norm, or largest absolute value.
            gradient_clip_algorithm: ``norm`` or ``value``.
        """
        if not gradient_clip_val:
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if gradient_clip_algorithm == "value":
            nn.utils.clip_grad_value_(parameters, gradient_clip_val)
        else:
            nn.utils.clip_grad_norm_(parameters, gradient_clip_val)

    def lr_scheduler_step(self, scheduler: Any, optimizer_idx: int, metric: Any) -> None:
        """Advance a scheduler; metric is its monitored value, or None."""
        if metric is None:
            scheduler.step()
        else:
            scheduler.step(metric)

    def optimizers(self) -> Any:
        """The run's optimizer, or a list when there are several."""
        found = self.trainer.optimizers
        return found[0] if len(found) == 1 else found

    def lr_schedulers(self) -> Any:
        """The run's scheduler, a list when there are several, or None."""
        found = [config.scheduler for config in self.trainer.lr_scheduler_configs]
        if not found:
            return None
        return found[0] if len(found) == 1 else found

    # -- where we are ------------------------------------------------------------------------

    @property
    def current_epoch(self) -> int:
        """Epochs completed; the first is 0."""
        return self._trainer.current_epoch if self._trainer is not None else 0

    @property
    def global_step(self) -> int:
        """Optimizer steps completed."""
        return self._trainer.global_step if self._trainer is not None else 0

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        for tensor in (*self.parameters(), *self.buffers()):
            return tensor.device
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """What the first floating-point parameter is."""
        for parameter in self.parameters():
            if parameter.is_floating_point():
                return parameter.dtype
        return torch.get_default_dtype()

    @property
    def logger(self) -> Any:
        """The first sink, or None."""
        return self.trainer.logger

    @property
    def example_input_array(self) -> Any:
        """An input for tools that need one; set it in ``__init__``."""
        return self.__dict__.get("_example_input_array")

    @example_input_array.setter
    def example_input_array(self, value: Any) -> None:
        object.__setattr__(self, "_example_input_array", value)

    def freeze(self) -> None:
        """Stop gradients for all parameters, and go to eval mode."""
        self.requires_grad_(False).eval()

    def unfreeze(self) -> None:
        """Let gradients flow to all parameters, and go to train mode."""
        self.requires_grad_(True).train()

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print on the first process only."""
        if self._trainer is None or self._trainer.is_global_zero:
            print(*args, **kwargs)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add plain data or tensors to a checkpoint."""

    def on_load_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Take out of a checkpoint what on_save_checkpoint added."""

    def _attach(self, trainer: "Trainer | None") -> None:
        object.__setattr__(self, "_trainer", trainer)  # not registered as a submodule or parameter
