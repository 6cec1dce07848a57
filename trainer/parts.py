"""TrainerParts: the attributes of a trainer that opening, running and ending a run need."""

import os
import signal
from abc import abstractmethod
from typing import Any

from ..bus.actor import Actor
from ..bus.runs.run_folder import RunInfo
from .call_arguments import CallArguments
from .enrolment import Enrolment
from .for_loggers import ForLoggers
from .open_run import OpenRun
from .properties import TrainerProperties
from .safe_points import SafePoints
from .stages import Function
from .state import TrainerState


class TrainerParts(TrainerProperties):
    """Declares the parts of a trainer that concern its runs.

    Attributes:
        state: the function that runs or ran last, its stage, and how it ended.
        open_run: the run that is open; None if nothing runs.
        safe_points: handle signals, commands and changes of the participants between two steps.
        enrolment: makes all participants actors of the run.
        for_loggers: records the metrics and hyperparameters of sinks that are used as loggers.
        run_name: given by the user; None names runs after the module's class.
        noted: tags, notes and group of its runs.
        ckpt_path: argument of the function that runs, and then the path that it means.
        interrupted: True if Ctrl-C ended the last run.
        predict_loop: the loop that ``predict`` runs.
        fast_dev_run, deterministic, detect_anomaly, prepare_data_per_node,
            sync_batchnorm: arguments of the Trainer.
        has_default_epochs: max_epochs is a default of which no fit has told yet.
    """

    state: TrainerState
    open_run: OpenRun | None
    safe_points: SafePoints
    enrolment: Enrolment
    for_loggers: ForLoggers
    run_name: str | None
    noted: RunInfo
    ckpt_path: str | os.PathLike[str] | None
    interrupted: bool
    fast_dev_run: bool | int
    deterministic: Any
    detect_anomaly: bool
    prepare_data_per_node: bool
    sync_batchnorm: bool
    has_default_epochs: bool
    predict_loop: Any

    @property
    def function(self) -> Function | None:
        """The running function: ``fit``, ``validate``, ``test`` or ``predict``; None if none is."""
        return None if self.open_run is None else self.open_run.function

    @property
    def received_sigterm(self) -> bool:
        """True if SIGTERM has come during the function that runs, or the last one."""
        signals = self.safe_points.signals
        return signals.preempted and signals.preempted_by is signal.SIGTERM

    @abstractmethod
    def note_checkpoint(self, function: Function, path: str | None) -> None:
        """Take note of the checkpoint that a function begins with.

        Args:
            function: the function.
            path: the checkpoint; None for none.
        """

    @abstractmethod
    def set_arguments(self, given: CallArguments) -> None:
        """Check and keep the arguments of a run, before anything is created for it."""

    @abstractmethod
    def join_ranks(self) -> None:
        """Join the other ranks, and start them before if no launcher has."""

    @abstractmethod
    def enter_run(self, opened: OpenRun) -> None:
        """Use the bus and the place of a run that was opened."""

    @abstractmethod
    def setup_optimizers(self) -> None:
        """Call ``configure_optimizers`` and prepare to step the optimizers that it returns."""

    @abstractmethod
    def enrol(self, actor: Actor) -> None:
        """Make an actor that was added during the run a part of it."""
