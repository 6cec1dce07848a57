"""What doctor finds in logs whose frames are sound, and how little memory it takes for it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostile
import msgspec
import pytest
import zstandard

from nightbus.bus.events import CheckpointSaved, Fork, Put, RunEnded, RunStarted
from nightbus.bus.inspection.doctor import examine
from nightbus.bus.log.format import (
    HAS_RECORDS,
    KIND_EVENTS,
    KIND_HEADER,
    MAGIC,
    Footer,
    SegmentHeader,
    pack_footer,
    pack_frame,
)
from nightbus.bus.log.place import Place
from nightbus.bus.log.segments import compress_segment
from nightbus.bus.log.summary import Summary
from nightbus.bus.log.writer import LogIdentity, LogWriter
from nightbus.bus.runs.cursor import Cursor, CursorFile
from nightbus.bus.runs.run_folder import RunFolder

MARK = 0xABCD1234


def put(seq: int, epoch: int = 0) -> list[Any]:
    return [2, seq, 5, 0, "train", epoch, 0, 0, 0, "m", "a", float(seq), ["loggers"], ""]


def gap(seq: int, count: int) -> list[Any]:
    return [12, seq, 5, 0, "", 0, 0, -1, 0, "log", count, "disk full"]


def fault(seq: int, source: str, message: str) -> list[Any]:
    return [6, seq, 5, 0, "", 0, 0, -1, 0, source, "RankMessageError", message, "", ""]


def frame(first: int, events: list[list[Any]]) -> bytes:
    payload = msgspec.msgpack.encode([[], [], events])
    return pack_frame(MARK, KIND_EVENTS, payload, len(events), first, 1, HAS_RECORDS)


def made(root: Path, *frames: bytes) -> RunFolder:
    """A run whose log has these frames."""
    run = RunFolder.create(root, "run")
    folder = run.path / "attempt-000/rank-00000"
    folder.mkdir(parents=True, mode=0o700)
    folder.parent.chmod(0o700)
    path = folder / "000000.nlog"
    path.write_bytes(MAGIC + header(run) + b"".join(frames))
    path.chmod(0o600)
    return run


def header(run: RunFolder) -> bytes:
    head = SegmentHeader((2, 0), run.info.id, 0, 0, 1, 0, 0, MARK, 1, 0)
    return pack_frame(MARK, KIND_HEADER, msgspec.msgpack.encode(head))


def problems(run: RunFolder) -> list[str]:
    return [f"{found.check}: {found.what}" for found in examine(run).problems]


@pytest.mark.parametrize(
    "seqs", [(0, 5, 2), (0, 1 << 62), (0, 1, 1), (0, 2), (1, 0), (5, 6)], ids=str
)
def test_numbers_of_a_frames_events_that_do_not_follow_on_each_other_are_found(
    tmp_path: Path, seqs: tuple[int, ...]
) -> None:
    run = made(tmp_path, frame(0, [put(seq) for seq in seqs]))

    assert any(found.startswith("order: a frame of") for found in problems(run))


def test_frames_in_their_order_have_no_problem(tmp_path: Path) -> None:
    assert problems(made(tmp_path, frame(0, [put(0), put(1)]), frame(2, [put(2)]))) == []


def test_frames_that_lie_in_another_order_are_found(tmp_path: Path) -> None:
    run = made(tmp_path, frame(0, [put(0)]), frame(2, [put(2)]), frame(1, [put(1)]))

    assert problems(run) == ["order: frames do not lie in the order of events"]


def test_a_frame_that_is_there_twice_is_found(tmp_path: Path) -> None:
    run = made(tmp_path, frame(0, [put(0)]), frame(1, [put(1)]), frame(1, [put(1)]))

    (found,) = problems(run)
    assert "a frame repeats events that come before" in found


def test_events_that_are_passed_over_without_a_gap_are_found(tmp_path: Path) -> None:
    run = made(tmp_path, frame(0, [put(0)]), frame(7, [put(7)]))

    assert problems(run) == ["gaps: events 1 to 6 are missing, and no Gap says why"]


def test_numbers_that_count_and_are_negative_are_found(tmp_path: Path) -> None:
    run = made(tmp_path, frame(0, [put(0, epoch=-3)]), frame(1, [gap(1, -5)]))

    found = problems(run)

    assert "numbers: event 0, a Put, has the epoch -3" in found
    assert "numbers: event 1, a Gap, has the count -5" in found


def test_of_very_many_findings_in_a_file_some_are_named_and_the_rest_counted(
    tmp_path: Path,
) -> None:
    run = made(tmp_path, *(frame(2 * i, [put(2 * i)]) for i in range(3_000)))

    found = examine(run).findings

    assert len(found) < 150
    assert any("more of this kind" in finding.what for finding in found)


# -- what ranks said -----------------------------------------------------------------------------


def test_connections_that_rank_0_refused_are_noted_with_their_last_count(tmp_path: Path) -> None:
    faults = [
        fault(0, "ranks", "1 connections were refused"),
        fault(1, "ranks", "2 connections were refused"),
        fault(2, "trainer", "an ask is too large"),  # which ended the run
    ]
    found = examine(made(tmp_path, frame(0, faults)))
    noted = [each.what for each in found.findings if each.check == "connections"]
    assert noted == ["2 connections were refused"]
    assert found.problems == []


# -- what is there twice, or gone ----------------------------------------------------------------


def recorded(root: Path, *, fork: Fork | None = None, saved: str = "") -> RunFolder:
    run = RunFolder.create(root, "run")
    add_attempt(run, fork, saved)
    return run


def add_attempt(run: RunFolder, fork: Fork | None = None, saved: str = "") -> None:
    lock = run.begin_attempt()
    writer = LogWriter(
        run.store(lock.attempt), LogIdentity(run.info.id, lock.attempt), Place(), segment_bytes=1
    )
    writer.append(writer.event(RunStarted, run.info.id, lock.attempt, "fit", 1, {}, {}, fork, {}))
    for number in range(200):
        writer.append(writer.event(Put, "a", float(number), ("loggers",), "", source="m"))
        writer.flush()
    if saved:
        writer.append(writer.event(CheckpointSaved, saved, "0" * 32, 10))
    writer.append(writer.event(RunEnded, "completed", ""))
    writer.close()
    lock.release()


def test_a_sound_run_has_no_problem(tmp_path: Path) -> None:
    assert problems(recorded(tmp_path)) == []


@pytest.mark.parametrize("is_same", [True, False])
def test_a_segment_that_is_there_plain_and_compressed_is_a_problem_if_they_differ(
    tmp_path: Path, is_same: bool
) -> None:
    run = recorded(tmp_path)
    store = run.store(0)
    plain = store.path(0).read_bytes()
    compress_segment(store, 0)
    if not is_same:
        plain = plain.replace(b"\xa7loggers", b"\xa7loggerz", 1)
    store.path(0).write_bytes(plain)
    store.path(0).chmod(0o600)

    found = examine(run)

    twins = [each for each in found.findings if "plain and compressed" in each.what]
    assert [each.level for each in twins] == ["note" if is_same else "problem"]


def test_a_segment_under_a_second_name_of_its_number_is_found(tmp_path: Path) -> None:
    run = recorded(tmp_path)
    path = run.store(0).path_there(0)
    shutil.copy(path, path.with_name("0000000.nlog"))

    assert any("segment 0 is there twice" in found for found in problems(run))


def test_an_attempt_that_is_gone_from_the_middle_is_found(tmp_path: Path) -> None:
    run = recorded(tmp_path)
    add_attempt(run)
    add_attempt(run)
    shutil.rmtree(run.attempt_path(1))

    assert any("1 attempt before it are not there" in found for found in problems(run))


def test_a_log_that_a_cursor_names_and_that_is_gone_is_found(tmp_path: Path) -> None:
    run = recorded(tmp_path)
    CursorFile(run, "csv").commit(Cursor(3, 5, "CSV"))

    assert any("attempt 3, whose log is gone" in found for found in problems(run))


def test_a_cursor_beyond_the_end_of_a_log_is_found(tmp_path: Path) -> None:
    run = recorded(tmp_path)
    CursorFile(run, "csv").commit(Cursor(0, 5_000, "CSV"))

    assert any("at event 5,000 of attempt 0, whose log has 202" in f for f in problems(run))


def test_a_cursor_at_the_end_of_a_log_is_none_of_these(tmp_path: Path) -> None:
    run = recorded(tmp_path)
    CursorFile(run, "csv").commit(Cursor(0, 202, "CSV"))

    assert problems(run) == []


def test_the_checkpoint_that_was_saved_last_and_is_gone_is_found(tmp_path: Path) -> None:
    run = recorded(tmp_path, saved="checkpoints/epoch=1")

    (found,) = examine(run).problems
    assert found.where == "checkpoints/epoch=1"
    assert "saved last, and it is not there" in found.what


def test_a_checkpoint_outside_of_the_run_is_not_looked_for(tmp_path: Path) -> None:
    for saved in ("/elsewhere/epoch=1", "../../elsewhere"):
        assert problems(recorded(tmp_path, saved=saved)) == []


# -- memory --------------------------------------------------------------------------------------

MEASURE = """
import resource, sys
from nightbus.__main__ import main
main(["doctor", sys.argv[1]])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
code = main(["doctor", sys.argv[2], "--json"])
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(after - before, file=sys.stderr)
sys.exit(code)
"""


def of_zeros(run: RunFolder, size: int) -> bytes:
    """A segment with puts whose names are zeros, which compress to nothing."""
    frames, seq, total = [], 0, 0
    while total < size:
        event = put(seq)
        event[10] = "a" * 900_000
        frames.append(frame(seq, [event]))
        total += len(frames[-1])
        seq += 1
    return b"".join(frames)


def of_noise(run: RunFolder, size: int) -> bytes:
    frames, seq, total = [], 0, 0
    while total < size:
        events = [put(seq + i) for i in range(5_000)]
        for event in events[::10]:
            event[9] = os.urandom(20).hex()
        frames.append(frame(seq, events))
        total += len(frames[-1])
        seq += len(events)
    return b"".join(frames)


@pytest.mark.long
@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("content", [of_zeros, of_noise])
def test_a_segment_of_64_mib_takes_doctor_less_memory_than_it_has(
    tmp_path: Path, content: Callable[[RunFolder, int], bytes], is_packed: bool
) -> None:
    small = hostile.make_run(tmp_path, 1)
    run = made(tmp_path)
    path = run.store(0).path(0)
    body = header(run) + content(run, 62 << 20)
    if is_packed:
        packed = MAGIC + zstandard.ZstdCompressor(level=3).compress(body)
        path.unlink()
        path = run.store(0).compressed_path(0)
        path.write_bytes(packed + pack_footer(MARK, Footer(0, 0, Summary()), len(packed)))
    else:
        path.write_bytes(MAGIC + body)
    path.chmod(0o600)

    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(small.path), str(run.path)],
        capture_output=True,
        text=True,
        check=False,
    )

    report = json.loads(done.stdout[done.stdout.index("{") :])
    assert report["events"] > 60, done.stderr
    assert not [f for f in report["findings"] if f["check"] == "damage"]
    assert int(done.stderr.split()[-1]) < 48 << 10  # KiB
