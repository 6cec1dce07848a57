"""TerminateOnNaN: ends training at a loss or a weight that is NaN or infinite."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..callback import Callback

if TYPE_CHECKING:
    from ..module import LightningModule
    from ..trainer_type import Trainer


class NotFiniteError(ValueError):
    """A loss or a weight is NaN or infinite."""


class TerminateOnNaN(Callback):
    """Ends training with an error at the first loss or weight that is NaN or infinite."""

    why_not_replayed = "it needs the model's weights, which a log does not hold"

    def on_before_backward(
        self, trainer: "Trainer", pl_module: "LightningModule", loss: Tensor
    ) -> None:
        """Check the loss.

        Raises:
            NotFiniteError: it is NaN or infinite.
        """
        if not torch.isfinite(loss).all():
            raise NotFiniteError(
                f"the loss returned in training_step is {loss.detach().item()} in step "
                f"{trainer.global_step}; a smaller learning rate, gradient_clip_val or "
                "detect_anomaly=True, which finds the operation, may help"
            )

    def on_train_batch_end(
        self,
        trainer: "Trainer",
        pl_module: "LightningModule",
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Check the weights.

        Raises:
            NotFiniteError: one is NaN or infinite.
        """
        for name, parameter in pl_module.named_parameters():
            if not torch.isfinite(parameter).all():
                raise NotFiniteError(
                    f"{name} has values that are NaN or infinite after {trainer.global_step} "
                    "steps; a smaller learning rate, gradient_clip_val or detect_anomaly=True may "
                    "help"
                )
