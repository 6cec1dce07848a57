"""The last events of a process whose training thread does not come back, written by another."""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import DEADLINE_S, read_log

from nightbus.bus.bus import Bus
from nightbus.bus.events import Put, RankLost, RunEnded
from nightbus.bus.log.fast_flush import FastLogWriter
from nightbus.bus.log.place import Place
from nightbus.bus.log.segments import FolderStore
from nightbus.bus.log.writer import LogIdentity

LOST = (1, "dead", "its process ended", 3, "training_step")


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Bus]:
    """One that records into the folder; this is its training thread."""
    place, store = Place(), FolderStore(tmp_path / "log")
    bus = Bus(place)
    bus.open_log(FastLogWriter(store, LogIdentity("run"), place), store)
    bus.routes.refresh()
    interval_s = sys.getswitchinterval()
    yield bus
    sys.setswitchinterval(interval_s)
    bus.close(0.0)


def elsewhere(bus: Bus) -> None:
    """What the side thread does, while this one waits."""

    def act() -> None:
        bus.emit(RankLost, *LOST, source="ranks")
        bus.write_last("failed", "rank 1 is lost")

    side = threading.Thread(target=act)
    side.start()
    side.join(DEADLINE_S)


def put(bus: Bus, name: str) -> None:
    bus.emit(Put, name, 1.0, ("loggers",), "", source="module")


def test_what_was_not_written_yet_comes_before_the_loss_and_the_end(
    bus: Bus, tmp_path: Path
) -> None:
    put(bus, "of a step that does not end")
    elsewhere(bus)

    found = read_log(tmp_path / "log")
    assert [type(each) for each in found] == [Put, RankLost, RunEnded]
    assert isinstance(found[2], RunEnded)
    assert (found[2].how, found[2].reason) == ("failed", "rank 1 is lost")


def test_a_training_thread_that_goes_on_after_all_adds_nothing(bus: Bus, tmp_path: Path) -> None:
    elsewhere(bus)
    put(bus, "too late")
    bus.flush()

    assert [type(each) for each in read_log(tmp_path / "log")] == [RankLost, RunEnded]


def test_a_training_thread_in_the_middle_of_a_write_is_not_written_over(
    bus: Bus, tmp_path: Path
) -> None:
    put(bus, "written")
    bus.flush()
    assert bus.writer is not None
    with bus.writer.alone():  # as while it writes
        elsewhere(bus)

    assert [type(each) for each in read_log(tmp_path / "log")] == [Put]
