"""The board as people use it, in a real browser.

It needs the built page (``make board-page``), a chromium and the package playwright.
"""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from board_asked import TOKEN, begun, put, recorded
from hostile import STRANGE_NAMES, STRANGE_NUMBERS

import nightbus as nb
from nightbus.bus.errors import UsageError
from nightbus.sinks.board.address import address_of, listening
from nightbus.sinks.board.export import exported
from nightbus.sinks.board.page_files import page_files
from nightbus.sinks.board.server import serve
from nightbus.sinks.board.shelf import Shelf

pytestmark = pytest.mark.long

WAIT_MS = 60_000
AXE = Path(__file__).parents[1] / "sinks/board/page/node_modules/axe-core/axe.min.js"
HOSTILE_TEXT = "</script><img src=x onerror=\"document.title='taken'\"><b>bold</b>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A chromium without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("there is no chromium")
    try:
        page_files()
    except UsageError as error:
        pytest.skip(str(error))
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@contextmanager
def served(root: Path) -> Iterator[str]:
    """A board that serves in another thread; yields its address."""
    begun_serving, stopping = threading.Event(), threading.Event()
    with listening("127.0.0.1", 0) as listener:

        async def run() -> None:
            async def until_stopped() -> None:
                await trio.to_thread.run_sync(stopping.wait)

            async with trio.open_nursery() as nursery:
                what = (Shelf(root), page_files(), listener, "127.0.0.1", TOKEN, until_stopped)
                await nursery.start(serve, *what)
                begun_serving.set()

        thread = threading.Thread(target=trio.run, args=(run,))
        thread.start()
        try:
            assert begun_serving.wait(60)
            yield address_of(listener, "127.0.0.1", TOKEN)
        finally:
            stopping.set()
            thread.join()


@contextmanager
def opened(browser: Any, address: str, seen: list[str]) -> Iterator[Any]:
    """A page; what it loads and what goes wrong on it is added to ``seen``."""
    page = browser.new_page()
    page.set_default_timeout(WAIT_MS)
    page.on("request", lambda request: seen.append(request.url))
    page.on("pageerror", lambda error: seen.append(f"error: {error}"))
    page.on("console", lambda said: seen.extend([f"error: {said.text}"] * (said.type == "error")))
    page.goto(address)
    try:
        yield page
    finally:
        page.close()


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
                assert page.title() == "nightbus board"

    loaded = [url for url in seen if not url.startswith(address.partition("#")[0])]
    assert loaded == [file.as_uri()]


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_axe_finds_nothing_serious_at_three_widths(
    browser: Any, tmp_path: Path, colours: str
) -> None:
    if not AXE.is_file():
        pytest.skip("axe-core is not installed: make board-page")
    old = recorded(tmp_path, 0.1, 0.5, 0.25)
    _, attempt = begun(tmp_path, {"lr": 0.3})
    put(attempt, "val_loss", 0.75, 0.5)
    attempt.add(nb.Media, "note", "text", b'"said"', ("loggers",), "training_step")
    attempt.writer.flush()
    found: list[Any] = []
    views = {
        "view=curves": "figure canvas",
        "view=media": "section[aria-label='note']",
        "view=compare": "div[aria-label='what differs']",
        f"open={old.path.name}": ".run h2",
        f"open={old.path.name}&moment=1": ".moments .panels",
    }

    with served(tmp_path) as address:
        for width in (1440, 900, 390):
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=colours)
            page.set_default_timeout(WAIT_MS)
            for view, shown in views.items():
                page.goto("about:blank")  # a change behind the # loads nothing
                page.goto(f"{address}&{view}")
                page.wait_for_selector(shown)
                page.evaluate(AXE.read_text())
                said = page.evaluate("async () => (await axe.run()).violations")
                found += [
                    (width, view, each["id"], [node["html"] for node in each["nodes"]])
                    for each in said
                    if each["impact"] in ("serious", "critical")
                ]
            page.close()
    attempt.end()

    assert found == []
