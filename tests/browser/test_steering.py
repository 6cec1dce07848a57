"""Runs that are steered by the page's buttons, each with its answer."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from board_browser import OpenPage, expect, port_of, served
from helpers import eventually
from steered_runs import Training, training

pytestmark = pytest.mark.long

COMMANDED = Path(__file__).parents[1] / "commanded_process.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Training]:
    with training(tmp_path_factory.mktemp("steered"), program=COMMANDED) as started:
        yield started


@pytest.fixture
def steer(run: Training, open_page: OpenPage) -> Iterator[Any]:
    with served(run.run.path.parent, steers=True) as address:
        page = open_page(f"{address}&open={run.run.path.name}")
        yield page.get_by_label("steer this run")


def press(steer: Any, verb: str, said: str) -> None:
    steer.get_by_role("button", name=verb, exact=True).click()
    expect(steer.locator(".answer")).to_have_text(re.compile(f"^{verb}: .*{said}"))


def test_it_pauses_and_resumes(steer: Any, run: Training) -> None:
    press(steer, "pause", "")
    steer.get_by_text(re.compile("^paused, epoch")).wait_for()
    assert run.step() == run.step()
    assert steer.get_by_role("button", name="pause", exact=True).count() == 0
    press(steer, "resume", "")
    steer.get_by_text(re.compile("^running, epoch")).wait_for()
    before = run.step()
    eventually(lambda: run.step() > before)


def test_it_saves_a_checkpoint_that_the_page_lists(steer: Any, run: Training) -> None:
    press(steer, "checkpoint", "")
    saved = steer.page.locator("details.part", has_text="checkpoints").first
    expect(saved.locator("tbody tr").last).to_contain_text("yes")


def test_it_says_why_it_cannot_validate(steer: Any) -> None:
    steer.get_by_role("button", name="validate", exact=True).click()
    expect(steer.locator(".answer")).to_have_text(re.compile("^validate: .+"))


def test_a_command_of_one_s_own_has_its_answer_and_a_wrong_one_its_reason(steer: Any) -> None:
    steer.locator("summary").click()
    answer = steer.locator(".answer")
    steer.get_by_label("command").fill("tests.SetRate")
    steer.get_by_label("to").fill("rates")
    steer.get_by_label("fields").fill("rate 0.5")
    steer.get_by_role("button", name="send").click()
    steer.get_by_text("the fields are not a JSON object").wait_for()
    steer.get_by_label("fields").fill('{"rate": 0.5}')
    steer.get_by_label("fields").press("Enter")
    expect(answer).to_have_text(re.compile(r"^tests\.SetRate: .*0\.1"))
    assert steer.get_by_text("the fields are not a JSON object").count() == 0
    steer.get_by_label("command").fill("tests.Unknown")
    steer.get_by_role("button", name="send").click()
    expect(answer).to_have_text(re.compile(r"^tests\.Unknown: .+"))


def test_a_page_that_is_open_steers_a_board_that_was_started_again(
    run: Training, open_page: OpenPage
) -> None:
    with served(run.run.path.parent, steers=True) as address:
        page = open_page(f"{address}&open={run.run.path.name}")
        steer = page.get_by_label("steer this run")
        steer.get_by_role("button", name="pause", exact=True).wait_for()
    page.get_by_text("connection lost").wait_for()

    with served(run.run.path.parent, port=port_of(address), steers=True):
        page.get_by_text("connection lost").wait_for(state="detached")
        press(steer, "pause", "")
        press(steer, "resume", "")


def test_without_steer_there_are_no_buttons_for_it(run: Training, open_page: OpenPage) -> None:
    with served(run.run.path.parent) as address:
        page = open_page(f"{address}&open={run.run.path.name}")
        page.locator("h2 .ending", has_text="running").wait_for()
        page.get_by_role("button", name="at a moment").click()
        page.get_by_label("time of the run").wait_for()
        assert page.get_by_label("steer this run").count() == 0


def test_it_ends_by_a_button_with_the_reason_that_is_given(steer: Any, run: Training) -> None:
    page = steer.page
    steer.get_by_role("button", name="stop", exact=True).click()
    steer.get_by_label("why").fill("it is late")
    steer.get_by_role("button", name="end the run after its step").click()

    page.locator("h2 .ending", has_text="stopped").wait_for()
    page.get_by_text("it is late").first.wait_for()
    steer.wait_for(state="detached")
