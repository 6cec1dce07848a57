"""One run as a whole and at a moment, by what a person does and sees."""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from board_asked import begun, put
from board_browser import OpenPage, expect, pixels_of, served
from helpers import eventually
from PIL import Image
from recorded_runs import SECOND_NS, RecordedRun

import nightbus as nb

pytestmark = pytest.mark.long

RED, BLUE = "#ff0000", "#0000ff"


def a_picture(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (200, 100), colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def run(folder: Path) -> RecordedRun:
    """A run of some seconds in which everything happens, each a second after the other."""
    run, attempt = begun(folder, {"lr": 0.1, "layers": "3, 5"})
    kept = run.path / "checkpoints" / "one"
    kept.parent.mkdir(exist_ok=True)
    kept.write_bytes(bytes(2048))

    def later(kind: Any, *fields: Any) -> None:
        attempt.now_ns += SECOND_NS
        attempt.add(kind, *fields)

    def picture(colour: str) -> None:
        later(nb.Media, "seen", "image", a_picture(colour), ("loggers",), "training_step")

    attempt.add(nb.LoopStarted, 3, "epoch")
    later(nb.ActorStarted, "CSV", 0)  # second 1
    later(nb.ConsoleLine, "stdout", "hello from the run", 0)  # 2
    later(nb.SystemMetrics, {"process/cpu_percent": 50.0})  # 3
    picture(RED)  # 4
    put(attempt, "loss", 5.0, 4.0)  # 5 and 6: steps 0 and 1
    attempt.now_ns += SECOND_NS
    attempt.writer.add_hook("training_step", attempt.now_ns, SECOND_NS)  # from 6 to 7
    attempt.writer.add_hook("on_before_backward", attempt.now_ns, SECOND_NS // 4)
    later(nb.Fault, "ValueError", "no such luck", "Traceback: here", "training_step")  # 8
    later(nb.CheckpointSaved, "checkpoints/one", "digest", 2048)  # 9
    later(nb.CheckpointSaved, "checkpoints/gone", "digest", 4096)  # 10
    picture(BLUE)  # 11
    later(nb.ConsoleLine, "stderr", "a word of warning", 0)  # 12
    later(nb.SystemMetrics, {"process/cpu_percent": 75.0})  # 13
    attempt.end()
    return run


@pytest.fixture(scope="module")
def board(folder: Path, run: RecordedRun) -> Iterator[str]:
    with served(folder) as address:
        yield f"{address}&open={run.path.name}"


@pytest.fixture
def moments(board: str, open_page: OpenPage) -> Any:
    """The page of the run, at its last moment."""
    page = open_page(f"{board}&part=at+a+moment")
    panel(page, "metrics").get_by_role("row", name="loss 4 1").wait_for()
    return page


def panel(page: Any, name: str) -> Any:
    return page.locator(f"section.panel[aria-label='{name}']")


def move_to(page: Any, time_s: float) -> None:
    """Move the slider with the keyboard's help to a time, and wait until the page is there."""
    page.get_by_label("time of the run").fill(str(round(time_s / 13 * 2000)))
    page.get_by_text(re.compile(rf"^{time_s:.1f}\d? s after it began|^{time_s:g} s ")).wait_for()


def test_a_run_as_a_whole_shows_what_it_was_given_and_what_became_of_it(
    board: str, open_page: OpenPage
) -> None:
    page = open_page(board)
    part = {
        name: page.locator("details.part").filter(has=page.get_by_role("heading", name=name))
        for name in ("hyperparameters", "metrics", "checkpoints", "faults", "environment")
    }
    part["hyperparameters"].get_by_role("row", name="lr 0.1").wait_for()

    assert part["hyperparameters"].get_by_role("row", name="layers 3, 5").is_visible()
    assert part["metrics"].get_by_role("row", name="loss 4 4 1 5 0 2 0").is_visible()
    there, gone = part["checkpoints"].locator("tbody tr").all_inner_texts()
    assert re.search(r"checkpoints/one.*2.*yes", there, re.S)
    assert re.search(r"checkpoints/gone.*removed", gone, re.S)
    assert part["environment"].get_by_role("row", name="host here").is_visible()
    fault = part["faults"].get_by_text("ValueError: no such luck")
    assert not page.get_by_text("Traceback: here").is_visible()
    fault.click()
    page.get_by_text("Traceback: here").wait_for()


def test_where_time_goes_is_said_by_hook_the_longest_first(board: str, open_page: OpenPage) -> None:
    page = open_page(board)
    part = page.locator("details.part", has_text="where time goes, by hook")
    rows = part.locator("tbody tr")
    expect(rows).to_have_count(2)

    first, second = rows.all_inner_texts()
    assert re.match(r"training_step\s+1\.00 s\s+1\s+1\.00 s", first)
    assert re.match(r"on_before_backward\s+250 ms\s+1\s+250 ms", second)
    part.locator("summary").click()
    expect(rows.first).not_to_be_visible()


def test_moving_the_slider_shows_the_metrics_and_the_progress_of_then(moments: Any) -> None:
    move_to(moments, 5.5)
    panel(moments, "metrics").get_by_role("row", name="loss 5 0").wait_for()
    assert "epoch 0, step 0" in panel(moments, "progress").inner_text()

    move_to(moments, 2.5)
    moments.get_by_text("None was put by then.").wait_for()
    moments.get_by_role("button", name="end", exact=True).click()
    panel(moments, "metrics").get_by_role("row", name="loss 4 1").wait_for()


def test_moving_the_slider_shows_the_hooks_that_run_then(moments: Any) -> None:
    move_to(moments, 6.5)

    panel(moments, "hooks that run").get_by_text("training_step").wait_for()
    timeline = panel(moments, "step 1 by hook").get_by_role("img")
    expect(timeline).to_have_attribute("aria-label", re.compile("2 hooks in 1.00 s.*training_step"))
    move_to(moments, 8.5)
    moments.get_by_text("None ran at this moment").wait_for()


def test_moving_the_slider_shows_the_image_of_then(moments: Any) -> None:
    card = panel(moments, "media").locator("article")
    eventually(lambda: pixels_of(card, BLUE) > 1000)

    move_to(moments, 5.0)
    eventually(lambda: pixels_of(card, RED) > 1000 and pixels_of(card, BLUE) == 0)
    move_to(moments, 3.5)
    panel(moments, "media").wait_for(state="detached")


def test_moving_the_slider_shows_what_was_printed_used_and_saved_by_then(moments: Any) -> None:
    panel(moments, "console").get_by_text("a word of warning").wait_for()
    panel(moments, "process and machine").get_by_text("75 %").wait_for()
    panel(moments, "checkpoints by then").get_by_text("checkpoints/gone").wait_for()
    panel(moments, "faults by then").get_by_text("ValueError: no such luck").wait_for()
    panel(moments, "actors").get_by_text("CSV").wait_for()

    move_to(moments, 9.5)
    panel(moments, "process and machine").get_by_text("50 %").wait_for()
    panel(moments, "checkpoints by then").get_by_text("checkpoints/one").wait_for()
    assert moments.get_by_text("checkpoints/gone").count() == 0
    assert moments.get_by_text("a word of warning").count() == 0
    assert panel(moments, "console").get_by_text("hello from the run").is_visible()
    move_to(moments, 7.5)
    panel(moments, "faults by then").wait_for(state="detached")
    move_to(moments, 1.5)
    moments.get_by_text("It printed nothing by then").wait_for()
    moments.get_by_text("Nothing was recorded by then").wait_for()


def test_the_buttons_lead_from_one_thing_that_happened_to_the_next(moments: Any) -> None:
    before, after = (
        moments.get_by_label(f"to what happened {which}") for which in ("before", "next")
    )
    before.click()  # from the end: the second checkpoint
    moments.get_by_text("10.0 s after it began").wait_for()
    before.click()
    moments.get_by_text(re.compile(r"^9\.00 s after it began")).wait_for()
    before.click()
    moments.get_by_text(re.compile(r"^8\.00 s after it began")).wait_for()
    after.click()
    moments.get_by_text(re.compile(r"^9\.00 s after it began")).wait_for()


def test_the_moment_is_in_the_address_and_there_again_after_a_reload(moments: Any) -> None:
    move_to(moments, 5.5)
    panel(moments, "metrics").get_by_role("row", name="loss 5 0").wait_for()
    expect(moments).to_have_url(re.compile(r"time=5\.[45]"))

    moments.reload()
    panel(moments, "metrics").get_by_role("row", name="loss 5 0").wait_for()


def test_the_slider_moves_by_the_keyboard(moments: Any) -> None:
    slider = moments.get_by_label("time of the run")
    slider.focus()
    slider.press("Home")
    moments.get_by_text(re.compile("^0 s after it began")).wait_for()
    slider.press("End")
    panel(moments, "metrics").get_by_role("row", name="loss 4 1").wait_for()


def test_a_run_that_does_not_exist_is_said_not_to(board: str, open_page: OpenPage) -> None:
    page = open_page(f"{board.partition('&')[0]}&open=nothing-here")
    page.get_by_text("there is no run 'nothing-here'").wait_for()
    page.get_by_role("button", name="← all runs").click()
    page.get_by_label("runs that are drawn").wait_for()
