"""The table of runs, by what a person does with it."""

import re
from pathlib import Path
from typing import Any

import pytest
from board_browser import OPTIMIZERS, RATES, OpenPage, Runs, expect, served

from nightbus.__main__ import main

pytestmark = pytest.mark.long


@pytest.fixture
def page(board: str, runs: Runs, open_page: OpenPage) -> Any:
    page = open_page(board)
    page.get_by_text("6 runs").wait_for()
    return page


def names(runs: Runs, *those: tuple[str, float]) -> list[str]:
    return [runs[each].path.name for each in those]


def shows(page: Any, expected: list[str]) -> None:
    """Wait until the table has these runs, in this order."""
    expect(page.locator(".runs tbody th[scope=row] a")).to_have_text(expected)


def cells(page: Any, column: str) -> list[str]:
    """What stands in a column."""
    heads = page.locator(".runs thead th").all_inner_texts()
    found = [at for at, head in enumerate(heads) if re.fullmatch(rf"{column}( [▲▼])?", head)]
    rows = page.locator(".runs tbody tr:has(th a)").all()
    return [row.locator("td, th").nth(found[-1]).inner_text() for row in rows]


def test_a_page_that_opens_asks_for_its_rows_once(
    board: str, runs: Runs, open_page: OpenPage
) -> None:
    page = open_page("about:blank")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.partition("/api/")[2]))
    with page.expect_request("**/api/live?*"):
        page.goto(board)
    page.get_by_label(re.compile("last")).first.wait_for()

    assert [each.partition("?")[0] for each in asked if each][:2] == ["proof", "table"]
    assert sum(each.startswith("table?") for each in asked) == 1


def test_a_condition_in_the_address_that_is_wrong_is_said_and_the_page_goes_on(
    board: str, runs: Runs, open_page: OpenPage
) -> None:
    page = open_page("about:blank")
    with page.expect_request("**/api/live?*"):
        page.goto(f"{board}&where=lr+<")
        page.get_by_role("alert").wait_for()
    page.get_by_label("condition").fill("lr < 0.05")

    page.get_by_text("4 of 6 runs").wait_for()


def test_a_click_on_a_head_sorts_a_second_the_other_way_and_a_third_by_age(
    page: Any, runs: Runs
) -> None:
    head = page.get_by_role("button", name=re.compile("^lr"))
    newest = names(runs, *[(kind, rate) for kind in OPTIMIZERS for rate in RATES])[::-1]
    shows(page, newest)

    head.click()
    page.get_by_role("columnheader", name="lr ▲").wait_for()
    assert cells(page, "lr") == ["0.001", "0.001", "0.01", "0.01", "0.1", "0.1"]
    head.click()
    page.get_by_role("columnheader", name="lr ▼").wait_for()
    assert cells(page, "lr") == ["0.1", "0.1", "0.01", "0.01", "0.001", "0.001"]
    head.click()
    shows(page, newest)


def test_a_condition_leaves_those_for_which_it_holds(page: Any, runs: Runs) -> None:
    field = page.get_by_label("condition")
    field.fill("lr < 0.05 and optimizer == 'Adam'")
    shows(page, names(runs, ("Adam", 0.001), ("Adam", 0.01)))

    field.fill("learning_rate < 1")
    page.get_by_role("alert").get_by_text("learning_rate").wait_for()
    field.fill("lr > 7")
    page.get_by_text("None of 6 runs is like this.").wait_for()
    assert page.get_by_role("alert").count() == 0
    page.get_by_role("button", name="show all").click()
    page.get_by_text(re.compile("^6 runs")).wait_for()
    assert field.input_value() == ""


def test_columns_are_chosen_from_all_that_runs_have_and_given_back(page: Any) -> None:
    page.locator("summary", has_text="columns").click()
    page.get_by_label("find columns").fill("host")
    page.locator(".choices").get_by_label("host").check()
    page.get_by_label("find columns").fill("fn")
    page.locator(".choices").get_by_label("fn").check()  # before the first is answered
    page.locator(".runs thead").get_by_text("host").wait_for()
    page.locator(".runs thead").get_by_text("fn").wait_for()
    assert set(cells(page, "host")) == {"here"}
    page.get_by_label("find columns").fill("optimizer")
    page.locator(".choices").get_by_label("optimizer").uncheck()
    page.locator(".runs thead").get_by_text("optimizer").wait_for(state="detached")

    page.get_by_role("button", name="as before").click()
    page.locator(".runs thead").get_by_text("optimizer").wait_for()
    assert page.locator(".runs thead").get_by_text("host").count() == 0
    page.keyboard.press("Escape")
    assert not page.get_by_label("find columns").is_visible()


def test_groups_have_a_head_with_means_are_closed_and_ticked_as_one(page: Any, runs: Runs) -> None:
    page.get_by_label("group by").select_option("lr")
    head = page.locator("tr.group", has_text="0.01 2 runs")
    head.wait_for()
    assert "⌀ 0.01" in head.inner_text()

    head.get_by_role("button").click()
    page.get_by_label(f"draw {runs['SGD', 0.01].path.name}").wait_for(state="detached")
    page.get_by_role("button", name="none", exact=True).click()
    page.get_by_label("draw the runs with lr 0.01").check()
    legend = page.get_by_label("groups that are drawn")
    legend.get_by_text("lr 0.01").wait_for()
    assert legend.locator("li").count() == 1
    assert page.get_by_text("2 drawn").is_visible()
    head.get_by_role("button").click()
    assert page.get_by_label(f"draw {runs['SGD', 0.01].path.name}").is_checked()


def test_runs_have_the_colour_of_a_hyperparameter_and_the_legend_says_which(
    page: Any, runs: Runs
) -> None:
    def colours(rate: float) -> set[str]:
        swatches = [
            page.locator("tr", has=page.get_by_label(f"draw {name}")).locator(".swatch line")
            for name in names(runs, *[(kind, rate) for kind in OPTIMIZERS])
        ]
        return {swatch.get_attribute("stroke") for swatch in swatches}

    page.get_by_label("colour by").select_option("lr")
    legend = page.locator(".palette").first
    legend.get_by_text("colour by lr").wait_for()

    assert "0.001" in legend.inner_text()
    assert [len(colours(rate)) for rate in RATES] == [1, 1, 1]
    assert len(set().union(*[colours(rate) for rate in RATES])) == 3
    page.get_by_label("colour by").select_option("optimizer")
    legend.get_by_text("Adam").wait_for()
    assert len(colours(0.1)) == 2


def test_each_row_has_a_small_curve_of_the_metric_that_is_named(page: Any) -> None:
    drawn = page.locator(".runs svg.spark path")
    expect(drawn).to_have_count(6)
    first = drawn.first.get_attribute("d")
    assert first is not None
    assert len(first) > 50

    page.get_by_label("small curve").select_option("train/loss")
    page.locator(".runs thead th[title='train/loss']").wait_for()
    expect(drawn).to_have_count(6)
    page.get_by_label("small curve").select_option("")
    page.locator(".runs svg.spark").first.wait_for(state="detached")


def test_what_is_chosen_is_in_the_address_and_there_again_after_a_reload(
    page: Any, runs: Runs
) -> None:
    page.get_by_role("button", name=re.compile("^lr")).click()
    page.get_by_role("columnheader", name="lr ▲").wait_for()
    page.get_by_role("button", name="none", exact=True).click()
    chosen = runs["Adam", 0.1].path.name
    page.get_by_label(f"draw {chosen}").check()
    page.get_by_label("condition").fill("lr > 0.005")
    page.get_by_text("4 of 6 runs").wait_for()
    address = page.url

    page.reload()
    page.get_by_text("4 of 6 runs").wait_for()
    page.get_by_role("columnheader", name="lr ▲").wait_for()
    assert page.get_by_label(f"draw {chosen}").is_checked()
    assert page.get_by_text("1 drawn").is_visible()
    assert chosen in address

    page.get_by_role("link", name=chosen).first.click()
    page.get_by_role("heading", name=chosen).wait_for()
    page.go_back()
    page.get_by_label("runs that are drawn").wait_for()
    assert page.url == address


def test_a_run_that_is_put_away_leaves_the_table_and_comes_back(
    page: Any, runs: Runs, board: str, open_page: OpenPage
) -> None:
    path = runs["SGD", 0.1].path
    box = page.get_by_label(f"draw {path.name}")
    box.wait_for()

    main(["archive", str(path)])
    box.wait_for(state="detached")
    page.get_by_text("5 runs").wait_for()
    main(["archive", "--undo", str(path)])
    box.wait_for()


def test_the_keyboard_alone_filters_ticks_sorts_and_opens(page: Any, runs: Runs) -> None:
    name = runs["Adam", 0.001].path.name
    page.keyboard.press("/")
    condition = page.get_by_label("condition")
    expect(condition).to_be_focused()
    page.keyboard.type("lr == 0.001")
    expect(condition).to_have_value("lr == 0.001")
    shows(page, names(runs, ("Adam", 0.001), ("SGD", 0.001)))

    def tab_to(locator: Any) -> None:
        for _ in range(40):
            if locator.evaluate("place => place === document.activeElement"):
                return
            page.keyboard.press("Tab")
        raise AssertionError("it is not reached by Tab")

    head = page.get_by_role("button", name="val_loss", exact=False).first
    tab_to(head)
    page.keyboard.press("Enter")
    page.get_by_role("columnheader", name="val_loss ▲").wait_for()
    box = page.get_by_label(f"draw {name}")
    tab_to(box)
    before = box.is_checked()
    page.keyboard.press("Space")
    assert box.is_checked() is not before
    tab_to(page.get_by_role("link", name=name).first)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name=name).wait_for()


def test_on_a_narrow_screen_table_curves_and_a_run_follow_one_another(
    board: str, runs: Runs, open_page: OpenPage
) -> None:
    name = runs["SGD", 0.1].path.name
    page = open_page(board, width=390)
    page.get_by_text("6 runs").wait_for()
    assert not page.get_by_label("curves", exact=True).is_visible()

    page.get_by_role("button", name="curves", exact=True).click()
    page.get_by_label("curves", exact=True).wait_for()
    assert not page.get_by_label("condition").is_visible()
    page.get_by_role("button", name="runs", exact=True).click()
    page.get_by_role("link", name=name).first.click()
    page.get_by_role("heading", name=name).wait_for()
    page.get_by_role("button", name="← all runs").click()
    page.get_by_label("condition").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_an_empty_folder_says_how_a_run_gets_into_it(open_page: OpenPage, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    with served(tmp_path) as address:
        page = open_page(address)
        page.get_by_text("There are no runs in").wait_for()
        page.get_by_text("A run appears here as soon as it begins").wait_for()
        page.get_by_text("Choose runs in the table to see their curves here.").wait_for()
        page.get_by_role("button", name="media").click()
        page.get_by_text("Choose runs in the table to see what they recorded here.").wait_for()
        page.get_by_role("button", name="compare").click()
        page.get_by_text("Tick two runs in the table to compare them.").wait_for()
