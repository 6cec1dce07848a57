"""TrainerState: which function a trainer runs, in which stage, and how it ended."""

from collections.abc import Callable
from enum import StrEnum, nonmember

from ..bus.log.place import Place


class TrainerStatus(StrEnum):
    """Whether a trainer runs, and how its last function ended."""

    INITIALIZING = "initializing"
    """It has run nothing yet."""
    RUNNING = "running"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"
    """An exception or a signal ended it."""

    @property
    def stopped(self) -> bool:
        """True if a function has ended, in good order or not."""
        return self in (TrainerStatus.FINISHED, TrainerStatus.INTERRUPTED)


class TrainerFn(StrEnum):
    """The functions of a trainer; each equals its name, as ``setup`` gets it as ``stage``."""

    FITTING = "fit"
    VALIDATING = "validate"
    TESTING = "test"
    PREDICTING = "predict"
    TUNING = nonmember("tune")
    """What Lightning 1.x calls a Tuner's trials, to compare with; here they are fits."""


class RunningStage(StrEnum):
    """What a trainer does: within ``fit``, it trains, validates, or runs the sanity check."""

    TRAINING = "train"
    SANITY_CHECKING = "sanity_check"
    VALIDATING = "validate"
    TESTING = "test"
    PREDICTING = "predict"
    TUNING = nonmember("tune")
    """As in TrainerFn."""

    @property
    def evaluating(self) -> bool:
        """True for validation, the sanity check and a test."""
        return self not in (RunningStage.TRAINING, RunningStage.PREDICTING)

    @property
    def dataloader_prefix(self) -> str:
        """The first part of the name of the hook that returns the stage's dataloaders."""
        is_validation = self in (RunningStage.VALIDATING, RunningStage.SANITY_CHECKING)
        return "val" if is_validation else self.value


class TrainerState:
    """What ``trainer.state`` says; it goes on to say it while the trainer runs.

    Args:
        place: returns where training is.

    Attributes:
        status: whether the trainer runs, and how its last function ended.
        fn: the function that runs or ran last; None before the first.
    """

    def __init__(self, place: Callable[[], Place]) -> None:
        self._place = place
        self.status = TrainerStatus.INITIALIZING
        self.fn: TrainerFn | None = None

    @property
    def stage(self) -> RunningStage | None:
        """What the trainer does at the moment; None while it runs nothing."""
        stage = self._place().stage
        return RunningStage(stage) if stage else None

    @property
    def finished(self) -> bool:
        """True if the last function ended in good order."""
        return self.status is TrainerStatus.FINISHED

    @property
    def stopped(self) -> bool:
        """True if the last function has ended, in good order or not."""
        return self.status.stopped

    def begin(self, function: str) -> None:
        """Note that a function begins."""
        self.fn, self.status = TrainerFn(function), TrainerStatus.RUNNING

    def __repr__(self) -> str:
        return f"TrainerState(status={self.status!r}, fn={self.fn!r}, stage={self.stage!r})"
