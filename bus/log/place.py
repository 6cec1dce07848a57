"""Where training is, for whatever is recorded now."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic_ns

from ..copies import StaysInRun
from ..events import Stage
from .marks import (
    BATCH_IDX,
    DATALOADER_IDX,
    EPOCH,
    NUMBER,
    STAGE,
    STAGE_NUMBERS,
    STEP,
    Notes,
    Origin,
    PlaceMark,
)

NEVER = sys.maxsize
AT_ONCE = -1


class Place(StaysInRun):
    """Where training is; loops move it, every event carries it, what happens there is noted.

    Attributes:
        rank: the process.
        stage, epoch, step, batch_idx, dataloader_idx: as in an event; changed by moving.
        hook: the hook that is running; empty between hooks.
        failed_batch_idx: which batch of another stage an exception left last; None for none.
        notes: what happened since they were taken up last; None while nothing is noted.
        note: adds a word to them: ``note(clock_ns() + mark)``; None while nothing is noted.
        clock_ns: monotonic clock, for what is noted.
        due_ns: when what happened should be written at a step's end.
        late_ns: when they should be taken up although a step goes on.
        on_late: takes them up then.
    """

    __slots__ = (
        "batch_idx",
        "clock_ns",
        "dataloader_idx",
        "due_ns",
        "epoch",
        "failed_batch_idx",
        "hook",
        "late_ns",
        "note",
        "notes",
        "on_late",
        "rank",
        "stage",
        "step",
    )

    def __init__(self, rank: int = 0) -> None:
        self.rank = rank
        self.stage: Stage = ""
        self.epoch = 0
        self.step = 0
        self.batch_idx = -1
        self.dataloader_idx = 0
        self.hook = ""
        self.failed_batch_idx: int | None = None
        self.notes: Notes | None = None
        self.note: Callable[[int], None] | None = None
        self.clock_ns: Callable[[], int] = monotonic_ns
        self.due_ns = self.late_ns = NEVER
        self.on_late: Callable[[], object] = _nothing

    def note_in(
        self,
        notes: Notes | None,
        clock_ns: Callable[[], int] = monotonic_ns,
        on_late: Callable[[], object] | None = None,
    ) -> None:
        """Note what happens from now on, or nothing with None.

        Args:
            notes: where.
            clock_ns: monotonic clock.
            on_late: takes the notes up when ``late_ns`` has come.
        """
        self.notes, self.note = notes, None
        self.due_ns = self.late_ns = NEVER
        self.on_late = on_late or _nothing
        if notes is not None:
            notes.origin, self.note = self.origin(), notes.words.append
            self.clock_ns = notes.clock(clock_ns)

    def note_now(self, mark: int) -> None:
        """Note what happens now, if anything is noted; outside the hot path."""
        if self.note is not None:
            self.note(self.clock_ns() + mark)

    def origin(self) -> Origin:
        """Where training is, as notes begin with it."""
        stage = STAGE_NUMBERS[self.stage]
        return stage, self.epoch, self.step, self.batch_idx & NUMBER, self.dataloader_idx

    def mark(self) -> PlaceMark:
        """Where training is, as a tuple."""
        return self.epoch, self.step, self.batch_idx, self.dataloader_idx, self.stage

    def begin_batch(self, batch_idx: int) -> None:
        """Move to a batch."""
        self.batch_idx = batch_idx
        if self.note is not None:
            self.note(batch_idx | BATCH_IDX)

    def complete_step(self, step: int) -> None:
        """Count an optimizer step."""
        self.step = step
        if self.note is not None:
            self.note(step | STEP)

    def move(
        self,
        *,
        stage: Stage | None = None,
        epoch: int | None = None,
        step: int | None = None,
        batch_idx: int | None = None,
        dataloader_idx: int | None = None,
    ) -> None:
        """Move in any way, outside the hot path."""
        self.stage = self.stage if stage is None else stage
        self.epoch = self.epoch if epoch is None else epoch
        self.step = self.step if step is None else step
        self.batch_idx = self.batch_idx if batch_idx is None else batch_idx
        self.dataloader_idx = self.dataloader_idx if dataloader_idx is None else dataloader_idx
        if self.notes is not None:
            self.notes.words.extend(
                (
                    STAGE | STAGE_NUMBERS[self.stage],
                    EPOCH | self.epoch,
                    STEP | self.step,
                    BATCH_IDX | self.batch_idx & NUMBER,
                    DATALOADER_IDX | self.dataloader_idx,
                )
            )

    @contextmanager
    def in_stage(self, stage: Stage) -> Iterator[None]:
        """Be in another stage for a while, and then back where we were."""
        before = self.stage, self.batch_idx, self.dataloader_idx
        self.move(stage=stage, batch_idx=-1)
        self.failed_batch_idx = None
        try:
            yield
        except BaseException:
            if self.failed_batch_idx is None:  # else of a stage within this one
                self.failed_batch_idx = self.batch_idx
            raise
        finally:
            self.move(stage=before[0], batch_idx=before[1], dataloader_idx=before[2])


def _nothing() -> None:
    """What is done with notes that nobody takes up."""
