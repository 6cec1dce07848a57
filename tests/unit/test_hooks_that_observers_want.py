"""The last events are kept, metrics recorded, and of the hooks those that an observer wants."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import no_space, read_log, seqs, tell

from nightbus.bus.bus import Bus
from nightbus.bus.events import Gap, Hook, Put
from nightbus.bus.log.event_buffer import MAX_BUFFERED_EVENTS
from nightbus.bus.log.flight_recorder import CAPACITY, FlightRecorder
from nightbus.bus.log.place import Place
from nightbus.bus.log.segments import FolderStore
from nightbus.bus.log.trace import HookAt
from nightbus.bus.log.writer import LogIdentity, LogWriter

MS = 1_000_000


class Metrics:
    """What ``recording="metrics"`` makes of a bus, on a clock of its own."""

    def __init__(self, folder: Path) -> None:
        self.now_ns = 0
        self.place = Place()
        self.bus = Bus(self.place)
        self.flight = FlightRecorder(self.place, clock_ns=lambda: self.now_ns)
        self.bus.keep_last_events(self.flight)
        self.store = FolderStore(folder)
        self.writer = LogWriter(
            self.store,
            LogIdentity("run"),
            self.place,
            clock_ns=lambda: self.now_ns,
            hooks=set(),
            flight=self.flight,
        )
        self.bus.open_log(self.writer, self.store)

    def want(self, *hooks: str) -> None:
        """Have an observer want hooks."""
        self.bus.want_hooks(set(hooks))

    def put(self, value: float) -> None:
        self.bus.emit(Put, "x", value, (), "")

    def hooks(self, *names: str) -> None:
        for name in names:
            self.bus.routes.call(name)

    def recorded(self) -> list[str]:
        """The log's events in a word each; it is closed then."""
        self.bus.close(0.0)
        events = read_log(self.store)
        assert seqs(events) == list(range(len(events)))
        return [tell(event) for event in events if isinstance(event, Hook | Put)]

    def kept(self) -> list[str]:
        """The last events in a word each."""
        last = self.flight.last()
        return [note.name if isinstance(note, HookAt) else tell(note) for note in last]


@pytest.fixture
def metrics(tmp_path: Path) -> Iterator[Metrics]:
    metrics = Metrics(tmp_path / "log")
    yield metrics
    if metrics.bus.writer is not None:
        metrics.bus.close(0.0)


def test_a_hook_stands_where_it_ran_among_the_puts_of_its_step(metrics: Metrics) -> None:
    metrics.want("on_train_batch_start", "on_train_batch_end")
    for step in range(3):
        metrics.hooks("on_train_batch_start", "on_a")
        metrics.put(step)
        metrics.hooks("on_train_batch_end")
        metrics.put(step + 0.5)
        metrics.bus.end_step()

    assert metrics.recorded() == [
        *("on_train_batch_start", "0", "on_train_batch_end", "0.5"),
        *("on_train_batch_start", "1", "on_train_batch_end", "1.5"),
        *("on_train_batch_start", "2", "on_train_batch_end", "2.5"),
    ]


def test_a_hook_in_which_something_is_put_comes_behind_it(metrics: Metrics) -> None:
    metrics.want("backward", "on_a")
    metrics.bus.routes.set_handlers(
        {"backward": [lambda: metrics.put(0.5)], "on_a": [lambda: metrics.put(1.5)]}
    )
    metrics.hooks("backward", "on_a")
    metrics.bus.end_step()

    assert metrics.recorded() == ["0.5", "backward", "1.5", "on_a"]


def test_a_hook_in_which_something_is_put_lasts_from_its_begin(metrics: Metrics) -> None:
    def handler() -> None:
        metrics.now_ns += 2 * MS
        metrics.put(0.5)
        metrics.now_ns += 3 * MS

    metrics.want("backward")
    metrics.bus.routes.set_handlers({"backward": [handler]})
    metrics.hooks("backward")
    metrics.bus.close(0.0)

    (hook,) = (event for event in read_log(metrics.store) if isinstance(event, Hook))
    assert hook.duration_ns == 5 * MS


def test_where_training_was_is_recorded_with_a_hook(metrics: Metrics) -> None:
    metrics.want("on_train_batch_end")
    metrics.place.move(stage="train", epoch=2)
    for step in range(3):
        metrics.place.begin_batch(step)
        metrics.hooks("on_a", "on_train_batch_end")
        metrics.place.complete_step(step + 1)
        metrics.bus.end_step()
    metrics.bus.close(0.0)

    hooks = [event for event in read_log(metrics.store) if isinstance(event, Hook)]
    places = [(hook.stage, hook.epoch, hook.step, hook.batch_idx) for hook in hooks]
    assert places == [("train", 2, step, step) for step in range(3)]


def test_all_are_among_the_last_events_once(metrics: Metrics) -> None:
    metrics.want("on_b")
    for step in range(2):
        metrics.hooks("on_a", "on_b")
        metrics.put(step)
        metrics.bus.end_step()

    assert metrics.kept() == ["on_a", "on_b", "0", "on_a", "on_b", "1"]


def test_hooks_that_ran_before_somebody_wanted_them_are_not_recorded(metrics: Metrics) -> None:
    metrics.hooks("on_a")
    metrics.put(0.5)
    metrics.want("on_a")
    metrics.hooks("on_a", "on_b")
    metrics.want("on_b")
    metrics.hooks("on_b")
    metrics.bus.end_step()

    assert metrics.recorded() == ["0.5", "on_a", "on_b"]


def test_hooks_of_a_long_step_are_written_at_its_end(metrics: Metrics) -> None:
    metrics.want("backward")

    def handler() -> None:
        metrics.now_ns += 101 * MS

    metrics.bus.routes.set_handlers({"backward": [handler]})
    metrics.hooks("backward")
    metrics.bus.end_step()

    assert metrics.writer.written_seq == 1


def test_a_long_step_is_written_before_it_ends_as_a_complete_log_is(metrics: Metrics) -> None:
    def handler() -> None:
        metrics.put(0.5)
        metrics.now_ns += 101 * MS

    metrics.bus.routes.set_handlers({"backward": [handler]})
    metrics.hooks("backward")

    assert metrics.writer.written_seq == 1


def test_hooks_of_fast_steps_wait_for_50_ms_of_them(metrics: Metrics) -> None:
    metrics.want("on_a")
    waiting = []
    for step in range(150):
        metrics.now_ns += MS
        metrics.hooks("on_a")
        metrics.bus.end_step()
        waiting.append(step + 1 - metrics.writer.written_seq)

    assert max(waiting) == 50
    assert waiting.count(0) == 3


def test_a_clock_that_stands_still_does_not_pile_up_what_is_to_be_written(
    metrics: Metrics,
) -> None:
    metrics.want("on_a")
    for _ in range(4 * MAX_BUFFERED_EVENTS):
        metrics.hooks("on_a")
        metrics.bus.end_step()
        assert metrics.writer.statistics().buffered <= MAX_BUFFERED_EVENTS


def test_a_run_that_puts_in_every_step_keeps_no_more_than_the_last_events(
    metrics: Metrics,
) -> None:
    for step in range(3 * MAX_BUFFERED_EVENTS):
        metrics.hooks("on_a")
        metrics.put(step)
        metrics.bus.end_step()
        assert len(metrics.flight.recorder.trace.words) <= MAX_BUFFERED_EVENTS + 10

    assert len(metrics.kept()) == CAPACITY


def test_a_run_without_a_log_keeps_no_more_than_the_last_events() -> None:
    place = Place()
    bus, flight = Bus(place), FlightRecorder(place)
    bus.keep_last_events(flight)
    for _ in range(3 * MAX_BUFFERED_EVENTS):
        bus.routes.call("on_a")
        bus.end_step()
        assert len(flight.recorder.trace.words) <= MAX_BUFFERED_EVENTS + 10


def test_hooks_of_steps_that_the_disk_refused_leave_the_numbers_in_order(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        # As it is refused, another hook is over.
        metrics.hooks("on_a")
        raise no_space()

    metrics.want("on_a")
    metrics.hooks("on_a")
    with monkeypatch.context() as patch:
        patch.setattr(type(metrics.writer._file), "append", refuse)
        metrics.bus.flush()
    metrics.put(0.5)
    metrics.bus.close(0.0)

    events = read_log(metrics.store)
    assert [tell(event) for event in events] == ["on_a", "Gap", "0.5"]
    assert [event.count for event in events if isinstance(event, Gap)] == [1]
    assert seqs(events) == [1, 2, 3]


def test_a_long_hook_once_the_log_is_closed_is_among_the_last_events_only(metrics: Metrics) -> None:
    def handler() -> None:
        metrics.now_ns += 101 * MS

    metrics.want("backward")
    metrics.bus.routes.set_handlers({"backward": [handler]})
    recorded = metrics.recorded()
    metrics.hooks("backward")

    assert metrics.kept() == ["backward"]
    assert recorded == []


def test_a_step_of_very_many_hooks_is_recorded_and_does_not_pile_them_up(metrics: Metrics) -> None:
    def handler() -> None:
        metrics.now_ns += MS

    metrics.want("backward")
    metrics.bus.routes.set_handlers({"backward": [handler]})
    for _ in range(2 * MAX_BUFFERED_EVENTS):
        metrics.hooks("backward")
        assert len(metrics.flight.recorder.trace.words) <= MAX_BUFFERED_EVENTS + 200

    assert metrics.recorded() == ["backward"] * 2 * MAX_BUFFERED_EVENTS
