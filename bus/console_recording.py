"""What the process prints, recorded line by line, on the bus thread."""

import re
import threading
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter

import trio

from .events import ConsoleLine
from .recorder import Recorder
from .secrets.redaction import without_secrets
from .system.console_tee import STREAMS, ConsoleTee, Note

TAKE_EVERY_S = 0.25
MAX_TAKEN = 500  # notes at once
MAX_WAITING = 1_000  # lines, while training does not come to write them
MAX_LINE_CHARS = 8_000
MAX_BURST_CHARS = 200_000
CHARS_A_S = 2_000  # in the long run
LEAST_CHARS = 40  # that a line counts
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


class ConsoleRecording:
    """Records what is printed on standard output and error, in lines, as ConsoleLine.

    Args:
        recorder: records them.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._tee = ConsoleTee()
        self._lock = threading.Lock()  # of what follows: the end is recorded by another thread
        self._lines = {name: _Lines() for name in STREAMS}
        self._left_chars = float(MAX_BURST_CHARS)  # that may be recorded now
        self._dropped = 0  # characters that the next line says are missing
        self._missed_before = 0
        self._has_failed = False  # and has said so

    def begin(self) -> None:
        """Note what is printed from now on."""
        self._tee.watch_streams()

    async def run(self) -> None:
        """Record what was printed, several times a second, until it is cancelled."""
        try:
            await self._go_on()
        except Exception:
            self._tee.close()
            self._has_failed = True
            raise

    async def _go_on(self) -> None:
        while True:
            await trio.sleep(TAKE_EVERY_S)
            writer = self._recorder.writer
            with self._lock:
                self._left_chars += CHARS_A_S * TAKE_EVERY_S
                self._left_chars = min(MAX_BURST_CHARS, self._left_chars)
                if writer is not None and len(writer.inbox) < MAX_WAITING:
                    self._record(self._tee.take(MAX_TAKEN))

    def end(self) -> None:
        """Note nothing more, and record the rest."""
        self._tee.close()
        if self._has_failed:
            return
        with self._lock:
            while notes := self._tee.take(MAX_TAKEN):
                self._record(notes)
            for name, lines in self._lines.items():
                self._record_lines((name, line) for line in lines.rest())
            if self._dropped:
                self._recorder.emit_in_time(ConsoleLine, STREAMS[0], "", self._dropped)

    def _record(self, notes: Iterable[Note]) -> None:
        self._record_lines(
            (name, line) for name, text in notes for line in self._lines[name].add(text)
        )
        self._dropped += self._tee.missed - self._missed_before
        self._missed_before = self._tee.missed

    def _record_lines(self, lines: Iterable[tuple[str, str]]) -> None:
        for name, group in groupby(lines, key=itemgetter(0)):
            # All at once: some secrets have several lines.
            text = without_secrets("\n".join(line for _, line in group))
            for line in text.split("\n"):
                self._record_line(name, line)

    def _record_line(self, name: str, line: str) -> None:
        shown = line[:MAX_LINE_CHARS]
        if len(shown) > self._left_chars:
            self._dropped += len(line) + 1
            return
        self._left_chars -= max(len(shown), LEAST_CHARS)
        self._recorder.emit_in_time(ConsoleLine, name, shown, self._dropped)
        self._dropped = len(line) - len(shown)


class _Lines:
    """Makes lines of what is written piece by piece, as a terminal shows them in the end."""

    def __init__(self) -> None:
        self._begun = ""

    def add(self, text: str) -> Iterator[str]:
        """Yield the lines that end in a text.

        Args:
            text: what was written.
        """
        *whole, begun = (self._begun + text).split("\n")
        for line in whole:
            yield _as_shown(line)
        # Of a line that is drawn again and again only what is there now is kept.
        if "\r" in begun.rstrip("\r"):
            begun = begun.rstrip("\r").rpartition("\r")[2] + "\r" * begun.endswith("\r")
        self._begun = begun[-2 * MAX_LINE_CHARS :]

    def rest(self) -> Iterator[str]:
        """Yield the line that has not ended, if there is one."""
        if shown := _as_shown(self._begun):
            yield shown
        self._begun = ""


def _as_shown(line: str) -> str:
    return _ESCAPES.sub("", line.rstrip("\r").rpartition("\r")[2])
