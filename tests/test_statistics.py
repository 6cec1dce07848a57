"""What a run says of itself: statistics while it goes on, totals in its log, both for people."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from helpers import DEADLINE_S, read_log
from models import Small, events, loader, trainer
from trio.testing import MockClock

import nightbus as nb
from nightbus.__main__ import main
from nightbus.actors.bus_monitor import as_table
from nightbus.bus.bus import Bus
from nightbus.bus.inspection.report import summarise
from nightbus.bus.log.place import Place
from nightbus.bus.log.writer import LogIdentity, LogWriter
from nightbus.bus.observer import Observer
from nightbus.bus.replay.replay import replay
from nightbus.bus.runs.run_folder import RunFolder
from nightbus.bus.statistics import BusStatistics


class Note(nb.Command, frozen=True, kw_only=True):
    """Take note."""


class Held(nb.Actor):
    """Stands still at its first value until it is let go."""

    def __init__(self) -> None:
        self.is_held = threading.Event()
        self.go_on = threading.Event()
        self.has_noted = threading.Event()

    @nb.on(nb.Put)
    async def take(self, put: nb.Put) -> None:
        self.is_held.set()
        await trio.to_thread.run_sync(self.go_on.wait)

    @nb.on(Note)
    async def note(self, command: Note) -> None:
        self.has_noted.set()


class Looks(nb.Actor):
    """Takes the statistics in the step, when ``held`` stands still."""

    def __init__(self, held: Held) -> None:
        self.held = held
        self.seen: BusStatistics | None = None

    @nb.on("on_train_batch_start")
    def look(self, hook: Any) -> None:
        if hook.batch_idx == 2:
            self.held.is_held.wait()
            self.tell("held", Note())
            self.tell("nobody", Note())
            self.seen = hook.trainer.statistics()
            self.held.go_on.set()

    @nb.on("on_train_end")
    def wait(self, hook: Any) -> None:
        self.held.has_noted.wait()  # what it takes later is recorded behind what it has read


@pytest.fixture
def looked(tmp_path: Path) -> tuple[nb.Trainer, BusStatistics]:
    """A run, and its statistics while an observer stood still."""
    held = Held()
    looks = Looks(held)
    run = trainer(tmp_path, actors=[held, looks])
    run.fit(Small(), loader())
    assert looks.seen is not None
    return run, looks.seen


def test_statistics_say_how_far_an_actor_is_behind(
    looked: tuple[nb.Trainer, BusStatistics],
) -> None:
    run, seen = looked
    observer = seen.actors["held"].observer
    assert observer is not None

    first_put = events(run, nb.Put)[0].seq
    assert (observer.kind, observer.state, observer.phase) == ("Held", "running", "running")
    assert observer.seq <= first_put
    assert seen.log is not None
    assert observer.lag == seen.log.events - seen.log.buffered - observer.seq


def test_statistics_count_commands_that_wait_and_that_reached_nobody(
    looked: tuple[nb.Trainer, BusStatistics],
) -> None:
    _, seen = looked

    mailbox = seen.actors["held"].mailbox
    assert (mailbox.sent, mailbox.waiting, mailbox.delivered) == (1, 1, 0)
    assert (seen.dead_letters, seen.unknown) == (1, 1)


def test_statistics_count_the_events_of_the_log(looked: tuple[nb.Trainer, BusStatistics]) -> None:
    run, seen = looked
    (first, *_) = [hook for hook in events(run, nb.Hook) if hook.step == 2]

    assert seen.log is not None
    assert seen.log.lost == 0
    assert seen.log.events >= first.seq


def test_statistics_of_a_run_that_is_over_are_those_of_its_end(
    looked: tuple[nb.Trainer, BusStatistics],
) -> None:
    run, _ = looked

    final = run.statistics()

    assert final.log is not None
    assert (final.log.events, final.log.buffered) == (len(events(run)), 0)
    held = final.actors["held"].observer
    assert held is not None
    assert (held.state, held.seq, held.lag) == ("finished", len(events(run)), 0)


def test_the_log_ends_with_what_each_actor_did(looked: tuple[nb.Trainer, BusStatistics]) -> None:
    run, _ = looked

    (totals,) = events(run, nb.ActorTotals)
    assert (totals.source, totals.kind, totals.state) == ("held", "Held", "drained")
    assert (totals.sent, totals.delivered, totals.dropped, totals.dead) == (1, 1, 0, 0)
    assert (totals.lag, totals.restarts, totals.faults) == (0, 0, 0)


class NeverDone(nb.Actor):
    """Takes one command of its own when it has seen all, and no other."""

    stop_timeout_s = 0.1

    def __init__(self, has_begun: Callable[[], None]) -> None:
        super().__init__()
        self.has_begun = has_begun

    @nb.on(nb.ActorStarted)
    async def tell_twice(self, started: nb.ActorStarted) -> None:
        self.tell("neverdone", Note())
        self.tell("neverdone", Note())

    @nb.on(Note)
    async def note(self, command: Note) -> None:
        self.has_begun()
        await trio.sleep_forever()


def test_totals_add_up_though_a_command_came_when_all_was_drained(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, "run")
    place, store = Place(), run.store(0)
    bus = Bus(place, (), run)
    actor = NeverDone(has_begun=bus.hurry)  # what is left would be waited for in vain
    bus.open_log(LogWriter(store, LogIdentity(run.info.id), place), store)
    bus.register(actor)
    bus.observe(actor)

    bus.close(30.0, ("completed", ""))

    (totals,) = [event for event in read_log(store) if isinstance(event, nb.ActorTotals)]
    assert (totals.sent, totals.delivered, totals.dropped, totals.dead) == (1, 1, 0, 0)


def test_commands_dropped_before_there_is_a_log_do_not_keep_later_ones_out_of_it(
    tmp_path: Path,
) -> None:
    class Picky(nb.Actor):
        mailbox_limit = nb.MailboxLimit(capacity=1, overflow="drop_newest")

        @nb.on(Note)
        def note(self, command: Note) -> None:
            """Takes note."""

    run = RunFolder.create(tmp_path, "run")
    place, store = Place(), run.store(0)
    bus = Bus(place, (), run)
    bus.register(Picky(), "picky")
    for _ in range(3):  # the first has room
        bus.post("picky", Note(), "test", None)
    bus.open_log(LogWriter(store, LogIdentity(run.info.id), place), store)

    bus.post("picky", Note(), "test", None)
    bus.close(30.0, ("completed", ""))

    told = [event.count for event in read_log(store) if isinstance(event, nb.CommandsDropped)]
    assert told == [1]


def test_an_actor_is_recorded_as_started_though_the_run_ends_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Observer.run

    async def begin_late(observer: Observer) -> None:
        await trio.sleep(0.1)  # a run that does not wait for it has ended by then
        await begin(observer)

    monkeypatch.setattr(Observer, "run", begin_late)
    run = RunFolder.create(tmp_path, "run")
    place, store = Place(), run.store(0)
    bus = Bus(place, (), run)
    actor = Held()
    bus.open_log(LogWriter(store, LogIdentity(run.info.id), place), store)
    bus.register(actor)
    bus.observe(actor)

    bus.close(30.0, ("completed", ""))

    recorded = [type(event) for event in read_log(store)]
    assert recorded == [nb.ActorStarted, nb.ActorTotals, nb.RunEnded]


def test_show_lists_what_each_actor_did(
    looked: tuple[nb.Trainer, BusStatistics], capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = looked

    main(["show", str(run.log_dir)])

    lines = capsys.readouterr().out.splitlines()
    (header,) = [line.split() for line in lines if line.startswith("actor ")]
    (row,) = [line.split() for line in lines if line.startswith("held ")]
    assert header == [
        "actor",
        "state",
        "events",
        "lag",
        "restarts",
        "faults",
        "commands",
        "dropped",
        "dead",
    ]
    assert row[:2] + row[3:] == ["held", "drained", "0", "0", "0", "1", "0", "0"]


class Dies(nb.CSV):
    name = "dies"
    supervision = nb.Supervision(restarts=0)

    def write(self, batch: list[Any]) -> None:
        raise OSError("no network")


def test_show_says_which_sink_lacks_how_much_and_how_it_gets_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trainer(tmp_path, sinks=[Dies()], log_every_n_steps=1)
    run.fit(Small(), loader())
    assert run.run_folder is not None

    main(["show", str(run.log_dir)])

    (cursor,) = summarise(run.run_folder).cursors
    assert (cursor.name, cursor.kind) == ("dies", "Dies")
    assert cursor.lag == len(events(run)) - cursor.seq
    out = capsys.readouterr().out
    assert f"dies has {cursor.lag} events to get" in out
    assert f"nightbus.replay({run.log_dir!r}, sinks=[Dies()], resume=True)" in out


def test_the_json_report_holds_actors_and_cursors(
    looked: tuple[nb.Trainer, BusStatistics], capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = looked

    main(["show", str(run.log_dir), "--json"])

    report = msgspec.json.decode(capsys.readouterr().out)
    (held,) = report["actors"]
    assert (held["name"], held["sent"], held["attempt"]) == ("held", 1, 0)
    assert report["cursors"] == []


# -- BusMonitor ----------------------------------------------------------------------------------


def test_the_monitor_prints_a_line_for_each_actor_that_has_something_to_tell(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    quiet: dict[str, Any] = {"limit_val_batches": 0, "log_every_n_steps": 1}
    run = trainer(tmp_path, actors=[nb.BusMonitor(3600)], sinks=[nb.CSV()], **quiet)
    run.fit(Small(), loader())

    lines = capfd.readouterr().err.splitlines()
    assert "dead letters" in lines[0]
    assert [line.split()[0] for line in lines[1:]] == ["actor", "busmonitor", "csv"]


def test_the_monitor_puts_metrics_that_sinks_record(tmp_path: Path) -> None:
    class Waits(nb.Actor):
        @nb.on("on_train_end")
        def wait(self, hook: Any) -> None:
            hook.trainer.bus.flush()
            put.wait(DEADLINE_S)

    put = threading.Event()
    monitor = nb.BusMonitor(every_s=0.001, show=False, log=True)
    put_dict = monitor.put_dict

    def announced(*arguments: Any, **options: Any) -> None:
        put_dict(*arguments, **options)
        put.set()

    monitor.put_dict = announced  # type: ignore[method-assign]
    run = trainer(tmp_path, actors=[monitor, Waits()], sinks=[nb.JSONLines()])
    run.fit(Small(), loader(8))

    names = {event.name for event in events(run, nb.Put) if event.source == "busmonitor"}
    assert {"bus/events", "bus/lost_events", "bus/dead_letters", "bus/lag/jsonlines"} <= names
    assert "bus/lag/jsonlines" in (Path(str(run.log_dir)) / "metrics.jsonl").read_text()


async def test_the_monitor_looks_every_so_many_seconds(autojump_clock: MockClock) -> None:
    class Context:
        def __init__(self) -> None:
            self.looks: list[float] = []

        def statistics(self) -> BusStatistics:
            self.looks.append(trio.current_time())
            return BusStatistics({}, None, 0, 0)

    monitor, context = nb.BusMonitor(every_s=10.0), Context()
    object.__setattr__(monitor, "_nightbus_context", context)
    begin_s = trio.current_time()

    await monitor.on_start()
    for _ in range(121):
        await trio.sleep(0.25)
        await monitor._on_poll()

    assert [look - begin_s for look in context.looks] == [10.0, 20.0, 30.0]


def test_the_monitor_works_in_a_replay(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = trainer(tmp_path)
    run.fit(Small(), loader())
    assert run.log_dir is not None

    replay(run.log_dir, actors=[nb.BusMonitor()], sinks=[nb.CSV(tmp_path / "again")])

    assert "csv" in capfd.readouterr().err


def test_a_run_without_actors_is_one_line() -> None:
    assert as_table(BusStatistics({}, None, 3, 1)) == "nightbus: 3 dead letters"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every_s": 0}, r"BusMonitor\(every_s=0\): expected seconds, more than 0"),
        ({"every_s": float("inf")}, "expected seconds"),
        ({"show": False}, "would do nothing"),
    ],
)
def test_a_monitor_that_makes_no_sense_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(nb.UsageError, match=message):
        nb.BusMonitor(**arguments)
