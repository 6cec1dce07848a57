"""LogReader: reads a log from any event, while it grows, up to the end of its sound part."""

import struct
from collections.abc import Callable, Iterator
from enum import Enum
from typing import NamedTuple

from ..errors import LogError, LogFormatError
from .codec import DecodedEvent, FrameParts, HookSelection, decode_events, decode_parts
from .format import (
    FRAME_HEAD,
    HAS_RECORDS,
    KIND_EVENTS,
    KIND_FOOTER,
    MAX_PAYLOAD_BYTES,
    BadFrame,
    Frame,
    SegmentHeader,
    unpack_frame,
    unpack_header,
)
from .segments import SegmentStore, Source

READ_BYTES = 1 << 18
# For parts, which are used at once: few enough for the processor's caches and to be gone before the
# garbage collector runs. With READ_BYTES, a comparison takes a sixth longer.
_PARTS_BYTES = 1 << 14
_MAX_HEADER_BYTES = FRAME_HEAD.size + MAX_PAYLOAD_BYTES + 8


class EndKind(Enum):
    """How a log ends, as seen now."""

    SEALED = "sealed"
    """The writer closed it."""
    OPEN = "open"
    """It ends with a complete frame, without a footer: the writer is writing, or was killed."""
    TORN = "torn"
    """It ends inside a frame, or in bytes that are not a frame."""


class LogEnd(NamedTuple):
    """Where the sound part of a log ends.

    Attributes:
        kind: how it ends.
        segment: number of the segment.
        offset: byte offset in it, uncompressed.
        next_seq: the first sequence number that is missing.
        reason: one line for people.
    """

    kind: EndKind
    segment: int
    offset: int
    next_seq: int
    reason: str

    @property
    def is_damage(self) -> bool:
        """Return whether the end is not what a kill leaves, which may cut the last frame."""
        return self.kind is EndKind.TORN and not self.reason.startswith("ends inside")


class _OpenSegment:
    """One segment being read, forward from an offset.

    Args:
        store: the segments.
        index: its number.

    Raises:
        FileNotFoundError: there is none of that number.
    """

    def __init__(self, store: SegmentStore, index: int) -> None:
        self.index = index
        self._store = store
        self._source: Source | None = store.open(index)
        self.header: SegmentHeader | None = None
        self.offset = 0
        self.sealed = False
        self.problem = (
            "ends inside the segment's header"  # why there is no header, until there is one
        )

    def read_at(self, offset: int, size: int) -> bytes:
        """Return bytes from an offset on, opening the file again if it was closed.

        Args:
            offset: where to begin.
            size: maximum number of bytes.

        Raises:
            FileNotFoundError: it was closed, and is gone.
        """
        if self._source is None:
            self._source = self._store.open(self.index)
        return self._source.read_at(offset, size)

    def close(self) -> None:
        """Close the file, if it is open."""
        if self._source is not None:
            self._source.close()
            self._source = None

    def read_header(self) -> SegmentHeader | None:
        """Return the header, or None while it is incomplete; close the segment on errors.

        Raises:
            LogFormatError: the segment's head is damaged.
            NewerFormatError: it was written by a newer major version.
        """
        if self.header is None:
            try:
                data = memoryview(self.read_at(0, _MAX_HEADER_BYTES))
                self.header, self.offset = unpack_header(data)
            except BadFrame as error:
                if error.needed is None:
                    self.problem = f"the segment's header: {error}"
                return None
            except LogError:
                self.close()
                raise
        return self.header


class LogReader:
    """Reads the log of one attempt and rank from its first event on.

    Args:
        store: the segments.
        limit: for a reader in the writer's process: returns how much is committed.
    """

    def __init__(
        self, store: SegmentStore, limit: Callable[[], tuple[int, int]] | None = None
    ) -> None:
        self.next_seq = 0
        self.has_more = False  # the last read ended because it was full
        self.passed_over = 0  # number of missing events, from the numbers of the others
        self._store = store
        self._limit = limit
        self._segment: _OpenSegment | None = None
        self._problem = ""  # why nothing more can be read at the current offset
        self._skip_before = 0
        self._rank = 0

    @property
    def segment(self) -> int:
        """Number of the segment being read; earlier ones are not needed any more."""
        return self._segment.index if self._segment else 0

    def close(self) -> None:
        """Close the file."""
        self._problem = ""
        self.has_more = False
        if self._segment:
            self._segment.close()
            self._segment = None

    def let_go(self) -> None:
        """Close the file and keep the place: to read on opens it again."""
        if self._segment:
            self._segment.close()

    def seek(self, seq: int) -> None:
        """Go to an event by its sequence number, without decoding those before."""
        self.close()
        self.next_seq = 0
        for index in reversed(self._store.indices()):
            if self._store.begins_after(index, seq):
                continue
            try:
                segment = _OpenSegment(self._store, index)
                header = segment.read_header()
            except (FileNotFoundError, LogFormatError):
                continue  # just released; or damaged, which reading will report
            if header is not None and header.first_seq <= seq:
                self._segment = segment
                self.next_seq = header.first_seq
                break
            segment.close()
        self._skip_before = seq

    def read(self, hooks: HookSelection = "all", max_bytes: int = READ_BYTES) -> list[DecodedEvent]:
        """Return the next events, about ``max_bytes`` at most; an empty list if there are none now.

        Args:
            hooks: Hook events to return: all, none, or only those of the last frame read.
            max_bytes: bytes to read at once.

        Raises:
            LogFormatError: a segment's head is damaged, or a sound frame does not hold events.
                Everything
                before it was returned, and reading again raises again.
            NewerFormatError: the log was written by a newer major version.
        """
        events: list[DecodedEvent] = []
        frames = self._frames(max_bytes, skip_hooks=hooks != "all")
        for number, frame in enumerate(frames):
            wanted = hooks == "all" or (hooks == "latest" and number == len(frames) - 1)
            try:
                events += decode_events(frame.payload, frame.first_seq, self._rank, hooks=wanted)
            except LogFormatError as error:
                self._return_to(frame, str(error))
                if number == 0:
                    raise
                break
        if events and self._skip_before:
            events = [event for event in events if event.seq >= self._skip_before]
            self._skip_before = 0
        return events

    def _return_to(self, frame: Frame, problem: str) -> None:
        assert self._segment is not None
        self._segment.offset, self._segment.sealed = frame.offset, False
        self.next_seq = frame.first_seq
        self._problem = problem

    def events(self, hooks: HookSelection = "all") -> Iterator[DecodedEvent]:
        """Yield all events up to the present end."""
        while True:
            before = self.next_seq
            yield from self.read(hooks)
            if self.next_seq == before:
                return

    def parts(self, hooks: bool = True) -> Iterator[tuple[Frame, FrameParts]]:
        """Yield all frames of events up to the present end, with their content.

        For callers that do not need an event of each hook.

        Raises:
            LogFormatError: as ``read``, after everything before.
            NewerFormatError: as ``read``, after everything before.
        """
        while True:
            before = self.next_seq
            for frame in self._frames(_PARTS_BYTES, skip_hooks=not hooks):
                try:
                    parts = decode_parts(frame.payload, hooks)
                except LogFormatError as error:
                    self._return_to(frame, str(error))
                    raise
                yield frame, parts
            if self.next_seq == before:
                return

    def end(self) -> LogEnd:
        """Return where the log ends, once ``read`` returned nothing more."""
        segment = self._segment
        if segment is None:
            return LogEnd(EndKind.OPEN, 0, 0, self.next_seq, "there is no event yet")
        at = (segment.index, segment.offset, self.next_seq)
        if any(index > segment.index for index in self._store.indices()) and not self._problem:
            return LogEnd(EndKind.TORN, *at, f"segment {segment.index + 1} is missing")
        if segment.sealed:
            return LogEnd(EndKind.SEALED, *at, "the log is complete")
        if self._problem:
            return LogEnd(EndKind.TORN, *at, self._problem)
        return LogEnd(EndKind.OPEN, *at, "the log is being written, or its writer was killed")

    # -- frames ------------------------------------------------------------------------------

    def _frames(self, max_bytes: int, skip_hooks: bool) -> list[Frame]:
        """Return complete frames of events from the current offset on, in one segment.

        Args:
            max_bytes: bytes to read at once, about.
            skip_hooks: frames with only hooks may be left out, except for the last.
        """
        while True:
            segment = self._segment
            if segment is None and not self._advance():
                return []
            segment = self._segment
            assert segment is not None
            header = segment.read_header()
            if header is None:
                self._problem = segment.problem
                return []
            self._rank = header.rank
            before = segment.offset
            frames = self._parse(segment, header.mark, max_bytes, skip_hooks)
            if frames or (segment.offset == before and not self._advance()):
                return frames

    def _parse(
        self, segment: _OpenSegment, mark: int, max_bytes: int, skip_hooks: bool
    ) -> list[Frame]:
        self.has_more = False
        if segment.sealed:
            return []
        size = max_bytes
        while True:
            if self._limit is not None:
                index, offset = self._limit()
                if index == segment.index:
                    size = min(size, offset - segment.offset)
                    if size <= 0:
                        return []
            data = memoryview(segment.read_at(segment.offset, size))
            self.has_more = len(data) >= max_bytes
            frames, needed = self._parse_block(segment, data, mark, skip_hooks)
            # A frame longer than the block: read all of it, unless there is no more.
            if (
                frames
                or segment.sealed
                or needed is None
                or needed <= len(data)
                or (len(data) < size)
            ):
                return frames
            size = needed

    def _parse_block(
        self, segment: _OpenSegment, data: memoryview, mark: int, skip_hooks: bool
    ) -> tuple[list[Frame], int | None]:
        frames: list[Frame] = []
        at, base, total = 0, segment.offset, len(data)
        needed: int | None = None
        self._problem = ""
        skips = skip_hooks and self._limit is not None
        while at < total:
            if skips:
                at = _after_hook_frames(data, at, mark)
            try:
                frame = unpack_frame(data, at, base, mark)
            except (BadFrame, struct.error) as error:
                self._problem = str(error)
                needed = getattr(error, "needed", None)
                break
            if frame.kind == KIND_FOOTER:
                segment.sealed = True
                break
            at = frame.end - base
            if frame.kind == KIND_EVENTS:
                if frame.first_seq < self.next_seq:
                    self._problem = "a frame repeats events that came before"
                    at = frame.offset - base
                    break
                if frame.first_seq > self.next_seq:
                    self.passed_over += frame.first_seq - self.next_seq
                self.next_seq = frame.first_seq + frame.number
                if self.next_seq > self._skip_before:
                    frames.append(frame)
        segment.offset = base + at
        return frames, needed

    def _advance(self) -> bool:
        """Open the next segment, if it exists and continues where this one ends."""
        current = self._segment
        index = current.index + 1 if current else 0
        if current is None:
            indices = self._store.indices()
            if not indices:
                return False
            index = indices[0]
        # Whether the writer continued there, which may be before it writes the footer.
        is_known = self._limit is not None and index <= self._limit()[0]
        if self._limit is not None and not is_known:
            return False
        try:
            following = _OpenSegment(self._store, index)
        except FileNotFoundError:
            return False
        header = following.read_header()
        # Without a footer, the next segment tells whether this one is complete.
        follows = is_known or (header is not None and header.first_seq == self.next_seq)
        if current is not None and not current.sealed and not follows:
            following.close()
            if header is not None and not self._problem:
                self._problem = (
                    f"events {self.next_seq} to {header.first_seq - 1} are missing before "
                    f"segment {index}"
                )
            return False
        if header is not None and header.first_seq < self.next_seq:
            following.close()
            raise LogFormatError(
                f"segment {index} begins at event {header.first_seq}, which was read before"
            )
        if current is not None:
            current.close()
        self._segment = following
        self._problem = ""
        return True


def _after_hook_frames(data: memoryview, at: int, mark: int) -> int:
    """Skip frames with only hooks, up to the first other one or the last of the block.

    Only for a reader in the writer's process, which need not check what was just written: with
    two observers this saves 4 us a step.
    """
    before, total = at, len(data)
    while total - at >= FRAME_HEAD.size:
        found, _, length, _, kind, flags, _, _ = FRAME_HEAD.unpack_from(data, at)
        end = at + FRAME_HEAD.size + length
        if found != mark or kind != KIND_EVENTS or flags & HAS_RECORDS or end > total:
            return at
        before, at = at, end
    return before
