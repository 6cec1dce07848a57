"""The registries of LightningCLI of Lightning 1.x: classes by the names they were given.

LightningCLI knows every class that is imported by its name, registered or not.
"""

from collections.abc import Iterator
from inspect import getmembers, isclass
from types import ModuleType
from typing import TypeVar

import torch
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from ...actors import callbacks
from ...actors.callback import Callback
from ...actors.datamodule import LightningDataModule
from ...actors.module import LightningModule
from ...loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from .types import ReduceLROnPlateau

Class = TypeVar("Class", bound=type)


class Registry(dict[str, type]):
    """Classes by name, and the decorator that adds one."""

    def __call__(self, cls: Class, key: str | None = None, override: bool = False) -> Class:
        """Add a class.

        Args:
            cls: the class.
            key: its name here; by default the one that it has.
            override: replace the class of this name, if there is one.

        Returns:
            The class, for the use as a decorator.

        Raises:
            TypeError: the key is no text.
        """
        name = cls.__name__ if key is None else key
        if not isinstance(name, str):
            raise TypeError(f"key={key!r}: expected the name of {cls.__name__} here, a str")
        if override or name not in self:
            self[name] = cls
        return cls

    def register_classes(self, module: ModuleType, base_cls: type, override: bool = False) -> None:
        """Add the classes of a module that derive from one.

        Args:
            module: the module.
            base_cls: the class that they derive from, which is left out itself.
            override: replace classes that have their names.
        """
        for kind in self.get_members(module, base_cls):
            self(kind, override=override)

    @staticmethod
    def get_members(module: ModuleType, base_cls: type) -> Iterator[type]:
        """Return the classes of a module that derive from one.

        Args:
            module: the module.
            base_cls: the class that they derive from, which is left out itself.
        """
        found = (kind for _, kind in getmembers(module, isclass))
        return (kind for kind in found if issubclass(kind, base_cls) and kind is not base_cls)

    @property
    def names(self) -> list[str]:
        """The names, in the order in which they were added."""
        return list(self)

    @property
    def classes(self) -> tuple[type, ...]:
        """The classes, in the order in which they were added."""
        return tuple(self.values())

    def __str__(self) -> str:
        return f"Registered: {', '.join(self) or 'nothing'}"


OPTIMIZER_REGISTRY = Registry()
"""Optimizers: those of PyTorch, and those that are added."""
LR_SCHEDULER_REGISTRY = Registry()
"""Learning rate schedulers: those of PyTorch, and those that are added."""
CALLBACK_REGISTRY = Registry()
"""Callbacks: those of nightbus, and those that are added."""
LOGGER_REGISTRY = Registry()
"""Loggers: those of nightbus, and those that are added."""
MODEL_REGISTRY = Registry()
"""Modules that are added."""
DATAMODULE_REGISTRY = Registry()
"""Datamodules that are added."""


def fill_registries(with_all: bool = False) -> None:
    """Add what PyTorch and nightbus have, unless the names are taken.

    Args:
        with_all: add all subclasses that have been imported, too, as ``auto_registry=True`` does.
    """
    OPTIMIZER_REGISTRY.register_classes(torch.optim, Optimizer)
    LR_SCHEDULER_REGISTRY.register_classes(lr_scheduler, LRScheduler)
    LR_SCHEDULER_REGISTRY(ReduceLROnPlateau, override=True)
    CALLBACK_REGISTRY.register_classes(callbacks, Callback)
    for kind in (CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger):
        LOGGER_REGISTRY(kind)
    for base, registry in _KINDS if with_all else ():
        for each in _subclasses(base):
            registry(each)


def _subclasses(kind: type) -> Iterator[type]:
    found: list[type] = kind.__subclasses__()
    for each in found:
        yield each
        yield from _subclasses(each)


_KINDS: list[tuple[type, Registry]] = [
    (Optimizer, OPTIMIZER_REGISTRY),
    (LRScheduler, LR_SCHEDULER_REGISTRY),
    (Callback, CALLBACK_REGISTRY),
    (Logger, LOGGER_REGISTRY),
    (LightningModule, MODEL_REGISTRY),
    (LightningDataModule, DATAMODULE_REGISTRY),
]
fill_registries()
