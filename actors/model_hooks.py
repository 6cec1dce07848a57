"""The notices that a LightningModule may override; all do nothing."""

from typing import Any

from torch import Tensor
from torch.optim import Optimizer


class ModelHooks:
    """Each is called on the training thread; one that raises ends the run."""

    def on_fit_start(self) -> None:
        """Called when fit begins, with the module on its device and optimizers configured."""

    def on_fit_end(self) -> None:
        """Called when fit is done."""

    def on_pretrain_routine_start(self) -> None:
        """Called when fit has begun, before the sanity check."""

    def on_pretrain_routine_end(self) -> None:
        """Called when fit has begun, before the sanity check."""

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
        """Called when a training batch begins; -1 skips the rest of the epoch."""
        return None

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Called when a training batch is done; outputs are training_step's, detached."""

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
        """Called when gradients are about to be cleared."""

    def on_before_backward(self, loss: Tensor) -> None:
        """Called when backward is about to run."""

    def on_after_backward(self) -> None:
        """Called when backward is done; gradients may still be scaled."""

    def on_before_optimizer_step(self, optimizer: Optimizer, optimizer_idx: int = 0) -> None:
        """Called when the optimizer is about to step, with gradients at their true size."""

    def on_validation_model_eval(self) -> None:
        """Called when the module went to eval mode for validation."""

    def on_validation_model_train(self) -> None:
        """Called when the module goes back to train mode after validation."""

    def on_test_model_eval(self) -> None:
        """Called when the module went to eval mode for a test."""

    def on_predict_model_eval(self) -> None:
        """Called when the module went to eval mode for prediction."""

    def on_post_move_to_device(self) -> None:
        """Called when the module is on its device: tie weights here."""
