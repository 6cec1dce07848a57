"""As many runs as can be drawn at once, and parts of their curves."""

import re
from pathlib import Path
from urllib.parse import urlencode

import pytest
from board_asked import begun, recorded
from board_browser import OpenPage, drag, expect, put_over, served

pytestmark = pytest.mark.long

MOST = 50


def test_no_more_than_fifty_runs_can_be_ticked_which_the_table_says(
    open_page: OpenPage, tmp_path: Path
) -> None:
    runs = [recorded(tmp_path, 0.1, 1.0).path.name for _ in range(MOST + 1)]
    ticked = urlencode([("run", name) for name in runs[:MOST]])
    with served(tmp_path) as address:
        page = open_page(f"{address}&{ticked}")
        page.get_by_text("50 drawn, at most 50 at once: untick one to draw another").wait_for()
        left = page.get_by_label(f"draw {runs[MOST]}")
        expect(left).to_be_disabled()
        expect(left).to_have_attribute("title", "at most 50 at once: untick one to draw another")

        page.get_by_label(f"draw {runs[MOST - 1]}").uncheck()
        left.check()
        expect(page.get_by_label(f"draw {runs[MOST - 1]}")).to_be_disabled()


def test_a_group_is_drawn_as_far_as_there_is_room_and_taken_away_again(
    open_page: OpenPage, tmp_path: Path
) -> None:
    for _ in range(MOST + 2):
        recorded(tmp_path, 0.1, 1.0)
    recorded(tmp_path, 0.2, 1.0)
    with served(tmp_path) as address:
        page = open_page(f"{address}&group=lr&run=")
        page.get_by_text("0 drawn").wait_for()
        group = page.get_by_label("draw the runs with lr 0.1")
        group.click()
        page.get_by_text("50 drawn, at most 50 at once").wait_for()
        expect(group).not_to_be_checked()
        group.click()
        page.get_by_text("0 drawn").wait_for()


def test_a_part_of_steps_is_not_kept_where_curves_are_drawn_along_the_clock(
    open_page: OpenPage, tmp_path: Path
) -> None:
    _, attempt = begun(tmp_path, {})
    put_over(attempt, {"loss": [float(step % 9) for step in range(300)]})
    attempt.end()
    with served(tmp_path) as address:
        page = open_page(f"{address}&view=curves")
        figure = page.locator("figure.chart")
        expect(figure.locator("canvas")).to_be_visible()
        whole = figure.get_by_role("button", name="whole")
        drag(page, figure.locator(".plot"), (0.4, 0.5), (0.7, 0.5))
        whole.wait_for()
        expect(figure.locator(".u-select")).to_have_css("width", "0px")

        with page.expect_request(lambda request: "x=wall" in request.url) as asked:
            page.get_by_label("along").select_option("the clock")
        assert "from=" not in asked.value.url
        expect(whole).to_have_count(0)
        expect(figure).to_have_attribute("aria-label", re.compile("by wall.*last 2"))
