"""Observers that raise or are slow: training does not notice, and nothing is lost."""

import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from models import Small, events, loader, trainer, weights
from programs import run_program

import nightbus as nb


class Collects(nb.Sink):
    """Keeps what it gets; fails at the batch numbers it is told."""

    destination = "callbacks"
    supervision = nb.Supervision(restarts=2, backoff_s=0.001)

    def __init__(self, fails: tuple[int, ...] = ()) -> None:
        self.fails = fails
        self.writes = 0
        self.steps: list[int] = []

    def write(self, batch: list[nb.Put]) -> None:
        self.writes += 1
        if self.writes in self.fails:
            raise OSError(f"no network at write {self.writes}")
        self.steps += [put.step for put in batch]


def run_with(folder: Path, *sinks: nb.Sink, **arguments: Any) -> tuple[nb.Trainer, Small]:
    run, module = trainer(folder, max_epochs=2, sinks=list(sinks), **arguments), Small()
    run.fit(module, loader())
    return run, module


def test_a_sink_that_raises_is_restarted_where_it_was(tmp_path: Path) -> None:
    sink = Collects(fails=(1,))

    run, _ = run_with(tmp_path, sink)

    assert sink.steps == list(range(12))
    assert [fault.error for fault in events(run, nb.Fault)] == ["OSError"]
    assert [event.restarts for event in events(run, nb.ActorRestarted)] == [1]


def test_a_sink_that_keeps_raising_is_stopped_and_training_goes_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sink = Collects(fails=tuple(range(1, 100)))

    run, module = run_with(tmp_path / "failing", sink)
    _, undisturbed = run_with(tmp_path / "undisturbed")

    assert run.global_step == 12
    for mine, other in zip(weights(module), weights(undisturbed), strict=True):
        assert torch.equal(mine, other)
    assert len(events(run, nb.Fault)) == 3
    (stopped,) = events(run, nb.ActorStopped)
    assert (stopped.source, "OSError" in stopped.reason) == ("collects", True)
    (message,) = [line for line in capfd.readouterr().err.splitlines() if "collects" in line]
    assert "stopped early" in message
    assert f"nightbus.replay({run.log_dir!r}, sinks=[Collects()], resume=True)" in message


class Faulty(nb.Sink):
    """Misbehaves in one of its hooks, when it is called for the second time at the latest."""

    destination = None
    events = (nb.Event,)
    supervision = nb.Supervision(restarts=1, backoff_s=0.001)
    stop_timeout_s = 0.1
    batch_size = 5

    def __init__(self, hook: str, misbehave: Callable[[], None]) -> None:
        self.hook = hook
        self.misbehave = misbehave

    def _meet(self, hook: str) -> None:
        if hook == self.hook:
            self.misbehave()

    def open(self, resumed: bool) -> None:
        self._meet("open")

    def write(self, batch: list[Any]) -> None:
        self._meet("write")

    def flush(self) -> None:
        self._meet("flush")

    def finish(self) -> None:
        self._meet("finish")

    def state(self) -> dict[str, Any]:
        self._meet("state")
        return {}

    def close(self) -> None:
        self._meet("close")


def fail() -> None:
    raise OSError("no network")


def hang() -> None:
    threading.Event().wait()


def leave() -> None:
    sys.exit(7)


def write_to_a_process_that_left() -> None:
    reading, writing = os.pipe()
    try:
        subprocess.run([sys.executable, "-S", "-c", "import os; os._exit(7)"], stdin=reading)
        os.close(reading)
        os.write(writing, b"a value")
    finally:
        os.close(writing)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[torch.Tensor]:
    """The weights that training comes to by itself."""
    _, module = run_with(tmp_path_factory.mktemp("undisturbed"))
    return weights(module)


@pytest.mark.parametrize(
    ("hook", "misbehave"),
    [
        *product(("open", "write", "flush", "finish", "state", "close"), (fail, hang)),
        ("write", leave),
        ("close", leave),
        ("write", write_to_a_process_that_left),
    ],
)
def test_a_sink_that_raises_hangs_or_exits_changes_no_weight(
    hook: str, misbehave: Callable[[], None], undisturbed: list[torch.Tensor], tmp_path: Path
) -> None:
    with redirect_stderr(io.StringIO()) as said:
        run, module = run_with(tmp_path, Faulty(hook, misbehave), drain_timeout=0.1)

    assert all(map(torch.equal, weights(module), undisturbed))
    assert events(run, nb.Event)[-1].how == "completed"
    assert "faulty stopped early" in said.getvalue()


def test_the_files_of_a_sink_that_died_are_refilled_to_the_byte(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    class CSV(nb.CSV):
        """Dies in the middle of a batch, for good, at its third."""

        name = "dies"
        supervision = nb.Supervision(restarts=0)
        batch_size = 4
        batches = 0

        def write(self, batch: list[Any]) -> None:
            self.batches += 1
            super().write(batch[:2] if self.batches == 3 else batch)
            if self.batches == 3:
                raise OSError("no network")

    class Undisturbed(nb.CSV):
        name = "undisturbed"

    sinks = [CSV(), Undisturbed(tmp_path / "undisturbed")]
    run, _ = run_with(tmp_path / "run", *sinks, log_every_n_steps=1)
    assert run.log_dir is not None
    died, whole = (Path(run.log_dir) / "metrics.csv", tmp_path / "undisturbed" / "metrics.csv")
    before = died.read_bytes()
    (said,) = [line for line in capfd.readouterr().err.splitlines() if "dies" in line]
    command = said.partition("deliver the rest with: nightbus ")[2]

    done = run_program("-m", "nightbus", *command.split())

    assert before != whole.read_bytes()
    assert "dies" in done.stderr, done.stderr
    assert died.read_bytes() == whole.read_bytes()


def test_what_a_stopped_sink_missed_is_delivered_by_replay(tmp_path: Path) -> None:
    run, _ = run_with(tmp_path, Collects(fails=tuple(range(1, 100))))
    again = Collects()

    assert run.log_dir is not None
    nb.replay(run.log_dir, sinks=[again], resume=True)

    assert again.steps == list(range(12))


def test_an_actor_may_declare_that_its_failure_ends_the_run(tmp_path: Path) -> None:
    class Vital(nb.Actor):
        supervision = nb.Supervision(restarts=0, then="stop_run")

        @nb.on(nb.Put)
        async def fail(self, put: nb.Put) -> None:
            raise ValueError("cannot go on")

    run = trainer(tmp_path, max_epochs=-1, actors=[Vital()])
    run.fit(Small(), loader())

    (ended,) = events(run, nb.RunEnded)
    assert ended.how == "stopped"
    assert "cannot go on" in ended.reason


def test_a_slow_sink_gets_everything_in_the_end(tmp_path: Path) -> None:
    class Slow(Collects):
        def write(self, batch: list[nb.Put]) -> None:
            time.sleep(0.005 * len(batch))
            super().write(batch)

    sink = Slow()

    run_with(tmp_path, sink)

    assert sink.steps == list(range(12))


def test_a_coroutine_that_raises_is_restarted_at_the_event_it_failed_on(tmp_path: Path) -> None:
    class Trips(nb.Actor):
        supervision = nb.Supervision(restarts=1, backoff_s=0.001)
        tripped = False

        def __init__(self) -> None:
            self.steps: list[int] = []

        @nb.on(nb.Put, name="train_loss")
        async def note(self, put: nb.Put) -> None:
            if put.step == 3 and not self.tripped:
                self.tripped = True
                raise ValueError("tripped")
            self.steps.append(put.step)

    trips = Trips()
    trainer(tmp_path, actors=[trips]).fit(Small(), loader())

    assert trips.steps == [0, 1, 2, 3, 4, 5]


def test_an_exception_in_the_step_ends_the_run(tmp_path: Path) -> None:
    class Fails(nb.Actor):
        @nb.on("on_train_batch_end")
        def fail(self, hook: Any) -> None:
            raise ValueError("in the step")

    run = trainer(tmp_path, actors=[Fails()])
    with pytest.raises(ValueError, match="in the step"):
        run.fit(Small(), loader())

    assert [event.how for event in events(run, nb.RunEnded)] == ["failed"]


def test_two_runs_started_at_once_get_folders_of_their_own(tmp_path: Path) -> None:
    runs = [trainer(tmp_path, run_name="same") for _ in range(2)]
    for run in runs:
        run.fit(Small(), loader())

    assert runs[0].log_dir != runs[1].log_dir
    assert len(list((tmp_path / "runs").iterdir())) == 2
