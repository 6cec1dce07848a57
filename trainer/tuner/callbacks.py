"""Callbacks that tune when a run begins: LearningRateFinder and BatchSizeFinder."""

from typing import TYPE_CHECKING, Any

from ...actors.callback import Callback
from .lr_finder import LRFinder, Mode
from .tuner import Search, Tuner

if TYPE_CHECKING:
    from ...actors.module import LightningModule
    from ...actors.trainer_type import Trainer


class LearningRateFinder(Callback):
    """Finds a learning rate when ``fit`` begins, and trains with it; see ``Tuner.lr_find``.

    A resumed run keeps its learning rate. To search again later, call ``lr_find`` in a hook of a
    subclass, such as ``on_train_epoch_start``.

    Args:
        min_lr: the first rate to try.
        max_lr: the last rate to try.
        num_training_steps: number of steps.
        mode: ``exponential`` or ``linear``.
        early_stop_threshold: end the trial once the loss is so many times its best; None for never.
        update_attr: use the suggestion.
        attr_name: attribute of the module that gets it, instead of ``lr`` or ``learning_rate``.

    Attributes:
        optimal_lr: what was found; None before.
    """

    why_not_replayed = "it trains the module, which a log does not hold"

    def __init__(
        self,
        min_lr: float = 1e-8,
        max_lr: float = 1,
        num_training_steps: int = 100,
        mode: Mode = "exponential",
        early_stop_threshold: float | None = 4.0,
        update_attr: bool = True,
        attr_name: str = "",
    ) -> None:
        LRFinder(mode, min_lr, max_lr, num_training_steps)  # checks them
        self._options: dict[str, Any] = {
            "min_lr": min_lr,
            "max_lr": max_lr,
            "num_training": num_training_steps,
            "mode": mode,
            "early_stop_threshold": early_stop_threshold,
            "update_attr": update_attr,
            "attr_name": attr_name,
        }
        self.optimal_lr: LRFinder | None = None

    def lr_find(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Find a learning rate, and have the optimizers use it from now on.

        Args:
            trainer: the trainer that runs.
            pl_module: its module.
        """
        data = trainer.loaders.given
        self.optimal_lr = Tuner(trainer).lr_find(
            pl_module,
            data.get("train"),
            datamodule=trainer.datamodule,
            **self._options,
        )
        if self.optimal_lr is None or not self._options["update_attr"]:
            return
        if (rate := self.optimal_lr.suggestion()) is not None:
            _set_rate(trainer, rate)

    def on_fit_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        if trainer.ckpt_path is None:
            self.lr_find(trainer, pl_module)


class BatchSizeFinder(Callback):
    """Finds the largest batch size that fits into memory when a function begins, and uses it.

    It does so for ``fit``, ``validate``, ``test`` and ``predict``; see ``Tuner.scale_batch_size``.

    Args:
        mode: ``power`` or ``binsearch``.
        steps_per_trial: number of batches for each size.
        init_val: the first size.
        max_trials: number of sizes to try.
        batch_arg_name: attribute of the module, the datamodule, or their ``hparams``, with which
            the dataloaders are made.
        margin: with ``binsearch``, share of the size to leave free.
        max_val: the largest size to try.

    Attributes:
        optimal_batch_size: what was found; ``init_val`` before.
    """

    why_not_replayed = "it runs the module, which a log does not hold"

    def __init__(
        self,
        mode: Search = "power",
        steps_per_trial: int = 3,
        init_val: int = 2,
        max_trials: int = 25,
        batch_arg_name: str = "batch_size",
        margin: float = 0.05,
        max_val: int = 8192,
    ) -> None:
        self._options: dict[str, Any] = {
            "mode": mode,
            "steps_per_trial": steps_per_trial,
            "init_val": init_val,
            "max_trials": max_trials,
            "batch_arg_name": batch_arg_name,
            "margin": margin,
            "max_val": max_val,
        }
        self.optimal_batch_size: int | None = init_val

    def scale_batch_size(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Find a batch size, and have the dataloaders made again with it.

        Args:
            trainer: the trainer that runs.
            pl_module: its module.
        """
        function = trainer.function or "fit"
        given = trainer.loaders.given
        data: dict[str, Any] = (
            {"train_dataloaders": given.get("train"), "val_dataloaders": given.get("validate")}
            if function == "fit"
            else {"dataloaders": given.get(function)}
        )
        self.optimal_batch_size = Tuner(trainer).scale_batch_size(
            pl_module, datamodule=trainer.datamodule, method=function, **data, **self._options
        )
        for stage in given:
            trainer.loaders.forget(stage)

    def on_fit_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        self.scale_batch_size(trainer, pl_module)

    def on_validation_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        if trainer.function == "validate":
            self.scale_batch_size(trainer, pl_module)

    def on_test_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        self.scale_batch_size(trainer, pl_module)

    def on_predict_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        self.scale_batch_size(trainer, pl_module)


def _set_rate(trainer: "Trainer", rate: float) -> None:
    """Have all optimizers use a learning rate, and schedulers begin with it."""
    for optimizer in trainer.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
            if "initial_lr" in group:
                group["initial_lr"] = rate
    for config in trainer.lr_scheduler_configs:
        if hasattr(config.scheduler, "base_lrs"):
            config.scheduler.base_lrs = [rate] * len(config.scheduler.base_lrs)
