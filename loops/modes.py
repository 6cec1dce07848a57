"""Modes of a module's parts, kept over an evaluation."""

from torch import nn


class Modes:
    """Which parts of a module are in train mode, so that they can be again.

    A part that a user froze in eval mode, batch normalisation say, stays in eval mode.

    Args:
        module: the module.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._training = [(part, part.training) for part in module.modules()]

    def restore(self) -> bool:
        """Put every part back into its mode; returns whether the module changed to train mode."""
        changed = self._training[0][1] and not self._module.training
        for part, training in self._training:
            part.training = training
        return changed
