"""``nightbus board --export FOLDER``: the page and its runs as files; and which runs are chosen."""

import json
import os
import re
import time
from pathlib import Path

import pytest
from board_asked import PAGE, recorded
from programs import run_program

from nightbus.__main__ import main
from nightbus.bus.runs.marks import Marks, write_marks
from nightbus.sinks.board.export import exported_files
from nightbus.sinks.board.shelf import Shelf

HOSTILE = "</script><script>alert(1)</script>\u2028"


@pytest.fixture(autouse=True)
def page(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page, so that none has to be built."""
    monkeypatch.setattr("nightbus.sinks.board.export.page_files", lambda: PAGE)


def test_a_folder_has_the_page_with_the_table_and_a_script_for_each_run(tmp_path: Path) -> None:
    run = recorded(tmp_path, 0.1, 0.5, 0.25)

    files = dict(exported_files(Shelf(tmp_path)))

    script = f"runs/{run.path.name}.js"
    assert [*files] == ["index.html", script]
    held = json.loads(re.search(rb'id="data">(.*?)</script>', files["index.html"])[1])  # type: ignore[index]
    assert [row["id"] for row in held["table"]["rows"]] == [run.path.name]
    assert "script-src 'self' 'sha256-" in files["index.html"].decode()
    key, data = json.loads(b"[" + files[script].removeprefix(b"takeRun(").rstrip(b")\n") + b"]")
    assert key == run.path.name
    assert json.loads(data)["curves"]["val_loss"][3] == [0.5, 0.25]


def test_an_export_needs_no_server() -> None:
    without = "import sys; sys.modules.update(starlette=None, hypercorn=None)"
    ended = run_program("-c", f"{without}; import nightbus.sinks.board.export", timeout=120)

    assert ended.returncode == 0, ended.stderr


def test_a_strange_name_of_a_run_s_folder_is_in_no_name_of_a_file(tmp_path: Path) -> None:
    run = recorded(tmp_path, 0.1, 0.5)
    os.rename(run.path, run.path.with_name(HOSTILE.replace("/", "%")))

    files = dict(exported_files(Shelf(tmp_path)))

    assert re.fullmatch(r"runs/x-[0-9a-f]{16}\.js", [*files][1])
    assert b"<script>alert" not in files["index.html"]


def test_a_folder_is_written_again_without_runs_that_are_not_chosen_any_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = recorded(tmp_path / "of", 0.1, 0.5), recorded(tmp_path / "of", 0.2, 0.5)
    folder = tmp_path / "page"
    verb = ["board", str(tmp_path / "of"), "--export", str(folder)]

    assert main(verb) == 0
    first = {path.stem for path in (folder / "runs").iterdir()}
    assert main([*verb, "--where", "lr < 0.15"]) == 0

    assert first == {one.path.name, other.path.name}
    assert [path.stem for path in (folder / "runs").iterdir()] == [one.path.name]
    assert "1 run in" in capsys.readouterr().err


def test_nothing_is_written_into_a_folder_that_has_something_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded(tmp_path / "of", 0.1, 0.5)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "index.html").write_text("<!doctype html>\nmy own")

    assert main(["board", str(tmp_path / "of"), "--export", str(mine)]) == 2
    assert "not what nightbus board has written" in capsys.readouterr().err
    assert [path.name for path in mine.iterdir()] == ["index.html"]


def test_runs_are_chosen_by_tags_and_by_when_they_began(tmp_path: Path) -> None:
    one, other = recorded(tmp_path, 0.1, 0.5), recorded(tmp_path, 0.2, 0.5)
    write_marks(one.folder, Marks(tags=("good",)))
    age_s = time.time() - other.folder.info.created_ns / 1e9

    assert len(Shelf(tmp_path, since_s=age_s + 3600).table().runs) == 2
    assert len(Shelf(tmp_path, since_s=0.0).table().runs) == 0
    assert [run.id for run in Shelf(tmp_path, tags=["good"]).table().runs.summaries] == [
        one.path.name
    ]
