"""A board whose answers take longer than a run needs for its next values: what is seen of it."""

from pathlib import Path
from typing import Any

import pytest
from board_asked import begun
from board_browser import OpenPage, expect, going_on, put_over, served

import nightbus as nb

pytestmark = pytest.mark.long

# In the page, each answer comes a while later; what the board tells by itself does not.
SLOW = """
const asked = window.fetch;
window.fetch = async (address, ...more) => {
  const answer = await asked(address, ...more);
  if (!String(address).includes("/api/live")) await new Promise((go) => setTimeout(go, 1500));
  return answer;
};
"""
FAILING = """
const asked = window.fetch;
window.fetch = (address, ...more) => String(address).includes("/api/PATH")
  ? Promise.resolve(new Response('{"problem": "it is out of order"}', {status: 500}))
  : asked(address, ...more);
"""


def changed(page: Any, script: str, address: str) -> Any:
    """The page, loaded anew with a script before its own."""
    page.add_init_script(script)
    page.goto("about:blank")
    page.goto(address)
    return page


def moves(locator: Any) -> None:
    """Wait until something is seen, and then something else in its place."""
    locator.wait_for()
    before = locator.inner_text()
    expect(locator).not_to_have_text(before)


@pytest.mark.parametrize(
    ("view", "what"),
    [
        ("view=curves", "figure[aria-label^='late']"),
        ("view=media", "section.of-name[aria-label='note'] pre"),
        ("open=RUN", "dl.facts"),
        ("open=RUN&part=at+a+moment", "section[aria-label='console'] pre"),
        ("view=compare", "section[aria-label='two runs']"),
    ],
)
def test_slow_answers_are_seen_while_a_run_goes_on(
    open_page: OpenPage, tmp_path: Path, view: str, what: str
) -> None:
    with served(tmp_path) as address, going_on(tmp_path) as (run, is_going_on):
        slow = f"{address}&{view}".replace("RUN", run.path.name)
        page = changed(open_page(address), SLOW, slow)
        page.locator(what).wait_for()
        if "moment" in view or "media" in view:
            moves(page.locator(what))
        assert is_going_on()


def test_small_curves_and_colours_come_though_answers_are_slow(
    open_page: OpenPage, tmp_path: Path
) -> None:
    with served(tmp_path) as address, going_on(tmp_path) as (run, is_going_on):
        page = changed(open_page(address), SLOW, f"{address}&small=loss&colour=lr")
        row = page.get_by_role("row").filter(has_text=run.path.name)
        row.get_by_label("loss from").wait_for()
        page.get_by_text("colour by lr").wait_for()
        assert is_going_on()


def test_the_slider_of_time_shows_what_is_on_the_way_and_then_where_it_stands(
    open_page: OpenPage, tmp_path: Path
) -> None:
    run, attempt = begun(tmp_path, {})
    put_over(attempt, {"loss": [float(number) for number in range(100)]})
    attempt.end()
    with served(tmp_path) as address:
        page = changed(open_page(address), SLOW, f"{address}&open={run.path.name}&part=at+a+moment")
        slider = page.get_by_label("time of the run")
        step = page.locator(".place")
        expect(step).to_contain_text("step 99")
        slider.focus()
        for _ in range(20):
            slider.press("PageDown")
        expect(step).not_to_contain_text("step 99")
        slider.press("Home")
        expect(step).to_contain_text("step 0")


@pytest.mark.parametrize(
    ("path", "view"),
    [
        ("names", ""),
        ("columns", "colour=lr"),
        ("sparklines", "small=loss"),
        ("metrics", "view=curves"),
        ("media", "view=media"),
        ("medium", "view=media"),
        ("history", "open=RUN&part=at+a+moment"),
        ("moment", "open=RUN&part=at+a+moment"),
        ("run", "open=RUN"),
        ("compare", "view=compare&pair=RUN&pair=OTHER"),
    ],
)
def test_a_question_that_fails_is_told_of(
    open_page: OpenPage, tmp_path: Path, path: str, view: str
) -> None:
    names = []
    for _ in range(2):
        run, attempt = begun(tmp_path, {"lr": 0.5})
        put_over(attempt, {"loss": [1.0, 2.0]})
        attempt.add(nb.Media, "note", "text", b"words", ("loggers",), "training_step")
        attempt.end()
        names.append(run.path.name)
    with served(tmp_path) as address:
        failing = f"{address}&{view}".replace("RUN", names[0]).replace("OTHER", names[1])
        page = changed(open_page(address), FAILING.replace("PATH", path), failing)
        page.get_by_text("it is out of order").first.wait_for()
