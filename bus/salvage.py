"""Every sound frame of a damaged segment: found by the mark that each of the file's begins with.

A reader stops where a log is damaged, because what follows may be anything. Here the mark, the
checksum and the sequence number together say what follows.
"""

import struct
from typing import NamedTuple

from .codec import DecodedEvent, decode_events
from .errors import LogFormatError, NewerFormatError
from .log_format import (
    FRAME_HEAD,
    HAS_OTHERS,
    KIND_EVENTS,
    KIND_FOOTER,
    KIND_HEADER,
    MAGIC,
    MAX_PAYLOAD_BYTES,
    TRAILER,
    BadFrame,
    Footer,
    Frame,
    SegmentHeader,
    unpack_footer,
    unpack_frame,
    unpack_header,
)
from .plain_file import open_plain
from .segments import MAX_SEGMENT_BYTES, FolderStore

# A segment is sealed long before; a file beyond it is no segment as nightbus writes them.
MAX_SALVAGED_BYTES = 4 * MAX_SEGMENT_BYTES
# What looks like frames and is none costs a checksum each. In a file made to look so that would
# take for ever; what chance makes stays far below.
MAX_CHECKED_IN_VAIN = 1 << 30
_MARK = struct.Struct("<I")


class Damage(NamedTuple):
    """A stretch of a segment that cannot be read.

    Attributes:
        begin, end: byte offsets, uncompressed.
        reason: one line for people.
        of: what the offsets count in, where that is not the file.
    """

    begin: int
    end: int
    reason: str
    of: str = ""

    def describe(self) -> str:
        """One line for people."""
        where = f"from byte {self.begin:,}{f' of {self.of}' if self.of else ''}: {self.reason}"
        return where if self.begin == self.end else f"{self.end - self.begin:,} bytes {where}"


class SoundFrame(NamedTuple):
    """A frame of events, and its bytes."""

    frame: Frame
    events: list[DecodedEvent]
    raw: bytes

    @property
    def next_seq(self) -> int:
        """The sequence number after its last event."""
        return self.frame.first_seq + self.frame.number


class Salvage(NamedTuple):
    """What can be read of a segment.

    Attributes:
        header: how it begins; None when that is damaged.
        mark: what its frames begin with; None when no frame was found.
        frames: the sound ones, in the order of their events.
        footer: its end; None when it was not sealed, or the footer is damaged.
        damages: what cannot be read.
        in_order: whether the frames lay in the order of their events.
    """

    header: SegmentHeader | None
    mark: int | None
    frames: list[SoundFrame]
    footer: Footer | None
    damages: list[Damage]
    in_order: bool


def salvage_segment(store: FolderStore, index: int) -> Salvage:
    """Read what can be read of a segment.

    Raises:
        FileNotFoundError: there is none of that number.
        NewerFormatError: written by a newer major version.
    """
    of = "the decompressed segment" if _is_packed(store, index) else ""
    data, damages = _segment_bytes(store, index)
    found = salvage(data)
    damages = [damage._replace(of=of) for damage in (*found.damages, *damages)]
    return found._replace(damages=damages)


def _is_packed(store: FolderStore, index: int) -> bool:
    return store.path_there(index) != store.path(index)


def _segment_bytes(store: FolderStore, index: int) -> tuple[bytes, list[Damage]]:
    """A segment's bytes as if never compressed, and what of the compression is damaged."""
    plain, packed = store.path(index), store.compressed_path(index)
    if not _is_packed(store, index):
        try:
            fd = open_plain(plain, LogFormatError)
        except LogFormatError as error:
            return b"", [Damage(0, 0, str(error))]
        with open(fd, "rb") as file:
            data = file.read(MAX_SALVAGED_BYTES)
            rest = bool(file.read(1))
        end = len(data)
        return data, [Damage(end, end, "the file goes on beyond any segment")] if rest else []
    try:
        source = store.open(index)
    except LogFormatError as error:
        try:
            fd = open_plain(packed, LogFormatError)
        except LogFormatError:
            return b"", [Damage(0, 0, str(error))]
        with open(fd, "rb") as file:
            return _unpack_what_can_be(file.read(MAX_SALVAGED_BYTES), str(error))
    try:
        return source.read_at(0, MAX_SALVAGED_BYTES), []
    finally:
        source.close()


def _unpack_what_can_be(packed: bytes, reason: str) -> tuple[bytes, list[Damage]]:
    """Decompress up to where the compressed stream is damaged."""
    import zstandard

    unpacker = zstandard.ZstdDecompressor(max_window_size=MAX_SEGMENT_BYTES).decompressobj()
    data = bytearray(MAGIC)
    try:
        for at in range(len(MAGIC), len(packed), 1 << 10):
            data += unpacker.decompress(packed[at : at + (1 << 10)])
            if unpacker.eof or len(data) > MAX_SEGMENT_BYTES:
                break
    except zstandard.ZstdError as error:
        reason = f"{reason}; {error}"
    return bytes(data), [Damage(len(data), len(data), reason)]


def salvage(data: bytes) -> Salvage:
    """Read what can be read of a segment's bytes.

    Raises:
        NewerFormatError: written by a newer major version.
    """
    view = memoryview(data)
    header, begin, reason = _read_header(view)
    mark = header.mark if header is not None else _find_mark(data, view)
    if mark is None:
        is_empty = not data.strip(b"\0")
        damages = [] if is_empty else [Damage(0, len(data), reason)]
        return Salvage(None, None, [], None, damages, True)
    scan = _Scan(view, mark, begin, reason)
    scan.run(data)
    ordered = sorted(scan.frames, key=lambda sound: (sound.frame.first_seq, sound.frame.offset))
    frames: list[SoundFrame] = []
    damages = scan.damages
    for sound in ordered:
        if frames and sound.frame.first_seq < frames[-1].next_seq:
            where = (sound.frame.offset, sound.frame.end)
            damages.append(Damage(*where, "a frame repeats events that come before"))
        else:
            frames.append(sound)
    in_order = [s.frame.offset for s in frames] == sorted(s.frame.offset for s in frames)
    return Salvage(header, mark, frames, scan.footer, sorted(damages), in_order)


def _read_header(view: memoryview) -> tuple[SegmentHeader | None, int, str]:
    """The header, where the frames begin, and why there is no header."""
    try:
        return *unpack_header(view), ""
    except NewerFormatError:
        raise
    except (BadFrame, LogFormatError, struct.error) as error:
        reason = f"the segment's header is damaged: {str(error) or 'it is empty'}"
    return None, 0, reason


def _find_mark(data: bytes, view: memoryview) -> int | None:
    """The mark of the first frame that is sound, whatever it begins with."""
    checked = 0
    for at in range(len(data) - FRAME_HEAD.size + 1):
        mark, _, length, count, kind, flags, _, _ = FRAME_HEAD.unpack_from(view, at)
        # What costs nothing to see, before a checksum over up to a megabyte.
        if kind != KIND_EVENTS or flags > HAS_OTHERS or not 0 < count <= length:
            continue
        if length > MAX_PAYLOAD_BYTES or at + FRAME_HEAD.size + length > len(data):
            continue
        try:
            unpack_frame(view, at, 0, mark)
        except BadFrame:
            checked += length
            if checked > MAX_CHECKED_IN_VAIN:
                return None
            continue
        return int(mark)
    return None


class _Scan:
    """One pass over a segment's bytes.

    Attributes:
        frames: sound frames of events, as they lie.
        footer: the footer, once it is found.
        damages: what lies between them.
    """

    def __init__(self, view: memoryview, mark: int, begin: int, reason: str) -> None:
        self.frames: list[SoundFrame] = []
        self.footer: Footer | None = None
        self.damages: list[Damage] = []
        self._view = view
        self._mark = mark
        self._sound_until = begin
        self._reason = reason  # why what lies behind it is not sound; empty when it may be
        self._checked = 0  # bytes of what was no frame

    def run(self, data: bytes) -> None:
        """Find everything."""
        needle, at = _MARK.pack(self._mark), self._sound_until
        while self._checked < MAX_CHECKED_IN_VAIN and (at := data.find(needle, at)) >= 0:
            at = self._read(at)
        end = len(data)
        rest = data[self._sound_until :]
        if self.footer is not None and len(rest) == TRAILER.size and rest.endswith(MAGIC):
            return
        if rest.strip(b"\0"):  # zeros were allocated ahead
            self._damaged_until(end, "ends inside a frame")
        elif self.footer is not None:
            self._damaged_until(end, "the trailer behind the footer is missing")

    def _read(self, at: int) -> int:
        """Read the frame at ``at``, if one is there; returns where to look on."""
        view = self._view
        try:
            frame = unpack_frame(view, at, 0, self._mark)
            if frame.kind == KIND_FOOTER:
                self.footer = unpack_footer(frame.payload)
            elif frame.kind == KIND_EVENTS:
                events = decode_events(frame.payload, frame.first_seq, 0)
                raw = bytes(view[frame.offset : frame.end])
                self.frames.append(SoundFrame(frame, events, raw))
            elif frame.kind != KIND_HEADER:
                raise BadFrame(f"a frame is of the unknown kind {frame.kind}")
        except (BadFrame, LogFormatError, struct.error) as error:
            self._reason = self._reason or str(error)
            self._checked += min(len(view) - at, FRAME_HEAD.size + MAX_PAYLOAD_BYTES)
            return at + 1
        if at > self._sound_until:
            self._damaged_until(at, "bytes that are no frame")
        self._sound_until, self._reason = frame.end, ""
        return frame.end

    def _damaged_until(self, end: int, reason: str) -> None:
        self.damages.append(Damage(self._sound_until, end, self._reason or reason))
