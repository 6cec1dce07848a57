"""Where training is, for whatever is recorded now."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from ..copies import StaysInRun
from ..events import Event, Put, Stage
from .hook_recorder import HookRecorder, recording_nothing
from .marks import (
    BATCH_IDX,
    DATALOADER_IDX,
    EPOCH,
    NUMBER,
    STAGE,
    STAGE_NUMBERS,
    STEP,
    Origin,
    PlaceMark,
)

E = TypeVar("E", bound=Event)


class Place(StaysInRun):
    """Where training is; loops move it, and every event carries it.

    Args:
        rank: the process.

    Attributes:
        rank: the process.
        stage, epoch, step, batch_idx, dataloader_idx: as in an event; changed by moving.
        hook: the hook that is running; empty between hooks.
        failed_batch_idx: which batch of another stage an exception left last; None for none.
        recorder: told of every move, and of what hooks do.
    """

    __slots__ = (
        "batch_idx",
        "dataloader_idx",
        "epoch",
        "failed_batch_idx",
        "hook",
        "rank",
        "recorder",
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
        self.recorder: HookRecorder = recording_nothing()

    def event(
        self, kind: type[E], seq: int, time_ns: int, step: int, source: str, *fields: Any
    ) -> E:
        """Make an event that arises here.

        Args:
            kind: its class.
            seq: its place in the order.
            time_ns: when it arose, on the log's clock.
            step: the step it belongs to, mostly this one.
            source: who it comes from.
            fields: those that only its class has.

        Returns:
            The event.
        """
        return kind(
            seq,
            time_ns,
            self.rank,
            self.stage,
            self.epoch,
            step,
            self.batch_idx,
            self.dataloader_idx,
            source,
            *fields,
        )

    def put_here(
        self,
        seq: int,
        time_ns: int,
        step: int,
        source: str,
        name: str,
        value: Any,
        destinations: tuple[str, ...],
    ) -> Put:
        """Make a Put that arises here, as ``event`` would; written out, that takes half the time.

        Args:
            seq: its place in the order.
            time_ns: when it arose, on the log's clock.
            step: the step it belongs to.
            source: who puts it.
            name: the metric.
            value: the number, or one that is still on its way.
            destinations: whom it is for.

        Returns:
            The event.
        """
        return Put(
            seq,
            time_ns,
            self.rank,
            self.stage,
            self.epoch,
            step,
            self.batch_idx,
            self.dataloader_idx,
            source,
            name,
            value,
            destinations,
            self.hook,
        )

    def origin(self) -> Origin:
        """Where training is, as traces begin with it."""
        stage = STAGE_NUMBERS[self.stage]
        return stage, self.epoch, self.step, self.batch_idx & NUMBER, self.dataloader_idx

    def as_tuple(self) -> PlaceMark:
        """Where training is, as a tuple."""
        return self.epoch, self.step, self.batch_idx, self.dataloader_idx, self.stage

    def begin_batch(self, batch_idx: int) -> None:
        """Move to a batch."""
        self.batch_idx = batch_idx
        self.recorder.record(batch_idx | BATCH_IDX)

    def complete_step(self, step: int) -> None:
        """Count an optimizer step."""
        self.step = step
        self.recorder.record(step | STEP)

    def move(
        self,
        *,
        stage: Stage | None = None,
        epoch: int | None = None,
        step: int | None = None,
        batch_idx: int | None = None,
        dataloader_idx: int | None = None,
    ) -> None:
        """Move in any way, outside the hot path.

        Args:
            stage: the new stage; None for the one it is, as for all of these.
            epoch: the new epoch.
            step: optimizer steps completed.
            batch_idx: the new batch, -1 for none.
            dataloader_idx: the new dataloader.
        """
        self.stage = self.stage if stage is None else stage
        self.epoch = self.epoch if epoch is None else epoch
        self.step = self.step if step is None else step
        self.batch_idx = self.batch_idx if batch_idx is None else batch_idx
        self.dataloader_idx = self.dataloader_idx if dataloader_idx is None else dataloader_idx
        if self.recorder.is_on:
            # In one call: a signal finds all of it recorded or nothing.
            self.recorder.trace.words.extend(
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
        """Be in another stage for a while, and then back where training was."""
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
