"""Supervision on a virtual clock: how often an actor is restarted, when, and what comes then."""

import sys
from itertools import pairwise
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from observer_host import Collects, Host, run_to_end
from trio.testing import MockClock

import nightbus as nb
from nightbus.bus.errors import ActorRaisedError, ActorStoppedError
from nightbus.bus.mail.mailbox import Envelope
from nightbus.bus.mail.reply import Reply
from nightbus.bus.observer import Observer, RestartBudget
from nightbus.bus.runs.cursor import Position


class Crashes(nb.Actor):
    """Fails at each event, for ever or at some of its attempts."""

    def __init__(self, supervision: nb.Supervision | None = None) -> None:
        self.supervision = supervision
        self.started_s: list[float] = []

    async def on_start(self) -> None:
        self.started_s.append(trio.current_time())

    @nb.on(nb.Put)
    async def crash(self, put: nb.Put) -> None:
        raise ValueError("crashed")


def waits_s(actor: Crashes) -> list[float]:
    """The time between one start and the next."""
    starts = actor.started_s
    return [later - earlier for earlier, later in pairwise(starts)]


@pytest.mark.parametrize("restarts", [0, 1, 2, 7])
async def test_a_crash_loop_is_restarted_as_often_as_allowed_and_then_ended(
    restarts: int, autojump_clock: MockClock
) -> None:
    host = Host()
    host.put(1)
    actor = Crashes(nb.Supervision(restarts, period_s=1e6, backoff_s=0.0))

    observer = await run_to_end(host, actor)

    assert len(actor.started_s) == 1 + restarts
    ends = ["Fault", "ActorStopped"]
    assert host.kinds() == ["ActorStarted", *["Fault", "ActorRestarted"] * restarts, *ends]
    statistics = observer.statistics(0, host.writer.written_seq)
    assert (statistics.restarts, statistics.faults) == (restarts, restarts + 1)
    assert (statistics.state, statistics.lag) == ("stopped", 1)


async def test_by_default_a_crash_loop_is_restarted_once(autojump_clock: MockClock) -> None:
    host, actor = Host(), Crashes()
    host.put(1)

    await run_to_end(host, actor)

    assert len(actor.started_s) == 2
    assert host.stopped == ""


async def test_an_actor_that_fails_again_after_the_period_is_restarted_again(
    autojump_clock: MockClock,
) -> None:
    host, actor = Host(), Collects(fails=lambda value: value > 0)
    actor.supervision = nb.Supervision(restarts=1, period_s=5.0, backoff_s=0.5)
    observer = Observer(actor, Position(0, 0), host)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(observer.run)
        for _ in range(4):
            host.put(1)
            await trio.sleep(0.25)
            actor.fails = lambda value: False  # the restarted actor takes it
            await trio.sleep(6.0)
            actor.fails = lambda value: value > 0
        assert host.kinds().count("ActorRestarted") == 4
        host.put(1)
        await trio.sleep(1.0)

    assert observer.gave_up == "ValueError: cannot take 1"
    assert host.kinds().count("ActorRestarted") == 5


async def test_each_wait_is_twice_the_one_before_up_to_the_longest(
    autojump_clock: MockClock,
) -> None:
    host = Host()
    host.put(1)
    actor = Crashes(nb.Supervision(6, period_s=1e6, backoff_s=1.0, max_backoff_s=10.0))

    await run_to_end(host, actor)

    assert waits_s(actor) == pytest.approx([1.0, 2.0, 4.0, 8.0, 10.0, 10.0])


@pytest.mark.long
async def test_a_very_long_crash_loop_comes_to_its_end(autojump_clock: MockClock) -> None:
    host = Host()
    host.put(1)
    actor = Crashes(nb.Supervision(1_030, period_s=1e6, backoff_s=1.0, max_backoff_s=2.0))

    await run_to_end(host, actor)

    assert len(actor.started_s) == 1_031


@given(
    st.integers(0, 5),
    st.floats(0.1, 100.0),
    st.lists(st.floats(0.0, 50.0), max_size=60),
)
def test_no_period_holds_more_restarts_than_allowed(
    restarts: int, period_s: float, pauses_s: list[float]
) -> None:
    budget = RestartBudget(nb.Supervision(restarts, period_s=period_s))
    now_s, at_s = 0.0, list[float]()

    for pause_s in pauses_s:
        now_s += pause_s
        if budget.next_delay_s(now_s) is not None:
            at_s.append(now_s)

    for first in at_s:
        assert sum(0 <= each - first <= period_s for each in at_s) <= restarts


async def test_a_restart_counts_when_it_happens_and_not_when_the_actor_is_cancelled_before(
    autojump_clock: MockClock,
) -> None:
    host, actor = Host(), Crashes(nb.Supervision(restarts=5, period_s=1e6, backoff_s=10.0))
    host.put(1)
    observer = Observer(actor, Position(0, 0), host)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(observer.run)
        await trio.sleep(15.0)  # the second wait, of 20 s, has begun
        observer.cancel()

    assert host.kinds().count("ActorRestarted") == 1
    statistics = observer.statistics(0, host.writer.written_seq)
    assert (statistics.restarts, statistics.faults) == (1, 2)


async def test_giving_up_may_end_the_run_and_the_log_says_so(autojump_clock: MockClock) -> None:
    host = Host()
    host.put(1)
    actor = Crashes(nb.Supervision(restarts=1, then="stop_run"))

    await run_to_end(host, actor)

    assert host.stopped == "crashes gave up after 1 restart: ValueError: crashed"
    assert host.events[-1] == ("ActorStopped", (host.stopped.partition(" ")[2], 0))


async def test_a_failure_at_the_start_counts_as_any_other(autojump_clock: MockClock) -> None:
    class Unready(nb.Actor):
        starts = 0

        async def on_start(self) -> None:
            self.starts += 1
            raise OSError("no network")

        @nb.on(nb.Put)
        async def observe(self, put: nb.Put) -> None: ...

    host, actor = Host(), Unready()

    observer = await run_to_end(host, actor)

    assert (actor.starts, observer.gave_up) == (2, "OSError: no network")
    assert [fields[3] for kind, fields in host.events if kind == "Fault"] == ["on_start"] * 2


async def test_an_actor_that_exits_ends_nobody_but_itself(autojump_clock: MockClock) -> None:
    class Exits(nb.Actor):
        @nb.on(nb.Put)
        async def leave(self, put: nb.Put) -> None:
            sys.exit(3)

    host, other = Host(), Collects()
    host.put(1)
    host.closing = True
    exits = Observer(Exits(), Position(0, 0), host)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(exits.run)
        nursery.start_soon(Observer(other, Position(0, 0), host).run)

    assert exits.gave_up == "SystemExit: 3"
    assert other.values == [1]


async def test_a_command_that_fails_is_answered_and_not_taken_twice(
    autojump_clock: MockClock,
) -> None:
    class Divide(nb.Command, frozen=True, kw_only=True):
        by: int

    class Divides(nb.Actor):
        taken = 0

        @nb.on(Divide)
        async def divide(self, command: Divide) -> float:
            self.taken += 1
            return 1 / command.by

    host, actor, reply = Host(), Divides(), Reply()
    observer = Observer(actor, Position(0, 0), host)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(observer.run)
        observer.mailbox.post(Envelope(Divide(by=0), "test", reply))
        with pytest.raises(ActorRaisedError, match="divides raised on Divide: ZeroDiv") as caught:
            await reply.wait_async(5.0)
        await trio.sleep(10.0)
        host.closing = True

    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert (actor.taken, observer.finished) == (1, True)


class Sleep(nb.Command, frozen=True, kw_only=True):
    """Be busy for a long time."""


class Sleeps(nb.Actor):
    @nb.on(Sleep)
    async def sleep(self, command: Sleep) -> None:
        await trio.sleep_forever()


async def test_whoever_asked_is_told_when_the_actor_is_cancelled(
    autojump_clock: MockClock,
) -> None:
    host, replies = Host(), [Reply(), Reply()]
    observer = Observer(Sleeps(), Position(0, 0), host)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(observer.run)
        for reply in replies:
            observer.mailbox.post(Envelope(Sleep(), "test", reply))
        await trio.sleep(1.0)
        observer.cancel()

    with pytest.raises(ActorStoppedError, match="sleeps stopped while it handled Sleep"):
        await replies[0].wait_async(1.0)
    with pytest.raises(ActorStoppedError, match="the actor stopped before it was taken"):
        await replies[1].wait_async(1.0)
    counts = observer.mailbox.statistics()
    assert (counts.sent, counts.delivered, counts.dead) == (2, 1, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"restarts": -1}, r"Supervision\(restarts=-1\): expected 0 or more"),
        ({"backoff_s": float("nan")}, r"Supervision\(backoff_s=nan\): expected seconds"),
        ({"period_s": -1.0}, r"Supervision\(period_s=-1.0\): expected seconds"),
        ({"then": "explode"}, "expected stop_actor or stop_run"),
    ],
)
def test_a_supervision_that_makes_no_sense_is_refused(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(nb.UsageError, match=message):
        nb.Supervision(**arguments)
