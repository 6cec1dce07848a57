"""The page as a file and as a folder, opened without a server: the same views."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
from board_asked import begun
from board_browser import OpenPage, expect, put_over, six_runs
from PIL import Image

import nightbus as nb
from nightbus.__main__ import main

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The address of the page in one file, and of that in a folder."""
    root = tmp_path_factory.mktemp("exported")
    six_runs(root)
    _, attempt = begun(root, {"lr": 7.0, "optimizer": "none"}, "newest")
    put_over(attempt, {"val_loss": [3.0, 2.0]})
    picture = io.BytesIO()
    Image.new("RGB", (20, 10), "red").save(picture, "PNG")
    attempt.add(nb.Media, "seen", "image", picture.getvalue(), ("loggers",), "training_step")
    attempt.add(nb.Media, "note", "text", b"some words", ("loggers",), "training_step")
    attempt.add(nb.ConsoleLine, "stdout", "hello from the run", 0)
    attempt.end()
    assert main(["board", str(root), "--export", str(root / "one.html")]) == 0
    assert main(["board", str(root), "--export", str(root / "folder")]) == 0
    return {
        "file": (root / "one.html").as_uri(),
        "folder": (root / "folder" / "index.html").as_uri(),
    }


@pytest.mark.parametrize("form", ["file", "folder"])
def test_an_exported_page_has_the_views_of_a_served_one(
    exported: dict[str, str], open_page: OpenPage, form: str
) -> None:
    page = open_page(exported[form])
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.get_by_text("7 runs").wait_for()

    figure = page.locator("figure").filter(has_text="val_loss")
    expect(figure).to_have_attribute("aria-label", re.compile(r"last 2\b"))
    page.get_by_role("button", name=re.compile("^lr")).click()
    page.get_by_role("columnheader", name="lr ▲").wait_for()
    expect(page.locator(".runs tbody tr:has(th a)").first).to_contain_text("0.001")
    page.get_by_label("colour by").select_option("optimizer")
    page.locator(".palette").get_by_text("Adam").first.wait_for()
    page.get_by_label("group by").select_option("optimizer")
    page.get_by_label("groups that are drawn").get_by_text("optimizer none").wait_for()

    page.get_by_role("button", name="media").click()
    page.get_by_text("some words").wait_for()
    page.locator("img[alt^=seen]").first.wait_for()
    page.get_by_role("button", name="compare").click()
    expect(page.get_by_label("parallel coordinates", exact=True).locator("canvas")).to_be_visible()
    rows = page.locator(".runs tbody tr").filter(has=page.get_by_role("link"))
    newest = rows.filter(has=page.get_by_role("cell", name="7", exact=True))
    newest.get_by_role("link").click()
    page.get_by_role("row", name="lr 7").wait_for()
    page.get_by_role("button", name="at a moment").click()
    page.get_by_text("hello from the run").wait_for()
    assert page.get_by_label("steer this run").count() == 0
    assert all(url.startswith(("file://", "data:")) for url in asked)


def test_a_folder_that_is_not_complete_says_which_file_is_missing(
    exported: dict[str, str], open_page: OpenPage, tmp_path: Path
) -> None:
    root = Path(exported["folder"].removeprefix("file://")).parent
    (tmp_path / "index.html").write_bytes((root / "index.html").read_bytes())
    page = open_page((tmp_path / "index.html").as_uri())
    page.locator(".runs tbody th a").first.click()

    said: Any = page.locator("section.run").get_by_role("alert")
    expect(said).to_contain_text("cannot be loaded; is the folder complete?")


def test_a_page_that_lacks_something_says_what(
    exported: dict[str, str], open_page: OpenPage
) -> None:
    page = open_page(exported["folder"], width=390)
    page.locator("summary", has_text="not all that was recorded").click()
    page.get_by_text("There are at most 12 images of a name and run here").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
