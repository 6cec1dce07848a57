"""Modes: keeps the modes of a module's parts over an evaluation."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from ..actors.overrides import is_overridden


@contextmanager
def kept_modes(module: nn.Module) -> Iterator[None]:
    """Restore the modes of a module's parts at the end, also after an exception.

    A part that a user froze in eval mode, such as batch normalisation, stays in eval mode.

    Args:
        module: the module.
    """
    modes = [(part, part.training) for part in module.modules()]
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def begin_eval_mode(module: nn.Module, hook: str) -> None:
    """Switch the module to eval mode, unless it overrides the hook that decides what to switch.

    Args:
        module: the module.
        hook: ``on_validation_model_eval``, or that of another stage; called next.
    """
    if not is_overridden(module, hook):
        module.eval()
