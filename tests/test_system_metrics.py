"""What the process and its machine use is recorded with a run, without asking for it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import trio
from models import Small, events, loader, trainer
from trio.testing import MockClock

import nightbus as nb
from nightbus.__main__ import main
from nightbus.bus import system_sampling
from nightbus.bus.statistics import (
    ActorStatistics,
    BusStatistics,
    MailboxStatistics,
    ObserverStatistics,
)


class StopsAfter(nb.Actor):
    """Stops training once it got some samples."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.samples: list[nb.SystemMetrics] = []
        self.stop: Callable[[], object] = str

    @nb.on(nb.SystemMetrics)
    def take(self, event: nb.SystemMetrics) -> None:
        self.samples.append(event)
        if len(self.samples) == self.number:
            self.stop()


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> tuple[nb.Trainer, StopsAfter, list[str]]:
    """A run of three samples, with the names that its sink got."""
    actor, got = StopsAfter(3), list[str]()

    def sink(event: Any) -> None:
        got.append(event.name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(system_sampling, "SAMPLE_EVERY_S", 0.01)
        folder = tmp_path_factory.mktemp("sampled")
        run = trainer(folder, max_epochs=-1, log_every_n_steps=1, actors=actor, sinks=sink)
        actor.stop = lambda: setattr(run, "should_stop", True)
        run.fit(Small(), loader())
    return run, actor, got


def test_samples_are_recorded_by_time_while_training_goes_on(
    sampled: tuple[nb.Trainer, StopsAfter, list[str]],
) -> None:
    run, actor, _ = sampled

    recorded = events(run, nb.SystemMetrics)

    assert recorded[: len(actor.samples)] == actor.samples
    assert {"process/cpu_percent", "process/memory_bytes"} <= recorded[1].values.keys()
    assert recorded[0].values["machine/memory_bytes"] > 0


def test_how_far_actors_are_behind_is_recorded_beside_them(
    sampled: tuple[nb.Trainer, StopsAfter, list[str]],
) -> None:
    run, _, _ = sampled

    first, *_ = events(run, nb.ActorBacklogs)

    assert "functionsink" in first.lag
    assert min(first.lag.values()) >= 0


async def test_it_is_recorded_when_it_has_changed(autojump_clock: MockClock) -> None:
    recorder = mock.Mock()
    recorder.writer.inbox = []
    counts = [(0, 0), (3, 0), (3, 0), (3, 1), (0, 1)]
    until_then = trio.CancelScope()

    def statistics() -> BusStatistics:
        lag, waiting = counts.pop(0)
        if not counts:
            until_then.cancel()
        observer = ObserverStatistics("Slow", "running", "running", 7, 0, 7, lag, 0, 0)
        slow = ActorStatistics(MailboxStatistics(8, "raise", 0, 0, 0, 0, 0, 0), observer)
        told = ActorStatistics(MailboxStatistics(8, "raise", waiting, 1, 2, 1, 0, 0))
        return BusStatistics({"slow": slow, "told": told}, None, 0, 0)

    with until_then:
        await system_sampling.SystemSampling(recorder, [], statistics, 1.0).run()

    recorded = [call.args for call in recorder.emit_in_time.call_args_list]
    assert recorded == [
        (nb.ActorBacklogs, {"slow": 0}, {"told": 0}),
        (nb.ActorBacklogs, {"slow": 3}, {"told": 0}),
        (nb.ActorBacklogs, {"slow": 3}, {"told": 1}),
        (nb.ActorBacklogs, {"slow": 0}, {"told": 1}),
    ]


def test_sinks_callbacks_and_tables_do_not_get_them_as_metrics(
    sampled: tuple[nb.Trainer, StopsAfter, list[str]],
) -> None:
    run, _, got = sampled
    assert run.run_folder is not None

    assert set(got) == {"train_loss"}
    assert run.callback_metrics.keys() == {"train_loss"}
    assert list(nb.open_run(str(run.run_folder.path)).metrics) == ["train_loss"]


def test_they_are_series_of_the_run(
    sampled: tuple[nb.Trainer, StopsAfter, list[str]],
) -> None:
    run, actor, _ = sampled
    assert run.run_folder is not None

    system = nb.open_run(str(run.run_folder.path)).system

    memory = system["process/memory_bytes"]
    taken = [sample.values["process/memory_bytes"] for sample in actor.samples]
    assert memory.values[: len(taken)].tolist() == taken
    assert (memory.times[1:] > memory.times[:-1]).all()


def test_verbs_show_and_draw_them(
    sampled: tuple[nb.Trainer, StopsAfter, list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, _, _ = sampled
    assert run.run_folder is not None
    path = str(run.run_folder.path)

    assert main(["show", path, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["system"]["process/memory_bytes"]["count"] >= 3
    assert main(["show", path]) == 0
    assert "process/memory_bytes" in capsys.readouterr().out
    drawn = str(tmp_path / "system.png")
    assert main(["plot", path, "--system", "--metric", "process/*", "-o", drawn, "--json"]) == 0
    assert "process/memory_bytes" in json.loads(capsys.readouterr().out)["metrics"]


def test_record_system_takes_the_seconds_between_two_samples(tmp_path: Path) -> None:
    actor = StopsAfter(2)
    run = trainer(tmp_path, max_epochs=-1, actors=actor, record_system=0.01)
    actor.stop = lambda: setattr(run, "should_stop", True)
    run.fit(Small(), loader())

    assert len(events(run, nb.SystemMetrics)) >= 2
    with pytest.raises(nb.UsageError, match="record_system=0: expected a positive number"):
        trainer(tmp_path, record_system=0)


def test_record_system_false_records_none(tmp_path: Path) -> None:
    run = trainer(tmp_path, record_system=False)
    run.fit(Small(), loader())

    assert run.bus.thread.beside == []


def test_a_run_that_records_nothing_reads_nothing(tmp_path: Path) -> None:
    run = trainer(tmp_path, recording="off")
    run.fit(Small(), loader())

    assert run.bus.thread.beside == []


def test_a_reading_that_fails_otherwise_is_a_fault_and_sinks_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(self: Any) -> None:
        raise ValueError("broken")

    monkeypatch.setattr("nightbus.bus.system_sampling.SystemSampling.run", fail)
    run = trainer(tmp_path, sinks=[nb.CSV()], log_every_n_steps=1)
    run.fit(Small(), loader())

    (fault,) = events(run, nb.Fault)
    assert (fault.source, fault.error, fault.message) == ("system metrics", "ValueError", "broken")
    assert run.run_folder is not None
    rows = (run.run_folder.path / "metrics.csv").read_text().splitlines()
    assert len(rows) == 1 + run.global_step
