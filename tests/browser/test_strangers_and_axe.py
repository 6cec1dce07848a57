"""The board's page as a whole: a first look, strangers' runs, and what axe says of each view.

It needs the built page (``make board-page``), a chromium and the package playwright.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from board_asked import begun, put, recorded
from board_browser import WAIT_MS, opened, served
from hostile import STRANGE_NAMES, STRANGE_NUMBERS

import nightbus as nb
from nightbus.sinks.board.export import exported
from nightbus.sinks.board.shelf import Shelf

pytestmark = pytest.mark.long

AXE = Path(__file__).parents[2] / "sinks/board/page/node_modules/axe-core/axe.min.js"
ONLY = "{resultTypes: ['violations']}"  # of the others, one of each kind is enough
HOSTILE_TEXT = "</script><img src=x onerror=\"document.title='taken'\"><b>bold</b>"


def test_a_live_run_is_chosen_followed_opened_and_filtered(browser: Any, tmp_path: Path) -> None:
    old = recorded(tmp_path, 0.1, 0.5, 0.25)
    live, attempt = begun(tmp_path, {"lr": 0.3})
    put(attempt, "val_loss", 0.75)
    seen: list[str] = []

    with served(tmp_path) as address, opened(browser, address, seen) as page:
        said: Callable[[str], Any] = page.get_by_text
        page.wait_for_selector(f"figure[aria-label*='{live.path.name}: last 0.75']")
        put(attempt, "val_loss", 0.625)
        page.wait_for_selector(f"figure[aria-label*='{live.path.name}: last 0.625']")
        assert "token" not in page.url

        page.get_by_label(f"draw {old.path.name}").uncheck()
        page.wait_for_selector(f"figure:not([aria-label*='{old.path.name}'])")
        page.get_by_label("condition").fill("lr < 0.2")
        said("1 of 2 runs").wait_for()
        page.get_by_role("link", name=old.path.name).click()
        page.get_by_role("heading", name=old.path.name).wait_for()
        assert page.get_by_role("row", name="lr 0.1").count()

        page.reload()  # the address has it all
        page.get_by_role("heading", name=old.path.name).wait_for()
        said("1 of 2 runs").wait_for()
        page.get_by_label("condition").fill("lr <")
        said("a value or a name is missing").wait_for()
        attempt.end()
        page.get_by_label("condition").fill("")
        page.wait_for_selector("tbody tr:has-text('0.3') .ending.completed")

    assert all(url.startswith(address.partition("#")[0]) for url in seen if "error" not in url)
    assert not [each for each in seen if each.startswith("error") and "400" not in each]


def test_nothing_of_a_stranger_s_run_is_more_than_text(browser: Any, tmp_path: Path) -> None:
    run, attempt = begun(tmp_path, {HOSTILE_TEXT: HOSTILE_TEXT})
    for name in dict.fromkeys((*STRANGE_NAMES, HOSTILE_TEXT)):
        put(attempt, name, *STRANGE_NUMBERS)
    attempt.end()
    file = tmp_path / "board.html"
    file.write_bytes(exported(Shelf(tmp_path)))
    seen: list[str] = []

    with served(tmp_path) as address:
        for each in (address, file.as_uri()):
            with opened(browser, each, seen) as page:
                page.wait_for_selector("canvas")
                page.get_by_role("link", name=run.path.name).first.click()
                page.get_by_role("cell", name=HOSTILE_TEXT).first.wait_for()
                assert page.locator("img, b:has-text('bold'), iframe").count() == 0
                assert page.title() == f"{run.path.name} · nightbus"

    loaded = [url for url in seen if not url.startswith(address.partition("#")[0])]
    assert loaded == [file.as_uri()]


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_axe_finds_nothing_serious_at_three_widths(
    browser: Any, tmp_path: Path, colours: str
) -> None:
    if not AXE.is_file():
        pytest.skip("axe-core is not installed: make board-page")
    old = recorded(tmp_path, 0.1, 0.5, 0.25)
    live, attempt = begun(tmp_path, {"lr": 0.3})
    put(attempt, "val_loss", 0.75, 0.5)
    attempt.add(nb.Media, "note", "text", b'"said"', ("loggers",), "training_step")
    attempt.writer.flush()
    found: list[Any] = []
    views = {
        "view=curves": "figure canvas",
        "view=media": "section[aria-label='note']",
        "view=compare": "div[aria-label='what differs']",
        f"open={old.path.name}": ".run h2",
        f"open={old.path.name}&part=at+a+moment": ".moments .panels",
        f"open={live.path.name}": ".run .note",
        "group=lr&view=runs": "tr.group",
    }

    def serious(page: Any, what: str) -> list[Any]:
        said = page.evaluate(f"async () => (await axe.run({ONLY})).violations")
        return [
            (what, each["id"], [node["html"] for node in each["nodes"]])
            for each in said
            if each["impact"] in ("serious", "critical")
        ]

    with served(tmp_path) as address:
        for width in (1440, 900, 390):
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=colours)
            page.set_default_timeout(WAIT_MS)
            page.goto(address)
            page.evaluate(AXE.read_text())
            for view, shown in views.items():
                page.evaluate("view => { location.hash = view }", view)
                page.wait_for_selector(shown)
                found += serious(page, f"{width} {view}")
            for button, shown in {"share": "pre.shell", "columns": ".choices fieldset"}.items():
                page.locator("summary", has_text=button).click()
                page.wait_for_selector(shown)
                found += serious(page, f"{width} {button}")
                page.keyboard.press("Escape")  # it may lie over the other
            page.close()
    attempt.end()

    assert found == []
