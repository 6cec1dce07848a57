"""The exported page and the server are asked the same questions, and answer with the same rows."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from board_asked import begun
from board_browser import OpenPage, expect, put_over, served

from nightbus.bus.runs.marks import Marks, write_marks
from nightbus.sinks.board.export import exported
from nightbus.sinks.board.shelf import Shelf

pytestmark = pytest.mark.long

# Learning rate, anything, the loss, tags: with ties, what is missing, and values of several types.
RUNS: tuple[tuple[float | None, Any, float, tuple[str, ...]], ...] = (
    (0.1, "b", 3.0, ("b",)),
    (None, True, math.nan, ()),
    (0.1, 3, math.inf, ("a", "b")),
    (0.01, "10", 1.0, ("a",)),
    (None, "9", 2.0, ()),
    (1.0, "Z", -math.inf, ("a", "c")),
    (0.1, "a", 1.0, ()),
    (12345.0, None, 2.5, ("b",)),
)
COLUMNS = ("lr", "p", "loss", "tags")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ordered") / "runs"
    for lr, anything, loss, tags in RUNS:
        said = {"lr": lr, "p": anything}
        run, attempt = begun(root, {name: each for name, each in said.items() if each is not None})
        put_over(attempt, {"loss": [loss]})
        attempt.end()
        write_marks(run.folder, Marks(tags=tags))
    return root


@pytest.fixture(scope="module")
def addresses(folder: Path) -> Iterator[tuple[str, str]]:
    """Of the page that is served, and of that in a file."""
    file = folder.with_suffix(".html")
    file.write_bytes(exported(Shelf(folder)))
    with served(folder) as address:
        yield address, f"{file.as_uri()}#"


def rows(open_page: OpenPage, address: str, asked: dict[str, str], found: int) -> list[str]:
    """What stands in the table, row by row."""
    said = urlencode([*asked.items(), *(("column", name) for name in COLUMNS)])
    page = open_page(f"{address}&{said}")
    its = page.locator(".runs tbody tr:has(th a)")
    expect(its).to_have_count(found)
    expect(page.locator(".runs tbody tr svg.spark")).not_to_have_count(0)
    shown = page.locator(".runs tbody tr:not([aria-hidden])").all_inner_texts()
    page.close()
    return [" ".join(text.split()) for text in shown]


@pytest.mark.parametrize("group", ["", "lr", "p", "tags"])
@pytest.mark.parametrize("sort", ["", "lr", "p", "loss", "tags"])
def test_sorted_and_grouped_rows_are_the_same(
    open_page: OpenPage, addresses: tuple[str, str], sort: str, group: str
) -> None:
    for reverse in ("", "1"):
        asked = {"sort": sort, "group": group, "reverse": reverse}
        one, other = (rows(open_page, address, asked, len(RUNS)) for address in addresses)
        assert one == other


def test_runs_without_a_value_come_last_in_both_directions(
    open_page: OpenPage, addresses: tuple[str, str]
) -> None:
    for reverse in ("", "1"):
        for address in addresses:
            shown = rows(open_page, address, {"sort": "lr", "reverse": reverse}, len(RUNS))
            assert all("0.1" not in row and "12,345" not in row for row in shown[-2:])


def test_filtered_rows_are_the_same(open_page: OpenPage, addresses: tuple[str, str]) -> None:
    conditions = ("lr == 12345", "12345")
    one, other = (
        rows(open_page, address, {"where": where, "sort": "lr", "group": "tags"}, 1)
        for address, where in zip(addresses, conditions, strict=True)
    )
    assert one == other


@pytest.mark.parametrize("asked", ["group", "sort"])
def test_what_no_filtered_run_has_is_said_and_the_table_stays(
    open_page: OpenPage, addresses: tuple[str, str], asked: str
) -> None:
    shown = []
    for address, where in zip(addresses, ("p == '9'", '"9"'), strict=True):
        page = open_page(f"{address}&{urlencode({'where': where, asked: 'lr'})}")
        page.get_by_text("no run has 'lr'").wait_for()
        its = page.locator(".runs tbody tr:has(th a)")
        expect(its).to_have_count(1)
        shown.append(page.locator(".runs tbody tr:not([aria-hidden]) th").all_inner_texts())
        page.close()
    assert shown[0] == shown[1]
