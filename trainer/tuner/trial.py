"""A short run of a trainer's copy, which leaves module and random numbers as they were."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ...actors.callback import Callback
from ...actors.data.rng import undrawn
from ...actors.module import LightningModule
from ...bus.errors import UsageError
from ...loops.modes import kept_modes
from ..parts import TrainerParts

_QUIET: dict[str, Any] = {
    "actors": (),
    "sinks": (),
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "recording": "off",
    "control": False,
    "fast_dev_run": False,
    "num_sanity_val_steps": 0,
    "min_epochs": None,
    "min_steps": None,
    "max_epochs": -1,
    "max_time": None,
    "slurm_requeue": False,
    "hang_timeout": None,
}
METHODS = ("fit", "validate", "test", "predict")


class Data:
    """The data of trials, as the functions of a Trainer take them.

    Args:
        train: training loaders, or a datamodule.
        val: validation loaders.
        others: loaders of another function than ``fit``.
        datamodule: source of the loaders if none are given.
    """

    def __init__(
        self, train: Any = None, val: Any = None, others: Any = None, datamodule: Any = None
    ) -> None:
        self.train, self.val, self.others, self.datamodule = train, val, others, datamodule

    @property
    def has_loaders(self) -> bool:
        """True if loaders were given, which keep their batch size."""
        given = (self.train, self.val, self.others)
        return any(each is not None and not hasattr(each, "prepare_data") for each in given)

    @property
    def module_of_data(self) -> Any:
        """The datamodule, however it was given; None if there is none."""
        given = (self.datamodule, self.train, self.others)
        return next((each for each in given if hasattr(each, "prepare_data")), None)

    def arguments(self, method: str) -> dict[str, Any]:
        """Return the arguments of a function that say which data to use.

        Args:
            method: ``fit``, ``validate``, ``test`` or ``predict``.

        Raises:
            UsageError: there is no such function, or loaders of another one were given.
        """
        if method not in METHODS:
            raise UsageError(f"method={method!r}: expected one of {', '.join(map(repr, METHODS))}")
        if method == "fit":
            if self.others is not None:
                raise UsageError(
                    "dataloaders= is for method='validate', 'test' and 'predict'; for 'fit' give "
                    "train_dataloaders="
                )
            loaders = {"train_dataloaders": self.train, "val_dataloaders": self.val}
            return {**loaders, "datamodule": self.datamodule}
        if self.train is not None or self.val is not None:
            raise UsageError(
                f"train_dataloaders= and val_dataloaders= are for method='fit'; for {method!r} "
                "give dataloaders="
            )
        return {"dataloaders": self.others, "datamodule": self.datamodule}


def trial_of(trainer: TrainerParts, callbacks: list[Callback], **changed: Any) -> Any:
    """Return a Trainer with the same arguments that shows, records and keeps nothing.

    Args:
        trainer: the trainer.
        callbacks: its callbacks.
        **changed: arguments that differ.
    """
    arguments: Mapping[str, Any] = {**trainer.arguments, **_QUIET, "callbacks": callbacks}
    return type(trainer)(**{**arguments, **changed})


@contextmanager
def unchanged(module: LightningModule, trainer: Any) -> Iterator[None]:
    """Restore a module's weights and modes and all random number generators afterwards.

    Args:
        module: the module.
        trainer: the trainer for which something is tried; the module is attached to it then.

    Returns:
        The context.
    """
    before = copy.deepcopy(module.state_dict())
    with undrawn(), kept_modes(module):
        try:
            yield
        finally:
            module.load_state_dict(before)
            module.trainer = trainer
