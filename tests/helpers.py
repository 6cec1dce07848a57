"""What tests of several parts share."""

import contextlib
import errno
import gc
import os
import resource
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
from programs import run_program

from nightbus.bus.events import Event, Hook, Put, Unknown
from nightbus.bus.log.codec import DecodedEvent, HookSelection
from nightbus.bus.log.fast_flush import FastLogWriter
from nightbus.bus.log.format import SegmentHeader, pack_header
from nightbus.bus.log.place import Place
from nightbus.bus.log.reader import LogEnd, LogReader
from nightbus.bus.log.segments import FolderStore, SegmentStore
from nightbus.bus.log.writer import _SCHEMA, LogIdentity
from nightbus.bus.routes import Routes

# A test that waits so long has failed: far more than anything takes on a machine that is busy with
# other things, and less than pytest gives a test.
DEADLINE_S = 120.0

_HEADER = SegmentHeader((1, 0), "test", 0, 0, 1, 0, 1 << 30, 1 << 31, 1 << 62, 1 << 62, _SCHEMA)
SMALL_SEGMENT_BYTES = len(pack_header(_HEADER)) + 600
"""Room for a header, which names all types of events, and a few frames."""


def eventually(condition: Callable[[], Any]) -> Any:
    """What a condition says once it holds."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < deadline_s, "it never came true"
        time.sleep(0.005)
    return found


def end_workers() -> None:
    """End the workers of loaders that were not read to their end, or keep theirs. A loader that
    dies in a cycle of references, as a trainer's does, cannot: its queues are gone before it tells
    the workers to end, and torch waits 5 s for each.
    """
    for found in gc.get_objects():
        if type(found).__name__.endswith("MultiProcessingDataLoaderIter"):
            found._shutdown_workers()


def nightbus(
    *arguments: str | Path, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command of the command line to its end."""
    return run_program(
        "-m",
        "nightbus",
        *map(str, arguments),
        cwd=cwd,
        env={**os.environ, "COLUMNS": "80", **environment},
        timeout=DEADLINE_S,
    )


class Recording:
    """A log being written, as a trainer writes it, without one.

    Attributes:
        puts: how many values were put; each is its own number, from 0.
        begun: all of this test.
    """

    begun: ClassVar[list["Recording"]] = []

    def __init__(self, store: SegmentStore | Path, **options: Any) -> None:
        self.store = FolderStore(store) if isinstance(store, Path) else store
        self.place = Place()
        self.writer = FastLogWriter(self.store, LogIdentity("test"), self.place, **options)
        self.puts = 0
        self._routes = Routes(self.place)
        self._routes.refresh()
        self.begun.append(self)

    def abandon(self) -> None:
        """Let go of the files of a log that was not closed, as the end of its process would."""
        sync = self.writer._sync
        if sync.current[1] >= 0:
            self.writer._file.finish()
            for fd in sync.open_fds:
                os.close(fd)

    def hook(self, name: str = "on_a") -> None:
        """Record a hook."""
        self._routes.call(name)

    def put(self, name: str = "x") -> None:
        """Record the next number."""
        self.writer.append(self.make_put(self.puts, name))
        self.puts += 1

    def put_pending(self, value: "Arriving") -> None:
        """Record a number that is on its way."""
        self.writer.append_pending(self.make_put(value))

    def make_put(self, value: Any, name: str = "x") -> Put:
        """The next event, not yet appended."""
        return self.writer.event(Put, name, value, ("loggers",), "", source="test")

    def steps(self, number: int) -> None:
        """Record steps of three events: a hook, a put, a hook."""
        for _ in range(number):
            self.place.complete_step(self.place.step + 1)
            self.hook("on_a")
            self.put()
            self.hook("on_b")
            self.writer.flush()

    def committed_bytes(self) -> bytes:
        """The last segment up to what is committed: all that a killed process leaves for sure."""
        assert isinstance(self.store, FolderStore)
        index, size = self.writer.committed
        return self.store.path(index).read_bytes()[:size]


class Arriving:
    """A number on its way; ``arrive`` ends it, and so does waiting for it."""

    def __init__(self, value: float, error: Exception | None = None) -> None:
        self.value = value
        self.error = error
        self.has_arrived = False

    def arrive(self) -> None:
        self.has_arrived = True

    def ready(self) -> bool:
        return self.has_arrived

    def result(self) -> float:
        if self.error is not None:
            raise self.error
        return self.value


def read_log(
    store: SegmentStore | Path, hooks: HookSelection = "all", **options: Any
) -> list[DecodedEvent]:
    """All events of a log."""
    return read_to_end(store, hooks, **options)[0]


def read_to_end(
    store: SegmentStore | Path, hooks: HookSelection = "all", **options: Any
) -> tuple[list[DecodedEvent], LogEnd]:
    """All events of a log, and how it ends."""
    reader = LogReader(FolderStore(store) if isinstance(store, Path) else store, **options)
    try:
        return list(reader.events(hooks)), reader.end()
    finally:
        reader.close()


def seqs(events: list[DecodedEvent]) -> list[int]:
    """Sequence numbers."""
    return [event.seq for event in events]


def values(events: list[DecodedEvent]) -> list[Any]:
    """Values of the puts."""
    return [event.value for event in events if isinstance(event, Put)]


def tell(event: Event | Unknown) -> str:
    """An event in a word: a hook's name, a put's value, else its type."""
    if isinstance(event, Hook):
        return event.name
    return str(event.value) if isinstance(event, Put) else type(event).__name__


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """The operating system lets no file of this process grow beyond ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def no_space() -> OSError:
    """What a full disk raises."""
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def encode_events(
    places: Sequence[object], hooks: Sequence[object], others: Sequence[object]
) -> bytes:
    """A frame's payload as a log of format 1.0 has it; without hooks, as any has."""
    return msgspec.msgpack.encode((places, hooks, others))


def damage_the_middle(path: Path) -> None:
    """Flip all bits of the byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
