"""The proposal of put: its code runs as written, its slips put right."""

from pathlib import Path
from typing import Any

import pytest
from models import Small, events, loader, trainer
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

import nightbus as nb


def batch_size(batch: Any) -> int:
    return len(batch[0])


class Puts(Small):
    """The example calling code."""

    def __init__(self) -> None:
        super().__init__()
        self.loss_avg = MeanMetric()
        self.metric = MeanMetric()
        self.my_fancy_metric = MulticlassAccuracy(num_classes=2)
        self.by_hand: list[float] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        loss = self.loss(batch)
        self.loss_avg.update(loss, batch_size(batch))
        self.metric.update(loss)
        self.my_fancy_metric.update(self(x), y)
        self.by_hand.append(loss.item())
        self.put("loss", self.loss_avg.compute())
        self.put("metric", self.metric.compute(), destinations=("callbacks"))
        with self.my_fancy_metric.sync_context():
            self.put("fancy_metric", self.my_fancy_metric.compute())
        return loss

    def on_train_epoch_end(self) -> None:
        self.loss_avg.reset()
        self.metric.reset()
        self.my_fancy_metric.reset()


def test_the_example_calling_code_records_running_means(tmp_path: Path) -> None:
    module = Puts()
    run = trainer(tmp_path)

    run.fit(module, loader(12))

    found = [event.value for event in events(run, nb.Put) if event.name == "loss"]
    expected = [sum(module.by_hand[: n + 1]) / (n + 1) for n in range(3)]
    assert found == pytest.approx(expected, rel=1e-6)


def test_a_destination_is_for_whom_it_names(tmp_path: Path) -> None:
    run = trainer(tmp_path)

    run.fit(Puts(), loader(12))

    labels = {event.name: event.destinations for event in events(run, nb.Put)}
    assert labels["loss"] == ("progress_bar", "callbacks", "loggers")
    assert labels["metric"] == ("callbacks",)
    assert "metric" in run.callback_metrics
    assert "metric" not in run.logged_metrics
    assert {"loss", "fancy_metric"} <= run.progress_bar_metrics.keys()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_figure_of_all_predictions_is_put_at_the_epochs_end(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib").use("agg")

    class Confuses(Small):
        def __init__(self) -> None:
            super().__init__()
            self.confusion = MulticlassConfusionMatrix(num_classes=2)

        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            x, y = batch
            self.confusion.update(self(x), y)

        def on_validation_epoch_end(self) -> None:
            figure, _ = self.confusion.plot()
            self.put_figure("confusion", figure)
            self.confusion.reset()

    run = trainer(tmp_path, num_sanity_val_steps=0)

    run.fit(Confuses(), loader(12), loader(8))

    (figure,) = events(run, nb.Media)
    assert (figure.name, figure.kind, figure.destinations) == ("confusion", "figure", ("loggers",))
    assert figure.data.startswith(b"\x89PNG")
