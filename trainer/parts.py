"""TrainerParts: what opening, running and ending a run needs of a trainer."""

import os
from abc import abstractmethod
from typing import Any

from ..bus.actor import Actor
from .enrolment import Enrolment
from .for_loggers import ForLoggers
from .given import Given
from .open_run import OpenRun
from .properties import TrainerProperties
from .safe_points import SafePoints
from .stages import Function


class TrainerParts(TrainerProperties):
    """The parts of a trainer that have to do with its runs, and what it does for these.

    Attributes:
        open_run: None when nothing runs.
        safe_points: what happens between two steps.
        enrolment: makes everyone who takes part an actor of the run.
        for_loggers: records what sinks are given as if they were loggers.
        config: the arguments that the trainer was made with, for the log.
        run_name: given by the user; else the module's class is the run's name.
        ckpt_path: what the function that runs was given.
        interrupted: Ctrl-C ended the last run.
        predict_loop: what ``predict`` runs.
        fast_dev_run, deterministic, benchmark, detect_anomaly, prepare_data_per_node: arguments of
            the Trainer.
    """

    open_run: OpenRun | None
    safe_points: SafePoints
    enrolment: Enrolment
    for_loggers: ForLoggers
    config: dict[str, Any]
    run_name: str | None
    ckpt_path: str | os.PathLike[str] | None
    interrupted: bool
    fast_dev_run: bool | int
    deterministic: Any
    benchmark: bool
    detect_anomaly: bool
    prepare_data_per_node: bool
    predict_loop: Any

    @property
    def function(self) -> Function | None:
        """What runs: ``fit``, ``validate``, ``test`` or ``predict``; None when nothing does."""
        return None if self.open_run is None else self.open_run.function

    @abstractmethod
    def adopt(self, given: Given) -> None:
        """Take what a run is given, checked before anything is made."""

    @abstractmethod
    def carry_on(self, opened: OpenRun) -> None:
        """Go on in a run that was opened."""

    @abstractmethod
    def begin_max_time(self) -> None:
        """Let max_time, if there is one, begin now."""

    @abstractmethod
    def setup_optimizers(self) -> None:
        """Ask the module for its optimizers, and get ready to step them."""

    @abstractmethod
    def take_in(self, actor: Actor) -> None:
        """Have an actor that came late take part in the run."""
