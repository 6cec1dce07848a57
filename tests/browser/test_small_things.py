"""What one does in passing: other tabs, pasted addresses, groups and colours by odd values."""

import math
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from board_asked import begun, recorded
from board_browser import (
    OpenPage,
    Runs,
    drag,
    expect,
    hover,
    mix_of,
    pixels_of,
    put_over,
    served,
)
from helpers import eventually

from nightbus.sinks.board.export import exported
from nightbus.sinks.board.shelf import Shelf

pytestmark = pytest.mark.long

FIRST_COLOUR = "#0072b2"
# As browsers do that are told of another address too often.
REFUSING = """
const replace = history.replaceState.bind(history);
let refused = 0;
history.replaceState = (...what) => {
  if (refused++ < 20) throw new DOMException("too often", "SecurityError");
  replace(...what);
};
"""


def test_an_address_that_is_pasted_over_an_open_page_is_opened(
    open_page: OpenPage, tmp_path: Path
) -> None:
    recorded(tmp_path, 0.1, 0.5)
    with served(tmp_path) as address:
        page = open_page(f"{address[:-3]}not")
        page.get_by_text("does not know the board's token").wait_for()
        page.goto(address)  # the browser loads nothing: only what is behind the # differs
        page.get_by_text("1 run").wait_for()
        assert "token" not in page.url


def test_a_run_is_opened_in_a_tab_of_its_own_with_the_keys_for_it(
    board: str, runs: Runs, open_page: OpenPage
) -> None:
    name = runs["SGD", 0.1].path.name
    page = open_page(f"{board}&where=lr+%3E+0.05")
    link = page.get_by_role("link", name=name).first
    with page.context.expect_page() as opened:
        link.click(modifiers=["Control"])
    opened.value.get_by_role("heading", name=name).wait_for()
    assert opened.value.get_by_label("condition").input_value() == "lr > 0.05"
    page.get_by_label("runs that are drawn").wait_for()


def test_the_title_says_which_run_is_open(board: str, runs: Runs, open_page: OpenPage) -> None:
    name = runs["SGD", 0.1].path.name
    page = open_page(board)
    expect(page).to_have_title(re.compile("^(?!recorded).* · nightbus"))
    page.get_by_role("link", name=name).first.click()
    expect(page).to_have_title(f"{name} · nightbus")


def test_the_address_follows_though_a_browser_refuses_some_changes(
    board: str, open_page: OpenPage
) -> None:
    page = open_page("about:blank")
    page.goto(board)
    page.get_by_text("6 runs").wait_for()
    page.add_init_script(REFUSING)
    page.reload()
    smooth = page.get_by_label("smooth")
    smooth.focus()
    for _ in range(30):
        smooth.press("ArrowRight")
    expect(page).to_have_url(re.compile(r"smooth=0\.3\b"))


def test_the_choice_of_columns_closes_when_one_clicks_elsewhere(
    board: str, open_page: OpenPage
) -> None:
    page = open_page(board)
    page.locator("summary", has_text="columns").click()
    find = page.get_by_label("find columns")
    expect(find).to_be_focused()
    page.get_by_text("hyperparameters", exact=True).last.wait_for()
    page.get_by_role("heading", name="nightbus").click()
    expect(find).to_be_hidden()


def test_the_page_says_by_which_command_its_runs_are_shared(
    board: str, folder: Path, open_page: OpenPage
) -> None:
    page = open_page(f"{board}&where=optimizer+==+%27Adam%27")
    page.locator("summary", has_text="share").click()
    command = page.locator("pre.shell")
    command.wait_for()
    words = shlex.split(command.inner_text())
    assert words[:2] == ["nightbus", "board"]
    assert words[2:] == [str(folder), "--where", "optimizer == 'Adam'", "--export", "board.html"]


def test_values_that_look_alike_are_groups_of_their_own(
    open_page: OpenPage, tmp_path: Path
) -> None:
    for rate in (0.123456001, 0.123456002):
        recorded(tmp_path, rate, 1.0, 2.0)
    with served(tmp_path) as address:
        page = open_page(f"{address}&group=lr")
        expect(page.get_by_label("groups that are drawn").locator("li")).to_have_count(2)


def test_one_infinite_value_does_not_take_the_scale_from_the_colours_of_others(
    open_page: OpenPage, tmp_path: Path
) -> None:
    for number in range(12):
        recorded(tmp_path, 0.1, float(number))
    recorded(tmp_path, 0.1, math.inf)
    with served(tmp_path) as address:
        page = open_page(f"{address}&colour=val_loss")
        page.locator(".palette .scale").wait_for()


def test_the_runs_of_a_marked_range_are_drawn_in_an_exported_page_too(
    folder: Path, runs: Runs, open_page: OpenPage, tmp_path: Path
) -> None:
    file = tmp_path / "board.html"
    file.write_bytes(exported(Shelf(folder)))
    page = open_page(f"{file.as_uri()}#view=compare", height=1600)
    part = page.get_by_label("parallel coordinates", exact=True)
    canvas = part.locator("canvas")
    eventually(lambda: len(mix_of(canvas)) > 10)
    left = 60 / canvas.bounding_box()["width"]
    drag(page, canvas, (left, 0.05), (left, 0.4))
    part.get_by_text("2 of 6 runs are in the marked ranges").wait_for()
    page.mouse.move(5, 5)
    part.get_by_role("button", name="draw these").click()

    page.get_by_text("2 drawn").wait_for()
    expect(page.get_by_label(f"draw {runs['SGD', 0.1].path.name}")).to_be_checked()
    assert part.get_by_role("button", name="only these in the table").count() == 0


def test_a_run_has_curves_and_media_of_its_own(board: str, runs: Runs, open_page: OpenPage) -> None:
    name = runs["SGD", 0.01].path.name
    page = open_page(f"{board}&run=")
    page.get_by_role("link", name=name).first.click()
    one = page.get_by_label("one run", exact=True)
    one.get_by_role("button", name="curves").click()
    figure = one.locator("figure").filter(has_text="val_loss")
    expect(figure).to_have_attribute("aria-label", re.compile(f"{name}: last 0.01"))
    one.get_by_role("button", name="media").click()
    one.get_by_text("These runs have recorded no images").wait_for()
    page.go_back()
    figure.wait_for()
    page.reload()
    figure.wait_for()
    one.get_by_role("button", name="as a whole").click()
    one.get_by_role("row", name="lr 0.01").wait_for()


def test_a_part_of_a_chart_is_moved_by_buttons_and_by_the_wheel(
    board: str, open_page: OpenPage
) -> None:
    page = open_page(f"{board}&view=curves")
    figure = page.locator("figure").filter(has_text="val_loss")
    expect(figure.locator("canvas")).to_be_visible()

    def first_step() -> int:
        hover(page, figure.locator(".u-over"), 0.01)
        found = re.match(r"step (-?\d+)", figure.locator(".under").inner_text())
        return int(found[1]) if found else -1

    drag(page, figure.locator(".u-over"), (0.25, 0.5), (0.5, 0.5))
    eventually(lambda: first_step() == 7)
    figure.get_by_role("button", name="later part of val_loss").click()
    eventually(lambda: first_step() == 11)
    figure.get_by_role("button", name="earlier part of val_loss").click()
    eventually(lambda: first_step() == 7)
    page.mouse.wheel(figure.locator(".plot").bounding_box()["width"], 0)
    eventually(lambda: first_step() > 11)


def test_of_many_runs_those_near_the_pointer_are_named(open_page: OpenPage, tmp_path: Path) -> None:
    names = []
    for number in range(12):
        run, attempt = begun(tmp_path, {})
        put_over(attempt, {"loss": [float(number)] * 5})
        attempt.end()
        names.append(run.path.name)
    with served(tmp_path) as address:
        page = open_page(f"{address}&view=curves" + "".join(f"&run={name}" for name in names))
        figure = page.locator("figure.chart")
        expect(figure).to_have_attribute("aria-label", re.compile("last 0"))
        under: Any = figure.locator(".under")
        for share, name in ((0.02, names[-1]), (0.98, names[0])):
            hover(page, figure.locator(".u-over"), 0.5, share)
            expect(under.locator(".near")).to_contain_text(name)
            expect(under.locator(".value").first).to_contain_text(name)
        expect(under).to_contain_text("and 4 more")


def test_the_table_is_made_wider_by_the_mouse_and_the_keyboard(
    board: str, runs: Runs, open_page: OpenPage
) -> None:
    page = open_page(board)
    page.get_by_text("6 runs").wait_for()
    edge = page.get_by_role("separator", name="width of the table")

    def width() -> float:
        return float(page.get_by_role("region", name="runs", exact=True).bounding_box()["width"])

    before, box = width(), edge.bounding_box()
    page.mouse.move(box["x"] + 3, 500)
    page.mouse.down()
    page.mouse.move(box["x"] + 303, 500, steps=3)
    page.mouse.up()
    eventually(lambda: abs(width() - before - 300) < 5)
    page.reload()
    page.get_by_text("6 runs").wait_for()
    eventually(lambda: abs(width() - before - 300) < 5)
    edge.focus()
    edge.press("ArrowLeft")
    eventually(lambda: width() < before + 290)
    edge.dblclick()
    eventually(lambda: abs(width() - before) < 2)


def test_groups_have_the_colours_of_their_means_in_the_table_too(
    board: str, open_page: OpenPage
) -> None:
    page = open_page(f"{board}&group=optimizer&colour=lr")
    drawn = page.get_by_label("groups that are drawn").locator("line")
    heads = page.locator(".runs tr.group svg.swatch line")
    expect(drawn).to_have_count(2)
    expect(heads).to_have_count(2)

    colours = [line.get_attribute("stroke") for line in drawn.all()]
    assert [line.get_attribute("stroke") for line in heads.all()] == colours
    assert len(set(colours)) == 2
    page.get_by_label("mean and range of groups").uncheck()
    expect(heads).to_have_count(0)


def test_all_runs_of_a_condition_are_drawn_by_one_button(
    board: str, runs: Runs, open_page: OpenPage
) -> None:
    page = open_page(board)
    page.get_by_role("button", name="draw all").click()
    page.get_by_text("6 drawn").wait_for()
    page.get_by_label("condition").fill("lr > 0.05")
    page.get_by_text("2 of 6 runs").wait_for()
    page.get_by_role("button", name="draw all").click()
    page.get_by_text("2 drawn").wait_for()


def test_runs_are_sorted_by_how_they_ended_and_by_their_names(
    open_page: OpenPage, tmp_path: Path
) -> None:
    done = recorded(tmp_path, 0.1, 1.0).path.name
    goes_on, attempt = begun(tmp_path, {"lr": 0.2})
    put_over(attempt, {"val_loss": [1.0]})
    with served(tmp_path) as address:
        page = open_page(address)
        links = page.locator(".runs tbody th[scope=row] a")
        page.get_by_role("button", name="ended").click()
        expect(links).to_have_text([done, goes_on.path.name])
        page.get_by_role("button", name="ended").click()
        expect(links).to_have_text([goes_on.path.name, done])
        page.get_by_role("button", name="run", exact=True).click()
        expect(links).to_have_text(sorted([done, goes_on.path.name]))


def test_a_chart_is_made_large_and_small_again(board: str, open_page: OpenPage) -> None:
    page = open_page(f"{board}&view=curves")
    figure = page.locator("figure").filter(has_text="val_loss")
    canvas = figure.locator("canvas")
    expect(canvas).to_be_visible()

    def tall() -> float:
        return float(eventually(canvas.bounding_box)["height"])

    before = tall()
    button = figure.get_by_label("val_loss as large as can be")
    button.click()
    eventually(lambda: tall() > 2 * before)
    hover(page, figure.locator(".u-over"), 0.99)
    expect(figure.locator(".under")).to_contain_text("step 29")
    button.click()
    eventually(lambda: tall() == before)


def test_the_slash_leads_to_the_condition_from_a_run_on_a_narrow_screen(
    board: str, runs: Runs, open_page: OpenPage
) -> None:
    name = runs["SGD", 0.1].path.name
    page = open_page(f"{board}&open={name}", width=390)
    page.get_by_role("heading", name=name).wait_for()
    page.keyboard.press("/")
    expect(page.get_by_label("condition")).to_be_focused()


def test_outliers_are_left_out_and_marked_when_one_asks_for_it(
    open_page: OpenPage, tmp_path: Path
) -> None:
    _, attempt = begun(tmp_path, {})
    values = [1.0 + step % 7 / 10 for step in range(100)]
    values[50] = 1e6
    put_over(attempt, {"loss": values})
    attempt.end()
    with served(tmp_path) as address:
        page = open_page(f"{address}&view=curves")
        figure = page.locator("figure.chart")
        plot = figure.locator(".plot")
        eventually(lambda: len(mix_of(plot)) > 10)
        flat = pixels_of(plot, FIRST_COLOUR)
        page.get_by_label("leave outliers out").check()
        figure.get_by_text("outliers are left out in 1 place (△)").wait_for()
        eventually(lambda: pixels_of(plot, FIRST_COLOUR) > 2 * flat)
        page.reload()
        figure.get_by_text("outliers are left out in 1 place (△)").wait_for()


def test_the_legend_of_many_runs_is_short_until_one_asks_for_all(
    open_page: OpenPage, tmp_path: Path
) -> None:
    for _ in range(15):
        recorded(tmp_path, 0.1, 1.0)
    with served(tmp_path) as address:
        page = open_page(address)
        page.get_by_role("button", name="draw all").click()
        page.get_by_text("15 drawn").wait_for()
        links = page.get_by_label("runs that are drawn").get_by_role("link")
        expect(links).to_have_count(12)
        page.get_by_role("button", name="3 more").click()
        expect(links).to_have_count(15)


def test_who_types_slowly_loses_no_letter(board: str, open_page: OpenPage) -> None:
    page = open_page(board)
    field = page.get_by_label("condition")
    field.press_sequentially("lr < 0.05", delay=260)
    page.get_by_text("4 of 6 runs").wait_for()
    expect(field).to_have_value("lr < 0.05")
