"""Place: the place in training, which is recorded with each event."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from ..copies import StaysInRun
from ..events import Event, Put, Stage
from .codes import (
    BATCH_IDX,
    DATALOADER_IDX,
    EPOCH,
    NUMBER,
    STAGE,
    STAGE_NUMBERS,
    STEP,
    Origin,
    PlaceTuple,
)
from .hook_recorder import HookRecorder, recording_nothing

E = TypeVar("E", bound=Event)


class Place(StaysInRun):
    """The place in training, set by loops and copied to every event.

    Args:
        rank: the process.

    Attributes:
        rank: the process.
        stage, epoch, step, batch_idx, dataloader_idx: as in an event; set by the methods below.
        hook: the hook that is running; empty between hooks.
        failed_batch_idx: the batch of another stage that an exception left last; None for none.
        recorder: records changes of the place, and hooks.
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
        """Return an event at this place.

        Args:
            kind: its class.
            seq: its sequence number.
            time_ns: its time, on the log's clock.
            step: the step it belongs to, mostly this one.
            source: the name of the actor it comes from.
            fields: its own fields, in order.

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
        """Return a Put at this place; written out, because ``event`` takes twice the time.

        Args:
            seq: its sequence number.
            time_ns: its time, on the log's clock.
            step: the step it belongs to.
            source: the name of the actor it comes from.
            name: the metric.
            value: the number, or one still being copied.
            destinations: labels of its destinations.

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
        """Return the place as the origin of a trace."""
        stage = STAGE_NUMBERS[self.stage]
        return stage, self.epoch, self.step, self.batch_idx & NUMBER, self.dataloader_idx

    def as_tuple(self) -> PlaceTuple:
        """Return the place as a tuple."""
        return self.epoch, self.step, self.batch_idx, self.dataloader_idx, self.stage

    def begin_batch(self, batch_idx: int) -> None:
        """Set the batch."""
        self.batch_idx = batch_idx
        self.recorder.record(batch_idx | BATCH_IDX)

    def complete_step(self, step: int) -> None:
        """Set the number of optimizer steps completed."""
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
        """Set any part of the place; not for the hot path.

        Args:
            stage: the new stage; None for no change, as for all of these.
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
            # In one call, so that a signal handler finds all of it recorded or nothing.
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
        """Set another stage within, and restore the place at the end."""
        before = self.stage, self.batch_idx, self.dataloader_idx
        self.move(stage=stage, batch_idx=-1)
        self.failed_batch_idx = None
        try:
            yield
        except BaseException:
            if self.failed_batch_idx is None:  # otherwise of a stage within this one
                self.failed_batch_idx = self.batch_idx
            raise
        finally:
            self.move(stage=before[0], batch_idx=before[1], dataloader_idx=before[2])
