"""Asks that wait for a point: which are one, and which take the place of others."""

import pytest

from nightbus.bus.events import Pause, Resume, Stop
from nightbus.bus.named_types import named_class
from nightbus.bus.ranks.asks import MAX_REMEMBERED, PAUSE, RESUME, STOP, Asks
from nightbus.bus.ranks.messages import MAX_ASKS, Ask


def waiting(*kinds: str) -> list[str]:
    asks = Asks()
    for kind in kinds:
        asks.add(Ask(kind, 0, 0))
    return [ask.kind for ask in asks]


@pytest.mark.parametrize(
    ("came", "wait"),
    [
        (("save", "save"), ["save"]),
        ((STOP, STOP), [STOP]),
        (("save", "validate", "save"), ["save", "validate"]),
        ((PAUSE, RESUME), [RESUME]),
        ((RESUME, PAUSE), [PAUSE]),
        ((PAUSE, RESUME, PAUSE), [PAUSE]),
        ((PAUSE, STOP), [STOP]),
        ((STOP, PAUSE), [STOP]),
        (("save", PAUSE, STOP), ["save", STOP]),
        ((RESUME, STOP), [RESUME, STOP]),
    ],
)
def test_what_waits_together_makes_sense_together(came: tuple[str, ...], wait: list[str]) -> None:
    assert waiting(*came) == wait


def test_an_ask_of_a_later_run_takes_the_place_of_all_before_it() -> None:
    asks = Asks()
    for ask in (Ask(STOP, 0, 9, run=1), Ask("save", 0, 9, run=1), Ask(STOP, 1, 10, run=2)):
        asks.add(ask)

    assert list(asks) == [Ask(STOP, 1, 10, run=2)]


def test_an_ask_is_none_with_one_of_an_earlier_run_that_has_a_point() -> None:
    asks = Asks()
    asks.add(Ask(STOP, 0, 9, run=1))
    asks.take(50)
    asks.add(Ask(STOP, 1, 10, run=2))

    assert list(asks) == [Ask(STOP, 1, 10, run=2)]


def test_an_ask_that_comes_too_late_for_its_run_is_dropped() -> None:
    asks = Asks()
    late = Ask(STOP, 0, 9, run=1)
    asks.add(Ask("save", 1, 10, run=2))
    asks.add(late)
    asks.put_back([late])

    assert [ask.kind for ask in asks] == ["save"]


def test_the_first_of_a_kind_stands() -> None:
    asks = Asks()
    asks.add(Ask("save", 2, 5))
    asks.add(Ask("save", 1, 9))

    assert [ask.rank for ask in asks] == [2]


def test_an_ask_is_one_with_that_whose_point_its_rank_has_not_done_with() -> None:
    asks = Asks()
    asks.add(Ask("save", 0, 3))
    asks.take(point=5)

    asks.add(Ask("save", 1, 4))
    assert list(asks) == []
    asks.add(Ask("save", 1, 5))
    assert [ask.point for ask in asks] == [5]


def test_a_pause_after_resume_is_not_one_with_the_pause_before() -> None:
    asks = Asks()
    asks.add(Ask(PAUSE, 0, 0))
    asks.take(point=5)

    for kind in (RESUME, PAUSE):
        asks.add(Ask(kind, 0, 0))

    assert [ask.kind for ask in asks] == [PAUSE]


def test_a_stop_that_was_acted_on_does_not_take_the_place_of_a_later_pause() -> None:
    asks = Asks()
    asks.add(Ask(STOP, 0, 5))
    asks.take(point=9)
    asks.add(Ask(PAUSE, 0, 9))

    asks.add(Ask(STOP, 1, 8))  # was long on its way

    assert [ask.kind for ask in asks] == [PAUSE]


def test_asks_of_a_dropped_proposal_wait_before_the_others() -> None:
    asks = Asks()
    asks.add(Ask("save", 0, 0))
    taken = asks.take(point=2)
    asks.add(Ask("validate", 0, 1))
    asks.put_back(taken)

    assert [ask.kind for ask in asks] == ["save", "validate"]


def test_a_dropped_point_is_no_reason_to_take_asks_for_one() -> None:
    asks = Asks()
    asks.add(Ask(RESUME, 0, 0))
    taken = asks.take(point=9)
    asks.add(Ask(PAUSE, 0, 0))
    asks.put_back(taken)
    asks.add(Ask(RESUME, 0, 1))

    assert [ask.kind for ask in asks] == [RESUME]


def test_what_was_overruled_meanwhile_does_not_come_back() -> None:
    asks = Asks()
    asks.add(Ask(PAUSE, 0, 0))
    taken = asks.take(point=2)
    asks.add(Ask(STOP, 0, 0))
    asks.put_back(taken)

    assert [ask.kind for ask in asks] == [STOP]


def test_a_proposal_takes_no_more_than_fits_into_a_message() -> None:
    asks = Asks()
    for number in range(MAX_ASKS + 3):
        asks.add(Ask(f"attach {number}", 0, 0))

    assert len(asks.take(point=2)) == MAX_ASKS
    assert [ask.kind for ask in asks] == [f"attach {MAX_ASKS + more}" for more in range(3)]


def test_points_of_the_latest_kinds_are_remembered() -> None:
    asks = Asks()
    for number in range(MAX_REMEMBERED + 1):
        asks.add(Ask(f"attach {number}", 0, 0))
        asks.take(point=100 + number)

    for number in range(MAX_REMEMBERED + 1):
        asks.add(Ask(f"attach {number}", 0, 0))

    assert [ask.kind for ask in asks] == ["attach 0"]


def test_kinds_of_commands_are_their_names() -> None:
    named = [named_class(kind) for kind in (Stop, Pause, Resume)]

    assert [each.name for each in named if each is not None] == [STOP, PAUSE, RESUME]
