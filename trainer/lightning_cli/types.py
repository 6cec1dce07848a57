"""Types of the command line: what it reads, and arguments that are optimizers to be made later."""

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

import torch
from jsonargparse import Namespace
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class ReduceLROnPlateau(torch.optim.lr_scheduler.ReduceLROnPlateau):
    """PyTorch's scheduler of that name, and the value that it watches.

    Args:
        optimizer: optimizer whose learning rate is reduced.
        monitor: name of a value that was logged.
        *args: further arguments of PyTorch's.
        **kwargs: further arguments of PyTorch's.
    """

    def __init__(self, optimizer: Optimizer, monitor: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(optimizer, *args, **kwargs)
        self.monitor = monitor


ArgsType = list[str] | dict[str, Any] | Namespace | None
"""What ``LightningCLI(args=...)`` takes."""
OptimizerCallable = Callable[[Iterable[Parameter]], Optimizer]
"""Annotates an argument that is an optimizer without its parameters."""
LRSchedulerTypeTuple = (LRScheduler, ReduceLROnPlateau)
LRSchedulerTypeUnion = LRScheduler | ReduceLROnPlateau
LRSchedulerCallable = Callable[[Optimizer], LRScheduler | ReduceLROnPlateau]
"""Annotates an argument that is a learning rate scheduler without its optimizer."""


def instantiate_class(args: Any, init: Mapping[str, Any]) -> Any:
    """Construct the object that a configuration describes.

    Args:
        args: the positional argument, or a tuple of them.
        init: ``class_path``, the class with its module, and ``init_args``, its arguments by name.

    Returns:
        The object.
    """
    module, _, name = init["class_path"].rpartition(".")
    kind = getattr(import_module(module), name)
    given = args if isinstance(args, tuple) else (args,)
    return kind(*given, **(init.get("init_args") or {}))
