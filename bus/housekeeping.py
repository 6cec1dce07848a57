"""What is done about the log while a run goes on, on the bus thread."""

from collections import deque
from typing import Protocol

import trio

from .errors import LogFormatError
from .log.segments import FolderStore, UnnamedStore, compress_segment
from .log.writer import LogWriter
from .observer import Observer
from .system.logging_setup import get_logger

SYNC_EVERY_S = 1.0

_log = get_logger("nightbus.bus")


class KeptLog(Protocol):
    """What housekeeping needs of the bus: its log, which may be opened later, and be closed."""

    writer: LogWriter | None
    store: FolderStore | UnnamedStore | None
    observers: list[Observer]

    def check_folder(self) -> None:
        """See that the run's folder is still there."""


class Housekeeping:
    """Makes the log durable, compresses what is sealed, gives up what everyone has read.

    Args:
        bus: whose log it is.
    """

    def __init__(self, bus: KeptLog) -> None:
        self._bus = bus
        self._said = ""  # what failed last

    async def run(self) -> None:
        """Do it once a second."""
        bus = self._bus
        while True:
            await trio.sleep(SYNC_EVERY_S)
            bus.check_folder()
            if isinstance(bus.store, UnnamedStore):
                positions = [o.segment for o in bus.observers if not o.done.is_set()]
                bus.store.release_before(min(positions, default=0))
            elif bus.writer is not None:
                try:
                    await trio.to_thread.run_sync(self.sync_and_compress, abandon_on_cancel=False)
                except Exception as error:  # no thread can be had, or a library not be loaded
                    if str(error) != self._said:
                        self._said = str(error)
                        _log.warning("the log is not looked after now", error=self._said)

    def sync_and_compress(self) -> None:
        """Make durable what is written, and compress what is sealed."""
        writer = self._bus.writer
        if writer is None:
            return
        try:
            writer.sync()
        except OSError as error:
            _log.warning("the event log could not be made durable", error=str(error))
        self.compress(writer.sealed)

    def compress(self, sealed: deque[int]) -> None:
        """Compress these segments; another thread may be at it, too."""
        store = self._bus.store
        assert isinstance(store, FolderStore)
        while True:
            try:
                index = sealed.popleft()
            except IndexError:
                return
            try:
                compress_segment(store, index)
            # Or the library that compresses cannot be loaded, while there is no file descriptor.
            except (OSError, LogFormatError, ImportError, MemoryError) as error:
                _log.warning("a log segment stays uncompressed", error=str(error))
