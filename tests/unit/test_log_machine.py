"""The event log as hypothesis explores it: written, flushed, rotated, cut, followed, sought."""

import os
import shutil
import tempfile
from pathlib import Path

from helpers import SMALL_SEGMENT_BYTES, Recording, read_log, seqs, values
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nightbus.bus.log.reader import LogReader


class WriterCrashReader(RuleBasedStateMachine):
    """Whatever is written, flushed, rotated and cut: a reader sees an exact prefix of it, and all
    of what was committed as long as the file is whole.
    """

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.folder = self.root / "live"
        self.log = Recording(self.folder, segment_bytes=SMALL_SEGMENT_BYTES)
        self.flushed = 0  # numbers put, each followed by a hook
        self.follower = LogReader(self.log.store, lambda: self.log.writer.committed)
        self.followed: list[int] = []

    @rule(number=st.integers(1, 5))
    def put(self, number: int) -> None:
        for _ in range(number):
            self.log.put()
            self.log.hook()

    @rule()
    def flush(self) -> None:
        self.log.writer.flush()
        self.flushed = self.log.puts

    @rule()
    def follow(self) -> None:
        self.followed += values(self.follower.read())

    @rule(data=st.data())
    @precondition(lambda self: self.flushed > 0)
    def crash_and_read(self, data: st.DataObject) -> None:
        copy = self.root / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.folder, copy)
        last = sorted(copy.iterdir())[-1]
        os.truncate(last, data.draw(st.integers(0, last.stat().st_size)))
        found = values(read_log(copy))
        assert found == list(range(len(found)))
        assert len(found) <= self.flushed

    @rule(seq=st.integers(0, 200))
    def seek(self, seq: int) -> None:
        reader = LogReader(self.log.store)
        reader.seek(seq)
        assert seqs(list(reader.events())) == list(range(seq, 2 * self.flushed))
        reader.close()

    @invariant()
    def everything_committed_is_read(self) -> None:
        assert values(read_log(self.folder)) == list(range(self.flushed))
        assert self.followed == list(range(len(self.followed)))

    def teardown(self) -> None:
        self.follower.close()
        self.log.writer.close()
        shutil.rmtree(self.root)


TestWriterCrashReader = WriterCrashReader.TestCase
TestWriterCrashReader.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
