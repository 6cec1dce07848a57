"""The layout of a step's words (codes.py) in a frame, and reading of many steps that are alike.

    payload = 0xc1 | time's high byte u8 | words u16 | bytes of names u16
              | stage u8 | 0 u8 | epoch u64 | step u64 | batch_idx u64 | dataloader_idx u64
              | word u64 ... | names | records                        (little endian)

No msgpack value begins with 0xc1. Stage and so on are the place before the first word. Names is a
msgpack array of the names of hooks without codes of their own; records is one of events, if the
frame has any. A frame can be read without any other.

A step is mostly like the one before, so its codes are interpreted only once.
"""

import struct
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec

from .codes import (
    ACTIONS,
    BATCH_IDX,
    BEGIN,
    DATALOADER_IDX,
    END,
    NAME,
    NEXT,
    NEXT_PARTS,
    NUMBER,
    SHIFT,
    STEP,
    PlaceTuple,
)
from .trace import HookTrace, Walk, count_hooks, place_of

WORDS_BEGIN = 0xC1
PAYLOAD_HEAD = struct.Struct("<BBHHBxQQQQ")
MAX_WORDS = 0xFFFF
MAX_NAMES_BYTES = 0xFFFF
MAX_HOOKS = 0xFFFF  # as many as a frame's head can count
_CODE_AT = 7
_ORIGIN_PARTS = 5
# Limits what a malicious log can make a reader keep.
_MAX_SHAPE_BYTES = 1024
_MAX_LAYOUTS = 128

_Take = Callable[[Sequence[int]], Any]
_encode = msgspec.msgpack.Encoder().encode
_names = msgspec.msgpack.Decoder(list[str])


class TooManyWords(Exception):
    """There are more words than fit into a frame, so they have to be divided."""


class Steps(NamedTuple):
    """The hooks of a frame, in order.

    Attributes:
        places: the places in training, each with the number of the first hook there.
        names: of the hooks.
        times_ns: when each was done.
        begun_ns: when its handlers began; the same for a hook without handlers.
        records: the rest of the frame.
    """

    places: list[tuple[int, PlaceTuple]]
    names: Sequence[str]
    times_ns: Sequence[int]
    begun_ns: Sequence[int]
    records: memoryview


class Layout:
    """The interpretation of a shape without names.

    Args:
        shape: the words' codes.

    Attributes:
        names: of the hooks that ran or ended, in order.
        times: index of the word with each one's time.
        begun: index of the word with the time when it began; the same without handlers.
        time_getter, begin_getter: take these out of an Origin and the words' numbers.
        places: from which of the hooks on, what takes where training was out of the same, and by
            how many steps and batches it went on since.

    Raises:
        ValueError: there is no such code, or there are too many hooks for a frame.
    """

    __slots__ = ("begin_getter", "begun", "names", "places", "time_getter", "times")

    def __init__(self, shape: bytes) -> None:
        _refuse_too_many_hooks(shape)
        self.names: list[str] = []
        self.times: list[int] = []
        self.begun: list[int] = []
        self.places: list[tuple[int, _Take, int, int]] = []
        begun: dict[str, int] = {}
        parts = list(range(_ORIGIN_PARTS))
        further = [0] * _ORIGIN_PARTS
        is_said = False
        for at, code in enumerate(shape):
            if code <= DATALOADER_IDX >> SHIFT:
                parts[code], further[code], is_said = at + _ORIGIN_PARTS, 0, False
                continue
            if code not in ACTIONS:
                raise ValueError(f"there is no code of the number {code}")
            for action, name in ACTIONS[code]:
                if action == BEGIN:
                    begun[name] = at
                    continue
                if action == NEXT:
                    further[NEXT_PARTS[name] >> SHIFT] += 1
                    is_said = False
                    continue
                if not is_said:
                    steps, batches = further[STEP >> SHIFT], further[BATCH_IDX >> SHIFT]
                    self.places.append((len(self.names), itemgetter(*parts), steps, batches))
                    is_said = True
                self.names.append(name)
                self.times.append(at)
                self.begun.append(begun.pop(name, at) if action == END else at)
        self.time_getter = _taking(self.times)
        self.begin_getter = _taking(self.begun)


def _taking(words: Sequence[int]) -> _Take:
    """Return a function that takes the numbers of words."""
    at = [_ORIGIN_PARTS + word for word in words]
    if len(at) > 1:
        return itemgetter(*at)
    return lambda numbers: tuple(numbers[one] for one in at)


def _refuse_too_many_hooks(shape: bytes) -> None:
    # One word can be four hooks: half a MiB of them would be a hundred once they are events.
    if (number := count_hooks(shape)) > MAX_HOOKS:
        raise ValueError(f"it holds {number} hooks, more than {MAX_HOOKS}")


_layout_of = lru_cache(_MAX_LAYOUTS)(Layout)


def layout_of(shape: bytes) -> Layout:
    """Return the layout of a shape, kept for the next step.

    Raises:
        ValueError: as ``Layout``.
    """
    return _layout_of(shape) if len(shape) <= _MAX_SHAPE_BYTES else Layout(shape)


def encode_words(trace: HookTrace) -> bytes:
    """Return a frame's payload up to the other events.

    Raises:
        TooManyWords: there are too many words or names for a frame.
    """
    used: dict[int, int] = {}  # number of a name -> its number in the frame
    words = trace.words
    if NAME >> SHIFT in (codes := [word >> SHIFT for word in words]):
        words = words[:]
        for at, code in enumerate(codes):
            if code == NAME >> SHIFT:
                words[at] = NAME | used.setdefault(words[at] & NUMBER, len(used))
    names = _encode([trace.names[number] for number in used]) if used else b""
    if len(words) > MAX_WORDS or len(names) > MAX_NAMES_BYTES:
        raise TooManyWords
    if sys.byteorder != "little":
        words = words[:]
        words.byteswap()
    high = trace.base_ns >> SHIFT
    head = PAYLOAD_HEAD.pack(WORDS_BEGIN, high, len(words), len(names), *trace.origin)
    return head + words.tobytes() + names


def decode_words(payload: bytes | memoryview) -> Steps:
    """Return the hooks of a frame.

    Raises:
        MALFORMED: the payload is malformed.
        struct.error: it ends early.
    """
    _, high, number, names_bytes, *origin = PAYLOAD_HEAD.unpack_from(payload)
    begin = PAYLOAD_HEAD.size
    end = begin + 8 * number
    view = memoryview(payload)
    if end + names_bytes > len(view):
        raise ValueError("it ends among its words")
    words = struct.unpack_from(f"<{number}Q", view, begin)
    records = view[end + names_bytes :]
    shape = bytes(view[begin + _CODE_AT : end : 8])
    if names_bytes:
        _refuse_too_many_hooks(shape)
        names = _names.decode(view[end : end + names_bytes])
        walk = Walk(tuple(origin), names, high << SHIFT)
        return _read_singly(words, walk, records)
    layout = layout_of(shape)
    numbers = [*origin, *[word & NUMBER for word in words]]
    places = [
        (first, place_of(take(numbers), steps, batches))
        for first, take, steps, batches in layout.places
    ]
    times_ns, begun_ns = layout.time_getter(numbers), layout.begin_getter(numbers)
    if base_ns := high << SHIFT:
        times_ns = [base_ns + number for number in times_ns]
        begun_ns = [base_ns + number for number in begun_ns]
    return Steps(places, layout.names, times_ns, begun_ns, records)


def records_in(payload: bytes | memoryview) -> memoryview:
    """Return the part of a payload after its hooks.

    Raises:
        ValueError, struct.error: it ends early.
    """
    _, _, number, names_bytes, *_ = PAYLOAD_HEAD.unpack_from(payload)
    end = PAYLOAD_HEAD.size + 8 * number + names_bytes
    if end > len(payload):
        raise ValueError("it ends among its words")
    return memoryview(payload)[end:]


def _read_singly(words: Sequence[int], walk: Walk, records: memoryview) -> Steps:
    hooks = list(walk.hooks(words))
    places: list[tuple[int, PlaceTuple]] = []
    for at, hook in enumerate(hooks):
        if not places or places[-1][1] != hook.place:
            places.append((at, hook.place))
    return Steps(
        places,
        [hook.name for hook in hooks],
        [hook.time_ns for hook in hooks],
        [hook.time_ns - hook.duration_ns for hook in hooks],
        records,
    )
