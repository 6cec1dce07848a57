"""A run folder whose files are links, pipes or folders: nothing waits, and nothing outside is read
or written.
"""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import hostile
import msgspec
import pytest
from helpers import DEADLINE_S, Recording

import nightbus as nb
from nightbus.actors.checkpoints.files import find_checkpoint
from nightbus.actors.checkpoints.format import read_checkpoint, write_checkpoint
from nightbus.bus.errors import CheckpointError, LogFormatError, RunFolderError, SinkError
from nightbus.bus.runs.cursor import Cursor, CursorFile, list_cursors
from nightbus.bus.runs.run_folder import RunFolder, RunInfo, write_atomically
from nightbus.bus.system.plain_file import MAX_SMALL_FILE_BYTES, open_plain, read_small
from nightbus.sinks.growing_file import GrowingFile, replace_file

pytestmark = pytest.mark.long

SECRET = "outside-of-the-run"
# What is read of a run, and what each of it may be replaced by.
FILES = ("run.json", hostile.LOG, hostile.OTHER_LOG, "cursors/csv.json", "attempt-000/lock")
FOLDERS = ("attempt-000", "attempt-000/rank-00000", "cursors")
VERBS = tuple(verb for verb in hostile.READING_VERBS if "attach" not in verb)


class Hung(BaseException):
    """A test waits for ever. No error that what is tested catches."""


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    """Whatever waits is interrupted, and fails."""

    def give_up(number: int, frame: FrameType | None) -> NoReturn:
        raise Hung(f"nothing came of it in {DEADLINE_S:g} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(int(DEADLINE_S))
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def outside_run(folder: Path) -> RunFolder:
    """Another run, which holds a secret wherever it can."""
    folder.mkdir()
    run = hostile.make_run(folder, steps=2)
    info = msgspec.structs.replace(run.info, name=SECRET, argv=[SECRET])
    write_atomically(run.path / "run.json", msgspec.json.encode(info))
    CursorFile(run, "csv").commit(Cursor(0, 0, SECRET, {"name": SECRET}))
    (run.path / hostile.LOG).write_bytes(log_with_a_secret(folder / "secret"))
    (run.path / "attempt-000/lock").write_text("4711")
    return run


def log_with_a_secret(folder: Path) -> bytes:
    folder.mkdir()
    recording = Recording(folder)
    recording.put(SECRET)
    recording.writer.close()
    return (folder / "000000.nlog").read_bytes()


def replace(path: Path, what: str, target: Path) -> None:
    moved = path.with_name(f"{path.name}.moved")
    if path.exists():
        path.rename(moved)
    if what == "link":
        path.symlink_to(target)
    elif what == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()


# -- the reading verbs ---------------------------------------------------------------------------


@pytest.mark.parametrize("file", [*FILES, *FOLDERS])
def test_no_verb_follows_a_link_out_of_a_run(tmp_path: Path, file: str) -> None:
    outside = outside_run(tmp_path / "outside")
    before = contents(outside.path)
    (tmp_path / "runs").mkdir()
    run = hostile.make_run(tmp_path / "runs", steps=2).path
    replace(run / file, "link", outside.path / file)

    shown = [hostile.shown_by_verb(verb, run) for verb in VERBS]

    # The doctor says where a link leads; that is a path, not what is there.
    assert SECRET not in "".join(shown).replace(str(outside.path), "")
    assert contents(outside.path) == before


@pytest.mark.parametrize("what", ["pipe", "folder"])
@pytest.mark.parametrize("file", FILES)
def test_no_verb_waits_for_what_is_no_file(tmp_path: Path, file: str, what: str) -> None:
    (tmp_path / "runs").mkdir()
    run = hostile.make_run(tmp_path / "runs", steps=2).path
    replace(run / file, what, tmp_path)

    for verb in VERBS:
        hostile.read_with_verb(verb, run)


def test_one_strange_run_does_not_keep_ls_from_listing_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strange, good = hostile.make_run(tmp_path, 1), hostile.make_run(tmp_path, 1)
    rank = strange.path / "attempt-000/rank-00000"
    replace(rank, "link", good.path / "attempt-000/rank-00000")

    listed = hostile.shown_by_verb(("ls",), good.path)

    assert good.info.id in listed
    assert f"{rank} is a link" in listed


def test_doctor_says_which_links_are_in_a_run(tmp_path: Path) -> None:
    run = hostile.make_run(tmp_path, 1).path
    replace(run / hostile.LOG, "link", Path("/etc/passwd"))

    assert "a link to /etc/passwd: it is not followed" in hostile.shown_by_verb(("doctor",), run)


def test_a_fix_that_the_doctor_names_can_be_pasted_whatever_files_are_called(
    tmp_path: Path,
) -> None:
    run = hostile.make_run(tmp_path, 1).path
    (run / "a; touch owned.tmp").write_text("")

    assert f"rm '{run}/a; touch owned.tmp'" in hostile.shown_by_verb(("doctor",), run)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# -- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "run_id", ["../up", "..", "", "a/b", "a\0b", "A", "..%2fup", "%252e", "a" * 65, "a\n"]
)
def test_a_run_id_that_is_no_plain_name_is_refused(tmp_path: Path, run_id: str) -> None:
    info = RunInfo(run_id, "name", 0, [])
    (tmp_path / "run.json").write_bytes(msgspec.json.encode(info))

    with pytest.raises(RunFolderError, match="1 to 64"):
        RunFolder.open(tmp_path)


@pytest.mark.parametrize("name", ["../../up", "/etc", "..", "a\0b", "", "%2e%2e%2f"])
def test_a_run_lies_below_its_root_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    run = RunFolder.create(tmp_path / "runs", name)

    assert run.path.parent == tmp_path / "runs"
    assert run.path.is_dir()


@pytest.mark.parametrize("name", ["../../up", "/etc/passwd", "..", "a\0b"])
def test_a_cursor_lies_in_its_folder_whatever_its_observer_is_called(
    tmp_path: Path, name: str
) -> None:
    run = RunFolder.create(tmp_path, "run")
    file = CursorFile(run, name)
    file.commit(Cursor(0, 1, "CSV"))

    assert file.path.parent == run.path / "cursors"
    assert list(list_cursors(run)) == [name]


@pytest.mark.parametrize("name", ["../up.csv", "/etc/passwd", "..", ".", "", "a/b"])
def test_a_cursor_does_not_say_where_a_sink_writes(name: str) -> None:
    sink = nb.CSV()

    with pytest.raises(SinkError, match="names the file"):
        sink.load_state({"name": name, "destination": "loggers", "size": 0})


def test_cursors_that_are_a_link_are_neither_listed_nor_written(tmp_path: Path) -> None:
    run = hostile.make_run(tmp_path, 1)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "theirs.json").write_text("{}")
    replace(run.path / "cursors", "link", tmp_path / "elsewhere")

    with pytest.raises(RunFolderError, match="is a link"):
        list_cursors(run)
    with pytest.raises(RunFolderError, match="is a link"):
        CursorFile(run, "csv").commit(Cursor(0, 1, "CSV"))
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["theirs.json"]


# -- files ---------------------------------------------------------------------------------------


def make_socket(path: Path) -> None:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.close()


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda path: path.symlink_to("/etc/passwd"), "a link"),
        (os.mkfifo, "a pipe"),
        (os.mkdir, "a folder"),
        (make_socket, "a socket"),
    ],
)
def test_only_plain_files_are_opened(tmp_path: Path, make: Any, what: str) -> None:
    make(tmp_path / "file")

    with pytest.raises(LogFormatError, match=what):
        open_plain(tmp_path / "file", LogFormatError)


def test_a_device_is_not_opened() -> None:
    with pytest.raises(LogFormatError, match="a device"):
        open_plain(Path("/dev/zero"), LogFormatError)


def test_of_a_file_that_is_read_whole_only_so_much_is_read(tmp_path: Path) -> None:
    with open(tmp_path / "run.json", "wb") as file:
        file.truncate(1 << 40)

    with pytest.raises(RunFolderError, match=str(MAX_SMALL_FILE_BYTES)):
        read_small(tmp_path / "run.json", RunFolderError)


@pytest.mark.parametrize("replace_whole", [False, True])
def test_a_sink_that_goes_on_does_not_write_through_a_link(
    tmp_path: Path, replace_whole: bool
) -> None:
    target = tmp_path / "theirs"
    target.write_text("untouched")
    path = tmp_path / "metrics.csv"
    if replace_whole:  # what it writes beside it first
        path.write_text("old")
        (tmp_path / ".metrics.csv.tmp").symlink_to(target)
        replace_file(path, [b"new"])
        assert path.read_bytes() == b"new"
    else:
        path.symlink_to(target)
        with pytest.raises(SinkError, match="is a link"):
            GrowingFile.reopen(path, 0)

    assert target.read_text() == "untouched"


def test_an_atomic_write_does_not_write_through_a_link(tmp_path: Path) -> None:
    target = tmp_path / "theirs"
    target.write_text("untouched")
    name = f"run.json.{os.getpid()}-{threading.get_ident()}.tmp"
    (tmp_path / name).symlink_to(target)

    write_atomically(tmp_path / "run.json", b"{}")

    assert target.read_text() == "untouched"
    assert (tmp_path / "run.json").read_bytes() == b"{}"


@pytest.mark.parametrize("kind", [nb.SQLite, nb.Parquet, nb.TensorBoard, nb.CSV, nb.JSONLines])
def test_no_sink_resumes_into_a_file_that_is_a_link(tmp_path: Path, kind: Any) -> None:
    run = hostile.make_run(tmp_path, 1)
    (run.path / "cursors/csv.json").unlink()
    nb.replay(run, sinks=[kind()], resume=True)
    sink = kind()
    (path,) = [path for path in run.path.iterdir() if path.is_file() and path.name != "run.json"]
    target = tmp_path / "theirs"
    path.rename(target)
    path.symlink_to(target)
    before = target.read_bytes()

    with pytest.raises(SinkError, match="is a link"):
        nb.replay(run, sinks=[sink], resume=True)

    assert target.read_bytes() == before


# -- checkpoints ---------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["state.msgpack", "tensors.safetensors"])
@pytest.mark.parametrize("what", ["link", "pipe", "folder"])
def test_a_checkpoint_of_something_else_than_files_is_refused(
    tmp_path: Path, file: str, what: str
) -> None:
    folder = tmp_path / "checkpoint"
    write_checkpoint(folder, {"a": 1})
    replace(folder / file, what, folder / f"{file}.moved")

    with pytest.raises(CheckpointError, match=f"a {what}"):
        read_checkpoint(folder)


def test_the_last_checkpoint_of_a_run_may_not_lead_out_of_it(tmp_path: Path) -> None:
    run = hostile.make_run(tmp_path, 1)
    (tmp_path / "elsewhere").mkdir()
    (run.path / "checkpoints").mkdir()
    (run.path / "checkpoints/last").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(CheckpointError, match="leads out of its run"):
        find_checkpoint("last", tmp_path, run.info.name)


@pytest.mark.parametrize("kept", ["../theirs", "/ABSOLUTE", "inside/../../theirs", "way/theirs"])
def test_a_checkpoint_does_not_name_folders_elsewhere_that_are_removed_later(
    tmp_path: Path, kept: str
) -> None:
    theirs = tmp_path / "theirs"
    write_checkpoint(theirs, {"a": 1})
    mine = tmp_path / "mine"
    (mine / "inside").mkdir(parents=True)
    (mine / "way").symlink_to(tmp_path)
    callback = nb.ModelCheckpoint(dirpath=mine)
    kept = kept.replace("/ABSOLUTE", str(theirs))
    state = callback.state_dict() | {"kept": [kept], "newest": kept, "best_k_models": {kept: 1.0}}

    callback.load_state_dict(state)

    assert callback.best_k_models == {}
    assert callback._kept == []
    assert callback._newest == ""
