"""Events that users define: recorded as what happens is, delivered, shown and replayed as that."""

import datetime
import enum
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
import torch
from helpers import DEADLINE_S, eventually, read_log
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Small, events, loader, trainer
from programs import run_program
from recorded_runs import RecordedRun

import nightbus as nb
from nightbus.bus.errors import LogFormatError, OutsideRunError, UsageError
from nightbus.bus.events import MAX_FIELD_DEPTH
from nightbus.bus.inspection.recover import recover
from nightbus.bus.log.codec import decode_events, encode_events
from nightbus.bus.log.flight_recorder import FlightRecorder
from nightbus.bus.log.place import Place
from nightbus.bus.runs import typed_events
from nightbus.bus.runs.typed_events import typed
from nightbus.bus.secrets.names import is_secret_name
from nightbus.bus.user_events import MAX_EVENT_BYTES, encode_user_event

pytestmark = pytest.mark.long


class SampleSeen(nb.UserEvent, name="tests.SampleSeen"):
    path: str
    score: float
    tags: tuple[str, ...] = ()


class Emits(Small):
    """Emits an event in each training step."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.emit(SampleSeen(f"{batch_idx}.png", loss, tags=("seen",)))
        return loss


class Watches(nb.Actor):
    """Keeps what it gets, and on which thread."""

    def __init__(self) -> None:
        self.at_once: list[Any] = []
        self.later: list[Any] = []
        self.threads: dict[str, int] = {}

    @nb.on(SampleSeen)
    def take_at_once(self, event: SampleSeen) -> None:
        self.at_once.append(event)
        self.threads["at once"] = threading.get_ident()

    @nb.on(SampleSeen)
    async def take_later(self, event: SampleSeen) -> None:
        self.later.append(event)
        self.threads["later"] = threading.get_ident()


class Carries(nb.Sink):
    events = (SampleSeen,)

    def __init__(self) -> None:
        self.carried: list[Any] = []

    def write(self, batch: list[Any]) -> None:
        self.carried += batch


class Trained:
    """A run of six steps in which each emits an event."""

    def __init__(self, folder: Path, **arguments: Any) -> None:
        self.watch, self.sink = Watches(), Carries()
        self.run = trainer(folder, actors=[self.watch], sinks=[self.sink], **arguments)
        self.run.fit(Emits(), loader())

    @property
    def folder(self) -> nb.RunFolder:
        assert self.run.run_folder is not None
        return self.run.run_folder

    @property
    def recorded(self) -> list[Any]:
        return events(self.run, nb.PlainUserEvent)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("trained"))


def nightbus(*arguments: str | Path) -> str:
    done = run_program("-m", "nightbus", *map(str, arguments), timeout=DEADLINE_S)
    return done.stdout


# -- recorded and delivered ----------------------------------------------------------------------


def test_an_event_is_recorded_with_its_time_and_place_and_hook(trained: Trained) -> None:
    found = trained.recorded

    assert [event.fields["path"] for event in found] == [f"{i}.png" for i in range(6)]
    assert [(event.step, event.batch_idx) for event in found] == [(i, i) for i in range(6)]
    assert {(event.name, event.stage, event.source, event.hook) for event in found} == {
        ("tests.SampleSeen", "train", "module", "training_step")
    }
    assert sorted(event.time_ns for event in found) == [event.time_ns for event in found]


def test_a_plain_method_gets_it_at_once_and_typed_on_the_training_thread(trained: Trained) -> None:
    first = trained.watch.at_once[0]

    assert type(first) is SampleSeen
    assert (first.path, first.tags, first.batch_idx) == ("0.png", ("seen",), 0)
    assert type(first.score) is float  # of the loss, which is a tensor
    assert trained.watch.threads["at once"] == threading.get_ident()


def test_a_coroutine_and_a_sink_get_the_same_out_of_the_log(trained: Trained) -> None:
    assert trained.watch.later == trained.watch.at_once
    assert trained.sink.carried == trained.watch.at_once
    assert trained.watch.threads["later"] != threading.get_ident()


@pytest.mark.parametrize("recording", ["metrics", "off"])
def test_observers_get_it_however_much_is_recorded(tmp_path: Path, recording: str) -> None:
    trained = Trained(tmp_path, recording=recording)

    assert len(trained.watch.at_once) == len(trained.watch.later) == len(trained.sink.carried) == 6


def test_a_recording_of_metrics_has_it(tmp_path: Path) -> None:
    assert len(Trained(tmp_path, recording="metrics").recorded) == 6


def test_replay_delivers_it_as_it_was_delivered_live(trained: Trained) -> None:
    watch, sink = Watches(), Carries()

    nb.replay(trained.folder, actors=[watch], sinks=[sink])

    assert watch.at_once == watch.later == trained.watch.later
    assert sink.carried == trained.watch.later


def test_replay_picks_events_by_their_class_or_name(trained: Trained) -> None:
    for wanted in (SampleSeen, "tests.SampleSeen", "UserEvent"):
        watch = Watches()
        replayed = nb.replay(trained.folder, actors=[watch], events=[wanted], steps="2..3")
        assert [event.step for event in watch.later] == [2, 3]
        assert replayed.events["watches"] == 4  # with RunStarted and RunEnded


def test_what_actors_emit_in_replay_is_in_its_result(trained: Trained) -> None:
    class Again(nb.Actor):
        @nb.on(SampleSeen, where=lambda event: event.step == 2)
        async def again(self, event: SampleSeen) -> None:
            self.emit(SampleSeen(f"again {event.path}", 0.0))

    replayed = nb.replay(trained.folder, actors=[Again()])

    ((source, event),) = replayed.emitted
    assert (source, event.path) == ("again", "again 2.png")  # type: ignore[attr-defined]


AGAIN = """
import numpy as np
import nightbus as nb

class Louder(nb.UserEvent, name="tests.Louder"):
    score: float
    raw: bytes = b"x"

class Ask(nb.Command, name="tests.Ask"):
    number: int

class Again(nb.Actor):
    @nb.on(nb.UserEvent, where=lambda event: event.step == 1)
    async def again(self, event):
        self.emit(Louder(score=np.float32(0.5)))
        self.tell("fit", Ask(number=3))
"""


def test_the_replay_verb_prints_what_actors_emit_by_its_name(
    trained: Trained, tmp_path: Path
) -> None:
    (tmp_path / "again.py").write_text(AGAIN)

    done = run_program(
        "-m",
        "nightbus",
        "replay",
        str(trained.folder.path),
        *("--actor", "again:Again"),
        cwd=tmp_path,
    )

    emitted, told = map(json.loads, done.stdout.splitlines())
    assert emitted == {
        "emit": "tests.Louder",
        "fields": {"score": 0.5, "raw": "eA=="},
        "source": "again",
    }
    assert (told["tell"], told["arguments"]) == ("tests.Ask", {"number": 3})


def test_whoever_wants_any_event_of_users_gets_all(trained: Trained) -> None:
    class Any(nb.Actor):
        def __init__(self) -> None:
            self.seen: list[nb.UserEvent] = []

        @nb.on(nb.UserEvent)
        async def see(self, event: nb.UserEvent) -> None:
            self.seen.append(event)

    actor = Any()
    nb.replay(trained.folder, actors=[actor])

    assert actor.seen == trained.watch.later


def test_callbacks_loops_actors_and_threads_emit_them_too(tmp_path: Path) -> None:
    class Tells(nb.Callback):
        def on_train_start(self, trainer: nb.Trainer, module: nb.LightningModule) -> None:
            self.emit(SampleSeen("callback", 0))
            thread = threading.Thread(target=self.emit, args=[SampleSeen("thread", 0)])
            thread.start()
            thread.join()
            trainer.fit_loop.emit(SampleSeen("loop", 0))

    class Answers(nb.Actor):
        @nb.on(SampleSeen, where=lambda event: event.path == "callback")
        async def answer(self, event: SampleSeen) -> None:
            self.emit(SampleSeen("bus thread", 0))

        @nb.on(SampleSeen, where=lambda event: event.path == "thread")
        def answer_in_step(self, event: SampleSeen) -> None:
            self.emit(SampleSeen("handler", 0))

    run = trainer(tmp_path, callbacks=[Tells()], actors=[Answers()])
    run.fit(Small(), loader())

    emitted = {(event.fields["path"], event.source) for event in events(run, nb.PlainUserEvent)}
    assert emitted == {
        ("callback", "tells"),
        ("thread", "tells"),
        ("loop", "fit"),
        ("bus thread", "answers"),
        ("handler", "answers"),
    }


def test_the_sanity_check_records_none_as_it_records_no_metrics(tmp_path: Path) -> None:
    class Validates(Small):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.emit(SampleSeen(f"{self.trainer.sanity_checking}", 0))

    run = trainer(tmp_path, num_sanity_val_steps=1)
    run.fit(Validates(), loader(), loader(8))

    assert {event.fields["path"] for event in events(run, nb.PlainUserEvent)} == {"False"}


# -- where its class is not defined --------------------------------------------------------------

ELSEWHERE = """
import sys, nightbus as nb

class Watches(nb.Actor):
    @nb.on(nb.UserEvent)
    async def show(self, event):
        print(type(event).__name__, event.name, event.fields["path"], event.step)

nb.replay(sys.argv[1], actors=[Watches()], events=["tests.SampleSeen"], steps="1")
print("test_user_events" in sys.modules)
"""


def test_another_process_gets_it_as_plain_data_and_imports_nothing(trained: Trained) -> None:
    done = run_program("-c", ELSEWHERE, str(trained.folder.path))

    assert done.stdout == "PlainUserEvent tests.SampleSeen 1.png 1\nFalse\n"


def test_tail_shows_it_by_its_name(trained: Trained) -> None:
    line = nightbus("tail", trained.folder.path, "-n", "1", "--kind", "tests.SampleSeen")

    assert "train epoch 0 step 5 batch 5" in line
    assert "tests.SampleSeen path 5.png, score 0." in line
    assert "tags ['seen'] (module)" in line


def test_tail_gives_programs_its_fields(trained: Trained) -> None:
    shown = nightbus("tail", trained.folder.path, "-n", "1", "--kind", "UserEvent", "--json")

    found = json.loads(shown)
    assert (found["event"], found["step"]) == ("tests.SampleSeen", 5)
    assert found["fields"]["path"] == "5.png"
    assert "data" not in found


def test_show_counts_it(trained: Trained) -> None:
    assert "tests.SampleSeen      6" in nightbus("show", trained.folder.path)

    report = json.loads(nightbus("show", trained.folder.path, "--json"))
    assert report["attempts"][0]["events"]["tests.SampleSeen"] == 6


def test_doctor_finds_nothing_wrong_with_it(trained: Trained) -> None:
    assert "0 problems" in nightbus("doctor", trained.folder.path)


def test_recover_keeps_it(trained: Trained, tmp_path: Path) -> None:
    recover(trained.folder, tmp_path / "out")

    after = read_log(nb.RunFolder.open(tmp_path / "out").store(0))
    assert [each for each in after if isinstance(each, nb.PlainUserEvent)] == trained.recorded


def test_diff_compares_it(trained: Trained, tmp_path: Path) -> None:
    same, other = tmp_path / "same", tmp_path / "other"
    Trained(same)

    class Differs(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            self.emit(SampleSeen(f"{batch_idx % 3}.png", loss, tags=("seen",)))
            return loss

    run = trainer(other, actors=[Watches()], sinks=[Carries()])
    run.fit(Differs(), loader())

    def compare(path: Path) -> tuple[int, str]:
        (found,) = (path / "runs").iterdir()
        done = run_program("-m", "nightbus", "diff", "--metrics", trained.folder.path, found)
        return done.returncode, done.stdout

    assert compare(same) == (0, "equal: 12 events compared\n")
    code, said = compare(other)
    assert code == 4
    assert "tests.SampleSeen = path 3.png, score" in said
    assert "tests.SampleSeen = path 0.png, score" in said


def test_a_file_of_last_events_has_it(tmp_path: Path) -> None:
    class Fails(Emits):
        def on_train_epoch_end(self) -> None:
            raise RuntimeError("enough")

    run = trainer(tmp_path, recording="metrics", actors=[Watches()])
    with pytest.raises(RuntimeError, match="enough"):
        run.fit(Fails(), loader())

    assert run.run_folder is not None
    (flight,) = run.run_folder.path.glob("crash-*-events.nlog")
    assert "tests.SampleSeen path 5.png" in nightbus("tail", flight, "--kind", "UserEvent")


def test_a_large_one_is_not_kept_among_the_last_events_in_memory() -> None:
    flight = FlightRecorder(Place())
    for size in (1, 10_000, 2):
        flight.emit(nb.PlainUserEvent, "", "tests.Sized", bytes(size))

    kept = [len(event.data) for event in flight.last() if isinstance(event, nb.PlainUserEvent)]

    assert kept == [1, 2]


# -- what changes between versions ---------------------------------------------------------------


class Grown(nb.UserEvent, name="tests.Grown"):
    old: int
    new: str = "as before"


def recorded_as(name: str, fields: object) -> nb.PlainUserEvent:
    data = msgspec.msgpack.encode(fields)
    return nb.PlainUserEvent(7, 1, 0, "train", 1, 2, 3, 0, "module", "training_step", name, data)


def test_a_field_that_is_new_has_its_default_in_old_logs() -> None:
    event = typed(recorded_as("tests.Grown", {"old": 3}))

    assert isinstance(event, Grown)
    assert (event.old, event.new, event.seq, event.step) == (3, "as before", 7, 2)


def test_a_field_that_is_gone_is_left_out() -> None:
    event = typed(recorded_as("tests.Grown", {"old": 3, "gone": [1]}))

    assert isinstance(event, Grown)
    assert not hasattr(event, "gone")


@pytest.mark.parametrize("fields", [{"old": "three"}, {"new": "x"}, {}, [1], "old", {1: 2}])
def test_fields_that_do_not_fit_are_given_as_plain_data_and_said_once(
    fields: object, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(typed_events, "_said_misfits", set())
    event = recorded_as("tests.Grown", fields)

    assert typed(event) is event
    assert typed(event) is event

    assert capsys.readouterr().err.count("do not fit the class of their name") == 1


def test_observers_of_the_class_are_left_alone_by_what_does_not_fit(tmp_path: Path) -> None:
    class Both(nb.Actor):
        def __init__(self) -> None:
            self.grown: list[Grown] = []
            self.all: list[nb.UserEvent] = []

        @nb.on(Grown)
        async def take(self, event: Grown) -> None:
            self.grown.append(event)

        @nb.on(nb.UserEvent)
        async def take_any(self, event: nb.UserEvent) -> None:
            self.all.append(event)

    run = RecordedRun(tmp_path)
    attempt = run.attempt()
    for fields in ({"old": 1}, {"old": "two"}, {"old": 3}):
        data = msgspec.msgpack.encode(fields)
        attempt.add(nb.PlainUserEvent, "", "tests.Grown", data)
    attempt.end()
    actor = Both()

    nb.replay(run.path, actors=[actor])

    assert [event.old for event in actor.grown] == [1, 3]
    assert isinstance(actor.all[1], nb.PlainUserEvent)
    assert actor.all[1].fields == {"old": "two"}


def test_fields_say_nothing_about_where_it_arose(tmp_path: Path) -> None:
    event = typed(recorded_as("tests.Grown", {"old": 1, "seq": 99, "step": 99, "source": "forged"}))

    assert isinstance(event, Grown)
    assert (event.seq, event.step, event.source) == (7, 2, "module")


# -- the class -----------------------------------------------------------------------------------


def test_the_same_class_may_be_defined_again_and_handlers_of_either_get_the_events(
    tmp_path: Path,
) -> None:
    def cell() -> type[nb.UserEvent]:
        class InNotebook(nb.UserEvent, name="tests.InNotebook"):
            value: int
            more: list[int] = msgspec.field(default_factory=list)

        return InNotebook

    before, after = cell(), cell()
    seen: list[Any] = []

    class Before(nb.Actor):
        @nb.on(before)
        def at_once(self, event: Any) -> None:
            seen.append(event.value)

        @nb.on(after)
        async def later(self, event: Any) -> None:
            seen.append(event.value)

    class Sinks(Carries):
        events = (before,)  # type: ignore[assignment]

    class Module(Small):
        def on_train_start(self) -> None:
            self.emit(before(value=1))  # type: ignore[call-arg]
            self.emit(after(value=2))  # type: ignore[call-arg]

    sink = Sinks()
    trainer(tmp_path, actors=[Before()], sinks=[sink]).fit(Module(), loader())

    assert sorted(seen) == [1, 1, 2, 2]
    assert [event.value for event in sink.carried] == [1, 2]


def test_another_class_of_the_same_name_is_refused() -> None:
    with pytest.raises(UsageError) as refused:

        class Other(nb.UserEvent, name="tests.SampleSeen"):
            path: str
            score: int

    said = str(refused.value)
    assert (
        "test_user_events.SampleSeen(path: str, score: float, tags: tuple[str, ...]) already"
        in said
    )
    assert "give it another name, or restart the process" in said


def test_an_event_and_a_command_have_names_of_their_own() -> None:
    with pytest.raises(UsageError, match=r"is the name of an event, .*, and this is a command"):

        class Sample(nb.Command, name="tests.SampleSeen"):
            path: str
            score: float
            tags: tuple[str, ...] = ()


@pytest.mark.parametrize(
    "name",
    [
        "SampleSeen",
        "",
        ".Seen",
        "team.",
        "team..Seen",
        "my team.Seen",
        "1.2",
        "té.Seen",
        3,
        "a." * 60,
    ],
)
def test_a_name_is_words_with_a_dot_between_them(name: Any) -> None:
    with pytest.raises(UsageError, match=r"expected words of letters.*'myteam\.Named'"):

        class Named(nb.UserEvent, name=name):
            pass


@pytest.mark.parametrize("name", ["nightbus.Seen", "NightBus.events.Seen"])
def test_names_of_nightbus_are_its_own(name: str) -> None:
    with pytest.raises(UsageError, match="begin it with the name of your team"):

        class Named(nb.UserEvent, name=name):
            pass


class Anything:
    pass


@dataclass
class Point:
    x: float
    y: float = 0.0
    near: "list[Point]" = field(default_factory=list)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        (torch.Tensor, "Tensor"),
        (Anything, "Anything"),
        (dict[str, list[Anything]], "Anything"),
        (tuple[int, Anything], "Anything"),
        (Path, "Path"),
        (int | Anything, "Anything"),
        (Callable[[], None], "Callable"),
        (msgspec.Raw, "Raw"),
    ],
)
def test_a_field_that_cannot_be_recorded_is_named_when_the_class_is_made(
    kind: Any, named: str
) -> None:
    with pytest.raises(UsageError, match=rf"Odd.* cannot be recorded: .*{named}"):

        class Odd(nb.UserEvent, name="tests.Odd"):
            field: kind


@pytest.mark.parametrize("name", ["step", "seq", "stage", "source", "hook"])
def test_fields_that_every_event_has_are_not_to_be_defined(name: str) -> None:
    with pytest.raises(UsageError, match=f"every event has {name}, which says where it arose"):
        exec(f"class Odd(nb.UserEvent, name='tests.Odd'):\n    {name}: int", {"nb": nb})


def test_a_type_that_is_not_known_is_named() -> None:
    with pytest.raises(UsageError, match="its fields' types are not known: name 'Nowhere'"):

        class Odd(nb.UserEvent, name="tests.Odd"):
            field: "Nowhere"  # type: ignore[name-defined]  # noqa: F821


def test_fields_are_recorded_by_their_names_alone() -> None:
    with pytest.raises(UsageError, match="array_like=True cannot be"):

        class Odd(nb.UserEvent, name="tests.Odd", array_like=True):
            value: int


def test_events_are_frozen() -> None:
    event = SampleSeen("x", 0.5)

    with pytest.raises(AttributeError, match="immutable"):
        event.path = "y"  # type: ignore[misc]


def test_an_event_that_is_derived_from_no_user_event_is_refused_by_on() -> None:
    class Foreign(nb.Event, frozen=True, array_like=True, tag=99):
        value: int

    with pytest.raises(UsageError, match="derive your own events from"):
        nb.on(Foreign)


# -- what is refused when it is emitted ----------------------------------------------------------


class Wide(nb.UserEvent, name="tests.Wide"):
    flag: bool = False
    number: int = 0
    real: float = 0.0
    text: str = ""
    raw: bytes = b""
    maybe: int | None = None
    many: list[int] = msgspec.field(default_factory=list)
    pairs: dict[str, float] = msgspec.field(default_factory=dict)
    by_number: dict[int, str] = msgspec.field(default_factory=dict)
    both: tuple[int, str] = (0, "")
    some: set[int] = msgspec.field(default_factory=set)
    when: datetime.datetime | None = None
    long: datetime.timedelta | None = None
    colour: Colour = Colour.RED
    choice: Literal["a", "b"] = "a"
    point: Point = msgspec.field(default_factory=lambda: Point(0.0))
    anything: Any = None


seen: Any = SampleSeen  # whose fields a type checker would not let pass
wide: Any = Wide


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (lambda: seen("x", "high"), "Expected `float`, got `str` - at `$.score`"),
        (lambda: seen(None, 1.0), "Expected `str`, got `None` - at `$.path`"),
        (lambda: seen("x", torch.zeros(2)), "field 'score': it holds a Tensor"),
        (lambda: wide(anything=Anything()), "field 'anything': it holds a Anything"),
        (lambda: wide(number=2**70), "field 'number'"),
        (lambda: wide(text="\ud800"), "field 'text'"),
        (lambda: wide(choice="c"), "Invalid enum value 'c' - at `$.choice`"),
        (lambda: wide(raw=bytes(MAX_EVENT_BYTES)), f"more than the {MAX_EVENT_BYTES} of an event"),
        (lambda: wide(anything=nested(MAX_FIELD_DEPTH + 1)), "nested more than 32 deep"),
        (lambda: wide(anything=nested(100_000)), "Wide cannot be recorded"),
        (lambda: nb.Put, "emit() takes an event of your own, not Put"),
        (lambda: {"path": "x"}, "emit() takes an event of your own, not dict"),
        (lambda: SampleSeen, "emit(SampleSeen): pass an instance of it"),
    ],
)
def test_what_cannot_be_recorded_is_refused_with_the_reason(
    event: Callable[[], Any], why: str
) -> None:
    with pytest.raises(UsageError) as refused:
        encode_user_event(event())

    assert why in str(refused.value)


def nested(depth: int) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth - 1):
        found = [found]
    return found


def test_what_is_refused_is_not_recorded_and_training_hears_of_it(tmp_path: Path) -> None:
    class Odd(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.emit(SampleSeen("x", "high"))  # type: ignore[arg-type]

    run = trainer(tmp_path)
    with pytest.raises(UsageError, match=r"SampleSeen cannot be recorded: .*\$\.score"):
        run.fit(Odd(), loader())

    assert events(run, nb.PlainUserEvent) == []


def test_an_event_without_a_name_says_how_to_give_it_one() -> None:
    class Nameless(SampleSeen):
        more: int = 0

    with pytest.raises(UsageError, match=r"name='myteam\.Nameless'"):
        encode_user_event(Nameless("x", 1.0))


def test_outside_a_run_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(OutsideRunError, match=r"Watches.emit\(\) was called outside a run"):
        Watches().emit(SampleSeen("x", 1.0))

    module = Small()
    trainer(tmp_path).fit(module, loader())
    with pytest.raises(OutsideRunError, match=r"emit\(SampleSeen\(...\)\) was called after the"):
        module.emit(SampleSeen("x", 1.0))


class Logs(nb.UserEvent, name="tests.Logs"):
    api_token: str
    url: str
    said: list[str]


def test_secrets_are_struck_out_before_it_is_written(tmp_path: Path) -> None:
    class Careless(Small):
        def on_train_start(self) -> None:
            self.emit(Logs("canary-0815", "https://me:canary-4711@host/x", ["key=canary-1234"]))

    run = trainer(tmp_path)
    run.fit(Careless(), loader())

    (event,) = events(run, nb.PlainUserEvent)
    assert "canary" not in str(event.fields)
    assert "host/x" in event.fields["url"]
    assert not any(b"canary" in each.read_bytes() for each in tmp_path.rglob("*.nlog*"))


# -- round trips ---------------------------------------------------------------------------------

# No names of secrets, whose values are struck out.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).filter(
    lambda text: not is_secret_name(text)
)
integers = st.integers(-(2**63), 2**63 - 1)
plain = st.recursive(
    st.none()
    | st.booleans()
    | integers
    | st.floats(allow_nan=False)
    | texts
    | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
points = st.builds(Point, st.floats(allow_nan=False), st.floats(allow_nan=False))
wide_events = st.builds(
    Wide,
    flag=st.booleans(),
    number=integers,
    real=st.floats(allow_nan=False),
    text=texts,
    raw=st.binary(max_size=20),
    maybe=st.none() | integers,
    many=st.lists(integers, max_size=3),
    pairs=st.dictionaries(texts, st.floats(allow_nan=False), max_size=3),
    by_number=st.dictionaries(integers, texts, max_size=3),
    both=st.tuples(integers, texts),
    some=st.sets(integers, max_size=3),
    when=st.none() | st.datetimes(timezones=st.just(datetime.UTC)),
    long=st.none() | st.timedeltas(datetime.timedelta(0), datetime.timedelta(9)),
    colour=st.sampled_from(Colour),
    choice=st.sampled_from(["a", "b"]),
    point=points | st.builds(Point, st.floats(0, 1), near=st.lists(points, max_size=2)),
    anything=plain,
)


@given(wide_events)
@settings(max_examples=200, deadline=None)
def test_an_event_comes_back_as_it_was_emitted(event: Wide) -> None:
    # What may look like a secret is struck out of texts, and is no matter of this.
    name, data = encode_user_event(event)
    record = nb.PlainUserEvent(1, 2, 0, "train", 3, 4, 5, 0, "module", "", name, data)

    (read,) = decode_events(encode_events([record]), 1, 0)
    back = typed(read)

    assert isinstance(back, Wide)
    expected = msgspec.structs.replace(
        event, seq=1, time_ns=2, stage="train", epoch=3, step=4, batch_idx=5, source="module"
    )
    assert back == expected


@given(st.binary(max_size=60) | plain.map(msgspec.msgpack.encode))
@settings(max_examples=300, deadline=None)
def test_whatever_its_fields_hold_it_is_typed_or_plain_and_never_an_error(data: bytes) -> None:
    for name in ("tests.Wide", "tests.Grown", "elsewhere.Seen"):
        event = nb.PlainUserEvent(1, 2, 0, "", 0, 0, -1, 0, "", "", name, data)
        assert typed(event) is event or isinstance(typed(event), Wide | Grown)
        try:
            assert isinstance(event.fields, dict)
        except LogFormatError as error:
            assert name in str(error)  # noqa: PT017


def test_a_run_that_goes_on_is_followed_with_its_events(tmp_path: Path) -> None:
    """What another thread emits is there for observers without a step's end."""
    seen = threading.Event()

    class Waits(nb.Actor):
        @nb.on(SampleSeen)
        async def saw(self, event: SampleSeen) -> None:
            seen.set()

    class Holds(Small):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 1:
                assert seen.wait(DEADLINE_S)

        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            if batch_idx == 0:
                self.emit(SampleSeen("x", 0.0))

    trainer(tmp_path, actors=[Waits()]).fit(Holds(), loader())

    assert eventually(seen.is_set)
