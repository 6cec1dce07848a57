"""Runs recorded without training: a step a second, in as many attempts as a test needs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nightbus as nb
from nightbus.bus.events import Fork
from nightbus.bus.log.place import Place
from nightbus.bus.log.writer import LogIdentity, LogWriter
from nightbus.bus.runs.run_folder import AttemptLock

SECOND_NS = 1_000_000_000
STEPS_PER_EPOCH = 10


class RecordedRun:
    """A run whose attempts are recorded one after the other.

    Attributes:
        path: its folder.
    """

    def __init__(self, root: Path) -> None:
        self.folder = nb.RunFolder.create(root / "runs", "recorded")
        self.path = self.folder.path

    def attempt(
        self,
        step: int = 0,
        fork: Fork | None = None,
        fn: str = "fit",
        is_silent: bool = False,
        segment_bytes: int = 16 << 20,
    ) -> "RecordedAttempt":
        """Begin the next attempt; it goes on from ``step``."""
        return RecordedAttempt(self.folder, step, fork, fn, is_silent, segment_bytes)

    def steps(self, number: int) -> Path:
        """Record one whole attempt of so many steps."""
        attempt = self.attempt()
        attempt.steps(number)
        attempt.end()
        return self.path


class RecordedAttempt:
    """One start of a run, whose clock began anew: each is at home on another machine."""

    def __init__(
        self,
        folder: nb.RunFolder,
        step: int,
        fork: Fork | None,
        fn: str,
        is_silent: bool,
        segment_bytes: int,
    ) -> None:
        self._lock: AttemptLock = folder.begin_attempt()
        self.number = self._lock.attempt
        self.now_ns = (1 + self.number) * 1_000_000 * SECOND_NS
        self.place = Place()
        self.place.move(stage="train", step=step if fn != "fit" else 0)
        identity = LogIdentity(folder.info.id, self.number)
        store = folder.store(self.number)
        self.writer = LogWriter(store, identity, self.place, segment_bytes, lambda: self.now_ns)
        if not is_silent:
            run = folder.info.id
            self.add(nb.RunStarted, run, self.number, fn, self.now_ns, {}, {}, fork)
        self.place.move(step=step, epoch=step // STEPS_PER_EPOCH)

    @property
    def last_seq(self) -> int:
        """The last event so far."""
        return self.writer.next_seq() - 1

    def fork(self) -> Fork:
        """A checkpoint here, to resume from."""
        return Fork(self.number, self.last_seq, "checkpoints/x")

    def add(self, kind: Any, *fields: Any) -> None:
        """Record any event."""
        self.writer.append(self.writer.event(kind, *fields, source="module"))

    def hook(self, name: str) -> None:
        """Record a hook."""
        self.writer.add_hook(name, self.now_ns, 1_000)

    def put(self, name: str, value: float, destinations: Sequence[str] = ("loggers",)) -> None:
        """Record a metric."""
        self.add(nb.Put, name, value, tuple(destinations), "")

    def step(self) -> None:
        """A second passes: a hook, and the metrics loss and lr."""
        self.now_ns += SECOND_NS
        step = self.place.step + 1
        self.place.complete_step(step)
        self.hook("on_train_batch_end")
        self.put("loss", step + self.number / 10)
        self.put("lr", 0.5)
        if step % STEPS_PER_EPOCH == 0:
            self.place.move(stage="validate")
            self.hook("on_validation_end")
            self.put("val_loss", float(step))
            self.place.move(stage="train", epoch=self.place.epoch + 1)
        self.writer.flush()

    def steps(self, number: int) -> "RecordedAttempt":
        """So many of them."""
        for _ in range(number):
            self.step()
        return self

    def end(self) -> None:
        """End in good order."""
        self.add(nb.RunEnded, "completed", "")
        self.writer.close()
        self._lock.release()

    def abandon(self) -> None:
        """End as a killed process does."""
        self.writer.flush()
        self._lock.release()
