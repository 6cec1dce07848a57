"""Memory that is gone for a moment, where somebody observes a run: it ends neither training nor
the record.
"""

from pathlib import Path
from typing import Any

import pytest
import trio
from models import Small, loader, trainer

import nightbus as nb
from nightbus.bus.log.codec import DecodedEvent
from nightbus.bus.runs.cursor import RunReader, attempt_logs

MORE_THAN_THERE_IS = 1 << 60  # bytes


class PutsItsSteps(Small):
    """Puts the number of each step."""

    def on_train_batch_end(self, *_: object) -> None:
        self.put("number", self.trainer.global_step)


class Greedy(nb.Sink):
    """Asks for more memory than there is, the first times that it is to write."""

    destination = "callbacks"

    def __init__(self, times: int) -> None:
        self.left = times
        self.numbers: list[float] = []

    def write(self, batch: list[nb.Put]) -> None:
        if self.left:
            self.left -= 1
            bytearray(MORE_THAN_THERE_IS)
        self.numbers += [put.value for put in batch if put.name == "number"]


class GreedyActor(nb.Actor):
    """Asks for more memory than there is when it hears of the second value."""

    heard = 0

    @nb.on(nb.Put, name="number")
    async def hear(self, put: nb.Put) -> None:
        self.heard += 1
        if self.heard == 2:
            bytearray(MORE_THAN_THERE_IS)


class EndsTheThread(nb.Actor):
    """Has the bus thread itself run out of memory: in a task that is nobody's."""

    @nb.on(nb.RunStarted)
    async def begin(self, started: nb.RunStarted) -> None:
        async def ask() -> None:
            bytearray(MORE_THAN_THERE_IS)

        trio.lowlevel.spawn_system_task(ask)


def fit(folder: Path, observer: nb.Actor) -> list[DecodedEvent]:
    """Train 12 steps with an observer; returns what was recorded."""
    arguments: dict[str, Any] = {"sinks" if isinstance(observer, nb.Sink) else "actors": [observer]}
    run = trainer(folder, max_epochs=2, drain_timeout=2.0, **arguments)
    run.fit(PutsItsSteps(), loader(), loader(8))
    assert run.global_step == 12
    return list(RunReader(attempt_logs(nb.RunFolder.open(str(run.log_dir)))).events())


def is_whole(events: list[DecodedEvent]) -> bool:
    """Whether a record has the run's end and the value of each step."""
    numbers = [event.value for event in events if type(event) is nb.Put and event.name == "number"]
    return (
        isinstance(events[-1], nb.RunEnded)
        and events[-1].how == "completed"
        and numbers == list(range(1, 13))
        and [event.seq for event in events] == list(range(len(events)))
    )


def test_a_sink_that_memory_lacks_for_a_while_gets_every_record_in_the_end(tmp_path: Path) -> None:
    sink = Greedy(times=2)

    events = fit(tmp_path, sink)

    assert is_whole(events)
    assert sink.numbers == list(range(1, 13))
    assert "MemoryError" in [event.error for event in events if isinstance(event, nb.Fault)]


def test_a_sink_that_memory_lacks_to_the_end_ends_neither_training_nor_the_record(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert is_whole(fit(tmp_path, Greedy(times=1_000_000)))
    assert "greedy stopped early: " in capfd.readouterr().err


def test_an_actor_on_the_bus_thread_that_memory_lacks_ends_neither_training_nor_the_record(
    tmp_path: Path,
) -> None:
    events = fit(tmp_path, GreedyActor())

    assert is_whole(events)
    assert [event.error for event in events if isinstance(event, nb.Fault)] == ["MemoryError"]


def test_a_bus_thread_that_memory_lacks_ends_neither_training_nor_the_record(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    events = fit(tmp_path, EndsTheThread())

    assert is_whole(events)
    said = capfd.readouterr().err
    assert "the bus thread failed; observers get the rest by replay" in said
    assert "MemoryError" in said
