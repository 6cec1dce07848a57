"""Media of runs over steps, side by side, by what a person does and sees."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from board_asked import begun
from board_browser import OpenPage, expect, mix_of, pixels_of, served
from helpers import eventually
from PIL import Image
from recorded_runs import SECOND_NS, RecordedRun

import nightbus as nb

pytestmark = pytest.mark.long

COLOURS = ("#ff0000", "#00ff00", "#0000ff")


def a_picture(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (200, 100), colour).save(buffer, "PNG")
    return buffer.getvalue()


def with_media(root: Path) -> RecordedRun:
    """A run with an image, a histogram, a text and a table at three steps."""
    run, attempt = begun(root, {})
    for step, colour in enumerate(COLOURS):
        attempt.now_ns += SECOND_NS
        attempt.place.move(step=10 * step, epoch=step)
        histogram = {"edges": [0, 1, 2, 3, 4], "counts": [1 + 8 * step, 5, 3, 1]}
        table = {"columns": ["word", "score"], "rows": [[f"word {step}", step / 4]]}
        for name, kind, data in (
            ("seen", "image", a_picture(colour)),
            ("weights", "histogram", json.dumps(histogram).encode()),
            ("note", "text", f"said at {10 * step}".encode()),
            ("scores", "table", json.dumps(table).encode()),
        ):
            attempt.add(nb.Media, name, kind, data, ("loggers",), "training_step")
    attempt.end()
    return run


@pytest.fixture(scope="module")
def runs(folder: Path) -> list[RecordedRun]:
    return [with_media(folder) for _ in range(2)]


@pytest.fixture
def page(board: str, open_page: OpenPage) -> Any:
    page = open_page(board, height=1600)
    page.get_by_role("button", name="media").click()
    of(page, "seen").locator("img").first.wait_for()
    return page


def of(page: Any, name: str) -> Any:
    return page.locator(f"section.of-name[aria-label='{name}']")


def slide(page: Any, key: str) -> None:
    slider = page.locator(".slider input")
    slider.focus()
    slider.press(key)


def test_the_media_of_one_name_stand_side_by_side_with_their_runs(
    page: Any, runs: list[RecordedRun]
) -> None:
    for name in ("seen", "weights", "note", "scores"):
        expect(of(page, name).locator("article")).to_have_count(2)
    for run in runs:
        assert of(page, "seen").get_by_text(run.path.name).is_visible()


def test_the_slider_leads_from_step_to_step_and_stays_with_the_last(page: Any) -> None:
    card = of(page, "seen").locator("article").first
    eventually(lambda: pixels_of(card, COLOURS[2]) > 1000)
    page.locator("output", has_text="20 (last)").wait_for()

    slide(page, "ArrowLeft")
    eventually(lambda: pixels_of(card, COLOURS[1]) > 1000)
    of(page, "note").get_by_text("said at 10").first.wait_for()
    of(page, "scores").get_by_role("cell", name="word 1").first.wait_for()
    of(page, "scores").get_by_role("cell", name="0.25").first.wait_for()
    slide(page, "Home")
    eventually(lambda: pixels_of(card, COLOURS[0]) > 1000)
    page.reload()
    of(page, "note").get_by_text("said at 0").first.wait_for()
    slide(page, "End")
    eventually(lambda: pixels_of(of(page, "seen").locator("article").first, COLOURS[2]) > 1000)


def test_histograms_are_a_ridge_a_heat_map_or_bars(page: Any) -> None:
    canvas = of(page, "weights").locator("canvas").first
    expect(canvas).to_have_attribute("aria-label", re.compile("weights at step 20.*3 steps"))
    choice = page.get_by_label("histograms as")
    eventually(lambda: len(mix_of(canvas)) > 10)
    ridge = mix_of(canvas)

    choice.select_option("heat map")
    eventually(lambda: len(mix_of(canvas)) > 10 and mix_of(canvas) != ridge)
    heat = mix_of(canvas)
    choice.select_option("bars")
    expect(canvas).to_have_attribute("aria-label", re.compile("1 steps$"))
    eventually(lambda: len(mix_of(canvas)) > 10 and mix_of(canvas) not in (ridge, heat))
    slide(page, "Home")
    expect(canvas).to_have_attribute("aria-label", re.compile("weights at step 0:"))


def test_a_click_on_a_picture_shows_it_large_and_escape_closes_it(page: Any) -> None:
    page.get_by_label("enlarge seen at step 20").first.click()
    dialog = page.get_by_role("dialog", name="seen at step 20")
    dialog.wait_for()
    assert dialog.locator("img").bounding_box()["width"] > 700

    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")


def test_names_are_found_as_one_types(page: Any) -> None:
    page.get_by_label("find media").fill("not")
    of(page, "seen").wait_for(state="detached")
    assert of(page, "note").is_visible()
    page.get_by_label("find media").fill("xyz")
    page.get_by_text("None has “xyz” in its name.").wait_for()


def test_a_run_that_is_not_ticked_has_no_card(page: Any, runs: list[RecordedRun]) -> None:
    page.get_by_label(f"draw {runs[0].path.name}").uncheck()
    expect(of(page, "seen").locator("article")).to_have_count(1)
    assert of(page, "seen").get_by_text(runs[1].path.name).is_visible()


def test_runs_without_media_say_how_they_are_recorded(open_page: OpenPage, tmp_path: Path) -> None:
    _, attempt = begun(tmp_path, {})
    attempt.end()
    with served(tmp_path) as address:
        page = open_page(f"{address}&view=media")
        page.get_by_text("These runs have recorded no images").wait_for()
