"""Notes what the process prints, without changing what the streams do.

The method ``write`` of the two streams is replaced, not the streams: whoever kept one, such as a
handler of logging, is noted too, and a stream remains what it is, a terminal or a file.
"""

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from .forks import keep_when_forked, leave_when_forked

MAX_NOTES = 4_000  # that wait to be taken
MAX_NOTE_CHARS = 4_000

STREAMS = ("stdout", "stderr")
_own = threading.local()  # depth: what this thread writes is not noted


_open: list["ConsoleTee"] = []


class Note(NamedTuple):
    """A text that was written.

    Attributes:
        stream: ``stdout`` or ``stderr``.
        text: the text.
    """

    stream: str
    text: str


@contextmanager
def unnoted() -> Iterator[None]:
    """Note nothing of what this thread writes meanwhile, because it is only drawn."""
    _own.depth = getattr(_own, "depth", 0) + 1
    try:
        yield
    finally:
        _own.depth -= 1


def watch_streams() -> None:
    """Note, too, what is written on streams that a display has put in place of others."""
    for tee in _open:
        tee.watch_streams()


class ConsoleTee:
    """Notes what is written on streams, until it is closed.

    Nothing is waited for and no lock is taken: a signal handler may print, and Ctrl-C may come
    between any two lines.

    Attributes:
        missed: number of characters that were not noted, because too many waited.
    """

    def __init__(self) -> None:
        self.missed = 0
        self._notes: deque[Note] = deque()
        self._watched: list[tuple[Any, Any, Callable[..., Any] | None]] = []
        self._is_open = True
        _open.append(self)
        leave_when_forked(self)

    def watch_streams(self) -> None:
        """Note what is written on standard output and error from now on."""
        for name in STREAMS:
            self._watch(name, getattr(sys, name))

    def _watch(self, name: str, stream: Any) -> None:
        write = getattr(stream, "write", None)
        if write is None or any(each is stream for each, _, _ in self._watched):
            return

        def noted(text: Any, *more: Any) -> Any:
            if not self._is_open:  # somebody kept it
                return write(text, *more)
            depth = getattr(_own, "depth", 0)
            _own.depth = depth + 1
            try:
                done = write(text, *more)
            finally:
                _own.depth = depth
            if not depth:
                self._note(name, text)
            return done

        before = getattr(stream, "__dict__", {}).get("write")
        try:
            stream.write = noted
        except (AttributeError, TypeError):  # an object without attributes of its own
            return
        self._watched.append((stream, noted, before))
        if hasattr(stream, "rich_proxied_file"):  # writes on another one that is watched
            stream.flush = unnoted()(stream.flush)

    def take(self, most: int) -> list[Note]:
        """Return the first of the notes that were not taken yet; from one thread at a time.

        Args:
            most: how many.
        """
        return [self._notes.popleft() for _ in range(min(most, len(self._notes)))]

    def close(self) -> None:
        """Note nothing more, and give streams their own ``write`` back."""
        self._is_open = False
        if self in _open:
            _open.remove(self)
        for stream, noted, before in self._watched:
            # Somebody may have replaced it since, and calls ours: that only passes on from now on.
            if stream.__dict__.get("write") is noted:
                if before is None:
                    del stream.write
                else:
                    stream.write = before
        self._watched.clear()
        keep_when_forked(self)

    def leave_to_parent(self) -> None:
        """Note nothing in a forked child: the log is its parent's."""
        self.close()
        self._notes.clear()

    def _note(self, name: str, text: Any) -> None:
        if not isinstance(text, str):
            return
        if len(self._notes) >= MAX_NOTES:
            self.missed += len(text)
            return
        self.missed += max(0, len(text) - MAX_NOTE_CHARS)
        self._notes.append(Note(name, text[:MAX_NOTE_CHARS]))
