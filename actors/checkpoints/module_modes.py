"""Saves modes of a module's parts and parameters that training changed.

Nothing changes them again in a resumed run: for example, ``on_train_epoch_start``, which froze a
part, is not called in the middle of an epoch. Modes that have not changed since training began are
not saved: there, the present code decides, which may have unfrozen a part to train it further.
"""

from collections.abc import Collection, Mapping
from typing import Any

from torch import nn

from .weight_names import plain_name


class ModuleModes:
    """The changes of a module's modes since this was created.

    Args:
        module: the module, at the start of training.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._training, self._requires_grad = _modes_of(module)

    def state_dict(self, toggled: Collection[nn.Parameter]) -> dict[str, Any]:
        """Return the changed modes by name.

        Args:
            toggled: parameters that are frozen only for an optimizer's turn.
        """
        training, requires_grad = _modes_of(self._module)
        requires_grad |= dict.fromkeys(_names_of(self._module, toggled), True)
        return {
            "training": _changed(self._training, training),
            "requires_grad": _changed(self._requires_grad, requires_grad),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned, as far as the module still has the parts."""
        for name, part in self._module.named_modules():
            part.training = state["training"].get(plain_name(name), part.training)
        for name, parameter in self._module.named_parameters():
            parameter.requires_grad = state["requires_grad"].get(
                plain_name(name), parameter.requires_grad
            )


def _modes_of(module: nn.Module) -> tuple[dict[str, bool], dict[str, bool]]:
    return (
        {plain_name(name): part.training for name, part in module.named_modules()},
        {
            plain_name(name): parameter.requires_grad
            for name, parameter in module.named_parameters()
        },
    )


def _names_of(module: nn.Module, parameters: Collection[nn.Parameter]) -> list[str]:
    wanted = {id(parameter) for parameter in parameters}
    return [
        plain_name(name) for name, parameter in module.named_parameters() if id(parameter) in wanted
    ]


def _changed(begin: Mapping[str, bool], now: Mapping[str, bool]) -> dict[str, bool]:
    return {name: mode for name, mode in now.items() if begin.get(name) is not mode}
