"""Logs of every released format version are read by this one; see tests/golden."""

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
from golden_log import GOLDEN, as_json
from helpers import encode_events, read_log, read_to_end

import nightbus as nb
from nightbus.bus.events import EVENT_TYPES, Event, Unknown
from nightbus.bus.inspection.recover import recover
from nightbus.bus.log import codec
from nightbus.bus.log.codes import NAME, SHIFT, STEP, PlaceTuple, begin
from nightbus.bus.log.format import FORMAT_MAJOR, FORMAT_MINOR, unpack_header
from nightbus.bus.log.layout import PAYLOAD_HEAD, WORDS_BEGIN, decode_words
from nightbus.bus.log.reader import EndKind, LogReader

VERSIONS = sorted(path.parent.name for path in GOLDEN.glob("*/run"))


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


def golden_run(version: str) -> nb.RunFolder:
    return nb.RunFolder.open(GOLDEN / version / "run")


def expected_events(version: str) -> list[dict[str, Any]]:
    text = (GOLDEN / version / "events.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_this_format_version_has_a_golden_log() -> None:
    assert f"{FORMAT_MAJOR}.{FORMAT_MINOR}" in VERSIONS


def test_a_golden_log_is_read_to_the_bit(version: str) -> None:
    events, end = read_to_end(golden_run(version).store(0))

    expected = expected_events(version)
    assert len(events) == len(expected)
    for event, fields in zip(events, expected, strict=True):
        # Fields that were appended since have their defaults.
        found = as_json(event)
        if fork := fields.get("fork"):
            found["fork"] = found["fork"][: len(fork)]
        assert {name: found.get(name) for name in fields} == fields
    assert end.kind is EndKind.OPEN  # its writer was killed


def test_a_golden_log_holds_every_type_of_its_version(version: str) -> None:
    (header,) = _schemas(version)
    types = {fields["type"] for fields in expected_events(version)}

    assert set(header) == types - {"Unknown"}


@pytest.fixture
def payloads() -> list[bytes]:
    """Those of the first golden log with words."""
    reader = LogReader(golden_run("2.0").store(0))
    found = [bytes(frame.payload) for frame, _ in reader.parts()]
    reader.close()
    return found


def test_the_first_golden_log_with_words_has_all_kinds_of_frames(payloads: list[bytes]) -> None:
    rows = [payload for payload in payloads if payload[0] == WORDS_BEGIN]
    shapes = [
        row[PAYLOAD_HEAD.size + 7 : PAYLOAD_HEAD.size + 8 * words_in(row) : 8] for row in rows
    ]
    steps = [shape.count(STEP >> SHIFT) for shape in shapes]
    goes_on = [
        begun for before, begun in pairwise(shapes) if before[-1] == begun[0] == BACKWARD_BEGAN
    ]

    assert len(rows) < len(payloads)  # the others have no hooks
    assert any(NAME >> SHIFT in shape for shape in shapes)
    assert any(NAME >> SHIFT not in shape for shape in shapes)
    assert max(steps) == 4
    assert any(decode_words(row).records for row in rows)
    assert goes_on
    assert any(batch_idx == -1 for row in rows for _, (_, _, batch_idx, _, _) in places_in(row))


BACKWARD_BEGAN = begin("backward") >> SHIFT


def words_in(row: bytes) -> int:
    number: int = PAYLOAD_HEAD.unpack_from(row)[2]
    return number


def places_in(row: bytes) -> list[tuple[int, PlaceTuple]]:
    return decode_words(row).places


def _schemas(version: str) -> list[list[str]]:
    """The names of the types in the segments' headers, without repetition."""
    store = golden_run(version).store(0)
    found = []
    for index in store.indices():
        source = store.open(index)
        header, _ = unpack_header(memoryview(source.read_at(0, 1 << 20)))
        source.close()
        found.append([names[0] for names in header.schema.values()])
    return [each for number, each in enumerate(found) if each not in found[:number]]


def test_an_event_of_an_unknown_type_goes_through_recover_as_it_is(
    version: str, tmp_path: Path
) -> None:
    shutil.copytree(GOLDEN / version / "run", tmp_path / "run")

    recover(nb.RunFolder.open(tmp_path / "run"), tmp_path / "out")

    before = read_log(golden_run(version).store(0))
    after = read_log(nb.RunFolder.open(tmp_path / "out").store(0))
    (unknown,) = [event for event in after if isinstance(event, Unknown)]
    assert unknown.tag not in EVENT_TYPES
    assert unknown in before
    assert [as_json(event) for event in after] == [as_json(event) for event in before]


@pytest.fixture
def older_version(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """A nightbus from before media, loops and checkpoints were recorded; the tags it lacks."""
    kinds = [kind for tag, kind in EVENT_TYPES.items() if 1 < tag <= 10]
    known: Any = kinds[0]
    for kind in kinds[1:]:
        known = known | kind
    monkeypatch.setattr(
        codec,
        "_records_part",
        msgspec.msgpack.Decoder(tuple[msgspec.Raw, msgspec.Raw, list[known]]),
    )
    monkeypatch.setattr(
        codec,
        "_all_parts",
        msgspec.msgpack.Decoder(
            tuple[list[codec.PlaceRecord], list[codec.HookRecord], list[known]]
        ),
    )
    monkeypatch.setattr(codec, "_events", msgspec.msgpack.Decoder(list[known]))
    lacking = {tag for tag in EVENT_TYPES if tag > 10}
    for tag in lacking:
        monkeypatch.delitem(codec._decoder_of, tag)
    return lacking


def test_an_older_reader_keeps_types_it_does_not_know_and_gives_them_back_as_they_were(
    version: str, older_version: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    events = read_log(golden_run(version).store(0))
    unknown = [event for event in events if isinstance(event, Unknown)]
    raw = encode_events([], [], [msgspec.Raw(event.raw) for event in unknown])
    known_to_it = [event for event in events if isinstance(event, Event)]

    monkeypatch.undo()  # what a newer version makes of it
    again = codec.decode_events(raw, 0, 0)

    newer = read_log(golden_run(version).store(0))
    recorded = {int(tag) for tag, kind in EVENT_TYPES.items() if kind in {*map(type, newer)}}
    assert {event.tag for event in unknown} >= older_version & recorded
    assert len(known_to_it) + len(unknown) == len(newer)
    wanted = {event.seq for event in unknown}
    expected = [event for event in newer if event.seq in wanted]
    assert [as_json(event) for event in again] == [as_json(event) for event in expected]


def test_an_older_reader_keeps_users_events_which_a_newer_one_knows(
    older_version: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = msgspec.msgpack.encode({"path": "a.png"})
    event = nb.PlainUserEvent(3, 1, 0, "train", 0, 2, 1, 0, "module", "", "team.Seen", data)

    (unknown,) = codec.decode_events(codec.encode_events([event]), 3, 0)
    monkeypatch.undo()

    assert isinstance(unknown, Unknown)
    assert (unknown.seq, unknown.tag) == (3, 20)
    raw = encode_events([], [], [msgspec.Raw(unknown.raw)])
    assert codec.decode_events(raw, 3, 0) == [event]
