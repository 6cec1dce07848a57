"""``ls``, ``tail``, ``attach``, ``doctor`` and ``recover``, as a user runs them."""

import io
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from helpers import (
    DEADLINE_S,
    Recording,
    damage_the_middle,
    eventually,
    nightbus,
    read_log,
    seqs,
    values,
)
from models import Small, loader, trainer
from programs import Program

import nightbus as nb
from nightbus.__main__ import main
from nightbus.bus.control.socket import SOCKET_NAME
from nightbus.bus.events import Gap
from nightbus.bus.inspection.doctor import Finding, examine
from nightbus.bus.inspection.recover import recover
from nightbus.bus.inspection.salvage import salvage
from nightbus.bus.log import format as log_format
from nightbus.bus.log.format import FRAME_HEAD, KIND_EVENTS, unpack_frame, unpack_header
from nightbus.bus.log.place import Place
from nightbus.bus.log.segments import compress_segment
from nightbus.bus.log.writer import LogIdentity, LogWriter
from nightbus.bus.runs.run_folder import AttemptLock

pytestmark = pytest.mark.long


class Recorded:
    """A run recorded without training, in this process; ``end`` ends it."""

    def __init__(self, root: Path, name: str = "recorded", segment_bytes: int = 16 << 20) -> None:
        self.run = nb.RunFolder.create(root / "runs", name)
        self.path = self.run.path
        self.lock: AttemptLock = self.run.begin_attempt()
        self.place = Place()
        self.writer = LogWriter(
            self.run.store(0), LogIdentity(self.run.info.id), self.place, segment_bytes
        )
        self.add(nb.RunStarted, self.run.info.id, 0, "fit", time.time_ns(), {}, {})

    def add(self, kind: Any, *fields: Any, source: str = "module") -> None:
        self.writer.append(self.writer.event(kind, *fields, source=source))

    def step(self, value: float = 0.5, name: str = "loss") -> None:
        self.place.complete_step(self.place.step + 1)
        self.writer.add_hook("on_train_batch_end", time.monotonic_ns(), 1_500)
        self.add(nb.Put, name, value, ("loggers",), "")
        self.writer.flush()

    def steps(self, number: int) -> "Recorded":
        for value in range(number):
            self.step(float(value))
        return self

    def end(self, how: str = "completed") -> Path:
        self.add(nb.RunEnded, how, "")
        self.writer.close()
        self.lock.release()
        return self.path

    def abandon(self) -> Path:
        """As a killed process leaves it."""
        self.writer.flush()
        self.lock.release()
        return self.path

    def segment(self, index: int = 0) -> Path:
        return self.run.store(0).path(index)


def test_every_verb_has_its_part_in_the_documentation() -> None:
    page = (Path(__file__).parent.parent / "docs" / "command-line.md").read_text()
    verbs = re.findall(r"^    (\w+) ", nightbus("--help").stdout, flags=re.MULTILINE)

    assert len(verbs) >= 8
    headings = re.findall(r"^## (.+)$", page, flags=re.MULTILINE)
    headed = [verb for heading in headings for verb in heading.split(", ")]
    assert [verb for verb in verbs if verb not in headed] == []


# -- ls ------------------------------------------------------------------------------------------


def test_ls_lists_runs_oldest_first_with_how_they_ended(tmp_path: Path) -> None:
    completed = Recorded(tmp_path, "one").steps(3).end()
    killed = Recorded(tmp_path, "two").steps(4).abandon()
    running = Recorded(tmp_path, "three").steps(1_204)

    shown = nightbus("ls", cwd=tmp_path)

    running.end()
    assert (shown.returncode, shown.stderr) == (0, "")
    header, *rows = [re.split(r"\s{2,}", line) for line in shown.stdout.splitlines()]
    assert header == ["run", "started", "took", "ended", "epochs", "steps", "size"]
    assert [(row[0], row[3], row[5]) for row in rows] == [
        (completed.name, "completed", "3"),
        (killed.name, "killed", "4"),
        (running.path.name, "running", "1,204"),
    ]


def test_ls_as_json_has_every_part(tmp_path: Path) -> None:
    path = Recorded(tmp_path).steps(3).end("stopped")

    (line,) = json.loads(nightbus("ls", tmp_path, "--json").stdout)

    assert (line["id"], line["name"], line["ending"], line["steps"]) == (
        path.name,
        "recorded",
        "stopped",
        3,
    )
    files = [file for file in path.rglob("*") if file.is_file()]
    assert line["size_bytes"] == sum(file.stat().st_size for file in files)
    assert line["duration_s"] >= 0
    assert line["problem"] == ""


def test_ls_reads_sealed_segments_by_their_footers_alone(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path).steps(50)
    recorded.end()
    with recorded.segment().open("r+b") as file:  # an event in the middle is damaged
        file.seek(recorded.segment().stat().st_size // 4)
        file.write(b"\xff" * 8)

    (line,) = json.loads(nightbus("ls", tmp_path, "--json").stdout)

    assert (line["ending"], line["steps"]) == ("completed", 50)


def test_ls_lists_what_cannot_be_read_and_goes_on(tmp_path: Path) -> None:
    good, bad = Recorded(tmp_path, "good").steps(1).end(), Recorded(tmp_path, "bad")
    (bad.end() / "run.json").write_text("{")

    shown = nightbus("ls", tmp_path / "runs")

    assert shown.returncode == 1
    assert f"{bad.path.name}: {bad.path}/run.json cannot be read" in shown.stderr
    assert re.search(rf"{good.name} .* completed", shown.stdout)
    assert re.search(rf"{bad.path.name} .* damaged", shown.stdout)


def test_ls_of_no_folder_says_what_to_give(tmp_path: Path) -> None:
    shown = nightbus("ls", cwd=tmp_path)

    assert shown.returncode == 2
    assert "give the folder the runs lie in" in shown.stderr


@pytest.mark.parametrize(
    "verb",
    [
        ["ls", "ROOT"],
        ["tail", "RUN"],
        ["doctor", "RUN"],
        ["show", "RUN"],
        ["send", "RUN", "status"],
    ],
)
def test_a_reading_verb_loads_neither_torch_nor_trio(tmp_path: Path, verb: list[str]) -> None:
    path = Recorded(tmp_path).steps(3).end()
    arguments = [{"ROOT": str(tmp_path), "RUN": str(path)}.get(word, word) for word in verb]
    unwanted = {"torch", "numpy", "trio"} | ({"rich"} if verb[0] != "show" else set())
    code = (
        f"import sys; from nightbus.__main__ import main; main({arguments!r}); "
        f"print('loaded', *sorted({unwanted!r} & {{*sys.modules}}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE_S
    )

    assert done.stdout.splitlines()[-1] == "loaded"


# -- tail ----------------------------------------------------------------------------------------


def test_tail_shows_the_last_events_without_hooks(tmp_path: Path) -> None:
    path = Recorded(tmp_path).steps(20).end()

    lines = nightbus("tail", path, "-n", "3").stdout.splitlines()

    assert [line.split(maxsplit=1)[1] for line in lines] == [
        f"{'- epoch 0 step 19':40} {'Put':15} loss = 18 (module)",
        f"{'- epoch 0 step 20':40} {'Put':15} loss = 19 (module)",
        f"{'- epoch 0 step 20':40} {'RunEnded':15} completed",
    ]
    assert all(re.match(r"\d\d:\d\d:\d\d\.\d{3}  ", line) for line in lines)


def test_tail_shows_hooks_when_they_are_asked_for(tmp_path: Path) -> None:
    path = Recorded(tmp_path).steps(2).end()

    everything = nightbus("tail", path, "--kind", "all").stdout
    hooks = nightbus("tail", path, "--kind", "Hook", "-n", "1").stdout.splitlines()

    assert len(everything.splitlines()) == 6
    assert [line.split()[-4:] for line in hooks] == [["Hook", "on_train_batch_end,", "1.5", "us"]]


def test_tail_picks_events_by_type_and_by_metric(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path).steps(3)
    recorded.step(0.25, "accuracy")
    recorded.add(nb.Fault, "ValueError", "boom", "", "running", source="csv")
    path = recorded.steps(3).end()

    faults = nightbus("tail", path, "--kind", "Fault,DeadLetter").stdout
    accuracy = nightbus("tail", path, "--metric", "accuracy").stdout

    assert "csv in running: ValueError: boom" in faults
    assert len(faults.splitlines()) == len(accuracy.splitlines()) == 1
    assert "accuracy = 0.25" in accuracy


def test_tail_as_json_is_an_object_a_line(tmp_path: Path) -> None:
    path = Recorded(tmp_path).steps(3).end()

    (line,) = nightbus("tail", path, "--json", "-n", "1", "--metric", "loss").stdout.splitlines()

    event = json.loads(line)
    assert (event["event"], event["name"], event["value"], event["step"]) == ("Put", "loss", 2.0, 3)
    assert abs(event["wall_ns"] - time.time_ns()) < 600e9


def test_tail_goes_back_over_segments_and_attempts(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path, segment_bytes=1 << 10)
    path = recorded.steps(60).end()
    compress_segment(recorded.run.store(0), 1)
    lock = recorded.run.begin_attempt()
    writer = LogWriter(recorded.run.store(1), LogIdentity(path.name, 1), Place())
    writer.append(writer.event(nb.Put, "loss", 60.0, (), ""))
    writer.close()
    lock.release()

    lines = nightbus("tail", path, "--metric", "loss", "-n", "50", "--json").stdout.splitlines()

    assert len(recorded.run.store(0).indices()) > 3
    assert [json.loads(line)["value"] for line in lines] == [float(v) for v in range(11, 61)]


def test_tail_reads_past_damage_and_says_so(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path, segment_bytes=1 << 12)
    path = recorded.steps(90).end()
    damage(recorded.segment(1), frame=2)

    shown = nightbus("tail", path, "-n", "100")

    assert shown.returncode == 3
    assert "segment 1 of attempt 0" in shown.stderr
    assert "loss = 89" in shown.stdout
    assert "loss = 0 " in shown.stdout


def test_tail_of_a_strangers_run_sends_a_terminal_nothing_it_would_act_on(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)
    recorded.step(1.0, "\x1b]0;title\x07")

    shown = nightbus("tail", recorded.end()).stdout

    assert "\\x1b]0;title\\x07 = 1" in shown
    assert "\x1b" not in shown


class Following:
    """A ``nightbus`` process whose lines are read as they come."""

    def __init__(self, *arguments: str | Path) -> None:
        self.process = Program(
            ["-m", "nightbus", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, out, err


def test_tail_follows_a_run_until_it_ends(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path, segment_bytes=1 << 10).steps(3)
    following = Following("tail", "-f", "-n", "1", "--metric", "loss", recorded.path)

    assert following.line().endswith("loss = 2 (module)")
    for value in range(100, 140):  # over several segments
        recorded.step(value)
        assert following.line().endswith(f"loss = {value} (module)")
    recorded.end()

    assert following.end() == (0, "", "")


def test_tail_follows_a_killed_run_to_its_end(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path).steps(3)
    following = Following("tail", "-f", "-n", "1", recorded.path)
    assert "loss = 2" in following.line()

    recorded.step(7.0)
    recorded.abandon()

    code, out, _ = following.end()
    assert (code, "loss = 7" in out) == (0, True)


def test_tail_follows_nothing_when_the_run_is_over(tmp_path: Path) -> None:
    done = nightbus("tail", "-f", Recorded(tmp_path).steps(1).end())

    assert (done.returncode, "killed" in done.stderr) == (0, False)
    assert done.stdout.splitlines()[-1].endswith("completed")


@pytest.mark.parametrize("form", [[], ["--json"], ["--metric", "loss"], ["-n", "0"]])
def test_tail_of_a_run_that_was_killed_before_says_so_and_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: list[str]
) -> None:
    code = main(["tail", str(Recorded(tmp_path).steps(1).abandon()), "-f", *form])

    assert "the run was killed: its process ended without a word" in capsys.readouterr().err
    assert code == 0  # it is no error to look at one


# -- attach --------------------------------------------------------------------------------------


def lines_of(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_attach_writes_a_live_run_from_its_begin_to_its_end(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path).steps(5)
    out = tmp_path / "out"
    attached = Following("attach", recorded.path, "--csv", out, "--jsonl", out)
    eventually(lambda: lines_of(out / "metrics.jsonl") == 5)

    recorded.steps(5).end()

    code, _, err = attached.end()
    assert code == 0, err
    assert "following the run until it ends" in err
    again = tmp_path / "again"
    nightbus("replay", recorded.path, "--csv", again, "--jsonl", again)
    for name in ("metrics.csv", "metrics.jsonl"):
        assert (out / name).read_bytes() == (again / name).read_bytes()
    assert sorted(path.name for path in out.iterdir()) == ["metrics.csv", "metrics.jsonl"]


def test_attach_changes_nothing_in_the_runs_folder(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path).steps(5)
    before = sorted(recorded.path.rglob("*"))
    attached = Following("attach", recorded.path, "--jsonl", tmp_path / "out")
    eventually(lambda: lines_of(tmp_path / "out" / "metrics.jsonl") == 5)

    assert sorted(recorded.path.rglob("*")) == before
    recorded.end()
    assert attached.end()[0] == 0


@pytest.mark.long
def test_attach_goes_on_where_ctrl_c_ended_it(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path).steps(5)
    out = tmp_path / "out"
    first = Following("attach", recorded.path, "--csv", out, "--jsonl", out)
    eventually(lambda: lines_of(out / "metrics.jsonl") == 5)
    first.process.send_signal(signal.SIGINT)
    code, _, err = first.end()
    recorded.steps(3).end()

    second = nightbus("attach", recorded.path, "--csv", out, "--jsonl", out)

    assert (code, "Traceback" in err) == (130, False)
    assert "the same command continues from here" in err
    assert second.returncode == 0, second.stderr
    again = tmp_path / "again"
    nightbus("replay", recorded.path, "--csv", again, "--jsonl", again)
    for name in ("metrics.csv", "metrics.jsonl"):
        assert (out / name).read_bytes() == (again / name).read_bytes()


def test_attach_of_a_run_that_is_killed_delivers_what_it_had_recorded(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path).steps(5)
    attached = Following("attach", recorded.path, "--jsonl", tmp_path / "out")
    eventually(lambda: lines_of(tmp_path / "out" / "metrics.jsonl") == 5)

    recorded.steps(2)
    recorded.abandon()

    code, _, err = attached.end()
    assert (code, "the recording ends early" in err) == (3, True)
    assert lines_of(tmp_path / "out" / "metrics.jsonl") == 7


def test_attach_without_a_destination_is_told_to_name_one(tmp_path: Path) -> None:
    done = nightbus("attach", Recorded(tmp_path).end())

    assert done.returncode == 2
    assert "name a destination: --csv DIR, --jsonl DIR" in done.stderr


def test_a_replay_does_not_take_two_kinds_of_cursors(tmp_path: Path) -> None:
    with pytest.raises(nb.UsageError, match="give only one of them"):
        nb.replay(Recorded(tmp_path).end(), resume=True, cursors=tmp_path)


# -- damage --------------------------------------------------------------------------------------


def frames_of(data: bytes) -> list[log_format.Frame]:
    view = memoryview(data)
    header, at = unpack_header(view)
    found = []
    while at + FRAME_HEAD.size < len(data):
        try:
            frame = unpack_frame(view, at, 0, header.mark)
        except log_format.BadFrame:
            break
        if frame.kind != KIND_EVENTS:
            break
        found.append(frame)
        at = frame.end
    return found


def damage(segment: Path, frame: int) -> None:
    """Flip a bit in a frame's payload."""
    data = bytearray(segment.read_bytes())
    data[frames_of(bytes(data))[frame].end - 1] ^= 1
    segment.write_bytes(data)


def whole_segment(tmp_path: Path, steps: int = 40) -> bytes:
    recording = Recording(tmp_path / "log")
    recording.steps(steps)
    data = recording.committed_bytes()
    recording.writer.close()
    return data


def test_salvage_of_a_sound_segment_finds_all_of_it(tmp_path: Path) -> None:
    data = whole_segment(tmp_path)

    found = salvage(io.BytesIO(data))

    assert [sound.frame.offset for sound in found.frames] == [f.offset for f in frames_of(data)]
    assert (found.damages, found.footer) == ([], None)


def test_salvage_finds_every_frame_that_a_flipped_byte_did_not_hit(tmp_path: Path) -> None:
    data = whole_segment(tmp_path)
    frames = frames_of(data)
    chance = random.Random(7)

    for _ in range(300):
        at = chance.randrange(len(data))
        flipped = bytearray(data)
        flipped[at] ^= 1 << chance.randrange(8)
        found = salvage(io.BytesIO(bytes(flipped)))
        hit = [frame for frame in frames if frame.offset <= at < frame.end]
        intact = [frame.offset for frame in frames if frame not in hit]
        assert [sound.frame.offset for sound in found.frames] == intact, at
        # The header frame's own mark is not needed: the header says the mark of all others.
        assert len(found.damages) == (0 if 8 <= at < 12 else 1), at


def test_salvage_finds_every_frame_before_and_behind_lost_blocks(tmp_path: Path) -> None:
    data = whole_segment(tmp_path, 400)
    frames = frames_of(data)
    chance = random.Random(8)

    for fill in (b"\0", b"\xa5", None):
        begin = chance.randrange(1_000, len(data) - 9_000)
        block = chance.randbytes(4096) if fill is None else fill * 4096
        end = begin + len(block)
        found = salvage(io.BytesIO(data[:begin] + block + data[end:]))
        intact = [f.offset for f in frames if f.end <= begin or f.offset >= end]
        assert [sound.frame.offset for sound in found.frames] == intact
        assert len(found.damages) == 1


def test_salvage_puts_frames_in_order_and_takes_none_twice(tmp_path: Path) -> None:
    data = whole_segment(tmp_path)
    frames = frames_of(data)
    parts = [data[frame.offset : frame.end] for frame in frames]
    stirred = data[: frames[0].offset] + b"".join([*parts[5:], *parts[:7]])

    found = salvage(io.BytesIO(stirred))

    assert [sound.raw for sound in found.frames] == parts
    assert [d.reason for d in found.damages] == ["a frame repeats events that come before"] * 2


def test_salvage_does_without_the_header(tmp_path: Path) -> None:
    data = whole_segment(tmp_path)
    first = frames_of(data)[0].offset

    for head in (b"\0" * first, random.Random(9).randbytes(first), b""):
        found = salvage(io.BytesIO(head + data[first:]))
        assert [sound.raw for sound in found.frames] == [
            data[frame.offset : frame.end] for frame in frames_of(data)
        ]


def test_salvage_of_anything_ends_and_raises_nothing() -> None:
    chance = random.Random(10)
    for size in (0, 1, 8, 100, 5_000):
        found = salvage(io.BytesIO(chance.randbytes(size)))
        assert found.frames == []


def test_salvage_of_what_only_looks_like_frames_ends() -> None:
    head = log_format.pack_frame(7, KIND_EVENTS, b"", 1)
    mark_everywhere = log_format.FRAME_HEAD.pack(7, 0, 1 << 19, 1, KIND_EVENTS, 0, 0, 0)

    found = salvage(io.BytesIO(head + mark_everywhere * 200_000))

    assert found.frames == []


# -- doctor --------------------------------------------------------------------------------------


def findings(path: Path, check: str) -> list[Finding]:
    return [each for each in examine(nb.RunFolder.open(path)).findings if each.check == check]


def test_doctor_finds_nothing_wrong_with_a_sound_run(tmp_path: Path) -> None:
    run = trainer(tmp_path, logger=True)
    run.fit(Small(), loader(), loader(8))
    assert run.log_dir is not None

    shown = nightbus("doctor", run.log_dir)

    assert shown.returncode == 0
    assert re.search(
        r"1 attempt, 1 segment, \d+ events read, 1 checkpoint checked; 0 problems\n", shown.stdout
    )
    assert len(shown.stdout.splitlines()) == 2


def test_doctor_names_the_damaged_bytes_and_what_to_do(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path).steps(20)
    path = recorded.end()
    begin = frames_of(recorded.segment().read_bytes())[5].offset
    damage(recorded.segment(), frame=5)

    shown = nightbus("doctor", path)

    assert shown.returncode == 1
    assert f"bytes from byte {begin:,}: a frame's checksum is wrong" in shown.stdout
    assert f"to mend it: save what is sound: nightbus recover {path} -o OUT" in shown.stdout
    assert "events 11 to 12 are missing, and no Gap says why" in shown.stdout


def test_doctor_as_json_has_every_part(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path).steps(3)
    path = recorded.end()
    damage(recorded.segment(), frame=1)

    report = json.loads(nightbus("doctor", path, "--json").stdout)

    assert (report["id"], report["attempts"], report["segments"]) == (path.name, 1, 1)
    assert {finding["check"] for finding in report["findings"]} == {"damage", "gaps"}
    assert set(report["findings"][0]) == {"level", "check", "where", "what", "fix"}


def test_doctor_finds_a_missing_segment(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path, segment_bytes=1 << 10).steps(60)
    path = recorded.end()
    recorded.segment(1).unlink()

    (missing,) = findings(path, "segments")

    assert (missing.level, missing.where) == ("problem", "attempt-000/rank-00000/000001.nlog")
    assert "bring it back from a copy" in missing.fix


def test_doctor_finds_a_segment_of_another_run(tmp_path: Path) -> None:
    recorded, other = Recorded(tmp_path).steps(3), Recorded(tmp_path, "other").steps(3)
    path = recorded.end()
    other.end()
    shutil.copy(other.segment(), recorded.segment())

    (wrong,) = findings(path, "identity")

    assert wrong.what == f"it says run {other.path.name}, attempt 0, rank 0, segment 0"


def test_doctor_takes_a_gap_that_the_writer_told_of_for_what_it_is(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path).steps(3)
    recorded.add(Gap, 7, "No space left on device")

    (gap,) = findings(recorded.end(), "gaps")

    assert (gap.level, gap.what) == ("note", "7 events were not written: No space left on device")


def test_doctor_takes_a_killed_run_for_sound_and_says_how_it_ended(tmp_path: Path) -> None:
    found = examine(nb.RunFolder.open(Recorded(tmp_path).steps(3).abandon()))

    assert [each.check for each in found.findings] == ["end"]
    assert found.problems == []


def test_doctor_says_who_is_writing_a_run(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path).steps(3)

    shown = nightbus("doctor", recorded.path)

    recorded.end()
    assert shown.returncode == 0
    assert f"it is being written by process {os.getpid()}" in shown.stdout


def test_doctor_finds_files_that_others_may_read(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path).steps(3)
    path = recorded.end()
    path.chmod(0o755)
    recorded.segment().chmod(0o644)

    folder, segment = findings(path, "permissions")

    assert (folder.where, folder.fix) == (".", f"chmod go= {path}")
    assert segment.what == "others may use it: its mode is 0644"


def test_doctor_finds_what_killed_processes_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Recorded(tmp_path).steps(3).end()
    (path / "run.json.77-1.tmp").write_text("")
    monkeypatch.chdir(path)  # a socket's whole path may be too long
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(SOCKET_NAME)
        (path / SOCKET_NAME).chmod(0o600)

    left = findings(path, "leftovers")

    assert {each.where for each in left} == {"run.json.77-1.tmp", SOCKET_NAME}
    assert all(each.level == "note" and "rm " in each.fix for each in left)


def test_doctor_finds_a_damaged_cursor(tmp_path: Path) -> None:
    path = Recorded(tmp_path).steps(3).end()
    (path / "cursors").mkdir()
    (path / "cursors" / "csv.json").write_text("{")

    (cursor,) = findings(path, "cursors")

    assert cursor.fix.startswith(f"rm {path}/cursors/csv.json")


def test_doctor_refuses_a_log_of_a_newer_major_version(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)
    path = recorded.end()
    header = log_format.SegmentHeader((9, 0), path.name, 0, 0, 1, 0, 0, 7, 0, 0)
    recorded.segment().write_bytes(log_format.pack_header(header))

    shown = nightbus("doctor", path)

    assert shown.returncode == 5
    assert "to mend it: upgrade nightbus" in shown.stdout


def test_a_segment_of_an_absurd_number_holds_nothing_up(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path).steps(3)
    path = recorded.end()
    recorded.segment().rename(recorded.segment(10**15))

    (missing,) = findings(path, "segments")
    done = recover(nb.RunFolder.open(path), tmp_path / "out")
    shown = nightbus("show", path)

    assert shown.returncode == 0
    assert missing.what == "1,000,000,000,000,000 segments from here are missing"
    assert done.events == 8


# -- recover -------------------------------------------------------------------------------------


def test_recover_of_a_sound_run_is_the_same_run(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path, segment_bytes=1 << 10).steps(60)
    path = recorded.end()
    compress_segment(recorded.run.store(0), 0)
    out = tmp_path / "out"

    done = nightbus("recover", path, "-o", out)

    assert (done.returncode, done.stderr) == (0, "")
    recovered = nb.RunFolder.open(out)
    assert read_log(recovered.store(0)) == read_log(recorded.run.store(0))
    assert examine(recovered).findings == []


def test_recover_saves_every_intact_batch_and_says_what_is_lost(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path, segment_bytes=1 << 12).steps(200)
    path = recorded.end()
    before = read_log(recorded.run.store(0))
    damage(recorded.segment(0), frame=3)
    damage(recorded.segment(2), frame=0)
    out = tmp_path / "out"

    done = nightbus("recover", path, "-o", out)

    assert done.returncode == 3
    after = read_log(nb.RunFolder.open(out).store(0))
    gaps = [event for event in after if isinstance(event, Gap)]
    kept = set(seqs(after)) - {gap.seq for gap in gaps}
    lost = [event for event in before if event.seq not in kept]
    assert len(lost) == sum(gap.count for gap in gaps) == 4
    assert [event for event in after if event not in gaps] == [e for e in before if e not in lost]
    assert "4 events known to be lost" in done.stdout
    assert "a frame's checksum is wrong" in done.stdout
    assert examine(nb.RunFolder.open(out)).problems == []


def test_recover_does_without_a_segment_and_without_a_header(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path, segment_bytes=1 << 11).steps(100)
    path = recorded.end()
    kept = [read_values(recorded.segment(index)) for index in (0, 2)]
    recorded.segment(1).unlink()
    with recorded.segment(2).open("r+b") as file:
        file.write(b"\xff" * 64)
    out = tmp_path / "out"

    done = recover(nb.RunFolder.open(path), out)

    found = values(read_log(nb.RunFolder.open(out).store(0)))
    assert [value for part in kept for value in part] == found[: sum(map(len, kept))]
    assert found[-1] == 99.0
    assert "the segment is missing" in [loss.what for loss in done.losses]
    assert examine(nb.RunFolder.open(out)).problems == []


def read_values(segment: Path) -> list[Any]:
    return [
        v
        for sound in salvage(io.BytesIO(segment.read_bytes())).frames
        for v in values(sound.events)
    ]


@pytest.mark.long
def test_recover_saves_what_is_sound_of_a_damaged_compressed_segment(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)
    chance = random.Random(11)
    for _ in range(20_000):
        recorded.step(chance.random())
    path = recorded.end()
    expected = values(read_log(recorded.run.store(0)))
    compress_segment(recorded.run.store(0), 0)
    damage_the_middle(recorded.run.store(0).compressed_path(0))

    recover(nb.RunFolder.open(path), tmp_path / "out")

    found = values(read_log(nb.RunFolder.open(tmp_path / "out").store(0)))
    assert len(found) > len(expected) // 4
    in_order = iter(expected)  # frames behind the damage may be sound again
    assert all(value in in_order for value in found)


def test_recover_of_a_killed_run_loses_nothing(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path).steps(30)
    path = recorded.abandon()

    done = nightbus("recover", path, "-o", tmp_path / "out", "--json")

    assert done.returncode == 0
    assert json.loads(done.stdout)["losses"] == []
    assert len(values(read_log(nb.RunFolder.open(tmp_path / "out").store(0)))) == 30


def test_recover_does_without_run_json(tmp_path: Path) -> None:
    path = Recorded(tmp_path).steps(3).end()
    (path / "run.json").unlink()
    out = tmp_path / "out"

    done = nightbus("recover", path, "-o", out)

    assert done.returncode == 0, done.stderr
    assert "its name and begin are made up" in done.stderr
    assert nightbus("show", out).returncode == 0


def test_what_recover_makes_is_its_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        recover(nb.RunFolder.open(Recorded(tmp_path).steps(3).end()), tmp_path / "out")
    finally:
        os.umask(before)

    assert findings(tmp_path / "out", "permissions") == []


def test_recover_leaves_the_damaged_run_as_it_is(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path).steps(20)
    path = recorded.end()
    damage(recorded.segment(), frame=5)
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}

    recover(nb.RunFolder.open(path), tmp_path / "out")

    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


def test_recover_that_is_refused_leaves_nothing_behind(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path)
    path = recorded.end()
    header = log_format.SegmentHeader((9, 0), path.name, 0, 0, 1, 0, 0, 7, 0, 0)
    recorded.segment().write_bytes(log_format.pack_header(header))

    done = nightbus("recover", path, "-o", tmp_path / "out")

    assert done.returncode == 5
    assert not (tmp_path / "out").exists()


def test_recover_does_not_overwrite(tmp_path: Path) -> None:
    path = Recorded(tmp_path).steps(3).end()

    done = nightbus("recover", path, "-o", path)

    assert done.returncode == 2
    assert "exists already; name a folder that does not" in done.stderr


def test_recover_leaves_a_run_alone_that_goes_on(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path).steps(3)

    done = nightbus("recover", recorded.path, "-o", tmp_path / "out")

    recorded.end()
    assert done.returncode == 2
    assert "is still being written" in done.stderr
    assert not (tmp_path / "out").exists()
