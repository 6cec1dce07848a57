"""Callbacks: actors on the training thread with a method for each hook."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ..bus.actor import Actor, actor_name
from .logging_mixin import LoggingMixin
from .overrides import callback_hook_methods, is_own_of

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

    from .module import LightningModule
    from .trainer_type import Trainer


class Callback(LoggingMixin, Actor):
    """Base of callbacks; override the hooks that you need.

    An exception in a hook ends the run. ``@on`` works as in any actor.

    Arguments of hooks:
        trainer: the Trainer.
        pl_module: the LightningModule that runs.
        stage: ``fit``, ``validate``, ``test`` or ``predict``.
        outputs: output of the module's step, detached; in ``on_predict_epoch_end`` all predictions.
        batch: the batch, on the device.
        batch_idx: index of the batch in its epoch.
        dataloader_idx: index of its dataloader.
        optimizer: the optimizer whose turn it is.
        optimizer_idx: its index.
        loss: loss before backward, a tensor of shape ().
        exception: the exception that ends the run.
        checkpoint: the state of a checkpoint, a dict.
    """

    _has_hooks: ClassVar = True
    _leading: ClassVar = 2  # number of arguments before a hook's own: trainer and module

    def _hook_methods(self) -> Mapping[str, tuple[Callable[..., Any], Sequence[str]]]:
        return callback_hook_methods(self)

    @property
    def state_key(self) -> str:
        """What Lightning calls the state in a checkpoint: the class, and arguments of some.

        Override it to choose what a checkpoint calls the state, for example to tell callbacks of a
        type apart.
        """
        told_apart = self._told_apart_by()
        return self._generate_state_key(**told_apart) if told_apart else type(self).__qualname__

    @property
    def saved_as(self) -> str:
        """What a checkpoint calls the state: an overridden ``state_key``, else the address.

        A key that is a class, as in Lightning 1.x, is its name. The address ends in a number if
        there are several callbacks of a type.
        """
        if not is_own_of(type(self), "state_key"):
            return actor_name(self)
        key: Any = self.state_key
        return key.__qualname__ if isinstance(key, type) else key

    def _told_apart_by(self) -> dict[str, Any]:
        """Return the arguments that tell callbacks of the type apart in Lightning."""
        return {}

    def _generate_state_key(self, **arguments: Any) -> str:
        """Return a key of the type and some arguments, for overrides of ``state_key``."""
        return f"{type(self).__qualname__}{arguments!r}"

    def on_init_start(self, trainer: "Trainer") -> None:
        """Called at the beginning of the Trainer's constructor."""

    def on_init_end(self, trainer: "Trainer") -> None:
        """Called at the end of the Trainer's constructor."""

    def setup(self, trainer: "Trainer", pl_module: "LightningModule", stage: str) -> None:
        """Called when fit, validate, test or predict begins."""

    def teardown(self, trainer: "Trainer", pl_module: "LightningModule", stage: str) -> None:
        """Called when fit, validate, test or predict ends, also after an exception."""

    def on_fit_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Called when fit begins, with the module on its device and optimizers configured."""

    def on_fit_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Called when fit is done."""

    def on_pretrain_routine_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Called after on_fit_start, before the sanity check."""

    def on_pretrain_routine_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Called after on_pretrain_routine_start, before the sanity check."""

    def on_sanity_check_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Called when the sanity check begins."""

    def on_sanity_check_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Called when the sanity check is done; what was logged in it is discarded."""

    def on_train_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Called when training begins, after the sanity check."""

    def on_train_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Called when training is done."""

    def on_epoch_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Called when an epoch of training, validation or testing begins."""

    def on_epoch_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Called when an epoch of training, validation or testing is done."""

    def on_train_epoch_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Called when a training epoch begins."""

    def on_train_epoch_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Called when a training epoch is done."""

    def on_validation_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Called when validation begins."""

    def on_validation_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Called when validation is done."""

    def on_validation_epoch_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Called when a validation epoch begins."""

    def on_validation_epoch_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Called when a validation epoch is done."""

    def on_test_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Called when a test begins."""

    def on_test_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Called when a test is done."""

    def on_test_epoch_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Called when a test epoch begins."""

    def on_test_epoch_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Called when a test epoch is done."""

    def on_predict_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Called when prediction begins."""

    def on_predict_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Called when prediction is done."""

    def on_predict_epoch_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Called when a prediction epoch begins."""

    def on_predict_epoch_end(
        self, trainer: "Trainer", pl_module: "LightningModule", outputs: Any
    ) -> None:
        """Called when a prediction epoch is done."""

    def on_batch_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Called when a training batch begins, before on_train_batch_start."""

    def on_batch_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Called when a training batch is done, after on_train_batch_end."""

    def on_train_batch_start(
        self, trainer: "Trainer", pl_module: "LightningModule", batch: Any, batch_idx: int
    ) -> int | None:
        """Called when a training batch begins.

        Returns:
            -1 to skip the rest of the epoch; otherwise None.
        """
        return None

    def on_train_batch_end(
        self,
        trainer: "Trainer",
        pl_module: "LightningModule",
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Called when a training batch is done."""

    def on_validation_batch_start(
        self,
        trainer: "Trainer",
        pl_module: "LightningModule",
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Called when a validation batch begins."""

    def on_validation_batch_end(
        self,
        trainer: "Trainer",
        pl_module: "LightningModule",
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Called when a validation batch is done."""

    def on_test_batch_start(
        self,
        trainer: "Trainer",
        pl_module: "LightningModule",
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Called when a test batch begins."""

    def on_test_batch_end(
        self,
        trainer: "Trainer",
        pl_module: "LightningModule",
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Called when a test batch is done."""

    def on_predict_batch_start(
        self,
        trainer: "Trainer",
        pl_module: "LightningModule",
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Called when a prediction batch begins."""

    def on_predict_batch_end(
        self,
        trainer: "Trainer",
        pl_module: "LightningModule",
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Called when a prediction batch is done."""

    def on_before_zero_grad(
        self, trainer: "Trainer", pl_module: "LightningModule", optimizer: "Optimizer"
    ) -> None:
        """Called before gradients are cleared."""

    def on_before_backward(
        self, trainer: "Trainer", pl_module: "LightningModule", loss: "Tensor"
    ) -> None:
        """Called before backward."""

    def on_after_backward(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Called after backward; gradients may still be scaled."""

    def on_before_optimizer_step(
        self,
        trainer: "Trainer",
        pl_module: "LightningModule",
        optimizer: "Optimizer",
        optimizer_idx: int = 0,
    ) -> None:
        """Called before the optimizer steps; gradients are not scaled any more."""

    def on_before_accelerator_backend_setup(
        self, trainer: "Trainer", pl_module: "LightningModule"
    ) -> None:
        """Called after ``prepare_data``, before ``setup``."""

    def on_configure_sharded_model(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Called after the module's ``configure_sharded_model`` and ``configure_model``."""

    def on_exception(
        self, trainer: "Trainer", pl_module: "LightningModule", exception: BaseException
    ) -> None:
        """Called when an exception, including KeyboardInterrupt, ends the run."""

    def on_save_checkpoint(
        self, trainer: "Trainer", pl_module: "LightningModule", checkpoint: dict[str, Any]
    ) -> None:
        """Called before a checkpoint is written; add plain data or tensors to it."""

    def on_load_checkpoint(
        self, trainer: "Trainer", pl_module: "LightningModule", checkpoint: dict[str, Any]
    ) -> None:
        """Called after a checkpoint was read, before anything is restored from it."""
