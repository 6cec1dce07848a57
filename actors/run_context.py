"""RunContext: what the parts of a trainer know of the current run."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

from ..bus.actor import Actor
from ..bus.bus import Bus
from ..bus.log.place import Place
from ..bus.routes import Routes
from ..bus.runs.run_folder import RunFolder
from .callback import Callback
from .datamodule import LightningDataModule
from .device import Device
from .loaders import Loaders
from .metrics.metrics import Metrics
from .module import LightningModule
from .optimization.progress import OptimizationProgress, Progress
from .profilers.profiler import Profiler
from .ranks.group import Group
from .ranks.strategy import DDPStrategy


class RunContext(ABC):
    """The state that the parts of a trainer share; only the trainer writes to it.

    A part gets the context and the parts that it uses, never the trainer.

    Attributes:
        place: the place in training; each run has one of its own, as it has a bus.
        bus: carries the events and commands of the run.
        routes: call the handlers of hooks.
        group: the ranks that train together; of this process alone until a run joins others.
        ddp: how they train together.
        device: the device of training, and its precision.
        profiler: measures what hooks take.
        loaders: the dataloaders, and how many batches of each are read.
        metrics: records what is put and logged.
        optimization_progress: counts the steps of all runs of the trainer.
        datamodule: None for a run with dataloaders of its own.
        fit_loop: the loop that ``fit`` runs, which a user may have written.
        run_folder: None if nothing is kept.
        attempt: the number of the run's attempt; -1 before there is one.
        enable_checkpointing: the run is saved.
        accumulate_grad_batches: batches whose gradients make a step.
        gradient_clip_val: largest norm or absolute value of gradients; None or 0 for no clipping.
        gradient_clip_algorithm: ``norm`` or ``value``; None for ``norm``.
        is_training_under_way: ``fit`` has begun its first epoch, and has not ended.
        paused: steps wait for Resume or Stop.
    """

    place: Place
    bus: Bus
    routes: Routes
    group: Group
    ddp: DDPStrategy
    device: Device
    profiler: Profiler
    loaders: Loaders
    metrics: Metrics
    optimization_progress: OptimizationProgress
    datamodule: LightningDataModule | None
    run_folder: RunFolder | None
    attempt: int
    enable_checkpointing: bool
    accumulate_grad_batches: int
    gradient_clip_val: float | None
    gradient_clip_algorithm: Literal["norm", "value"] | None
    is_training_under_way: bool
    paused: bool

    @property
    @abstractmethod
    def lightning_module(self) -> LightningModule:
        """The module that runs, or ran last."""

    @property
    @abstractmethod
    def fit_loop(self) -> Any:
        """The loop that ``fit`` runs."""

    @property
    @abstractmethod
    def batch_progress(self) -> Progress | None:
        """Counts of the training batches of an epoch; None for a user's loop that keeps none."""

    @property
    @abstractmethod
    def callbacks_in_order(self) -> Sequence[Callback]:
        """All callbacks, including those of the module; those that save checkpoints are last."""

    @property
    @abstractmethod
    def actors(self) -> Sequence[Actor]:
        """The actors that the trainer was given."""

    @property
    @abstractmethod
    def saved_participants(self) -> Sequence[Actor]:
        """Actors whose state a checkpoint holds, besides module, datamodule and loops."""

    @property
    @abstractmethod
    def current_epoch(self) -> int:
        """Epochs completed; the first is 0."""

    @abstractmethod
    def showing_epoch(self, epoch: int) -> AbstractContextManager[None]:
        """Have ``current_epoch`` be another one within, for hooks of the user.

        Args:
            epoch: the epoch.
        """

    @property
    @abstractmethod
    def global_step(self) -> int:
        """Optimizer steps completed, of all optimizers together."""

    @property
    @abstractmethod
    def training(self) -> bool:
        """True if a training batch is being processed, or could be."""

    @property
    @abstractmethod
    def is_accumulating(self) -> bool:
        """True if there are gradients for a step to come, because an accumulation has begun."""

    @property
    @abstractmethod
    def checkpoint_extension(self) -> str:
        """What the names of the run's own checkpoints end in; mostly empty."""

    @abstractmethod
    def run_saved(self, path: Path) -> None:
        """Take note of the run's newest checkpoint, which is complete; from any thread.

        Args:
            path: the checkpoint, in the run's folder.
        """

    @abstractmethod
    def begin_at(self, epochs: int, steps: int) -> None:
        """Continue where another library had completed some epochs and optimizer steps.

        Args:
            epochs: epochs completed.
            steps: optimizer steps completed.
        """
