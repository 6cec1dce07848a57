"""Two links in one process: their ranks act at one point, and hear who is lost."""

import selectors
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers import DEADLINE_S

from nightbus.actors.ranks import last_act
from nightbus.actors.ranks.last_act import LastAct
from nightbus.actors.ranks.link import Link, LinkedRun
from nightbus.actors.ranks.world import World
from nightbus.bus.errors import RankLostError, RankMismatchError
from nightbus.bus.log.place import Place
from nightbus.bus.ranks.connection import Connection
from nightbus.bus.ranks.desk import Desk
from nightbus.bus.ranks.messages import Ask
from nightbus.bus.system.forks import keep_when_forked

TOKEN = "0123456789abcdef"


def end(link: Link) -> None:
    """End its thread, if it has not ended, and close its sockets."""
    link._is_over = True
    link._wake()
    link._thread.join(DEADLINE_S)
    keep_when_forked(link)
    link.leave_to_parent()


@pytest.fixture
def links(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Link]]:
    """Those of two ranks, whose loss does not end the drawing on this process's terminal."""
    monkeypatch.setattr(last_act, "end_drawing", lambda: None)
    worlds = [World(rank, 2, rank, 2) for rank in (0, 1)]
    selector = selectors.DefaultSelector()
    desk = Desk(2, TOKEN, selector, takes_other_machines=False)
    connected = socket.socket(socket.AF_UNIX)
    connected.connect(str(desk.path))
    links = [
        Link(worlds[0], TOKEN, selector, desk, None),
        Link(worlds[1], TOKEN, selectors.DefaultSelector(), None, Connection(connected)),
    ]
    yield links
    for link in links:
        end(link)


def come(link: Link) -> tuple[Ask, ...]:
    """Come to the next safe point; return what is to be done there."""
    return link.take() if link.member.come() else ()


def come_until_due(link: Link) -> tuple[int, tuple[Ask, ...]]:
    """Come to safe points until something is to be done; return at which, and what."""
    while not (due := come(link)):
        threading.Event().wait(0.0001)  # a step
    return link.member.point, due


def in_run(met: int) -> LinkedRun:
    """A run that records nothing, and has come so often to where all meet once it has begun."""
    counts = iter([0])

    def nothing(*_: object, **__: object) -> None:
        return

    return LinkedRun(
        Place(), lambda: False, nothing, nothing, nothing, None, lambda: next(counts, met)
    )


def check_until_lost(link: Link) -> None:
    """Check, as a thread that waits in an exchange, until that raises."""
    end_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < end_s:
        link.check()
        threading.Event().wait(0.001)


@pytest.mark.parametrize("asking", [0, 1])
def test_what_one_rank_asks_is_due_on_both_at_the_same_point(
    links: list[Link], asking: int
) -> None:
    links[asking].ask("stop", b'{"why": "asked"}')
    with ThreadPoolExecutor() as training:
        (point, due), other = training.map(come_until_due, links)

    assert other == (point, due)
    assert [(each.kind, each.rank, bytes(each.payload)) for each in due] == [
        ("stop", asking, b'{"why": "asked"}')
    ]


def test_ranks_meet_once_both_have_arrived_and_the_one_that_was_behind_has_come_as_far(
    links: list[Link],
) -> None:
    behind, ahead = links
    for link in links:
        assert come(link) == ()
    assert come(ahead) == ()
    behind.arrive()
    assert not behind.has_met(0.0)
    ahead.arrive()
    assert ahead.has_met(DEADLINE_S)
    assert not behind.has_met(DEADLINE_S)  # it is told that it is behind
    assert come(behind) == ()

    assert behind.has_met(0.0)


@pytest.mark.parametrize("failing", [0, 1])
def test_the_failure_of_one_rank_ends_the_other_which_names_it(
    links: list[Link], failing: int
) -> None:
    other = links[1 - failing]
    assert links[failing].fail("ValueError: no such batch") is None

    lost = other.lost(DEADLINE_S)
    assert lost is not None
    assert lost.rank == failing
    assert "ValueError: no such batch" in str(lost)
    with pytest.raises(RankLostError, match="ValueError: no such batch"):
        come(other)


def test_if_both_fail_at_once_both_blame_the_same(links: list[Link]) -> None:
    with ThreadPoolExecutor() as training:
        found = list(training.map(lambda link: link.fail("ValueError"), links))

    blamed = [1 - rank for rank, lost in enumerate(found) if lost is not None]
    assert len(blamed) == 1
    assert [link.member.failure.rank for link in links if link.member.failure] == blamed * 2


def test_a_rank_that_waits_in_an_exchange_that_the_other_passed_by_is_told_so(
    links: list[Link], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nightbus.bus.ranks.roll_call.ASTRAY_S", 0.05)
    monkeypatch.setattr("nightbus.actors.ranks.link.BEAT_S", 0.02)
    monkeypatch.setattr(LastAct, "end", lambda *_: None)  # of this process
    for link, met in zip(links, (1, 0), strict=True):
        link.begin_run(in_run(met))
    links[1].awaits = "barrier()"

    with pytest.raises(RankMismatchError, match=r"rank 1 waits in barrier\(\), and rank 0 did not"):
        check_until_lost(links[1])
    with pytest.raises(RankLostError, match="rank 1 is lost: RankMismatchError: rank 1 waits"):
        check_until_lost(links[0])
    assert links[1].has_failed  # so that it ends by this, not by force


def test_a_rank_whose_connection_ends_without_a_word_is_lost(links: list[Link]) -> None:
    end(links[1])

    lost = links[0].lost(DEADLINE_S)
    assert lost is not None
    assert lost.rank == 1
    assert "its process ended without a word" in str(lost)


def test_a_rank_that_has_left_is_not_lost_to_others_that_are_in_no_run(links: list[Link]) -> None:
    links[1].leave()
    links[0].process_ended(1, 0)
    links[0].leave()

    assert not links[0].is_lost


def test_who_waits_in_no_run_for_a_rank_that_has_ended_names_it(
    links: list[Link], capfd: pytest.CaptureFixture[str]
) -> None:
    links[1].leave()

    assert str(links[0].lose(1, "its script has ended")).startswith("rank 1 is lost: its script")
    with pytest.raises(RankLostError, match="its script has ended"):
        links[0].check()
    links[0].leave()
    assert "rank 1 is lost: its script has ended" in capfd.readouterr().err


def test_the_signal_that_killed_a_rank_is_told_to_the_others(links: list[Link]) -> None:
    links[0].process_ended(1, -signal.SIGKILL)

    lost = links[0].lost(DEADLINE_S)
    assert lost is not None
    assert lost.rank == 1
    assert "SIGKILL" in str(lost)


def test_a_link_that_breaks_is_the_failure_of_its_rank(
    links: list[Link], monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object) -> None:
        raise OSError("no buffer space")

    monkeypatch.setattr(links[1], "_look_at_desk", break_down)
    links[1]._wake()

    lost = links[0].lost(DEADLINE_S)
    assert lost is not None
    assert lost.rank == 1
    assert "its link to the others broke: no buffer space" in str(lost)
