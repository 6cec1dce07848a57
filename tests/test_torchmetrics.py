"""Metrics of torchmetrics: logged one by one, as a collection, and put."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torchmetrics
from models import Small, events, loader, trainer
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    BinaryAUROC,
    BinaryAveragePrecision,
    BinaryConfusionMatrix,
    BinaryF1Score,
    BinaryPrecision,
    BinaryRecall,
    BinaryROC,
)

import nightbus as nb
from nightbus.bus.errors import MetricError


def collection() -> MetricCollection:
    return MetricCollection(
        {
            "precision": BinaryPrecision(),
            "recall": BinaryRecall(),  # shares its state with precision and F1
            "f1": BinaryF1Score(),
            "auroc": BinaryAUROC(),
            "ap": BinaryAveragePrecision(),  # shares lists with AUROC
        },
        prefix="train/",
    )


class Scores(Small):
    """Has scores and targets to measure."""

    def __init__(self) -> None:
        super().__init__()
        self.metrics = collection()
        self.seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        scores = torch.rand(8, generator=torch.Generator().manual_seed(self.trainer.global_step))
        target = (scores + torch.arange(8) / 8 > 1.0).long()
        self.seen.append((scores, target))
        self.report(scores, target)
        return loss

    def report(self, scores: torch.Tensor, target: torch.Tensor) -> None:
        self.metrics.update(scores, target)
        self.log_dict(self.metrics, on_step=False, on_epoch=True)


def puts(run: nb.Trainer) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for event in events(run, nb.Put):
        found.setdefault(event.name, []).append(event.value)
    return found


def test_a_collection_is_computed_over_each_epoch_and_begins_anew(tmp_path: Path) -> None:
    module = Scores()
    run = trainer(tmp_path, max_epochs=3)
    run.fit(module, loader())
    recorded = puts(run)

    for epoch in range(3):
        expected = collection()
        for scores, target in module.seen[6 * epoch : 6 * epoch + 6]:
            expected.update(scores, target)
        for name, value in expected.compute().items():
            assert recorded[name][epoch] == float(value), (name, epoch)
    assert all(not metric.update_called for metric in module.metrics.values())


def test_with_on_step_the_values_of_forward_are_recorded(tmp_path: Path) -> None:
    class Steps(Scores):
        def report(self, scores: torch.Tensor, target: torch.Tensor) -> None:
            self.metrics(scores, target)
            self.log_dict(self.metrics, on_step=True, on_epoch=True)

    module = Steps()
    run = trainer(tmp_path)
    run.fit(module, loader())
    recorded = puts(run)

    expected = [float(collection()(*pair)["train/recall"]) for pair in module.seen]
    assert recorded["train/recall_step"] == expected
    assert len(recorded["train/recall_epoch"]) == 1


def test_a_collection_may_be_logged_in_evaluation_too(tmp_path: Path) -> None:
    class Evaluates(Small):
        def __init__(self) -> None:
            super().__init__()
            self.metrics = MetricCollection([torchmetrics.MeanMetric(), torchmetrics.MaxMetric()])

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.metrics.update(torch.tensor(float(batch_idx)))
            self.log_dict(self.metrics, prog_bar=True)

    run = trainer(tmp_path)
    run.fit(Evaluates(), loader(), loader(12))

    assert run.progress_bar_metrics["MaxMetric"] == 2
    assert run.callback_metrics["MeanMetric"] == 1


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # torchmetrics with NumPy 2
def test_curves_are_computed_at_the_epochs_end_and_put_as_figures(tmp_path: Path) -> None:
    class Curves(Scores):
        def __init__(self) -> None:
            super().__init__()
            self.roc = BinaryROC()
            self.confusion = BinaryConfusionMatrix()

        def report(self, scores: torch.Tensor, target: torch.Tensor) -> None:
            self.roc.update(scores, target)
            self.confusion.update(scores, target)

        def on_train_epoch_end(self) -> None:
            for name, curve in (("roc", self.roc), ("confusion", self.confusion)):
                figure, _ = curve.plot()
                self.put_figure(name, figure)
                curve.reset()
            pytest.importorskip("matplotlib.pyplot").close("all")

    run = trainer(tmp_path, sinks=[nb.TensorBoard()])
    run.fit(Curves(), loader())

    assert run.log_dir is not None
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = reader.EventAccumulator(run.log_dir).Reload()
    assert found.Images("roc")[0].width > 100
    assert found.Images("confusion")[0].step == 6


def refused(tmp_path: Path, module: nb.LightningModule, said: str, **arguments: Any) -> None:
    with pytest.raises(MetricError, match=said):
        trainer(tmp_path, **arguments).fit(module, loader())


def test_a_metric_that_is_no_attribute_is_refused(tmp_path: Path) -> None:
    class Fresh(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("mean", torchmetrics.MeanMetric())
            return super().training_step(batch, batch_idx)

    refused(tmp_path, Fresh(), r"MeanMetric that is no attribute of the module.*assign it to self")


@pytest.mark.parametrize("second", ["metric", "number"])
def test_a_metric_that_is_another_one_than_before_is_refused(tmp_path: Path, second: str) -> None:
    class Changes(Small):
        def __init__(self) -> None:
            super().__init__()
            self.first = torchmetrics.MeanMetric()
            self.second = torchmetrics.MeanMetric()

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            other = self.second if second == "metric" else 1.0
            self.log("mean", self.first if batch_idx == 0 else other, on_step=False, on_epoch=True)
            return super().training_step(batch, batch_idx)

    refused(tmp_path, Changes(), "'mean' was logged as a Metric before, and now as another")


def test_a_metric_whose_value_is_no_scalar_is_refused_with_its_shape(tmp_path: Path) -> None:
    class Matrix(Small):
        def __init__(self) -> None:
            super().__init__()
            self.matrix = BinaryConfusionMatrix()

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.matrix.update(torch.tensor([1, 0]), torch.tensor([1, 1]))
            self.log("matrix", self.matrix, on_step=False, on_epoch=True)
            return super().training_step(batch, batch_idx)

    refused(tmp_path, Matrix(), r"'matrix'.*\(2, 2\)")


def test_names_that_would_be_recorded_twice_are_refused(tmp_path: Path) -> None:
    class Clashes(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("loss", 1.0, on_step=True, on_epoch=True)
            self.log("loss_epoch", 2.0, on_step=False, on_epoch=True)
            return super().training_step(batch, batch_idx)

    refused(
        tmp_path,
        Clashes(),
        "'loss_epoch' would be recorded as loss_epoch, and so would 'loss' from training_step",
    )


def test_two_that_log_one_name_in_one_hook_are_refused(tmp_path: Path) -> None:
    class Logs(nb.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            self.log("late", 1.0)

    class Late(Small):
        def on_train_batch_end(self, *_: Any) -> None:
            self.log("late", 2.0)

    said = "both .* and .* log 'late' in on_train_batch_end; choose another name"
    refused(tmp_path, Late(), said, callbacks=[Logs()])


def test_what_is_neither_mapping_nor_collection_is_refused(tmp_path: Path) -> None:
    class Lists(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log_dict([1.0])  # type: ignore[arg-type]
            return super().training_step(batch, batch_idx)

    refused(
        tmp_path, Lists(), "takes a mapping of names to values, or a MetricCollection, not list"
    )
