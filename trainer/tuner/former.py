"""``Trainer.tune`` of Lightning 1.x, and the arguments of the Trainer that it reads."""

from collections.abc import Mapping
from typing import Any

from ..call_arguments import CallArguments
from ..parts import TrainerParts
from .lr_finder import LRFinder
from .tuner import Tuner


class FormerTuner(Tuner):
    """The Tuner that ``trainer.tuner`` is: it finds a learning rate without assigning it."""

    def lr_find(
        self, model: Any, *args: Any, update_attr: bool = False, **kwargs: Any
    ) -> LRFinder | None:
        """Find a learning rate, as ``Tuner.lr_find`` does.

        Args:
            model: module to train.
            *args: further arguments of ``Tuner.lr_find``.
            update_attr: assign what was found to the module's attribute.
            **kwargs: further arguments of ``Tuner.lr_find``.

        Returns:
            What was found; None with ``fast_dev_run``.
        """
        return super().lr_find(model, *args, **{**kwargs, "update_attr": update_attr})


class Tunes(TrainerParts):
    """Tunes as the arguments ``auto_lr_find`` and ``auto_scale_batch_size`` say."""

    _former: dict[str, Any]

    @property
    def tuner(self) -> FormerTuner:
        """Finds learning rates and batch sizes; ``nightbus.Tuner(trainer)`` assigns both."""
        return FormerTuner(self)

    def tune(
        self,
        model: Any,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        dataloaders: Any = None,
        datamodule: Any = None,
        scale_batch_size_kwargs: Mapping[str, Any] | None = None,
        lr_find_kwargs: Mapping[str, Any] | None = None,
        method: str = "fit",
    ) -> dict[str, Any]:
        """Find a batch size and a learning rate, as two arguments of Lightning 1.x say.

        ``Trainer(auto_scale_batch_size=True)``, or ``"power"`` or ``"binsearch"``, finds a batch
        size; ``Trainer(auto_lr_find=True)``, or the name of the module's attribute, finds a
        learning rate. The Tuner does the same without them.

        Args:
            model: module to tune.
            train_dataloaders: as for ``fit``.
            val_dataloaders: as for ``fit``.
            dataloaders: as for the Tuner's methods.
            datamodule: as for ``fit``.
            scale_batch_size_kwargs: further arguments of ``Tuner.scale_batch_size``.
            lr_find_kwargs: further arguments of ``Tuner.lr_find``.
            method: ``fit``, or for the batch size ``validate``, ``test`` or ``predict``.

        Returns:
            What was found, under ``scale_batch_size`` and ``lr_find``.

        Raises:
            UsageError: as for the Tuner's methods.
        """
        checked = CallArguments(model, {"train": train_dataloaders}, datamodule, None).checked()
        data = {
            "train_dataloaders": checked.loaders["train"],
            "val_dataloaders": val_dataloaders,
            "dataloaders": dataloaders,
            "datamodule": checked.datamodule,
            "method": method,
        }
        found: dict[str, Any] = {}
        if scaling := self._former.get("auto_scale_batch_size"):
            options = dict(scale_batch_size_kwargs or {})
            if isinstance(scaling, str):
                options.setdefault("mode", scaling)
            found["scale_batch_size"] = self.tuner.scale_batch_size(model, **data, **options)
        if rate := self._former.get("auto_lr_find"):
            options = {"update_attr": True, **(lr_find_kwargs or {})}
            if isinstance(rate, str):
                options.setdefault("attr_name", rate)
            found["lr_find"] = self.tuner.lr_find(model, **data, **options)
        return found
