"""A log of many segments, cut anywhere: what is left is an exact prefix, which opens as it is."""

import os
import random
import shutil
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers import Recording, read_log

from nightbus.bus.errors import LogFormatError
from nightbus.bus.log.codec import DecodedEvent
from nightbus.bus.log.format import FRAME_HEAD, KIND_EVENTS, MAGIC
from nightbus.bus.log.reader import LogReader
from nightbus.bus.log.segments import FolderStore, compress_segment, read_footer

pytestmark = pytest.mark.long

CUTS = int(os.environ.get("NIGHTBUS_CUTS", "200"))
FORMS = 4  # of a log, so many of the cuts each
SEED = 20261121
STEPS = 3_000  # of three events
SEGMENT_BYTES = 1 << 16


class SegmentOnDisk(NamedTuple):
    """A segment as a file.

    Attributes:
        path: the file.
        size: its bytes.
        ends: sizes from which on it holds more events.
        next_seqs: which event comes after those that it holds then.
    """

    path: Path
    size: int
    ends: list[int]
    next_seqs: list[int]


def next_seq(segments: list[SegmentOnDisk], size: int) -> int:
    """Which event comes after all that segments hold when the last is cut to a size."""
    *before, last = segments
    ends = bisect_right(last.ends, size)
    if ends:
        return last.next_seqs[ends - 1]
    return before[-1].next_seqs[-1] if before else 0


def on_disk(path: Path) -> SegmentOnDisk:
    data = path.read_bytes()
    if path.suffix == ".zst":  # one stream, so it is there as a whole or not at all
        footer = read_footer(FolderStore(path.parent), int(path.name[:6]))
        assert footer is not None
        return SegmentOnDisk(path, len(data), [len(data)], [footer.next_seq])
    at, ends, next_seqs = len(MAGIC), [], []
    while at + FRAME_HEAD.size <= len(data):
        _, _, length, count, kind, _, first_seq, _ = FRAME_HEAD.unpack_from(data, at)
        at += FRAME_HEAD.size + length
        if kind == KIND_EVENTS:
            ends.append(at)
            next_seqs.append(first_seq + count)
    return SegmentOnDisk(path, len(data), ends, next_seqs)


def left_by_a_kill(folder: Path, live: str, sealed: str) -> FolderStore:
    """A log of many sealed segments, plain or compressed, and maybe one that is being written."""
    log = Recording(folder / "log", segment_bytes=SEGMENT_BYTES)
    log.steps(STEPS)
    if live == "closed":
        log.writer.close()
    store = FolderStore(folder / "left")
    shutil.copytree(folder / "log", store.folder)
    indices = store.indices()
    assert len(indices) > 5
    if live == "live":
        store.path(indices.pop()).write_bytes(log.committed_bytes())
    if sealed == "compressed":
        for index in indices:
            compress_segment(store, index)
    return store


def read_as_it_is(store: FolderStore) -> tuple[list[DecodedEvent], str]:
    """All events that can be read, and what kept the rest from it."""
    reader, events = LogReader(store), []
    try:
        for event in reader.events():
            events.append(event)
    except LogFormatError as error:
        return events, str(error)
    finally:
        reader.close()
    return events, ""


@pytest.mark.parametrize("sealed", ["plain", "compressed"])
@pytest.mark.parametrize("live", ["live", "closed"])
def test_a_log_of_many_segments_cut_anywhere_reads_as_its_exact_prefix(
    tmp_path: Path, live: str, sealed: str
) -> None:
    store = left_by_a_kill(tmp_path, live, sealed)
    whole = read_log(store)
    assert len(whole) == 3 * STEPS
    segments = [on_disk(path) for path in sorted(store.folder.iterdir())]
    begins = [0, *accumulate(segment.size for segment in segments)]
    total = begins.pop()
    cuts = random.Random(SEED).choices(range(total), k=CUTS // FORMS)

    for cut in sorted(cuts, reverse=True):  # further and further
        number = bisect_right(begins, cut) - 1
        size = cut - begins[number]
        for segment in segments[number + 1 :]:
            segment.path.unlink(missing_ok=True)
        os.truncate(segments[number].path, size)

        found, error = read_as_it_is(store)

        assert found == whole[: next_seq(segments[: number + 1], size)]
        assert bool(error) == (segments[number].path.suffix == ".zst")
