"""Replay in recorded time, at any rate, of any stretch."""

import random
import signal
from pathlib import Path
from typing import Any

import pytest
import trio
from recorded_runs import RecordedRun
from trio.testing import MockClock

import nightbus as nb
from nightbus.bus.replay.pace import Waiting


class Seen(nb.Actor):
    """Notes every event it gets, and the time on trio's clock."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.times: list[float] = []

    @nb.on()
    async def take(self, event: Any) -> None:
        self.events.append(event)
        self.times.append(trio.current_time())

    def steps(self, name: str = "loss") -> list[int]:
        """At which steps a metric came."""
        return [e.step for e in self.events if isinstance(e, nb.Put) and e.name == name]

    def metrics(self) -> set[str]:
        return {event.name for event in self.events if isinstance(event, nb.Put)}

    def hooks(self) -> set[str]:
        return {event.name for event in self.events if isinstance(event, nb.Hook)}


def replayed(run: Path, **arguments: Any) -> Seen:
    seen = Seen()
    nb.replay(run, actors=[seen], **arguments)
    return seen


# -- the clock -----------------------------------------------------------------------------------


class Notes(nb.Actor):
    """Notes what it does and when, in seconds of trio's clock."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, float]] = []

    def note(self, what: str) -> None:
        self.notes.append((what, round(trio.current_time(), 6)))


def test_an_actors_clock_shows_when_events_were_recorded(tmp_path: Path) -> None:
    class Watch(Notes):
        @nb.on(nb.Put, name="loss")
        async def take(self, put: nb.Put) -> None:
            self.note(str(put.step))

    watch = Watch()
    nb.replay(RecordedRun(tmp_path).steps(3), actors=[watch])

    assert watch.notes == [("1", 1.0), ("2", 2.0), ("3", 3.0)]


def test_an_actor_that_sleeps_gets_what_came_meanwhile_when_it_wakes(tmp_path: Path) -> None:
    class Sleeps(Notes):
        @nb.on(nb.Put, name="loss")
        async def take(self, put: nb.Put) -> None:
            self.note(str(put.step))
            if put.step == 1:
                await trio.sleep(1.5)

    sleeps = Sleeps()
    nb.replay(RecordedRun(tmp_path).steps(3), actors=[sleeps])

    assert sleeps.notes == [("1", 1.0), ("2", 2.5), ("3", 3.0)]


def test_a_deadline_is_over_in_recorded_time(tmp_path: Path) -> None:
    class Waits(Notes):
        @nb.on(nb.Put, name="loss")
        async def take(self, put: nb.Put) -> None:
            with trio.move_on_after(3600.0):
                await trio.sleep_forever()
            self.note("over")

    waits = Waits()
    nb.replay(RecordedRun(tmp_path).steps(1), actors=[waits])

    assert waits.notes == [("over", 3601.0)]


class Ticks(Notes):
    """Has a task of its own, which ticks each half second."""

    async def on_start(self) -> None:
        trio.lowlevel.spawn_system_task(self.tick)

    async def tick(self) -> None:
        while True:
            await trio.sleep(0.5)
            self.note("tick")

    @nb.on(nb.Put, name="loss")
    async def take(self, put: nb.Put) -> None:
        self.note("loss")


def test_an_actors_own_tasks_run_between_the_events_at_their_time(tmp_path: Path) -> None:
    ticks = Ticks()
    nb.replay(RecordedRun(tmp_path).steps(2), actors=[ticks])

    assert ticks.notes == [
        ("tick", 0.5),
        ("tick", 1.0),
        ("loss", 1.0),
        ("tick", 1.5),
        ("tick", 2.0),
        ("loss", 2.0),
    ]


def test_an_actors_own_tasks_live_on_to_the_end_of_the_recording(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path)
    attempt = run.attempt().steps(1)
    attempt.now_ns += 1_500_000_000
    attempt.end()
    ticks = Ticks()

    nb.replay(run.path, actors=[ticks])

    assert ticks.notes[-2:] == [("tick", 2.0), ("tick", 2.5)]


def test_a_task_that_a_handler_wakes_runs_before_time_goes_on(tmp_path: Path) -> None:
    class Wakes(Notes):
        async def on_start(self) -> None:
            self.came = trio.Event()
            trio.lowlevel.spawn_system_task(self.wait)

        async def wait(self) -> None:
            await self.came.wait()
            self.note("woken")

        @nb.on(nb.Put, name="loss")
        async def take(self, put: nb.Put) -> None:
            self.came.set()

    wakes = Wakes()
    nb.replay(RecordedRun(tmp_path).steps(3), actors=[wakes])

    assert wakes.notes == [("woken", 1.0)]


def test_time_between_attempts_does_not_count(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path)
    first = run.attempt().steps(2)
    fork = first.fork()
    first.steps(5).abandon()
    run.attempt(2, fork).steps(2).end()

    seen = replayed(run.path, events=["Put"], metrics=["loss"])

    times = [t for e, t in zip(seen.events, seen.times, strict=True) if isinstance(e, nb.Put)]
    assert times == pytest.approx([1.0, 2.0, 3.0, 4.0])


def test_actors_do_not_share_a_clock(tmp_path: Path) -> None:
    class Sleeps(nb.Actor):
        @nb.on(nb.Put)
        async def take(self, put: nb.Put) -> None:
            await trio.sleep(100)

    seen = Seen()
    nb.replay(RecordedRun(tmp_path).steps(3), actors=[Sleeps(), seen])

    assert max(seen.times) == pytest.approx(3.0)


def test_a_timer_measures_what_the_run_took(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path)
    attempt = run.attempt()
    attempt.hook("on_train_start")
    attempt.steps(1000)
    attempt.hook("on_train_end")
    attempt.end()
    timer = nb.Timer()

    nb.replay(run.path, actors=[timer])

    assert timer.time_elapsed("train") == pytest.approx(1000.0)


def test_a_timers_limit_ends_the_run_where_it_would_have(tmp_path: Path) -> None:
    run = RecordedRun(tmp_path)
    attempt = run.attempt()
    attempt.hook("on_train_start")
    for _ in range(100):
        attempt.step()
        attempt.hook("on_batch_end")
    attempt.end()

    (told,) = nb.replay(run.path, actors=[nb.Timer({"seconds": 60})]).commands

    assert isinstance(told.command, nb.Stop)
    assert "0:01:00" in told.command.reason
    at_stop = [e for e in replayed(run.path).events if e.seq == told.at.seq]
    assert [event.step for event in at_stop] == [60]


def test_on_the_machines_clock_recorded_time_is_not_seen(tmp_path: Path) -> None:
    class Measures(nb.Actor):
        def __init__(self) -> None:
            self.took_s: list[float] = []

        @nb.on(nb.RunStarted)
        async def begin(self, event: nb.RunStarted) -> None:
            self.began_s = nb.monotonic()

        @nb.on(nb.RunEnded)
        async def end(self, event: nb.RunEnded) -> None:
            self.took_s.append(nb.monotonic() - self.began_s)

    path, measures = RecordedRun(tmp_path).steps(1000), Measures()
    nb.replay(path, actors=[measures])
    nb.replay(path, actors=[measures], clock="wall")

    recorded_s, wall_s = measures.took_s
    assert recorded_s == pytest.approx(1000.0)
    assert wall_s < recorded_s


# -- determinism ---------------------------------------------------------------------------------


class Emits(Ticks):
    """Emits what depends on time, on several tasks, and on events; no two tasks wake at once."""

    @nb.on(nb.Put, name="loss")
    async def take(self, put: nb.Put) -> None:
        self.put("seen_at", trio.current_time())
        async with trio.open_nursery() as nursery:
            for delay in (0.3, 0.1, 0.2):
                nursery.start_soon(self.later, delay)
        with trio.move_on_after(put.value % 3):
            await trio.sleep(1.5)
            self.put("slept", put.value)
        if put.value == 7:
            await self.tell("fit", nb.Stop(reason=str(round(trio.current_time(), 3))))

    async def later(self, delay: float) -> None:
        await trio.sleep(delay)
        self.put("later", delay)

    async def tick(self) -> None:
        while True:
            await trio.sleep(0.2511)
            self.put("tick", trio.current_time())


def test_two_replays_emit_the_same_whatever_the_scheduler_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = RecordedRun(tmp_path).steps(40)

    def emitted(seed: int) -> Any:
        monkeypatch.setattr("trio._core._run._r", random.Random(seed))
        result = nb.replay(path, actors=[Emits(), Emits(), Seen()])
        return result.puts, result.commands

    first = emitted(1)

    assert len(first[0]) > 400
    assert [emitted(seed) for seed in (2, 3, 4)] == [first] * 3


# -- the rate ------------------------------------------------------------------------------------


def test_at_a_rate_no_event_comes_before_its_time(tmp_path: Path) -> None:
    seen = replayed(RecordedRun(tmp_path).steps(5), rate=100)

    puts = [(e.step, t) for e, t in zip(seen.events, seen.times, strict=True) if type(e) is nb.Put]
    assert len(puts) == 10
    assert [step for step, time in puts if time < step - 1e-6] == []


def test_a_rate_on_the_machines_clock_divides_the_time_between_events() -> None:
    async def reached() -> list[float]:
        pace = Waiting(4.0, 100.0, "wall")
        times = []
        for seconds in (90.0, 100.0, 108.0, 140.0):
            await pace.reach(seconds)
            times.append(trio.current_time())
        return times

    assert trio.run(reached, clock=MockClock(autojump_threshold=0)) == [0.0, 0.0, 2.0, 10.0]


def test_a_stretch_is_not_waited_for_from_the_runs_begin(tmp_path: Path) -> None:
    # At this rate the time before the stretch would take 17 minutes.
    path = RecordedRun(tmp_path).steps(1003)

    seen = replayed(path, rate="realtime", start="step=1003")

    assert seen.steps() == [1003]


@pytest.mark.parametrize("rate", ["x200", 200, "max", 1e6])
def test_a_rate_changes_nothing_about_what_comes(tmp_path: Path, rate: Any) -> None:
    path = RecordedRun(tmp_path).steps(12)

    assert replayed(path, rate=rate).events == replayed(path, clock="wall").events


@pytest.mark.parametrize("rate", [0, -1, "fast", "x", "x-2", float("nan"), float("inf"), True])
def test_a_rate_that_is_none_is_refused(tmp_path: Path, rate: Any) -> None:
    with pytest.raises(nb.UsageError, match=r"rate=.*expected max, realtime, or how many times"):
        nb.replay(RecordedRun(tmp_path).steps(1), rate=rate)


# -- a stretch -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "first", "last"),
    [
        ({"start": "step=7"}, 7, 35),
        ({"until": "step=7"}, 1, 6),
        ({"start": "step=7", "until": "step=9"}, 7, 8),
        # An epoch has ten steps, and the step that completes one is still its own.
        ({"start": "epoch=1"}, 11, 35),
        ({"start": "epoch=1", "until": "epoch=2"}, 11, 20),
        ({"start": "time=30s"}, 30, 35),
        ({"start": "time=0.5m", "until": "time=32"}, 30, 31),
        ({"start": "time=32000ms"}, 32, 35),
        ({"start": "step=34", "until": "time=1h"}, 34, 35),
        # RunStarted is event 0; a step is a hook and two metrics.
        ({"start": "seq=4", "until": "seq=10"}, 2, 3),
        ({"start": "seq=0:4", "until": "seq=1:0"}, 2, 35),
        ({"steps": "5..8"}, 5, 8),
        ({"steps": "..8"}, 1, 8),
        ({"steps": "30.."}, 30, 35),
        ({"steps": "12"}, 12, 12),
        ({"times": "5s..8s"}, 5, 8),
        ({"times": "..0m2s"}, 1, 2),
    ],
)
def test_a_stretch_begins_and_ends_where_it_should(
    tmp_path: Path, arguments: dict[str, str], first: int, last: int
) -> None:
    seen = replayed(RecordedRun(tmp_path).steps(35), **arguments)

    assert seen.steps() == list(range(first, last + 1))


def test_an_actor_that_begins_in_the_middle_knows_whose_run_it_is(tmp_path: Path) -> None:
    seen = replayed(RecordedRun(tmp_path).steps(9), start="step=7")

    assert [type(event) for event in seen.events][:2] == [nb.RunStarted, nb.Hook]


def test_the_result_counts_the_events_of_the_stretch(tmp_path: Path) -> None:
    path = RecordedRun(tmp_path).steps(200)

    result = nb.replay(path, actors=[Seen()], until="step=2")

    assert result.events == {"seen": 4}


@pytest.mark.parametrize(
    "given", ["7", "steps=7", "step=", "step=-1", "step=1.5", "time=1x", "time=", "seq=1:2:3", ""]
)
@pytest.mark.parametrize("argument", ["start", "until"])
def test_a_place_that_is_none_is_refused(tmp_path: Path, argument: str, given: str) -> None:
    with pytest.raises(nb.UsageError, match=f"{argument}='{given}': expected step=N, epoch=N"):
        nb.replay(RecordedRun(tmp_path).steps(1), **{argument: given})  # type: ignore[arg-type]


def test_a_stretch_that_ends_before_it_begins_is_refused(tmp_path: Path) -> None:
    with pytest.raises(nb.UsageError, match="until='step=3' comes before start='step=5'"):
        nb.replay(RecordedRun(tmp_path).steps(1), start="step=5", until="step=3")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": "5..x"}, "steps='5..x': expected 100..200"),
        ({"steps": ".."}, "steps='..': expected 100..200"),
        ({"steps": "9..5"}, "steps='9..5': the end comes before the begin"),
        ({"times": "soon"}, "times='soon': expected 60s..1m30s"),
        ({"events": ["Puts"]}, "events='Puts': there is no such type of event; expected some of"),
        ({"metrics": "loss"}, r"metrics='loss': expected a list of them, as in metrics=\['loss'\]"),
        ({"stages": ["training"]}, "stages='training': there is no such stage; expected train, "),
        ({"clock": "fast"}, "clock='fast': expected recorded or wall"),
        ({"follow": True, "rate": 2}, "follow=True goes at the pace of the run"),
        ({"follow": True, "clock": "recorded"}, "on the machine's clock; leave out clock"),
        ({"resume": True, "start": "step=5"}, "resume=True delivers everything that sinks lack"),
        ({"cursors": "here", "metrics": ["x"]}, "leave out the stretch and the filters"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(nb.UsageError, match=message):
        nb.replay(RecordedRun(tmp_path).steps(1), **arguments)


# -- filters -------------------------------------------------------------------------------------


def test_a_filter_by_type_lets_only_those_events_through_and_the_runs_begin_and_end(
    tmp_path: Path,
) -> None:
    path = RecordedRun(tmp_path).steps(3)

    kinds = {type(event) for event in replayed(path, events=["Put"]).events}

    assert kinds == {nb.RunStarted, nb.Put, nb.RunEnded}
    assert replayed(path, events=[nb.Put]).events == replayed(path, events=["Put"]).events


def test_a_filter_by_metric_takes_patterns_and_leaves_hooks_alone(tmp_path: Path) -> None:
    path = RecordedRun(tmp_path).steps(10)

    seen = replayed(path, metrics=["l?", "val_*"])

    assert seen.metrics() == {"lr", "val_loss"}
    assert seen.hooks() == {"on_train_batch_end", "on_validation_end"}


def test_a_filter_by_hook_takes_patterns_and_leaves_metrics_alone(tmp_path: Path) -> None:
    seen = replayed(RecordedRun(tmp_path).steps(10), hooks=["on_val*"])

    assert seen.hooks() == {"on_validation_end"}
    assert seen.metrics() == {"lr", "loss", "val_loss"}


def test_a_filter_by_stage_lets_only_that_stage_through(tmp_path: Path) -> None:
    seen = replayed(RecordedRun(tmp_path).steps(10), stages=["validate"])

    assert seen.metrics() == {"val_loss"}


def test_filters_and_a_stretch_go_together(tmp_path: Path) -> None:
    path = RecordedRun(tmp_path).steps(30)

    seen = replayed(path, start="epoch=1", steps="..15", metrics=["loss"], events=["Put"])

    assert seen.steps() == [11, 12, 13, 14, 15]


def test_a_callback_knows_metrics_from_before_its_stretch_and_beside_its_filter(
    tmp_path: Path,
) -> None:
    run = RecordedRun(tmp_path)
    attempt = run.attempt()
    for value in (1.0, 2.0, 3.0):
        attempt.put("acc", value, ("callbacks",))
        attempt.step()
    attempt.hook("on_train_end")
    attempt.end()

    class Reads(nb.Callback):
        def on_train_end(self, trainer: nb.Trainer, module: Any) -> None:
            self.values: Any = (dict(trainer.callback_metrics), trainer.global_step)

    reads = Reads()
    nb.replay(run.path, actors=[reads], start="step=3", metrics=["loss"])

    assert reads.values == ({"acc": 3.0}, 3)


def test_a_sink_gets_what_is_selected(tmp_path: Path) -> None:
    path = RecordedRun(tmp_path).steps(30)

    nb.replay(path, sinks=[nb.CSV(tmp_path)], metrics=["loss"], steps="11..12")

    assert (tmp_path / "metrics.csv").read_text().splitlines() == [
        "epoch,step,stage,loss",
        "1,11,train,11.0",
        "1,12,train,12.0",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"metrics": ["acc*"]},
            "'acc\\*' of the metrics of this stretch .* recorded are: loss, lr",
        ),
        ({"hooks": ["on_fit"]}, "'on_fit' of the hooks .* recorded are: on_train_batch_end"),
        ({"metrics": ["val_loss"], "until": "step=10"}, "recorded are: loss, lr$"),
        ({"start": "step=9999"}, "'step=9999' of this run .* places up to step=10, epoch=1"),
        ({"start": "epoch=2"}, "'epoch=2' of this run was not recorded; .* epoch=1, seq=0:"),
        ({"start": "time=1h"}, "'time=3600s' of this run was not recorded; .* time=10.0s"),
        ({"start": "seq=7:0"}, "'seq=7:0' of this run was not recorded; .* seq=0:"),
        ({"steps": "100..200"}, "'100..200' of the steps of this run was not recorded"),
        ({"times": "1h.."}, "'3600..' of the seconds of this run was not recorded"),
    ],
)
@pytest.mark.parametrize("into", ["actors", "sinks"])
def test_what_is_named_and_was_not_recorded_is_missed_before_a_file_is_made(
    tmp_path: Path, arguments: dict[str, Any], message: str, into: str
) -> None:
    run = RecordedRun(tmp_path).steps(10)
    files = tmp_path / "files"
    everyone: dict[str, Any] = {"actors": [Seen()]} if into == "actors" else {}

    with pytest.raises(nb.NotRecorded, match=message):
        nb.replay(run, sinks=[nb.CSV(files)], **everyone, **arguments)

    assert not files.exists()


def test_a_stretch_that_begins_at_a_runs_last_hook_is_there(tmp_path: Path) -> None:
    recorded = RecordedRun(tmp_path)
    attempt = recorded.attempt().steps(3)
    attempt.hook("on_train_batch_end")
    attempt.abandon()

    seen = replayed(recorded.path, start=f"seq={attempt.last_seq}")

    assert [event.seq for event in seen.events if isinstance(event, nb.Hook)] == [attempt.last_seq]


def test_a_metric_behind_an_attempt_of_nothing_but_hooks_is_not_missed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Watch(nb.Actor):
        @nb.on(nb.Put, name="lr")
        async def watch(self, put: nb.Put) -> None: ...

    recorded = RecordedRun(tmp_path)
    killed = recorded.attempt(is_silent=True)
    killed.hook("on_train_batch_end")
    killed.abandon()
    attempt = recorded.attempt().steps(1)
    attempt.end()

    nb.replay(recorded.path, actors=[Watch()])

    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"stages": ["test"]},
            "this stretch of the run has no stage test; its stages are: train, validate",
        ),
        ({"events": ["Media"]}, "this stretch of the run has no events of the type Media"),
    ],
)
def test_a_type_or_stage_that_there_is_none_of_is_said(
    tmp_path: Path, arguments: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = replayed(RecordedRun(tmp_path).steps(10), **arguments)

    assert {type(event) for event in seen.events} == {nb.RunStarted, nb.RunEnded}
    assert capsys.readouterr().err == f"nightbus: {message}\n"


def test_a_handler_of_a_metric_that_there_is_none_of_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Watch(nb.Actor):
        @nb.on(nb.Put, name="val_los")
        async def alarm(self, put: nb.Put) -> None: ...

        @nb.on(nb.Put, name="loss")
        async def loss(self, put: nb.Put) -> None: ...

    nb.replay(RecordedRun(tmp_path).steps(10), actors=[Watch()])

    assert capsys.readouterr().err == (
        "nightbus: Watch.alarm waits for the metric 'val_los', which this stretch of the run has "
        "not; its metrics are: loss, lr, val_loss\n"
    )


def test_a_replay_whose_actor_fails_makes_no_files(tmp_path: Path) -> None:
    class Fails(nb.Actor):
        @nb.on(nb.Put)
        async def fail(self, put: nb.Put) -> None:
            raise ValueError("a mistake")

    files = tmp_path / "files"

    with pytest.raises(nb.NightbusError, match="fails failed: ValueError: a mistake"):
        nb.replay(RecordedRun(tmp_path).steps(2), actors=[Fails()], sinks=[nb.CSV(files)])

    assert not files.exists()


# -- Ctrl-C --------------------------------------------------------------------------------------


class PressesCtrlC(nb.Actor):
    @nb.on(nb.Put, name="loss")
    async def press(self, put: nb.Put) -> None:
        signal.raise_signal(signal.SIGINT)


class PressesInATask(nb.Actor):
    @nb.on(nb.Put, name="loss")
    async def press(self, put: nb.Put) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.press_there)

    async def press_there(self) -> None:
        signal.raise_signal(signal.SIGINT)


class SinkThatPresses(nb.Sink):
    async def write(self, batch: list[Any]) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("presses", [PressesCtrlC, PressesInATask, SinkThatPresses])
@pytest.mark.parametrize("arguments", [{}, {"clock": "wall"}, {"rate": "x1000"}])
def test_ctrl_c_ends_a_replay_also_in_the_middle_of_an_actor(
    tmp_path: Path, presses: type[nb.Actor], arguments: dict[str, Any]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        nb.replay(RecordedRun(tmp_path).steps(5), actors=[presses()], **arguments)
