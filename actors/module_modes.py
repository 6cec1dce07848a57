"""Modes of a module's parts and parameters that somebody changed, for checkpoints.

Nobody changes them again in a resumed run: what froze a part in ``on_train_epoch_start``, say, is
not called in the middle of an epoch.
"""

from collections.abc import Collection, Mapping
from typing import Any

from torch import nn


def modes_of(module: nn.Module, toggled: Collection[nn.Parameter]) -> dict[str, list[str]]:
    """Which parts are in eval mode, and which parameters are frozen, by name.

    Args:
        module: the module, in the middle of training.
        toggled: parameters that are frozen for an optimizer's turn only.
    """
    for_a_turn = {id(parameter) for parameter in toggled}
    return {
        "in_eval": [name for name, part in module.named_modules() if not part.training],
        "frozen": [
            name
            for name, parameter in module.named_parameters()
            if not parameter.requires_grad and id(parameter) not in for_a_turn
        ],
    }


def restore_modes(module: nn.Module, modes: Mapping[str, Any]) -> None:
    """Restore what ``modes_of`` gave."""
    in_eval, frozen = set(modes["in_eval"]), set(modes["frozen"])
    for name, part in module.named_modules():
        part.training = name not in in_eval
    for name, parameter in module.named_parameters():
        parameter.requires_grad = name not in frozen
