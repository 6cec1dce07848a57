"""Pages of a log that a disk lost, overwrote or mixed up."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import Recording, read_to_end

from nightbus.bus.errors import LogFormatError
from nightbus.bus.log.format import FRAME_HEAD, MAGIC
from nightbus.bus.log.reader import EndKind
from nightbus.bus.log.segments import FolderStore

PAGE = 4096

# What lies in a page's place: the log's pages, the page's number, chance.
HARMS: dict[str, Callable[[list[bytes], int, random.Random], bytes]] = {
    "emptied": lambda pages, at, chance: bytes(len(pages[at])),
    "ones": lambda pages, at, chance: b"\xff" * len(pages[at]),
    "random": lambda pages, at, chance: chance.randbytes(len(pages[at])),
    "an earlier page": lambda pages, at, chance: pages[max(0, at - 1)][: len(pages[at])],
    "a later page": lambda pages, at, chance: pages[(at + 1) % len(pages)].ljust(PAGE, b"\0"),
}


@pytest.mark.parametrize("harm", HARMS)
def test_reading_ends_before_a_page_that_was_lost_or_overwritten(tmp_path: Path, harm: str) -> None:
    log = Recording(tmp_path / "log")
    log.steps(400)
    data = log.committed_bytes()
    log.writer.close()
    events, _ = read_to_end(log.store)
    pages = [data[at : at + PAGE] for at in range(0, len(data), PAGE)]
    assert len(pages) > 8
    chance = random.Random(3)

    for number in range(len(pages)):
        page = HARMS[harm](pages, number, chance)
        harmed = b"".join([*pages[:number], page, *pages[number + 1 :]])
        store = FolderStore(tmp_path / "harmed")
        store.folder.mkdir(exist_ok=True)
        store.path(0).write_bytes(harmed)
        first_changed = next(
            (at for at, (a, b) in enumerate(zip(data, harmed, strict=False)) if a != b), len(data)
        )
        sound = _frames_before(data, first_changed)
        try:
            found, end = read_to_end(store)
        except LogFormatError:
            assert number == 0  # the segment's head: recover does without it
            continue
        assert found == events[: 3 * sound], number
        assert end.next_seq == 3 * sound
        assert (end.kind is EndKind.TORN) == (
            first_changed < len(data) and any(harmed[end.offset :])
        )


def _frames_before(data: bytes, limit: int) -> int:
    """How many frames of events end before an offset."""
    at, count = len(MAGIC), -1  # the header is the first
    while at + FRAME_HEAD.size <= len(data):
        at += FRAME_HEAD.size + FRAME_HEAD.unpack_from(data, at)[2]
        if at > limit:
            break
        count += 1
    return max(count, 0)
