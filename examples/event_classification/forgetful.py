"""A trained classifier whose memory is emptied, to see what the memory is worth."""

from argparse import Namespace
from typing import Literal

import torch
from torch import Tensor

from examples.event_classification.lightning_model import ClassificationModel
from examples.event_classification.streams import Batch

Forgets = Literal["batch", "bin"]


class ForgetfulModel(ClassificationModel):
    """Forgets all streams at each batch, or at each time bin.

    Args:
        hparams: see ``hyperparameters``.
        at: when it forgets.
    """

    def __init__(self, hparams: Namespace, at: Forgets) -> None:
        super().__init__(hparams)
        self._at = at

    def forward(self, batch: Batch) -> Tensor:
        """Return logits [T, N, K]."""
        inputs = batch["inputs"]
        nothing = inputs.new_zeros(inputs.shape[1])
        logits = []
        for part in inputs.split(1) if self._at == "bin" else [inputs]:
            self.model.reset(nothing)
            logits.append(self.model(part))
        return torch.cat(logits)
