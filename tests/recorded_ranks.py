"""Runs of several ranks recorded without training: each rank its log, as its own clock tells."""

import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

import nightbus as nb
from nightbus.__main__ import main
from nightbus.bus.events import Fork, RankStarted
from nightbus.bus.log.codes import BEGIN, END, GRADIENTS_READY, RAN
from nightbus.bus.log.place import Place
from nightbus.bus.log.writer import LogIdentity, LogWriter

MS = 1_000_000
BEGAN_NS = 1_000_000_000


class RecordedRank:
    """The log of one rank as it is recorded.

    Attributes:
        now_ns: its clock.
    """

    def __init__(
        self,
        run: nb.RunFolder,
        rank: int,
        world_size: int,
        now_ns: int = BEGAN_NS,
        host: str = "alpha",
        attempt: int = 0,
        segment_bytes: int = 1 << 20,
        fork: Fork | None = None,
    ) -> None:
        self.rank = rank
        self.now_ns = now_ns
        self.place = Place(rank)
        self.store = run.store(attempt, rank)
        identity = LogIdentity(run.info.id, attempt, rank, world_size)
        self.writer = LogWriter(
            self.store, identity, self.place, segment_bytes, lambda: self.now_ns
        )
        self.add(nb.RunStarted, run.info.id, attempt, "fit", self.now_ns, {}, {}, fork)
        if world_size > 1:
            started = world_size, rank, 0, host, 1_000 + rank, "cpu", 0
            self.add(RankStarted, *started)
        self.place.move(stage="train")

    def add(self, kind: Any, *fields: Any) -> None:
        """Record any event."""
        self.writer.append(self.writer.event(kind, *fields, source="module"))

    def put(self, name: str = "loss", value: float = 1.0) -> None:
        """Record a metric."""
        self.add(nb.Put, name, value, ("loggers",), "")

    def hook(self, name: str, took_ns: int = 0) -> None:
        """Record a hook."""
        self._record(BEGIN, name)
        self.now_ns += took_ns
        self._record(END, name)

    def _record(self, action: int, name: str) -> None:
        self.place.recorder.trace.appender(action, name)(self.now_ns)

    def step(
        self,
        data: int = MS,
        forward: int = MS,
        backward: int = MS,
        waits: int = 0,
        optimizer: int = MS,
        is_marked: bool = False,
    ) -> None:
        """Record a training step of so many ns in each phase.

        Args:
            data: from the batch before to this one.
            forward: in ``training_step``.
            backward: until its own gradients are there.
            waits: for those of other ranks.
            optimizer: from there to the batch's end.
            is_marked: whether it is recorded when its own gradients are there.
        """
        place = self.place
        self.now_ns += data
        place.move(batch_idx=place.batch_idx + 1)
        self._record(RAN, "on_train_batch_start")
        self.hook("training_step", forward)
        self._record(BEGIN, "backward")
        self.now_ns += backward
        if is_marked:
            self._record(RAN, GRADIENTS_READY)
        self.now_ns += waits
        self._record(END, "backward")
        self.hook("optimizer_step", optimizer)
        place.complete_step(place.step + 1)
        self._record(RAN, "on_train_batch_end")

    def end(self) -> None:
        """End in good order."""
        self.add(nb.RunEnded, "completed", "")
        self.writer.close()

    def abandon(self) -> None:
        """As a killed process leaves it."""
        self.writer.flush()


def record_ranks(
    root: Path, ranks: Iterable[int], record: Callable[[RecordedRank], object], world_size: int
) -> nb.RunFolder:
    """Record the first attempt of a run, one rank after the other.

    Args:
        root: the folder of runs.
        ranks: those that leave a log.
        record: records what a rank does.
        world_size: how many there are said to be.

    Returns:
        The run.
    """
    run = nb.RunFolder.create(root, "ranks")
    run.begin_attempt().release()
    for rank in ranks:
        recorded = RecordedRank(run, rank, world_size)
        record(recorded)
        recorded.end()
    return run


Verb = Callable[..., subprocess.CompletedProcess[str]]


def verbs_in(capsys: pytest.CaptureFixture[str]) -> Verb:
    """Return a function that runs a verb of the command line in this process."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, out, err)

    return run
