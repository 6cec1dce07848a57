"""Mailboxes of commands: each policy keeps its promise, in exact counts, from any thread."""

import os
import threading
from collections import Counter
from collections.abc import Callable

import pytest
import trio
import trio.testing
from helpers import DEADLINE_S
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

import nightbus as nb
from nightbus.bus.mail.mailbox import OVERFLOWS, Deferred, Envelope, Mailbox, Overflow, Told

SCHEDULES = int(os.environ.get("NIGHTBUS_SCHEDULES", "300"))
FULL = "the mailbox is full: 3 commands are waiting"


class Note(nb.Command, frozen=True, kw_only=True):
    number: int


class Other(nb.Command, frozen=True, kw_only=True):
    number: int


def envelope(number: int, sender: str = "a", kind: type[Note] | type[Other] = Note) -> Envelope:
    return Envelope(kind(number=number), sender, None)


class Fixture:
    """A mailbox for three, and what it said."""

    def __init__(self, overflow: Overflow, capacity: int = 3, block_s: float = 1.0) -> None:
        self.dropped: list[int] = []
        self.announced = 0
        limit = nb.MailboxLimit(capacity, overflow, block_s)
        self.mailbox = Mailbox(limit, self._announce, self._drop)

    def _announce(self) -> None:
        self.announced += 1

    def _drop(self, envelope: Envelope) -> None:
        self.dropped.append(number_of(envelope))

    def post(self, *numbers: int, sender: str = "a") -> list[str]:
        return [self.mailbox.post(envelope(number, sender)) for number in numbers]

    def take_all(self) -> list[int]:
        taken = []
        while (found := self.mailbox.take()) is not None:
            taken.append(number_of(found))
        return taken

    def counts(self) -> tuple[int, int, int, int]:
        """Sent, delivered, dropped, dead."""
        now = self.mailbox.statistics()
        return now.sent, now.delivered, now.dropped, now.dead


def posting_that_waits(box: Fixture, number: int) -> tuple[threading.Thread, list[str]]:
    """A thread that posts and has to wait, and what it will be answered."""
    waits, answers = threading.Event(), list[str]()
    wait_for = box.mailbox._room.wait_for

    def announced(predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        waits.set()  # under the lock: whoever gets that next finds the thread waiting
        return wait_for(predicate, timeout)

    box.mailbox._room.wait_for = announced  # type: ignore[method-assign, assignment]
    poster = threading.Thread(target=lambda: answers.extend(box.post(number)))
    poster.start()
    assert waits.wait(DEADLINE_S)
    return poster, answers


def number_of(envelope: Envelope) -> int:
    return envelope.command.number  # type: ignore[attr-defined, no-any-return]


# -- what each policy does when the mailbox is full ----------------------------------------------


def test_fail_refuses_what_comes_and_says_why() -> None:
    box = Fixture("fail")

    assert box.post(1, 2, 3, 4, 5) == ["", "", "", FULL, FULL]
    assert box.take_all() == [1, 2, 3]
    assert box.counts() == (5, 3, 0, 2)


def test_drop_oldest_keeps_the_newest() -> None:
    box = Fixture("drop_oldest")

    assert box.post(1, 2, 3, 4, 5) == ["", "", "", "", ""]
    assert box.dropped == [1, 2]
    assert box.take_all() == [3, 4, 5]
    assert box.counts() == (5, 3, 2, 0)


def test_drop_newest_keeps_the_oldest() -> None:
    box = Fixture("drop_newest")

    assert box.post(1, 2, 3, 4, 5) == ["", "", "", "", ""]
    assert box.dropped == [4, 5]
    assert box.take_all() == [1, 2, 3]
    assert box.counts() == (5, 3, 2, 0)


def test_coalesce_keeps_the_newest_of_each_type_and_sender() -> None:
    box = Fixture("coalesce")

    box.post(1, 2, sender="a")
    box.post(3, sender="b")
    box.mailbox.post(envelope(4, "a", Other))
    box.post(5, sender="a")

    assert box.dropped == [1, 2]
    assert box.take_all() == [3, 4, 5]
    assert box.counts() == (5, 3, 2, 0)


def test_coalesce_refuses_when_it_is_full_of_different_commands() -> None:
    box = Fixture("coalesce")

    for sender in "abc":
        box.post(1, sender=sender)

    assert box.post(1, sender="d") == [FULL]
    assert box.post(2, sender="a") == [""]
    assert box.counts() == (5, 0, 1, 1)


def test_block_lets_a_thread_wait_until_there_is_room() -> None:
    box = Fixture("block", block_s=60.0)
    box.post(1, 2, 3)
    poster, answers = posting_that_waits(box, 4)

    taken = box.mailbox.take()
    poster.join(DEADLINE_S)

    assert taken is not None
    assert answers == [""]
    assert box.take_all() == [2, 3, 4]
    assert box.counts() == (4, 4, 0, 0)


def test_block_refuses_when_there_was_no_room_in_time() -> None:
    box = Fixture("block", block_s=0.0)

    assert box.post(1, 2, 3, 4) == ["", "", "", FULL]
    assert box.counts() == (4, 0, 0, 1)


def test_a_blocked_thread_is_let_go_when_the_actor_stops() -> None:
    box = Fixture("block", block_s=60.0)
    box.post(1, 2, 3)
    poster, answers = posting_that_waits(box, 4)

    left = box.mailbox.close()
    poster.join(DEADLINE_S)

    assert [number_of(each) for each in left] == [1, 2, 3]
    assert answers == ["the actor has stopped"]
    assert box.counts() == (4, 0, 0, 4)


async def told(box: Fixture, number: int, answers: list[str]) -> None:
    """What a coroutine does that awaits ``tell``."""

    def deliver() -> None:
        answers.append(box.mailbox.post(envelope(number), may_block=False))

    await Told(Deferred(box.mailbox, deliver))


async def test_block_lets_a_coroutine_wait_without_holding_up_its_thread(
    autojump_clock: MockClock,
) -> None:
    box, answers = Fixture("block", block_s=5.0), list[str]()
    box.post(1, 2, 3)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(told, box, 4, answers)
        await trio.sleep(4.9)
        assert answers == []
        box.mailbox.take()

    assert answers == [""]
    assert trio.current_time() < 5.0
    assert box.take_all() == [2, 3, 4]


async def test_a_coroutine_waits_for_room_no_longer_than_block_s(autojump_clock: MockClock) -> None:
    box, answers = Fixture("block", block_s=5.0), list[str]()
    box.post(1, 2, 3)
    begin_s = trio.current_time()

    await told(box, 4, answers)

    assert answers == [FULL]
    assert trio.current_time() - begin_s == pytest.approx(5.0)


async def test_a_command_whose_sender_is_cancelled_while_it_waits_is_not_lost(
    autojump_clock: MockClock,
) -> None:
    box, answers = Fixture("block", block_s=5.0), list[str]()
    box.post(1, 2, 3)

    with trio.move_on_after(1.0):
        await told(box, 4, answers)

    assert answers == [FULL]
    assert box.counts() == (4, 0, 0, 1)


async def test_a_command_that_nobody_awaits_is_refused_at_once() -> None:
    box, answers = Fixture("block"), list[str]()
    box.post(1, 2, 3)

    Told(Deferred(box.mailbox, lambda: answers.append(box.mailbox.post(envelope(4), False))))

    assert answers == [FULL]


def test_a_closed_mailbox_makes_dead_letters_of_what_waits_and_what_comes() -> None:
    box = Fixture("fail")
    box.post(1, 2)
    box.mailbox.take()

    assert [number_of(each) for each in box.mailbox.close()] == [2]
    assert box.post(3) == ["the actor has stopped"]
    assert box.counts() == (3, 1, 0, 2)


def test_a_command_that_nobody_handles_is_a_dead_letter() -> None:
    box = Fixture("fail")
    box.post(1)

    box.mailbox.take()
    box.mailbox.refuse()

    assert box.counts() == (1, 0, 0, 1)


@pytest.mark.parametrize("overflow", OVERFLOWS)
def test_there_are_as_many_announcements_as_commands_to_take(overflow: Overflow) -> None:
    box = Fixture(overflow, block_s=0.0)

    box.post(*range(100))

    assert box.announced == box.mailbox.waiting


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"capacity": 0}, r"MailboxLimit\(capacity=0\): expected 1 or more"),
        ({"overflow": "forget"}, "expected fail, block, drop_oldest, drop_newest, coalesce"),
        ({"block_s": float("inf")}, "expected seconds, 0 or more"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(nb.UsageError, match=message):
        nb.MailboxLimit(**arguments)  # type: ignore[arg-type]


# -- under any schedule --------------------------------------------------------------------------

# A schedule: who sends (0 to 2), or 3: the actor takes, 4: it has no handler for what it took,
# 5: it stops.
schedules = st.lists(st.sampled_from([0, 0, 1, 1, 2, 3, 3, 4, 5]), max_size=60)


class Trace:
    """What a schedule did to a mailbox."""

    def __init__(self, overflow: Overflow, capacity: int, schedule: list[int]) -> None:
        self.box = Fixture(overflow, capacity, block_s=0.0)
        self.sent = self.refused = self.unhandled = 0
        self.taken: list[Envelope] = []
        self.left: list[Envelope] = []
        for move in schedule:
            self._move(move)

    def _move(self, move: int) -> None:
        mailbox = self.box.mailbox
        if move == 5:
            self.left += mailbox.close()
        elif move < 3:
            self.refused += bool(mailbox.post(envelope(self.sent, "abc"[move])))
            self.sent += 1
        elif (found := mailbox.take()) is not None:
            if move == 3:
                self.taken.append(found)
            else:
                mailbox.refuse()
                self.unhandled += 1


@settings(max_examples=SCHEDULES, deadline=None)
@given(st.sampled_from(OVERFLOWS), st.integers(1, 5), schedules)
def test_every_command_is_delivered_dropped_or_dead_and_the_counts_say_so(
    overflow: Overflow, capacity: int, schedule: list[int]
) -> None:
    trace = Trace(overflow, capacity, schedule)

    dead = trace.refused + trace.unhandled + len(trace.left)
    waiting = trace.box.mailbox.waiting
    assert trace.box.counts() == (trace.sent, len(trace.taken), len(trace.box.dropped), dead)
    assert trace.sent == len(trace.taken) + len(trace.box.dropped) + dead + waiting
    assert trace.box.mailbox.statistics().most_waiting <= capacity


@settings(max_examples=SCHEDULES, deadline=None)
@given(st.sampled_from(OVERFLOWS), st.integers(1, 5), schedules)
def test_commands_of_one_sender_are_taken_in_the_order_in_which_they_were_sent(
    overflow: Overflow, capacity: int, schedule: list[int]
) -> None:
    trace = Trace(overflow, capacity, schedule)

    for sender in "abc":
        numbers = [number_of(each) for each in trace.taken if each.sender == sender]
        assert numbers == sorted(numbers)


@pytest.mark.parametrize("overflow", OVERFLOWS)
def test_threads_that_send_at_once_lose_nothing_and_keep_their_order(overflow: Overflow) -> None:
    box, taken = Fixture(overflow, capacity=8, block_s=0.001), list[Envelope]()
    senders = [
        threading.Thread(target=lambda name=name: box.post(*range(200), sender=name))
        for name in "abcd"
    ]

    for sender in senders:
        sender.start()
    while any(sender.is_alive() for sender in senders) or box.mailbox.waiting:
        if (found := box.mailbox.take()) is not None:
            taken.append(found)

    sent, delivered, dropped, dead = box.counts()
    assert (sent, delivered, dropped) == (800, len(taken), len(box.dropped))
    assert sent == delivered + dropped + dead
    for name in Counter(each.sender for each in taken):
        numbers = [number_of(each) for each in taken if each.sender == name]
        assert numbers == sorted(numbers)
