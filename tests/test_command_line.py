"""The command line, as a user runs it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from models import Small, loader, trainer

import nightbus as nb


def nightbus(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "80"}
    return subprocess.run(
        [sys.executable, "-m", "nightbus", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        timeout=60,
    )


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


def test_show_as_json_agrees_with_the_log(run: Path) -> None:
    report = json.loads(nightbus("show", run, "--json").stdout)

    (attempt,) = report["attempts"]
    assert (attempt["how"], attempt["steps"], attempt["fn"]) == ("completed", 12, "fit")
    loss = report["total"]["metrics"]["train_loss"]
    values = [
        float(line.split(",")[3])
        for line in (run / "metrics.csv").read_text().splitlines()[1:]
        if line.split(",")[3]
    ]
    assert loss[0] == len(values)
    assert loss[1] == values[-1]
    assert loss[4] == min(values)


def test_show_never_loads_torch(run: Path) -> None:
    code = (
        "import sys; from nightbus.__main__ import main; "
        f"main(['show', {str(run)!r}]); "
        "print('loaded', [m for m in ('torch', 'numpy', 'trio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    assert done.stdout.strip().endswith("loaded []")


def test_show_says_that_a_killed_run_was_cut_off(tmp_path: Path) -> None:
    script = Path(__file__).parent / "faults" / "training_process.py"
    with subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("batch 20"):
                break
        running = nightbus("show", next((tmp_path / "runs").iterdir()))
        process.send_signal(signal.SIGKILL)

    killed = nightbus("show", next((tmp_path / "runs").iterdir()))
    assert "fit running" in running.stdout
    assert "fit cut off (the log ends at byte" in killed.stdout


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
    assert "fault of module in training_step: ValueError: boom [bold]" in shown


def test_replay_writes_the_same_files(run: Path, tmp_path: Path) -> None:
    done = nightbus("replay", run, "--csv", tmp_path, "--jsonl", tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
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
    assert "csv had got everything already" in done.stderr
    assert (run / "metrics.csv").read_bytes() == before


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
    subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=120)
    (run,) = (tmp_path / "runs").iterdir()
    replayed = tmp_path / "again"

    resumed = nightbus("replay", run, "--resume")
    whole = nightbus("replay", run, "--csv", replayed)

    assert resumed.returncode == 0, resumed.stderr
    assert whole.returncode == 3
    assert "the recording was cut" in whole.stderr
    assert (run / "metrics.csv").read_bytes() == (replayed / "metrics.csv").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["show", "nowhere"], 2, "is not a run"),
        (["replay", "RUN"], 2, "name a destination"),
        (["replay", "RUN", "--resume", "--csv", "x"], 2, "leave --csv and --jsonl out"),
    ],
)
def test_a_wrong_call_is_told_what_to_do(
    run: Path, arguments: list[str], code: int, message: str
) -> None:
    done = nightbus(*[str(run) if word == "RUN" else word for word in arguments])

    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_log_of_a_newer_major_version_is_refused(run: Path, tmp_path: Path) -> None:
    import shutil

    from nightbus.bus import log_format

    newer = tmp_path / "newer"
    shutil.copytree(run, newer)
    (segment,) = (newer / "attempt-000" / "rank-00000").iterdir()
    segment.unlink()
    header = log_format.SegmentHeader((2, 0), "x", 0, 0, 1, 0, 0, 7, 0, 0)
    (segment.parent / "000000.nlog").write_bytes(log_format.pack_header(header))

    done = nightbus("show", newer)

    assert done.returncode == 5
    assert "upgrade nightbus" in done.stderr


def test_help_and_version_start_without_torch() -> None:
    assert "show" in nightbus("--help").stdout
    assert nightbus("--version").stdout.startswith("nightbus 0.")
