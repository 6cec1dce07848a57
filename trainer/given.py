"""What ``fit`` and the others were called with."""

import os
from typing import Any, NamedTuple

from torch.nn import Module

from ..actors.arguments import described
from ..actors.checkpoints.weight_names import uncompiled
from ..actors.datamodule import LightningDataModule
from ..actors.module import LightningModule
from ..bus.errors import UsageError


class Given(NamedTuple):
    """What ``fit`` and the others were called with.

    Attributes:
        model: None for that of the last run.
        loaders: by stage; those that were not given are None.
        datamodule: instead of loaders.
        ckpt_path: where to go on from, or whose weights to take.
    """

    model: LightningModule | None
    loaders: dict[str, Any]
    datamodule: LightningDataModule | None
    ckpt_path: str | os.PathLike[str] | None

    def checked(self) -> "Given":
        """The same, a datamodule that was given as the first loader in its own place.

        Raises:
            UsageError: it makes no sense.
        """
        model, loaders, datamodule = uncompiled(self.model), self.loaders, self.datamodule
        if model is not None and not isinstance(model, LightningModule):
            hint = ": wrap it in one, whose training_step calls it" * isinstance(model, Module)
            if any(isinstance(entry, LightningModule) for entry in loaders.values()):
                hint = ": the module comes first, and then the dataloaders"
            raise UsageError(f"expected a nightbus.LightningModule, not {described(model)}{hint}")
        if model is not None and type(model).__hash__ is None:
            raise UsageError(
                f"{type(model).__name__} is a dataclass that compares its fields, so that it has "
                "no hash, which torch asks modules for; give it @dataclass(eq=False)"
            )
        if model is not None and "_modules" not in model.__dict__:
            raise UsageError(
                f"{type(model).__name__}.__init__ does not call super().__init__(); do so first"
            )
        first = next(iter(loaders.values()))
        if isinstance(first, LightningDataModule):
            if datamodule is not None:
                raise UsageError("two datamodules were given")
            datamodule = first
            loaders = dict.fromkeys(loaders)
        if datamodule is not None and any(entry is not None for entry in loaders.values()):
            raise UsageError("give either dataloaders or a datamodule, not both")
        if datamodule is not None and not isinstance(datamodule, LightningDataModule):
            found = described(datamodule)
            raise UsageError(f"expected a nightbus.LightningDataModule, not {found}")
        return Given(model, loaders, datamodule, self.ckpt_path)
