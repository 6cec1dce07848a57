"""A frame's payload: what is encoded is decoded to the bit, and nothing else gets through."""

import struct
from typing import Any, get_args

import msgspec
import pytest
from helpers import encode_events, tell
from hypothesis import given, settings
from hypothesis import strategies as st

from nightbus.bus.errors import LogFormatError
from nightbus.bus.events import (
    EVENT_TYPES,
    Event,
    Fault,
    Fork,
    Hook,
    Media,
    MediaKind,
    Plain,
    Put,
    RunStarted,
    Unknown,
)
from nightbus.bus.log import codec
from nightbus.bus.log.codec import decode_events, encodable

OTHER_TYPES = sorted((kind for kind in EVENT_TYPES.values() if kind is not Hook), key=str)
STAGES = ("", "train", "validate", "test", "predict", "sanity_check")

texts = st.text(max_size=20)
integers = st.integers(-(2**63), 2**63 - 1)
# Floats by their bits: every NaN there is, too.
floats = st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("<d", struct.pack("<Q", bits))[0])
plain = st.none() | st.booleans() | integers | floats | texts


def events_of(kind: type[Event], seq: st.SearchStrategy[int] = integers) -> st.SearchStrategy[Any]:
    """Events of one type, with anything in their fields."""
    special: dict[str, st.SearchStrategy[Any]] = {
        "seq": seq,
        "stage": st.sampled_from(STAGES),
        "how": st.sampled_from(("completed", "stopped", "interrupted", "failed")),
        "value": st.booleans() | integers | floats,
        "destinations": st.lists(texts, max_size=3).map(tuple),
        "config": st.dictionaries(texts, plain, max_size=3),
        "hparams": st.dictionaries(texts, plain, max_size=3),
        "environment": st.dictionaries(texts, plain, max_size=3),
        "changed": st.lists(texts, max_size=3).map(tuple),
        "data": st.binary(max_size=20),
        "versions": st.dictionaries(texts, texts, max_size=3),
        "values": st.dictionaries(texts, floats, max_size=3),
        "fork": st.none() | st.builds(Fork, integers, integers, texts),
        "total": st.none() | integers,
    }
    by_type: dict[Any, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        int: integers,
        float: floats,
        str: texts,
        dict[str, int]: st.dictionaries(texts, integers, max_size=3),
    }
    fields = msgspec.structs.fields(kind)
    if kind is Media:
        special["kind"] = st.sampled_from(get_args(MediaKind))
    named = {
        field.name: special[field.name] if field.name in special else by_type[field.type]
        for field in fields
    }
    return st.builds(kind, **named)


def same(one: Any, other: Any) -> bool:
    """Equal to the bit: by their bytes, since a NaN equals nothing."""
    encode = msgspec.msgpack.encode
    return type(one) is type(other) and encode(one) == encode(other)


def a_put(seq: int = 0, value: float = 1.5) -> Put:
    return Put(seq, 2, 0, "train", 0, 0, 0, 0, "module", "loss", value, ("loggers",), "on_a")


# -- what goes in comes out ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", OTHER_TYPES, ids=lambda kind: kind.__name__)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_type_of_event_comes_back_to_the_bit(kind: type[Event], data: st.DataObject) -> None:
    event = data.draw(events_of(kind))

    (back,) = decode_events(encode_events([], [], [event]), 0, 0)

    assert same(back, event)


@pytest.mark.parametrize(
    "bits",
    [0x7FF8000000000000, 0xFFF8DEADBEEF0001, 0x7FF0000000000000, 0xFFF0000000000000, 1 << 63],
    ids=["nan", "a nan with a payload", "infinity", "minus infinity", "minus zero"],
)
def test_a_float_keeps_its_bits(bits: int) -> None:
    value = struct.unpack("<d", struct.pack("<Q", bits))[0]

    (back,) = decode_events(encode_events([], [], [a_put(value=value)]), 0, 0)

    assert isinstance(back, Put)
    assert struct.unpack("<Q", struct.pack("<d", back.value))[0] == bits


@st.composite
def steps(draw: st.DrawFn) -> tuple[list[Any], list[Any], list[Any], list[str], list[int]]:
    """Hooks, puts and moves in any order: places, hooks, others, and what reading should tell."""
    places: list[Any] = [(0, 0, 0, -1, 0, "")]
    hooks: list[Any] = []
    others: list[Any] = []
    told: list[str] = []
    hook_steps: list[int] = []
    for what in draw(st.lists(st.sampled_from(["hook", "put", "move"]), max_size=30)):
        if what == "hook":
            hooks.append((f"on_{len(told)}", 7, 8))
            hook_steps.append(places[-1][2])
            told.append(f"on_{len(told)}")
        elif what == "put":
            others.append(a_put(100 + len(told), len(told)))
            told.append(str(len(told)))
        else:
            places.append((len(hooks), 0, len(places), 0, 0, "train"))
    return places, hooks, others, told, hook_steps


@settings(max_examples=150, deadline=None)
@given(recorded=steps())
def test_hooks_take_the_sequence_numbers_between_the_others(recorded: Any) -> None:
    places, hooks, others, told, hook_steps = recorded

    events = decode_events(encode_events(places, hooks, others), 100, 3)

    assert [tell(event) for event in events] == told
    assert [event.seq for event in events] == list(range(100, 100 + len(told)))
    assert [event.step for event in events if isinstance(event, Hook)] == hook_steps
    assert all(event.rank == 3 for event in events if isinstance(event, Hook))


@settings(max_examples=50, deadline=None)
@given(recorded=steps())
def test_without_hooks_exactly_the_others_are_left(recorded: Any) -> None:
    places, hooks, others, _, _ = recorded

    assert decode_events(encode_events(places, hooks, others), 100, 0, hooks=False) == others


# -- what another version wrote ------------------------------------------------------------------


def test_events_of_an_unknown_type_are_kept_as_they_are_with_one_warning(
    capfd: pytest.CaptureFixture[str],
) -> None:
    codec._warned_tags.clear()
    strange = [99, 0, "new", {"a": 1}]
    payload = encode_events([(0, 0, 0, 0, 0, "")], [("on_a", 1, 1)], [strange, a_put(2), [99, 3]])

    first, hook, put, last = decode_events(payload, 0, 0)

    assert first == Unknown(0, 99, msgspec.msgpack.encode(strange))
    assert (tell(hook), hook.seq, put) == ("on_a", 1, a_put(2))
    assert last == Unknown(3, 99, msgspec.msgpack.encode([99, 3]))
    assert capfd.readouterr().err.count("does not know") == 1


@pytest.mark.parametrize("kind", OTHER_TYPES, ids=lambda kind: kind.__name__)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_fields_that_a_newer_version_appended_are_passed_over(
    kind: type[Event], data: st.DataObject
) -> None:
    event = data.draw(events_of(kind))
    longer = [*msgspec.msgpack.decode(msgspec.msgpack.encode(event)), "more", {"and": "more"}]

    (back,) = decode_events(encode_events([], [], [longer]), 0, 0)

    assert same(back, event)


def test_hooks_and_places_may_have_more_fields_too() -> None:
    payload = encode_events([(0, 1, 2, 3, 0, "train", "more")], [("on_a", 5, 6, "more")], [])

    assert decode_events(payload, 0, 0) == [Hook(0, 5, 0, "train", 1, 2, 3, 0, "", "on_a", 6)]


def test_fields_that_an_older_version_did_not_have_get_their_defaults() -> None:
    fork = Fork(0, 9, "c")
    hparams: dict[str, Plain] = {"lr": 0.1}
    started = RunStarted(0, 2, 0, "", 0, 0, 0, 0, "", "run", 1, "fit", 5, {}, {}, fork, hparams)
    whole = msgspec.msgpack.decode(msgspec.msgpack.encode(started))
    number = RunStarted.__struct_fields__.index("hparams") + 1  # before it is the tag

    backs = [decode_events(encode_events([], [], [whole[: number - n]]), 0, 0)[0] for n in (0, 1)]

    assert backs[0] == msgspec.structs.replace(started, hparams={})
    assert backs[1] == msgspec.structs.replace(started, fork=None, hparams={})


# -- hostile payloads ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payload",
    [
        b"\x91" * 200_000,
        b"\x93\x90\x90\x91" + b"\x91" * 200_000,
        b"\x93\x90\x90\xdd\xff\xff\xff\xff",
        b"\x93\x90\x90\x91\x91\x02",
        b"\x93\x90\x90\x91\x92\x02\xc0",
        encode_events([], [("on_a", 1, 1)], []),
        b"",
    ],
    ids=[
        "nested deep",
        "an event nested deep",
        "four billion events",
        "an event of one field",
        "an event without its fields",
        "hooks without a place",
        "nothing",
    ],
)
def test_hostile_payloads_are_refused(payload: bytes) -> None:
    with pytest.raises(LogFormatError, match="does not hold events"):
        decode_events(payload, 0, 0)


@settings(max_examples=100, deadline=None)
@given(bounds=st.lists(st.integers(-50, 50), min_size=1, max_size=20), number=st.integers(0, 30))
def test_made_up_bounds_of_places_neither_multiply_nor_drop_hooks(
    bounds: list[int], number: int
) -> None:
    places = [(bound, 0, 0, 0, 0, "") for bound in bounds]
    hooks = [(f"on_{n}", 1, 1) for n in range(number)]

    events = decode_events(encode_events(places, hooks, []), 0, 0)

    assert [tell(event) for event in events] == [name for name, _, _ in hooks]


# -- what cannot be encoded ----------------------------------------------------------------------


def test_an_event_that_can_be_encoded_is_taken_as_it_is() -> None:
    event = a_put()

    assert encodable(event) is event


def test_text_that_is_not_unicode_is_kept_with_escapes() -> None:
    fault = Fault(5, 2, 0, "", 0, 0, 0, 0, "s", "OSError", "no file caf\udce9.csv", "t", "h")

    mended = encodable(fault)

    assert mended == msgspec.structs.replace(fault, message="no file caf\\udce9.csv")


@pytest.mark.parametrize(
    ("value", "kept"),
    [(2**70, float(2**70)), (-(2**70), -float(2**70)), (10**400, float("inf"))],
)
def test_an_integer_beyond_64_bits_is_kept_as_a_float(value: int, kept: float) -> None:
    mended = encodable(a_put(3, value))

    assert isinstance(mended, Put)
    assert (mended.seq, mended.value, type(mended.value)) == (3, kept, float)


def test_a_value_that_is_no_number_becomes_a_fault_in_its_place() -> None:
    strange: Any = 1 + 2j

    fault = encodable(a_put(3, strange))

    assert isinstance(fault, Fault)
    assert (fault.seq, fault.source) == (3, "module")
    assert "a Put cannot be recorded" in fault.message
