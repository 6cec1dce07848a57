"""Runs of other processes that go on, end, are killed and resumed while one looks."""

import re
from pathlib import Path
from typing import Any

import pytest
from board_asked import begun
from board_browser import OpenPage, expect, going_on, put_over, served
from steered_runs import Training, training

from nightbus.bus.control.protocol import Request
from nightbus.bus.inspection.control_client import send

pytestmark = pytest.mark.long


def row(page: Any, run: Training) -> Any:
    """The row of a run."""
    box = page.get_by_label(f"draw {run.run.info.id}", exact=True)
    return page.locator(".runs tbody tr").filter(has=box)


def test_a_training_process_appears_moves_and_ends_on_an_open_page(
    open_page: OpenPage, tmp_path: Path
) -> None:
    (tmp_path / "runs").mkdir()
    with served(tmp_path) as address:
        page = open_page(address)
        page.get_by_text("There are no runs in").wait_for()
        with training(tmp_path) as run:
            its = row(page, run)
            expect(its.locator(".ending")).to_have_text("running")
            page.get_by_text("live: 1 run goes on").wait_for()
            page.get_by_role("button", name="none", exact=True).click()
            page.get_by_text("live: 1 run goes on").wait_for()  # though nobody looks at it
            its.get_by_role("checkbox").check()
            figure = page.locator("figure").filter(has_text="train_loss")
            expect(figure).to_have_attribute("aria-label", re.compile("last [0-9.]+"))
            before = figure.get_attribute("aria-label")
            expect(figure).not_to_have_attribute("aria-label", before)  # it moves on

            page.get_by_role("link", name=run.run.info.id).first.click()
            page.get_by_text("This board only reads").wait_for()
            send(run.run, Request("stop", "seen enough"))
            expect(its.locator(".ending")).to_have_text("stopped")
            page.get_by_text("seen enough").first.wait_for()


def test_a_run_that_is_killed_is_shown_as_dead_and_as_one_when_it_is_resumed(
    open_page: OpenPage, tmp_path: Path
) -> None:
    (tmp_path / "runs").mkdir()
    with served(tmp_path) as address:
        page = open_page(address)
        with training(tmp_path) as run:
            its = row(page, run)
            expect(its.locator(".ending")).to_have_text("running")
            send(run.run, Request("checkpoint"))
            run.kill()
            expect(its.locator(".ending")).to_have_text("killed")
            expect(page.get_by_role("status").first).to_have_text("live")

        with training(tmp_path, "--resume") as again:
            assert again.run.path == run.run.path
            expect(its.locator(".ending")).to_have_text("running")
            figure = page.locator("figure").filter(has_text="train_loss")
            page.mouse.move(5, 5)
            figure.get_by_text("┆ a resumed attempt goes on").wait_for()
            page.get_by_role("link", name=run.run.info.id).first.click()
            attempts = page.locator("details.part", has_text="attempts")
            expect(attempts.locator("tbody tr")).to_have_count(2)
            first, second = attempts.locator("tbody tr").all_inner_texts()
            assert "killed" in first
            assert "running" in second


def test_what_a_run_records_is_seen_while_it_goes_on_without_a_rest(
    open_page: OpenPage, tmp_path: Path
) -> None:
    with served(tmp_path) as address, going_on(tmp_path) as (run, is_going_on):
        pages = [open_page(f"{address}&{view}") for view in ("view=curves", "view=media")]
        pages += [open_page(f"{address}&open={run.path.name}&part=at+a+moment")]
        pages[0].locator("figure").filter(has_text="late").wait_for()
        pages[1].get_by_text(re.compile("words [0-9]+")).wait_for()
        console = pages[2].locator("section[aria-label='console']")
        console.get_by_text(re.compile("line [0-9]+")).first.wait_for()
        assert is_going_on()


def test_a_page_that_is_left_open_does_not_grow_with_what_it_was_told(
    open_page: OpenPage, tmp_path: Path
) -> None:
    _, attempt = begun(tmp_path, {})
    values = 4000

    with served(tmp_path) as address:
        page = open_page(address)
        session = page.context.new_cdp_session(page)

        def heap() -> float:
            for _ in range(3):
                session.send("HeapProfiler.collectGarbage")
            return float(session.send("Runtime.getHeapUsage")["usedSize"])

        def feed(batches: range) -> None:
            """Record many values at once, again and again; each batch is seen before the next."""
            for number in batches:
                its = [number + at / values for at in range(1, values)] + [float(number)]
                put_over(attempt, {"loss": its}, number * values)
                page.wait_for_selector(f"figure[aria-label*=': last {number}. Keys']")

        feed(range(1, 10))
        before = heap()
        feed(range(10, 40))
        after = heap()
        attempt.end()

    assert after < before * 1.5 + 2e6  # 120,000 values more are 1 MB of numbers alone
