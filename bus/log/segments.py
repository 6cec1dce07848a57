"""Stores of segments: in a run's folder, or unnamed while recording is off."""

import contextlib
import os
import re
import tempfile
import threading
from io import BufferedReader
from pathlib import Path
from typing import IO, Protocol

from ..errors import LogFormatError, RunFolderError
from ..system.atomic_file import atomic_file
from ..system.forks import leave_when_forked
from ..system.plain_file import open_plain
from .format import (
    KIND_FOOTER,
    MAGIC,
    TRAILER,
    BadFrame,
    Footer,
    unpack_footer,
    unpack_frame,
)

MAX_SEGMENT_BYTES = 64 << 20
_COPY_BYTES = 1 << 16
_NAME = re.compile(r"(\d{6,})\.nlog(\.zst)?")


class Source(Protocol):
    """Bytes of one segment, decompressed."""

    def read_at(self, offset: int, size: int) -> bytes:
        """Return bytes from an offset on; fewer at the present end.

        Args:
            offset: where to begin.
            size: maximum number of bytes.
        """

    def close(self) -> None:
        """Close the file."""


class SegmentStore(Protocol):
    """Numbered segments of one log, created by one writer and opened by any number of readers."""

    def indices(self) -> list[int]:
        """Return the numbers of the segments, ascending."""

    def create(self, index: int) -> int:
        """Return the file descriptor of a new, empty segment, read-write; the caller closes it."""

    def open(self, index: int) -> Source:
        """Return a segment for reading; FileNotFoundError if there is none of that number."""

    def discard(self, index: int) -> None:
        """Remove a segment that was created but could not be begun."""

    def discard_leftovers(self) -> None:
        """Remove, at the log's end, segments that ``discard`` could not."""

    def begins_after(self, index: int, seq: int) -> bool:
        """Return whether a segment certainly begins after an event, without opening it.

        Args:
            index: the segment's number.
            seq: the event.
        """

    def sync_names(self) -> None:
        """Make the names of segments durable; OSError if the disk fails."""


class FileSource:
    """A plain segment, read in place; it may still grow."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read_at(self, offset: int, size: int) -> bytes:
        return os.pread(self._fd, size, offset)

    def close(self) -> None:
        os.close(self._fd)


class _MemorySource:
    """A compressed segment, decompressed completely: at most MAX_SEGMENT_BYTES."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read_at(self, offset: int, size: int) -> bytes:
        return self._data[offset : offset + size]

    def close(self) -> None:
        self._data = b""


class FolderStore:
    """Segments as files ``000000.nlog`` of one folder, readable by their owner alone.

    Args:
        folder: the rank's folder; ``create`` makes it if it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._leftovers: set[int] = set()  # segments that could not be discarded

    def indices(self) -> list[int]:
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        return sorted({int(match[1]) for name in names if (match := _NAME.fullmatch(name))})

    def other_names(self) -> dict[str, int]:
        """Return names of files with the number of a segment, but another name."""
        try:
            names = os.listdir(self.folder)
        except OSError:
            return {}
        found = {name: int(match[1]) for name in names if (match := _NAME.fullmatch(name))}
        return {
            name: index
            for name, index in found.items()
            if name not in (self.path(index).name, self.compressed_path(index).name)
        }

    def path(self, index: int) -> Path:
        """Return the plain segment's path."""
        return self.folder / f"{index:06d}.nlog"

    def compressed_path(self, index: int) -> Path:
        """Return the compressed segment's path."""
        return self.folder / f"{index:06d}.nlog.zst"

    def path_there(self, index: int) -> Path:
        """Return the path that a segment is read from; the plain one if there is none."""
        plain, packed = self.path(index), self.compressed_path(index)
        is_packed = os.path.lexists(packed) and not os.path.lexists(plain)
        return packed if is_packed else plain

    def create(self, index: int) -> int:
        path = self.path(index)
        try:
            if index == 0:  # a folder missing later was removed, and is not made again
                self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            how = os.O_TRUNC if index in self._leftovers else os.O_EXCL
            fd = os.open(path, os.O_RDWR | os.O_CREAT | how | os.O_CLOEXEC, 0o600)
            self._leftovers.discard(index)
            return fd
        except OSError as error:
            raise RunFolderError(
                f"cannot create the event log {path}: {error.strerror}; choose another "
                "default_root_dir, or recording='off'"
            ) from error

    def discard(self, index: int) -> None:
        try:
            self.path(index).unlink()
            self._leftovers.discard(index)
        except OSError:  # a broken disk: it stays empty, to be used or discarded later
            self._leftovers.add(index)

    def discard_leftovers(self) -> None:
        for index in list(self._leftovers):
            self.discard(index)

    def open(self, index: int) -> Source:
        for _ in range(2):  # the compressor may swap the files between the two attempts
            try:
                return FileSource(open_plain(self.path(index), LogFormatError))
            except FileNotFoundError:
                pass
            try:
                return _MemorySource(_decompress(self.compressed_path(index)))
            except FileNotFoundError:
                pass
        raise FileNotFoundError(f"segment {index} of {self.folder} is missing")

    def sync_names(self) -> None:
        sync_folder(self.folder)
        sync_folder(self.folder.parent)

    def begins_after(self, index: int, seq: int) -> bool:
        footer = None
        with contextlib.suppress(LogFormatError):  # damaged: reading the segment reports it
            footer = read_footer(self, index - 1) if index else None
        return footer is not None and footer.next_seq > seq


class Stretch(FolderStore):
    """Some segments of a log, as if there were no others, so that earlier ones need not be opened.

    Args:
        store: the log's segments.
        first: number of the first segment.
        last: number of the last segment.
    """

    def __init__(self, store: FolderStore, first: int, last: int) -> None:
        super().__init__(store.folder)
        self._whole = store
        self._wanted = range(first, last + 1)

    def indices(self) -> list[int]:
        return [index for index in self._whole.indices() if index in self._wanted]

    def path(self, index: int) -> Path:
        return self._whole.path(index)

    def compressed_path(self, index: int) -> Path:
        return self._whole.compressed_path(index)

    def open(self, index: int) -> Source:
        if index not in self._wanted:
            raise FileNotFoundError(index)
        return self._whole.open(index)


class UnnamedStore:
    """Segments in unnamed temporary files, for live observers while recording is off.

    A segment's disk space is released by ``release_before``, once no observer needs it.
    """

    def __init__(self) -> None:
        self._fds: dict[int, int] = {}  # segment index -> file descriptor
        self._lock = threading.Lock()
        leave_when_forked(self)

    def leave_to_parent(self) -> None:
        """Close the files in a forked child, which would keep disk space that its parent frees."""
        self._lock = threading.Lock()
        self.close()

    def indices(self) -> list[int]:
        with self._lock:
            return sorted(self._fds)

    def create(self, index: int) -> int:
        try:
            with tempfile.TemporaryFile() as file, self._lock:
                self._fds[index] = os.dup(file.fileno())
                return os.dup(file.fileno())
        except OSError as error:
            raise RunFolderError(
                f"cannot create a temporary event log: {error.strerror}; choose another folder for "
                "temporary files with TMPDIR"
            ) from error

    def discard(self, index: int) -> None:
        with self._lock:
            if index in self._fds:
                os.close(self._fds.pop(index))

    def discard_leftovers(self) -> None:
        """Do nothing, because there are none."""

    def open(self, index: int) -> Source:
        with self._lock:
            if index not in self._fds:
                raise FileNotFoundError(f"segment {index} was given up")
            return FileSource(os.dup(self._fds[index]))

    def begins_after(self, index: int, seq: int) -> bool:
        return False  # opening it is just as cheap

    def sync_names(self) -> None:
        """Do nothing, because they have no names."""

    def release_before(self, index: int) -> None:
        """Release all segments before ``index``."""
        with self._lock:
            for old in [i for i in self._fds if i < index]:
                os.close(self._fds.pop(old))

    def close(self) -> None:
        """Release all segments."""
        with self._lock:
            while self._fds:
                os.close(self._fds.popitem()[1])


def read_footer_bytes(
    fd: int, size: int, most: int = MAX_SEGMENT_BYTES
) -> tuple[int, bytes] | None:
    """Return offset and bytes of footer and trailer; None if there is no footer up to ``most``.

    Args:
        fd: file descriptor of the segment.
        size: size of the file, in bytes.
        most: maximum size of the footer, in bytes.
    """
    if size < len(MAGIC) + TRAILER.size:
        return None
    offset, magic = TRAILER.unpack(os.pread(fd, TRAILER.size, size - TRAILER.size))
    if magic != MAGIC or not len(MAGIC) <= offset < size - TRAILER.size:
        return None
    if size - offset > most:
        return None
    return offset, os.pread(fd, size - offset, offset)


def read_footer(store: FolderStore, index: int) -> Footer | None:
    """Return a sealed segment's footer without reading its body; None if it is not sealed.

    Args:
        store: the log's segments.
        index: the segment's number.

    Raises:
        LogFormatError: there is a footer, but it is damaged.
    """
    for path in (store.path(index), store.compressed_path(index)):
        try:
            fd = open_plain(path, LogFormatError)
        except FileNotFoundError:
            continue
        try:
            found = read_footer_bytes(fd, os.fstat(fd).st_size)
        finally:
            os.close(fd)
        if found is None:
            return None
        try:
            frame = unpack_frame(memoryview(found[1]), 0, 0, mark=None)
        except BadFrame as error:
            raise LogFormatError(f"the footer of {path} is damaged: {error}") from None
        return unpack_footer(frame.payload) if frame.kind == KIND_FOOTER else None
    return None


def compress_segment(store: FolderStore, index: int) -> None:
    """Replace a sealed segment by its compressed form; readers that have it open keep the old.

    Runs in a worker thread, because zstandard works without the interpreter's lock.

    Args:
        store: the log's segments.
        index: the segment's number.

    Raises:
        LogFormatError: the segment is not sealed, or too large to be read once compressed.
        OSError: for example a full disk; the plain segment is then unchanged.
    """
    plain, target = store.path(index), store.compressed_path(index)
    with open(plain, "rb") as source:
        found = read_footer_bytes(source.fileno(), os.fstat(source.fileno()).st_size)
        if found is None:
            raise LogFormatError(f"{plain} is not sealed, so it cannot be compressed")
        body_end, tail = found
        if body_end > MAX_SEGMENT_BYTES:
            raise LogFormatError(
                f"{plain} takes {body_end} bytes; at most {MAX_SEGMENT_BYTES} are compressed, "
                "because a compressed segment is read as a whole"
            )
        with atomic_file(target, target.with_name(target.name + ".tmp")) as out:
            out.write(MAGIC)
            source.seek(len(MAGIC))
            _compress(source, out, body_end - len(MAGIC))
            footer_offset = out.tell()
            out.write(tail[: len(tail) - TRAILER.size] + TRAILER.pack(footer_offset, MAGIC))
    sync_folder(store.folder)
    plain.unlink()


class _Packer:
    """A compressor and its buffer, kept for the next segment: they take about 4 MB.

    Made anew in one thread after another, they would stay in each thread's part of the heap.
    """

    def __init__(self) -> None:
        import zstandard

        self.compressor = zstandard.ZstdCompressor(level=3)
        self.buffer = memoryview(bytearray(_COPY_BYTES))


_idle_packers: list[_Packer] = []


def _compress(source: BufferedReader, out: IO[bytes], size: int) -> None:
    """Compress the next bytes of a file into another.

    Args:
        source: where they are.
        out: where they go.
        size: how many there are.

    Raises:
        LogFormatError: there are fewer.
    """
    try:
        packer = _idle_packers.pop()
    except IndexError:
        packer = _Packer()
    stream = packer.compressor.compressobj(size=size)
    while size:
        if not (read := source.readinto(packer.buffer[:size])):
            raise LogFormatError(f"{source.name} was cut while it was compressed")
        size -= read
        out.write(stream.compress(packer.buffer[:read]))
    out.write(stream.flush())
    _idle_packers.append(packer)


def _decompress(path: Path) -> bytes:
    import zstandard

    with open(open_plain(path, LogFormatError), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        found = read_footer_bytes(file.fileno(), size)
        if found is None or size > MAX_SEGMENT_BYTES * 2:
            raise LogFormatError(f"{path} is not a compressed segment, or is cut off")
        body_end, tail = found
        packed = os.pread(file.fileno(), body_end - len(MAGIC), len(MAGIC))
    try:
        claimed = zstandard.get_frame_parameters(packed).content_size
        if not 0 < claimed <= MAX_SEGMENT_BYTES:
            raise LogFormatError(
                f"{path} claims {claimed} bytes decompressed, at most {MAX_SEGMENT_BYTES} are read"
            )
        body = zstandard.ZstdDecompressor().decompress(packed)
    except zstandard.ZstdError as error:
        raise LogFormatError(f"{path} cannot be decompressed: {error}") from error
    return MAGIC + body + tail


def holds_the_same(plain: Path, packed: Path) -> bool:
    """Return whether a compressed segment has the content of a plain one, reading them in parts.

    Args:
        plain: path of the plain segment.
        packed: path of the compressed segment.
    """
    import zstandard

    try:
        with (
            open(open_plain(plain, LogFormatError), "rb") as left,
            open(open_plain(packed, LogFormatError), "rb") as right,
        ):
            found = read_footer_bytes(left.fileno(), os.fstat(left.fileno()).st_size)
            if found is None:
                return False
            left.seek(len(MAGIC))
            right.seek(len(MAGIC))
            remaining = found[0] - len(MAGIC)
            if zstandard.get_frame_parameters(right.read(18)).content_size != remaining:
                return False
            right.seek(len(MAGIC))
            unpacked = zstandard.ZstdDecompressor(max_window_size=1 << 24).stream_reader(right)
            while remaining > 0:
                part = left.read(min(remaining, _COPY_BYTES))
                other = b""
                while len(other) < len(part) and (more := unpacked.read(len(part) - len(other))):
                    other += more
                if part != other or not part:
                    return False
                remaining -= len(part)
            return True
    except (LogFormatError, zstandard.ZstdError):
        return False


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
