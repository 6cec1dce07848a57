"""The runs that are marked along an axis are those that the table has then."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from board_asked import begun
from board_browser import OpenPage, drag, expect, mix_of, put_over, served
from helpers import eventually

from nightbus.bus.runs.marks import Marks, write_marks

pytestmark = pytest.mark.long

LABELS = ("true", "3", "C:\\", "it's")  # as they stand along the axis, from its foot
VALUES: tuple[Any, ...] = (True, 3, "3", "C:\\", "it's")
RATES = (0.00123456, 0.5, 1.0, 9999.5, 12345.678)
TAGS = ((), ("a",), ("a", "b"), ("it's",), ())
LARGE = 2**62 + 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("marked")
    for value, rate, tags in zip(VALUES, RATES, TAGS, strict=True):
        run, attempt = begun(root, {"p": value, "lr": rate, "in": rate})
        put_over(attempt, {"loss": [1.0]})
        attempt.end()
        write_marks(run.folder, Marks(tags=tags))
    _, attempt = begun(root, {"large": LARGE})
    put_over(attempt, {"loss": [1.0]})
    attempt.end()
    return root


@pytest.fixture(scope="module")
def board(folder: Path) -> Iterator[str]:
    with served(folder) as address:
        yield address


def marked(page: Any, low: float, high: float) -> None:
    """Mark a part of the first axis, in shares of it, and have only its runs in the table."""
    part = page.get_by_label("parallel coordinates", exact=True)
    canvas = part.locator("canvas")
    eventually(lambda: len(mix_of(canvas)) > 10)
    left = 60 / canvas.bounding_box()["width"]
    up, down = ((300 - 274 * share) / 340 for share in (min(high, 1.05), low))
    drag(page, canvas, (left, up), (left, down))
    page.mouse.move(5, 5)
    part.get_by_role("button", name="only these in the table").click()


@pytest.mark.parametrize("label", LABELS)
def test_one_of_the_texts_of_an_axis_is_marked(board: str, open_page: OpenPage, label: str) -> None:
    page = open_page(f"{board}&view=compare&axis=p&axis=lr&column=p", height=1600)
    at = LABELS.index(label) / (len(LABELS) - 1)
    marked(page, at - 0.1, at + 0.1)

    cells = page.locator(".runs tbody tr:has(th a) td:last-child")
    expect(cells).to_have_text([label] * (2 if label == "3" else 1))


def test_all_but_one_of_the_texts_are_marked(board: str, open_page: OpenPage) -> None:
    page = open_page(f"{board}&view=compare&axis=p&axis=lr&column=p", height=1600)
    marked(page, -0.05, 0.8)
    cells = page.locator(".runs tbody tr:has(th a) td:last-child")
    expect(cells).to_have_text(["C:\\", "3", "3", "true"])


def test_one_of_the_lists_of_an_axis_is_marked(board: str, open_page: OpenPage) -> None:
    page = open_page(f"{board}&view=compare&axis=tags&axis=lr&column=tags", height=1600)
    marked(page, 0.25, 0.4)  # between none, and both
    cells = page.locator(".runs tbody tr:has(th a) td:last-child")
    expect(cells).to_have_text(["a"])


@pytest.mark.parametrize("name", ["lr", "in"])
def test_the_whole_of_an_axis_of_numbers_has_its_ends(
    board: str, open_page: OpenPage, name: str
) -> None:
    page = open_page(f"{board}&view=compare&axis={name}&axis=loss&column={name}", height=1600)
    marked(page, -0.05, 1.05)
    page.get_by_text("5 of 6 runs").first.wait_for()
    # As the table rounds it:
    page.locator(".runs").get_by_role("cell", name="12346", exact=True).wait_for()


def test_a_whole_number_that_is_larger_than_those_of_a_page_is_marked(
    board: str, open_page: OpenPage
) -> None:
    page = open_page(f"{board}&view=compare&axis=large&axis=loss&column=large", height=1600)
    marked(page, 0.3, 0.7)
    page.get_by_text("1 of 6 runs").first.wait_for()
    page.locator(".runs").get_by_role("cell", name=str(LARGE)).wait_for()


def test_where_no_run_is_marked_there_is_nothing_to_have_in_the_table(
    board: str, open_page: OpenPage
) -> None:
    page = open_page(f"{board}&view=compare&axis=p&axis=lr", height=1600)
    part = page.get_by_label("parallel coordinates", exact=True)
    canvas = part.locator("canvas")
    eventually(lambda: len(mix_of(canvas)) > 10)
    drag(page, canvas, (60 / canvas.bounding_box()["width"], 0.4), (0.08, 0.44))
    page.mouse.move(5, 5)
    part.get_by_text("0 of 6 runs are in the marked ranges").wait_for()
    expect(part.get_by_role("button", name="only these in the table")).to_have_count(0)
