"""ShownLoop: where a loop is, under the names that a bar of tqdm has for it."""

import math
from typing import Any, Literal

Kind = Literal["train", "val", "test", "predict"]
INSTEAD = (
    "the bar is drawn from the log, on another thread, by the class nightbus.ProgressBar; override "
    "get_metrics to choose the metrics, or derive a bar of your own from ProgressBarBase and "
    "override hooks"
)


class ShownLoop:
    """Where a loop is; to be read only, for the bar is drawn from the log.

    Args:
        bar: the callback that sets the bar, a ProgressBarBase.
        kind: ``train``, ``val``, ``test`` or ``predict``.
    """

    __slots__ = ("_bar", "_kind")
    _bar: Any
    _kind: Kind

    def __init__(self, bar: Any, kind: Kind) -> None:
        object.__setattr__(self, "_bar", bar)
        object.__setattr__(self, "_kind", kind)

    @property
    def _loop(self) -> Any:
        trainer = self._bar.trainer
        match self._kind:
            case "train":
                return trainer
            case "val":
                amid = trainer.state.fn == "fit" and getattr(trainer.epoch_loop, "val_loop", None)
                return (amid or trainer.validate_loop).epoch_loop
            case "test":
                return trainer.test_loop.epoch_loop
            case _:
                return trainer.predict_loop.epoch_loop

    @property
    def n(self) -> int:
        """Batches done, of the epoch or of the dataloader that is read."""
        progress = self._loop.batch_progress
        return 0 if progress is None else progress.current.completed

    @property
    def total(self) -> int | None:
        """Batches there are; None if that is not known."""
        bar = self._bar
        if self._kind == "train":
            trainer = bar.trainer
            total = bar.total_train_batches
            if trainer.max_epochs == -1 and trainer.max_steps > 0:  # those done are not in it
                total = min(trainer.num_training_batches, total + self.n)
        elif self._kind == "val" and bar.trainer.sanity_checking:
            total = bar.trainer.num_sanity_val_batches[self._dataloader_idx]
        else:
            total = getattr(bar.trainer, f"num_{self._kind}_batches")[self._dataloader_idx]
        return None if math.isinf(total) else int(total)

    @property
    def _dataloader_idx(self) -> int:
        return max(0, int(self._loop.dataloader_idx))

    @property
    def desc(self) -> str:
        """What the loop is called."""
        bar = self._bar
        if self._kind == "train":
            return f"Epoch {bar.trainer.current_epoch}"
        names = {"test": bar.test_description, "predict": bar.predict_description}
        checks = self._kind == "val" and bar.trainer.sanity_checking
        name = bar.sanity_check_description if checks else bar.validation_description
        return f"{names.get(self._kind, name)} DataLoader {self._dataloader_idx}"

    @property
    def disable(self) -> bool:
        """Whether nothing is shown."""
        return bool(self._bar.is_disabled)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{self._kind}_progress_bar.{name} is not there: {INSTEAD}")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{self._kind}_progress_bar.{name} cannot be set: {INSTEAD}")
