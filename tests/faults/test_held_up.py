"""An actor that does not let go of the bus thread, or never has enough: it is named,
and nobody else has to pay for it.
"""

import threading
from pathlib import Path
from typing import Any

import pytest
from helpers import eventually
from models import Small, loader, trainer

import nightbus as nb
from nightbus.bus.crash import black_box
from nightbus.bus.runs.cursor import RunReader, attempt_logs


class Holds(nb.Actor):
    """Waits in a coroutine as if it had the thread for itself."""

    def __init__(self) -> None:
        self.let_go = threading.Event()

    @nb.on(nb.LoopStarted)
    async def hold(self, started: nb.LoopStarted) -> None:
        self.let_go.wait()


class Waits(Small):
    """Trains no further than its second batch until something is so."""

    def __init__(self, ready: Any) -> None:
        super().__init__()
        self.ready = ready

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 1:  # what the first did is in the log
            eventually(self.ready)


def events_of(run: nb.Trainer) -> list[Any]:
    return list(RunReader(attempt_logs(nb.RunFolder.open(str(run.log_dir)))).events())


def test_who_holds_up_the_thread_is_named_with_where_while_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(black_box, "HELD_UP_AFTER_S", 0.2)
    holds, said = Holds(), []

    def is_said() -> bool:
        said.append(capfd.readouterr().err)
        return "holds holds up the bus thread" in "".join(said)

    class LetsGo(Waits):
        def on_train_epoch_end(self) -> None:
            holds.let_go.set()

    run = trainer(tmp_path, actors=[holds], sinks=[nb.CSV()])
    run.fit(LetsGo(is_said), loader())

    faults = [event for event in events_of(run) if type(event) is nb.Fault]
    (fault,) = [fault for fault in faults if fault.error == "HeldUp"]
    assert (fault.source, fault.hook) == ("holds", "running")
    assert "self.let_go.wait()" in fault.traceback
    assert "in hold (" in fault.message
    assert (Path(str(run.log_dir)) / "metrics.csv").exists()  # it went on


def test_the_end_names_the_guilty_and_what_delivers_the_rest_to_the_others(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    holds = Holds()
    run = trainer(tmp_path, actors=[holds], sinks=[nb.CSV()], drain_timeout=0.5)

    run.fit(Small(), loader(), loader(8))

    path = Path(str(run.log_dir))
    is_there = (path / "control.sock").exists()
    holds.let_go.set()
    assert not is_there
    said = capfd.readouterr().err
    lines = [line for line in said.splitlines() if "stopped early" in line]
    assert lines[0].startswith("nightbus: holds stopped early: held up the bus thread")
    assert lines[1].startswith("nightbus: csv stopped early: holds held up the bus thread")
    assert "deliver the rest" in lines[1]
    assert events_of(run)[-1].how == "completed"
    nb.replay(path, sinks=[nb.CSV()], resume=True)
    assert len((path / "metrics.csv").read_text().splitlines()) > 1


def test_the_socket_is_gone_at_the_end_though_its_thread_is_held_up(tmp_path: Path) -> None:
    class WaitsForTheSocket(Waits):
        def __init__(self) -> None:
            super().__init__(lambda: (Path(str(self.trainer.log_dir)) / "control.sock").exists())

    class HoldsLater(nb.Actor):
        @nb.on(nb.LoopEnded)
        async def hold(self, ended: nb.LoopEnded) -> None:
            let_go.wait()

    let_go, holds = threading.Event(), HoldsLater()
    run = trainer(tmp_path, actors=[holds], drain_timeout=0.5)
    run.fit(WaitsForTheSocket(), loader())

    is_there = (Path(str(run.log_dir)) / "control.sock").exists()
    let_go.set()
    assert not is_there


class Again(nb.Command, frozen=True):
    """Do it again."""


class TellsItself(nb.Actor):
    """Handles commands for as long as there are any, and there always is another one."""

    @nb.on(nb.RunStarted)
    async def begin(self, started: nb.RunStarted) -> None:
        self.tell("tellsitself", Again())

    @nb.on(Again)
    async def again(self, command: Again) -> None:
        self.tell("tellsitself", Again())
        self.tell("tellsitself", Again())


def test_an_actor_that_tells_itself_without_end_takes_nothing_from_the_others(
    tmp_path: Path,
) -> None:
    csv = tmp_path / "out" / "metrics.csv"

    class Puts(Waits):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.put("x", 1.0)
            return super().training_step(batch, batch_idx)

    run = trainer(tmp_path, actors=[TellsItself()], sinks=[nb.CSV(csv.parent)])
    run.fit(Puts(lambda: csv.exists() and len(csv.read_text().splitlines()) > 0), loader())

    assert run.global_step == 6
    assert len(csv.read_text().splitlines()) > 6


class TellsItselfInTheStep(nb.Actor):
    @nb.on("on_train_start")
    def begin(self, hook: Any) -> None:
        self.tell("tellsitselfinthestep", Again())

    @nb.on(Again)
    def again(self, command: Again) -> None:
        self.tell("tellsitselfinthestep", Again())


def test_an_actor_in_the_step_that_tells_itself_without_end_does_not_keep_training_from_going_on(
    tmp_path: Path,
) -> None:
    run = trainer(tmp_path, actors=[TellsItselfInTheStep()])

    run.fit(Small(), loader())

    assert run.global_step == 6
