"""SegmentSync: makes the segments of a log durable, on the bus thread."""

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable

from ..system.forks import refusal
from ..system.logging_setup import get_logger
from ..system.shortage import NO_DESCRIPTOR
from .segments import SegmentStore

MAX_WAIT_S = 64  # after failures in a row

_log = get_logger("nightbus.log")


class SegmentSync:
    """Makes durable what is written, and keeps what the disk failed to.

    A segment that could not be made durable is not tried again: the system may since consider clean
    what never reached the disk, and report success. The writer records this in the log, and
    continues in a new segment.

    Args:
        store: the segments.
        clock_ns: monotonic clock.
        fd: of the first segment, which is being written.
        give_up: called when the segment being written has to be ended.

    Attributes:
        current: the segment being written and its file descriptor; -1 once the log is closed.
        sealed: durable segments, ready to be compressed.
        untold: (segment, reason) of failures still to be recorded in the log.
        last_error: reason of the last failure; empty if there was none.
    """

    def __init__(
        self,
        store: SegmentStore,
        clock_ns: Callable[[], int],
        fd: int,
        give_up: Callable[[], None],
    ) -> None:
        self.current = (0, fd)
        self.sealed: deque[int] = deque()
        self.untold: deque[tuple[int, str]] = deque()
        self.last_error = ""
        self._store, self._clock_ns, self._give_up = store, clock_ns, give_up
        self._retired: deque[tuple[int, int]] = deque()  # (segment, fd) complete, to be synced
        self._lock = threading.Lock()
        self._unsound: set[int] = set()  # fds of segments that the disk failed to make durable
        self._failures = 0  # consecutive
        self._again_ns = 0  # time of the next attempt
        self._named_fd = -1  # of the segment whose name is durable
        self._is_left = False  # in a forked child
        # Otherwise a power cut could leave the second segment without the first: a log that begins
        # in its middle, and looks complete. Without a later one it visibly ends early.
        with contextlib.suppress(OSError):  # the first sync tries again, and reports it
            store.sync_names()
            self._named_fd = fd

    def leave_to_parent(self) -> None:
        """Close the files in a forked child, and refuse to sync."""
        self._is_left = True
        fds = self.open_fds
        self.current = (self.current[0], -1)
        for fd in fds:
            with contextlib.suppress(OSError):
                os.close(fd)

    @property
    def open_fds(self) -> list[int]:
        """Return the file descriptors of the segments that are not closed yet."""
        return [fd for fd in (self.current[1], *(fd for _, fd in self._retired)) if fd >= 0]

    def retire(self, segment: int, fd: int) -> None:
        """Take a complete segment: the next sync makes it durable and closes it.

        Args:
            segment: its number.
            fd: its file descriptor.
        """
        self._retired.append((segment, fd))

    def sync(self) -> None:
        """Make what is written durable; any thread may call this.

        After consecutive failures the next attempt comes later, so that segments do not pile up.

        Raises:
            OSError: the disk failed.
            ForkedChildError: this is a forked child.
        """
        if self._is_left:
            raise refusal("the log was to be made durable")
        with self._lock:
            while self._retired:
                index, fd = self._retired.popleft()
                try:
                    if fd not in self._unsound:
                        self._sync_file(index, fd)
                        self.sealed.append(index)
                finally:
                    self._unsound.discard(fd)
                    self._named_fd = -1 if self._named_fd == fd else self._named_fd
                    os.close(fd)
            index, fd = self.current
            if fd < 0 or self._clock_ns() < self._again_ns:
                return
            if fd not in self._unsound:
                self._sync_file(index, fd)
            if self.untold or fd in self._unsound:
                # Again: the owner may have begun a segment meanwhile, or had no room for one.
                self._give_up()

    def _sync_file(self, index: int, fd: int) -> None:
        try:
            os.fdatasync(fd)
            if fd != self._named_fd:
                self._sync_name_of(fd)
        except OSError as error:
            self.last_error = error.strerror or str(error)
            self._unsound.add(fd)
            self.untold.append((index, self.last_error))
            self._failures += 1
            wait_s = min(2**self._failures, MAX_WAIT_S)
            self._again_ns = self._clock_ns() + wait_s * 1_000_000_000
            self._give_up()
            raise
        self._failures = 0

    def _sync_name_of(self, fd: int) -> None:
        try:
            self._store.sync_names()
        except OSError as error:
            if error.errno not in NO_DESCRIPTOR:
                raise
            return  # the disk was not used: the next sync tries again
        self._named_fd = fd

    def sync_all(self) -> None:
        """Make everything durable now, whatever failed before; a failure is a warning."""
        for _ in range(len(self._retired) + 1):  # each failure concerns another segment
            self._again_ns = 0
            try:
                self.sync()
                return
            except OSError as error:
                _log.warning("cannot make the event log durable", error=str(error))

    @property
    def is_unsound(self) -> bool:
        """True if the disk failed to make the segment being written durable."""
        return self.current[1] in self._unsound

    def close(self) -> None:
        """Close the last segment; nothing is written afterwards."""
        with self._lock:
            index, fd = self.current
            os.close(fd)
            if fd not in self._unsound:
                self.sealed.append(index)
            self.current = (index, -1)
