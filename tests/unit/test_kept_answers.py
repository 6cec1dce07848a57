"""Answers about a table of runs that are kept."""

import pytest

from nightbus.bus.library.table import Runs
from nightbus.sinks.board import kept_answers
from nightbus.sinks.board.kept_answers import KeptAnswers
from nightbus.sinks.board.shelf import Table


def table(number: int) -> Table:
    return Table(number, Runs([]), {})


class Maker:
    """Makes answers, and counts them."""

    def __init__(self, size: int = 1) -> None:
        self.made, self._size = 0, size

    def __call__(self) -> bytes:
        self.made += 1
        return bytes([self.made]) * self._size


def test_the_same_question_about_the_same_table_is_answered_once() -> None:
    kept, make = KeptAnswers(), Maker()

    assert [kept.answer(table(3), "rows", make) for _ in range(3)] == [b"\x01"] * 3
    assert kept.answer(table(3), "names", make) == b"\x02"


def test_a_table_that_has_changed_is_answered_anew() -> None:
    kept, make = KeptAnswers(), Maker()

    answers = [kept.answer(table(number), "rows", make) for number in (3, 4, 4)]

    assert answers == [b"\x01", b"\x02", b"\x02"]


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_answers, "MAX_BYTES", 11)
    kept, make = KeptAnswers(), Maker(size=4)
    for question in ("a", "b", "c"):  # the third goes in place of the first two
        kept.answer(table(1), question, make)

    kept.answer(table(1), "c", make)
    assert make.made == 3
    kept.answer(table(1), "a", make)
    assert make.made == 4


def test_an_answer_that_is_too_long_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_answers, "MAX_BYTES", 11)
    kept, make = KeptAnswers(), Maker(size=12)

    assert [len(kept.answer(table(1), "a", make)) for _ in range(2)] == [12, 12]
    assert make.made == 2
