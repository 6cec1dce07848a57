"""Curves, by what a person does with them and sees."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
from board_asked import begun, put
from board_browser import (
    OpenPage,
    drag,
    expect,
    hover,
    mix_of,
    pixels_of,
    put_over,
    served,
    six_runs,
)
from helpers import eventually
from recorded_runs import RecordedRun

import nightbus as nb

pytestmark = pytest.mark.long

FIRST_COLOUR = "#0072b2"


@pytest.fixture(scope="module")
def odd(folder: Path) -> RecordedRun:
    """A run with NaN, infinity, an exception, and a second attempt from a checkpoint."""
    run = RecordedRun(folder)
    first = run.attempt()
    values = [float(step) for step in range(20)]
    values[5], values[6], values[8] = math.nan, math.inf, -math.inf
    put_over(first, {"odd": values})
    fork = first.fork()
    put_over(first, {"odd": [1000.0, 1000.0]}, 20)  # superseded by the attempt that goes on
    first.add(nb.Fault, "ValueError", "no", "", "training_step")
    first.abandon()
    second = run.attempt(step=20, fork=fork)
    put_over(second, {"odd": [float(step) for step in range(20, 40)]}, 20)
    second.end()
    return run


@pytest.fixture(scope="module")
def runs(folder: Path, odd: RecordedRun) -> dict[tuple[str, float], RecordedRun]:
    return six_runs(folder)


@pytest.fixture
def page(board: str, open_page: OpenPage) -> Any:
    page = open_page(f"{board}&view=curves&where=optimizer == 'Adam'")
    expect(chart(page, "val_loss").locator("canvas")).to_be_visible()
    return page


def chart(page: Any, metric: str) -> Any:
    return page.locator("figure").filter(has=page.locator(f".metric[title='{metric}']"))


def under(page: Any, figure: Any, x: float) -> str:
    """What is said of the values at a place of the chart, once it is."""
    hover(page, figure.locator(".u-over"), x)
    expect(figure.locator(".under")).to_contain_text(re.compile(r"^(step|epoch|.*:)"))
    return str(figure.locator(".under").inner_text())


def step_at(page: Any, figure: Any, x: float) -> int:
    found = re.match(r"step (-?\d+)", under(page, figure, x))
    assert found is not None
    return int(found[1])


def zoomed(page: Any, figure: Any) -> None:
    drag(page, figure.locator(".u-over"), (0.25, 0.5), (0.5, 0.5))
    figure.get_by_role("button", name="whole").wait_for()


def test_each_metric_has_a_chart_with_the_curves_of_all_runs_in_sections_by_prefix(
    page: Any, runs: Any
) -> None:
    assert page.locator(".section summary").all_inner_texts() == ["metrics 1", "train 1"]
    said = under(page, chart(page, "val_loss"), 0.999)

    for (_, rate), run in [*runs.items()][-3:]:
        assert f"{run.path.name} {rate}" in said  # the last value is the rate
    page.get_by_label("find metrics").fill("train")
    chart(page, "val_loss").wait_for(state="detached")
    page.get_by_label("find metrics").fill("nothing")
    page.get_by_text("No metric has “nothing” in its name.").wait_for()


def test_dragging_looks_at_a_part_and_a_double_click_at_all_again(page: Any) -> None:
    figure = chart(page, "val_loss")
    assert step_at(page, figure, 0.99) == 29

    zoomed(page, figure)
    eventually(lambda: (step_at(page, figure, 0.01), step_at(page, figure, 0.99)) == (7, 14))
    figure.locator(".u-over").dblclick()
    figure.get_by_role("button", name="whole").wait_for(state="detached")
    eventually(lambda: step_at(page, figure, 0.99) == 29)


def test_the_keyboard_zooms_moves_and_goes_back(page: Any) -> None:
    figure = chart(page, "val_loss")
    figure.focus()
    page.keyboard.press("+")
    figure.get_by_role("button", name="whole").wait_for()
    eventually(lambda: step_at(page, figure, 0.01) == 7)
    page.keyboard.press("ArrowRight")
    eventually(lambda: step_at(page, figure, 0.01) == 11)
    page.keyboard.press("0")
    figure.get_by_role("button", name="whole").wait_for(state="detached")

    eventually(lambda: step_at(page, figure, 0.01) == 0)


@pytest.mark.parametrize(
    ("choice", "last"),
    [
        ("epochs", "epoch 2.*"),
        ("time", "30.0 s"),
        ("the clock", r"\d{4}-\d\d-\d\d \d\d:\d\d.*"),
        ("steps", "step 29"),
    ],
)
def test_values_are_along_steps_epochs_the_time_or_the_clock(
    page: Any, choice: str, last: str
) -> None:
    page.get_by_label("along").select_option(label=choice)

    figure = chart(page, "val_loss")
    eventually(lambda: re.match(f"{last}: ", under(page, figure, 0.999)))


def test_a_logarithmic_axis_is_chosen_and_stays_after_a_reload(page: Any) -> None:
    plot = chart(page, "val_loss").locator(".plot")
    before = pixels_of(plot, FIRST_COLOUR)
    linear = mix_of(plot)
    page.get_by_label("logarithmic").check()
    eventually(lambda: mix_of(plot) != linear)

    assert before > 0
    page.reload()
    expect(page.get_by_label("logarithmic")).to_be_checked()


def test_smoothing_draws_a_mean_over_the_values(page: Any) -> None:
    figure = chart(page, "val_loss")
    slider = page.get_by_label("smooth")
    last = under(page, figure, 0.999)
    slider.focus()
    slider.press("End")

    page.locator("output", has_text="0.99").wait_for()
    eventually(lambda: under(page, figure, 0.999) != last)
    slider.press("Home")
    page.locator("output", has_text="off").wait_for()
    eventually(lambda: under(page, figure, 0.999) == last)


def test_a_group_has_its_mean_and_the_range_of_its_runs(page: Any) -> None:
    page.get_by_label("condition").fill("optimizer == 'Adam' and lr > 0.005")
    page.get_by_label("group by").select_option("optimizer")
    page.get_by_label("groups that are drawn").get_by_text("optimizer Adam").wait_for()
    figure = chart(page, "val_loss")
    expect(figure).to_have_attribute("aria-label", re.compile("Adam: last 0.055"))

    assert "Adam 0.055 (0.01 to 0.1)" in under(page, figure, 0.999)
    page.get_by_label("mean and range of groups").uncheck()
    page.get_by_label("runs that are drawn").wait_for()
    expect(figure).not_to_have_attribute("aria-label", re.compile("Adam: last"))


def test_nan_infinities_exceptions_and_a_resumed_attempt_are_marked_and_joined(
    board: str, odd: RecordedRun, open_page: OpenPage
) -> None:
    page = open_page(f"{board}&view=curves&run={odd.path.name}")
    figure = chart(page, "odd")
    figure.get_by_text("3 points are NaN or infinite (▲)").wait_for()
    said = figure.locator(".under").inner_text()

    assert "┆ a resumed attempt goes on" in said
    expect(figure).to_have_attribute("aria-label", re.compile("last 39"))
    assert step_at(page, figure, 0.999) == 39
    assert "1000" not in under(page, figure, 0.51)  # what the resumed attempt has superseded
    page.mouse.move(5, 5)
    assert pixels_of(figure.locator(".plot"), FIRST_COLOUR) > 100  # the curve and its marks


def test_a_run_that_is_ticked_is_drawn_and_one_that_is_not_is_not(page: Any, runs: Any) -> None:
    name = runs["Adam", 0.1].path.name
    figure = chart(page, "val_loss")
    expect(figure).to_have_attribute("aria-label", re.compile(f"{name}: last 0.1"))

    page.get_by_label(f"draw {name}").uncheck()
    expect(figure).not_to_have_attribute("aria-label", re.compile(name))
    page.get_by_label(f"draw {name}").check()
    expect(figure).to_have_attribute("aria-label", re.compile(f"{name}: last 0.1"))


def test_runs_without_metrics_say_how_one_is_recorded(open_page: OpenPage, tmp_path: Path) -> None:
    _, attempt = begun(tmp_path, {})
    attempt.end()
    with served(tmp_path) as address:
        page = open_page(address)
        page.get_by_text("These runs have recorded no metrics.").wait_for()


def test_a_single_value_is_seen(open_page: OpenPage, tmp_path: Path) -> None:
    _, attempt = begun(tmp_path, {})
    put(attempt, "once", 0.5)
    attempt.end()
    with served(tmp_path) as address:
        page = open_page(address)
        plot = chart(page, "once").locator(".plot")
        eventually(lambda: pixels_of(plot, FIRST_COLOUR) > 0)


def test_that_not_all_metrics_of_a_run_are_there_is_said(
    open_page: OpenPage, tmp_path: Path
) -> None:
    run = RecordedRun(tmp_path)
    attempt = run.attempt()
    put_over(attempt, {f"norm/{number}": [1.0] for number in range(2001)})
    attempt.end()
    with served(tmp_path) as address:
        page = open_page(address)

        page.get_by_text("at most 2000 metrics are here").wait_for()
        page.get_by_label("find metrics").fill("norm/1999")
        expect(chart(page, "norm/1999").locator("canvas")).to_be_visible()
