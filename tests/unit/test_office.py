"""The office of rank 0: it leads the agreement of ranks at its desk, and says who is lost."""

import os
import selectors
import socket
from collections.abc import Iterator

import pytest

from nightbus.bus.ranks.agreement import Member
from nightbus.bus.ranks.connection import Connection
from nightbus.bus.ranks.desk import Desk
from nightbus.bus.ranks.messages import (
    Answer,
    Ask,
    Decision,
    Done,
    Ended,
    Failure,
    Hello,
    Message,
    Ping,
    Pong,
    Proposal,
    Whereabouts,
    describe,
    encode,
)
from nightbus.bus.ranks.office import LAST_WORDS_S, Office

TOKEN = "0123456789abcdef"
SILENCE_S = 10.0
SAVE = Ask("save", 1, 0)


class Rank:
    """A rank that is connected."""

    def __init__(self, rank: int, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.connection = Connection(self.socket)
        self.connection.send(Hello(TOKEN, rank))
        self.member = Member(rank)

    def send(self, message: Message) -> None:
        """Send a message to the desk."""
        self.connection.send(message)

    def heard(self) -> list[Message]:
        """What the desk has sent."""
        return self.connection.receive()


class Building:
    """An office with a desk, at which ranks 1 and 2 are."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.desk = Desk(3, TOKEN, self.selector)
        self.member = Member(0)
        self.office = Office(3, self.desk, self.member, SILENCE_S, 0.0)
        self.ranks = {rank: Rank(rank, str(self.desk.path)) for rank in (1, 2)}
        self.turn(0.0)

    def turn(self, now_s: float) -> None:
        """Let the office do what there is to do."""
        while ready := self.selector.select(0):
            for key, _ in ready:
                key.data()
        self.office.take_all(now_s)
        self.office.go_on(now_s)

    def close(self) -> None:
        """Close everything."""
        self.desk.close()
        self.selector.close()
        for rank in self.ranks.values():
            rank.connection.close()


@pytest.fixture
def building() -> Iterator[Building]:
    building = Building()
    yield building
    building.close()


def culprit_by_all(building: Building) -> str:
    """Whom rank 0 takes for lost, after a look that the others were told so."""
    word = building.member.failure
    assert word is not None
    assert word in building.ranks[2].heard()
    return describe(word)


def test_what_one_rank_asks_all_agree_on(building: Building) -> None:
    building.ranks[1].send(SAVE)
    building.turn(1.0)
    proposal = Proposal(0, 2, (SAVE,))
    for rank in building.ranks.values():
        assert rank.heard() == [proposal]
        rank.send(Answer(0, "ready"))
    building.turn(1.0)

    for rank in building.ranks.values():
        assert rank.heard() == [Decision(0, holds=True)]
    building.member.come()
    building.member.come()
    assert building.member.take() == (SAVE,)


def test_a_late_rank_has_the_asks_proposed_again_further_ahead(building: Building) -> None:
    building.ranks[1].send(SAVE)
    building.turn(1.0)
    building.ranks[1].send(Answer(0, "ready"))
    building.ranks[2].send(Answer(0, "late"))
    building.turn(1.0)

    heard = building.ranks[2].heard()
    assert heard == [Proposal(0, 2, (SAVE,)), Decision(0, holds=False), Proposal(1, 4, (SAVE,))]


def test_an_answer_to_a_proposal_that_is_decided_counts_for_nothing(building: Building) -> None:
    building.ranks[1].send(SAVE)
    building.turn(1.0)
    for number in (7, 7, 0):
        building.ranks[1].send(Answer(number, "ready"))
    building.turn(1.0)

    assert building.ranks[2].heard() == [Proposal(0, 2, (SAVE,))]


def test_a_question_for_the_time_is_answered_to_who_asked(building: Building) -> None:
    building.ranks[1].send(Ping(17))
    building.turn(1.0)

    (pong,) = building.ranks[1].heard()
    assert isinstance(pong, Pong)
    assert pong.sent_ns == 17
    assert building.ranks[2].heard() == []


def test_a_rank_whose_connection_ends_has_a_moment_for_its_exit_code(building: Building) -> None:
    building.ranks[1].connection.close()
    building.turn(1.0)

    assert building.member.failure is None
    assert building.office.next_s(1.0) == pytest.approx(LAST_WORDS_S)

    building.office.ended(1, -9, 1.05)
    building.turn(1.0 + LAST_WORDS_S)
    assert "its process was killed by SIGKILL" in culprit_by_all(building)


def test_that_the_process_of_a_lost_rank_has_ended_is_told_once(building: Building) -> None:
    building.ranks[1].send(Failure(1, "raised", "ValueError: no such batch"))
    building.turn(1.0)
    assert "ValueError: no such batch" in culprit_by_all(building)
    building.ranks[1].connection.close()
    building.turn(2.0)
    building.turn(3.0)

    assert building.ranks[2].heard() == [Ended()]


def test_a_rank_may_end_when_it_is_done(building: Building) -> None:
    building.ranks[1].send(Done())
    building.turn(1.0)
    building.ranks[1].connection.close()
    building.turn(1.0)
    building.turn(1.0 + LAST_WORDS_S)

    assert building.member.failure is None


def test_a_silent_rank_whose_process_runs_is_not_lost(building: Building) -> None:
    assert building.desk.pid_of(1) == os.getpid()
    for now_s in range(2, 30, 2):
        building.office.take(0, Whereabouts(0, now_s, 0), now_s)
        building.turn(now_s)

    assert building.member.failure is None


@pytest.mark.parametrize(
    "message",
    [Whereabouts(2, 1, 7), Failure(2, "raised", "x"), Ask("save", 2, 0), Decision(0, holds=True)],
    ids=lambda each: type(each).__name__,
)
def test_a_rank_that_sends_what_is_not_its_own_is_lost_for_it(
    building: Building, message: Message
) -> None:
    building.ranks[1].send(message)
    building.turn(1.0)
    building.turn(1.0)

    assert "rank 1 is lost: it sent what ranks do not send: rank 1 sent" in culprit_by_all(building)
    assert building.desk.refused == 1


def test_bytes_that_are_no_message_lose_the_rank_that_sent_them(building: Building) -> None:
    building.ranks[1].socket.setblocking(True)
    building.ranks[1].socket.sendall(encode(Done()) + b"x\n")
    building.turn(1.0)

    assert "cannot be read" in culprit_by_all(building)
