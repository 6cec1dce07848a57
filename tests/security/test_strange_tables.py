"""A folder of runs of a stranger: what is kept beside runs, for tables of many, is nonsense."""

import json
import os
import struct
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from board_asked import Asked, recorded

import nightbus as nb
from nightbus.__main__ import main
from nightbus.bus.library import index
from nightbus.bus.runs import kept_summary
from nightbus.bus.runs.run_summary import MAX_METRICS, SUMMARY, read_summaries

ESCAPE = "\x1b]0;owned\x07completed"
OLD_NS = 10**18
NOT_SAID: Any = [1, 2]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of two runs, the second of which is called strange."""
    recorded(tmp_path, 0.1, 1.0)
    run = recorded(tmp_path, 0.2, 2.0)
    run.path.rename(tmp_path / "runs" / "strange")
    for folder in (tmp_path / "runs").iterdir():
        os.utime(folder, ns=(OLD_NS, OLD_NS))
    return tmp_path / "runs"


def fields(root: Path, **changes: Any) -> bytes:
    """The strange run in short, with other fields."""
    (run,) = (run for run in read_summaries(root) if run.path.endswith("strange"))
    return msgspec.msgpack.encode({**msgspec.structs.asdict(run), **changes})


def plant_summary(root: Path, summary: bytes) -> None:
    """Have the strange run keep a summary that seems to hold."""
    kept = {
        "layout": kept_summary.LAYOUT,
        "changed_ns": OLD_NS,
        "segments": {},
        "summary": msgspec.Raw(summary),
    }
    (root / "strange" / SUMMARY).write_bytes(msgspec.msgpack.encode(kept))
    os.utime(root / "strange", ns=(OLD_NS, OLD_NS))


def record(name: str, row: bytes, changed_ns: int = OLD_NS) -> bytes:
    return struct.pack("<IIq", len(name), len(row), changed_ns) + name.encode() + row


def plant_index(root: Path, *records: bytes) -> None:
    (root / index.FILE).write_bytes(b"".join([index._head(), *records]))


STRANGE = [
    {"encoded": NOT_SAID},
    {"ending": ESCAPE},
    {"ending": "running"},
    {"problem": ESCAPE},
    {"metrics": {"loss": None}},
    {"created_ns": "now"},
    {"path": None},
    {"hparams": {"a": [[]]}},
]


@pytest.mark.parametrize("changes", STRANGE)
def test_of_a_run_that_keeps_nonsense_the_log_is_read(root: Path, changes: dict[str, Any]) -> None:
    expected = read_summaries(root)
    plant_summary(root, fields(root, **changes))

    assert index.read_table(root) == expected


def test_of_a_run_that_keeps_more_than_was_ever_kept_the_log_is_read(root: Path) -> None:
    expected = read_summaries(root)
    plant_summary(root, fields(root, metrics={f"m{n}": [] for n in range(MAX_METRICS + 1)}))
    assert index.read_table(root, use_index=False) == expected

    plant_summary(root, fields(root, notes="x" * kept_summary.MAX_BYTES))
    assert index.read_table(root, use_index=False) == expected


@pytest.mark.parametrize("plant", ["summary", "index"])
def test_tables_conditions_and_the_board_go_on_though_one_run_says_nonsense_of_itself(
    root: Path, plant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    row = fields(root, encoded=NOT_SAID)
    plant_summary(root, row) if plant == "summary" else plant_index(root, record("strange", row))

    assert main(["ls", str(root), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 2
    assert main(["ls", str(root), "--columns", "id,torch"]) == 0
    assert len(nb.runs(root, where="torch != '1.0'").columns()["id"]) >= 1
    board = Asked(root)
    for path in ("/api/table", "/api/names", "/api/columns?name=torch", "/api/run/strange"):
        assert board.get(path).status_code == 200, path


@pytest.mark.parametrize("changes", STRANGE[1:])
def test_a_row_of_the_index_that_makes_no_sense_is_read_from_the_run_and_written_anew(
    root: Path, changes: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    expected = read_summaries(root)
    plant_index(root, record("strange", fields(root, **changes)))

    assert main(["ls", str(root)]) == 0
    assert "\x1b" not in "".join(capsys.readouterr())
    assert index.read_table(root) == expected
    assert b"owned" not in (root / index.FILE).read_bytes()


@pytest.mark.parametrize("what", ["link", "pipe", "folder", "nowhere"])
def test_an_index_that_is_no_file_is_neither_followed_nor_waited_for(
    root: Path, tmp_path: Path, what: str
) -> None:
    theirs, path = tmp_path / "theirs", root / index.FILE
    theirs.write_bytes(index._head())
    if what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    else:
        path.symlink_to(theirs if what == "link" else tmp_path / "nowhere")

    for _ in range(2):
        assert index.read_table(root) == read_summaries(root)

    assert theirs.read_bytes() == index._head()
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    "records",
    [
        [record("strange", b"")],
        [record("strange", b"\xc1")],
        [record("strange", b"\x00" * 100)[:-50]],
        [record("strange", b"\x00" * 100)[:10]],
        [struct.pack("<IIq", 7, 0xFFFFFFFF, OLD_NS) + b"strange"],
        [struct.pack("<IIq", 0xFFFFFFFF, 9, OLD_NS)],
        [record("../strange", b"row"), record("/etc", b"row"), record("", b"row")],
        [record("strange", b"row")] * 3000,
        [struct.pack("<IIq", 2, 3, OLD_NS) + b"\xff\x00row"],
        [b"\x00" * 4096],
    ],
)
def test_an_index_of_nonsense_is_written_anew(root: Path, records: list[bytes]) -> None:
    expected = read_summaries(root)
    plant_index(root, *records)

    assert index.read_table(root) == expected
    size = (root / index.FILE).stat().st_size
    assert index.read_table(root) == expected
    held = index._read_index(root / index.FILE, dict(index._folders(root)))
    assert (held.can_grow, len(held.rows)) == (True, 2)
    assert (root / index.FILE).stat().st_size == size


def test_of_an_index_without_end_no_more_is_read_than_there_are_runs(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = read_summaries(root)
    plant_index(root)
    with open(root / index.FILE, "r+b") as file:
        file.truncate(1 << 40)  # zeros, that take no room
    monkeypatch.setattr(index, "MAX_RECORDS", 1000)

    assert index.read_table(root) == expected
    assert (root / index.FILE).stat().st_size < 1 << 20


def test_a_run_that_has_changed_is_added_at_the_end_of_the_index(root: Path) -> None:
    index.read_table(root)
    before = (root / index.FILE).read_bytes()
    changed_ns = time.time_ns() - 10**10
    os.utime(root / "strange", ns=(changed_ns, changed_ns))

    assert index.read_table(root) == read_summaries(root)
    after = (root / index.FILE).read_bytes()
    assert after[: len(before)] == before
    assert len(after) > len(before)


def test_two_may_add_to_an_index_at_once(root: Path) -> None:
    index.read_table(root)
    folders = dict(index._folders(root))
    held = index._read_index(root / index.FILE, folders)
    for _ in range(2):
        index._write_index(root / index.FILE, held, held.rows, folders)

    assert index._read_index(root / index.FILE, folders) == held


def test_a_run_in_a_folder_whose_name_is_no_text_is_read_each_time(root: Path) -> None:
    os.rename(root / "strange", os.fsencode(root) + b"/\xff\xfe")
    index.read_table(root)

    assert index.read_table(root) == read_summaries(root)
    for run in nb.runs(root):
        kept_summary.keep_summary(run.folder)
    assert main(["ls", str(root)]) == 0
