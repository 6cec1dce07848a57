"""What was recorded and is too much to draw, or is broken: the rest of the page goes on."""

import re
from pathlib import Path
from typing import Any

import pytest
from board_asked import begun
from board_browser import OpenPage, expect, mix_of, put_over, served
from helpers import eventually

import nightbus as nb
from nightbus.__main__ import main

pytestmark = pytest.mark.long

BINS = 260_000


def with_many_bins(root: Path) -> None:
    """A run with histograms of very many bins, the highest at the end, and a curve."""
    _, attempt = begun(root, {})
    put_over(attempt, {"loss": [1.0, 2.0]})
    edges = b"0," * (BINS // 2) + b"1," * (BINS // 2) + b"2"
    counts = b"1," * (BINS - 1) + b"9"
    for step in range(2):
        attempt.place.move(step=step, epoch=0)
        data = b'{"edges":[' + edges + b'],"counts":[' + counts + b"]}"
        attempt.add(nb.Media, "weights", "histogram", data, ("loggers",), "training_step")
    attempt.end()


@pytest.mark.parametrize("view", ["ridge", "heat map", "bars"])
def test_a_histogram_of_very_many_bins_is_drawn(
    open_page: OpenPage, tmp_path: Path, view: str
) -> None:
    with_many_bins(tmp_path)
    with served(tmp_path) as address:
        page = open_page(f"{address}&view=media&histograms={view.replace(' ', '+')}")
        canvas = page.locator("section.of-name[aria-label='weights'] canvas")
        expect(canvas).to_have_attribute("aria-label", re.compile("^weights at step 1: .* 0 to 2"))
        eventually(lambda: len(mix_of(canvas)) > 2)
        page.get_by_role("button", name="curves").click()
        page.locator("figure.chart").wait_for()


def test_a_view_that_fails_says_so_and_the_others_go_on(
    open_page: OpenPage, tmp_path: Path
) -> None:
    run, attempt = begun(tmp_path, {})
    put_over(attempt, {"loss": [1.0, 2.0]})
    attempt.end()
    is_broken = True

    def answer(route: Any) -> None:
        if is_broken:
            its = {"is_read": True, "problem": "", "names": [None]}
            route.fulfill(json={"runs": {run.path.name: its}})
        else:
            route.continue_()

    with served(tmp_path) as address:
        page = open_page(address)
        page.route("**/api/media?*", answer)
        page.get_by_role("button", name="media").click()
        failed = page.get_by_role("alert").filter(has_text="This cannot be shown: TypeError")
        failed.wait_for()
        page.get_by_role("button", name="curves").click()
        page.locator("figure.chart").wait_for()
        failed.wait_for(state="detached")

        page.get_by_role("button", name="media").click()
        failed.wait_for()
        is_broken = False
        page.get_by_role("button", name="try again").click()
        page.get_by_text("These runs have recorded no images").wait_for()


def test_a_removed_run_does_not_hide_the_curves_of_others(
    open_page: OpenPage, tmp_path: Path
) -> None:
    ids = []
    for _ in range(2):
        run, attempt = begun(tmp_path, {})
        put_over(attempt, {"loss": [1.0, 2.0]})
        attempt.end()
        ids.append(run.path.name)
    with served(tmp_path) as address:
        page = open_page(f"{address}&run={ids[0]}&run={ids[1]}")
        page.get_by_text("2 drawn").wait_for()
        assert main(["rm", "--yes", str(tmp_path / "runs" / ids[0])]) == 0
        page.get_by_text("1 drawn").wait_for()
        page.reload()
        page.get_by_text("1 drawn").wait_for()
        figure = page.locator("figure.chart")
        expect(figure).to_have_attribute("aria-label", re.compile(f"{ids[1]}: last 2"))


def test_the_moments_of_a_run_whose_log_cannot_be_read_say_why(
    open_page: OpenPage, tmp_path: Path
) -> None:
    run, attempt = begun(tmp_path, {})
    put_over(attempt, {"loss": [1.0, 2.0]})
    attempt.end()
    for segment in run.path.rglob("*.nlog"):
        segment.write_bytes(b"not a log")
    with served(tmp_path) as address:
        page = open_page(f"{address}&open={run.path.name}&part=at+a+moment")
        page.get_by_role("alert").get_by_text("its first bytes are wrong").wait_for()
        assert page.get_by_text("after it began").count() == 0
