"""Words in a frame: what goes in comes out, and nothing else gets through."""

import contextlib
import struct
import sys

import pytest
from helpers import encode_events, tell
from hypothesis import given, settings
from hypothesis import strategies as st
from noted_steps import HIGH_BYTES, noted_steps

from nightbus.bus.errors import LogFormatError
from nightbus.bus.events import Fault, Hook, Put
from nightbus.bus.log import layout
from nightbus.bus.log.codec import decode_events, encode_trace
from nightbus.bus.log.codes import (
    ACTIONS,
    BATCH_IDX,
    BEGIN,
    END,
    NAME,
    NUMBER,
    RAN,
    SHIFT,
    STAGE,
    STEP,
    begin,
    end,
    ran,
)
from nightbus.bus.log.layout import (
    MAX_HOOKS,
    MAX_NAMES_BYTES,
    MAX_WORDS,
    PAYLOAD_HEAD,
    WORDS_BEGIN,
    TooManyWords,
    decode_words,
    encode_words,
    layout_of,
)
from nightbus.bus.log.trace import HookAt, HookTrace

A_HOOK = ran("backward")
TRANSFER = ran(
    "on_before_batch_transfer",
    "on_after_batch_transfer",
    "on_batch_start",
    "on_train_batch_start",
)


def decoded(payload: bytes) -> list[HookAt]:
    """The hooks of a payload, with their places."""
    return [
        HookAt(
            hook.name,
            hook.time_ns,
            hook.duration_ns,
            (hook.epoch, hook.step, hook.batch_idx, hook.dataloader_idx, hook.stage),
        )
        for hook in decode_events(payload, 0, 0)
        if isinstance(hook, Hook)
    ]


def row(*words: int, names: bytes = b"", number: int | None = None, stage: int = 1) -> bytes:
    """A payload of any words."""
    head = PAYLOAD_HEAD.pack(
        WORDS_BEGIN, 0, len(words) if number is None else number, len(names), stage, 0, 0, 0, 0
    )
    return head + struct.pack(f"<{len(words)}Q", *words) + names


def a_put(seq: int) -> Put:
    return Put(seq, 2, 0, "train", 0, 0, 0, 0, "module", "loss", 1.5, ("loggers",), "")


# -- what goes in comes out ----------------------------------------------------------------------


@pytest.mark.long
@settings(max_examples=300, deadline=None)
@given(notes=st.sampled_from(HIGH_BYTES).flatmap(lambda high: noted_steps(named=(), high=high)))
def test_hooks_with_codes_come_back_as_they_were_recorded(notes: HookTrace) -> None:
    assert decoded(encode_words(notes)) == list(notes.hooks())


@settings(max_examples=300, deadline=None)
@given(notes=st.sampled_from(HIGH_BYTES).flatmap(lambda high: noted_steps(high=high)))
def test_hooks_with_names_come_back_as_they_were_recorded(notes: HookTrace) -> None:
    assert decoded(encode_words(notes)) == list(notes.hooks())


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_parts_of_notes_come_back_as_the_whole(data: st.DataObject) -> None:
    notes = data.draw(noted_steps())
    whole = list(notes.hooks())
    first, _, rest = notes.cut(data.draw(st.integers(0, len(whole))))

    assert decoded(encode_words(first)) + decoded(encode_words(rest)) == whole


def test_other_events_follow_the_words_and_keep_their_places_among_the_hooks() -> None:
    notes = HookTrace()
    for hook in ("on_mine", "backward", "on_other"):
        notes.appender(RAN, hook)(1)

    payload = encode_trace(notes, [a_put(1), a_put(4)])

    events = decode_events(payload, 0, 0)
    assert [event.seq for event in events] == [0, 1, 2, 3, 4]
    assert [tell(event) for event in events] == ["on_mine", "1.5", "backward", "on_other", "1.5"]
    assert decode_events(payload, 0, 0, hooks=False) == [a_put(1), a_put(4)]


def test_notes_without_hooks_are_written_without_words() -> None:
    notes = HookTrace()
    notes.words.extend((STEP | 1, 5 | begin("backward")))

    assert encode_trace(notes, [])[0] != WORDS_BEGIN


def test_a_frame_has_only_the_names_that_it_needs() -> None:
    notes = HookTrace(names=[f"on_hook_{number}" for number in range(1000)])
    notes.appender(RAN, "on_hook_999")(1)

    payload = encode_words(notes)

    assert len(payload) == PAYLOAD_HEAD.size + 2 * 8 + len(b"\x91\xab" + b"on_hook_999")
    assert [hook.name for hook in decoded(payload)] == ["on_hook_999"]


def test_encoding_leaves_the_notes_as_they_were() -> None:
    notes = HookTrace(names=["on_first", "on_second"])
    notes.appender(RAN, "on_second")(1)
    before = notes.words[:]

    encode_words(notes)

    assert notes.words == before


def test_a_machine_of_the_other_byte_order_turns_its_words_around(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    notes = HookTrace()
    notes.appender(RAN, "backward")(5)
    before = notes.words[:]
    payload = encode_words(notes)
    monkeypatch.setattr(sys, "byteorder", "big" if sys.byteorder == "little" else "little")

    turned = encode_words(notes)

    assert turned[: PAYLOAD_HEAD.size] == payload[: PAYLOAD_HEAD.size]
    assert turned[PAYLOAD_HEAD.size :] == payload[PAYLOAD_HEAD.size :][::-1]
    assert notes.words == before


def test_no_more_words_fit_than_the_head_can_count() -> None:
    notes = HookTrace()
    notes.words.extend([A_HOOK | 1] * MAX_WORDS)
    assert len(decoded(encode_words(notes))) == MAX_WORDS

    notes.words.append(A_HOOK | 1)
    with pytest.raises(TooManyWords):
        encode_words(notes)


def test_no_more_names_fit_than_the_head_can_count() -> None:
    notes = HookTrace()
    notes.appender(RAN, "x" * (MAX_NAMES_BYTES - 4))(1)  # 4: of an array of one long string
    assert len(decoded(encode_words(notes))) == 1

    notes.appender(RAN, "y")(1)
    with pytest.raises(TooManyWords):
        encode_words(notes)


# -- hostile payloads ----------------------------------------------------------------------------

NAMES = b"\x92\xa7on_mine\xa1b"
SOUND = row(
    STAGE | 1,
    BATCH_IDX | NUMBER,
    A_HOOK | 5,
    begin("backward", "on_before_backward") | 6,
    end("backward") | 7,
)
SOUND_WITH_NAMES = row(NAME | 1, 6 << SHIFT | 5, A_HOOK | 5, NAME | 0, 8 << SHIFT | 7, names=NAMES)
WITHOUT_WORDS = encode_events(
    [(0, 1, 2, 3, 0, "train"), (2, 1, 3, 4, 0, "train")],
    [("on_a", 5, 6)] * 4,
    [a_put(1), [99, 2, "new"], Fault(5, 2, 0, "", 0, 0, 0, 0, "s", "E", "m", "t", "h")],
)


def test_the_sound_payloads_are_sound() -> None:
    assert [hook.name for hook in decoded(SOUND)] == ["backward", "on_before_backward", "backward"]
    assert [hook.name for hook in decoded(SOUND_WITH_NAMES)] == ["b", "backward", "on_mine"]


@pytest.mark.parametrize("hooks", [True, False])
@pytest.mark.parametrize("payload", [SOUND, SOUND_WITH_NAMES], ids=["codes", "names"])
def test_a_payload_that_ends_early_is_refused_at_each_of_its_bytes(
    payload: bytes, hooks: bool
) -> None:
    for size in range(len(payload)):
        with pytest.raises(LogFormatError, match="does not hold events"):
            decode_events(payload[:size], 0, 0, hooks)


@pytest.mark.parametrize("payload", [SOUND, SOUND_WITH_NAMES], ids=["codes", "names"])
@pytest.mark.parametrize("at", range(PAYLOAD_HEAD.size))
def test_each_wrong_byte_of_the_head_is_read_or_refused_with_our_own_error(
    payload: bytes, at: int
) -> None:
    for byte in range(256):
        mutant = payload[:at] + bytes([byte]) + payload[at + 1 :]
        for hooks in (True, False):
            with contextlib.suppress(LogFormatError):
                decode_events(mutant, 0, 0, hooks)


@st.composite
def mutants(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from((SOUND, SOUND_WITH_NAMES, WITHOUT_WORDS))))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(data)


@settings(max_examples=1_000, deadline=None)
@given(payload=mutants() | st.binary(max_size=200), hooks=st.booleans())
def test_a_mutated_payload_is_read_or_refused_with_our_own_error(
    payload: bytes, hooks: bool
) -> None:
    with contextlib.suppress(LogFormatError):
        decode_events(payload, 0, 0, hooks)


NO_CODES = sorted({*range(256)} - {*range(5)} - set(ACTIONS))


@pytest.mark.parametrize("code", NO_CODES)
def test_a_code_that_means_nothing_without_names_is_refused(code: int) -> None:
    with pytest.raises(LogFormatError, match="no code"):
        decode_events(row(A_HOOK, code << SHIFT), 0, 0)


@pytest.mark.parametrize("code", sorted({*NO_CODES} - {*range(5, 9)}))
def test_a_code_that_means_nothing_beside_names_is_refused(code: int) -> None:
    with pytest.raises(LogFormatError, match="no code"):
        decode_events(row(A_HOOK, code << SHIFT, names=NAMES), 0, 0)


@pytest.mark.parametrize("action", [RAN, BEGIN, END])
def test_a_hook_that_is_named_nothing_is_refused(action: int) -> None:
    with pytest.raises(LogFormatError, match="without a name"):
        decode_events(row((6 + action) << SHIFT, names=NAMES), 0, 0)


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        (row(NAME | 2, 6 << SHIFT, names=NAMES), "no name of the number 2"),
        (row(NAME | NUMBER, 6 << SHIFT, names=NAMES), "no name of the number"),
        (row(A_HOOK, names=b"\x91\x01"), "Expected `str`"),
        (row(A_HOOK, names=b"\xa7on_mine"), "Expected `array`"),
        (row(A_HOOK, names=b"\xdd\xff\xff\xff\xff"), "does not hold events"),
        (row(A_HOOK, names=NAMES + b"\xc0"), "trailing"),
        (row(A_HOOK, names=b"\x91\xa2\xff\xfe"), "does not hold events"),
        (row(STAGE | 6, A_HOOK), "no stage of the number 6"),
        (row(STAGE | 6, A_HOOK, names=NAMES), "no stage of the number 6"),
        (row(A_HOOK, stage=6), "no stage of the number 6"),
        (row(A_HOOK, number=2), "ends among its words"),
        (row(A_HOOK) + b"\x91\x02", "does not hold events"),
        (row(A_HOOK) + b"\x91" * 200_000, "does not hold events"),
    ],
)
def test_payloads_that_make_no_sense_are_refused(payload: bytes, problem: str) -> None:
    with pytest.raises(LogFormatError, match=problem):
        decode_events(payload, 0, 0)


@pytest.mark.parametrize("names", [b"", NAMES], ids=["codes", "names"])
def test_more_hooks_than_a_frame_can_count_are_refused(names: bytes) -> None:
    """A word may be of four hooks: 8 bytes would become half a kilobyte of events."""
    number = MAX_HOOKS // 4 + 1
    with pytest.raises(LogFormatError, match=f"more than {MAX_HOOKS}"):
        decode_events(row(*[TRANSFER] * number, names=names), 0, 0)


# -- layouts that are kept -----------------------------------------------------------------------


def test_the_layout_of_a_shape_is_worked_out_once() -> None:
    shape = bytes([A_HOOK >> SHIFT] * 3)

    assert layout_of(shape) is layout_of(bytes(bytearray(shape)))


def test_of_layouts_only_so_many_are_kept_however_many_shapes_a_log_has() -> None:
    for number in range(2 * layout._MAX_LAYOUTS):
        layout_of(bytes([A_HOOK >> SHIFT] * (number + 1)))

    assert layout._layout_of.cache_info().currsize == layout._MAX_LAYOUTS


def test_a_long_shape_is_not_kept() -> None:
    layout._layout_of.cache_clear()
    decode_words(row(*[A_HOOK] * (layout._MAX_SHAPE_BYTES + 1)))

    assert layout._layout_of.cache_info().currsize == 0


def test_a_shape_that_is_refused_is_not_kept() -> None:
    layout._layout_of.cache_clear()
    with pytest.raises(ValueError, match="no code"):
        decode_words(row(0xFF << SHIFT))

    assert layout._layout_of.cache_info().currsize == 0
