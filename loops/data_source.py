"""DataSource: where the data of a loop come from."""

from typing import Any

from ..actors.overrides import is_overridden
from .context import LoopContext

_HOOKS = {"validate": "val_dataloader"}  # the others are called as their stages


class DataSource:
    """Where a loop's data come from, under the names by which code for Lightning asks.

    Args:
        context: the run.
        stage: what the loop does: train, validate, test or predict.
    """

    def __init__(self, context: LoopContext, stage: str) -> None:
        self._context, self._stage = context, stage

    @property
    def instance(self) -> Any:
        """The loader that was given, or else what has ``train_dataloader`` or the like."""
        given = self._context.loaders.given.get(self._stage)
        if given is not None:
            return given
        return self._context.datamodule or self._context.lightning_module

    def dataloader(self) -> Any:
        """Return the loader, one or the collection that was given."""
        return self._context.loaders.collection(self._stage, requests=True)

    def is_defined(self) -> bool:
        """Return whether there is a loader, or a method that returns one."""
        if self._context.loaders.given.get(self._stage) is not None:
            return True
        hook = _HOOKS.get(self._stage, f"{self._stage}_dataloader")
        return self.instance is not None and is_overridden(self.instance, hook)
