"""Maintenance of the log during a run, on the bus thread."""

from collections import deque
from typing import Protocol

import trio

from .errors import LogFormatError
from .log.segments import FolderStore, UnnamedStore, compress_segment
from .log.writer import LogWriter
from .observer import Observer
from .runs.run_folder import RunFolder
from .system.logging_setup import get_logger

SYNC_EVERY_S = 1.0

_log = get_logger("nightbus.bus")


class KeptLog(Protocol):
    """The bus as housekeeping uses it: its log may be opened later, and be closed meanwhile."""

    writer: LogWriter | None
    store: FolderStore | UnnamedStore | None
    observers: list[Observer]


class Housekeeping:
    """Makes the log durable, compresses sealed segments, and releases what all have read.

    Args:
        bus: the bus with the log.
        run: the run's folder; None if nothing is kept.
    """

    def __init__(self, bus: KeptLog, run: RunFolder | None) -> None:
        self._bus = bus
        self._run = run
        self._reported_gone = False  # that the run's folder is gone
        self._last_problem = ""  # the last failure

    async def run(self) -> None:
        """Run once a second."""
        bus = self._bus
        while True:
            await trio.sleep(SYNC_EVERY_S)
            self.check_folder()
            if isinstance(bus.store, UnnamedStore):
                positions = [o.segment for o in bus.observers if not o.done.is_set()]
                bus.store.release_before(min(positions, default=0))
            elif bus.writer is not None:
                try:
                    await trio.to_thread.run_sync(self.sync_and_compress, abandon_on_cancel=False)
                except Exception as error:  # no thread is available, or a library cannot be loaded
                    if str(error) != self._last_problem:
                        self._last_problem = str(error)
                        _log.warning("cannot maintain the log now", error=self._last_problem)

    def check_folder(self) -> None:
        """Warn, once, if the run's folder was removed or renamed."""
        if self._run is None or self._reported_gone or self._run.is_there:
            return
        self._reported_gone = True
        _log.warning(
            f"the run's folder {self._run.path} was removed or renamed: training goes on, but no "
            "checkpoint is saved in it any more, and sinks that write there stop; the recording "
            "is only where the folder is now"
        )

    def sync_and_compress(self) -> None:
        """Make durable what is written, and compress sealed segments."""
        writer = self._bus.writer
        if writer is None:
            return
        try:
            writer.sync()
        except OSError as error:
            _log.warning("cannot make the event log durable", error=str(error))
        self.compress(writer.sealed)

    def compress(self, sealed: deque[int]) -> None:
        """Compress segments; another thread may be doing so too."""
        store = self._bus.store
        assert isinstance(store, FolderStore)
        while True:
            try:
                index = sealed.popleft()
            except IndexError:
                return
            try:
                compress_segment(store, index)
            # Or the compression library cannot be loaded without a file descriptor.
            except (OSError, LogFormatError, ImportError, MemoryError) as error:
                _log.warning("a log segment stays uncompressed", error=str(error))
