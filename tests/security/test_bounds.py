"""Lengths, numbers, nesting and compression that claim too much are refused with our own errors.

That no more is allocated than is stated, fuzz_decoder.py shows under a limit of address space.
"""

import struct
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import hostile
import msgspec
import pytest
import torch

from nightbus.__main__ import main
from nightbus.actors.checkpoints.format import STATE, read_checkpoint, write_checkpoint
from nightbus.bus.control.protocol import decode_answer, decode_request
from nightbus.bus.errors import (
    CheckpointError,
    ControlError,
    LogFormatError,
    NightbusError,
    RunFolderError,
)
from nightbus.bus.log import layout
from nightbus.bus.log.codec import decode_events
from nightbus.bus.log.codes import ran
from nightbus.bus.log.format import (
    FRAME_HEAD,
    MAX_PAYLOAD_BYTES,
    BadFrame,
    pack_frame,
    unpack_frame,
)
from nightbus.bus.log.layout import MAX_HOOKS, MAX_WORDS, PAYLOAD_HEAD, WORDS_BEGIN
from nightbus.bus.log.reader import LogReader
from nightbus.bus.log.segments import MAX_SEGMENT_BYTES
from nightbus.bus.runs.cursor import CursorFile
from nightbus.bus.runs.run_folder import RunFolder

pytestmark = pytest.mark.long

DEEP = 200_000
MARK_OF_FOUR = ran(
    "on_before_batch_transfer",
    "on_after_batch_transfer",
    "on_batch_start",
    "on_train_batch_start",
)


def peak_bytes(read: Callable[[], object]) -> int:
    """What Python allocates at most while it refuses."""
    tracemalloc.start()
    try:
        with pytest.raises(NightbusError):
            read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1a", b"\x93\x90\x90\x91\x91"])
def test_deep_nesting_in_a_log_is_an_error_of_ours(opening: bytes) -> None:
    with pytest.raises(LogFormatError):
        decode_events(opening * DEEP, 0, 0)


def test_deep_nesting_in_a_runs_json_is_an_error_of_ours(tmp_path: Path) -> None:
    run = hostile.make_run(tmp_path, 1)
    (run.path / "cursors/csv.json").write_bytes(b'{"state":{"a":' + b"[" * DEEP)
    with pytest.raises(RunFolderError):
        CursorFile(run, "csv").load()

    (run.path / "run.json").write_bytes(b'{"id":' + b"[" * DEEP)
    with pytest.raises(RunFolderError):
        RunFolder.open(run.path)


@pytest.mark.parametrize("decode", [decode_request, decode_answer])
def test_deep_nesting_in_a_control_message_is_an_error_of_ours(
    decode: Callable[[bytes], Any],
) -> None:
    with pytest.raises(ControlError):
        decode(b'{"unknown":' + b"[" * DEEP)


def extensions_in_each_other() -> bytes:
    data = b"\x90"
    for _ in range(5_000):
        data = msgspec.msgpack.encode(msgspec.msgpack.Ext(2, b"\x91" + data))
    return data


@pytest.mark.parametrize(
    "state",
    [
        b"\x91" * DEEP,
        b"\x81\xa1a" * DEEP,
        extensions_in_each_other(),
        msgspec.msgpack.encode(msgspec.msgpack.Ext(2, b"\x05")),
        msgspec.msgpack.encode(msgspec.msgpack.Ext(1, b"no such tensor")),
        msgspec.msgpack.encode(msgspec.msgpack.Ext(99, b"")),
    ],
    ids=["arrays", "maps", "extensions", "a tuple that is none", "no tensor", "no extension"],
)
def test_a_checkpoints_state_that_makes_no_sense_is_an_error_of_ours(
    tmp_path: Path, state: bytes
) -> None:
    write_checkpoint(tmp_path / "checkpoint", {"weight": torch.ones(2)})
    (tmp_path / "checkpoint" / STATE).write_bytes(b"\x82\xa6format\x01\xa5state\x81\xa1a" + state)

    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(tmp_path / "checkpoint")


def test_a_frame_that_claims_gigabytes_is_refused_before_they_are_read() -> None:
    head = FRAME_HEAD.pack(7, 0, 0xFFFFFFFF, 1, 1, 0, 0, 0)

    with pytest.raises(BadFrame, match=f"more than {MAX_PAYLOAD_BYTES}"):
        unpack_frame(memoryview(head), 0, 0, 7)


@pytest.mark.parametrize("first_seq", [1 << 63, (1 << 64) - 1])
def test_a_frame_that_claims_numbers_which_no_log_reaches_is_refused(first_seq: int) -> None:
    frame = pack_frame(7, 1, b"\x93\x90\x90\x90", 1, first_seq)

    with pytest.raises(BadFrame, match="no log reaches"):
        unpack_frame(memoryview(frame), 0, 0, 7)


def test_recover_passes_over_a_frame_whose_number_no_log_reaches(tmp_path: Path) -> None:
    run = hostile.make_run(tmp_path, 1)
    path = run.path / hostile.LOG
    data = path.read_bytes()
    begin, end = list(hostile.frames_of(data))[1]
    mark, _, _, count, kind, flags, _, time_ns = FRAME_HEAD.unpack_from(data, begin)
    payload = data[begin + FRAME_HEAD.size : end]
    frame = pack_frame(mark, kind, payload, count, (1 << 64) - 1, time_ns, flags)
    path.write_bytes(data[:begin] + frame + data[end:])

    assert main(["recover", str(run.path), "-o", str(tmp_path / "out")]) == 3


def test_arrays_that_claim_billions_of_entries_cost_no_memory() -> None:
    huge = struct.pack(">BI", 0xDD, 0xFFFFFFFF)

    for payload in (huge, b"\x93" + huge * 3, b"\x93\x90\x90" + huge):
        assert peak_bytes(partial(decode_events, payload, 0, 0)) < 1 << 20


CLAIMS: dict[str, bytes] = {
    "words": hostile.words_claimed(MAX_WORDS, 0),
    "names": hostile.words_claimed(0, 0xFFFF),
    "words and names in a whole frame": hostile.words_claimed(
        MAX_WORDS, 0xFFFF, bytes(MAX_PAYLOAD_BYTES - PAYLOAD_HEAD.size)
    ),
    "four hooks in each word": hostile.words_claimed(
        MAX_WORDS, 0, struct.pack("<Q", MARK_OF_FOUR) * MAX_WORDS
    ),
    "many names": hostile.words_claimed(0, 0xFFFF, b"\xdc\xff\xfc" + b"\xa0" * 0xFFFC + b"\xc0"),
    "a name of gigabytes": hostile.words_claimed(0, 6, b"\x91\xdb\xff\xff\xff\xff"),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_words_and_names_that_a_frame_only_claims_cost_no_memory(claim: str) -> None:
    payload = CLAIMS[claim]
    assert len(payload) <= MAX_PAYLOAD_BYTES

    assert peak_bytes(partial(decode_events, payload, 0, 0)) < 4 << 20


def test_words_cost_no_more_than_the_most_hooks_that_a_frame_can_count() -> None:
    row = struct.pack("<QQ", 1 << 56, MARK_OF_FOUR)  # the place changes before each
    payload = hostile.words_claimed(2 * (MAX_HOOKS // 4), 0, row * (MAX_HOOKS // 4))
    tracemalloc.start()
    try:
        events = decode_events(payload, 0, 0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert len(events) == MAX_HOOKS // 4 * 4
    assert peak < 32 << 20


def test_layouts_that_a_log_has_a_reader_keep_take_little() -> None:
    layout._layout_of.cache_clear()
    worst = struct.pack("<QQ", 1 << 56, MARK_OF_FOUR) * (layout._MAX_SHAPE_BYTES // 2 - 1)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(layout._MAX_LAYOUTS):
            first = struct.pack("<Q", number % 5 << 56) + struct.pack(
                "<Q", (10 + number // 5) << 56
            )
            decode_events(hostile.words_claimed(layout._MAX_SHAPE_BYTES, 0, first + worst), 0, 0)
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
        layout._layout_of.cache_clear()

    assert kept < 64 << 20


def test_the_sound_log_that_mutants_are_made_of_has_words_with_and_without_names(
    tmp_path: Path,
) -> None:
    data = (hostile.make_run(tmp_path, 2).path / hostile.LOG).read_bytes()

    payloads = [data[begin + FRAME_HEAD.size : end] for begin, end in hostile.frames_of(data)]

    rows = [payload for payload in payloads if payload[0] == WORDS_BEGIN]
    assert {PAYLOAD_HEAD.unpack_from(row)[3] > 0 for row in rows} == {True, False}


@pytest.mark.parametrize("hide_size", [False, True])
def test_a_compressed_segment_that_grows_beyond_the_limit_is_refused_unopened(
    tmp_path: Path, hide_size: bool
) -> None:
    run = hostile.make_run(tmp_path, 1)
    (run.path / hostile.LOG).unlink()
    bomb = hostile.compressed(bytes(MAX_SEGMENT_BYTES + (1 << 20)), hide_size=hide_size)
    (run.path / hostile.COMPRESSED).write_bytes(bomb)
    reader = LogReader(run.store(0))

    assert peak_bytes(reader.read) < 4 << 20
