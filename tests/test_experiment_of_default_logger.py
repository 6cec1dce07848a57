"""The experiment of a Trainer's default logger: a SummaryWriter for the run's folder."""

import copy
import gc
import importlib.util
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import eventually
from models import Small, loader, trainer

import nightbus as nb


class Draws(Small):
    """Gives an image to the default logger's experiment, as modules written for Lightning do."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        if batch_idx == 1:
            self.logger.experiment.add_image("drawn", torch.rand(3, 4, 4), self.global_step)
            self.logger.experiment.add_scalar("own", 0.5, global_step=self.current_epoch)
        return loss


def read(folder: str | None) -> Any:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    return reader.EventAccumulator(str(folder)).Reload()


def test_it_writes_event_files_beside_the_metrics(tmp_path: Path) -> None:
    run = trainer(tmp_path, logger=True, max_epochs=2, log_every_n_steps=1)

    run.fit(Draws(), loader(16))

    found = read(run.log_dir)
    assert Path(str(run.log_dir), "metrics.csv").is_file()
    assert found.Tags()["images"] == ["drawn"]
    assert [each.step for each in found.Images("drawn")] == [1, 5]
    assert [(each.step, each.value) for each in found.Scalars("own")] == [(0, 0.5), (1, 0.5)]


def test_the_event_files_have_what_was_logged_before_its_first_use(tmp_path: Path) -> None:
    run = trainer(tmp_path, logger=True, max_epochs=1, log_every_n_steps=1)

    run.fit(Draws(), loader(16))

    steps = [each.step for each in read(run.log_dir).Scalars("train_loss")]
    assert steps == list(range(4))


def test_what_it_gets_is_in_the_log_of_the_run(tmp_path: Path) -> None:
    run = trainer(tmp_path, logger=True, max_epochs=1)

    run.fit(Draws(), loader(16))

    events: Any = nb.open_run(str(run.log_dir)).events(nb.Media)
    assert [event.name for event in events] == ["drawn"]


def test_it_can_be_used_first_in_the_last_hook(tmp_path: Path) -> None:
    class AtEnd(Small):
        def on_train_end(self) -> None:
            self.logger.experiment.add_text("note", "the end")

    run = trainer(tmp_path, logger=True, max_epochs=1)

    run.fit(AtEnd(), loader(16))

    assert "note/text_summary" in read(run.log_dir).Tags()["tensors"]


def test_it_can_be_used_after_the_run(tmp_path: Path) -> None:
    run = trainer(tmp_path, logger=True, max_epochs=1)
    run.fit(Small(), loader(16))

    run.logger.experiment.add_text("note", "after")
    run.logger.experiment.flush()

    assert "note/text_summary" in read(run.log_dir).Tags()["tensors"]


def test_a_further_fit_goes_on_with_the_event_files(tmp_path: Path) -> None:
    run = trainer(tmp_path, logger=True, max_epochs=1, log_every_n_steps=1)
    run.fit(Draws(), loader(16))

    run.fit_loop.max_epochs = 2
    run.fit(Draws(), loader(16))

    found = read(run.log_dir)
    assert [each.step for each in found.Images("drawn")] == [1, 5]
    assert [each.step for each in found.Scalars("train_loss")] == list(range(8))


def test_another_run_has_event_files_of_its_own(tmp_path: Path) -> None:
    class Tests(Small):
        def on_test_end(self) -> None:
            self.logger.experiment.add_text("note", "tested")

    run = trainer(tmp_path, logger=True)
    for _ in range(2):
        run.test(Tests(), loader(16), verbose=False)
        assert "note/text_summary" in read(run.log_dir).Tags()["tensors"]

    assert len(list(tmp_path.glob("runs/*/events.out*"))) == 2


def test_no_event_files_are_written_if_it_is_not_used(tmp_path: Path) -> None:
    run = trainer(tmp_path, logger=True, max_epochs=1)

    run.fit(Small(), loader(16))

    assert not list(Path(str(run.log_dir)).glob("events.out*"))


def test_before_a_run_there_is_none(tmp_path: Path) -> None:
    logger = trainer(tmp_path, logger=True).logger

    with pytest.raises(AttributeError, match=r"CSV is a sink.*In a run"):
        _ = logger.experiment


def test_without_tensorboard_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "nightbus.trainer.for_loggers.find_spec",
        lambda name: None if name.startswith("tensorboard") else find(name),
    )
    run = trainer(tmp_path, logger=True, max_epochs=1)

    with pytest.raises(AttributeError, match="if TensorBoard is installed"):
        run.fit(Draws(), loader(16))


def test_the_graph_is_asked_for_in_vain(tmp_path: Path) -> None:
    logger = trainer(tmp_path, logger=True).logger

    assert logger.log_graph(Small()) is None


# -- what stays as it is ---------------------------------------------------------------------------


def test_the_trainers_loggers_stay_those_that_it_was_given(tmp_path: Path) -> None:
    class Looks(Draws):
        def on_train_batch_end(self, *_: Any) -> None:
            seen.append((self.logger, tuple(self.loggers), self.logger.version))

    seen: list[Any] = []
    run = trainer(tmp_path, logger=True, max_epochs=1)
    given = run.logger

    run.fit(Looks(), loader(16))
    hasattr(run.logger, "experiment")
    run.logger.log_metrics({"after": 1.0})

    assert len(set(seen)) == 1
    assert run.logger is given
    assert run.loggers == [given]


def test_a_sink_that_writes_event_files_itself_has_none(tmp_path: Path) -> None:
    run = trainer(tmp_path, logger=nb.TensorBoard(), max_epochs=1)

    with pytest.raises(AttributeError, match="TensorBoard is a sink"):
        run.fit(Draws(), loader(16))


def test_what_all_loggers_are_given_after_a_run_is_written_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trainer(tmp_path, logger=[nb.CSV(), nb.JSONLines()], max_epochs=1)
    run.fit(Small(), loader(16))

    for logger in run.loggers:
        logger.log_metrics({"after": 2.0}, step=100)

    assert [each.step for each in read(run.log_dir).Scalars("after")] == [100]
    assert capsys.readouterr().err.count("after came after the run's end") == 1


def test_a_trainer_that_is_gone_leaves_no_thread(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    run = trainer(tmp_path, logger=True, max_epochs=1)
    run.fit(Small(), loader(16))
    run.logger.log_metrics({"after": 2.0})

    del run
    gc.collect()

    eventually(lambda: set(threading.enumerate()) <= before)


def test_a_copy_of_a_trainer_does_not_have_it(tmp_path: Path) -> None:
    run = trainer(tmp_path, logger=True, max_epochs=1)
    run.fit(Draws(), loader(16))
    again = copy.deepcopy(run)
    again.fit_loop.max_epochs = 2
    before = sorted(tmp_path.rglob("events.out*"))

    again.fit(Small(), loader(16))

    assert len(again.sinks) == 1
    assert sorted(tmp_path.rglob("events.out*")) == before


def test_an_experiment_of_a_sinks_own_raises_its_own_error(tmp_path: Path) -> None:
    class Own(nb.CSV):
        @property
        def experiment(self) -> Any:
            return self.missing  # type: ignore[attr-defined]

    run = trainer(tmp_path, logger=Own(), max_epochs=1)
    run.fit(Small(), loader(16))

    with pytest.raises(AttributeError, match="missing"):
        _ = run.logger.experiment
