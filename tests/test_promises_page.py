"""docs/promises.md promises what tests prove: each test that it names is there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "promises.md").read_text()
NAMED = re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE)


@cache
def functions_in(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


@pytest.mark.parametrize(("file", "test"), NAMED, ids=[test for _, test in NAMED])
def test_a_test_that_the_page_names_is_there(file: str, test: str) -> None:
    path = ROOT / "tests" / file

    assert path.is_file()
    assert test.startswith("test_")
    assert test in functions_in(path)


def promises() -> list[str]:
    """The page's paragraphs that begin with a promise, each with its list of tests."""
    return [part for part in re.split(r"\n(?=\*\*|## )", PAGE) if part.startswith("**")]


@pytest.mark.parametrize("promise", promises(), ids=lambda text: text[2:50])
def test_every_promise_names_its_tests(promise: str) -> None:
    assert re.search(r"^- `[\w/]+\.py::\w+`$", promise, re.MULTILINE)


def test_no_file_is_named_in_another_form_that_goes_unchecked() -> None:
    assert len(NAMED) == PAGE.count(".py::")
    assert len(promises()) == len(re.findall(r"^\*\*", PAGE, re.MULTILINE))
