"""nightbus top: what its screen shows of a run, and what its keys do."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from models import Small, loader, trainer
from recorded_runs import RecordedRun

import nightbus as nb
from nightbus.__main__ import main
from nightbus.bus.control.protocol import Answer, Request, RunStatus
from nightbus.bus.library.thinned_curve import MAX_POINTS, ThinnedCurve
from nightbus.bus.runs.run_folder import RunFolder
from nightbus.cli.braille import braille
from nightbus.cli.watched_run import MAX_CONSOLE_LINES, WatchedRun

pytest.importorskip("textual")

from textual.pilot import Pilot
from textual.widgets import DataTable, OptionList, RichLog, Static, TabbedContent

from nightbus.cli import top_screen
from nightbus.cli.top_screen import Top

SIZE = (80, 24)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A recorded run of one epoch, that printed a line."""

    class Prints(Small):
        def on_train_start(self) -> None:
            print("the user's line")

    made = trainer(
        tmp_path_factory.mktemp("top"), max_epochs=1, sinks=nb.CSV(), record_console=True
    )
    made.fit(Prints(), loader(), loader())
    assert made.run_folder is not None
    return made.run_folder


def look(folder: RunFolder, act: Callable[[Top, Pilot[None]], object]) -> None:
    """Open the screen, wait until all is read, and do something; textual brings asyncio."""
    import asyncio

    async def looking() -> None:
        app = Top(folder)
        async with app.run_test(size=SIZE) as pilot:
            while not app.run_shown.is_caught_up:
                await pilot.pause(0.01)
            app.show()
            await pilot.pause()
            await act(app, pilot)  # type: ignore[misc]

    asyncio.run(looking())


def text(app: Top, widget: str) -> str:
    return str(app.query_one(widget, Static).render())


def test_the_first_tab_shows_how_far_it_is_and_a_curve(run: RunFolder) -> None:
    async def act(app: Top, pilot: Pilot[None]) -> None:
        assert text(app, "#head").startswith(f"{run.info.id}  completed")
        assert "6/6" in text(app, "#bars")
        names = app.query_one("#names", OptionList)
        assert names.option_count == len(nb.open_run(run.path).metrics)
        assert "1 values" in text(app, "#curve") or "6 values" in text(app, "#curve")
        assert all(widget.region.bottom <= SIZE[1] for widget in app.query("*"))

    look(run, act)


def test_the_other_tabs_show_hooks_actors_ranks_and_what_was_printed(run: RunFolder) -> None:
    async def act(app: Top, pilot: Pilot[None]) -> None:
        seen = []
        for table in ("#of_hooks", "#of_actors", "#of_ranks"):
            await pilot.press("right")
            await pilot.pause()
            shown = app.query_one(table, DataTable)
            seen.append([shown.get_row_at(row) for row in range(shown.row_count)])
        hooks, actors, ranks = seen
        counts = {row[0]: row[1] for row in hooks}
        assert counts["training_step"] == "6"
        assert ["csv", "CSV"] in [row[:2] for row in actors]
        assert [row[0] for row in ranks] == ["0"]
        await pilot.press("right")
        await pilot.pause()
        assert app.query_one("#tabs", TabbedContent).active == "console"
        assert "the user's line" in app.run_shown.console

    look(run, act)


def test_keys_send_the_run_its_commands_and_stop_asks_first(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []

    def send(folder: RunFolder, request: Request) -> Answer:
        assert folder is run
        sent.append(request.verb)
        return Answer("done", "", status(paused=request.verb == "pause"))

    monkeypatch.setattr(top_screen, "send", send)

    async def act(app: Top, pilot: Pilot[None]) -> None:
        for number, key in enumerate(("p", "p", "v", "c"), 1):
            await pilot.press(key)
            while len(sent) < number or app._is_paused != (number == 1):
                await pilot.pause(0.01)
        await pilot.press("s")
        await pilot.pause(0.01)
        app.show()  # goes on below the question
        await pilot.press("n")
        await pilot.press("s", "y")
        while len(sent) < 5:
            await pilot.pause(0.01)

    look(run, act)

    assert sent == ["pause", "resume", "validate", "checkpoint", "stop"]


def status(paused: bool) -> RunStatus:
    return RunStatus(
        pid=1,
        run="r",
        attempt=0,
        fn="fit",
        stage="train",
        epoch=0,
        step=0,
        batch_idx=0,
        paused=paused,
        stopping=False,
        may_stop=True,
        running_s=0.0,
        dead_letters=0,
    )


def test_a_run_that_has_ended_says_why_it_cannot_be_steered(run: RunFolder) -> None:
    async def act(app: Top, pilot: Pilot[None]) -> None:
        await pilot.press("p")
        while not app._notifications:
            await pilot.pause(0.01)
        (told,) = app._notifications
        assert "has ended (completed)" in told.message

    look(run, act)


def test_the_last_lines_of_many_are_shown(tmp_path: Path) -> None:
    recorded = RecordedRun(tmp_path)
    attempt = recorded.attempt(is_silent=True)
    for number in range(MAX_CONSOLE_LINES):
        attempt.add(nb.ConsoleLine, "stdout", f"line {number}", 0)
    attempt.writer.flush()

    async def go_on(app: Top, pilot: Pilot[None]) -> None:
        app.query_one("#tabs", TabbedContent).active = "console"
        await pilot.pause()
        attempt.add(nb.ConsoleLine, "stdout", "one more", 0)
        attempt.end()
        while app.run_shown.ended is None:
            await pilot.pause(0.01)
        app.show()
        await pilot.pause()
        assert app.query_one("#lines", RichLog).lines[-1].text == "one more"

    look(recorded.folder, go_on)


def test_an_attempt_that_begins_meanwhile_is_read_too(tmp_path: Path) -> None:
    made = trainer(tmp_path, max_epochs=1)
    made.fit(Small(), loader())
    assert made.run_folder is not None
    watched = WatchedRun(made.run_folder)
    while watched.read_on():
        pass
    again = trainer(tmp_path, max_epochs=2)
    again.fit(Small(), loader(), ckpt_path="last")

    while watched.read_on():
        pass
    watched.close()

    assert watched.attempt == 1
    assert watched.ended is not None


def test_a_long_curve_keeps_its_extremes() -> None:
    curve = ThinnedCurve()
    for number in range(3 * MAX_POINTS):
        curve.add(1e6 if number == 5000 else float(number % 7))
    curve.add(float("nan"))

    assert len(curve.lows) == len(curve.highs) <= MAX_POINTS
    assert (min(curve.lows), max(curve.highs)) == (0.0, 1e6)
    assert (curve.count, curve.not_finite) == (3 * MAX_POINTS + 1, 1)


def test_a_curve_goes_from_its_first_value_to_its_last() -> None:
    rising = braille([0.0, 1.0], [0.0, 1.0], 10, 3)
    corners = [rising[0][0], rising[0][-1], rising[-1][0], rising[-1][-1]]
    assert [corner == " " for corner in corners] == [True, False, False, True]
    assert [len(line) for line in rising] == [10] * 3
    assert braille([], [], 3, 1) == ["   "]


def test_textual_is_asked_for_by_its_extra(
    run: RunFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nightbus.cli.top_screen", None)

    assert main(["top", str(run.path)]) == 2
    assert "pip install 'nightbus[top]'" in capsys.readouterr().err


def test_without_a_terminal_top_names_other_verbs(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["top", str(run.path)]) == 2
    assert "nightbus tail -f" in capsys.readouterr().err
