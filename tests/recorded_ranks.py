"""Runs of several ranks recorded without training: each rank its log, as its own clock tells."""

import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
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

    @contextmanager
    def in_hook(self, name: str) -> Iterator[None]:
        """Record that a hook begins, and that it ends."""
        self._record(BEGIN, name)
        yield
        self._record(END, name)

    def hook(self, name: str, took_ns: int = 0) -> None:
        """Record a hook."""
        with self.in_hook(name):
            self.now_ns += took_ns

    def gradients_ready(self) -> None:
        """Record that the rank's own gradients are there."""
        self._record(RAN, GRADIENTS_READY)

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
        has_loss: bool = True,
    ) -> None:
        """Record a training step of so many ns in each phase.

        Args:
            data: from the batch before to this one.
            forward: in ``training_step``.
            backward: until its own gradients are there.
            waits: for those of other ranks.
            optimizer: from there to the batch's end.
            is_marked: whether it is recorded when its own gradients are there.
            has_loss: whether its ``training_step`` returns one; otherwise the rank takes part in
                the step of the others within ``training_step``.
        """
        place = self.place
        self.now_ns += data
        place.move(batch_idx=place.batch_idx + 1)
        self._record(RAN, "on_train_batch_start")
        if has_loss:
            self.hook("training_step", forward)
            self._meet("backward", backward, waits, is_marked)
        else:
            self._meet("training_step", forward + backward, waits, is_marked)
            self.hook("backward")
        self.hook("optimizer_step", optimizer)
        place.complete_step(place.step + 1)
        self._record(RAN, "on_train_batch_end")

    def _meet(self, hook: str, own: int, waits: int, is_marked: bool) -> None:
        with self.in_hook(hook):
            self.now_ns += own
            if is_marked:
                self.gradients_ready()
            self.now_ns += waits

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
