"""BasePredictionWriter: lets the user write predictions, by batch or all at once."""

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from ..arguments import check_choice
from ..callback import Callback

if TYPE_CHECKING:
    from ..module import LightningModule
    from ..trainer_type import Trainer


class WriteInterval(StrEnum):
    """What the ``write_interval`` of a BasePredictionWriter may be."""

    BATCH = "batch"
    EPOCH = "epoch"
    BATCH_AND_EPOCH = "batch_and_epoch"

    @property
    def on_batch(self) -> bool:
        """Whether each batch's prediction is written."""
        return self is not WriteInterval.EPOCH

    @property
    def on_epoch(self) -> bool:
        """Whether all predictions are written at the end."""
        return self is not WriteInterval.BATCH


class BasePredictionWriter(Callback):
    """Calls ``write_on_batch_end`` or ``write_on_epoch_end``, which users override, or both.

    With ``predict(return_predictions=False)`` and ``write_interval="batch"``, no prediction is kept
    in memory.

    Args:
        write_interval: ``batch``, ``epoch`` or ``batch_and_epoch``.

    Raises:
        UsageError: write_interval is none of these.
    """

    def __init__(
        self, write_interval: Literal["batch", "epoch", "batch_and_epoch"] = "batch"
    ) -> None:
        check_choice("write_interval", write_interval, tuple(map(str, WriteInterval)))
        self.interval = WriteInterval(write_interval)

    def write_on_batch_end(
        self,
        trainer: "Trainer",
        pl_module: "LightningModule",
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write one batch's prediction.

        Args:
            trainer: the trainer.
            pl_module: the module.
            prediction: what ``predict_step`` returned.
            batch_indices: indices in the dataset of the batch's samples; None if the loader does
                not tell them.
            batch: the batch.
            batch_idx: its number, from 0.
            dataloader_idx: number of its loader, from 0.
        """

    def write_on_epoch_end(
        self,
        trainer: "Trainer",
        pl_module: "LightningModule",
        predictions: Sequence[Any],
        batch_indices: Sequence[Any],
    ) -> None:
        """Write all predictions.

        Args:
            trainer: the trainer.
            pl_module: the module.
            predictions: as ``predict`` returns them: a list over batches; with several dataloaders
                a list of these.
            batch_indices: for each dataloader, even a single one, a list over batches of indices
                as in ``write_on_batch_end``.
        """

    def on_predict_batch_end(
        self,
        trainer: "Trainer",
        pl_module: "LightningModule",
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self.interval.on_batch:
            indices = trainer.predict_loop.batch_indices(dataloader_idx, batch_idx)
            self.write_on_batch_end(
                trainer, pl_module, outputs, indices, batch, batch_idx, dataloader_idx
            )

    def on_predict_epoch_end(
        self, trainer: "Trainer", pl_module: "LightningModule", outputs: Any
    ) -> None:
        if self.interval.on_epoch:
            indices = [
                [trainer.predict_loop.batch_indices(idx, number) for number in range(len(batches))]
                for idx, batches in enumerate(outputs)
            ]
            predictions = outputs[0] if len(outputs) == 1 else outputs
            self.write_on_epoch_end(trainer, pl_module, predictions, indices)
