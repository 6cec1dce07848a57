"""The event log: what is written is read, whatever happens to the end of the file."""

import errno
import math
import os
import shutil
import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest
from helpers import encode_events
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import nightbus as nb
from nightbus.bus.errors import LogError, LogFormatError, MetricError, NewerFormatError
from nightbus.bus.events import EVENT_TYPES, Gap, Unknown
from nightbus.bus.log import codec
from nightbus.bus.log.fast_flush import FastLogWriter
from nightbus.bus.log.format import (
    FRAME_HEAD,
    KIND_EVENTS,
    MAGIC,
    SegmentHeader,
    pack_frame,
    pack_header,
)
from nightbus.bus.log.place import Place
from nightbus.bus.log.reader import EndKind, LogReader
from nightbus.bus.log.segments import FolderStore, UnnamedStore, compress_segment, read_footer
from nightbus.bus.log.summary import Summary
from nightbus.bus.log.writer import LogIdentity
from nightbus.bus.routes import Routes


class Log:
    """A writer, and readers of what it wrote."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.store = FolderStore(folder)
        self.place = Place()
        self.writer = FastLogWriter(self.store, LogIdentity("test"), self.place, **options)
        self.routes = Routes(self.place)
        self.routes.refresh()

    def hook(self, name: str = "on_a") -> None:
        self.routes.call(name)

    def put(self, value: Any = 1.0, name: str = "x") -> None:
        event = self.writer.event(nb.Put, name, value, ("loggers",), "", source="test")
        self.writer.append(event)

    def step(self, number: int = 1) -> None:
        for _ in range(number):
            self.place.complete_step(self.place.step + 1)
            self.hook("on_a")
            self.put(float(self.place.step))
            self.hook("on_b")
            self.writer.flush()

    def close(self) -> None:
        self.writer.close()


def read(folder: Path, **options: Any) -> list[Any]:
    reader = LogReader(FolderStore(folder))
    try:
        return list(reader.events(**options))
    finally:
        reader.close()


def values(events: list[Any]) -> list[Any]:
    return [event.value for event in events if isinstance(event, nb.Put)]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "rank-00000")


# -- what is written is read ---------------------------------------------------------------------


def test_events_come_back_in_order_with_their_places(log: Log) -> None:
    log.step(3)
    log.close()

    events = read(log.store.folder)

    assert [event.seq for event in events] == list(range(9))
    assert [(type(event).__name__, event.step) for event in events[:3]] == [
        ("Hook", 1),
        ("Put", 1),
        ("Hook", 1),
    ]
    assert [event.name for event in events[:3]] == ["on_a", "x", "on_b"]


def test_hooks_can_be_left_out_or_only_the_latest_read(log: Log) -> None:
    log.step(5)
    log.close()

    assert {type(event) for event in read(log.store.folder, hooks="none")} == {nb.Put}
    latest = [e for e in read(log.store.folder, hooks="latest") if isinstance(e, nb.Hook)]
    assert [hook.step for hook in latest] == [5, 5]


def test_a_reader_follows_a_log_that_grows(log: Log) -> None:
    reader = LogReader(log.store)
    found: list[Any] = []
    for _ in range(20):
        log.step()
        found += reader.read()

    assert values(found) == [float(n) for n in range(1, 21)]
    assert reader.read() == []
    reader.close()


@pytest.mark.parametrize("segment_bytes", [2_000, 1 << 20])
def test_a_reader_seeks_by_sequence_number(tmp_path: Path, segment_bytes: int) -> None:
    log = Log(tmp_path, segment_bytes=segment_bytes)
    log.step(100)
    log.close()

    for seq in (0, 1, 2, 149, 150, 299):
        reader = LogReader(FolderStore(tmp_path))
        reader.seek(seq)
        assert [event.seq for event in reader.events()] == list(range(seq, 300))
        reader.close()


def test_segments_rotate_and_read_as_one(tmp_path: Path) -> None:
    log = Log(tmp_path, segment_bytes=2_000)
    log.step(100)
    log.close()

    assert len(log.store.indices()) > 5
    assert values(read(tmp_path)) == [float(n) for n in range(1, 101)]


def test_a_compressed_segment_reads_the_same(tmp_path: Path) -> None:
    log = Log(tmp_path, segment_bytes=2_000)
    log.step(50)
    log.close()
    before = read(tmp_path)

    for index in log.store.indices():
        compress_segment(log.store, index)

    assert {path.suffix for path in tmp_path.iterdir()} == {".zst"}
    assert read(tmp_path) == before


def test_a_reader_goes_on_while_a_segment_is_compressed(tmp_path: Path) -> None:
    log = Log(tmp_path, segment_bytes=2_000)
    log.step(50)
    log.close()
    reader = LogReader(FolderStore(tmp_path))
    found = reader.read(max_bytes=500)

    for index in log.store.indices():
        compress_segment(log.store, index)
    found += list(reader.events())

    assert values(found) == [float(n) for n in range(1, 51)]
    reader.close()


def test_a_segment_that_is_not_sealed_is_not_compressed(log: Log) -> None:
    log.step()

    with pytest.raises(LogFormatError, match="not sealed"):
        compress_segment(log.store, 0)
    assert values(read(log.store.folder)) == [1.0]


def test_a_footer_tells_what_the_segment_holds(log: Log) -> None:
    log.step(4)
    log.put(math.nan)
    log.close()

    footer = read_footer(log.store, 0)

    assert footer is not None
    assert footer.next_seq == 13
    assert footer.summary.hooks["on_a"].count == 4
    metric = footer.summary.metrics["x"]
    assert (metric.count, metric.low, metric.high, metric.non_finite) == (5, 1.0, 4.0, 1)


def test_files_are_their_owners_alone(log: Log) -> None:
    log.step()

    (path,) = log.store.folder.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert log.store.folder.stat().st_mode & 0o777 == 0o700


def test_an_unnamed_log_leaves_no_file_and_reads_the_same() -> None:
    store = UnnamedStore()
    writer = FastLogWriter(store, LogIdentity("test"), Place(), segment_bytes=500)
    reader = LogReader(store, lambda: writer.committed)
    found: list[Any] = []
    for value in range(50):
        writer.append(writer.event(nb.Put, "x", value, (), ""))
        writer.flush()
        found += reader.read()
        store.release_before(reader.segment)

    assert values(found) == list(range(50))
    assert len(store.indices()) <= 2
    reader.close()
    store.close()


def test_a_step_that_emits_a_great_deal_is_written_in_parts(log: Log) -> None:
    for _ in range(70_000):
        log.hook()
    log.writer.flush()
    log.close()

    assert len(read(log.store.folder)) == 70_000


def test_one_event_larger_than_a_frame_is_refused(log: Log) -> None:
    log.put(name="x" * (1 << 20))

    with pytest.raises(MetricError, match="more than 1048576 bytes"):
        log.writer.flush()


# -- torn and damaged ----------------------------------------------------------------------------


def frames(data: bytes) -> list[int]:
    """Offsets at which frames end."""
    ends, at = [], len(MAGIC)
    while at < len(data):
        length = FRAME_HEAD.unpack_from(data, at)[2]
        at += FRAME_HEAD.size + length
        ends.append(at)
    return ends


def unsealed(folder: Path, steps: int) -> bytes:
    """The bytes of a log whose writer was killed."""
    log = Log(folder)
    log.step(steps)
    return (folder / "000000.nlog").read_bytes()[: log.writer.committed[1]]


def test_a_log_cut_anywhere_reads_to_its_exact_prefix(tmp_path: Path) -> None:
    data = unsealed(tmp_path / "whole", 6)
    ends = frames(data)
    cut = tmp_path / "cut"
    cut.mkdir()
    for size in range(len(data) + 1):
        (cut / "000000.nlog").write_bytes(data[:size])
        reader = LogReader(FolderStore(cut))
        found = values(list(reader.events()))
        whole_steps = max(0, sum(end <= size for end in ends) - 1)  # the first is the header
        assert found == [float(n + 1) for n in range(whole_steps)]
        end = reader.end()
        assert end.next_seq == 3 * whole_steps
        at_boundary = size in ends
        assert end.kind is (EndKind.OPEN if at_boundary or size == 0 else EndKind.TORN) or (
            size < ends[0]
        )
        reader.close()


def test_a_flipped_bit_is_noticed_and_what_comes_before_is_read(tmp_path: Path) -> None:
    data = bytearray(unsealed(tmp_path / "whole", 4))
    ends = frames(bytes(data))
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for at in range(ends[0], len(data)):
        data[at] ^= 0x10
        (damaged / "000000.nlog").write_bytes(data)
        reader = LogReader(FolderStore(damaged))
        found = values(list(reader.events()))
        assert found == [float(n + 1) for n in range(sum(end <= at for end in ends) - 1)]
        assert reader.end().kind is EndKind.TORN
        reader.close()
        data[at] ^= 0x10


@pytest.mark.parametrize("tail", [b"\0" * 4096, os.urandom(4096), b"\xff" * 100])
def test_nonsense_behind_the_last_frame_is_not_read(tmp_path: Path, tail: bytes) -> None:
    folder = tmp_path / "log"
    data = unsealed(folder, 3)
    (folder / "000000.nlog").write_bytes(data + tail)

    assert values(read(folder)) == [1.0, 2.0, 3.0]


def test_a_frame_that_is_there_twice_is_read_once(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    data = unsealed(folder, 3)
    ends = frames(data)
    (folder / "000000.nlog").write_bytes(data + data[ends[-2] :])

    assert values(read(folder)) == [1.0, 2.0, 3.0]


def test_a_frame_that_claims_four_gigabytes_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    data = unsealed(folder, 1)
    mark = FRAME_HEAD.unpack_from(data, len(MAGIC))[0]
    huge = FRAME_HEAD.pack(mark, 0, 0xFFFFFFFF, 1, KIND_EVENTS, 0, 3, 0)
    (folder / "000000.nlog").write_bytes(data + huge + b"x" * 100)
    reader = LogReader(FolderStore(folder))

    assert values(list(reader.events())) == [1.0]
    assert "claims 4294967295 bytes" in reader.end().reason
    reader.close()


def test_a_file_that_is_no_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "000000.nlog").write_bytes(b"PK\x03\x04 something else")

    with pytest.raises(LogFormatError, match="not a nightbus event log"):
        read(tmp_path)


def test_a_log_of_a_newer_major_version_is_refused(tmp_path: Path) -> None:
    header = SegmentHeader((9, 0), "x", 0, 0, 1, 0, 0, 7, 0, 0)
    (tmp_path / "000000.nlog").write_bytes(pack_header(header))

    with pytest.raises(NewerFormatError, match=r"format 9\.0.*upgrade nightbus"):
        read(tmp_path)


def test_a_full_disk_loses_events_but_says_how_many(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = False
    append = type(log.writer._file).append

    def maybe_full(self: Any, data: bytes) -> None:
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(self, data)

    monkeypatch.setattr(type(log.writer._file), "append", maybe_full)
    log.step(2)
    full = True
    log.step(3)
    full = False
    log.step(1)
    log.close()

    events = read(log.store.folder)
    (gap,) = [event for event in events if isinstance(event, Gap)]
    assert values(events) == [1.0, 2.0, 6.0]
    assert "No space left" in gap.reason
    seqs = [event.seq for event in events]
    assert gap.count == seqs[seqs.index(gap.seq)] - seqs[seqs.index(gap.seq) - 1] - 1


def test_where_space_cannot_be_allocated_ahead_write_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EOPNOTSUPP, "not here")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    log = Log(tmp_path, segment_bytes=2_000)
    log.step(50)
    log.close()

    assert values(read(tmp_path)) == [float(n) for n in range(1, 51)]


# -- the codec -----------------------------------------------------------------------------------

scalars = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats()
texts = st.text(max_size=30)
by_type = {
    int: st.integers(-(2**31), 2**31),
    float: st.floats(),
    str: texts,
    tuple[str, ...]: st.lists(texts, max_size=3).map(tuple),
    nb.Put.__annotations__["value"]: scalars,
    int | None: st.none() | st.integers(0, 1000),
    dict[str, str]: st.dictionaries(texts, texts, max_size=3),
}


@st.composite
def other_events(draw: st.DrawFn) -> Any:
    kind = draw(st.sampled_from([kind for tag, kind in EVENT_TYPES.items() if tag != 1]))
    fields: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        if field.name == "stage":
            fields["stage"] = draw(st.sampled_from(["", "train", "validate", "test"]))
        elif field.name == "how":
            fields["how"] = draw(st.sampled_from(["completed", "failed"]))
        elif field.name == "fork":
            fields["fork"] = None
        elif field.name == "data":
            fields["data"] = draw(st.binary(max_size=30))
        elif kind is nb.Media and field.name == "kind":
            fields["kind"] = draw(st.sampled_from(["image", "text", "table"]))
        elif field.name in ("config", "hparams"):
            fields[field.name] = draw(
                st.dictionaries(texts, st.none() | scalars | texts, max_size=3)
            )
        else:
            fields[field.name] = draw(by_type[field.type])
    return kind(**fields)


def same(mine: Any, other: Any) -> bool:
    encode = msgspec.msgpack.encode
    return type(mine) is type(other) and encode(mine) == encode(other)


@settings(max_examples=100, deadline=None)
@given(event=other_events())
def test_every_event_comes_back_to_the_bit(event: Any) -> None:
    payload = encode_events([], [], [event])

    (back,) = codec.decode_events(payload, 0, 0)

    assert same(back, event)


@settings(max_examples=100, deadline=None)
@given(payload=st.binary(max_size=300), mutate=st.integers(0, 200), byte=st.integers(0, 255))
def test_a_mutated_payload_raises_our_own_error_or_decodes(
    payload: bytes, mutate: int, byte: int
) -> None:
    good = bytearray(
        encode_events(
            [(0, 1, 2, 3, 0, "train")],
            [("on_a", 5, 6)] * 3,
            [nb.Put(1, 2, 0, "train", 0, 0, 0, 0, "s", "x", 1.5, ("a",), "h")],
        )
    )
    good[mutate % len(good)] = byte
    for data in (payload, bytes(good), b"\x91" * 100_000):
        try:
            codec.decode_events(data, 0, 0)
        except LogError:
            continue


def test_an_event_of_an_unknown_type_is_kept_as_it_is(capfd: pytest.CaptureFixture[str]) -> None:
    codec._warned_tags.clear()
    known = nb.Put(1, 2, 0, "train", 0, 0, 0, 0, "s", "x", 1.5, ("a",), "h")
    payload = encode_events([], [], [[99, 0, "new", {"a": 1}], known, [99, 2, "again"]])

    first, second, third = codec.decode_events(payload, 0, 0)

    assert isinstance(first, Unknown)
    assert (first.seq, first.tag) == (0, 99)
    assert second == known
    assert isinstance(third, Unknown)
    assert capfd.readouterr().err.count("does not know") == 1


def test_fields_that_a_newer_version_appended_are_passed_over() -> None:
    put = nb.Put(1, 2, 0, "train", 0, 0, 0, 0, "s", "x", 1.5, ("a",), "h")
    newer = [*msgspec.msgpack.decode(msgspec.msgpack.encode(put)), "more", 7]
    payload = encode_events([(0, 1, 2, 3, 0, "train", "more")], [("on_a", 5, 6, "more")], [newer])

    hook, back = codec.decode_events(payload, 0, 0)

    assert back == put
    assert isinstance(hook, nb.Hook)
    assert (hook.name, hook.step) == ("on_a", 2)


def test_a_frame_is_thirty_two_bytes_and_its_payload() -> None:
    assert len(pack_frame(1, KIND_EVENTS, b"abc")) == 32 + 3
    assert struct.unpack("<I", pack_frame(7, KIND_EVENTS, b"")[:4]) == (7,)


# -- writer, crash, reader -----------------------------------------------------------------------


class WriterCrashReader(RuleBasedStateMachine):
    """Whatever is written, flushed, rotated and cut: a reader sees an exact prefix of it, and all
    of what was committed as long as the file is whole.
    """

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.root = Path(tempfile.mkdtemp())
        self.log = Log(self.root / "live", segment_bytes=3_000)
        self.written: list[float] = []
        self.flushed = 0
        self.follower = LogReader(self.log.store, lambda: self.log.writer.committed)
        self.followed: list[float] = []

    @rule(number=st.integers(1, 5))
    def put(self, number: int) -> None:
        for _ in range(number):
            self.written.append(float(len(self.written)))
            self.log.put(self.written[-1])
            self.log.hook()

    @rule()
    def flush(self) -> None:
        self.log.writer.flush()
        self.flushed = len(self.written)

    @rule()
    def follow(self) -> None:
        self.followed += values(self.follower.read())

    @rule(data=st.data())
    @precondition(lambda self: self.flushed > 0)
    def crash_and_read(self, data: st.DataObject) -> None:
        copy = self.root / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.log.store.folder, copy)
        last = sorted(copy.iterdir())[-1]
        size = data.draw(st.integers(0, last.stat().st_size))
        os.truncate(last, size)
        found = values(read(copy))
        assert found == self.written[: len(found)]
        assert len(found) <= self.flushed

    @rule(seq=st.integers(0, 200))
    def seek(self, seq: int) -> None:
        reader = LogReader(self.log.store)
        reader.seek(seq)
        assert [e.seq for e in reader.events()] == list(range(seq, 2 * self.flushed))
        reader.close()

    @invariant()
    def everything_committed_is_read(self) -> None:
        assert values(read(self.log.store.folder)) == self.written[: self.flushed]
        assert self.followed == self.written[: len(self.followed)]

    def teardown(self) -> None:
        self.follower.close()
        self.log.close()
        shutil.rmtree(self.root)


TestWriterCrashReader = WriterCrashReader.TestCase
TestWriterCrashReader.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


# -- a segment that is gone or empty -------------------------------------------------------------


def rotated(folder: Path) -> Log:
    log = Log(folder, segment_bytes=2_000)
    log.step(60)
    log.close()
    return log


def test_an_empty_last_segment_is_the_end_as_after_a_power_cut(tmp_path: Path) -> None:
    log = rotated(tmp_path)
    for index in log.store.indices()[2:]:
        log.store.path(index).unlink()
    log.store.path(2).write_bytes(b"\0" * 5_000)
    reader = LogReader(FolderStore(tmp_path))

    found = values(list(reader.events()))

    assert found == [float(n + 1) for n in range(len(found))]
    assert 0 < len(found) < 60
    assert reader.end().kind is not EndKind.SEALED
    reader.seek(0)
    assert values(list(reader.events())) == found
    reader.close()


def test_a_missing_segment_ends_the_log_and_is_named(tmp_path: Path) -> None:
    log = rotated(tmp_path)
    log.store.path(1).unlink()
    reader = LogReader(FolderStore(tmp_path))

    found = values(list(reader.events()))

    assert 0 < len(found) < 60
    assert reader.end().kind is EndKind.TORN
    assert "segment 1 is missing" in reader.end().reason
    reader.close()


def test_merging_summaries_changes_neither_part() -> None:
    first, second, third = Summary(), Summary(), Summary()
    second.count_metric("x", 1.0, 0, 0)
    third.count_metric("x", 2.0, 0, 1)

    first.merge(second)
    first.merge(third)

    assert (first.metrics["x"].count, second.metrics["x"].count) == (2, 1)
