"""Encoders and decoders, made once.

A frame's payload is either of two. Hooks are nine tenths of a full recording and come a dozen to a
step: they are a row of words, see layout.py, with the other events after them. Without hooks it is
one msgpack array of three: ``[places, hooks, records]``. Logs of format 1.0 have hooks in it: each
is ``[name, time_ns, duration_ns]``, and their place is written once for all that follow, in
``places``: ``[index of the first hook it holds for, epoch, step, batch_idx, dataloader_idx,
stage]``.

Either way a reader of metrics skips the hooks in no time. Records are whole events. Their sequence
numbers are written out, the hooks take those between, in order.
"""

import math
import struct
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Literal, NamedTuple, NoReturn

import msgspec

from ..errors import MALFORMED, LogFormatError
from ..events import (
    EVENT_TYPES,
    Event,
    Fault,
    Hook,
    OtherEvent,
    Put,
    Stage,
    Unknown,
)
from ..system.logging_setup import get_logger
from .codes import PlaceTuple
from .layout import WORDS_BEGIN, decode_words, encode_words, records_in
from .trace import HookTrace, count_hooks, shape_of

HookSelection = Literal["all", "latest", "none"]
DecodedEvent = Event | Unknown

# Errors of msgspec for values that it cannot encode: types, text with lone surrogates, as in a file
# name that is not UTF-8, integers over 64 bits.
UNENCODABLE = (TypeError, ValueError, OverflowError, RecursionError)


class PlaceRecord(msgspec.Struct, array_like=True, gc=False):
    """The place of the hooks from ``first`` on."""

    first: int
    epoch: int
    step: int
    batch_idx: int
    dataloader_idx: int
    stage: Stage


class HookRecord(msgspec.Struct, array_like=True, gc=False):
    """One hook in the form of logs of format 1.0."""

    name: str
    time_ns: int
    duration_ns: int


class FrameParts(NamedTuple):
    """The content of a frame.

    Attributes:
        places: the places in training, each with the number of the first hook there.
        names, times_ns, begun_ns: of the hooks in order: their names, when each was done, and when
            its handlers began, which is the same for a hook without handlers.
        records: the other events, in order.
    """

    places: Sequence[tuple[int, PlaceTuple]]
    names: Sequence[str]
    times_ns: Sequence[int]
    begun_ns: Sequence[int]
    records: Sequence[DecodedEvent]


_log = get_logger("nightbus.codec")
_encoder = msgspec.msgpack.Encoder()
_hooks_part = msgspec.msgpack.Decoder(tuple[list[PlaceRecord], list[HookRecord], msgspec.Raw])
_records_part = msgspec.msgpack.Decoder(tuple[msgspec.Raw, msgspec.Raw, list[OtherEvent]])
_all_parts = msgspec.msgpack.Decoder(tuple[list[PlaceRecord], list[HookRecord], list[OtherEvent]])
_raw_records = msgspec.msgpack.Decoder(tuple[msgspec.Raw, msgspec.Raw, list[msgspec.Raw]])
_events = msgspec.msgpack.Decoder(list[OtherEvent])
_raw_events = msgspec.msgpack.Decoder(list[msgspec.Raw])
_head = msgspec.msgpack.Decoder(list[msgspec.Raw])
_integer = msgspec.msgpack.Decoder(int)
_decoder_of = {
    tag: msgspec.msgpack.Decoder(kind) for tag, kind in EVENT_TYPES.items() if kind is not Hook
}
_by_seq = attrgetter("seq")
_warned_tags: set[int] = set()


def encode_events(records: Sequence[object]) -> bytes:
    """Return the payload of a frame without hooks.

    Args:
        records: its events.

    Raises:
        UNENCODABLE: an event holds what a log cannot; ``encodable`` returns what replaces it.
    """
    return _encoder.encode(((), (), records))


def encode_trace(trace: HookTrace, records: Sequence[object]) -> bytes:
    """Return the payload of a frame.

    Args:
        trace: the hooks.
        records: the other events.

    Raises:
        UNENCODABLE: as for ``encode_events``.
        TooManyWords: there are too many hooks for a frame.
    """
    if not count_hooks(shape_of(trace.words)):
        return encode_events(records)
    return encode_words(trace) + encode_records(records)


def encode_records(records: Sequence[object]) -> bytes:
    """Return the part of a payload after the hooks.

    Raises:
        UNENCODABLE: as ``encode_events``.
    """
    return _encoder.encode(records) if records else b""


def encodable(event: Event) -> Event:
    """Return the event if it can be encoded, otherwise the closest event that can.

    That is: text with backslash escapes, a huge integer as a float, or a Fault that says what is
    missing.
    """
    try:
        _encoder.encode(event)
    except UNENCODABLE as error:
        mended = [_mended(getattr(event, name)) for name in event.__struct_fields__]
        try:
            closest = type(event)(*mended)
            if type(closest) is Put and type(closest.value) is int:
                closest = msgspec.structs.replace(closest, value=as_float(closest.value))
            _encoder.encode(closest)
            return closest
        except UNENCODABLE:
            head = mended[: len(Event.__struct_fields__)]
            message = f"a {type(event).__name__} cannot be recorded: {error}"
            return Fault(*[*head, type(error).__name__, message, "", ""])
    return event


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, tuple | list):
        return type(value)(_mended(part) for part in value)
    if isinstance(value, dict):
        return {_mended(key): _mended(part) for key, part in value.items()}
    return value


def as_float(value: int) -> float:
    """Return a huge integer as the closest float, or an infinity."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def decode_events(
    payload: bytes | memoryview, first_seq: int, rank: int, hooks: bool = True
) -> list[DecodedEvent]:
    """Return the events in a frame's payload, in order.

    Args:
        payload: the frame's payload, its checksum already verified.
        first_seq: the first sequence number in the frame.
        rank: the log's rank.
        hooks: decode Hook events; otherwise skip them.

    Raises:
        LogFormatError: the payload is not what the format says.
    """
    return merge_parts(decode_parts(payload, hooks), first_seq, rank)


def decode_parts(payload: bytes | memoryview, hooks: bool = True) -> FrameParts:
    """Return the parts of a frame's payload, without making an event of each hook.

    Args:
        payload: the frame's payload, its checksum already verified.
        hooks: decode hooks; otherwise skip them.

    Raises:
        LogFormatError: the payload is not what the format says.
    """
    if payload and payload[0] == WORDS_BEGIN:
        return _decode_words(payload, hooks)
    try:
        if not hooks:
            return _without_hooks(_records_part.decode(payload)[2])
        decoded: _Decoded = _all_parts.decode(payload)
    except MALFORMED:
        # Also the way to types from a newer version, which a typed decoder refuses.
        decoded = _decode_one_by_one(payload, hooks)
    places, hook_records, records = decoded
    if hook_records and not places:
        _refuse(ValueError("hooks without a place"))
    if not hook_records:
        return _without_hooks(records)
    return FrameParts(
        [
            (at.first, (at.epoch, at.step, at.batch_idx, at.dataloader_idx, at.stage))
            for at in places
        ],
        [record.name for record in hook_records],
        [record.time_ns for record in hook_records],
        [record.time_ns - record.duration_ns for record in hook_records],
        records,
    )


def _without_hooks(records: Sequence[DecodedEvent]) -> FrameParts:
    return FrameParts((), (), (), (), records)


def _decode_words(payload: bytes | memoryview, hooks: bool) -> FrameParts:
    try:
        if not hooks:
            return _without_hooks(_decode_records(records_in(payload)))
        steps = decode_words(payload)
        return FrameParts(*steps[:-1], _decode_records(steps.records))
    except (*MALFORMED, struct.error) as error:
        _refuse(error)


def _decode_records(raw: bytes | memoryview) -> list[DecodedEvent]:
    if not raw:
        return []
    try:
        return _events.decode(raw)  # type: ignore[return-value]
    except MALFORMED:
        records = [_decode_one(event) for event in _raw_events.decode(raw)]
        records.sort(key=_by_seq)
        return records


def merge_parts(parts: FrameParts, first_seq: int, rank: int) -> list[DecodedEvent]:
    """Return the events of a frame in order: hooks with their places, and the others between them.

    Args:
        parts: the content of the frame.
        first_seq: the first sequence number in it.
        rank: the log's rank.
    """
    places, names, times_ns, begun_ns, records = parts
    if not names:
        return list(records)
    events: list[DecodedEvent] = []
    append = events.append
    seq, taken, record_count = first_seq, 0, len(records)
    next_record = records[0].seq if record_count else -1
    bounds = [first for first, _ in places[1:]]
    bounds.append(len(names))
    begin = 0
    for (_, place), bound in zip(places, bounds, strict=True):
        # Clamped: made-up bounds must not yield a hook more than once.
        end = min(max(bound, begin), len(names))
        epoch, step, batch_idx, dataloader_idx, stage = place
        hooks = zip(names[begin:end], times_ns[begin:end], begun_ns[begin:end], strict=True)
        for name, time_ns, begin_ns in hooks:
            while seq == next_record:
                append(records[taken])
                taken += 1
                seq += 1
                next_record = records[taken].seq if taken < record_count else -1
            append(
                Hook(
                    seq,
                    time_ns,
                    rank,
                    stage,
                    epoch,
                    step,
                    batch_idx,
                    dataloader_idx,
                    "",
                    name,
                    time_ns - begin_ns,
                )
            )
            seq += 1
        begin = end
    events += records[taken:]
    return events


_Decoded = tuple[Sequence[PlaceRecord], Sequence[HookRecord], Sequence[DecodedEvent]]


def _decode_one_by_one(payload: bytes | memoryview, hooks: bool) -> _Decoded:
    try:
        records = [_decode_one(raw) for raw in _raw_records.decode(payload)[2]]
        records.sort(key=_by_seq)
        if not hooks:
            return (), (), records
        places, hook_records, _ = _hooks_part.decode(payload)
    except MALFORMED as error:
        _refuse(error)
    return places, hook_records, records


def _decode_one(raw: msgspec.Raw) -> DecodedEvent:
    head = _head.decode(raw)
    if len(head) < 2:
        raise msgspec.ValidationError("an event of fewer than two fields")
    tag = _integer.decode(head[0])
    decoder = _decoder_of.get(tag)
    if decoder is not None:
        return decoder.decode(raw)
    if tag not in _warned_tags:
        _warned_tags.add(tag)
        _log.warning("events of a type this version does not know are skipped", tag=tag)
    return Unknown(seq=_integer.decode(head[1]), tag=tag, raw=bytes(raw))


def _refuse(error: Exception) -> NoReturn:
    raise LogFormatError(f"a frame with a good checksum does not hold events: {error}") from error
