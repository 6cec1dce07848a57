"""File descriptors, threads or memory that are gone for a while: training goes on, and what was
lost is said.
"""

import contextlib
import errno
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import DEADLINE_S
from models import Small, loader, trainer, weights
from programs import run_program
from trial_shortages import no_descriptors

import nightbus as nb
from nightbus.bus.runs.cursor import RunReader, attempt_logs
from nightbus.bus.system import logging_setup


class Starves(Small):
    """Trains without a file descriptor from one batch to another one."""

    def __init__(self, first: int = 3, last: int = 12) -> None:
        super().__init__()
        self.first, self.last = first, last
        self.entered = contextlib.ExitStack()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if self.trainer.global_step == self.first:
            self.entered.enter_context(no_descriptors())

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.put("step_loss", float(batch_idx))
        if self.trainer.global_step == self.first + 1:
            self.put("odd", float("nan"))  # which is said, for the first time
        return super().training_step(batch, batch_idx)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.trainer.global_step == self.last:
            self.entered.close()


def steps_in(path: Path) -> list[int]:
    lines = (line.split(",") for line in path.read_text().splitlines()[1:])
    return [int(step) for _, step, *_ in lines]


def test_training_goes_on_without_file_descriptors_and_so_do_sinks_when_they_are_back(
    tmp_path: Path,
) -> None:
    plain, starved = Small(), Starves()
    torch.manual_seed(1)
    trainer(tmp_path / "plain", max_epochs=4).fit(plain, loader(), loader(8))
    sinks = [nb.CSV(), nb.JSONLines(), nb.SQLite(), nb.TensorBoard()]
    run = trainer(tmp_path / "starved", max_epochs=4, sinks=sinks)

    torch.manual_seed(1)
    with starved.entered:
        run.fit(starved, loader(), loader(8))

    assert all(torch.equal(a, b) for a, b in zip(weights(plain), weights(starved), strict=True))
    assert set(steps_in(Path(str(run.log_dir)) / "metrics.csv")) == set(range(24))
    reader = RunReader(attempt_logs(nb.RunFolder.open(str(run.log_dir))))
    events = list(reader.events())
    assert isinstance(events[-1], nb.RunEnded)
    assert events[-1].how == "completed"
    assert (Path(str(run.log_dir)) / "checkpoints" / "last").exists()


def test_a_checkpoint_that_no_file_can_be_opened_for_is_a_fault_and_not_the_end(
    tmp_path: Path,
) -> None:
    run = trainer(tmp_path, max_epochs=4)

    starved = Starves(3, 18)
    with starved.entered:
        run.fit(starved, loader(), loader(8))

    events = list(RunReader(attempt_logs(nb.RunFolder.open(str(run.log_dir)))).events())
    faults = [event for event in events if type(event) is nb.Fault]
    assert [fault for fault in faults if "checkpoint" in fault.message]
    assert run.global_step == 24
    assert not list((Path(str(run.log_dir)) / "checkpoints").glob(".*"))  # nothing half done


def test_an_image_that_no_file_can_be_opened_for_is_a_fault_and_not_the_end(tmp_path: Path) -> None:
    program = Path(__file__).with_name("starved_images.py")
    done = run_program(str(program), str(tmp_path), "0", "3", timeout=DEADLINE_S)

    assert done.returncode == 0, done.stderr
    events = list(RunReader(attempt_logs(nb.RunFolder.open(done.stdout.strip()))).events())
    pictures = [event.batch_idx for event in events if isinstance(event, nb.Media)]
    faults = [event for event in events if isinstance(event, nb.Fault)]
    assert pictures == [3, 4, 5]
    assert [fault.batch_idx for fault in faults] == [0, 1, 2]
    assert "put_image('picture') is lost: OSError" in faults[0].message
    assert done.stderr.count("put_image('picture') is lost") == 1
    assert isinstance(events[-1], nb.RunEnded)
    assert events[-1].how == "completed"


def test_a_message_that_structlog_cannot_be_loaded_for_is_said_plainly(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fails(name: str) -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(logging_setup, "_structlog_logger", fails)

    logging_setup.get_logger("test").warning("careful", reason="a test")

    said = capfd.readouterr().err
    assert "nightbus: warning: careful reason='a test'" in said
    assert "Too many open files" in said


class NoThreads:
    """While it is entered, no thread can be started."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: Any) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)


def test_a_run_that_can_start_no_thread_trains_and_saves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run = trainer(tmp_path, max_epochs=2, sinks=[nb.CSV()], hang_timeout=600)
    NoThreads(monkeypatch)

    run.fit(Small(), loader(), loader(8))

    monkeypatch.undo()
    path = Path(str(run.log_dir))
    assert run.global_step == 12
    assert (path / "checkpoints" / "last").exists()
    said = capfd.readouterr().err
    assert "can't start new thread" in said
    assert "csv stopped early" in said
    nb.replay(path, sinks=[nb.CSV()], resume=True)
    assert (path / "metrics.csv").exists()


def test_the_users_own_error_is_the_one_that_is_raised_when_nothing_works_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fails(Small):
        def on_train_batch_end(self, *_: Any) -> None:
            NoThreads(monkeypatch)
            self.trainer.bus.emit = refuse  # type: ignore[method-assign]
            raise MemoryError("the first")

    def refuse(*_: Any, **__: Any) -> None:
        raise MemoryError("a later one")

    with pytest.raises(MemoryError, match="the first"):
        trainer(tmp_path).fit(Fails(), loader())
