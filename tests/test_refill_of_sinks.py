"""What is printed for a sink that stopped early delivers the rest when it is pasted."""

import re
import shlex
from pathlib import Path
from typing import Any, ClassVar

import pytest
from models import Small, loader, trainer

import nightbus as nb
from nightbus.__main__ import main


class Carries(nb.Sink):
    """Keeps what it gets, in a list of the class; fails while it is told to."""

    carried: ClassVar[list[str]] = []
    is_away = False
    supervision = nb.Supervision(restarts=0)

    def write(self, batch: list[nb.Put]) -> None:
        if type(self).is_away:
            raise OSError("away")
        self.carried.extend(put.name for put in batch)


class Renamed(Carries):
    """Has a name of its own."""

    name = "elsewhere"


@pytest.fixture(autouse=True)
def nothing_carried() -> None:
    Carries.carried = []


def fail(*_: Any) -> None:
    raise OSError("away")


def stopped_early(
    root: Path, capsys: pytest.CaptureFixture[str], *sinks: Any
) -> tuple[nb.Trainer, list[str]]:
    """A run whose sinks fail, and the commands that it and ``nightbus show`` print."""
    run = trainer(root, sinks=sinks)
    run.fit(Small(), loader(), loader(8))
    said = re.findall(r"deliver the rest (in Python )?with: (.*)", capsys.readouterr().err)
    commands = [command for _, command in said]
    assert [bool(in_python) for in_python, _ in said] == [
        not command.startswith("nightbus replay") for command in commands
    ]
    main(["show", str(run.log_dir)])
    shown = capsys.readouterr().out.splitlines()
    assert all(f"deliver the rest {how}with: {command}" in shown for how, command in said)
    return run, commands


def err(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def paste(line: str, **names: Any) -> None:
    """What a user does with a line of Python."""
    exec(line, {"nightbus": nb, **names})


def test_for_a_function_a_line_of_python_delivers_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []
    run, (line,) = stopped_early(tmp_path, capsys, fail)

    paste(line, your_function=lambda put: seen.append(put.name))

    assert line == f"nightbus.replay({str(run.log_dir)!r}, sinks=[your_function], resume=True)"
    assert seen == ["val_loss"]


def test_the_second_of_two_functions_gets_its_own_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first: list[str] = []
    again: list[str] = []
    _, (line,) = stopped_early(tmp_path, capsys, lambda put: first.append(put.name), fail)

    paste(line, your_function=lambda put: again.append(put.name))

    assert (first, again) == (["val_loss"], ["val_loss"])


@pytest.mark.parametrize("kind", [Carries, Renamed])
def test_for_a_sink_of_the_users_own_a_line_of_python_delivers_the_rest(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    kind: type[Carries],
) -> None:
    with monkeypatch.context() as away:
        away.setattr(Carries, "is_away", True)
        _, (line,) = stopped_early(tmp_path, capsys, kind())

    paste(line, **{kind.__name__: kind})

    assert Carries.carried == ["val_loss"]


def test_for_files_in_the_run_the_command_line_delivers_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as away:
        away.setattr(nb.CSV, "write", fail)
        run, (line,) = stopped_early(tmp_path / "a folder", capsys, nb.CSV())

    words = shlex.split(line)
    assert words[0] == "nightbus"
    assert main(words[1:]) == 0

    assert run.log_dir is not None
    assert "val_loss" in (Path(run.log_dir) / "metrics.csv").read_text()


@pytest.mark.parametrize(
    ("method", "folder"), [("write", True), ("open", True), ("open", False)], ids=str
)
def test_for_files_elsewhere_and_those_never_opened_a_line_of_python_does(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    method: str,
    folder: bool,
) -> None:
    outside = tmp_path / "outside"
    run = trainer(tmp_path, sinks=[nb.CSV(outside if folder else None)])
    with monkeypatch.context() as away:
        away.setattr(nb.CSV, method, fail)
        run.fit(Small(), loader(), loader(8))
    (line,) = [
        line.partition("the rest in Python with: ")[2] for line in err(capsys) if "csv" in line
    ]

    paste(line)

    assert run.log_dir is not None
    assert "val_loss" in ((outside if folder else Path(run.log_dir)) / "metrics.csv").read_text()


def test_a_cursor_that_names_no_class_is_not_shown_as_a_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = stopped_early(tmp_path, capsys, fail)
    assert run.log_dir is not None
    (cursor,) = (Path(run.log_dir) / "cursors").iterdir()
    cursor.write_text(cursor.read_text().replace("FunctionSink", "x(); import os; y"))

    main(["show", str(run.log_dir)])

    out = capsys.readouterr().out
    assert "which is not a class name; nightbus did not write this file" in out
    assert "deliver the rest" not in out
