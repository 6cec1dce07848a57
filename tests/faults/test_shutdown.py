"""A run always ends: whatever actors do as it does, and wherever Ctrl-C strikes."""

import contextlib
import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from helpers import DEADLINE_S
from models import Small, loader, trainer
from programs import run_program

import nightbus as nb
from nightbus.bus.log.reader import EndKind, LogReader

SCRIPT = Path(__file__).parent / "stopping_process.py"

# How an actor misbehaves, and what is said of it then; nothing where it got everything.
LATE = {
    "SleepsShielded": "was not done after 0.5 s",
    "SleepsShieldedAtTheEnd": "did not stop within 0.5 s",
    "NeverStarts": "was not done after 0.5 s",
    "NeverStops": "did not stop within 0.5 s",
    "RaisesAsItStops": "OSError: cannot close",
    "ExitsAsItStops": "SystemExit: 1",
    "HangsInItsThread": "was not done after 0.5 s",
    "HangsAsItCloses": "did not stop within 0.5 s",
    "RestartsForEver": "was not done after 0.5 s",
    "AnswersEachEvent": "",
    "HoldsTheThread": "held up the bus thread for 1 s, in take (",
    "HoldsTheThreadAsItStops": "held up the bus thread for 1 s, in on_stop (",
    "TellsItself": "",
    "IgnoresCancellation": "was not done after 0.5 s",
}

HOLD_THE_THREAD = ["HoldsTheThread", "HoldsTheThreadAsItStops"]


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """How runs with each of the bad actors ended."""
    folder = tmp_path_factory.mktemp("stopping")
    done = run_program(str(SCRIPT), str(folder), timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {each["bad"]: each for each in found}


@pytest.mark.parametrize("bad", LATE)
def test_a_run_ends_within_the_deadlines_whatever_an_actor_does(
    bad: str, ends: dict[str, Any]
) -> None:
    assert ends[bad]["in_time"]


@pytest.mark.parametrize("bad", LATE)
def test_the_last_event_is_that_the_run_ended(bad: str, ends: dict[str, Any]) -> None:
    assert (ends[bad]["last"], ends[bad]["sealed"]) == ("RunEnded", True)


@pytest.mark.parametrize("bad", [name for name in LATE if name not in HOLD_THE_THREAD])
def test_what_an_actor_does_at_the_end_takes_nothing_from_the_others(
    bad: str, ends: dict[str, Any]
) -> None:
    end = ends[bad]
    assert end["got"] == [[0, 1, 2, 3, 4]] * 2
    assert end["stopped"] == ["after", "before"]
    assert end["unfinished"] == (["bad"] if LATE[bad] else [])


@pytest.mark.parametrize("bad", [name for name, why in LATE.items() if why])
def test_who_did_not_get_everything_is_said_with_the_reason(bad: str, ends: dict[str, Any]) -> None:
    why = dict(zip(ends[bad]["unfinished"], ends[bad]["why"], strict=True))
    expected = LATE[bad]
    if bad in HOLD_THE_THREAD:
        expected, found = (
            re.sub(r"for \d+ s", "for some s", text) for text in (expected, why["bad"])
        )
        assert found.startswith(expected)
    else:
        assert why["bad"] == expected


@pytest.mark.parametrize("bad", HOLD_THE_THREAD)
def test_those_that_an_actor_held_up_are_not_blamed(bad: str, ends: dict[str, Any]) -> None:
    (first, *others), (_, *reasons) = ends[bad]["unfinished"], ends[bad]["why"]

    assert first == "bad"
    assert others
    assert all(why.startswith("bad held up the bus thread, in ") for why in reasons)


# -- the order -----------------------------------------------------------------------------------


class Tells(nb.Actor):
    """Notes what happens to it in a list of all."""

    def __init__(self, name: str, said: list[str]) -> None:
        self.name = name
        self.said = said

    @nb.on(nb.Put, name="train_loss")
    async def take(self, put: nb.Put) -> None:
        if put.step == 5:
            self.said.append(f"{self.name} got the last")

    @nb.on(nb.RunEnded)
    async def end(self, ended: nb.RunEnded) -> None:
        self.said.append(f"{self.name} saw the end")

    async def on_stop(self) -> None:
        self.said.append(f"{self.name} stops")


def test_all_is_drained_before_anyone_stops_and_the_last_that_started_stops_first(
    tmp_path: Path,
) -> None:
    said: list[str] = []
    actors = [Tells(name, said) for name in ("first", "second", "third")]

    trainer(tmp_path, actors=actors).fit(Small(), loader())

    assert sorted(said[:3]) == [f"{name} got the last" for name in ("first", "second", "third")]
    stops = [each for each in said if each.endswith("stops")]
    assert stops == ["third stops", "second stops", "first stops"]
    for name in ("first", "second", "third"):
        assert said.index(f"{name} saw the end") < said.index(f"{name} stops")


class WaitsForEver(nb.Actor):
    """Does not stop by itself, and tidies up when it is told to."""

    stop_timeout_s = 0.2
    has_tidied_up = False

    @nb.on(nb.Put)
    async def take(self, put: nb.Put) -> None:
        pass

    async def on_stop(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self.has_tidied_up = True


def test_an_actor_that_does_not_stop_in_time_is_cancelled(tmp_path: Path) -> None:
    late = WaitsForEver()

    trainer(tmp_path, actors=[late]).fit(Small(), loader(4))

    assert late.has_tidied_up


class Total(nb.Command, frozen=True, kw_only=True):
    """How many values were put?"""


class Counts(nb.Actor):
    total = 0

    @nb.on(nb.Put, name="train_loss")
    async def count(self, put: nb.Put) -> None:
        self.total += 1

    @nb.on(Total)
    async def answer(self, command: Total) -> int:
        return self.total


class AsksAtTheEnd(nb.Actor):
    answer: Any = None

    @nb.on(nb.Put)
    async def take(self, put: nb.Put) -> None: ...

    async def on_stop(self) -> None:
        self.answer = await self.ask("counts", Total())


def test_an_actor_that_stops_may_ask_one_that_started_before_it(tmp_path: Path) -> None:
    asks = AsksAtTheEnd()

    trainer(tmp_path, actors=[Counts(), asks]).fit(Small(), loader())

    assert asks.answer == 6


# -- Ctrl-C --------------------------------------------------------------------------------------


class Interrupts(nb.Actor):
    """Presses Ctrl-C so many times when the so-manieth event arises, in the middle of it."""

    def __init__(self, at: int, times: int) -> None:
        self.left = at
        self.times = times
        self.met = 0

    @nb.on(nb.Event, where=lambda event: type(event) is not nb.Hook)
    def event(self, event: nb.Event) -> None:
        self._count()

    @nb.on()
    def hook(self, hook: Any) -> None:
        self._count()

    def _count(self) -> None:
        self.met += 1
        self.left -= 1
        if self.left == 0:
            for _ in range(self.times):
                signal.raise_signal(signal.SIGINT)


@pytest.fixture(scope="module")
def libraries_are_loaded(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a first run loads: a library that Ctrl-C strikes as it is loaded stays half loaded."""
    trainer(tmp_path_factory.mktemp("first")).fit(Small(), loader(8), loader(8))


@pytest.fixture
def stray_signals_are_ignored(libraries_are_loaded: None) -> Iterator[None]:
    """A signal that comes when the run has just ended ends the test run otherwise."""
    before = signal.signal(signal.SIGINT, lambda *_: None)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted_run(folder: Path, *actors: nb.Actor, **arguments: Any) -> nb.Trainer:
    """A run that is interrupted, one way or the other."""
    run = trainer(folder, actors=list(actors), enable_checkpointing=False, **arguments)
    with contextlib.suppress(KeyboardInterrupt):
        run.fit(Small(), loader(8), loader(8))
    return run


def the_end(run: nb.Trainer) -> tuple[nb.RunEnded, EndKind]:
    """The last event of the run's log, and how the log ends."""
    assert run.run_folder is not None
    reader = LogReader(run.run_folder.store(0))
    *_, last = reader.events()
    assert isinstance(last, nb.RunEnded), last
    return last, reader.end().kind


@pytest.mark.usefixtures("stray_signals_are_ignored")
@pytest.mark.parametrize("times", [1, 2, 3])
def test_ctrl_c_at_any_event_leaves_a_log_that_says_so_at_its_end(
    times: int, tmp_path: Path
) -> None:
    counting = Interrupts(0, 0)
    interrupted_run(tmp_path / "undisturbed", counting)

    for at in range(times, counting.met + 1, 17):
        run = interrupted_run(tmp_path / f"{at}", Interrupts(at, times))
        ended, kind = the_end(run)
        assert kind is EndKind.SEALED
        assert ended.how in ("interrupted", "completed"), f"at event {at}"
        assert run.validate(Small(), loader(8), verbose=False) is not None  # it is free again


@pytest.mark.usefixtures("stray_signals_are_ignored")
@pytest.mark.parametrize("trial", range(5))
def test_ctrl_c_at_any_moment_leaves_a_log_that_ends_properly(trial: int, tmp_path: Path) -> None:
    begun = threading.Event()

    class Begins(nb.Actor):
        @nb.on("on_train_start")
        def begin(self, hook: Any) -> None:
            begun.set()

    def press() -> None:
        begun.wait(DEADLINE_S)
        for pause_ms in (trial, trial / 3, trial / 5):
            threading.Event().wait(pause_ms / 1000)
            os.kill(os.getpid(), signal.SIGINT)

    pressing = threading.Thread(target=press)
    pressing.start()
    run = interrupted_run(tmp_path, Begins())
    pressing.join()

    ended, kind = the_end(run)
    assert (ended.how, kind) in (("interrupted", EndKind.SEALED), ("completed", EndKind.SEALED))


@pytest.mark.usefixtures("stray_signals_are_ignored")
def test_ctrl_c_also_ends_a_teardown_that_hangs(tmp_path: Path) -> None:
    class HangsInTeardown(nb.Actor):
        @nb.on("on_train_start")
        def begin(self, hook: Any) -> None:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

        @nb.on("teardown")
        def hang(self, hook: Any) -> None:
            signal.raise_signal(signal.SIGINT)
            threading.Event().wait()

    run = interrupted_run(tmp_path, HangsInTeardown())

    assert the_end(run)[0].how == "interrupted"


class Hangs(nb.Actor):
    def __init__(self) -> None:
        self.is_hanging = threading.Event()

    @nb.on(nb.Put)
    async def hang(self, put: nb.Put) -> None:
        self.is_hanging.set()
        await trio.sleep_forever()


@pytest.mark.usefixtures("stray_signals_are_ignored")
def test_ctrl_c_ends_the_wait_for_an_actor_at_the_end(tmp_path: Path) -> None:
    class PressesAtTheEnd(nb.Actor):
        @nb.on(nb.LoopEnded, where=lambda ended: ended.source == "fit")
        async def press(self, ended: nb.LoopEnded) -> None:
            await trio.to_thread.run_sync(hangs.is_hanging.wait)
            os.kill(os.getpid(), signal.SIGINT)

    hangs = Hangs()
    run = interrupted_run(tmp_path, hangs, PressesAtTheEnd(), drain_timeout=3600)

    ended, _ = the_end(run)
    assert run.interrupted
    assert ended.how in ("completed", "interrupted")
