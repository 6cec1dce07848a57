"""The proposal of put: its code runs as written, its slips put right."""

from pathlib import Path
from typing import Any

import pytest
from models import Small, events, loader, trainer
from torchmetrics import MeanMetric, MetricCollection
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


def test_a_put_says_when_where_and_from_whom(tmp_path: Path) -> None:
    run = trainer(tmp_path, max_epochs=2)

    run.fit(Puts(), loader(12))

    last = [event for event in events(run, nb.Put) if event.name == "loss"][-1]
    assert (last.epoch, last.step, last.rank) == (1, 5, 0)
    assert (last.source, last.hook) == ("module", "training_step")
    times = [event.time_ns for event in events(run, nb.Put)]
    assert times == sorted(times)


class PutsEverywhere(nb.LightningDataModule):
    """A datamodule, and with it a callback, a loop and an actor, that put."""

    def train_dataloader(self) -> Any:
        self.put("from_data", 1.0)
        return loader(12)


def test_everyone_may_put_at_any_time(tmp_path: Path) -> None:
    class FromCallback(nb.Callback):
        def setup(self, trainer: nb.Trainer, module: Any, stage: str) -> None:
            self.put("from_callback", 1.0)

        def teardown(self, trainer: nb.Trainer, module: Any, stage: str) -> None:
            self.put("at_the_end", 1.0)

    class FromLoop(nb.FitLoop):
        def on_run_start(self) -> None:
            self.put("from_loop", 1.0)
            super().on_run_start()

    class FromActor(nb.Actor):
        @nb.on("on_train_start")
        async def beside(self, _: nb.Hook) -> None:
            self.put("from_actor", 1.0)

    run = trainer(tmp_path, callbacks=[FromCallback()], actors=[FromActor()])
    run.fit_loop = FromLoop()

    run.fit(Small(), datamodule=PutsEverywhere())

    names = {event.name for event in events(run, nb.Put)}
    expected = {"from_data", "from_callback", "from_loop", "from_actor", "at_the_end"}
    assert expected <= names


def test_putting_before_a_run_is_an_error_that_says_where_to_put(tmp_path: Path) -> None:
    class Early(Small):
        def __init__(self) -> None:
            super().__init__()
            self.put("early", 1.0)

    with pytest.raises(nb.UsageError, match=r"Early\.put\(\) was called outside a run"):
        Early()


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


def test_a_collection_of_metrics_is_logged_at_the_epochs_end(tmp_path: Path) -> None:
    class Collects(Small):
        def __init__(self) -> None:
            super().__init__()
            self.metrics = MetricCollection({"accuracy": MulticlassAccuracy(2)}, prefix="val_")

        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            x, y = batch
            self.metrics.update(self(x), y)
            self.log_dict(self.metrics)

    run = trainer(tmp_path)

    (found,) = run.validate(Collects(), loader(8), verbose=False)

    assert set(found) == {"val_accuracy"}
