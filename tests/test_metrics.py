"""put and log: what is recorded, when, for whom; and what is refused."""

import math
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, events, loader, trainer

import nightbus as nb
from nightbus.bus.errors import MetricError


def puts(run: nb.Trainer, name: str | None = None) -> list[nb.Put]:
    return [put for put in events(run, nb.Put) if name in (None, put.name)]


def fit(folder: Path, module: nb.LightningModule, *data: Any, **arguments: Any) -> nb.Trainer:
    run = trainer(folder, **arguments)
    run.fit(module, *(data or (loader(),)))
    return run


class Logs(Small):
    """Logs what a test gives it, from training_step."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("number", float(batch_idx), **self.options)
        return self.loss(batch)


def test_put_records_name_value_place_and_source(tmp_path: Path) -> None:
    class Puts(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.put("answer", 42)
            return self.loss(batch)

    run = fit(tmp_path, Puts(), loader(4))

    (put,) = puts(run)
    assert (put.name, put.value, put.source, put.hook) == ("answer", 42, "module", "training_step")
    assert put.destinations == ("progress_bar", "callbacks", "loggers")
    assert (put.stage, put.epoch, put.step, put.batch_idx, put.rank) == ("train", 0, 0, 0, 0)


def test_put_dict_puts_each_item(tmp_path: Path) -> None:
    class Puts(Small):
        def on_train_start(self) -> None:
            self.put_dict({"a": 1, "b": 2.5}, destinations=["loggers"])

    run = fit(tmp_path, Puts(), loader(4))

    found = [(put.name, put.value, put.destinations) for put in puts(run) if put.name in "ab"]
    assert found == [("a", 1, ("loggers",)), ("b", 2.5, ("loggers",))]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.1, True, 2**60])
def test_a_value_is_recorded_as_it_is(tmp_path: Path, value: Any) -> None:
    class Puts(Small):
        def on_train_start(self) -> None:
            self.put("value", value)

    (put,) = puts(fit(tmp_path, Puts(), loader(4)), "value")

    assert put.value == value or (math.isnan(put.value) and math.isnan(value))
    assert type(put.value) is type(value)


def test_a_one_element_tensor_is_a_number(tmp_path: Path) -> None:
    class Puts(Small):
        def on_train_start(self) -> None:
            self.put("value", torch.tensor([[0.5]]))

    (put,) = puts(fit(tmp_path, Puts(), loader(4)), "value")

    assert put.value == 0.5


@pytest.mark.parametrize("value", [torch.zeros(2), "high", None, [1.0]])
def test_what_is_no_number_is_refused(tmp_path: Path, value: Any) -> None:
    class Puts(Small):
        def on_train_start(self) -> None:
            self.put("value", value)

    with pytest.raises(MetricError, match="'value' is"):
        fit(tmp_path, Puts())


@pytest.mark.parametrize("name", ["", 3, "x" * 1001])
def test_a_name_is_a_string_of_reasonable_length(tmp_path: Path, name: Any) -> None:
    class Puts(Small):
        def on_train_start(self) -> None:
            self.put(name, 1.0)

    with pytest.raises(MetricError, match="1 to 1000 characters"):
        fit(tmp_path, Puts())


def test_log_in_a_training_step_records_each_step(tmp_path: Path) -> None:
    run = fit(tmp_path, Logs())

    assert [put.value for put in puts(run, "number")] == [0, 1, 2, 3, 4, 5]


def test_log_goes_to_sinks_every_n_steps_and_always_to_callbacks(tmp_path: Path) -> None:
    run = fit(tmp_path, Logs(prog_bar=True), log_every_n_steps=3)

    found = [put.destinations for put in puts(run, "number")]
    assert found[:3] == [
        ("progress_bar", "callbacks"),
        ("progress_bar", "callbacks"),
        ("progress_bar", "callbacks", "loggers"),
    ]


def test_with_step_and_epoch_both_are_recorded_under_names_of_their_own(tmp_path: Path) -> None:
    run = fit(tmp_path, Logs(on_step=True, on_epoch=True))

    assert [put.value for put in puts(run, "number_step")] == [0, 1, 2, 3, 4, 5]
    assert [put.value for put in puts(run, "number_epoch")] == [2.5]
    assert run.callback_metrics["number"] == 2.5


@pytest.mark.parametrize(
    ("reduce_fx", "expected"),
    [("mean", 2.5), ("sum", 15), ("min", 0), ("max", 5), (torch.sum, 15), (torch.median, 2)],
)
def test_an_epoch_is_reduced_as_asked(tmp_path: Path, reduce_fx: Any, expected: float) -> None:
    run = fit(tmp_path, Logs(on_step=False, on_epoch=True, reduce_fx=reduce_fx))

    assert [put.value for put in puts(run, "number")] == [expected]


def test_an_epoch_mean_is_weighted_by_batch_size(tmp_path: Path) -> None:
    run = fit(tmp_path, Logs(on_step=False, on_epoch=True), loader(10, 4))  # 4, 4 and 2 samples

    assert [put.value for put in puts(run, "number")] == [
        pytest.approx((0 * 4 + 1 * 4 + 2 * 2) / 10)
    ]


def test_a_given_batch_size_wins(tmp_path: Path) -> None:
    run = fit(tmp_path, Logs(on_step=False, on_epoch=True, batch_size=1), loader(10, 4))

    assert [put.value for put in puts(run, "number")] == [1.0]


def test_nan_in_an_epoch_is_nan(tmp_path: Path) -> None:
    class Nan(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            for how in ("mean", "min", "max", "sum"):
                value = math.nan if batch_idx == 1 else 1.0
                self.log(how, value, on_step=False, on_epoch=True, reduce_fx=how)
            return self.loss(batch)

    run = fit(tmp_path, Nan())

    assert all(math.isnan(put.value) for put in puts(run))


def test_validation_logs_its_epoch(tmp_path: Path) -> None:
    run = fit(tmp_path, Small(), loader(), loader(8), max_epochs=2)

    found = puts(run, "val_loss")
    assert [(put.stage, put.epoch, put.step) for put in found] == [
        ("validate", 0, 5),  # of the batch before it
        ("validate", 1, 11),
    ]


def test_what_the_sanity_check_logs_is_thrown_away(tmp_path: Path) -> None:
    class Checks(Small):
        def on_train_start(self) -> None:
            assert self.trainer.callback_metrics == {}

    run = fit(tmp_path, Checks(), loader(), loader(8))

    assert {put.stage for put in puts(run)} == {"train", "validate"}


def test_callbacks_see_the_epoch_when_it_ends(tmp_path: Path) -> None:
    seen: list[float] = []

    class Reads(nb.Callback):
        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            seen.append(float(trainer.callback_metrics["number"]))

    fit(tmp_path, Logs(on_step=False, on_epoch=True), callbacks=[Reads()])

    assert seen == [2.5]


def test_a_callback_can_log(tmp_path: Path) -> None:
    class LogsToo(nb.Callback):
        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            self.log("from_callback", 1.0)

    run = fit(tmp_path, Small(), callbacks=[LogsToo()])

    assert [put.source for put in puts(run, "from_callback")] == ["logstoo"]


def test_a_torchmetrics_metric_is_computed_and_reset_at_the_epochs_end(tmp_path: Path) -> None:
    import torchmetrics

    class WithMetric(Small):
        def __init__(self) -> None:
            super().__init__()
            self.mean = torchmetrics.MeanMetric()

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.mean(float(batch_idx))
            self.log("mean", self.mean, on_step=True, on_epoch=True)
            return self.loss(batch)

    run = fit(tmp_path, WithMetric(), max_epochs=2)

    assert [put.value for put in puts(run, "mean_epoch")] == [2.5, 2.5]
    assert [put.value for put in puts(run, "mean_step")][:3] == [0, 1, 2]


@pytest.mark.parametrize(
    "hook",
    ["on_fit_start", "on_fit_end", "on_train_end", "configure_optimizers", "setup"],
)
def test_log_where_there_is_no_step_or_epoch_is_refused(tmp_path: Path, hook: str) -> None:
    def logs(self: Any, *_: Any) -> Any:
        self.log("x", 1.0)

    module = type("LogsThere", (Small,), {hook: logs})()

    with pytest.raises(MetricError, match=f"called in {hook}"):
        fit(tmp_path, module)


def test_on_step_at_an_epochs_end_is_refused(tmp_path: Path) -> None:
    class LogsStep(Small):
        def on_train_epoch_end(self) -> None:
            self.log("x", 1.0, on_step=True)

    with pytest.raises(MetricError, match="on_train_epoch_end, where there is no step"):
        fit(tmp_path, LogsStep())


def test_one_name_with_two_options_in_a_hook_is_refused(tmp_path: Path) -> None:
    class Twice(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("x", 1.0)
            self.log("x", 1.0, prog_bar=True)
            return self.loss(batch)

    with pytest.raises(MetricError, match=r"prog_bar=False.*prog_bar=True"):
        fit(tmp_path, Twice())


def test_an_unknown_reduction_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MetricError, match="expected 'mean', 'sum', 'min', 'max'"):
        fit(tmp_path, Logs(on_epoch=True, reduce_fx="middle"))


class Late:
    """A value on its way, as from a GPU: it arrives when it is told to."""

    def __init__(self, value: float) -> None:
        self.value, self.arrived = value, False

    def ready(self) -> bool:
        return self.arrived

    def result(self) -> float:
        self.arrived = True
        return self.value


def arrive_late(monkeypatch: pytest.MonkeyPatch, late: Callable[[str, Any], Any]) -> None:
    """Have values that are put be on their way, as those of a GPU are.

    Args:
        monkeypatch: undoes it.
        late: returns what a name and a value become.
    """
    from nightbus.actors.metrics import puts as put_values
    from nightbus.actors.metrics import reduction, values

    for module in (values, put_values, reduction):
        monkeypatch.setattr(module, "PendingScalar", Late)
    monkeypatch.setattr(put_values, "to_scalar", late)


def test_a_value_on_its_way_is_recorded_in_order_and_nobody_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = Late(0.25)
    arrive_late(monkeypatch, lambda name, value: late if name == "late" else value)
    seen: list[int] = []

    class Puts(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if batch_idx == 1:
                self.put("late", torch.zeros(()))
            self.put("prompt", batch_idx)
            return self.loss(batch)

        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            writer = self.trainer.bus.writer
            assert writer is not None
            seen.append(writer.written_seq)
            late.arrived = batch_idx == 4

    run = fit(tmp_path, Puts())

    assert seen[2] == seen[3] == seen[4] < seen[5]
    found = [(put.name, put.value) for put in puts(run)]
    assert found[:4] == [("prompt", 0), ("late", 0.25), ("prompt", 1), ("prompt", 2)]
    recorded = events(run)
    assert [event.seq for event in recorded] == list(range(len(recorded)))


def test_a_value_on_its_way_that_is_not_finite_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    arrive_late(monkeypatch, lambda name, value: Late(value))

    class Diverges(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.put("bad", float("nan"))
            self.put("fine", 1.0)
            return self.loss(batch)

    fit(tmp_path, Diverges())

    said = capfd.readouterr().err
    assert said.count("is recorded as it is") == 1
    assert "the metric bad is NaN at epoch 0, step " in said


def test_values_that_have_arrived_do_not_wait_for_the_end_of_the_epoch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from nightbus.actors.metrics import reduction

    monkeypatch.setattr(reduction, "PendingScalar", Late)
    found, first = reduction.Reduction("mean"), Late(1.0)
    kept = weakref.ref(first)
    found.add(first, 1)  # type: ignore[arg-type]
    first.arrived = True
    del first

    for _ in range(100):
        found.add(Late(3.0), 1)  # type: ignore[arg-type]

    assert kept() is None
    assert found.compute() == pytest.approx(301 / 101)


def test_a_checkpoint_waits_for_values_on_their_way_so_that_a_resumed_run_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nightbus.actors.checkpoints.format import read_checkpoint

    arrive_late(monkeypatch, lambda name, value: Late(0.5) if name == "late" else float(value))

    class Saves(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.put("late", 0.5)
            return self.loss(batch)

        def on_train_batch_end(self, *_: Any) -> None:
            self.trainer.save_checkpoint(tmp_path / "checkpoint")

    run = trainer(tmp_path, max_steps=1)
    run.fit(Saves(), loader())

    (put,) = (put for put in puts(run, "late"))
    assert put.seq <= read_checkpoint(tmp_path / "checkpoint")["seq"]


def test_a_metric_that_is_not_finite_is_recorded_and_said_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    class Diverges(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.put("bad", float("nan") if batch_idx < 3 else float("inf"))
            return self.loss(batch)

    run = trainer(tmp_path)
    run.fit(Diverges(), loader())

    found = [event.value for event in events(run, nb.Put) if event.name == "bad"]
    assert [value != value for value in found] == [True] * 3 + [False] * 3
    assert found[3:] == [float("inf")] * 3
    assert capfd.readouterr().err.count("the metric bad is NaN") == 1


def test_a_destination_of_ones_own_reaches_those_who_subscribe_to_it(tmp_path: Path) -> None:
    class Alerts(nb.Actor):
        def __init__(self) -> None:
            self.values: list[float] = []
            self.texts: list[str] = []

        @nb.on(nb.Put, destination="alerts")
        async def note(self, put: nb.Put) -> None:
            self.values.append(put.value)

        @nb.on(nb.Media, destination="alerts")
        async def read(self, media: nb.Media) -> None:
            self.texts.append(media.data.decode())

    class Warns(Small):
        def on_train_start(self) -> None:
            self.put("heat", 3.0, destinations=["alerts"])
            self.put("heat", 4.0)
            self.put_text("why", "hot", destinations=["alerts"])

    alerts = Alerts()
    run = trainer(tmp_path, actors=[alerts])

    run.fit(Warns(), loader())

    assert (alerts.values, alerts.texts) == ([3.0], ["hot"])
    assert events(run, nb.DeadLetter) == []


def test_values_for_a_destination_that_nobody_takes_are_recorded_and_counted(
    tmp_path: Path,
) -> None:
    class Warns(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.put("heat", float(batch_idx), destinations=["alerts"])
            return self.loss(batch)

    run = trainer(tmp_path)

    run.fit(Warns(), loader())

    assert [e.value for e in events(run, nb.Put) if e.name == "heat"] == [0, 1, 2, 3, 4, 5]
    (letter,) = events(run, nb.DeadLetter)
    assert (letter.target, letter.command) == ("alerts", "Put")
    assert "6 were put" in letter.reason


def test_only_values_have_destinations() -> None:
    with pytest.raises(nb.UsageError, match="only values, Put and Media, have destinations"):
        nb.on("on_train_start", destination="alerts")


class LogsAllWays(Small):
    """Logs in evaluation by step, by epoch and both, and when the epoch ends."""

    def evaluate(self, batch_idx: int) -> None:
        self.log("both", float(batch_idx), on_step=True, on_epoch=True, prog_bar=True)
        self.log("step", float(batch_idx), on_step=True, on_epoch=False)
        self.log("epoch", float(batch_idx))

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.evaluate(batch_idx)

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        self.log("end", 7.0)

    on_test_epoch_end = on_validation_epoch_end


@pytest.mark.parametrize("function", ["validate", "test"])
def test_callbacks_see_what_evaluation_comes_to_and_no_single_batch(
    tmp_path: Path, function: str
) -> None:
    run = trainer(tmp_path, log_every_n_steps=1)
    (found,) = getattr(run, function)(LogsAllWays(), loader(12), verbose=False)
    values = {name: float(value) for name, value in run.callback_metrics.items()}
    assert values == {"both": 1.0, "both_epoch": 1.0, "epoch": 1.0, "end": 7.0}
    assert run.progress_bar_metrics == {"both_step": 2.0, "both_epoch": 1.0}
    assert set(run.logged_metrics) == {"both_step", "both_epoch", "step", "epoch", "end"}
    assert found == {"both_epoch": 1.0, "epoch": 1.0, "end": 7.0}


@pytest.mark.parametrize("function", ["validate", "test"])
def test_values_of_the_epochs_end_are_in_the_results_of_all_loaders(
    tmp_path: Path, function: str
) -> None:
    run = trainer(tmp_path)
    data = [loader(4), loader(12)]
    assert getattr(run, function)(LogsAllWays(), data, verbose=False) == [
        {"both_epoch/dataloader_idx_0": 0.0, "epoch/dataloader_idx_0": 0.0, "end": 7.0},
        {"both_epoch/dataloader_idx_1": 1.0, "epoch/dataloader_idx_1": 1.0, "end": 7.0},
    ]
    assert run.callback_metrics["both/dataloader_idx_1"] == 1.0


def test_a_loader_for_which_nothing_is_logged_has_no_values_of_another(tmp_path: Path) -> None:
    class First(Small):
        def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            if dataloader_idx == 0:
                self.log("x", 1.0)

    found = trainer(tmp_path).test(First(), [loader(4), loader(4)], verbose=False)
    assert found == [{"x/dataloader_idx_0": 1.0}, {}]


def test_a_dict_is_logged_entry_by_entry(tmp_path: Path) -> None:
    class Dicts(Small):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val", {"a": 1.0, "in": {"b": torch.tensor(2.0)}}, prog_bar=True)

    run = trainer(tmp_path)
    (found,) = run.validate(Dicts(), loader(4), verbose=False)
    assert found == {"val/a": 1.0, "val/in/b": 2.0}
    assert run.progress_bar_metrics == found
