"""Reading what a stranger made runs no code: audited_reading.py says how it is found out."""

import json
import os
import subprocess
import sys
from pathlib import Path

import hostile
import msgspec
import pytest
from helpers import encode_events

from nightbus.__main__ import main
from nightbus.bus.events import Unknown
from nightbus.bus.log.format import HAS_RECORDS, KIND_EVENTS, SegmentHeader, pack_frame, pack_header
from nightbus.bus.log.reader import LogReader
from nightbus.bus.runs.cursor import Cursor, CursorFile

pytestmark = pytest.mark.long

HERE = Path(__file__).parent
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(
        [str(HERE), str(HERE.parent / "faults"), os.environ.get("PYTHONPATH", "")]
    ),
}


def run_python(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=ENVIRONMENT, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_reading_what_a_stranger_made_loads_and_runs_nothing_and_connects_to_nobody(
    tmp_path: Path,
) -> None:
    report = json.loads(run_python(str(HERE / "audited_reading.py"), str(tmp_path), "500"))

    assert report["forbidden"] == []
    assert report["sentinel"] is False
    assert report["readings"] >= 550
    assert report["refused"] > 250


def test_the_audit_hears_a_pickle_a_process_a_connection_and_a_file_outside(
    tmp_path: Path,
) -> None:
    code = (
        "import os, pickle, socket, subprocess, sys\n"
        "from pathlib import Path\n"
        "from audited_reading import Bomb, Watch\n"
        "folder = Path(sys.argv[1])\n"
        "watch = Watch(folder / 'inside')\n"
        "with watch.watching():\n"
        "    pickle.loads(pickle.dumps(Bomb(folder / 'sentinel')))\n"
        "    subprocess.run(['true'])\n"
        "    socket.socket(socket.AF_UNIX).connect_ex(str(folder / 'nobody'))\n"
        "    os.system('true')\n"
        "    eval('1')\n"
        "    import this_module_is_not_there_yet as _\n"
    )
    (tmp_path / "this_module_is_not_there_yet.py").write_text("")
    code = code.replace(
        "    import this", f"    sys.path.append({str(tmp_path)!r})\n    import this"
    )
    heard = run_python("-c", f"{code}print(*watch.seen, sep='\\n')", str(tmp_path))

    for event in (
        "pickle.find_class",
        "open to write",
        "subprocess.Popen",
        "socket.connect",
        "os.system",
        "exec",
        "import",
    ):
        assert event in heard


# -- a log cannot name code ----------------------------------------------------------------------


def test_a_type_that_a_logs_schema_names_is_data(tmp_path: Path) -> None:
    sentinel = tmp_path / "sentinel"
    run = hostile.make_run(tmp_path)
    header = SegmentHeader((1, 0), run.info.id, 0, 0, 1, 0, 0, 7, 0, 0)
    header.schema = {99: ["os.system", "command"], 2: ["os.system", "command"]}
    call = (99, 0, f"touch {sentinel}")
    payload = encode_events((), (), (call,))
    frame = pack_frame(7, KIND_EVENTS, payload, 1, 0, 1, HAS_RECORDS)
    run.store(0).path(0).write_bytes(pack_header(header) + frame)

    reader = LogReader(run.store(0))
    (event,) = reader.events()
    reader.close()

    assert isinstance(event, Unknown)
    assert msgspec.msgpack.decode(event.raw) == list(call)
    assert hostile.read_run(run.path) == ""
    assert not sentinel.exists()


def test_a_class_that_a_cursor_names_is_only_looked_up_among_nightbus_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = hostile.make_run(tmp_path)
    CursorFile(run, "csv").commit(Cursor(0, 0, "Popen", {"module": "subprocess"}))

    assert main(["replay", str(run.path), "--resume"]) != 0

    assert "csv is a sink of your own, Popen" in capsys.readouterr().err


def test_a_class_name_that_is_code_is_not_shown_for_pasting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = hostile.make_run(tmp_path)
    CursorFile(run, "csv").commit(Cursor(0, 0, "__import__('os').abort", {}))

    assert main(["replay", str(run.path), "--resume"]) != 0

    shown = capsys.readouterr().err
    assert "not a class name" in shown
    assert "sinks=[" not in shown
