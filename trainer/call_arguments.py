"""The arguments of ``fit``, ``validate``, ``test`` and ``predict``."""

import os
from typing import Any, NamedTuple

from torch.nn import Module

from ..actors.arguments import described
from ..actors.checkpoints.weight_names import uncompiled
from ..actors.datamodule import LightningDataModule
from ..actors.module import LightningModule
from ..bus.errors import ArgumentTypeError, UsageError


class CallArguments(NamedTuple):
    """The arguments of ``fit``, ``validate``, ``test`` or ``predict``.

    Attributes:
        model: module to run; None for that of the last run.
        loaders: loaders by stage; None for those that were not given.
        datamodule: source of the loaders if none are given.
        ckpt_path: checkpoint to resume from, or to take the weights from.
    """

    model: LightningModule | None
    loaders: dict[str, Any]
    datamodule: LightningDataModule | None
    ckpt_path: str | os.PathLike[str] | None

    def checked(self) -> "CallArguments":
        """Return the checked arguments; a datamodule given as first loader becomes `datamodule`.

        Raises:
            UsageError: the arguments are invalid.
        """
        model, loaders, datamodule = uncompiled(self.model), self.loaders, self.datamodule
        if model is not None and not isinstance(model, LightningModule):
            hint = ": wrap it in one, whose training_step calls it" * isinstance(model, Module)
            if any(isinstance(entry, LightningModule) for entry in loaders.values()):
                hint = ": the module comes first, and then the dataloaders"
            raise ArgumentTypeError(
                f"expected a nightbus.LightningModule, not {described(model)}{hint}"
            )
        if model is not None and type(model).__hash__ is None:
            raise UsageError(
                f"{type(model).__name__} is a dataclass that compares its fields, so it has no "
                "hash, which torch requires of modules; decorate it with @dataclass(eq=False)"
            )
        if model is not None and "_modules" not in model.__dict__:
            raise UsageError(
                f"{type(model).__name__}.__init__ does not call super().__init__(); do so first"
            )
        first = next(iter(loaders.values()))
        if isinstance(first, LightningDataModule):
            if datamodule is not None:
                raise UsageError(
                    "two datamodules were given, one of them as the first dataloader; give one"
                )
            datamodule = first
            loaders = dict.fromkeys(loaders)
        if datamodule is not None and any(entry is not None for entry in loaders.values()):
            raise UsageError("give either dataloaders or a datamodule, not both")
        if datamodule is not None and not isinstance(datamodule, LightningDataModule):
            found = described(datamodule)
            raise UsageError(f"expected a nightbus.LightningDataModule, not {found}")
        return CallArguments(model, loaders, datamodule, self.ckpt_path)
