"""Modes: keeps the modes of a module's parts over an evaluation."""

from torch import nn


class Modes:
    """The train modes of a module's parts, to be restored later.

    A part that a user froze in eval mode, such as batch normalisation, stays in eval mode.

    Args:
        module: the module.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._training = [(part, part.training) for part in module.modules()]

    def restore(self) -> bool:
        """Restore every part's mode; return whether the module changed to train mode."""
        changed = self._training[0][1] and not self._module.training
        for part, training in self._training:
            part.training = training
        return changed
