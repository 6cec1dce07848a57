"""What users read off a Trainer: where it is, who takes part, and what was logged."""

from abc import abstractmethod
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from ..actors.callback import Callback
from ..actors.callbacks.checkpoint import Checkpoint
from ..actors.callbacks.early_stopping import EarlyStopping
from ..actors.callbacks.prediction_writer import BasePredictionWriter
from ..actors.optimization.lightning_optimizer import LightningOptimizer
from ..actors.optimization.lr_schedulers import LRSchedulerConfig
from ..actors.optimization.progress import Progress
from ..bus.actor import Actor
from ..loops import FitLoop
from ..loops.context import LoopContext
from ..loops.optimizer import OptimizerLoop
from ..sinks.logger_sink import LoggerSink
from ..sinks.progress_bar import ProgressBar
from ..sinks.silent_logger import SilentLogger
from ..sinks.sink import Sink
from .assigned import Assigned, limit_of, validate_after, validate_every
from .participants import Participants
from .stages import Function


class TrainerProperties(LoopContext):
    """Reads the parts of a trainer, and keeps nothing itself.

    Attributes:
        epoch_counter: the FitLoop that ``fit`` runs; None where the user's own loop has none.
        max_epochs_given, max_steps_given: the Trainer's arguments, for such a loop.
        silent_loggers: stand where loggers were given that get nothing.
        participants: callbacks, actors and sinks.
        default_root_dir, recording, strict_recording, control, drain_timeout, hang_timeout:
            arguments of the Trainer.
        announced_iterations: how many there were of loops that show theirs.
    """

    _arguments: dict[str, Any]  # what the Trainer was made with
    epoch_counter: FitLoop | None
    max_epochs_given: int | None
    max_steps_given: int
    silent_loggers: Sequence[SilentLogger]
    participants: Participants
    default_root_dir: Path
    recording: Literal["all", "metrics", "off"]
    strict_recording: bool
    control: bool
    drain_timeout: float
    hang_timeout: float | None
    announced_iterations: int

    if not TYPE_CHECKING:  # for which a name that is not there is an error

        def __getattr__(self, name: str) -> Any:
            """An argument of the Trainer that has no property of its own, as it was given."""
            arguments = self.__dict__.get("_arguments", {})
            if name in arguments:
                return arguments[name]
            near = [] if name.startswith("_") else get_close_matches(name, [*arguments, *dir(self)])
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise AttributeError(f"Trainer has no attribute {name!r}{hint}")

    # -- where it is -------------------------------------------------------------------------

    @property
    @abstractmethod
    def function(self) -> Function | None:
        """What runs: ``fit``, ``validate``, ``test`` or ``predict``; None when nothing does."""

    @property
    def current_epoch(self) -> int:
        """Epochs completed; the first is 0."""
        return self.place.epoch if self.epoch_counter is None else self.epoch_counter.current_epoch

    @property
    def global_step(self) -> int:
        """Optimizer steps completed, of all optimizers together: with two of them, a batch counts
        for two.
        """
        return self.optimization_progress.step.total.completed

    @property
    def should_stop(self) -> bool:
        """Whether training ends at the next safe point, once min_epochs and min_steps are reached.
        Set it to have that; False takes back whatever was asked.
        """
        return self.stops.any

    @should_stop.setter
    def should_stop(self, value: bool) -> None:
        if value:
            self.stops.add("should_stop", "")
        else:
            self.stops.clear()

    @property
    def stop_reason(self) -> str:
        """Why it ends, for the log."""
        return self.stops.reason

    @stop_reason.setter
    def stop_reason(self, reason: str) -> None:
        self.stops.reason = reason

    def ask_to_stop(self, who: object, reason: str) -> None:
        """Have training end, as ``should_stop`` does, unless the same object withdraws that before
        min_epochs and min_steps are reached.

        Args:
            who: asks.
            reason: for the log.
        """
        self.stops.add(id(who), reason)

    def withdraw_stop(self, who: object) -> None:
        """Take back what ``ask_to_stop`` asked for; what others asked for stays."""
        self.stops.withdraw(id(who))

    @property
    def may_stop(self) -> bool:
        """Whether min_epochs and min_steps are reached."""
        return self.epoch_counter is None or self.epoch_counter.may_stop

    @property
    def training(self) -> bool:
        """Whether a training batch is worked on, or could be."""
        return self.function == "fit" and self.place.stage == "train"

    @property
    def validating(self) -> bool:
        """Whether validation runs, by itself or within fit."""
        return self.place.stage == "validate" and self.function is not None

    @property
    def sanity_checking(self) -> bool:
        """Whether the validation before training runs."""
        return self.loaders.sanity_checking

    @property
    def testing(self) -> bool:
        """Whether a test runs."""
        return self.function == "test"

    @property
    def predicting(self) -> bool:
        """Whether prediction runs."""
        return self.function == "predict"

    @property
    def evaluating(self) -> bool:
        """Whether validation or a test runs."""
        return self.validating or self.testing

    @property
    def is_last_batch(self) -> bool:
        """Whether the training batch is the epoch's last."""
        return bool(getattr(self.epoch_loop, "is_last_batch", False))

    @property
    def epoch_loop(self) -> Any:
        """The loop of a training epoch's batches; None where the user's own loop has none."""
        return None if self.epoch_counter is None else self.epoch_counter.epoch_loop

    @property
    def batch_progress(self) -> Progress | None:
        """Counts the training batches of an epoch; None where a loop of the user's does not."""
        return getattr(self.epoch_loop, "batch_progress", None)

    @property
    def is_global_zero(self) -> bool:
        """Whether this is the first process."""
        return self.place.rank == 0

    @property
    def global_rank(self) -> int:
        """Which process this is."""
        return self.place.rank

    @property
    def local_rank(self) -> int:
        """Which process of this machine this is."""
        return 0

    @property
    def node_rank(self) -> int:
        """Which machine this is."""
        return 0

    @property
    def num_nodes(self) -> int:
        """How many machines there are."""
        return 1

    @property
    def world_size(self) -> int:
        """How many processes there are."""
        return 1

    @property
    def num_devices(self) -> int:
        """How many devices this process trains on."""
        return 1

    @property
    def device_ids(self) -> list[int]:
        """Their numbers."""
        return [self.device.device.index or 0]

    @property
    def log_dir(self) -> str | None:
        """The run's folder."""
        return str(self.run_folder.path) if self.run_folder else None

    # -- loops and limits --------------------------------------------------------------------

    def loop_of(self, function: Function) -> Any:
        """The loop that ``fit`` runs, or one of the others."""
        return getattr(self, f"{function}_loop")

    def find_epoch_counter(self) -> None:
        """The FitLoop, which counts epochs, may be within a loop that the user wrote."""
        fit_loops = (loop for loop in self.fit_loop.walk() if isinstance(loop, FitLoop))
        self.epoch_counter = next(fit_loops, None)

    @property
    def max_epochs(self) -> int | None:
        """At most so many epochs."""
        counter = self.epoch_counter
        return self.max_epochs_given if counter is None else counter.max_epochs

    @property
    def max_steps(self) -> int:
        """At most so many optimizer steps; -1 for no limit."""
        counter = self.epoch_counter
        return self.max_steps_given if counter is None else counter.max_steps

    @property
    def estimated_stepping_batches(self) -> float:
        """Optimizer steps that fit will take, as far as it can be known; inf when it cannot."""
        batches, epochs = self.num_training_batches, self.max_epochs
        if batches is None or epochs is None:
            return self.max_steps if self.max_steps >= 0 else float("inf")
        steps: int = epochs * -(-batches // self.accumulate_grad_batches)
        return min(steps, self.max_steps) if self.max_steps >= 0 else steps

    @property
    def min_epochs(self) -> int | None:
        """A stop is not honoured before so many epochs."""
        counter = self.epoch_counter
        return None if counter is None else counter.min_epochs

    @property
    def min_steps(self) -> int | None:
        """A stop is not honoured before so many optimizer steps."""
        counter = self.epoch_counter
        return None if counter is None else counter.min_steps

    @property
    def is_accumulating(self) -> bool:
        """Whether gradients of a step to come are there: an accumulation has begun."""
        loops = self.fit_loop.walk()
        return any(isinstance(loop, OptimizerLoop) and loop.is_accumulating for loop in loops)

    # -- arguments that may be assigned ---------------------------------------------------------

    limit_train_batches = limit_of("train")
    limit_val_batches = limit_of("validate")
    limit_test_batches = limit_of("test")
    limit_predict_batches = limit_of("predict")
    val_check_interval = Assigned(validate_after)
    check_val_every_n_epoch = Assigned(validate_every)
    num_sanity_val_steps = Assigned(lambda trainer, value: trainer.loaders.set_sanity_steps(value))
    reload_dataloaders_every_n_epochs = Assigned(
        lambda trainer, value: trainer.loaders.reload_every(value)
    )
    log_every_n_steps = Assigned(lambda trainer, value: trainer.metrics.hand_on_every(value))
    overfit_batches = Assigned()
    precision = Assigned()
    accelerator = Assigned()
    devices = Assigned()
    max_time = Assigned()
    enable_progress_bar = Assigned()
    enable_model_summary = Assigned()
    multiple_trainloader_mode = Assigned()
    max_media_bytes = Assigned()

    # -- data --------------------------------------------------------------------------------

    @property
    def train_dataloader(self) -> Any:
        """The loader training reads."""
        return self.loaders.training

    @property
    def val_dataloaders(self) -> list[Any]:
        """The loaders validation reads."""
        return self.loaders.evaluation("validate")

    @property
    def test_dataloaders(self) -> list[Any]:
        """The loaders a test reads."""
        return self.loaders.evaluation("test")

    @property
    def predict_dataloaders(self) -> list[Any]:
        """The loaders prediction reads."""
        return self.loaders.evaluation("predict")

    def reset_train_dataloader(self) -> None:
        """Ask for the training loader anew before it is read next."""
        self.loaders.forget("train")

    def reset_val_dataloader(self) -> None:
        """Ask for the validation loaders anew before they are read next."""
        self.loaders.forget("validate")

    def reset_test_dataloader(self) -> None:
        """Ask for the test loaders anew before they are read next."""
        self.loaders.forget("test")

    def reset_predict_dataloader(self) -> None:
        """Ask for the prediction loaders anew before they are read next."""
        self.loaders.forget("predict")

    @property
    def num_training_batches(self) -> int | None:
        """Batches of an epoch; None when the loader cannot say."""
        return self.loaders.num_training_batches

    @property
    def num_val_dataloaders(self) -> int:
        """How many loaders validation reads."""
        return len(self.loaders.evaluation("validate"))

    @property
    def num_val_batches(self) -> list[int | None]:
        """Batches of each validation loader."""
        return self.loaders.limits("validate")

    @property
    def num_test_batches(self) -> list[int | None]:
        """Batches of each test loader."""
        return self.loaders.limits("test")

    @property
    def num_predict_batches(self) -> list[int | None]:
        """Batches of each prediction loader."""
        return self.loaders.limits("predict")

    # -- optimizers --------------------------------------------------------------------------

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimizers, as ``configure_optimizers`` returned them."""
        return self.optimization.optimizers

    @optimizers.setter
    def optimizers(self, optimizers: list[torch.optim.Optimizer]) -> None:
        self.optimization.optimizers = optimizers

    @property
    def lightning_optimizers(self) -> list[LightningOptimizer]:
        """The optimizers, as ``self.optimizers()`` gives them."""
        return self.optimization.lightning_optimizers

    @property
    def lr_scheduler_configs(self) -> list[LRSchedulerConfig]:
        """The learning-rate schedulers, and how each is used."""
        return self.optimization.schedulers

    @lr_scheduler_configs.setter
    def lr_scheduler_configs(self, schedulers: list[LRSchedulerConfig]) -> None:
        self.optimization.schedulers = schedulers

    # -- metrics -----------------------------------------------------------------------------

    @property
    def callback_metrics(self) -> dict[str, torch.Tensor]:
        """Latest value of each metric, as tensors of shape ()."""
        return self.metrics.callback_metrics

    @property
    def progress_bar_metrics(self) -> dict[str, float]:
        """Latest value of each metric in the progress bar."""
        return self.metrics.progress_bar_metrics

    @property
    def logged_metrics(self) -> dict[str, torch.Tensor]:
        """Latest value of each metric that sinks got."""
        return self.metrics.logged_metrics

    # -- who takes part ----------------------------------------------------------------------

    @property
    def callbacks(self) -> list[Callback]:
        """The callbacks, without those that the module brings."""
        return self.participants.callbacks

    @callbacks.setter
    def callbacks(self, callbacks: list[Callback]) -> None:
        self.participants.callbacks = callbacks

    @property
    def actors(self) -> list[Actor]:
        """The actors, in the step and beside it."""
        return self.participants.actors

    @actors.setter
    def actors(self, actors: list[Actor]) -> None:
        self.participants.actors = actors

    @property
    def callbacks_in_order(self) -> list[Callback]:
        """All callbacks, those of the module too; those that save checkpoints are last."""
        return self.participants.callbacks_in_order

    @property
    def saved_participants(self) -> list[Actor]:
        """Those whose state a checkpoint holds, besides module, datamodule and loops."""
        return self.participants.saved

    @property
    def sinks(self) -> list[Sink]:
        """Where events go."""
        return self.participants.sinks

    @sinks.setter
    def sinks(self, sinks: list[Sink]) -> None:
        self.participants.sinks = sinks

    @property
    def progress_bar(self) -> ProgressBar | None:
        """The progress bar, or None."""
        return self.participants.progress_bar

    @property
    def progress_bar_callback(self) -> ProgressBar | None:
        """The progress bar, or None."""
        return self.participants.progress_bar

    @property
    def profiler(self) -> None:
        """There is none: every hook's time is in the log."""
        return None

    @property
    def logger(self) -> Any:
        """The first sink, or None; if that wraps a logger of Lightning, the logger."""
        return next(iter(self.loggers), None)

    @property
    def loggers(self) -> list[Any]:
        """The sinks; for those that wrap a logger of Lightning, the logger. With ``fast_dev_run``,
        which writes nothing, something that takes what a logger does.
        """
        found = [sink.logger if isinstance(sink, LoggerSink) else sink for sink in self.sinks]
        return found or list(self.silent_loggers)

    @property
    def checkpoint_callbacks(self) -> list[Checkpoint]:
        """The callbacks that save checkpoints."""
        return [entry for entry in self.callbacks_in_order if isinstance(entry, Checkpoint)]

    @property
    def checkpoint_callback(self) -> Checkpoint | None:
        """The first callback that saves checkpoints, or None."""
        return next(iter(self.checkpoint_callbacks), None)

    @property
    def early_stopping_callbacks(self) -> list[EarlyStopping]:
        """The callbacks that stop training by a metric."""
        return [entry for entry in self.callbacks_in_order if isinstance(entry, EarlyStopping)]

    @property
    def early_stopping_callback(self) -> EarlyStopping | None:
        """The first callback that stops training by a metric, or None."""
        return next(iter(self.early_stopping_callbacks), None)

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print, from the first process only; above the progress bar."""
        if self.is_global_zero:
            print(*args, **kwargs)

    @property
    def writes_predictions_at_end(self) -> bool:
        """Whether a callback wants all predictions at the epoch's end."""
        return any(
            isinstance(callback, BasePredictionWriter) and callback.writes_epochs
            for callback in self.callbacks_in_order
        )
