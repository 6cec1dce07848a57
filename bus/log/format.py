"""The bytes of an event log: segments of checksummed frames. docs/log-format.md has the reasons.

    segment = magic header-frame events-frame* [footer-frame trailer]
    frame   = mark u32 | crc u32 | length u32 | count u16 | kind u8 | flags u8
              | first_seq u64 | time_ns u64 | payload                     (little endian)
    trailer = footer offset u64 | magic

A sealed segment may be compressed: then the bytes between magic and footer are one zstandard
stream, and the file is called ``.nlog.zst``; footer and trailer stay readable as they are.
"""

import struct
from typing import NamedTuple
from zlib import crc32

import msgspec

from ..errors import MALFORMED, LogFormatError, NewerFormatError
from .summary import Summary

MAGIC = b"\x89NLOG\r\n\x1a"
FORMAT_MAJOR = 2
FORMAT_MINOR = 0

KIND_HEADER = 0
KIND_EVENTS = 1
KIND_FOOTER = 2

HAS_RECORDS = 1  # flag of an events frame with events other than hooks

FRAME_HEAD = struct.Struct("<IIIHBBQQ")
CHECKED_HEAD = struct.Struct("<IHBBQQ")  # covered by the checksum, with the payload
MARK_AND_CRC = struct.Struct("<II")
TRAILER = struct.Struct("<Q8s")

MAX_PAYLOAD_BYTES = 1 << 20
MAX_EVENTS_A_FRAME = 0xFFFF
MAX_SEQ = (1 << 63) - 1  # so that numbers of later events can still be encoded


class SegmentHeader(msgspec.Struct):
    """The first frame of a segment.

    Attributes:
        format: major and minor version of the format.
        run, attempt, rank, world_size, segment: of the log and this part of it.
        first_seq: sequence number of the first event that may follow.
        mark: the number every frame of this file begins with.
        wall_ns, mono_ns: the two clocks read together.
        schema: event type names by tag, and their fields in order.
        schema_version: version of the event types.
    """

    format: tuple[int, int]
    run: str
    attempt: int
    rank: int
    world_size: int
    segment: int
    first_seq: int
    mark: int
    wall_ns: int
    mono_ns: int
    schema: dict[int, list[str]] = {}
    schema_version: int = 1


class Footer(msgspec.Struct):
    """The last frame of a sealed segment.

    Attributes:
        next_seq: the sequence number that the next segment begins with.
        body_bytes: bytes before the footer, uncompressed.
        summary: counts of the segment's events.
    """

    next_seq: int
    body_bytes: int
    summary: Summary


class Frame(NamedTuple):
    """One frame as read, with its position and content."""

    offset: int
    end: int
    kind: int
    number: int
    first_seq: int
    time_ns: int
    payload: memoryview


_header_decoder = msgspec.msgpack.Decoder(SegmentHeader)
_footer_decoder = msgspec.msgpack.Decoder(Footer)
_encode = msgspec.msgpack.Encoder().encode
# Looked up once, because a reader needs it for each frame.
_unpack_head, _HEAD_BYTES, _CHECKED_FROM = (
    FRAME_HEAD.unpack_from,
    FRAME_HEAD.size,
    MARK_AND_CRC.size,
)


def pack_frame(
    mark: int,
    kind: int,
    payload: bytes,
    count: int = 0,
    first_seq: int = 0,
    time_ns: int = 0,
    flags: int = 0,
) -> bytes:
    """Return a payload with its head and checksum.

    Args:
        mark: the number that every frame of the segment begins with.
        kind: the kind of frame.
        payload: the payload.
        count: number of events in it.
        first_seq: sequence number of the first event.
        time_ns: monotonic clock, in ns.
        flags: the frame's flags.
    """
    checked = CHECKED_HEAD.pack(len(payload), count, kind, flags, first_seq, time_ns) + payload
    return MARK_AND_CRC.pack(mark, crc32(checked)) + checked


def pack_header(header: SegmentHeader) -> bytes:
    """Return the first bytes of a segment: magic and header frame."""
    return MAGIC + pack_frame(header.mark, KIND_HEADER, _encode(header))


def pack_footer(mark: int, footer: Footer, footer_offset: int) -> bytes:
    """Return the last bytes of a sealed segment: footer frame and trailer.

    A summary that is too large for a frame is shrunk.

    Args:
        mark: the number that every frame of the segment begins with.
        footer: the footer.
        footer_offset: offset of the footer frame in the segment, uncompressed.
    """
    while len(payload := _encode(footer)) > MAX_PAYLOAD_BYTES:
        footer.summary.shrink()
    frame = pack_frame(mark, KIND_FOOTER, payload)
    return frame + TRAILER.pack(footer_offset, MAGIC)


class BadFrame(Exception):
    """Control flow inside the reader: there is no complete, sound frame at this offset.

    Args:
        reason: why; empty if nothing was written yet.
        needed: bytes from the offset on that the frame would take, if it may just be unfinished.

    Attributes:
        needed: as given.
    """

    def __init__(self, reason: str, needed: int | None = None) -> None:
        super().__init__(reason)
        self.needed = needed


def unpack_frame(data: memoryview, at: int, base: int, mark: int | None) -> Frame:
    """Return the frame at ``data[at]``.

    Args:
        data: bytes of the segment.
        at: index in data of the frame.
        base: offset in the segment of ``data[0]``.
        mark: the number that the frame must begin with; None accepts any, for the header.

    Raises:
        BadFrame: there is no sound frame.
    """
    if len(data) - at < _HEAD_BYTES:
        reason = "ends inside a frame's head" if any(data[at:]) else ""
        raise BadFrame(reason, needed=_HEAD_BYTES)
    found, crc, length, count, kind, _, first_seq, time_ns = _unpack_head(data, at)
    if mark is not None and found != mark:
        if found == crc == length == count == 0:
            raise BadFrame("", needed=_HEAD_BYTES)  # allocated ahead, nothing written yet
        raise BadFrame("the frame's mark is wrong")
    if length > MAX_PAYLOAD_BYTES:
        raise BadFrame(f"a frame claims {length} bytes, more than {MAX_PAYLOAD_BYTES}")
    body = at + _HEAD_BYTES
    end = body + length
    if end > len(data):
        raise BadFrame("ends inside a frame", needed=_HEAD_BYTES + length)
    if crc32(data[at + _CHECKED_FROM : end]) != crc:
        raise BadFrame("a frame's checksum is wrong")
    if first_seq + count > MAX_SEQ:
        raise BadFrame(f"a frame claims to begin at event {first_seq}, which no log reaches")
    return Frame(base + at, base + end, kind, count, first_seq, time_ns, data[body:end])


def unpack_header(data: memoryview) -> tuple[SegmentHeader, int]:
    """Return the header, and the offset of the first events frame.

    Raises:
        LogFormatError: this is not an event log, or its head is damaged.
        NewerFormatError: it is from a newer major version.
        BadFrame: the file ends inside its head, as after a kill at that moment.
    """
    start = bytes(data[: len(MAGIC)])
    if start == b"\0" * len(MAGIC):
        raise BadFrame("the segment is empty, as after a power cut")
    if start != MAGIC[: len(start)]:
        raise LogFormatError("this is not a nightbus event log: its first bytes are wrong")
    frame = unpack_frame(data, len(MAGIC), 0, mark=None)
    try:
        header = _header_decoder.decode(frame.payload)
    except MALFORMED as error:
        raise LogFormatError(f"the segment's header cannot be read: {error}") from error
    if header.format[0] > FORMAT_MAJOR:
        raise NewerFormatError(
            f"the log has format {header.format[0]}.{header.format[1]}, this version reads up to "
            f"{FORMAT_MAJOR}.x; upgrade nightbus to read it"
        )
    return header, frame.end


def unpack_footer(payload: memoryview) -> Footer:
    """Return the footer in a footer frame's payload.

    Raises:
        LogFormatError: it does not hold a footer.
    """
    try:
        return _footer_decoder.decode(payload)
    except MALFORMED as error:
        raise LogFormatError(f"a segment's footer cannot be read: {error}") from error
