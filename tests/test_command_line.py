"""The command line, as a user runs it."""

import contextlib
import json
import math
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any

import pytest
from helpers import DEADLINE_S, nightbus
from models import Small, loader, trainer
from programs import Program, run_program

import nightbus as nb
from nightbus.bus.events import Fork, Gap
from nightbus.bus.log import format as log_format
from nightbus.bus.log.place import Place
from nightbus.bus.log.writer import LogIdentity, LogWriter
from nightbus.bus.runs.cursor import Cursor, CursorFile

pytestmark = pytest.mark.long


def on_terminal(*arguments: str | Path, columns: int = 80) -> list[str]:
    """The lines that a terminal of this width would get, escape codes and all."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    environment = {**os.environ, "TERM": "xterm-256color"}
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        environment.pop(name, None)
    with subprocess.Popen(
        [sys.executable, "-m", "nightbus", *map(str, arguments)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
    ):
        os.close(theirs)
        written = b""
        # EIO is how Linux says that the other side of a terminal is closed.
        with contextlib.suppress(OSError):
            while chunk := os.read(ours, 1 << 16):
                written += chunk
    os.close(ours)
    return written.decode().split("\r\n")


def without_styles(line: str) -> str:
    return re.sub(r"\x1b\[[\d;]*m", "", line)


Recorded = tuple[type[nb.Event], Any, str]  # an event's type, its own fields, its source


def record(root: Path, *events: Recorded) -> Path:
    """A run of these events, recorded without training."""
    folder = nb.RunFolder.create(root / "runs", "recorded")
    lock = folder.begin_attempt()
    writer = LogWriter(folder.store(lock.attempt), LogIdentity(folder.info.id), Place())
    started: tuple[Any, ...] = (folder.info.id, 0, "fit", time.time_ns(), {}, {})
    ended: Recorded = (nb.RunEnded, ("completed", ""), "")
    begun: Recorded = (nb.RunStarted, started, "")
    for kind, fields, source in (begun, *events, ended):
        writer.append(writer.event(kind, *fields, source=source))
    writer.close()
    lock.release()
    return folder.path


def put(name: str, value: float) -> Recorded:
    return (nb.Put, (name, value, ("loggers",), ""), "module")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    done = trainer(
        tmp_path_factory.mktemp("cli"),
        max_epochs=2,
        sinks=[nb.CSV(), nb.JSONLines()],
        log_every_n_steps=1,
        run_name="small",
    )
    done.fit(Small(), loader(), loader(8))
    assert done.log_dir is not None
    return Path(done.log_dir)


# -- show ----------------------------------------------------------------------------------------


def test_show_says_what_ran_and_how_it_ended(run: Path) -> None:
    shown = nightbus("show", run)

    assert shown.returncode == 0, shown.stderr
    assert run.name in shown.stdout
    assert "fit completed" in shown.stdout
    assert "12 steps" in shown.stdout
    assert "val_loss" in shown.stdout
    assert "training_step" in shown.stdout


def test_show_in_a_pipe_has_no_escape_codes(run: Path) -> None:
    assert "\x1b" not in nightbus("show", run).stdout


def test_show_finds_a_run_by_its_id_and_by_a_path_inside_it(run: Path) -> None:
    root = run.parent.parent

    assert nightbus("show", run.name, cwd=root).returncode == 0
    assert nightbus("show", run / "attempt-000").returncode == 0


def test_show_in_a_pipe_keeps_every_row_on_its_line(tmp_path: Path) -> None:
    name = "validation/" + "a-very-long-metric-name/" * 10

    shown = nightbus("show", record(tmp_path, put(name, 0.25))).stdout

    (row,) = [line for line in shown.splitlines() if line.startswith("validation")]
    assert row.split() == [name, "1", "0.25", "0.25", "0", "0.25", "0"]


def test_show_fits_a_terminal_and_loses_nothing_of_a_long_name(tmp_path: Path) -> None:
    name = "validation/" + "a-very-long-metric-name/" * 10
    recorded = record(tmp_path, put(name, 0.123456), put("nan", math.nan))

    lines = [without_styles(line) for line in on_terminal("show", recorded)]

    assert max(map(len, lines[3:])) <= 80
    table = lines[lines.index("") + 1 :]
    assert name in "".join(line[:32].split(" ")[0] for line in table)
    assert "0.12346" in "".join(table)
    assert "\u2026" not in "".join(lines)


def test_show_uses_colour_on_a_terminal(run: Path) -> None:
    assert "\x1b[1m" in "".join(on_terminal("show", run))


def test_show_names_the_twelve_hooks_that_took_longest_and_sums_the_others(tmp_path: Path) -> None:
    folder = nb.RunFolder.create(tmp_path, "hooks")
    lock = folder.begin_attempt()
    writer = LogWriter(folder.store(0), LogIdentity(folder.info.id), Place())
    for number in range(1, 21):
        writer.add_hook(f"on_{number}", number * 1_000_000, number * 1_000_000)
    writer.flush()
    lock.release()

    table = nightbus("show", folder.path).stdout.split("hook ")[1].splitlines()[1:14]

    rows = [line.split() for line in table]
    assert [row[0] for row in rows[:12]] == [f"on_{number}" for number in range(20, 8, -1)]
    assert rows[0] == ["on_20", "1", "0.020", "20", "ms"]
    assert rows[12] == ["8", "others", "8", "0.036", "4.5", "ms"]


def test_show_as_json_agrees_with_the_log(run: Path) -> None:
    report = json.loads(nightbus("show", run, "--json").stdout)

    (attempt,) = report["attempts"]
    assert (attempt["how"], attempt["steps"], attempt["fn"]) == ("completed", 12, "fit")
    loss = report["metrics"]["train_loss"]
    values = [
        float(line.split(",")[3])
        for line in (run / "metrics.csv").read_text().splitlines()[1:]
        if line.split(",")[3]
    ]
    assert loss["count"] == len(values)
    assert loss["last"] == values[-1]
    assert loss["low"] == min(values)
    assert loss["low_step"] == values.index(min(values))


def test_show_as_json_writes_nan_and_infinity_as_strings(tmp_path: Path) -> None:
    recorded = record(tmp_path, put("a", math.nan), put("b", -math.inf))

    metrics = json.loads(nightbus("show", recorded, "--json").stdout)["metrics"]

    assert (metrics["a"]["last"], metrics["b"]["last"]) == ("NaN", "-Infinity")
    assert metrics["a"]["low"] is None


@pytest.mark.long
def test_show_says_that_a_run_goes_on_and_that_it_was_killed(tmp_path: Path) -> None:
    script = Path(__file__).parent / "faults" / "training_process.py"
    with Program([str(script), str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("batch 20"):
                break
        running = nightbus("show", next((tmp_path / "runs").iterdir()))
        process.send_signal(signal.SIGKILL)

    killed = nightbus("show", next((tmp_path / "runs").iterdir()))
    assert running.returncode == killed.returncode == 0
    assert "attempt 0: fit running" in running.stdout
    assert "attempt 0: fit killed: its process ended without a word" in killed.stdout
    assert re.search(r"the log ends at byte [\d,]+ of segment 0", killed.stdout)


def test_show_lists_faults(tmp_path: Path) -> None:
    class Fails(Small):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            raise ValueError("boom [bold]")

    failing = trainer(tmp_path)
    with pytest.raises(ValueError, match="boom"):
        failing.fit(Fails(), loader())
    assert failing.log_dir is not None

    shown = nightbus("show", failing.log_dir).stdout
    assert "fit failed" in shown
    assert "fault: module in training_step at step 0: ValueError: boom [bold]" in shown


def test_show_says_once_what_happened_several_times(tmp_path: Path) -> None:
    fault = (nb.Fault, ("ValueError", "boom", "", "running"), "csv")

    shown = nightbus("show", record(tmp_path, fault, fault, fault)).stdout

    assert shown.count("boom") == 1
    assert "fault: csv in running at step 0: ValueError: boom (3 times)" in shown


def test_show_lists_dead_letters_and_gaps(tmp_path: Path) -> None:
    recorded = record(
        tmp_path,
        (nb.DeadLetter, ("nobody", "Stop", "nobody of that name"), "watch"),
        (Gap, (1_234, "No space left on device"), ""),
    )

    shown = nightbus("show", recorded).stdout

    assert "dead letter: Stop of watch to nobody: nobody of that name" in shown
    assert "gap: 1,234 events before step 0 not written: No space left on device" in shown


def test_show_says_what_an_attempt_was_resumed_from(tmp_path: Path) -> None:
    recorded = record(tmp_path)
    folder = nb.RunFolder.open(recorded)
    lock = folder.begin_attempt()
    writer = LogWriter(folder.store(1), LogIdentity(folder.info.id, 1), Place())
    fork = Fork(0, 7, "checkpoints/last")
    started: tuple[Any, ...] = (folder.info.id, 1, "fit", time.time_ns(), {}, {}, fork)
    writer.append(writer.event(nb.RunStarted, *started))
    writer.close()
    lock.release()

    shown = nightbus("show", recorded).stdout

    assert "attempt 0: fit completed" in shown
    assert "attempt 1: fit killed" in shown
    assert "resumed attempt 0 from checkpoints/last" in shown


def test_show_of_a_strangers_run_sends_a_terminal_nothing_it_would_act_on(tmp_path: Path) -> None:
    evil = "\x1b]0;title\x07\x1b[2J"
    fault = (nb.Fault, ("ValueError", f"a\n{evil}", "", ""), evil)

    shown = "".join(on_terminal("show", record(tmp_path, put(f"[red]{evil}", 1.0), fault)))

    assert "[red]\\x1b]0;title\\x07" in without_styles(shown)
    assert "\x1b]" not in shown
    assert "\x1b[2J" not in shown


def test_show_into_a_pipe_that_closes_is_no_error(run: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)

    done = subprocess.run(
        [sys.executable, "-m", "nightbus", "show", str(run)],
        stdout=writing,
        stderr=subprocess.PIPE,
        timeout=DEADLINE_S,
    )

    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


# -- replay --------------------------------------------------------------------------------------


def test_replay_writes_the_same_files(run: Path, tmp_path: Path) -> None:
    done = nightbus("replay", run, "--csv", tmp_path, "--jsonl", tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert f"their metrics are in {tmp_path / 'metrics.csv'}" in done.stderr
    assert f"their metrics are in {tmp_path / 'metrics.jsonl'}" in done.stderr
    for name in ("metrics.csv", "metrics.jsonl"):
        assert (tmp_path / name).read_bytes() == (run / name).read_bytes()


def test_replay_into_an_existing_file_is_refused(run: Path, tmp_path: Path) -> None:
    nightbus("replay", run, "--csv", tmp_path)

    again = nightbus("replay", run, "--csv", tmp_path)

    assert again.returncode == 1
    assert "exists already and is not overwritten" in again.stderr
    assert "Traceback" not in again.stderr


def test_resume_of_a_finished_run_says_so(run: Path) -> None:
    before = (run / "metrics.csv").read_bytes()

    done = nightbus("replay", run, "--resume")

    assert done.returncode == 0, done.stderr
    assert "csv had received everything already" in done.stderr
    assert (run / "metrics.csv").read_bytes() == before


def test_resume_is_not_misled_by_what_others_recorded_after_a_sink_was_done(
    tmp_path: Path,
) -> None:
    done = trainer(tmp_path, sinks=[nb.CSV()])
    done.fit(Small(), loader())
    assert done.run_folder is not None
    lock = done.run_folder.begin_attempt()
    writer = LogWriter(done.run_folder.store(1), LogIdentity(done.run_folder.info.id, 1), Place())
    writer.append(writer.event(nb.Fault, "ValueError", "boom", "", "running", source="other"))
    writer.close()
    lock.release()

    resumed = nightbus("replay", done.run_folder.path, "--resume")

    assert "csv had received everything already" in resumed.stderr


@pytest.mark.long
def test_resume_completes_the_files_of_a_killed_run(tmp_path: Path) -> None:
    program = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from models import QUIET, Small, loader
import nightbus as nb

class Dies(Small):
    def on_train_epoch_end(self):
        if self.current_epoch == 30:
            os.kill(os.getpid(), 9)

options = dict(QUIET, logger=True)
nb.Trainer(max_epochs=99, default_root_dir={str(tmp_path)!r}, log_every_n_steps=1, **options).fit(
    Dies(), loader()
)
"""
    run_program("-c", program, timeout=DEADLINE_S)
    (run,) = (tmp_path / "runs").iterdir()
    replayed = tmp_path / "again"

    resumed = nightbus("replay", run, "--resume")
    whole = nightbus("replay", run, "--csv", replayed)

    assert resumed.returncode == 0, resumed.stderr
    assert whole.returncode == 3
    assert "the recording ends early, this is what there is of it" in whole.stderr
    assert (run / "metrics.csv").read_bytes() == (replayed / "metrics.csv").read_bytes()


def test_a_cursor_does_not_say_where_to_write_outside_the_run(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    done = trainer(tmp_path, sinks=[nb.CSV(outside)], log_every_n_steps=1)
    done.fit(Small(), loader())
    assert done.run_folder is not None
    whole = (outside / "metrics.csv").read_bytes()
    rewind(done.run_folder, "csv", outside)
    before = (outside / "metrics.csv").read_bytes()

    resumed = nightbus("replay", done.run_folder.path, "--resume")

    assert resumed.returncode == 3
    assert f"nightbus.CSV({str(outside)!r})" in resumed.stderr
    assert (outside / "metrics.csv").read_bytes() == before
    nb.replay(done.run_folder, sinks=[nb.CSV(outside)], resume=True)
    assert (outside / "metrics.csv").read_bytes() == whole


def test_a_cursor_cannot_name_a_file_in_another_folder(tmp_path: Path) -> None:
    done = trainer(tmp_path, sinks=[nb.CSV()], log_every_n_steps=1)
    done.fit(Small(), loader())
    assert done.run_folder is not None
    victim = tmp_path / "victim"
    victim.write_text("precious")
    file = CursorFile(done.run_folder, "csv")
    cursor = file.load()
    assert cursor is not None
    state = {**cursor.state, "name": "../../victim", "size": 0}
    file.commit(Cursor(0, 0, "CSV", state))

    resumed = nightbus("replay", done.run_folder.path, "--resume")

    assert resumed.returncode == 1
    assert "names the file" in resumed.stderr
    assert victim.read_text() == "precious"


def rewind(run: nb.RunFolder, name: str, folder: Path) -> None:
    """Put a CSV sink back to where it had written nothing but the head of its table."""
    head = "epoch,step,stage\n"
    (folder / "metrics.csv").write_text(head)
    file = CursorFile(run, name)
    cursor = file.load()
    assert cursor is not None
    state = {**cursor.state, "size": len(head), "columns": [], "rows": 0, "place": None}
    file.commit(Cursor(0, 0, cursor.kind, {**state, "row_names": [], "row_values": []}))


def test_resume_tells_what_to_do_for_a_sink_of_the_users_own(tmp_path: Path) -> None:
    recorded = record(tmp_path)
    CursorFile(nb.RunFolder.open(recorded), "mine").commit(Cursor(0, 0, "Mine", {}))

    done = nightbus("replay", recorded, "--resume")

    assert done.returncode == 3
    assert "mine is a sink of your own, Mine" in done.stderr
    assert "resume=True" in done.stderr


def test_resume_serves_the_other_sinks_when_one_cannot_go_on(tmp_path: Path) -> None:
    done = trainer(tmp_path, sinks=[nb.CSV(), nb.JSONLines()], log_every_n_steps=1)
    done.fit(Small(), loader())
    assert done.run_folder is not None
    (done.run_folder.path / "metrics.csv").write_text("cut off")

    resumed = nightbus("replay", done.run_folder.path, "--resume")

    assert resumed.returncode == 1
    assert "csv could not resume" in resumed.stderr
    assert "jsonlines had received everything already" in resumed.stderr
    assert "Traceback" not in resumed.stderr


def test_resume_leaves_a_run_alone_that_is_still_being_written(tmp_path: Path) -> None:
    folder = nb.RunFolder.open(record(tmp_path))
    lock = folder.begin_attempt()

    done = nightbus("replay", folder.path, "--resume")

    lock.release()
    assert done.returncode == 1
    assert "is still being written" in done.stderr


def test_replay_of_a_run_that_goes_on_delivers_what_there_is_and_says_so(tmp_path: Path) -> None:
    folder = nb.RunFolder.create(tmp_path, "live")
    lock = folder.begin_attempt()
    writer = LogWriter(folder.store(0), LogIdentity(folder.info.id), Place())
    kind, fields, _ = put("loss", 0.5)
    writer.append(writer.event(kind, *fields))
    writer.flush()

    done = nightbus("replay", folder.path, "--csv", tmp_path / "copy")

    writer.close()
    lock.release()
    assert done.returncode == 3
    assert "the run goes on" in done.stderr
    assert (tmp_path / "copy" / "metrics.csv").read_text().endswith("0,0,,0.5\n")


def test_a_log_of_a_newer_major_version_is_refused(run: Path, tmp_path: Path) -> None:
    newer = tmp_path / "newer"
    shutil.copytree(run, newer)
    (segment,) = (newer / "attempt-000" / "rank-00000").iterdir()
    segment.unlink()
    header = log_format.SegmentHeader((9, 0), "x", 0, 0, 1, 0, 0, 7, 0, 0)
    (segment.parent / "000000.nlog").write_bytes(log_format.pack_header(header))

    done = nightbus("show", newer)

    assert done.returncode == 5
    assert "upgrade nightbus" in done.stderr


def test_what_is_no_log_is_refused(tmp_path: Path) -> None:
    recorded = record(tmp_path)
    (recorded / "attempt-000" / "rank-00000" / "000000.nlog").write_text("epoch,step\n" * 9)

    done = nightbus("show", recorded)

    assert done.returncode == 5
    assert len(done.stderr.splitlines()) == 1


def test_the_traceback_of_an_error_is_shown_on_demand() -> None:
    quiet, loud = nightbus("show", "nowhere"), nightbus("show", "nowhere", NIGHTBUS_LOG="debug")

    assert "Traceback" not in quiet.stderr
    assert "Traceback" in loud.stderr


def test_help_and_version_start_without_torch() -> None:
    shown = nightbus("--help").stdout
    assert "show" in shown
    assert "exit codes" in shown
    assert nightbus("--version").stdout.startswith("nightbus 0.")
