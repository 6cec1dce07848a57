"""What modules for Lightning have under other names: a summary, their size, private names."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .module_summary import ModuleSummary

_REGISTERED = ("_modules", "_parameters", "_buffers")
_BEING_REGISTERED = "_being_registered"


class _GivesWay:
    """A name of the class that gives way to a part of the module that has the same name."""

    def __init__(self, of: Callable[[Any], Any]) -> None:
        self._of, self.__doc__ = of, of.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, module: Any, owner: type) -> Any:
        if module is None:
            return self
        for registered in _REGISTERED:
            if self._name in (own := vars(module).get(registered, {})):
                return own[self._name]
        if vars(module).get(_BEING_REGISTERED) == self._name:
            raise AttributeError(self._name)
        return self._of(module)


@contextmanager
def _registering(module: Any, name: str) -> Iterator[None]:
    """Have a name of the class give way while torch asks whether the module has it already."""
    vars(module)[_BEING_REGISTERED] = name
    try:
        yield
    finally:
        vars(module).pop(_BEING_REGISTERED, None)


class Registering(nn.Module):
    """Registers parts under any name that ``FormerModule`` has, as torch does under others.

    It stands before torch's module among the bases, and the names behind those of a user.
    """

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a buffer, as torch does.

        Args:
            name: its name.
            tensor: the buffer.
            persistent: save it with the weights.
        """
        with _registering(self, name):
            super().register_buffer(name, tensor, persistent)

    def register_parameter(self, name: str, param: nn.Parameter | None) -> None:
        """Add a parameter, as torch does.

        Args:
            name: its name.
            param: the parameter.
        """
        with _registering(self, name):
            super().register_parameter(name, param)

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """Add a part, as torch does.

        Args:
            name: its name.
            module: the part.
        """
        with _registering(self, name):
            super().add_module(name, module)


class FormerModule:
    """Has names of 1.x that Lightning 2 has removed, and private ones that modules read.

    A module may use them otherwise.
    """

    @_GivesWay
    def summarize(self: Any) -> Callable[..., ModuleSummary]:
        """``summarize(max_depth=1)`` returns a summary; see ``nightbus.ModelSummary``."""

        def summarize(max_depth: int = 1) -> ModuleSummary:
            return ModuleSummary(self, max_depth)

        return summarize

    @_GivesWay
    def model_size(self: Any) -> float:
        """Size of all parameters, in MB."""
        return ModuleSummary(self, max_depth=0).model_size

    @_GivesWay
    def use_amp(self: Any) -> bool:
        """Whether the Trainer trains in mixed precision."""
        return self._trainer is not None and self._trainer.use_amp

    @_GivesWay
    def _device(self: Any) -> torch.device:
        """The device, under the name by which modules for Lightning read it."""
        device: torch.device = self.device
        return device

    @_GivesWay
    def _dtype(self: Any) -> torch.dtype:
        """The dtype, under the name by which modules for Lightning read it."""
        dtype: torch.dtype = self.dtype
        return dtype
