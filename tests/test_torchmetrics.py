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
    assert found.Images("confusion")[0].step == 5  # of the epoch's last batch


def refused(tmp_path: Path, module: nb.LightningModule, said: str, **arguments: Any) -> None:
    with pytest.raises(MetricError, match=said):
        trainer(tmp_path, **arguments).fit(module, loader())


def test_a_metric_that_is_no_attribute_is_refused(tmp_path: Path) -> None:
    class Fresh(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("mean", torchmetrics.MeanMetric())
            return super().training_step(batch, batch_idx)

    refused(
        tmp_path, Fresh(), r"MeanMetric that is not an attribute of the module.*assign it to self"
    )


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
        tmp_path, Lists(), "got list; expected a mapping of names to values, or a MetricCollection"
    )


EPOCH_ENDS = {
    "train": ("on_train_epoch_end", "training_epoch_end"),
    "validation": ("on_validation_epoch_end", "validation_epoch_end", "on_validation_end"),
    "test": ("on_test_epoch_end", "test_epoch_end", "on_test_end"),
}


class Counts(Small):
    """Counts its batches with Metrics that are logged in each step."""

    count: Any

    def __init__(self) -> None:
        super().__init__()
        self.count = torch.nn.ModuleDict(
            {f"{stage}_": torchmetrics.SumMetric() for stage in EPOCH_ENDS}
        )
        self.both = MetricCollection([torchmetrics.SumMetric(), torchmetrics.MeanMetric()])
        self.seen: dict[str, list[float]] = {}

    def step(self, stage: str, **options: Any) -> None:
        self.count[f"{stage}_"](1)
        self.log(f"{stage}_count", self.count[f"{stage}_"], **options)
        if stage == "validation":
            self.both.update(1)
            self.log_dict(self.both)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.step("train")  # of steps only
        return self.loss(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.step("validation", on_step=True, on_epoch=True)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.step("test")

    def note(self, hook: str, stage: str) -> None:
        self.seen.setdefault(hook, []).append(float(self.count[f"{stage}_"].compute()))


def note_in(hook: str, stage: str) -> Any:
    return lambda self, *_: self.note(hook, stage)


for _stage, _hooks in EPOCH_ENDS.items():
    for _hook in _hooks:
        setattr(Counts, _hook, note_in(_hook, _stage))


class AsksCounts(nb.Callback):
    def on_train_epoch_end(self, trainer: nb.Trainer, module: nb.LightningModule) -> None:
        module.note("callback, train", "train")  # type: ignore[operator]

    def on_validation_epoch_end(self, trainer: nb.Trainer, module: Any) -> None:
        module.note("callback, validation", "validation")
        module.seen.setdefault("collection", []).append(float(module.both.compute()["SumMetric"]))

    def on_test_epoch_end(self, trainer: nb.Trainer, module: Any) -> None:
        module.note("callback, test", "test")


def test_a_logged_metric_can_be_computed_in_every_hook_that_ends_its_epoch(tmp_path: Path) -> None:
    module = Counts()
    run = trainer(tmp_path, max_epochs=2, callbacks=[AsksCounts()], num_sanity_val_steps=1)
    run.fit(module, loader(24), loader(12))
    run.test(module, loader(8), verbose=False)

    assert module.seen.pop("collection") == [1.0, 3.0, 3.0]  # also in the sanity check
    assert module.seen == {
        **{hook: [6.0, 6.0] for hook in EPOCH_ENDS["train"]},
        "callback, train": [6.0, 6.0],
        **{hook: [1.0, 3.0, 3.0] for hook in EPOCH_ENDS["validation"]},
        "callback, validation": [1.0, 3.0, 3.0],
        **{hook: [2.0] for hook in EPOCH_ENDS["test"]},
        "callback, test": [2.0],
    }
    assert puts(run)["validation_count_epoch"] == [3.0, 3.0]
    assert not any(metric.update_called for metric in module.count.values())


def test_a_metric_that_is_updated_in_a_hook_at_the_end_is_recorded_again(tmp_path: Path) -> None:
    class Adds(Counts):
        def on_validation_epoch_end(self) -> None:
            self.count["validation_"](10)

    module = Adds()
    run = trainer(tmp_path, num_sanity_val_steps=0)
    run.fit(module, loader(), loader(12))
    assert puts(run)["validation_count_epoch"] == [3.0, 13.0]
    assert run.callback_metrics["validation_count"] == 13.0


def test_a_metric_is_not_counted_twice_after_a_checkpoint_of_an_epochs_last_hook(
    tmp_path: Path,
) -> None:
    class Saves(Counts):
        path: Path | None = None

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.step("train", on_step=False, on_epoch=True)
            return self.loss(batch)

        def on_train_epoch_end(self) -> None:
            if self.path is not None:
                self.trainer.save_checkpoint(self.path)
                self.path = None

    saving = Saves()
    saving.path = tmp_path / "saved"
    trainer(tmp_path, max_epochs=2).fit(saving, loader())

    again = trainer(tmp_path, max_epochs=2)
    again.fit(Saves(), loader(), ckpt_path=tmp_path / "saved")
    assert [put.value for put in events(again, nb.Put, attempt=1) if put.name == "train_count"] == [
        6.0
    ]
