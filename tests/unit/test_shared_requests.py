"""What is asked on one rank and done on all: commands, replies, asks that come too late."""

from typing import cast

import pytest

import nightbus as nb
from nightbus.actors.ranks.link import Link
from nightbus.bus.bus import Bus
from nightbus.bus.control.server import SENDER
from nightbus.bus.log.place import Place
from nightbus.bus.mail.mailbox import Envelope
from nightbus.bus.mail.reply import Reply
from nightbus.bus.ranks.agreement import Member
from nightbus.bus.ranks.messages import MAX_PAYLOAD_BYTES, Ask
from nightbus.trainer.shared_requests import SharedRequests


class Note(nb.Command, frozen=True, name="tests.SharedNote"):
    text: str = ""


class Handles(nb.Actor):
    def __init__(self) -> None:
        self.handled: list[nb.Command] = []
        self.error: Exception | None = None

    @nb.on(nb.Stop)
    @nb.on(Note)
    def handle(self, command: nb.Command) -> int:
        self.handled.append(command)
        if self.error is not None:
            raise self.error
        return len(self.handled)


class Alone:
    """A link whose rank acts at once on what it asks."""

    def __init__(self) -> None:
        self.member, self.runs = Member(0), 1
        self.asked: dict[str, Ask] = {}

    def ask(self, kind: str, payload: bytes = b"{}") -> None:
        self.asked.setdefault(kind, self.member.ask(kind, payload, self.runs))

    def take(self) -> tuple[Ask, ...]:
        asked, self.asked = self.asked, {}
        return tuple(asked.values())


class Rank:
    """One with an actor at the address ``handles``."""

    def __init__(self) -> None:
        self.link, self.actor, self.bus = Alone(), Handles(), Bus(Place())
        self.agreed: list[str] = []
        self.bus.register(self.actor, "handles")
        self.shared = SharedRequests(cast(Link, self.link), self.bus.post_office, self.emit)

    def emit(self, kind: type[nb.Event], point: int, ask: str, rank: int, source: str) -> None:
        assert kind is nb.Agreed
        self.agreed.append(ask)

    def send(self, command: nb.Command, address: str = "handles") -> Reply:
        """Share a command of the run's socket."""
        reply = Reply()
        assert self.shared.share(address, Envelope(command, f"{SENDER}: test", reply))
        return reply

    def act(self) -> None:
        for due in self.shared.take():
            self.shared.handle(due)


@pytest.fixture
def rank() -> Rank:
    return Rank()


def test_the_same_command_sent_twice_is_handled_once_and_both_get_its_reply(rank: Rank) -> None:
    replies = [rank.send(nb.Stop()), rank.send(nb.Stop())]
    rank.act()

    assert rank.actor.handled == [nb.Stop()]
    assert [reply.wait(0) for reply in replies] == [1, 1]


def test_the_same_command_sent_twice_to_nobody_fails_for_both(rank: Rank) -> None:
    replies = [rank.send(nb.Stop(), "gone"), rank.send(nb.Stop(), "gone")]
    rank.act()

    for reply in replies:
        with pytest.raises(nb.ActorStoppedError, match="there is no gone on this rank"):
            reply.wait(0)


def test_the_error_of_a_command_that_was_sent_twice_is_told_to_both(rank: Rank) -> None:
    rank.actor.error = ValueError("no such checkpoint")
    replies = [rank.send(nb.Stop()), rank.send(nb.Stop())]
    with pytest.raises(ValueError, match="no such checkpoint"):
        rank.act()

    for reply in replies:
        with pytest.raises(nb.ActorRaisedError, match="no such checkpoint"):
            reply.wait(0)


def test_commands_of_the_users_own_are_handled_as_often_as_they_were_sent(rank: Rank) -> None:
    replies = [rank.send(Note(text="a")), rank.send(Note(text="a"))]
    rank.act()

    assert [reply.wait(0) for reply in replies] == [1, 2]


def test_what_actors_tell_each_other_stays_on_their_rank(rank: Rank) -> None:
    assert not rank.shared.share("handles", Envelope(Note(text="a"), "another", None))
    assert rank.link.asked == {}


def test_an_ask_that_comes_too_late_for_the_run_before_is_not_done_in_this_one(rank: Rank) -> None:
    rank.send(nb.Stop())
    rank.link.runs = 2
    rank.act()

    assert rank.actor.handled == []
    assert rank.agreed == []


def test_the_command_of_another_rank_is_handled_here_as_from_that_rank(rank: Rank) -> None:
    elsewhere = Rank()
    elsewhere.link.member = Member(3)
    elsewhere.send(Note(text="b"))
    rank.link.asked = elsewhere.link.asked
    rank.act()

    assert rank.actor.handled == [Note(text="b")]


def test_a_command_that_is_too_long_for_other_ranks_is_a_dead_letter(rank: Rank) -> None:
    reply = rank.send(Note(text="x" * MAX_PAYLOAD_BYTES))

    with pytest.raises(nb.ActorStoppedError, match=f"at most {MAX_PAYLOAD_BYTES} reach all ranks"):
        reply.wait(0)
    assert rank.link.asked == {}
    assert rank.bus.post_office.dead_letters == 1


def test_what_waits_as_the_run_ends_is_a_dead_letter(rank: Rank) -> None:
    reply = rank.send(nb.Stop())
    rank.shared.end()

    with pytest.raises(nb.ActorStoppedError, match="the run ended before all ranks"):
        reply.wait(0)
