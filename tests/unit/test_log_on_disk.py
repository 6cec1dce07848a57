"""The event log as files: what was written is read, whatever became of the disk, the process or
the file since. Cases that hypothesis explores are in test_event_log.py.
"""

import contextlib
import gc
import os
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import pytest
import zstandard
from helpers import (
    SMALL_SEGMENT_BYTES,
    Arriving,
    Recording,
    encode_events,
    file_size_limit,
    no_space,
    read_log,
    read_to_end,
    seqs,
    tell,
    values,
)

from nightbus.bus.errors import (
    LogError,
    LogFormatError,
    MetricError,
    NewerFormatError,
    RunFolderError,
)
from nightbus.bus.events import Event, Fault, Gap, Hook, Put
from nightbus.bus.log import format as log_format
from nightbus.bus.log.event_buffer import MAX_BUFFERED_EVENTS
from nightbus.bus.log.format import (
    FORMAT_MAJOR,
    FRAME_HEAD,
    KIND_EVENTS,
    KIND_FOOTER,
    KIND_HEADER,
    MAGIC,
    TRAILER,
    SegmentHeader,
    pack_frame,
    pack_header,
)
from nightbus.bus.log.reader import READ_BYTES, EndKind, LogReader
from nightbus.bus.log.segments import FolderStore, UnnamedStore, compress_segment, read_footer
from nightbus.bus.log.summary import Summary


@pytest.fixture
def log(tmp_path: Path) -> Recording:
    return Recording(tmp_path / "log")


@pytest.fixture
def small_segments(tmp_path: Path) -> Recording:
    return Recording(tmp_path / "log", segment_bytes=SMALL_SEGMENT_BYTES)


@pytest.fixture
def written_with_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that cannot allocate ahead, so that write(2) is used."""

    def refuse(*_: object) -> None:
        raise OSError(95, "not supported here")

    monkeypatch.setattr(os, "posix_fallocate", refuse)


def folder_of(recording: Recording) -> Path:
    assert isinstance(recording.store, FolderStore)
    return recording.store.folder


def frame_ends(data: bytes) -> list[int]:
    """Offsets at which frames end; the first is the header."""
    ends, at = [], len(MAGIC)
    while at + FRAME_HEAD.size <= len(data):
        at += FRAME_HEAD.size + FRAME_HEAD.unpack_from(data, at)[2]
        ends.append(at)
    return ends


def log_of(folder: Path, data: bytes) -> FolderStore:
    """A log of one segment with these bytes."""
    folder.mkdir(exist_ok=True)
    (folder / "000000.nlog").write_bytes(data)
    return FolderStore(folder)


def failing(error: OSError, times: int = 10**9) -> Callable[..., Any]:
    """A system call that fails so many times, and does nothing after."""
    left = [times]

    def call(*_: object) -> None:
        if left[0]:
            left[0] -= 1
            raise error

    return call


# -- a log is read from anywhere, while it grows -------------------------------------------------


def test_sequence_numbers_have_no_gap_across_segments(small_segments: Recording) -> None:
    small_segments.steps(60)
    small_segments.writer.close()

    assert len(small_segments.store.indices()) > 5
    assert seqs(read_log(small_segments.store)) == list(range(180))


def test_each_segment_says_which_event_it_begins_with(small_segments: Recording) -> None:
    small_segments.steps(60)
    small_segments.writer.close()
    store = folder_of(small_segments)

    for path in sorted(store.iterdir()):
        header, _ = log_format.unpack_header(memoryview(path.read_bytes()))
        alone = log_of(store.parent / f"alone-{path.stem}", path.read_bytes())
        found = seqs(read_log(alone)) or [180]  # the last one may have nothing in it yet
        assert found[0] == header.first_seq
        assert header.segment == int(path.stem)


def test_a_reader_follows_a_log_that_grows(small_segments: Recording) -> None:
    reader = LogReader(small_segments.store)
    for number in range(60):
        small_segments.steps(1)
        assert values(reader.read()) == [number]

    assert reader.read() == []
    reader.close()


def test_a_reader_in_the_writers_process_reads_what_is_committed(
    small_segments: Recording,
) -> None:
    writer = small_segments.writer
    reader = LogReader(small_segments.store, lambda: writer.committed)
    for number in range(60):
        small_segments.steps(1)
        assert values(reader.read("none")) == [number]

    reader.close()


@pytest.mark.parametrize("max_bytes", [1, 31, 100, READ_BYTES])
def test_frames_longer_than_the_block_that_is_read_are_read_whole(
    log: Recording, max_bytes: int
) -> None:
    log.steps(5)
    log.writer.close()
    reader = LogReader(log.store)
    found = []
    while events := reader.read(max_bytes=max_bytes):
        found += events

    assert found == read_log(log.store)
    assert reader.end().kind is EndKind.SEALED
    reader.close()


def test_a_frame_of_most_a_mebibyte_is_read(log: Recording) -> None:
    log.put("x" * (1_000_000))
    log.writer.close()

    assert values(read_log(log.store)) == [0]


@pytest.mark.parametrize("compressed", [False, True])
def test_a_reader_seeks_to_any_event(small_segments: Recording, compressed: bool) -> None:
    small_segments.steps(30)
    small_segments.writer.close()
    store = FolderStore(folder_of(small_segments))
    if compressed:
        for index in store.indices():
            compress_segment(store, index)

    reader = LogReader(store)
    for seq in range(90):
        reader.seek(seq)
        assert seqs(list(reader.events())) == list(range(seq, 90))
    reader.close()


def test_a_reader_that_seeks_beyond_the_end_waits_for_that_event(log: Recording) -> None:
    log.steps(2)
    reader = LogReader(log.store)
    reader.seek(10)

    before = reader.read()
    log.steps(2)
    after = reader.read()

    assert before == []
    assert seqs(after) == [10, 11]
    reader.close()


def test_seeking_to_a_sound_segment_does_not_mind_a_damaged_one(
    small_segments: Recording,
) -> None:
    small_segments.steps(30)
    small_segments.writer.close()
    last = sorted(folder_of(small_segments).iterdir())[-1]
    last.write_bytes(b"this is no log")
    reader = LogReader(small_segments.store)

    reader.seek(4)

    assert seqs(reader.read())[:2] == [4, 5]
    with pytest.raises(LogFormatError, match="not a nightbus event log"):
        list(reader.events())
    reader.close()


def test_events_of_another_thread_are_recorded_by_the_owner(log: Recording) -> None:
    emit = log.writer.emit_from_any_thread
    thread = threading.Thread(target=emit, args=(Put, "y", 7, (), ""), kwargs={"source": "z"})
    log.put()
    thread.start()
    thread.join()

    while log.writer.inbox:
        log.writer.append(log.writer.take_from_inbox())
    log.writer.close()

    assert [(event.seq, tell(event)) for event in read_log(log.store)] == [(0, "0"), (1, "7")]


def test_hooks_of_a_machine_that_has_run_for_years_keep_their_times(tmp_path: Path) -> None:
    now_ns = (5 << 56) + 1_000
    log = Recording(tmp_path / "log", clock_ns=lambda: now_ns)
    log.writer.add_hook("backward", now_ns, 300)
    log.writer.add_hook("on_a", now_ns)
    log.writer.close()

    hooks = [event for event in read_log(log.store) if isinstance(event, Hook)]
    assert [(hook.name, hook.time_ns, hook.duration_ns) for hook in hooks] == [
        ("backward", now_ns, 300),
        ("on_a", now_ns, 0),
    ]


def test_a_log_that_is_to_hold_no_hooks_has_none_noted(tmp_path: Path) -> None:
    log = Recording(tmp_path / "log", hooks=set())
    log.hook()
    log.put()
    log.writer.close()

    assert [tell(event) for event in read_log(log.store)] == ["0"]


def test_who_asks_what_is_not_written_yet_hears_what_it_was_when_asked(log: Recording) -> None:
    log.hook("on_a")
    log.hook("on_b")
    unwritten = log.writer.trace.hooks()
    log.writer.flush()

    assert [hook.name for hook in unwritten] == ["on_a", "on_b"]


def test_moves_without_events_take_no_memory(log: Recording) -> None:
    for batch_idx in range(1_000):
        log.place.begin_batch(batch_idx)
        log.place.complete_step(batch_idx)
        log.writer.flush()
    assert len(log.writer.trace.words) == 0
    log.hook()
    log.writer.close()

    (hook,) = read_log(log.store)
    assert isinstance(hook, Event)
    assert (hook.step, hook.batch_idx) == (999, 999)


@pytest.mark.long
def test_a_step_of_more_events_than_a_frame_holds_is_written_in_parts(log: Recording) -> None:
    for number in range(70_000):
        log.hook(f"on_{number % 7}")
        if number % 1_000 == 0:
            log.put()
            log.place.complete_step(number)
    log.writer.flush()
    log.writer.close()

    events = read_log(log.store)
    assert seqs(events) == list(range(70_070))
    assert values(events) == list(range(70))


def test_a_step_of_more_bytes_than_a_frame_holds_is_written_in_parts(log: Recording) -> None:
    for _ in range(40):
        log.put("x" * 100_000)
        log.hook()
    log.writer.flush()
    log.writer.close()

    events = read_log(log.store)
    assert seqs(events) == list(range(80))
    assert values(events) == list(range(40))


def test_very_many_puts_are_written_before_the_step_ends(log: Recording) -> None:
    for _ in range(MAX_BUFFERED_EVENTS + 1):
        log.put()

    assert len(read_log(log.store)) > 0


def test_an_event_larger_than_a_frame_is_refused_and_the_others_are_kept(log: Recording) -> None:
    log.put()
    log.put("x" * (1 << 20))
    log.put()
    with pytest.raises(MetricError, match="more than 1048576 bytes"):
        log.writer.flush()
    log.put()
    log.writer.close()

    events = read_log(log.store)
    assert values(events) == [0, 2, 3]
    assert [event.count for event in events if isinstance(event, Gap)] == [1]


def test_an_event_that_cannot_be_encoded_does_not_keep_others_from_being_written(
    log: Recording,
) -> None:
    log.hook()
    log.put()
    fault = log.writer.event(Fault, "OSError", "no file caf\udce9", "", "", source="s")
    log.writer.append(fault)
    log.writer.append(log.make_put(2**70))
    log.writer.close()

    _, put, kept, large = read_log(log.store)
    assert values([put, large]) == [0, float(2**70)]
    assert isinstance(kept, Fault)
    assert kept.message == "no file caf\\udce9"


def test_hooks_can_be_left_out_or_only_the_latest_read(log: Recording) -> None:
    log.steps(5)
    log.writer.close()

    latest = read_log(log.store, hooks="latest")

    assert {type(event) for event in read_log(log.store, hooks="none")} == {Put}
    assert [(e.name, e.step) for e in latest if isinstance(e, Hook)] == [("on_a", 5), ("on_b", 5)]


# -- sealing, footers, compression ---------------------------------------------------------------


def test_a_closed_log_is_sealed_and_complete(log: Recording) -> None:
    log.steps(3)
    log.writer.close()

    _, end = read_to_end(log.store)
    assert (end.kind, end.next_seq, end.reason) == (EndKind.SEALED, 9, "the log is complete")


def test_a_log_that_is_being_written_is_open(log: Recording) -> None:
    log.steps(3)

    _, end = read_to_end(log.store)
    assert (end.kind, end.segment, end.next_seq) == (EndKind.OPEN, 0, 9)
    assert end.offset == log.writer.committed[1]


def test_a_footer_holds_what_reading_the_segment_counts(small_segments: Recording) -> None:
    arriving = Arriving(0.5)
    small_segments.steps(20)
    small_segments.put_pending(arriving)
    for _ in range(5):
        small_segments.steps(3)  # held back, and written only in a later segment
    arriving.arrive()
    small_segments.steps(10)
    small_segments.writer.close()
    store = FolderStore(folder_of(small_segments))

    for index in store.indices():
        footer = read_footer(store, index)
        assert footer is not None
        alone = log_of(store.folder.parent / "alone", store.path(index).read_bytes())
        counted = Summary()
        counted.add(read_log(alone))
        assert footer.summary.events == counted.events
        assert footer.summary.hooks == counted.hooks
        assert footer.summary.metrics == counted.metrics
        assert footer.next_seq == read_to_end(alone)[1].next_seq


def test_a_summary_too_large_for_a_frame_is_shrunk_so_that_the_footer_can_be_read(
    log: Recording,
) -> None:
    for number in range(9_000):
        log.put(f"{number:05d}" + "x" * 120)
    log.writer.close()
    assert isinstance(log.store, FolderStore)

    footer = read_footer(log.store, 0)

    assert footer is not None
    assert footer.summary.events == {"Put": 9_000}
    assert 1_000 < len(footer.summary.metrics) < 9_000
    assert read_to_end(log.store)[1].kind is EndKind.SEALED


def test_a_log_reads_the_same_plain_and_compressed(small_segments: Recording) -> None:
    small_segments.steps(40)
    small_segments.writer.close()
    store = FolderStore(folder_of(small_segments))
    plain = read_to_end(store)
    footers = [read_footer(store, index) for index in store.indices()]

    for index in store.indices():
        compress_segment(store, index)

    assert {path.name[6:] for path in store.folder.iterdir()} == {".nlog.zst"}
    assert read_to_end(store) == plain
    assert [read_footer(store, index) for index in store.indices()] == footers


def own_bytes() -> int:
    """Memory of this process that no file backs."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) * 1024


def test_compressing_many_segments_in_changing_threads_takes_the_memory_of_one(
    tmp_path: Path,
) -> None:
    store, body = FolderStore(tmp_path), os.urandom(4 << 20)
    footer = pack_frame(7, KIND_FOOTER, msgspec.msgpack.encode({}))
    sealed = MAGIC + body + footer + TRAILER.pack(len(MAGIC) + len(body), MAGIC)
    end, grown = threading.Event(), []

    def compress_and_stay(index: int, done: threading.Event) -> None:
        compress_segment(store, index)
        done.set()
        end.wait()

    threads = []
    for index in range(9):
        store.path(index).write_bytes(sealed)
        done = threading.Event()
        threads.append(threading.Thread(target=compress_and_stay, args=(index, done)))
        threads[-1].start()
        assert done.wait(60)
        grown.append(own_bytes())
    end.set()
    for thread in threads:
        thread.join()

    assert grown[-1] - grown[2] < 4 << 20


def test_a_segment_that_cannot_be_compressed_stays_as_it_is(log: Recording) -> None:
    for _ in range(200):
        log.put(os.urandom(20).hex())  # hardly compressible
    log.writer.close()
    store = FolderStore(folder_of(log))
    before = store.path(0).read_bytes()

    with file_size_limit(1_000), pytest.raises(OSError, match="too large"):
        compress_segment(store, 0)

    assert store.path(0).read_bytes() == before
    assert [path.name for path in store.folder.iterdir()] == ["000000.nlog"]


def test_a_segment_that_is_still_written_is_not_compressed(log: Recording) -> None:
    log.steps(1)

    with pytest.raises(LogFormatError, match="not sealed"):
        compress_segment(FolderStore(folder_of(log)), 0)

    assert values(read_log(log.store)) == [0]


def test_a_segment_too_large_to_be_read_once_compressed_stays_plain(tmp_path: Path) -> None:
    log = Recording(tmp_path / "log", segment_bytes=1 << 30)
    for _ in range(70):
        log.put("x" * 1_000_000)
        log.writer.flush()
    log.writer.close()

    with pytest.raises(LogFormatError, match="at most 67108864 are compressed"):
        compress_segment(FolderStore(folder_of(log)), 0)

    assert values(read_log(log.store, "none")) == list(range(70))


def test_a_reader_that_has_a_segment_open_goes_on_when_it_is_compressed(
    small_segments: Recording,
) -> None:
    small_segments.steps(40)
    small_segments.writer.close()
    store = FolderStore(folder_of(small_segments))
    reader = LogReader(store)
    found = reader.read(max_bytes=500)

    for index in store.indices():
        compress_segment(store, index)
    found += list(reader.events())

    assert found == read_log(store)
    reader.close()


def test_readers_see_the_same_log_at_every_moment_of_compressing(
    small_segments: Recording,
) -> None:
    small_segments.steps(40)
    small_segments.writer.close()
    store = FolderStore(folder_of(small_segments))
    expected = read_log(store)
    compressor = threading.Thread(
        target=lambda: [*map(partial(compress_segment, store), store.indices())]
    )

    compressor.start()
    while compressor.is_alive():
        assert read_log(store) == expected
    compressor.join()

    assert read_log(store) == expected


def test_files_and_folders_are_their_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        log = Recording(tmp_path / "log", segment_bytes=SMALL_SEGMENT_BYTES)
        log.steps(40)
        log.writer.close()
        store = FolderStore(folder_of(log))
        compress_segment(store, 0)
    finally:
        os.umask(umask)

    assert {stat.S_IMODE(path.stat().st_mode) for path in store.folder.iterdir()} == {0o600}
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700


def test_merging_summaries_changes_neither_part() -> None:
    first, second, third = Summary(), Summary(), Summary()
    second.count_metric("x", 1.0, 0, 0)
    third.count_metric("x", 2.0, 0, 1)

    first.merge(second)
    first.merge(third)

    assert (first.metrics["x"].count, second.metrics["x"].count) == (2, 1)


# -- torn and damaged ----------------------------------------------------------------------------


@pytest.mark.long
def test_a_log_cut_at_any_byte_reads_as_its_exact_prefix(log: Recording, tmp_path: Path) -> None:
    log.steps(6)
    log.writer.close()
    data = (folder_of(log) / "000000.nlog").read_bytes()
    ends = frame_ends(data)
    events = read_log(log.store)

    for size in range(len(data) + 1):
        store = log_of(tmp_path / "cut", data[:size])
        found, end = read_to_end(store)
        whole = min(6, sum(end <= size for end in ends[1:]))
        assert found == events[: 3 * whole]
        assert end.next_seq == 3 * whole
        if ends[0] <= size < ends[-2]:
            assert end.offset == max(end for end in ends if end <= size)
            assert end.kind is (EndKind.OPEN if size in ends else EndKind.TORN)


@pytest.mark.long
def test_every_flipped_bit_is_noticed_or_changes_nothing(log: Recording, tmp_path: Path) -> None:
    log.steps(3)
    log.writer.close()
    data = bytearray((folder_of(log) / "000000.nlog").read_bytes())
    ends = frame_ends(bytes(data))
    events = read_log(log.store)

    for at in range(len(data)):
        in_events = ends[0] <= at < ends[3]
        for bit in range(8) if in_events else (at % 8,):
            data[at] ^= 1 << bit
            store = log_of(tmp_path / "flipped", bytes(data))
            data[at] ^= 1 << bit
            try:
                found, end = read_to_end(store)
            except LogFormatError:
                assert at < ends[0]  # the segment's head
                continue
            if in_events:
                assert end.kind is EndKind.TORN
                assert end.offset == max(end for end in ends if end <= at)
                assert found == events[: 3 * (ends.index(end.offset))]
            else:
                assert found == events or (found == [] and end.kind is EndKind.TORN)


@pytest.mark.parametrize("size", [1, 20, 31, 32, 5_000])
def test_space_allocated_ahead_is_no_damage(log: Recording, tmp_path: Path, size: int) -> None:
    log.steps(3)
    store = log_of(tmp_path / "killed", log.committed_bytes() + bytes(size))

    found, end = read_to_end(store)

    assert values(found) == [0, 1, 2]
    assert end.kind is EndKind.OPEN


@pytest.mark.parametrize("tail", [b"\xff" * 100, os.urandom(4096)], ids=["ones", "random"])
def test_nonsense_after_the_last_frame_is_said_with_segment_and_offset(
    log: Recording, tmp_path: Path, tail: bytes
) -> None:
    log.steps(3)
    data = log.committed_bytes()

    found, end = read_to_end(log_of(tmp_path / "torn", data + tail))

    assert values(found) == [0, 1, 2]
    assert (end.kind, end.segment, end.offset) == (EndKind.TORN, 0, len(data))
    assert end.reason == "the frame's mark is wrong"


def test_a_frame_that_is_there_twice_is_read_once(log: Recording, tmp_path: Path) -> None:
    log.steps(3)
    data = log.committed_bytes()
    last_frame = data[frame_ends(data)[-2] :]

    found, end = read_to_end(log_of(tmp_path / "twice", data + last_frame))

    assert values(found) == [0, 1, 2]
    assert "repeats events" in end.reason


def test_a_frame_that_claims_more_than_a_mebibyte_is_not_read(
    log: Recording, tmp_path: Path
) -> None:
    log.steps(1)
    data = log.committed_bytes()
    mark = FRAME_HEAD.unpack_from(data, len(MAGIC))[0]
    huge = FRAME_HEAD.pack(mark, 0, 0xFFFFFFFF, 1, KIND_EVENTS, 0, 3, 0)

    found, end = read_to_end(log_of(tmp_path / "huge", data + huge + b"x" * 100))

    assert values(found) == [0]
    assert end.reason == "a frame claims 4294967295 bytes, more than 1048576"


def test_a_sound_frame_without_events_raises_after_what_comes_before_was_read(
    log: Recording, tmp_path: Path
) -> None:
    log.steps(2)
    data = log.committed_bytes()
    mark = FRAME_HEAD.unpack_from(data, len(MAGIC))[0]
    strange = pack_frame(mark, KIND_EVENTS, b"\x93\x90\x90\x91\x91\x02", 1, 6, 0, 1)
    after = pack_frame(mark, KIND_EVENTS, encode_events([], [], [log.make_put(9)]), 1, 7, 0, 1)
    reader = LogReader(log_of(tmp_path / "strange", data + strange + after))

    assert values(reader.read()) == [0, 1]
    for _ in range(2):
        with pytest.raises(LogFormatError, match="does not hold events"):
            reader.read()
    end = reader.end()
    assert (end.kind, end.offset, end.next_seq) == (EndKind.TORN, len(data), 6)
    reader.close()


def test_a_file_that_is_no_log_is_refused(tmp_path: Path) -> None:
    store = log_of(tmp_path, b"PK\x03\x04 something else")

    with pytest.raises(LogFormatError, match="not a nightbus event log"):
        read_log(store)


def test_a_log_of_a_newer_major_version_is_refused_with_what_to_do(tmp_path: Path) -> None:
    store = log_of(tmp_path, pack_header(SegmentHeader((9, 0), "x", 0, 0, 1, 0, 0, 7, 0, 0)))

    with pytest.raises(NewerFormatError, match=r"format 9\.0.*upgrade nightbus"):
        read_log(store)


def test_a_log_of_a_newer_minor_version_is_read(tmp_path: Path) -> None:
    store = log_of(
        tmp_path, pack_header(SegmentHeader((FORMAT_MAJOR, 9), "x", 0, 0, 1, 0, 0, 7, 0, 0))
    )

    assert read_to_end(store)[1].kind is EndKind.OPEN


def test_a_header_nested_deep_is_refused(tmp_path: Path) -> None:
    store = log_of(tmp_path, MAGIC + pack_frame(7, KIND_HEADER, b"\x91" * 200_000))

    with pytest.raises(LogFormatError, match="header cannot be read"):
        read_log(store)


def test_a_footer_nested_deep_is_refused(tmp_path: Path) -> None:
    header = pack_header(SegmentHeader((1, 0), "x", 0, 0, 1, 0, 0, 7, 0, 0))
    footer = pack_frame(7, KIND_FOOTER, b"\x91" * 200_000)
    store = log_of(tmp_path, header + footer + TRAILER.pack(len(header), MAGIC))

    with pytest.raises(LogFormatError, match="footer cannot be read"):
        read_footer(store, 0)


def compressed_log(folder: Path, body: bytes) -> FolderStore:
    """A log of one compressed segment with this stream in it."""
    footer = pack_frame(7, KIND_FOOTER, msgspec.msgpack.encode({}))
    data = MAGIC + body + footer + TRAILER.pack(len(MAGIC) + len(body), MAGIC)
    (folder / "000000.nlog.zst").write_bytes(data)
    return FolderStore(folder)


def bomb() -> bytes:
    """A kilobyte or so that is 100 MiB."""
    return zstandard.ZstdCompressor().compress(bytes(100 << 20))


def bomb_of_unsaid_size() -> bytes:
    packer = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    return packer.compress(bytes(100 << 20)) + packer.flush()


@pytest.mark.parametrize(
    "body",
    [bomb(), bomb_of_unsaid_size(), b"no zstandard", b""],
    ids=["a bomb", "a bomb that hides its size", "something else", "nothing"],
)
def test_a_compressed_segment_is_not_decompressed_beyond_its_limit(
    tmp_path: Path, body: bytes
) -> None:
    store = compressed_log(tmp_path, body)

    with pytest.raises(LogFormatError, match=r"000000\.nlog\.zst (claims|cannot be decompressed)"):
        read_log(store)


def test_a_compressed_segment_that_is_cut_off_is_refused(small_segments: Recording) -> None:
    small_segments.steps(1)
    small_segments.writer.close()
    store = FolderStore(folder_of(small_segments))
    compress_segment(store, 0)
    path = store.compressed_path(0)
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(LogFormatError, match="cut off"):
        read_log(store)


# -- one segment after another -------------------------------------------------------------------


@pytest.fixture
def two_segments(tmp_path: Path) -> FolderStore:
    """The first two segments of a log, both sealed."""
    recording = Recording(tmp_path / "two", segment_bytes=SMALL_SEGMENT_BYTES)
    while recording.store.indices()[-1] < 2:
        recording.steps(1)
    store = FolderStore(folder_of(recording))
    store.path(2).unlink()
    return store


def test_a_segment_without_a_footer_goes_on_in_the_next_if_no_event_is_missing(
    two_segments: FolderStore,
) -> None:
    expected = read_log(two_segments)
    path = two_segments.path(0)
    data = path.read_bytes()
    path.write_bytes(data[: frame_ends(data)[-2]])

    found, end = read_to_end(two_segments)

    assert found == expected
    assert end.kind is EndKind.SEALED


def test_reading_ends_where_events_are_missing_before_the_next_segment_and_says_so(
    two_segments: FolderStore,
) -> None:
    path = two_segments.path(0)
    data = path.read_bytes()
    ends = frame_ends(data)
    path.write_bytes(data[: ends[-3]])  # neither the footer nor the last step
    first_of_next = log_format.unpack_header(memoryview(two_segments.path(1).read_bytes()))[0]

    found, end = read_to_end(two_segments)

    last, following = seqs(found)[-1], first_of_next.first_seq
    assert following == last + 4
    assert (end.kind, end.segment, end.offset) == (EndKind.TORN, 0, ends[-3])
    assert end.reason == f"events {last + 1} to {following - 1} are missing before segment 1"


def test_an_observer_goes_on_where_the_writer_did_though_events_are_missing(
    two_segments: FolderStore,
) -> None:
    path = two_segments.path(0)
    data = path.read_bytes()
    path.write_bytes(data[: frame_ends(data)[-3]])
    size = two_segments.path(1).stat().st_size

    found = read_log(two_segments, limit=lambda: (1, size))

    whole = read_log(two_segments)
    assert len(found) > len(whole)
    assert seqs(found)[: len(whole)] == seqs(whole)


def test_a_segment_that_begins_with_events_read_before_is_refused(
    two_segments: FolderStore,
) -> None:
    two_segments.path(1).write_bytes(two_segments.path(0).read_bytes())

    with pytest.raises(LogFormatError, match="segment 1 begins at event 0, which was read before"):
        read_log(two_segments)


def test_a_missing_segment_ends_the_log_and_is_named(small_segments: Recording) -> None:
    small_segments.steps(60)
    small_segments.writer.close()
    FolderStore(folder_of(small_segments)).path(1).unlink()

    found, end = read_to_end(small_segments.store)

    assert 0 < len(values(found)) < 60
    assert end.kind is EndKind.TORN
    assert "segment 1 is missing" in end.reason


def test_an_empty_last_segment_is_the_end_as_after_a_power_cut(small_segments: Recording) -> None:
    small_segments.steps(60)
    small_segments.writer.close()
    store = FolderStore(folder_of(small_segments))
    for index in store.indices()[2:]:
        store.path(index).unlink()
    store.path(2).write_bytes(b"\0" * 5_000)

    found, end = read_to_end(store)

    assert 0 < len(values(found)) < 60
    assert values(found) == list(range(len(values(found))))
    assert end.kind is not EndKind.SEALED


# -- values that arrive later --------------------------------------------------------------------


def test_what_follows_a_value_on_its_way_waits_so_that_order_is_kept(log: Recording) -> None:
    arriving = Arriving(0.5)
    log.put()
    log.hook("on_before")
    log.put_pending(arriving)
    log.hook("on_after")
    log.put()

    log.writer.flush()
    held = [tell(event) for event in read_log(log.store)]
    arriving.arrive()
    log.writer.flush()

    assert held == ["0", "on_before"]
    events = read_log(log.store)
    assert [tell(event) for event in events] == ["0", "on_before", "0.5", "on_after", "1"]
    assert seqs(events) == list(range(5))


def test_held_hooks_keep_the_place_where_they_arose(log: Recording) -> None:
    log.put_pending(Arriving(0.5))
    for step in (1, 2, 3):
        log.place.complete_step(step)
        log.hook()
        log.writer.flush()
    log.writer.flush(wait=True)

    assert [getattr(event, "step", None) for event in read_log(log.store)] == [0, 1, 2, 3]


def test_values_are_written_as_they_arrive_in_order_only(log: Recording) -> None:
    first, second, third = Arriving(1.0), Arriving(2.0), Arriving(3.0)
    for value in (first, second, third):
        log.put_pending(value)
    counts = []
    for value in (third, first, second):
        value.arrive()
        log.writer.flush()
        counts.append(len(read_log(log.store)))

    assert counts == [0, 1, 3]
    assert values(read_log(log.store)) == [1.0, 2.0, 3.0]


def test_flush_with_wait_writes_everything(log: Recording) -> None:
    log.put_pending(Arriving(0.5))
    log.put()

    log.writer.flush(wait=True)

    assert values(read_log(log.store)) == [0.5, 0]


def test_closing_waits_for_values(log: Recording) -> None:
    log.put_pending(Arriving(0.5))
    log.writer.close()

    assert values(read_log(log.store)) == [0.5]


def test_a_value_that_cannot_be_had_leaves_a_fault_in_its_place(log: Recording) -> None:
    log.put()
    log.put_pending(Arriving(0.5, RuntimeError("device-side assert triggered")))
    log.put()
    log.writer.close()

    events, end = read_to_end(log.store)
    assert [tell(event) for event in events] == ["0", "Fault", "1"]
    assert isinstance(events[1], Fault)
    assert events[1].message == "the value of 'x' did not arrive: device-side assert triggered"
    assert end.kind is EndKind.SEALED


def test_an_interrupt_while_a_value_is_waited_for_loses_nothing(log: Recording) -> None:
    interrupted = Arriving(0.5)
    interrupted.error = KeyboardInterrupt()  # type: ignore[assignment]
    log.put_pending(Arriving(0.25))
    log.put_pending(interrupted)
    log.put()

    with pytest.raises(KeyboardInterrupt):
        log.writer.flush(wait=True)
    interrupted.error = None
    log.writer.close()

    assert values(read_log(log.store)) == [0.25, 0.5, 0]


# -- a disk that is full -------------------------------------------------------------------------


def holes(events: list[Any]) -> int:
    """How many sequence numbers are missing."""
    found = seqs(events)
    assert found == sorted(set(found))
    return found[-1] + 1 - len(found)


def test_training_goes_on_while_nothing_can_be_written_and_a_gap_tells_how_much_is_lost(
    log: Recording, capfd: pytest.CaptureFixture[str]
) -> None:
    log.steps(2)
    with file_size_limit(log.writer.committed[1]):
        for _ in range(3):
            log.hook()
            log.put("x" * 300_000)  # more than what is allocated ahead
            log.writer.flush()
    log.steps(1)
    log.writer.close()

    events, end = read_to_end(log.store)
    assert values(events) == [0, 1, 5]
    (gap,) = [event for event in events if isinstance(event, Gap)]
    assert gap.count == gap.seq - 6
    assert gap.count == holes(events) == log.writer.lost_events
    assert "too large" in gap.reason
    assert end.kind is EndKind.SEALED
    assert capfd.readouterr().err.count("cannot be written") == 1


@pytest.mark.usefixtures("written_with_write")
@pytest.mark.parametrize("fails_at", range(1, 12))
def test_a_write_that_fails_half_way_leaves_no_trace_but_a_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    log = Recording(tmp_path / "log")
    write, calls = os.pwrite, 0

    def short_then_full(fd: int, data: bytes, offset: int) -> int:
        nonlocal calls
        calls += 1
        if calls == fails_at + 1:
            raise no_space()
        return write(fd, data[: max(1, len(data) // 2)], offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", short_then_full)
        log.steps(3)
    log.steps(3)
    log.writer.close()

    events, end = read_to_end(log.store)
    gaps = sum(event.count for event in events if isinstance(event, Gap))
    assert end.kind is EndKind.SEALED
    assert gaps == holes(events) == log.writer.lost_events == 3


@pytest.mark.usefixtures("written_with_write")
def test_short_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: write(fd, data[:7], offset))
    log = Recording(tmp_path / "log", segment_bytes=SMALL_SEGMENT_BYTES)

    log.steps(20)
    log.writer.close()

    assert seqs(read_log(log.store)) == list(range(60))


def test_a_disk_that_is_full_when_a_segment_is_to_begin_loses_nothing(
    small_segments: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", failing(no_space()))
        small_segments.steps(40)
        full = small_segments.store.indices()
    small_segments.steps(60)
    small_segments.writer.close()

    events, end = read_to_end(small_segments.store)
    assert full == [0]
    assert seqs(events) == list(range(300))
    assert len(small_segments.store.indices()) > 2
    assert end.kind is EndKind.SEALED


def test_a_folder_that_is_gone_when_a_segment_is_to_begin_does_not_stop_training(
    small_segments: Recording,
) -> None:
    folder = folder_of(small_segments)
    folder.rename(folder.with_name("moved"))
    folder.write_text("in the way")

    small_segments.steps(40)
    small_segments.writer.close()

    assert values(read_log(folder.with_name("moved"))) == list(range(40))


def test_a_gap_that_is_lost_too_is_counted_in_the_next(
    log: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = type(log.writer._file).append
    with monkeypatch.context() as patch:
        patch.setattr(type(log.writer._file), "append", failing(no_space()))
        for _ in range(5):
            log.steps(1)
    assert type(log.writer._file).append is append
    log.writer.close()

    (gap,) = read_log(log.store)
    assert isinstance(gap, Gap)
    assert gap.count == gap.seq == 15 + 4  # five steps, and the four gaps lost with them


def test_a_gap_comes_after_what_is_held_back_and_is_counted_once(
    log: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    arriving = Arriving(0.5)
    for _ in range(2):
        log.put()
        log.put_pending(arriving)
        with monkeypatch.context() as patch:
            patch.setattr(type(log.writer._file), "append", failing(no_space()))
            log.writer.flush()
        arriving.arrive()
        log.writer.flush()
        arriving = Arriving(0.75)
    log.writer.close()

    events = read_log(log.store)
    assert [event.count for event in events if isinstance(event, Gap)] == [1, 1]
    assert holes(events) == 2


@pytest.mark.long
def test_parts_of_a_large_step_that_are_lost_leave_the_others_in_order(
    log: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = type(log.writer._file).append
    lose_first = failing(no_space(), times=1)

    def once_full(file: Any, data: bytes) -> None:
        lose_first()
        append(file, data)

    for _ in range(70_000):
        log.hook()
    with monkeypatch.context() as patch:
        patch.setattr(type(log.writer._file), "append", once_full)
        log.writer.flush()
    log.writer.close()

    events = read_log(log.store)
    (gap,) = [event for event in events if isinstance(event, Gap)]
    assert gap.count == holes(events) > 30_000
    assert seqs(events) == list(range(gap.count, 70_001))


def test_lost_hooks_are_not_in_the_summary(log: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    log.steps(2)
    with monkeypatch.context() as patch:
        patch.setattr(type(log.writer._file), "append", failing(no_space()))
        log.steps(3)
    log.writer.close()

    footer = read_footer(FolderStore(folder_of(log)), 0)

    assert footer is not None
    assert footer.summary.hooks["on_a"].count == 2
    assert footer.summary.events == {"Put": 2, "Gap": 1}


class _FullDevice(FolderStore):
    """A store whose segments are the device that is always full."""

    def create(self, index: int) -> int:
        return os.open("/dev/full", os.O_RDWR)

    def discard(self, index: int) -> None:
        """There is nothing to take back."""


def test_a_log_that_cannot_begin_is_an_error_before_training_with_what_to_do(
    tmp_path: Path,
) -> None:
    with pytest.raises(RunFolderError, match=r"cannot begin the event log.*make room, choose"):
        Recording(_FullDevice(tmp_path))


def test_no_space_for_the_first_segment_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "posix_fallocate", failing(no_space()))

    with pytest.raises(RunFolderError, match="No space left on device"):
        Recording(tmp_path / "log")

    assert list((tmp_path / "log").iterdir()) == []


def test_a_second_writer_is_refused_and_takes_nothing_from_the_first(log: Recording) -> None:
    log.steps(1)

    with pytest.raises(RunFolderError, match="File exists"):
        Recording(folder_of(log))

    assert values(read_log(log.store)) == [0]


# -- interrupts ----------------------------------------------------------------------------------


class Alarm:
    """SIGALRM as KeyboardInterrupt, at any moment of what is done while it is armed."""

    def __init__(self) -> None:
        self.armed = False
        self.hits = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.armed:
            self.armed = False
            self.hits += 1
            raise KeyboardInterrupt

    def interrupt(self, action: Callable[[], None], delay_s: float) -> None:
        try:
            self.armed = True
            signal.setitimer(signal.ITIMER_REAL, delay_s)
            action()
            self.armed = False
        except KeyboardInterrupt:
            pass


@pytest.fixture
def alarm() -> Iterator[Alarm]:
    alarm = Alarm()
    before = signal.signal(signal.SIGALRM, alarm)
    gc.disable()  # an interrupt of what it calls would be lost, and is none of the writer's
    yield alarm
    gc.enable()
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_interrupts_at_any_moment_of_writing_lose_nothing_and_double_nothing(
    tmp_path: Path, alarm: Alarm
) -> None:
    log = Recording(tmp_path / "log", segment_bytes=8_000)
    for number in range(4_000):
        log.hook()
        log.put()
        log.hook()
        log.put()
        alarm.interrupt(log.writer.flush, 2e-6 + number % 60 * 1e-6)
        if number % 7 == 0:
            log.writer.flush()  # one that may take as long as it takes
    log.writer.close()

    events, end = read_to_end(log.store)
    assert alarm.hits > 500
    assert len(log.store.indices()) > 5
    assert seqs(events) == list(range(16_000))
    assert values(events) == list(range(8_000))
    assert end.kind is EndKind.SEALED


@pytest.mark.parametrize("when", ["before", "after"])
def test_events_made_after_an_interrupted_write_follow_it(
    log: Recording, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    append = type(log.writer._file).append

    def interrupted(file: Any, data: bytes) -> None:
        if when == "after":
            append(file, data)
        raise KeyboardInterrupt

    log.hook()
    log.put()
    with monkeypatch.context() as patch:
        patch.setattr(type(log.writer._file), "append", interrupted)
        with pytest.raises(KeyboardInterrupt):
            log.writer.flush()
    log.put()
    log.writer.close()

    events = read_log(log.store)
    assert [(event.seq, tell(event)) for event in events] == [(0, "on_a"), (1, "0"), (2, "1")]


@pytest.mark.usefixtures("written_with_write")
def test_a_write_that_an_interrupt_cut_is_completed_at_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Recording(tmp_path / "log")
    write = os.pwrite

    def half(fd: int, data: bytes, offset: int) -> int:
        write(fd, data[: len(data) // 2], offset)
        raise KeyboardInterrupt

    log.put()
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", half)
        with pytest.raises(KeyboardInterrupt):
            log.writer.flush()
    log.steps(3)
    log.writer.close()

    events, end = read_to_end(log.store)
    assert seqs(events) == list(range(10))
    assert end.kind is EndKind.SEALED


# -- a log without a name ------------------------------------------------------------------------


@pytest.fixture
def unnamed() -> Iterator[UnnamedStore]:
    store = UnnamedStore()
    yield store
    store.close()


def test_an_unnamed_log_reads_like_any_other(unnamed: UnnamedStore) -> None:
    log = Recording(unnamed, segment_bytes=SMALL_SEGMENT_BYTES)
    log.steps(40)
    log.writer.close()

    events, end = read_to_end(unnamed)
    assert seqs(events) == list(range(120))
    assert end.kind is EndKind.SEALED


def test_an_unnamed_log_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unnamed: UnnamedStore
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    Recording(unnamed).steps(3)

    assert list(tmp_path.iterdir()) == []


def test_segments_that_everyone_has_read_are_given_up(unnamed: UnnamedStore) -> None:
    log = Recording(unnamed, segment_bytes=SMALL_SEGMENT_BYTES)
    reader = LogReader(unnamed, lambda: log.writer.committed)
    found = []
    for _ in range(60):
        log.steps(1)
        found += reader.read()
        unnamed.release_before(reader.segment)
        assert len(unnamed.indices()) <= 2

    assert values(found) == list(range(60))
    reader.close()


def test_a_reader_keeps_the_segment_it_has_open_though_it_was_given_up(
    unnamed: UnnamedStore,
) -> None:
    log = Recording(unnamed, segment_bytes=1 << 20)
    reader = LogReader(unnamed)
    log.steps(2)
    found = reader.read(max_bytes=100)

    unnamed.release_before(1)
    found += list(reader.events())

    assert values(found) == [0, 1]
    reader.close()


def test_a_segment_that_was_given_up_cannot_be_opened(unnamed: UnnamedStore) -> None:
    log = Recording(unnamed, segment_bytes=SMALL_SEGMENT_BYTES)
    log.steps(40)

    unnamed.release_before(2)

    assert unnamed.indices()[0] == 2
    with pytest.raises(FileNotFoundError, match="segment 1 was given up"):
        unnamed.open(1)


def test_an_unnamed_segment_that_cannot_be_made_does_not_stop_training(
    unnamed: UnnamedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Recording(unnamed, segment_bytes=SMALL_SEGMENT_BYTES)
    with monkeypatch.context() as patch:
        patch.setattr("tempfile.tempdir", "/nowhere/at/all")
        log.steps(40)
    log.steps(40)
    log.writer.close()

    assert seqs(read_log(unnamed)) == list(range(240))


# -- durability ----------------------------------------------------------------------------------


def test_segments_are_ready_to_be_compressed_once_they_are_durable(
    small_segments: Recording,
) -> None:
    writer = small_segments.writer
    small_segments.steps(40)
    before = list(writer.sealed)

    writer.sync()

    assert before == []
    assert list(writer.sealed) == small_segments.store.indices()[:-1]


def test_syncing_a_log_that_was_closed_is_nothing(log: Recording) -> None:
    log.steps(1)
    log.writer.close()

    log.writer.sync()

    assert list(log.writer.sealed) == [0]


def test_any_thread_may_sync_while_the_log_is_written(small_segments: Recording) -> None:
    writer, failures, stop = small_segments.writer, list[BaseException](), threading.Event()

    def sync() -> None:
        while not stop.is_set():
            try:
                writer.sync()
            except BaseException as error:
                failures.append(error)

    threads = [threading.Thread(target=sync) for _ in range(3)]
    for thread in threads:
        thread.start()
    small_segments.steps(200)
    writer.close()
    stop.set()
    for thread in threads:
        thread.join()

    assert failures == []
    assert sorted(writer.sealed) == small_segments.store.indices()


def open_below(folder: Path) -> list[str]:
    """The files of a folder that this process has open."""
    targets = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the listing, or another thread's
            targets.append(os.readlink(f"/proc/self/fd/{fd}"))
    return [target for target in targets if Path(target).is_relative_to(folder.resolve())]


def test_a_reader_does_not_leave_files_open(small_segments: Recording) -> None:
    small_segments.steps(40)
    small_segments.writer.close()
    folder = folder_of(small_segments)
    sorted(folder.iterdir())[3].write_bytes(b"this is no log")

    for _ in range(5):
        reader = LogReader(FolderStore(folder))
        reader.seek(100)
        reader.seek(0)
        with pytest.raises(LogError):
            list(reader.events())
        assert open_below(folder) != []
        reader.close()

    assert open_below(folder) == []


def test_a_writer_leaves_no_files_open(tmp_path: Path) -> None:
    log = Recording(tmp_path / "log", segment_bytes=SMALL_SEGMENT_BYTES)
    log.steps(40)
    assert open_below(tmp_path) != []

    log.writer.close()

    assert open_below(tmp_path) == []
