"""When steps are written: what a kill would take, and what a fast step does not pay for."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nightbus.bus.bus import Bus
from nightbus.bus.errors import MetricError
from nightbus.bus.events import ActorStopped, Put
from nightbus.bus.log.event_buffer import MAX_BUFFERED_EVENTS
from nightbus.bus.log.fast_flush import FastLogWriter
from nightbus.bus.log.flight_recorder import FlightRecorder
from nightbus.bus.log.hook_recorder import NEVER
from nightbus.bus.log.place import Place
from nightbus.bus.log.segments import FolderStore
from nightbus.bus.log.writer import LogIdentity

MS = 1_000_000


class Steps:
    """Steps of one hook each, on a clock of their own."""

    def __init__(self, folder: Path) -> None:
        self.now_ns = 0
        self.place = Place()
        store = FolderStore(folder)
        self.writer = FastLogWriter(
            store, LogIdentity("run"), self.place, clock_ns=lambda: self.now_ns
        )
        self.bus = Bus(self.place)
        self.bus.open_log(self.writer, store)
        self.bus.routes.refresh()

    def step(self, lasts_ms: float = 1.0, hooks: int = 1) -> None:
        """Do a step that ends with hooks."""
        self.now_ns += int(lasts_ms * MS)
        for _ in range(hooks):
            self.bus.routes.call("on_train_batch_end")
        self.bus.end_step()

    @property
    def unwritten(self) -> int:
        """How many events would go with the process."""
        return self.writer.statistics().buffered


@pytest.fixture
def steps(tmp_path: Path) -> Iterator[Steps]:
    steps = Steps(tmp_path / "log")
    yield steps
    steps.bus.close(0.0)


def test_hooks_of_fast_steps_wait_for_50_ms_of_them(steps: Steps) -> None:
    steps.step()
    steps.bus.flush()
    waiting = []
    for _ in range(150):
        steps.step()
        waiting.append(steps.unwritten)
    assert max(waiting) == 50
    assert waiting.count(0) == 2


def test_a_step_with_more_than_hooks_is_written_at_its_end(steps: Steps) -> None:
    steps.step()
    assert steps.unwritten == 1
    steps.bus.emit(Put, "x", 1.0, (), "")
    steps.step()
    assert steps.unwritten == 0


def test_what_another_thread_asked_for_does_not_wait(steps: Steps) -> None:
    steps.step()
    steps.writer.emit_from_any_thread(Put, "x", 1.0, (), "")
    steps.step()
    assert steps.unwritten == 0


def test_every_step_that_takes_50_ms_is_written_at_its_end(steps: Steps) -> None:
    for _ in range(5):
        steps.step(lasts_ms=50.5)
        assert steps.unwritten == 0


def test_a_long_step_that_was_written_in_its_middle_is_written_at_its_end_too(
    steps: Steps,
) -> None:
    steps.step(lasts_ms=51)
    steps.now_ns += 101 * MS
    steps.bus.routes.set_handlers({"training_step": [lambda: None]})
    steps.bus.routes.call("training_step")
    assert steps.unwritten == 0
    steps.step(lasts_ms=5)
    assert steps.unwritten == 0


def test_a_clock_that_stands_still_does_not_pile_them_up(steps: Steps) -> None:
    for _ in range(50):
        steps.step(lasts_ms=0, hooks=100)
        assert steps.unwritten <= MAX_BUFFERED_EVENTS


def test_what_another_thread_asks_for_during_a_write_is_written_at_the_next_steps_end(
    steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = steps.writer.flush

    def write_while_somebody_asks(wait: bool) -> None:
        write(wait)
        steps.writer.emit_from_any_thread(ActorStopped, "slow", 0, source="an actor")

    steps.step()
    with monkeypatch.context() as patched:
        patched.setattr(steps.writer, "flush", write_while_somebody_asks)
        steps.bus.flush()
    asked_for = steps.writer.statistics().asked_for
    steps.step(lasts_ms=0.1)

    assert asked_for == 1
    assert steps.writer.statistics().asked_for == 0
    assert steps.unwritten == 0


def test_what_nobody_writes_is_bounded_after_a_slow_step_too() -> None:
    now_ns = 0
    place = Place()
    bus = Bus(place)
    bus.keep_last_events(FlightRecorder(place, clock_ns=lambda: now_ns))
    bus.routes.set_handlers({"training_step": (lambda: None,)})
    now_ns = 1_000 * MS
    bus.routes.call("training_step")
    for _ in range(MAX_BUFFERED_EVENTS):
        bus.routes.call("on_batch_start")
        bus.routes.call("on_batch_end")
        bus.end_step()

    assert len(place.recorder.trace.words) <= MAX_BUFFERED_EVENTS
    assert place.recorder.flush_due_ns == NEVER


def test_what_is_asked_for_while_an_event_is_refused_is_written_at_the_next_steps_end(
    steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(wait: bool) -> None:
        steps.writer.emit_from_any_thread(ActorStopped, "slow", 0, source="an actor")
        steps.place.recorder.flush_due_ns = steps.now_ns + 50 * MS
        raise MetricError("too large")

    with monkeypatch.context() as patched:
        patched.setattr(steps.writer, "flush", refuse)
        with pytest.raises(MetricError):
            steps.bus.flush()
    steps.step(lasts_ms=0.1)

    assert steps.writer.statistics().asked_for == 0
    assert steps.unwritten == 0
