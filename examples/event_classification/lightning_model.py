"""The LightningModule: a classifier of streams, its KPIs, its memory and its demo video."""

import math
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import nightbus as nb
from examples.event_classification.demo import frames_of
from examples.event_classification.errors import ClassListError
from examples.event_classification.kpis import (
    PREDICTIONS,
    figures_of,
    metrics_of,
    metrics_per_class,
    prediction_rows,
)
from examples.event_classification.models import make_model
from examples.event_classification.pretrained import move_weights
from examples.event_classification.results import Results
from examples.event_classification.streams import LEVELS, Batch, image_of
from examples.event_classification.utils_metrics import unpack_metrics_dict
from examples.event_classification.video import save_video, shown

SLOWEST = 1  # recordings that are drawn in each validation
WARM_UP = 0.3  # share of the steps


class ClassificationModel(nb.LightningModule):
    """Predicts the class of what is in view, in each time bin of each stream.

    What the model remembers of a stream goes on from batch to batch. It is put aside during
    validation, testing and demos, which read other streams, and is saved in checkpoints, so that a
    run which stops within recordings is resumed exactly.

    Args:
        hparams: see ``hyperparameters``.

    Attributes:
        results: what was said in the last validation or test; None before.

    Raises:
        UsageError: there is no such model.
        ClassListError: ``num_classes`` is not the number of ``classes``.
    """

    def __init__(self, hparams: Namespace) -> None:
        super().__init__()
        self.save_hyperparameters(hparams)
        settings: Any = self.hparams
        if settings.num_classes != len(settings.classes):
            raise ClassListError(
                f"num_classes={settings.num_classes}, and {len(settings.classes)} classes are named"
            )
        self.model = make_model(
            settings.models,
            cin=settings.cin,
            base=settings.base,
            cout=settings.cout,
            num_classes=settings.num_classes,
        )
        self.results: Results | None = None
        self._put_aside: list[list[list[Tensor] | None]] = []  # memory of training

    def forward(self, batch: Batch) -> Tensor:
        """Return logits [T, N, K] of a batch; slots that begin a recording forget the last one."""
        self.model.reset(batch["mask_keep_memory"])
        return self.model(batch["inputs"])  # type: ignore[no-any-return]

    def training_step(self, batch: Batch, batch_nb: int) -> dict[str, Tensor]:
        """Return the cross entropy of bins that have a label, and how many are right."""
        logits = self(batch)
        is_labelled = batch["frame_is_labeled"]
        labels = batch["labels"][is_labelled]
        if not len(labels):
            nothing = torch.zeros((), device=self.device)
            return {"loss": logits.sum() * 0, "right": nothing, "count": nothing}
        of_labelled = logits[is_labelled]
        loss = F.cross_entropy(of_labelled, labels)
        self.log("train_loss", loss, prog_bar=True)
        right = (of_labelled.detach().argmax(dim=-1) == labels).sum()
        return {"loss": loss, "right": right, "count": torch.tensor(len(labels))}

    def training_epoch_end(self, outputs: Sequence[Mapping[str, Tensor]]) -> None:
        """Record the share of labelled bins that were right, each when it was trained on."""
        count = sum(int(output["count"]) for output in outputs)
        if count:
            self.log("train_acc", sum(int(output["right"]) for output in outputs) / count)

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Return what ``Results`` takes."""
        return self._said_of(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Return what ``Results`` takes."""
        return self._said_of(batch)

    def _said_of(self, batch: Batch) -> dict[str, Any]:
        images = (image_of(batch["inputs"]) * LEVELS).to(torch.int8)
        kept = {name: batch[name] for name in ("labels", "track_ids", "video_infos")}
        return {"logits": self(batch), "images": images, **kept}

    def validation_epoch_end(self, outputs: Sequence[Mapping[str, Any]]) -> None:
        """Record the KPIs of whole recordings as metrics, as a table and as figures."""
        self._record("val", outputs)

    def test_epoch_end(self, outputs: Sequence[Mapping[str, Any]]) -> None:
        """Record the KPIs of whole recordings as metrics, as a table and as figures."""
        self._record("test", outputs)

    def _record(self, stage: str, outputs: Sequence[Mapping[str, Any]]) -> None:
        settings: Any = self.hparams
        results = Results(outputs, settings.delta_t)
        if self.trainer.sanity_checking or not len(results.labelled()[1]):
            return
        self.results = results
        for name, value in metrics_of(results).items():
            self.log(f"{stage}_{name}", value, prog_bar=name == "acc")
        per_class = metrics_per_class(results, settings.num_classes)
        for name, value in unpack_metrics_dict(per_class, settings.classes).items():
            if not math.isnan(value):
                self.log(f"{stage}_{name}", value)
        for rows in prediction_rows(results):
            self.put_table(f"{stage}_predictions", PREDICTIONS, rows)
        for name, figure in self.figures(results).items():
            self.put_figure(f"{stage}_{name}", figure)

    def figures(self, results: Results) -> dict[str, Any]:
        """Draw what is put in each validation and test; override it to draw something else."""
        settings: Any = self.hparams
        return figures_of(results, settings, SLOWEST)

    def configure_optimizers(self) -> Any:
        """Return AdamW, whose learning rate rises and falls once over ``epochs``.

        The run's length is that of the hyperparameters, not the Trainer's: one that is stopped
        early and resumed has the same learning rates as one that was not.
        """
        settings: Any = self.hparams
        optimizer = torch.optim.AdamW(self.parameters(), settings.lr, weight_decay=1e-3)
        steps = settings.epochs * int(self.trainer.num_training_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: _once_up_and_down(step / steps)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_validation_start(self) -> None:
        """Put the memory of training aside: validation reads other streams."""
        self._begin_other_streams()

    def on_validation_end(self) -> None:
        """Take the memory of training up again."""
        self._end_other_streams()

    def on_test_start(self) -> None:
        """Put the memory of training aside: testing reads other streams."""
        self._begin_other_streams()

    def on_test_end(self) -> None:
        """Take the memory of training up again."""
        self._end_other_streams()

    def _begin_other_streams(self) -> None:
        self._put_aside.append(self.model.memory_state())
        self.model.load_memory_state(None)

    def _end_other_streams(self) -> None:
        self.model.load_memory_state(self._put_aside.pop())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save what is remembered of the streams of training."""
        of_training = self._put_aside[0] if self._put_aside else self.model.memory_state()
        checkpoint["stream_memory"] = of_training

    def on_load_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Remember the streams of training."""
        self.model.load_memory_state(checkpoint.get("stream_memory"))

    def load_pretrained(self, checkpoint_path: str | Path) -> list[str]:
        """Take the weights of a trained classifier, for fine-tuning.

        Rows of the last layer are moved by class name; a class that is new keeps its fresh row.

        Args:
            checkpoint_path: checkpoint of a ClassificationModel with the same model.

        Returns:
            The classes that both have.

        Raises:
            CheckpointError: the checkpoint cannot be read.
            ClassListError: no class is in both, or a weight does not fit.
        """
        checkpoint = nb.load_checkpoint(checkpoint_path)
        old_classes = list(checkpoint["hyper_parameters"]["classes"])
        prefix = "model."
        weights = {
            name.removeprefix(prefix): value
            for name, value in checkpoint["state_dict"].items()
            if name.startswith(prefix)
        }
        classes = list(self.hparams.classes)
        return move_weights(self.model, self.model.last_layer, classes, weights, old_classes)

    def demo_video(
        self,
        test_data: Any,
        epoch: int = 0,
        num_batches: int = 100,
        show_video: bool = False,
        show_pred: bool = True,
        fps: int = 30,
    ) -> Path:
        """Write a video of streams and of what is said of them, as ``videos/video#EPOCH.mp4``.

        Args:
            test_data: a loader of batches, of which each bin becomes a frame.
            epoch: number in the video's name.
            num_batches: how many batches to read at most.
            show_video: show it in a window too, if there is OpenCV with windows.
            show_pred: say what is predicted; without, the input and the true class are shown.
            fps: frames in a second.

        Returns:
            The video's path; without PyAV, an animated WebP.

        Raises:
            MissingPackageError: Pillow is missing.
        """
        settings: Any = self.hparams
        file = Path(settings.root_dir) / "videos" / f"video#{epoch}.mp4"
        with self._predicting():
            batches = islice(test_data, num_batches)
            classes = list(settings.classes)
            frames = frames_of(self, batches, settings.delta_t, classes, show_pred)
            return save_video(shown(frames, fps) if show_video else frames, file, fps)

    @contextmanager
    def _predicting(self) -> Iterator[None]:
        """Predict other streams for a while, then go on as before."""
        was_training = self.training
        self.eval()
        self._begin_other_streams()
        try:
            with torch.no_grad():
                yield
        finally:
            self._end_other_streams()
            self.train(was_training)


def _once_up_and_down(done: float) -> float:
    """Return the factor of the learning rate when a share of the training is done."""
    lowest_first, lowest_last = 0.04, 0.0001
    if done < WARM_UP:
        low, way = lowest_first, 1 - done / WARM_UP
    else:
        low, way = lowest_last, min(1.0, (done - WARM_UP) / (1 - WARM_UP))
    return low + (1 - low) * (1 + math.cos(math.pi * way)) / 2
