"""A chromium, and pages in it."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from board_browser import WAIT_MS, OpenPage, Runs, served, six_runs

from nightbus.bus.errors import UsageError
from nightbus.sinks.board.page_files import page_files


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A chromium without a window. Other tests' processes and threads do not meet it."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("there is no chromium")
    try:
        page_files()
    except UsageError as error:
        pytest.skip(str(error))
    playwright.expect.set_options(timeout=WAIT_MS)
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[OpenPage]:
    """Open an address in a window of its own; nothing of its program may go wrong in the test."""
    contexts, wrong = [], []

    def opened(address: str, *, width: int = 1440, height: int = 900, **more: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, **more)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the runs of a module."""
    return tmp_path_factory.mktemp("board")


@pytest.fixture(scope="module")
def runs(folder: Path) -> Runs:
    """Six runs that ended."""
    return six_runs(folder)


@pytest.fixture(scope="module")
def board(folder: Path, runs: Runs) -> Iterator[str]:
    """The address of a board with them."""
    with served(folder) as address:
        yield address
