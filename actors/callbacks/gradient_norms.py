"""GradientNorms: logs the norms of gradients before each optimizer step."""

from typing import TYPE_CHECKING, Any

import torch

from ...bus.errors import UsageError
from ..callback import Callback
from ..checkpoints.weight_names import plain_name

if TYPE_CHECKING:
    from ..module import LightningModule
    from ..trainer_type import Trainer


class GradientNorms(Callback):
    """Logs the norm of each parameter's gradient, and of all, before gradients are clipped.

    Args:
        norm_type: the p of the norm, a number above 0; ``inf`` for the largest absolute value.

    Raises:
        UsageError: it is none.
    """

    why_not_replayed = "it needs the model's gradients, which a log does not hold"

    def __init__(self, norm_type: float | str) -> None:
        try:
            self._norm_type = float(norm_type)
        except (TypeError, ValueError):
            self._norm_type = -1.0
        is_known = isinstance(norm_type, int | float | str) and not isinstance(norm_type, bool)
        if not (is_known and self._norm_type > 0):
            raise UsageError(
                f"track_grad_norm={norm_type!r}: expected the p of a norm, a number above 0 or "
                "'inf'; -1 tracks none"
            )

    def on_before_optimizer_step(
        self,
        trainer: "Trainer",
        pl_module: "LightningModule",
        optimizer: Any,
        optimizer_idx: int = 0,
    ) -> None:
        prefix = f"grad_{self._norm_type}_norm"
        norms = {
            f"{prefix}/{plain_name(name)}": parameter.grad.detach().norm(self._norm_type)
            for name, parameter in pl_module.named_parameters()
            if parameter.grad is not None
        }
        if norms:
            norms[f"{prefix}_total"] = torch.stack([*norms.values()]).norm(self._norm_type)
            self.log_dict(norms, on_step=True, on_epoch=True)
