"""Finds every sound frame of a damaged segment, by the mark at the start of each of its frames.

A reader stops where a log is damaged, because what follows may be anything. Here the mark, the
checksum and the sequence number together tell what follows.
"""

import io
import os
import struct
from collections.abc import Iterator
from typing import IO, NamedTuple, Protocol

from ..errors import LogFormatError, NewerFormatError
from ..log.codec import DecodedEvent, decode_events
from ..log.format import (
    FRAME_HEAD,
    HAS_RECORDS,
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
from ..log.segments import MAX_SEGMENT_BYTES, FolderStore, read_footer_bytes
from ..system.plain_file import open_plain

# A segment is sealed long before this size; nightbus writes no larger one.
MAX_SALVAGED_BYTES = 4 * MAX_SEGMENT_BYTES
# Each false frame costs a checksum. In a file made of them that would take for ever; by chance
# there are far fewer.
MAX_CHECKED_IN_VAIN = 1 << 30
# A frame and what has to be seen with it; the rest of a segment is not in memory.
_LOOK_BYTES = FRAME_HEAD.size + MAX_PAYLOAD_BYTES + 64
_CHUNK_BYTES = 1 << 20
# The window of zstd; nightbus writes with 2 MiB, and with 8 at the highest levels.
_MAX_WINDOW_BYTES = 16 << 20
_MARK = struct.Struct("<I")
REPEATS = "a frame repeats events that come before"


class Damage(NamedTuple):
    """A stretch of a segment that cannot be read.

    Attributes:
        begin, end: byte offsets, uncompressed.
        reason: one line for people.
        of: what the offsets refer to, if not to the file.
    """

    begin: int
    end: int
    reason: str
    of: str = ""

    def describe(self) -> str:
        """Return one line for people."""
        where = f"from byte {self.begin:,}{f' of {self.of}' if self.of else ''}: {self.reason}"
        return where if self.begin == self.end else f"{self.end - self.begin:,} bytes {where}"


class SoundFrame(NamedTuple):
    """A frame of events with its bytes."""

    frame: Frame
    events: list[DecodedEvent]
    raw: bytes

    @property
    def next_seq(self) -> int:
        """Sequence number after its last event."""
        return self.frame.first_seq + self.frame.number


class Salvage(NamedTuple):
    """The readable parts of a segment.

    Attributes:
        header: its header; None if damaged.
        mark: the start of its frames; None if no frame was found.
        frames: the sound frames, in the order of their events.
        footer: its footer; None if it was not sealed, or the footer is damaged.
        damages: what cannot be read.
    """

    header: SegmentHeader | None
    mark: int | None
    frames: list[SoundFrame]
    footer: Footer | None
    damages: list[Damage]


class Bytes(Protocol):
    """A source of a segment's bytes."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes that follow; none at the end."""


class SegmentBytes:
    """Reads a segment's bytes one after the other, decompressed.

    Args:
        store: the log's segments.
        index: the segment's number.

    Attributes:
        of: what offsets refer to, if not to the file.
        problem: why the bytes end early; known at their end.

    Raises:
        FileNotFoundError: there is no segment of that number.
    """

    def __init__(self, store: FolderStore, index: int) -> None:
        self.of = "the decompressed segment" if _is_packed(store, index) else ""
        self.problem = ""
        self._at = 0
        self._file: IO[bytes] | None = None
        self._source: Bytes = io.BytesIO()
        self._tail = b""
        self._end = MAX_SALVAGED_BYTES
        self._claimed: int | None = None
        path = store.path_there(index)
        try:
            self._file = os.fdopen(open_plain(path, LogFormatError), "rb")
        except LogFormatError as error:
            self.problem = str(error)
            return
        self._source = self._file
        if self.of:
            self._begin_to_unpack(self._file, str(path))

    def _begin_to_unpack(self, file: IO[bytes], path: str) -> None:
        import zstandard

        size = os.fstat(file.fileno()).st_size
        found = read_footer_bytes(file.fileno(), size, _LOOK_BYTES)
        if found is None or size > MAX_SEGMENT_BYTES * 2:
            self.problem = f"{path} is not a compressed segment, or is cut off"
        else:
            self._tail = found[1]
        file.seek(len(MAGIC))
        head = file.read(18)
        try:
            claimed = zstandard.get_frame_parameters(head).content_size
        except zstandard.ZstdError as error:
            self.problem = self.problem or f"{path} cannot be decompressed: {error}"
            self._source = io.BytesIO(MAGIC)
            return
        if not 0 < claimed <= MAX_SEGMENT_BYTES:
            self.problem = self.problem or (
                f"{path} claims {claimed} bytes decompressed, at most {MAX_SEGMENT_BYTES} are read"
            )
        self._claimed = claimed + len(MAGIC)
        self._end = len(MAGIC) + (
            claimed if 0 < claimed <= MAX_SEGMENT_BYTES else MAX_SEGMENT_BYTES
        )
        file.seek(len(MAGIC))
        unpacker = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
        self._source = _After(MAGIC, unpacker.stream_reader(file, read_size=1 << 16))

    def read(self, size: int, /) -> bytes:
        wanted = min(size, self._end - self._at)
        try:
            data = self._source.read(wanted) if wanted > 0 else b""
        except Exception as error:  # zstandard's, which is not loaded for plain segments
            if not self.of:
                raise
            self.problem = f"{self.problem}; {error}" if self.problem else str(error)
            data, self._tail = b"", b""
            self._source = io.BytesIO()
            return data
        self._at += len(data)
        return data or self._at_end()

    def _at_end(self) -> bytes:
        tail, self._tail = self._tail, b""
        claimed, self._claimed = self._claimed, None
        if self.problem:
            return b""
        if claimed is not None and claimed != self._at:
            self.problem = f"it ends after {self._at:,} of {claimed:,} bytes"
            return b""
        if not self.of and self._at == self._end and self._source.read(1):
            self.problem = "the file goes on beyond any segment"
        self._source = io.BytesIO()
        return tail

    def damages(self) -> list[Damage]:
        """Return what was wrong with the bytes themselves, once they were read."""
        return [Damage(self._at, self._at, self.problem, self.of)] if self.problem else []

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class _After:
    """Some bytes, followed by those of a source."""

    def __init__(self, first: bytes, rest: Bytes) -> None:
        self._first = first
        self._rest = rest

    def read(self, size: int, /) -> bytes:
        if self._first:
            data, self._first = self._first[:size], self._first[size:]
            return data
        return self._rest.read(size)


def _is_packed(store: FolderStore, index: int) -> bool:
    return store.path_there(index) != store.path(index)


def salvage_segment(store: FolderStore, index: int) -> Salvage:
    """Return what is readable of a segment.

    Args:
        store: the log's segments.
        index: the segment's number.

    Raises:
        FileNotFoundError: there is no segment of that number.
        NewerFormatError: it was written by a newer major version.
    """
    source = SegmentBytes(store, index)
    try:
        found = salvage(source)
    finally:
        source.close()
    damages = [damage._replace(of=source.of) for damage in found.damages]
    return found._replace(damages=[*damages, *source.damages()])


def salvage(source: Bytes) -> Salvage:
    """Return what is readable of a segment's bytes.

    Raises:
        NewerFormatError: they were written by a newer major version.
    """
    scan = Scan(source)
    sound: list[SoundFrame] = []
    damages: list[Damage] = []
    for part in scan.parts():
        if isinstance(part, Damage):
            damages.append(part)
        else:
            sound.append(part)
    frames: list[SoundFrame] = []
    for each in sorted(sound, key=lambda sound: (sound.frame.first_seq, sound.frame.offset)):
        if frames and each.frame.first_seq < frames[-1].next_seq:
            where = (each.frame.offset, each.frame.end)
            damages.append(Damage(*where, REPEATS))
        else:
            frames.append(each)
    return Salvage(scan.header, scan.mark, frames, scan.footer, sorted(damages))


class Scan:
    """One pass over a segment's bytes, with only a stretch of them in memory.

    Args:
        source: the bytes.

    Attributes:
        header: its header; None if damaged.
        mark: the start of its frames; None if no frame was found.
        footer: its footer, once found.
    """

    def __init__(self, source: Bytes) -> None:
        self.header: SegmentHeader | None = None
        self.mark: int | None = None
        self.footer: Footer | None = None
        self._source = source
        self._data = b""  # the stretch
        self._base = 0  # offset of its start
        self._has_ended = False
        self._sound_until = 0
        self._is_zero = True  # all bytes dropped after the last sound frame are 0
        self._reason = ""  # why the rest is not sound; empty while it may be
        self._checked = 0  # bytes of false frames
        self._sound: SoundFrame | None = None  # the last frame read, if it has events

    def parts(self) -> Iterator[SoundFrame | Damage]:
        """Yield sound frames, and the damage between them, in the order of the file.

        Raises:
            NewerFormatError: the segment was written by a newer major version.
        """
        self._read_on(0)
        self.header, self._sound_until, self._reason = _read_header(memoryview(self._data))
        at = self._sound_until
        if self.header is not None:
            self.mark = self.header.mark
        else:
            self.mark, at = self._find_mark()
        if self.mark is None:
            if not self._is_zero or self._data.strip(b"\0"):
                yield Damage(0, self._base + len(self._data), self._reason)
            return
        yield from self._parts_from(at, _MARK.pack(self.mark))

    def _parts_from(self, at: int, needle: bytes) -> Iterator[SoundFrame | Damage]:
        while self._checked < MAX_CHECKED_IN_VAIN:
            found = self._data.find(needle, at - self._base)
            if found < 0:
                at = max(at, self._base + len(self._data) - len(needle) + 1)
                if self._has_ended:
                    break
                self._read_on(at)
                continue
            at = found + self._base
            if len(self._data) - found < _LOOK_BYTES and not self._has_ended:
                self._read_on(at)
                continue
            before = self._sound_until, self._reason
            frame = self._read(at)
            if frame is None:
                at += 1
                continue
            if at > before[0]:
                yield Damage(before[0], at, before[1] or "bytes that are no frame")
            self._sound_until, self._is_zero, self._reason = frame.end, True, ""
            at = frame.end
            if self._sound is not None:
                yield self._sound
        while not self._has_ended:
            self._read_on(self._base + len(self._data))
        yield from self._rest()

    def _rest(self) -> Iterator[Damage]:
        end = self._base + len(self._data)
        rest = self._data[max(0, self._sound_until - self._base) :]
        length = end - self._sound_until
        if self.footer is not None and length == TRAILER.size and rest.endswith(MAGIC):
            return
        if not self._is_zero or rest.strip(b"\0"):  # zeros were allocated ahead
            yield Damage(self._sound_until, end, self._reason or "ends inside a frame")
        elif self.footer is not None:
            reason = self._reason or "the trailer behind the footer is missing"
            yield Damage(self._sound_until, end, reason)

    def _read_on(self, at: int) -> None:
        """Drop what comes before an offset, and read what may be needed from there."""
        let_go = self._data[: at - self._base]
        behind = let_go[max(0, self._sound_until - self._base) :]
        self._is_zero = self._is_zero and not behind.strip(b"\0")
        chunks = [self._data[len(let_go) :]]
        self._base += len(let_go)
        missing = _LOOK_BYTES + _CHUNK_BYTES - len(chunks[0])
        while missing > 0 and not self._has_ended:
            chunk = self._source.read(min(missing, _CHUNK_BYTES))
            self._has_ended = not chunk
            chunks.append(chunk)
            missing -= len(chunk)
        self._data = b"".join(chunks)

    def _read(self, at: int) -> Frame | None:
        """Return the frame at an offset, if there is one."""
        view = memoryview(self._data)
        self._sound = None
        try:
            frame = unpack_frame(view, at - self._base, self._base, self.mark)
            if frame.kind == KIND_FOOTER:
                self.footer = unpack_footer(frame.payload)
            elif frame.kind == KIND_EVENTS:
                events = decode_events(frame.payload, frame.first_seq, 0)
                raw = bytes(view[frame.offset - self._base : frame.end - self._base])
                self._sound = SoundFrame(frame, events, raw)
            elif frame.kind != KIND_HEADER:
                raise BadFrame(f"a frame is of the unknown kind {frame.kind}")
        except (BadFrame, LogFormatError, struct.error) as error:
            self._reason = self._reason or str(error)
            left = len(self._data) - (at - self._base)
            self._checked += min(left, FRAME_HEAD.size + MAX_PAYLOAD_BYTES)
            return None
        return frame

    def _find_mark(self) -> tuple[int | None, int]:
        """Return the mark of the first sound frame, whatever it is, and its offset."""
        checked = 0
        at = 0
        while True:
            view = memoryview(self._data)
            last = len(self._data) - (FRAME_HEAD.size if self._has_ended else _LOOK_BYTES)
            for index in range(at - self._base, last + 1):
                mark, _, length, count, kind, flags, _, _ = FRAME_HEAD.unpack_from(view, index)
                # Cheap checks first, before a checksum over up to a megabyte.
                if kind != KIND_EVENTS or flags > HAS_RECORDS or not 0 < count <= length:
                    continue
                if length > MAX_PAYLOAD_BYTES or index + FRAME_HEAD.size + length > len(view):
                    continue
                try:
                    unpack_frame(view, index, 0, mark)
                except BadFrame:
                    checked += length
                    if checked > MAX_CHECKED_IN_VAIN:
                        return None, 0
                    continue
                return int(mark), self._base + index
            at = max(at, self._base + last + 1)
            if self._has_ended:
                return None, 0
            self._read_on(at)


def _read_header(view: memoryview) -> tuple[SegmentHeader | None, int, str]:
    """Return the header, the offset of the first frame, and why there is no header."""
    try:
        return *unpack_header(view), ""
    except NewerFormatError:
        raise
    except (BadFrame, LogFormatError, struct.error) as error:
        reason = f"the segment's header is damaged: {str(error) or 'it is empty'}"
    return None, 0, reason
