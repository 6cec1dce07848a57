"""What the board's page takes in a chromium: rows, first curves, frames, new values."""

import json
import random
import shutil
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from board_data import Recording
from board_server import Board

WAIT_MS = 120_000
ZOOMS, EVERY_MS = 80, 50
ROW_ROUNDS, SETTLES_MS = 7, 1000
_FRAMES = """async ([figure, keys, every]) => {
  const times = [];
  let goesOn = true;
  const tick = (now) => { times.push(now); if (goesOn) requestAnimationFrame(tick); };
  requestAnimationFrame(tick);
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  for (const key of keys) {
    figure.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    await wait(every);
  }
  await wait(500);
  goesOn = false;
  return times.slice(1).map((now, at) => now - times[at]);
}"""
_MARK = """([selector]) => {
  const watched = new MutationObserver(() => {
    if (!document.querySelector(selector)) return;
    watched.disconnect();
    requestAnimationFrame(() => setTimeout(() => { window.painted = performance.now(); }));
  });
  watched.observe(document, { childList: true, subtree: true, attributes: true });
}"""
ROW, CURVE = "tbody th[scope=row]", "figure[aria-label*=': last ']"
_WATCH = """([figure, text]) => new Promise((done) => {
  const look = () => {
    if (!figure.getAttribute("aria-label").includes(text)) return false;
    requestAnimationFrame(() => done(Date.now()));
    return true;
  };
  const observer = new MutationObserver(() => look() && observer.disconnect());
  observer.observe(figure, { attributes: true });
  look();
})"""


@contextmanager
def browsing() -> Iterator[Any]:
    """A chromium without a window; None where there is none, or no playwright."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        program = None
    if program is None:
        yield None
        return
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


def rows_s(browser: Any, board: Board) -> dict[str, list[float]]:
    """Seconds until the first rows are painted, of a page opened first, in new tabs, and reloaded.

    They count from when the browser begins to open the address, as it says itself: of a new tab, it
    takes up to a quarter of a second until a page's first script runs.
    """
    found: dict[str, list[float]] = {"first": [], "in a new tab": [], "reloaded": []}
    with _marking(browser, ROW) as context:
        for number in range(1 + ROW_ROUNDS):
            page = context.new_page()
            page.goto(board.address)
            found["in a new tab" if number else "first"].append(_painted_s(page, ROW))
            page.reload()
            found["reloaded"].append(_painted_s(page, ROW))
            page.close()
    return found


def first_curve_s(browser: Any, board: Board, key: str) -> float:
    """Seconds from opening the page to the first points of a run's curve, painted."""
    with _marking(browser, CURVE) as context:
        page = context.new_page()
        page.goto(f"{board.address}&run={key}")
        return _painted_s(page, CURVE)


@contextmanager
def _marking(browser: Any, selector: str) -> Iterator[Any]:
    """Windows whose pages note when something was first painted: asking would be told late."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(WAIT_MS)
    context.add_init_script(f"({_MARK})({json.dumps([selector])})")
    yield context
    context.close()


def _painted_s(page: Any, selector: str) -> float:
    page.wait_for_timeout(SETTLES_MS)  # nothing asks meanwhile, which takes time of the page
    page.wait_for_selector(selector)
    painted_ms: float = page.evaluate(
        "async () => { while (!window.painted) await new Promise(requestAnimationFrame);"
        " return window.painted; }"
    )
    return painted_ms / 1000


def frames_ms(browser: Any, board: Board, keys: Sequence[str]) -> list[float]:
    """Times between frames while a chart of runs is zoomed in and out and moved, by keys."""
    page = _page(browser)
    page.goto(f"{board.address}&small=" + "".join(f"&run={key}" for key in keys))
    figure = page.wait_for_selector(CURVE)
    page.wait_for_function(
        "() => !document.querySelector('.under').textContent.includes('being read')"
    )
    page.wait_for_timeout(1000)
    draw = random.Random(1)
    pressed = [draw.choice(["+", "+", "-", "ArrowLeft", "ArrowRight"]) for _ in range(ZOOMS)]
    found: list[float] = page.evaluate(_FRAMES, [figure, pressed, EVERY_MS])
    page.close()
    return found


def live_ms(browser: Any, board: Board, runs: Sequence[Recording], values: int) -> list[float]:
    """Milliseconds from a value's recording to the frame after it is on the page, of many values.

    All runs are drawn; the others put two values a second each.
    """
    page = _page(browser)
    asked = "".join(f"&run={each.folder.path.name}" for each in runs)
    page.goto(f"{board.address}{asked}&small=")
    first, others = runs[0], runs[1:]
    figure = page.wait_for_selector(f"figure[aria-label*='{first.folder.path.name}: last ']")
    page.wait_for_timeout(3000)
    stopping = threading.Event()
    thread = threading.Thread(target=_put_on, args=(others, stopping))
    thread.start()
    found = []
    for number in range(values):
        page.wait_for_timeout(random.Random(number).uniform(300, 700))
        value = (10_001 + number) / 100_000
        asked_of = [figure, f"{first.folder.path.name}: last {value:.5g}"]
        page.evaluate(f"(asked) => {{ window.shown = ({_WATCH})(asked); }}", asked_of)
        put_s = time.time()
        first.put(value)
        found.append(page.evaluate("() => window.shown") - put_s * 1000)
    stopping.set()
    thread.join()
    page.close()
    return found


def _put_on(runs: Sequence[Recording], stopping: threading.Event) -> None:
    while not stopping.wait(0.5):
        for run in runs:
            run.put(random.random())


def _page(browser: Any) -> Any:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(WAIT_MS)
    return page


def quantiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, 95th percentile and largest of some values."""
    ordered = sorted(values)
    return statistics.median(ordered), ordered[int(0.95 * (len(ordered) - 1))], ordered[-1]
