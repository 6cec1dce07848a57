"""The language of conditions: what holds, what is refused, and that nothing of it is run."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nightbus as nb
from nightbus.bus.library.where import names_in, parse

VALUES: dict[str, Any] = {
    "lr": 0.01,
    "ending": "completed",
    "tags": ("a", "b"),
    "val/loss": 0.5,
    "worse": float("nan"),
    "odd name": 3,
    "git.dirty": True,
}


def holds(condition: str) -> bool:
    return parse(condition)(VALUES.get)


@pytest.mark.parametrize(
    "condition",
    [
        "lr < 0.1",
        "lr <= 1e-2 and lr >= 1e-2",
        "lr == 0.01 and ending == 'completed'",
        'ending != "failed"',
        "not (lr > 1 or ending == 'failed')",
        "'a' in tags",
        "ending ~ 'COMPL'",
        "val/loss < 1",
        "`odd name` == 3",
        "git.dirty",
        "missing == none",
        "lr > -1",
        "false or true and not false",
    ],
)
def test_a_condition_that_holds(condition: str) -> None:
    assert holds(condition)


@pytest.mark.parametrize(
    "condition",
    ["missing < 1", "missing > 1", "ending < 3", "worse < 1", "worse", "'c' in tags", "3 in lr"],
)
def test_what_is_missing_not_a_number_or_of_another_kind_fulfils_nothing(condition: str) -> None:
    assert not holds(condition)


@pytest.mark.parametrize(
    ("condition", "what"),
    [
        ("", "character 1: a value or a name is missing"),
        ("lr <", "character 5: a value or a name is missing"),
        ("lr < 1 2", "character 8: '2' does not belong here"),
        ("(lr < 1", "a closing parenthesis is missing"),
        ("lr = 1", "character 4: '=' does not belong here"),
        ("__import__('os')", "does not belong here"),
        ("(" * 60 + "lr" + ")" * 60, "too many parentheses"),
    ],
)
def test_what_is_no_condition_is_refused_with_its_place(condition: str, what: str) -> None:
    with pytest.raises(nb.UsageError) as refused:
        parse(condition)
    assert what in str(refused.value)


@given(st.text(max_size=60))
def test_any_text_is_a_condition_or_a_usage_error(text: str) -> None:
    with contextlib.suppress(nb.UsageError):
        assert isinstance(parse(text)(VALUES.get), bool)


NUMBERS = st.integers(-1000, 1000) | st.floats(-1e3, 1e3, allow_nan=False)
SIGNS = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}


@given(NUMBERS, st.sampled_from(sorted(SIGNS)), NUMBERS)
def test_numbers_compare_as_numbers(left: float, sign: str, right: float) -> None:
    assert parse(f"x {sign} {right!r}")({"x": left}.get) == SIGNS[sign](left, right)


@given(st.text(max_size=20))
def test_a_quoted_text_is_that_text(text: str) -> None:
    quoted = text.replace("\\", "\\\\").replace("'", "\\'")

    assert parse(f"x == '{quoted}'")({"x": text}.get)


@st.composite
def trees(draw: st.DrawFn, depth: int = 3) -> tuple[str, bool]:
    """A condition of true and false, and whether it holds."""
    kind = draw(st.sampled_from(["leaf", "not", "and", "or"])) if depth else "leaf"
    if kind == "leaf":
        is_true = draw(st.booleans())
        return str(is_true).lower(), is_true
    left, holds_left = draw(trees(depth - 1))
    if kind == "not":
        return f"not ({left})", not holds_left
    right, holds_right = draw(trees(depth - 1))
    whole = holds_left and holds_right if kind == "and" else holds_left or holds_right
    return f"({left}) {kind} ({right})", whole


@given(trees())
def test_conditions_nest_as_logic_does(tree: tuple[str, bool]) -> None:
    text, expected = tree

    assert parse(text)(VALUES.get) == expected


def test_the_names_of_a_condition_are_known() -> None:
    assert names_in("lr < 1 and `odd name` in tags or lr > 2") == ["lr", "odd name", "tags"]
