"""tail -f of a run whose process was killed."""

from pathlib import Path

import pytest

from nightbus.__main__ import main
from nightbus.bus.events import Put, RunEnded
from nightbus.bus.log.place import Place
from nightbus.bus.log.writer import LogIdentity, LogWriter
from nightbus.bus.runs.run_folder import RunFolder


def recorded(root: Path, ends: bool) -> RunFolder:
    run = RunFolder.create(root, "run")
    lock = run.begin_attempt()
    writer = LogWriter(run.store(0), LogIdentity(run.info.id, 0), Place())
    writer.append(writer.event(Put, "loss", 1.0, ("loggers",), "", source="m"))
    if ends:
        writer.append(writer.event(RunEnded, "completed", ""))
    writer.flush()
    writer.close()
    lock.release()
    return run


@pytest.mark.parametrize("form", [[], ["--json"], ["--metric", "loss"], ["-n", "0"]])
def test_following_a_run_that_was_killed_says_so_and_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: list[str]
) -> None:
    run = recorded(tmp_path, ends=False)

    code = main(["tail", str(run.path), "-f", *form])

    assert "the run was killed: its process ended without a word" in capsys.readouterr().err
    assert code == 0  # it is no error to look at one


def test_following_a_run_that_came_to_its_end_says_nothing_of_the_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = recorded(tmp_path, ends=True)

    assert main(["tail", str(run.path), "-f", "--metric", "loss"]) == 0

    assert "killed" not in capsys.readouterr().err
