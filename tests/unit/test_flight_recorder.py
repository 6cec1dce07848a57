"""The last events in memory, and the file they are written to."""

import sys
import threading
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from helpers import Arriving, tell
from hypothesis import given, settings
from hypothesis import strategies as st

import nightbus as nb
from nightbus.bus.errors import LogFormatError
from nightbus.bus.events import Gap, Hook, Media, RunStarted
from nightbus.bus.log.codes import BEGIN, END, RAN, Origin
from nightbus.bus.log.flight_recorder import FlightRecorder
from nightbus.bus.log.place import Place
from nightbus.bus.log.reader import LogReader
from nightbus.bus.log.trace import HookAt
from nightbus.bus.log.writer import LogIdentity
from nightbus.bus.routes import Routes
from nightbus.bus.runs.flight_file import open_run, write_flight_file


class Recorder:
    """A flight recorder with the routes that note hooks in it, and a clock to set."""

    def __init__(self, capacity: int = 100, place: Place | None = None) -> None:
        self.now_ns = 0
        self.place = place or Place()
        self.flight = FlightRecorder(self.place, capacity, lambda: self.now_ns)
        self.routes = Routes(self.place)
        self.moves = True  # the trace, when an action says so

    def note(self, action: int, name: str) -> None:
        """Record what a hook did."""
        self.now_ns += 10
        self.flight.recorder.trace.appender(action, name)(self.now_ns)

    def put(self, value: object, name: str = "loss") -> None:
        self.flight.put("module", name, value, ("loggers",))

    def put_many(self, number: int) -> None:
        """Put the numbers up to one."""
        for value in range(number):
            self.put(value)

    def told(self) -> list[str]:
        """The last events in a word each."""
        last = self.flight.last()
        return [note.name if isinstance(note, HookAt) else tell(note) for note in last]

    def written(self, path: Path) -> list[nb.Event]:
        write_flight_file(path, LogIdentity("test"), self.flight.last())
        reader = LogReader(open_run(path).store(0))
        return list(reader.events())  # type: ignore[arg-type]


class PlaceAskedWhileKeeping(Place):
    """Where training is, which has something happen when it is asked for by ``keep``."""

    __slots__ = ("meanwhile",)

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Callable[[], object] = lambda: None

    def origin(self) -> Origin:
        self.meanwhile()
        return super().origin()


def in_thread(do: Callable[[], object]) -> None:
    """Do something on another thread, and wait for it."""
    thread = threading.Thread(target=do)
    thread.start()
    thread.join()


def start(recorder: Recorder) -> None:
    recorder.flight.emit(RunStarted, "test", 0, "fit", 0, {}, {})


def test_hooks_and_events_come_out_in_the_order_in_which_they_arose(tmp_path: Path) -> None:
    recorder = Recorder()
    recorder.routes.call("on_a")
    recorder.put(0.5)
    recorder.routes.call("on_b")

    found = recorder.written(tmp_path / "x.nlog")

    assert [tell(event) for event in found] == ["on_a", "0.5", "on_b"]
    assert [event.seq for event in found] == [0, 1, 2]


def test_an_event_carries_where_training_was_when_it_arose(tmp_path: Path) -> None:
    recorder = Recorder()
    recorder.place.move(stage="train", epoch=2, step=70)
    recorder.place.begin_batch(3)
    recorder.routes.call("on_a")
    recorder.place.complete_step(71)
    recorder.routes.call("on_b")
    recorder.put(0.5)

    found = recorder.written(tmp_path / "x.nlog")

    places = [(e.stage, e.epoch, e.step, e.batch_idx) for e in found]
    assert places == [("train", 2, 70, 3), ("train", 2, 71, 3), ("train", 2, 71, 3)]


def test_a_hook_with_a_handler_has_the_time_it_was_done_and_how_long_it_took() -> None:
    recorder = Recorder()

    def handler() -> None:
        recorder.now_ns = 250

    recorder.routes.set_handlers({"on_a": [handler]})
    recorder.now_ns = 100
    recorder.routes.call("on_a")

    (hook,) = recorder.flight.last()
    assert isinstance(hook, HookAt)
    assert (hook.name, hook.time_ns, hook.duration_ns) == ("on_a", 250, 150)


def test_what_handlers_return_is_what_the_hook_returns() -> None:
    recorder = Recorder()
    recorder.routes.set_handlers({"backward": [lambda loss: loss + 1]})

    assert recorder.routes.call("backward", 1) == 2


def test_only_the_last_events_are_kept() -> None:
    recorder = Recorder(capacity=10)
    for value in range(1000):
        recorder.put(value)

    last = recorder.flight.last()

    assert [event.value for event in last if isinstance(event, nb.Put)] == list(range(990, 1000))


def test_what_is_forgotten_is_not_in_memory() -> None:
    recorder, kept = Recorder(capacity=10), list[weakref.ref[Arriving]]()
    for _ in range(100):
        value = Arriving(0.5)
        kept.append(weakref.ref(value))
        recorder.put(value)
    del value

    assert [value() is not None for value in kept] == [False] * 90 + [True] * 10


def test_events_of_other_threads_are_among_the_hooks_where_they_arose() -> None:
    recorder = Recorder(capacity=30)
    recorder.routes.call("on_a")
    in_thread(lambda: recorder.put_many(3))
    recorder.routes.call("on_b")
    recorder.put(3)

    assert recorder.told() == ["on_a", "0", "1", "2", "on_b", "3"]


# Of hooks, by what may be within them; one is not within itself.
NAMES = (("training_step", "on_c"), ("backward", "on_b"), ("optimizer_step", "on_a"))
Actions = list[tuple[Callable[[Recorder], object], bool]]  # and whether the trace is moved then


@st.composite
def drawn_actions(draw: st.DrawFn, depth: int = 2) -> Actions:
    """What happens in training: hooks, which others may be within, puts and changes of place."""
    actions: Actions = []
    for number in range(draw(st.integers(0, 8))):
        kind = draw(st.sampled_from(("put", "move", "hook", "within", "raises")))
        name = draw(st.sampled_from(NAMES[depth]))
        within: Actions = []
        if kind in ("within", "raises") and depth:
            within = draw(drawn_actions(depth - 1))
        actions.append((partial(act, kind, name, number, within), draw(st.booleans())))
    return actions


def act(kind: str, name: str, number: int, within: Actions, recorder: Recorder) -> None:
    recorder.now_ns += 10
    if kind == "put":
        recorder.put(number)
    elif kind == "move":
        recorder.place.begin_batch(number)
    elif kind == "hook":
        recorder.note(RAN, name)
    else:
        recorder.note(BEGIN, name)
        act_all(recorder, within)
        if kind == "within":
            recorder.note(END, name)


def act_all(recorder: Recorder, actions: Actions) -> None:
    for action, is_moved in actions:
        action(recorder)
        if is_moved and recorder.moves:
            recorder.flight.keep()


@settings(max_examples=200, deadline=None)
@given(actions=drawn_actions())
def test_the_last_events_are_the_same_however_often_the_trace_is_moved(actions: Actions) -> None:
    moved, whole = Recorder(capacity=6), Recorder(capacity=6)
    whole.moves = False
    for recorder in (moved, whole):
        act_all(recorder, actions)

    assert moved.flight.last() == whole.flight.last()
    assert sum(len(list(part.hooks())) for _, part in moved.flight._parts[1:]) < 6


def test_a_long_step_of_many_hooks_is_bounded_too() -> None:
    recorder = Recorder(capacity=10)

    def handler() -> None:
        recorder.now_ns += 4_000_000

    recorder.routes.set_handlers({"backward": [handler]})
    for _ in range(1000):
        recorder.routes.call("backward")

    assert len(recorder.flight.recorder.trace.words) < 100
    assert recorder.told() == ["backward"] * 10


@pytest.mark.parametrize("before", [0, 1])
def test_an_event_that_another_thread_adds_while_notes_are_taken_up_is_kept(before: int) -> None:
    place = PlaceAskedWhileKeeping()
    recorder = Recorder(place=place)
    for _ in range(before):  # the next are of the same shape then
        recorder.routes.call("on_a")
        recorder.flight.keep()
    place.meanwhile = lambda: in_thread(lambda: recorder.put(0.5))
    recorder.routes.call("on_a")
    recorder.flight.keep()
    place.meanwhile = lambda: None
    recorder.routes.call("on_b")

    assert recorder.told() == ["on_a"] * before + ["on_a", "0.5", "on_b"]


def test_who_asks_while_notes_are_taken_up_hears_of_each_event_once() -> None:
    recorder, holes = Recorder(capacity=50), list[list[str]]()
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            told = recorder.told()
            if told != [str(value) for value in range(int(told[0]), int(told[0]) + 50)]:
                holes.append(told)

    recorder.put_many(100)
    thread = threading.Thread(target=ask)
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        thread.start()
        for value in range(100, 4000):
            recorder.put(value)
            recorder.flight.keep()
    finally:
        sys.setswitchinterval(interval_s)
        is_over.set()
        thread.join()

    assert holes == []


@pytest.mark.parametrize("name", ["on_a", "backward"])
def test_a_hook_whose_handler_raised_is_not_over(name: str) -> None:
    recorder = Recorder()

    def fails() -> None:
        raise ValueError("boom")

    recorder.routes.set_handlers({name: [fails]})
    with pytest.raises(ValueError, match="boom"):
        recorder.routes.call(name)
    recorder.flight.keep()
    recorder.now_ns = 100
    recorder.routes.set_handlers({name: [lambda: None]})
    recorder.routes.call(name)

    (hook,) = recorder.flight.last()
    assert isinstance(hook, HookAt)
    assert (hook.name, hook.time_ns, hook.duration_ns) == (name, 100, 0)


def test_the_start_of_the_run_is_kept_however_long_ago_it_was() -> None:
    recorder = Recorder(capacity=10)
    start(recorder)
    for value in range(1000):
        recorder.put(value)

    last = recorder.flight.last()

    assert len(last) == 10
    assert isinstance(last[0], RunStarted)


def test_a_value_that_is_put_is_kept_like_any_event() -> None:
    place = Place()
    place.move(stage="train", epoch=1, step=2, batch_idx=3)
    place.hook = "training_step"
    put, emitted = Recorder(place=place), Recorder(place=place)
    put.flight.put("module", "loss", 0.25, ("loggers",))
    emitted.flight.emit(nb.Put, "loss", 0.25, ("loggers",), place.hook, source="module")

    assert put.flight.last() == emitted.flight.last() != []


def test_images_are_not_kept() -> None:
    recorder = Recorder()
    recorder.flight.emit(Media, "picture", "image", b"x" * 1_000_000, ("loggers",), "")

    assert recorder.flight.last() == []


def test_a_value_that_has_arrived_from_the_device_is_written(tmp_path: Path) -> None:
    recorder, value = Recorder(), Arriving(0.25)
    recorder.put(value)
    value.arrive()

    (put,) = recorder.written(tmp_path / "x.nlog")

    assert isinstance(put, nb.Put)
    assert put.value == 0.25


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (Arriving(0.25), "the value of 'loss' had not arrived"),
        (Arriving(0.25, RuntimeError("device lost")), "the value of 'loss' did not arrive: device"),
    ],
)
def test_a_value_still_on_the_device_is_not_waited_for_but_named(
    tmp_path: Path, value: Arriving, reason: str
) -> None:
    recorder = Recorder()
    recorder.put(value)
    if value.error is not None:
        value.arrive()

    (gap,) = recorder.written(tmp_path / "x.nlog")

    assert isinstance(gap, Gap)
    assert gap.reason.startswith(reason)


def test_a_file_cut_in_its_head_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "x.nlog"
    Recorder().written(path)
    path.write_bytes(path.read_bytes()[:20])

    with pytest.raises(LogFormatError, match=r"x\.nlog ends before its first event"):
        open_run(path)


def test_hooks_that_are_not_handled_are_kept_while_a_route_is_rebuilt(tmp_path: Path) -> None:
    recorder = Recorder()
    recorder.routes.call("on_a")
    recorder.routes.set_handlers({"on_a": [lambda: None]})
    recorder.routes.call("on_a")

    found = recorder.written(tmp_path / "x.nlog")

    assert [event.name for event in found if isinstance(event, Hook)] == ["on_a", "on_a"]
