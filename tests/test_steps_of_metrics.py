"""Which step a value belongs to: that of its batch, also after the optimizer's step."""

from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, events, loader, trainer

import nightbus as nb


class LogsEverywhere(Small):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("step", 1.0)
        return self.loss(batch)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.log("batch_end", 1.0)
        self.put("put", 1.0)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("validation", 1.0)

    def on_validation_epoch_end(self) -> None:
        self.log("validation_end", 1.0)
        self.put_text("text", "validated")

    def on_train_epoch_start(self) -> None:
        self.put("epoch_start", 1.0)
        self.log("epoch", 1.0)

    def on_train_epoch_end(self) -> None:
        self.log("epoch_end", 1.0)


class ByHand(LogsEverywhere):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()
        self.log("step", 1.0)
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        optimizer.step()
        self.log("after_step", 1.0)


class OfLBFGS(LogsEverywhere):
    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters(), max_iter=2)


def steps(run: nb.Trainer, attempt: int = 0) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for event in events(run, nb.Put, nb.Media, attempt=attempt):
        if event.stage != "sanity_check":
            found.setdefault(event.name, []).append(event.step)
    return found


@pytest.mark.parametrize("module", [LogsEverywhere, ByHand, OfLBFGS])
def test_what_follows_the_optimizers_step_belongs_to_the_same_step(
    tmp_path: Path, module: type[LogsEverywhere]
) -> None:
    run = trainer(tmp_path, max_epochs=2)
    run.fit(module(), loader(16), loader(8))
    found = steps(run)
    if module is OfLBFGS:
        found["step"] = sorted({*found["step"]})  # it evaluates several times
    assert found.pop("after_step", [0, 1, 2, 3, 4, 5, 6, 7]) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert found == {
        "step": [0, 1, 2, 3, 4, 5, 6, 7],
        "batch_end": [0, 1, 2, 3, 4, 5, 6, 7],
        "put": [0, 1, 2, 3, 4, 5, 6, 7],
        "validation": [3, 7],
        "validation_end": [3, 7],
        "text": [3, 7],
        "epoch_start": [0, 4],
        "epoch": [3, 7],
        "epoch_end": [3, 7],
    }


def test_a_validation_within_an_epoch_belongs_to_the_step_before_it(tmp_path: Path) -> None:
    run = trainer(tmp_path, val_check_interval=2)
    run.fit(LogsEverywhere(), loader(16), loader(8))
    assert steps(run)["validation"] == steps(run)["validation_end"] == [1, 3]


def test_batches_that_are_accumulated_belong_to_the_step_to_come(tmp_path: Path) -> None:
    run = trainer(tmp_path, accumulate_grad_batches=2, val_check_interval=1)
    run.fit(LogsEverywhere(), loader(12), loader(8))
    found = steps(run)
    assert found["step"] == found["batch_end"] == found["validation"] == [0, 0, 1]
    assert found["epoch_end"] == [1]


def test_values_of_a_batch_end_are_in_the_row_of_their_step(tmp_path: Path) -> None:
    run = trainer(tmp_path, sinks=[nb.CSV()], log_every_n_steps=2)
    run.fit(LogsEverywhere(), loader(16))
    assert run.log_dir is not None
    header, *rows = (Path(run.log_dir) / "metrics.csv").read_text().splitlines()
    names = header.split(",")
    found = [dict(zip(names, row.split(","), strict=True)) for row in rows]
    with_step = [row["step"] for row in found if row["step"] and row.get("batch_end") == "1.0"]
    assert [row["batch_end"] for row in found if row["step"] in ("1", "3")] == ["1.0", "1.0"]
    assert with_step == ["1", "3"]


def test_a_resumed_run_puts_what_ends_an_epoch_at_the_same_steps(tmp_path: Path) -> None:
    class Stops(LogsEverywhere):
        at = -1

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            super().on_train_batch_end(outputs, batch, batch_idx)
            if self.trainer.global_step == self.at:
                self.trainer.should_stop = True

    whole = trainer(tmp_path / "whole", max_epochs=2)
    whole.fit(LogsEverywhere(), loader(16), loader(8))
    first = Stops()
    first.at = 6
    trainer(tmp_path, max_epochs=2, run_name="one").fit(first, loader(16), loader(8))
    again = trainer(tmp_path, max_epochs=2, run_name="one")
    again.fit(LogsEverywhere(), loader(16), loader(8), ckpt_path="last")
    resumed = steps(again, attempt=1)
    assert resumed["step"] == [6, 7]
    assert {name: found[-1:] for name, found in resumed.items() if name != "epoch_start"} == {
        name: found[-1:] for name, found in steps(whole).items() if name != "epoch_start"
    }


class TwoOptimizers(Small):
    """Steps two optimizers in each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(self.parameters(), lr=0.1) for _ in range(2)]

    def training_step(self, batch: Any, batch_idx: int) -> None:
        for number, optimizer in enumerate(self.optimizers()):
            optimizer.zero_grad()
            self.manual_backward(self.loss(batch))
            self.log(f"loss_{number}", 1.0)
            optimizer.step()


def test_with_two_optimizers_every_second_batch_goes_to_sinks_if_asked_for(tmp_path: Path) -> None:
    got: list[tuple[str, int]] = []
    lr = nb.LearningRateMonitor(logging_interval="step")

    def sink(put: nb.Put) -> None:
        if "loggers" in put.destinations:
            got.append((put.name, put.batch_idx))

    run = trainer(tmp_path, sinks=[sink], callbacks=[lr], log_every_n_steps=2)
    run.fit(TwoOptimizers(), loader(16))
    names = ("lr-SGD", "lr-SGD-1", "loss_0", "loss_1")
    assert got == [(name, batch) for batch in (1, 3) for name in names]
