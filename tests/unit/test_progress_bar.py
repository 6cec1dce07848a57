"""ProgressBar: what a user sees, on a terminal and elsewhere."""

import io
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from terminal import Terminal, screen

import nightbus as nb
from nightbus.bus.events import (
    ActorRestarted,
    ActorStopped,
    Fault,
    Fork,
    Hook,
    LoopAdvanced,
    LoopEnded,
    LoopStarted,
    Put,
    Resumed,
    RunEnded,
    RunStarted,
    Stage,
)
from nightbus.bus.runs.run_folder import RunFolder
from nightbus.sinks.progress_view import duration, rate_text
from nightbus.sinks.testing import record, some_puts

pytestmark = pytest.mark.long

SECOND_NS = 1_000_000_000
PROGRAM = Path(__file__).with_name("progress_program.py")


class Story:
    """Tells a bar a run's events, and keeps the time."""

    def __init__(self, width: int = 80, live: bool = True) -> None:
        self.file = io.StringIO()
        self.console = Console(file=self.file, force_terminal=live, width=width)
        self.bar = nb.ProgressBar(self.console)
        self.bar.open(False)
        self.now_s = 0.0
        self.place: tuple[Stage, int, int] = ("", 0, 0)

    def tell(self, kind: Any, *fields: Any, batch: int = -1, loader: int = 0, by: str = "") -> None:
        stage, epoch, step = self.place
        time_ns = round(self.now_s * SECOND_NS)
        event = kind(0, time_ns, 0, stage, epoch, step, batch, loader, by, *fields)
        self.bar.write([event])

    def start(self, fn: str = "fit") -> None:
        self.tell(RunStarted, "r", 0, fn, 0, {}, {})

    def fit(self, epochs: int | None = 4) -> None:
        self.start()
        self.tell(LoopStarted, epochs, "epoch", by="fit")

    def loop(self, name: Stage, total: int | None, epoch: int = 0) -> None:
        self.place = (name, epoch, self.place[2])
        self.tell(LoopStarted, total, "batch", by=name)

    def batch(self, number: int, loader: int = 0) -> None:
        self.tell(Hook, f"on_{self.place[0]}_batch_end", 0, batch=number, loader=loader)

    def put(self, name: str, value: float) -> None:
        self.tell(Put, name, value, ("progress_bar",), "h", by="module")

    def picture(self, width: int = 80) -> list[str]:
        return self.bar.render(width).plain.splitlines()


def test_loops_of_the_users_own_are_shown_around_the_epochs() -> None:
    story = Story()
    story.start()
    story.tell(LoopStarted, 5, "iteration", by="k_fold_loop")
    story.now_s = 10.0
    story.tell(LoopAdvanced, 2, by="k_fold_loop")
    story.tell(LoopStarted, 4, "epoch", by="fit")
    story.loop("train", 100)
    story.batch(49)

    fold, epoch, train = story.picture()

    assert re.match(r"k fold +━+─+ +2/5 .*0:15 left", fold)
    assert epoch.startswith("epoch")
    assert train.startswith("train")


def test_where_nothing_is_drawn_an_epochs_line_says_where_the_loops_around_it_are() -> None:
    story = Story(live=False)
    story.start()
    story.tell(LoopStarted, 5, "iteration", by="k_fold_loop")
    story.tell(LoopAdvanced, 2, by="k_fold_loop")
    story.tell(LoopStarted, 1, "epoch", by="fit")
    story.loop("train", 100)
    story.batch(99)
    story.tell(LoopEnded, 1, by="fit")

    (line,) = story.bar._view.epoch_lines
    assert line.startswith("k fold 2/5, epoch 0/1: 100 batches in")


def test_a_loop_of_the_users_own_without_an_end_in_sight_counts() -> None:
    story = Story()
    story.start()
    story.tell(LoopStarted, None, "iteration", by="rounds")
    story.tell(LoopAdvanced, 7, by="rounds")

    (rounds,) = story.picture()

    assert re.match(r"rounds +─+ +7\b", rounds)


def test_the_dataloader_of_several_is_named() -> None:
    story = Story()
    story.start("validate")
    story.loop("validate", 30)
    story.batch(9, loader=0)
    assert story.picture()[0].startswith("validate ━")
    story.batch(4, loader=1)

    (validate,) = story.picture()

    assert re.match(r"validate \[1\] +━+─+ +15/30", validate)


def test_a_bar_shows_epochs_batches_rate_time_left_and_metrics() -> None:
    story = Story()
    story.fit(epochs=4)
    story.loop("train", 100)
    story.now_s = 5.0
    story.batch(49)
    story.put("loss", 0.25)

    epoch, train, metrics = story.picture()

    assert re.fullmatch(r"epoch +━+─+ +0/4 +0:35 left", epoch)
    assert re.fullmatch(r"train +━+─+ 50/100  10 it/s  0:05 left", train)
    assert metrics == "loss 0.25"
    assert train.count("━") == train.count("─")


def test_validation_has_a_bar_only_while_it_runs() -> None:
    story = Story()
    story.fit()
    story.loop("train", 10)
    story.loop("validate", 20)
    story.batch(4)
    during = story.picture()
    story.tell(LoopEnded, 20, by="validate")

    assert [line.split()[0] for line in during] == ["epoch", "train", "validate"]
    assert " 5/20" in during[2]
    assert [line.split()[0] for line in story.picture()] == ["epoch", "train"]


def test_batches_of_several_dataloaders_are_added_up() -> None:
    story = Story()
    story.start("validate")
    story.loop("validate", 20)
    story.batch(9)
    story.batch(2, loader=1)

    assert " 13/20" in story.picture()[0]


def test_a_loop_without_an_end_in_sight_shows_how_far_it_is() -> None:
    story = Story()
    story.fit(epochs=None)
    story.loop("train", None)
    story.now_s = 90.0
    story.batch(1234)

    epoch, train = story.picture()

    assert re.fullmatch(r"epoch +─+ +0 +1:30 so far", epoch)
    assert re.fullmatch(r"train +─+ 1,235  14 it/s", train)


def test_the_rate_is_that_of_the_last_ten_seconds() -> None:
    story = Story()
    story.fit()
    story.loop("train", 1000)
    for second in range(1, 31):
        story.now_s = float(second)
        story.batch((second if second <= 15 else 15 + (second - 15) * 20) - 1)

    assert "20 it/s" in story.picture()[1]


def test_a_resumed_run_begins_at_its_epoch() -> None:
    story = Story()
    story.place = ("", 2, 0)
    story.fit(epochs=2)
    story.loop("train", 10, epoch=2)
    story.now_s = 5.0
    story.batch(4)

    epoch = story.picture()[0]

    assert " 2/4 " in epoch
    assert "0:15 left" in epoch


def test_an_epoch_that_is_gone_on_with_counts_only_what_is_done_now() -> None:
    story = Story(live=False)
    story.fit(epochs=2)
    story.place = ("train", 0, 40)
    story.tell(LoopStarted, 100, "batch", batch=39, by="train")
    story.now_s = 10.0
    story.batch(59)

    _, train = story.picture()
    story.tell(LoopEnded, 60, by="train")
    story.tell(RunEnded, "stopped", "enough")
    story.bar._print_lines()

    assert re.search(r"60/100 +2.0 it/s +0:20 left", train)
    assert story.file.getvalue() == "epoch 0/2: 20 batches in 0:10, 2.0 it/s\n"


def test_a_resumed_run_says_from_where_and_at_which_batch() -> None:
    story = Story(live=False)
    fork = Fork(0, 99, "checkpoints/epoch=1-step=101")
    story.tell(RunStarted, "r", 1, "fit", 0, {}, {}, fork)
    story.place = ("train", 1, 101)
    story.tell(LoopStarted, 3, "epoch", by="fit")
    story.tell(Resumed, batch=41, by="trainer")

    story.bar._print_lines()

    assert story.file.getvalue() == (
        "resumed r from checkpoints/epoch=1-step=101: epoch 1/4, after 42 batches\n"
    )


def test_a_run_that_is_resumed_between_epochs_names_no_batch() -> None:
    story = Story(live=False)
    story.start()
    story.place = ("train", 2, 10)
    story.tell(LoopStarted, 1, "epoch", by="fit")
    story.tell(Resumed)

    story.bar._print_lines()

    assert story.file.getvalue() == "resumed: epoch 2/3\n"


def test_a_run_that_was_complete_already_says_that_nothing_was_left() -> None:
    story = Story(live=False)
    story.start()
    story.place = ("train", 2, 30)
    story.tell(LoopStarted, 0, "epoch", by="fit")
    story.tell(Resumed)
    story.tell(LoopEnded, 3, by="fit")
    story.place = ("train", 3, 30)
    story.tell(RunEnded, "completed", "")

    story.bar._print_lines()

    assert story.file.getvalue() == "resumed: epoch 3/3\n"
    assert story.bar._view.end_text() == (
        "fit completed: nothing was left to train after 3 epochs, 30 steps"
    )


def test_while_it_validates_the_train_bar_is_where_validation_began() -> None:
    story = Story()
    story.fit()
    story.loop("train", 100)
    story.batch(37)
    story.tell(LoopAdvanced, 40, by="train")
    story.loop("validate", 10)
    story.batch(4)

    _, train, validate = story.picture()

    assert " 40/100" in train
    assert " 5/10" in validate


@pytest.mark.parametrize(
    ("width", "head"),
    [
        (120, "metric last lowest highest"),
        (60, "metric last lowest highest"),
        (40, "metric last lowest highest"),
        (30, "metric last lowest"),
        (20, "metric last"),
    ],
)
def test_the_table_at_the_end_cuts_names_before_numbers(width: int, head: str) -> None:
    story = Story(width)
    story.fit()
    for value in (0.001234, 12.25, 0.5):
        story.put("validation_loss_of_the_larger_of_two_models", value)
    story.tell(RunEnded, "completed", "")

    story.bar._show_end()

    shown = re.sub(r"\x1b\[[0-9;]*m", "", story.file.getvalue())
    *_, titles, row = shown.splitlines()
    assert titles.split() == head.split()
    numbers = ["0.5", "0.001234", "12.25"][: len(head.split()) - 1]
    assert row.split()[-len(numbers) :] == numbers
    assert len(row) <= width


def test_many_metrics_take_three_lines_and_the_rest_is_counted() -> None:
    story = Story()
    story.fit()
    for number in range(40):
        story.put(f"metric_number_{number}", 0.5)

    lines = story.picture()[1:]

    assert len(lines) == 3
    assert lines[2].endswith("+32 more")


def test_of_many_metrics_the_few_of_an_epoch_are_shown_first() -> None:
    story = Story(width=400)
    story.fit()
    for number in range(60):
        story.tell(Put, f"m{number}", 0.5, ("progress_bar",), "", batch=3)
    story.put("val_loss", 0.25)

    (line,) = story.picture(400)[1:]

    steps = "  ".join(f"m{number} 0.5" for number in range(7))
    assert line == f"{steps}  val_loss 0.25  +53 more"


def test_an_epochs_line_has_as_many_metrics_and_counts_the_rest() -> None:
    story = Story(live=False)
    story.fit()
    story.loop("train", 4)
    for number in range(60):
        story.put(f"m{number}", 0.5)
    story.tell(RunEnded, "completed", "")

    story.bar._print_lines()

    assert story.file.getvalue().endswith(", m6 0.5, m7 0.5, +52 more\n")


def test_a_long_epoch_has_a_line_a_minute_where_nothing_is_drawn() -> None:
    story = Story(live=False)
    story.fit(epochs=3)
    story.place = ("train", 1, 0)
    story.loop("train", 100, epoch=1)
    for batch in range(20):
        story.now_s = 10.0 * (batch + 1)
        story.batch(batch)
    story.put("loss", 0.5)

    told = list(story.bar._view.epoch_lines)

    assert told == [
        "epoch 1/3: 10/100 batches (10%), 10.0 s/it, 15:00 left",
        "epoch 1/3: 20/100 batches (20%), 10.0 s/it, 13:20 left",
    ]


def test_an_epoch_of_hours_has_a_line_each_ten_minutes_and_one_without_an_end_each_minute() -> None:
    story = Story(live=False)
    story.fit()
    story.loop("train", 1000)
    for batch in range(30):
        story.now_s = 60.0 * (batch + 1)
        story.batch(batch)
    assert [line.split(" batches")[0] for line in story.bar._view.epoch_lines] == [
        "epoch 0/4: 10/1,000",
        "epoch 0/4: 20/1,000",
        "epoch 0/4: 30/1,000",
    ]
    story.bar._view.epoch_lines.clear()

    story.loop("validate", None)
    for batch in range(2):
        story.now_s += 60.0
        story.batch(batch)

    assert story.bar._view.epoch_lines == [
        "epoch 0/4, validate: 1 batch, 60.0 s/it",
        "epoch 0/4, validate: 2 batches, 60.0 s/it",
    ]


def test_a_batch_counts_once_its_last_hook_has_run() -> None:
    story = Story()
    story.fit()
    story.loop("train", 100)
    story.batch(6)
    story.tell(Hook, "on_exception", 0, batch=7)

    assert " 7/100" in story.picture()[1]


def test_until_a_loop_begins_the_hook_that_runs_is_named() -> None:
    story = Story()
    story.start()
    assert story.picture() == ["fit is starting"]

    story.bar.running_hook = lambda: "prepare_data"

    assert story.picture() == ["fit is starting: prepare_data"]


def test_bars_are_as_long_as_the_terminal_allows() -> None:
    story = Story()
    story.fit()
    story.loop("train", 100)
    story.now_s = 5.0
    story.batch(49)

    epoch, train = story.picture(160)

    assert 158 <= len(train) <= 160
    assert sum(map(epoch.count, "━─")) == sum(map(train.count, "━─")) > 100


def test_each_epoch_leaves_a_line_above_the_bars_and_of_many_at_once_the_last_do() -> None:
    story = Story()
    story.fit(epochs=60)
    for epoch in range(50):
        story.loop("train", 1, epoch=epoch)
        story.batch(0)
    story.tell(LoopEnded, 50, by="fit")

    story.bar._print_lines()

    shown = story.file.getvalue().splitlines()
    assert shown[0] == "30 epochs before"
    assert [line.split(":")[0] for line in shown[1:]] == [f"epoch {n}/60" for n in range(30, 50)]


def test_a_notebook_gets_the_bars_and_the_curves_as_html(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []

    class Display:
        @staticmethod
        def display(bundle: Any, **_: Any) -> "type[Display]":
            shown.append(bundle)
            return Display

        @staticmethod
        def update(bundle: Any, **_: Any) -> None:
            shown.append(bundle)

    monkeypatch.setitem(sys.modules, "IPython.display", Display)
    story = Story()
    story.bar._given_console = Console(file=story.file, force_jupyter=True)
    story.bar.open(False)
    story.fit()
    story.loop("train", 10)
    for value in (3.0, 2.0, float("nan"), 1.0):
        story.put("<b>loss", value)

    story.bar._draw()
    story.put("<b>loss", 0.5)
    story.bar._draw()

    assert "train" in shown[0]["text/plain"]
    page = shown[1]["text/html"]
    assert page.count("<polyline") == 1
    assert "&lt;b&gt;loss <b>0.5</b>" in page
    assert "0.5 to 3, 5 values" in page


def test_names_cannot_steer_the_terminal() -> None:
    story = Story()
    story.fit()
    story.put("a\x1b[2Jb\nc", 1)

    assert story.picture()[1:] == ["a\N{REPLACEMENT CHARACTER}[2Jb c 1"]


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 200),
    names=st.lists(st.text(max_size=30), max_size=30),
    total=st.none() | st.integers(0, 10**9),
    done=st.integers(0, 10**9),
    seconds=st.floats(0, 1e9),
)
def test_a_picture_fits_any_terminal(
    width: int, names: list[str], total: int | None, done: int, seconds: float
) -> None:
    story = Story(width)
    story.fit()
    story.loop("train", total)
    story.now_s = seconds
    story.batch(done)
    for name in names:
        story.put(name, float("nan"))

    picture = story.bar.render(width)

    assert all(line.cell_len <= width for line in picture.split())
    story.console.print(picture)


def test_without_a_terminal_there_is_a_line_an_epoch_and_no_escape_code(tmp_path: Path) -> None:
    file = io.StringIO()
    run = RunFolder.create(tmp_path, "plain")
    record(run, some_puts(60), [nb.ProgressBar(Console(file=file))])

    assert "\x1b" not in file.getvalue()
    first, second = file.getvalue().splitlines()
    assert re.fullmatch(r"fit completed: 1 epoch, 19 steps in \d:\d\d", first)
    assert second == f"run: {run.path}"


def test_an_epochs_line_has_what_was_logged_at_its_end() -> None:
    story = Story(live=False)
    story.fit(epochs=2)
    story.loop("train", 10)
    story.now_s = 5.0
    story.tell(LoopEnded, 10, by="train")
    story.put("train_loss", 0.5)
    story.loop("train", 10, epoch=1)

    story.bar._print_lines()

    assert story.file.getvalue() == "epoch 0/2: 10 batches in 0:05, 2.0 it/s, train_loss 0.5\n"


def test_an_epochs_line_names_its_epoch_whatever_hook_is_the_latest() -> None:
    story = Story(live=False)
    story.fit(epochs=2)
    story.loop("train", 10)
    story.now_s = 5.0
    story.tell(LoopEnded, 10, by="train")
    story.place = ("train", 1, 10)
    story.tell(Hook, "on_train_epoch_start", 0)
    story.loop("train", 10, epoch=1)

    story.bar._print_lines()

    assert story.file.getvalue() == "epoch 0/2: 10 batches in 0:05, 2.0 it/s\n"


def test_a_stopped_sink_is_told_of_at_once_and_a_restart_at_the_end() -> None:
    story = Story(live=False)
    story.fit()
    story.tell(Fault, "OSError", "disk full", "...", "running", by="csv")
    story.tell(ActorRestarted, 1, 0.1, by="csv")
    story.tell(ActorStopped, "gave up after 1 restart: ValueError: x", 7, by="mine")
    story.bar._print_lines()
    early = story.file.getvalue()
    story.tell(RunEnded, "completed", "")
    story.bar._print_lines()

    assert early == "mine stopped: gave up after 1 restart: ValueError: x\n"
    assert story.file.getvalue().removeprefix(early) == (
        "csv failed and was restarted once, nothing is lost: OSError: disk full\n"
    )


def test_a_run_that_failed_says_where() -> None:
    story = Story(live=False)
    story.fit(epochs=3)
    story.place = ("train", 1, 57)
    story.loop("train", 100, epoch=1)
    story.now_s = 61.0
    story.batch(56)
    story.tell(RunEnded, "failed", "ValueError: boom\nmore")

    story.bar._show_end()

    assert story.file.getvalue().splitlines()[-1] == (
        "fit failed (ValueError: boom) at epoch 1/3, batch 57/100: 57 steps in 1:01"
    )


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.4, "0:00"), (59.6, "1:00"), (725, "12:05"), (10_800, "3:00:00"), (188_000, "2 d 04:13")],
)
def test_a_duration_is_told_as_on_a_clock(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("rate", "shown"), [(0, ""), (0.25, "4.0 s/it"), (2.5, "2.5 it/s"), (1234.5, "1,234 it/s")]
)
def test_a_slow_rate_is_told_in_seconds_an_iteration(rate: float, shown: str) -> None:
    assert rate_text(rate) == shown


HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


def assert_is_as_before(output: str) -> None:
    assert output.rindex(SHOW_CURSOR) > output.rindex(HIDE_CURSOR)


def test_a_terminal_shows_bars_then_how_it_went(tmp_path: Path) -> None:
    terminal = Terminal(PROGRAM, str(tmp_path), "steps")
    drawn = terminal.read_until("it/s")
    output = terminal.finish()

    assert terminal.process.returncode == 0, output
    assert "epoch" in drawn
    assert "fit completed" in output
    assert "epoch 0/2: 40 batches in 0:0" in output
    assert re.search(r"loss +\S+ +0 +\S+\r\n", output)
    assert_is_as_before(output)


def test_what_the_program_prints_stands_on_lines_of_its_own(tmp_path: Path) -> None:
    output = Terminal(PROGRAM, str(tmp_path), "prints").finish()

    for number in range(5):
        assert f"line {number} of the user\r\n" in output
    assert "fit completed" in output


def test_an_urgent_message_stays_and_takes_the_place_of_what_was_drawn(tmp_path: Path) -> None:
    terminal = Terminal(PROGRAM, str(tmp_path), "says urgently")
    terminal.finish()

    shown = screen(terminal.output)

    assert shown[:-4] == [f"nightbus: message {number}" for number in range(5)]
    assert shown[-4].startswith("fit completed")


def test_what_other_processes_write_stays_once_drawing_is_over(tmp_path: Path) -> None:
    terminal = Terminal(PROGRAM, str(tmp_path), "leaves the terminal to others")
    terminal.finish()

    shown = screen(terminal.output)

    assert shown[:5] == [f"line {number} of another process" for number in range(5)]
    assert shown[5].startswith("fit completed")


def test_whole_lines_of_other_processes_go_above_the_bars(tmp_path: Path) -> None:
    terminal = Terminal(PROGRAM, str(tmp_path), "relays")
    terminal.finish()

    shown = screen(terminal.output)

    ends = ["", *["end"] * 4]
    assert shown[:5] == [f"{ends[n]}line {n} of another process" for n in range(5)]
    assert shown[5].startswith("fit completed")
    assert "\x1b[1manother\x1b[0m" in terminal.output


def test_output_that_goes_into_a_file_stays_there(tmp_path: Path) -> None:
    with open(tmp_path / "out", "w") as file:
        shown = Terminal(PROGRAM, str(tmp_path), "prints", stdout=file).finish()

    assert (tmp_path / "out").read_text().splitlines() == [
        f"line {number} of the user" for number in range(5)
    ]
    assert "of the user" not in shown


def test_a_forked_worker_prints_for_itself(tmp_path: Path) -> None:
    output = Terminal(PROGRAM, str(tmp_path), "fork").finish()

    assert "from the worker\r\n" in output
    assert "fit completed" in output


@pytest.mark.parametrize("columns", [1, 8, 20])
def test_a_narrow_terminal_is_no_trouble(tmp_path: Path, columns: int) -> None:
    terminal = Terminal(PROGRAM, str(tmp_path), "steps", columns=columns)
    output = terminal.finish()

    assert terminal.process.returncode == 0, output
    assert "stopped" not in output


def test_ctrl_c_gives_the_terminal_back(tmp_path: Path) -> None:
    terminal = Terminal(PROGRAM, str(tmp_path), "endless")
    terminal.read_until("it/s")
    terminal.process.send_signal(signal.SIGINT)
    output = terminal.finish()

    assert "KeyboardInterrupt" in output
    assert_is_as_before(output)
