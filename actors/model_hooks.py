"""Hooks of a LightningModule; most do nothing by default."""

from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim import Optimizer


class ModelHooks:
    """Hooks that a module may override.

    They are called on the training thread. An exception in a hook ends the run.

    Arguments of hooks:
        outputs: output of the module's step, detached; in ``on_predict_epoch_end`` all predictions.
        batch: the batch, on the device.
        batch_idx: index of the batch in its epoch.
        dataloader_idx: index of its dataloader.
        optimizer: the optimizer whose turn it is.
        optimizer_idx: its index.
        loss: loss before backward, a tensor of shape ().
    """

    if TYPE_CHECKING:
        eval: Any  # the module's

    def on_fit_start(self) -> None:
        """Called when fit begins, with the module on its device and optimizers configured."""

    def on_fit_end(self) -> None:
        """Called when fit is done."""

    def on_pretrain_routine_start(self) -> None:
        """Called after on_fit_start, before the sanity check."""

    def on_pretrain_routine_end(self) -> None:
        """Called after on_pretrain_routine_start, before the sanity check."""

    def on_train_start(self) -> None:
        """Called when training begins, after the sanity check."""

    def on_train_end(self) -> None:
        """Called when training is done."""

    def on_epoch_start(self) -> None:
        """Called when an epoch of training, validation or testing begins."""

    def on_epoch_end(self) -> None:
        """Called when an epoch of training, validation or testing is done."""

    def on_train_epoch_start(self) -> None:
        """Called when a training epoch begins."""

    def on_train_epoch_end(self) -> None:
        """Called when a training epoch is done."""

    def on_validation_start(self) -> None:
        """Called when validation begins."""

    def on_validation_end(self) -> None:
        """Called when validation is done."""

    def on_validation_epoch_start(self) -> None:
        """Called when a validation epoch begins."""

    def on_validation_epoch_end(self) -> None:
        """Called when a validation epoch is done."""

    def on_test_start(self) -> None:
        """Called when a test begins."""

    def on_test_end(self) -> None:
        """Called when a test is done."""

    def on_test_epoch_start(self) -> None:
        """Called when a test epoch begins."""

    def on_test_epoch_end(self) -> None:
        """Called when a test epoch is done."""

    def on_predict_start(self) -> None:
        """Called when prediction begins."""

    def on_predict_end(self) -> None:
        """Called when prediction is done."""

    def on_predict_epoch_start(self) -> None:
        """Called when a prediction epoch begins."""

    def on_predict_epoch_end(self, outputs: Any) -> None:
        """Called when a prediction epoch is done."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        """Called when a training batch begins.

        Returns:
            -1 to skip the rest of the epoch; otherwise None.
        """
        return None

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Called when a training batch is done."""

    def on_validation_batch_start(
        self, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Called when a validation batch begins."""

    def on_validation_batch_end(
        self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Called when a validation batch is done."""

    def on_test_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Called when a test batch begins."""

    def on_test_batch_end(
        self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Called when a test batch is done."""

    def on_predict_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Called when a prediction batch begins."""

    def on_predict_batch_end(
        self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Called when a prediction batch is done."""

    def on_before_zero_grad(self, optimizer: Optimizer) -> None:
        """Called before gradients are cleared."""

    def on_before_backward(self, loss: Tensor) -> None:
        """Called before backward."""

    def on_after_backward(self) -> None:
        """Called after backward; gradients may still be scaled."""

    def on_before_optimizer_step(self, optimizer: Optimizer, optimizer_idx: int = 0) -> None:
        """Called before the optimizer steps; gradients are not scaled any more."""

    def on_validation_model_zero_grad(self) -> None:
        """Called instead of ``zero_grad`` before validation amid training, unless accumulating."""

    def on_validation_model_eval(self) -> None:
        """Called to switch to eval mode for validation; an override switches what it wants."""
        self.eval()

    def on_validation_model_train(self) -> None:
        """Called after validation, when each part is in its former mode again."""

    def on_test_model_eval(self) -> None:
        """Called to switch to eval mode for a test; an override switches what it wants."""
        self.eval()

    def on_test_model_train(self) -> None:
        """Called after a test, when each part is in its former mode again."""

    def on_predict_model_eval(self) -> None:
        """Called to switch to eval mode for prediction; an override switches what it wants."""
        self.eval()

    def on_post_move_to_device(self) -> None:
        """Called after the module was moved to its device; tie weights here."""
