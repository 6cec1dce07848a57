"""Observers beside the step, on a virtual clock: deliver, restart, give up, end."""

from pathlib import Path
from typing import Any

import pytest
import trio
from observer_host import Collects, Host, run_to_end
from trio.testing import MockClock

import nightbus as nb
from nightbus.bus.actor import actor_name
from nightbus.bus.errors import (
    AskTimeoutError,
    UnhandledCommandError,
)
from nightbus.bus.mail.mailbox import Envelope, Mailbox
from nightbus.bus.mail.reply import Reply
from nightbus.bus.observer import Observer
from nightbus.bus.runs.cursor import Position


@pytest.fixture
def host() -> Host:
    return Host()


async def test_an_observer_gets_every_event_in_order(host: Host, autojump_clock: MockClock) -> None:
    actor = Collects()
    host.put(1, 2, 3)

    observer = await run_to_end(host, actor)

    assert actor.values == [1, 2, 3]
    assert observer.finished


async def test_an_observer_follows_a_log_that_grows(host: Host, autojump_clock: MockClock) -> None:
    actor = Collects()
    observer = Observer(actor, Position(0, 0), host)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(observer.run)
        for value in range(5):
            host.put(value)
            await trio.sleep(1)
            assert actor.values == list(range(value + 1))
        host.closing = True


async def test_an_observer_begins_where_it_is_told(host: Host, autojump_clock: MockClock) -> None:
    actor = Collects()
    host.put(0, 1, 2, 3)
    host.closing = True

    await Observer(actor, Position(0, 2), host).run()

    assert actor.values == [2, 3]


async def test_a_failed_observer_gets_the_event_again_after_its_back_off(
    host: Host, autojump_clock: MockClock
) -> None:
    failures = iter([True])
    actor = Collects(fails=lambda value: value == 2 and next(failures, False))
    actor.supervision = nb.Supervision(restarts=1, backoff_s=3.0)
    host.put(1, 2, 3)

    begin_s = trio.current_time()
    await run_to_end(host, actor)

    assert actor.values == [1, 2, 3]
    assert actor.starts == 2
    assert trio.current_time() - begin_s >= 3.0
    assert host.kinds() == ["ActorStarted", "Fault", "ActorRestarted"]


class Answers(nb.Actor):
    class Double(nb.Command, frozen=True, kw_only=True):
        number: int

    class Unheard(nb.Command, frozen=True, kw_only=True):
        """Nobody handles it."""

    @nb.on(Double)
    async def double(self, command: Double) -> int:
        return command.number * 2


async def test_a_command_to_an_observer_is_answered(host: Host, autojump_clock: MockClock) -> None:
    observer = Observer(Answers(), Position(0, 0), host)
    reply = Reply()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(observer.run)
        observer.mailbox.post(Envelope(Answers.Double(number=21), "test", reply))
        answer = await reply.wait_async(5.0)
        host.closing = True

    assert answer == 42
    assert "CommandTaken" in host.kinds()


async def test_a_command_nobody_handles_is_said_to_the_sender(
    host: Host, autojump_clock: MockClock
) -> None:
    observer = Observer(Answers(), Position(0, 0), host)
    reply = Reply()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(observer.run)
        observer.mailbox.post(Envelope(Answers.Unheard(), "test", reply))
        with pytest.raises(UnhandledCommandError, match="no handler for Unheard"):
            await reply.wait_async(5.0)
        host.closing = True


async def test_a_command_that_was_not_taken_is_buried(
    host: Host, autojump_clock: MockClock
) -> None:
    actor = Collects(fails=lambda value: True)
    actor.supervision = nb.Supervision(restarts=0)
    observer = Observer(actor, Position(0, 0), host)
    host.put(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(observer.run)
        await trio.testing.wait_all_tasks_blocked()
    refused = observer.mailbox.post(Envelope(Answers.Unheard(), "test", None))

    assert refused == "the actor has stopped"


async def test_ask_ends_at_its_deadline(autojump_clock: MockClock) -> None:
    with pytest.raises(AskTimeoutError, match=r"no reply within 2\.5 s"):
        await Reply().wait_async(2.5)


def test_a_full_mailbox_refuses() -> None:
    mailbox = Mailbox()
    envelope = Envelope(nb.Stop(), "test", None)

    answers = {mailbox.post(envelope) for _ in range(1001)}

    assert answers == {"", "the mailbox is full: 1000 commands are waiting"}
    assert mailbox.waiting == 1000


def test_subscriptions_match_names_types_and_predicates(tmp_path: Path) -> None:
    class Picky(nb.Actor):
        def __init__(self) -> None:
            self.seen: list[str] = []

        @nb.on("on_a")
        async def hook(self, hook: nb.Hook) -> None:
            self.seen.append("hook")

        @nb.on(nb.Put, name="x")
        async def named(self, put: nb.Put) -> None:
            self.seen.append("named")

        @nb.on(nb.Put, where=lambda put: put.value > 1)
        async def large(self, put: nb.Put) -> None:
            self.seen.append("large")

        @nb.on(where=lambda event: event.step == 7)
        async def anything(self, event: nb.Event) -> None:
            self.seen.append("anything")

    async def run() -> list[str]:
        host, actor = Host(), Picky()
        host.put(1, 2)
        host.place.move(step=7)
        host.put(0)
        await run_to_end(host, actor)
        return actor.seen

    assert trio.run(run) == ["named", "named", "large", "named", "anything"]


def test_an_override_without_on_is_no_longer_subscribed() -> None:
    class Base(nb.Actor):
        @nb.on(nb.Put)
        async def take(self, put: nb.Put) -> None: ...

    class Silent(Base):
        async def take(self, put: nb.Put) -> None: ...

    assert Base()._is_observer()
    assert not Silent()._is_observer()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nb.on("x", name="y"), "given once"),
        (lambda: nb.on(3), "expected a hook's name"),  # type: ignore[arg-type]
        (lambda: nb.on(nb.Fault, name="x"), "only hooks and puts have names"),
    ],
)
def test_a_subscription_that_makes_no_sense_is_refused(make: Any, message: str) -> None:
    with pytest.raises(nb.UsageError, match=message):
        make()


def test_an_actors_address_is_its_name_or_its_class() -> None:
    class Named(nb.Actor):
        name = "watch"

    assert actor_name(Named()) == "watch"
    assert actor_name(Collects()) == "collects"
