"""Runs compared, by what a person does and sees."""

import re
from typing import Any

import pytest
from board_browser import OpenPage, Runs, drag, expect, hover, mix_of
from helpers import eventually

pytestmark = pytest.mark.long


@pytest.fixture
def page(board: str, open_page: OpenPage) -> Any:
    page = open_page(board, height=1600)
    page.get_by_role("button", name="compare").click()
    expect(parallel(page).locator("canvas")).to_be_visible()
    return page


def parallel(page: Any) -> Any:
    return page.get_by_label("parallel coordinates", exact=True)


def axes(page: Any) -> list[str]:
    found = parallel(page).locator(".axis").all_inner_texts()
    return [re.sub(r"[\s←\u00d7]+$", "", name) for name in found]


def test_the_axes_are_what_differs_and_metrics_and_are_added_moved_and_removed(page: Any) -> None:
    eventually(lambda: axes(page) == ["lr", "optimizer", "val_loss", "train/loss"])
    parallel(page).get_by_label("axes").select_option("steps")
    eventually(lambda: axes(page)[-1] == "steps")
    page.get_by_label("move steps to the left").click()
    eventually(lambda: axes(page)[-2:] == ["steps", "train/loss"])
    page.get_by_label("remove optimizer").click()
    eventually(lambda: axes(page) == ["lr", "val_loss", "steps", "train/loss"])
    page.reload()
    eventually(lambda: axes(page) == ["lr", "val_loss", "steps", "train/loss"])
    page.get_by_role("button", name="as before").last.click()
    eventually(lambda: axes(page) == ["lr", "optimizer", "val_loss", "train/loss"])


def test_a_range_that_is_dragged_along_an_axis_becomes_a_condition_of_the_table(page: Any) -> None:
    canvas = parallel(page).locator("canvas")
    eventually(lambda: len(mix_of(canvas)) > 10)
    left = 60 / canvas.bounding_box()["width"]  # the first axis: lr, by its logarithm
    drag(page, canvas, (left, 0.05), (left, 0.4))

    parallel(page).get_by_text("2 of 6 runs are in the marked ranges").wait_for()
    page.mouse.move(5, 5)
    parallel(page).get_by_role("button", name="only these in the table").click()
    page.get_by_text("2 of 6 runs").first.wait_for()
    assert re.match("lr >= .* and lr <= ", page.get_by_label("condition").input_value())


def test_a_finger_marks_a_range_along_an_axis_and_moves_the_page_between_them(
    board: str, open_page: OpenPage
) -> None:
    page = open_page(board, height=600)  # less than there is to see
    page.get_by_role("button", name="compare").click()
    canvas = parallel(page).locator("canvas")
    eventually(lambda: len(mix_of(canvas)) > 10)
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    finger = page.context.new_cdp_session(page)

    def draw(x: float, low: float, high: float) -> None:
        """From one height to another, as shares of the canvas's."""
        for step in range(9):
            place = {"x": x, "y": box["y"] + (low + (high - low) * step / 8) * box["height"]}
            kind = "touchMove" if step else "touchStart"
            finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [place]})
        finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    draw(box["x"] + 60, 0.05, 0.4)  # the first axis
    parallel(page).get_by_text("2 of 6 runs are in the marked ranges").wait_for()
    assert canvas.bounding_box()["y"] == box["y"]

    draw(box["x"] + 60 + (box["width"] - 120) / 6, 0.4, 0.05)  # half-way to the second
    eventually(lambda: canvas.bounding_box()["y"] < box["y"])
    parallel(page).get_by_text("2 of 6 runs are in the marked ranges").wait_for()


def test_a_tap_on_a_line_opens_its_run(page: Any) -> None:
    canvas = parallel(page).locator("canvas")
    eventually(lambda: len(mix_of(canvas)) > 10)
    box = canvas.bounding_box()
    finger = page.context.new_cdp_session(page)
    on_the_first_axis = {"x": box["x"] + 63, "y": box["y"] + 26}  # where both of 0.1 begin

    touch = {"type": "touchStart", "touchPoints": [on_the_first_axis]}
    finger.send("Input.dispatchTouchEvent", touch)
    finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    page.get_by_role("row", name="lr 0.1").wait_for()


def test_a_click_on_a_line_opens_its_run(page: Any, runs: Runs) -> None:
    canvas = parallel(page).locator("canvas")
    eventually(lambda: len(mix_of(canvas)) > 10)
    hover(page, canvas, 60 / canvas.bounding_box()["width"] + 0.01, 26 / 340)
    parallel(page).get_by_text(re.compile(r"recorded-\w+: lr 0.1")).wait_for()
    page.mouse.down()
    page.mouse.up()
    page.get_by_role("row", name="lr 0.1").wait_for()


def test_one_name_against_another_has_a_point_a_run_that_opens_it(page: Any) -> None:
    part = page.get_by_label("one against another", exact=True)
    across, up = part.locator("label select").all()
    across.select_option("lr")
    up.select_option("val_loss")
    canvas = part.locator("canvas")
    expect(canvas).to_have_attribute("aria-label", re.compile("val_loss against lr of 6 runs"))
    width = canvas.bounding_box()["width"]
    hover(page, canvas, (width - 20) / width, 26 / 340)  # the largest of both
    part.get_by_text(re.compile("lr 0.1, val_loss 0.1")).wait_for()

    page.mouse.down()
    page.mouse.up()
    page.get_by_role("row", name="lr 0.1").wait_for()


def test_two_runs_are_compared_in_what_they_were_and_first_did(page: Any, runs: Runs) -> None:
    two = page.get_by_label("two runs", exact=True)
    left, right = (runs[each].path.name for each in (("SGD", 0.1), ("Adam", 0.1)))
    page.get_by_label(f"draw {left}").check()
    two.get_by_label("compare").select_option(label=left)
    two.get_by_label("and").select_option(label=right)
    two.get_by_role("row", name="optimizer SGD Adam").wait_for()
    two.get_by_role("row", name=re.compile("^val_loss 0.1 .* 0.1")).wait_for()
    two.get_by_role("row", name=re.compile("^lr")).wait_for(state="detached")

    two.get_by_role("button", name="find the first event that differs").click()
    two.get_by_text(re.compile("They differ after|They did the same")).wait_for()


def test_values_by_which_runs_are_coloured_colour_the_lines(page: Any) -> None:
    canvas = parallel(page).locator("canvas")
    eventually(lambda: len(mix_of(canvas)) > 10)
    before = mix_of(canvas)
    page.get_by_label("colour by").select_option("optimizer")
    parallel(page).get_by_text("colour by optimizer").wait_for()
    eventually(lambda: mix_of(canvas) != before)
