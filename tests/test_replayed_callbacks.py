"""Callbacks that only read metrics work on a recorded run too."""

from pathlib import Path
from typing import Any

import pytest
from models import Small, loader, trainer

import nightbus as nb


class StopsBelow(nb.Callback):
    """Stops when the validation loss is below a threshold."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.seen: list[tuple[int, float]] = []

    def on_validation_end(self, trainer: nb.Trainer, module: Any) -> None:
        if trainer.sanity_checking:
            return
        loss = trainer.callback_metrics["val_loss"].item()
        self.seen.append((trainer.global_step, loss))
        if loss < self.threshold:
            trainer.should_stop = True
            trainer.stop_reason = "low enough"


def recorded(tmp_path: Path, **arguments: Any) -> tuple[Path, list[tuple[int, float]]]:
    live = StopsBelow(0.0)
    run = trainer(tmp_path, max_epochs=4, callbacks=[live], **arguments)
    run.fit(Small(), loader(), loader(8))
    assert run.run_folder is not None
    return run.run_folder.path, live.seen


def test_a_callback_sees_the_metrics_that_it_saw_live(tmp_path: Path) -> None:
    run, live = recorded(tmp_path)
    again = StopsBelow(0.0)

    nb.replay(run, actors=[again])

    assert again.seen == live
    assert len(live) == 4


def test_a_callback_says_where_it_would_have_stopped(tmp_path: Path) -> None:
    run, live = recorded(tmp_path)
    earlier = StopsBelow(threshold=sorted(loss for _, loss in live)[1])

    result = nb.replay(run, actors=[earlier])

    (told,) = result.commands
    assert told.target == "fit"
    assert told.command == nb.Stop(reason="low enough")
    assert earlier.seen == live[: len(earlier.seen)]
    assert len(earlier.seen) <= len(live)


def test_batch_numbers_are_known_and_live_objects_say_that_they_were_not_recorded(
    tmp_path: Path,
) -> None:
    run, _ = recorded(tmp_path)
    numbers: list[int] = []

    class Counts(nb.Callback):
        def on_train_batch_end(
            self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            numbers.append(batch_idx)

    class Touches(nb.Callback):
        def on_train_batch_end(
            self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            batch.shape  # noqa: B018

    nb.replay(run, actors=[Counts()])

    assert numbers == [0, 1, 2, 3, 4, 5] * 4
    with pytest.raises(nb.NotRecorded, match="'batch' of the hook on_train_batch_end"):
        nb.replay(run, actors=[Touches()])


@pytest.mark.parametrize("attribute", ["optimizers", "model", "fit_loop"])
def test_what_was_not_recorded_of_the_trainer_is_named(tmp_path: Path, attribute: str) -> None:
    run, _ = recorded(tmp_path)

    class Reads(nb.Callback):
        def on_train_start(self, trainer: Any, module: Any) -> None:
            getattr(trainer, attribute)

    with pytest.raises(nb.NotRecorded, match=f"'{attribute}' of the trainer"):
        nb.replay(run, actors=[Reads()])


def test_hooks_that_were_left_out_of_the_recording_are_missed(tmp_path: Path) -> None:
    run, _ = recorded(tmp_path, recording="metrics")

    with pytest.raises(nb.NotRecorded, match="recording='metrics'"):
        nb.replay(run, actors=[StopsBelow(0.0)])


def test_the_plain_name_of_a_metric_with_step_and_epoch_values_can_be_monitored(
    tmp_path: Path,
) -> None:
    class Both(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.loss(batch)
            self.log("loss", loss, on_step=True, on_epoch=True)
            return loss

    class Reads(nb.Callback):
        def __init__(self) -> None:
            self.values: list[float] = []

        def on_train_epoch_end(self, trainer: nb.Trainer, module: Any) -> None:
            self.values.append(trainer.callback_metrics["loss"].item())

    live, again = Reads(), Reads()
    run = trainer(tmp_path, max_epochs=2, callbacks=[live])
    run.fit(Both(), loader())
    assert run.run_folder is not None

    nb.replay(run.run_folder, actors=[again])

    assert again.values == live.values
