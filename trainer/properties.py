"""Properties of a Trainer: its progress, its participants and its metrics."""

import html
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from difflib import get_close_matches
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch

from ..actors.accelerators import accelerator_of
from ..actors.callback import Callback
from ..actors.callbacks.checkpoint import Checkpoint
from ..actors.callbacks.early_stopping import EarlyStopping
from ..actors.callbacks.prediction_writer import BasePredictionWriter
from ..actors.callbacks.progress_bar import ProgressBarBase
from ..actors.callbacks.run_checkpoint import RunCheckpoint
from ..actors.collectives import Collectives
from ..actors.device import Device
from ..actors.former_arguments import FORMER_NAMES, default_of_former
from ..actors.optimization.lightning_optimizer import LightningOptimizer
from ..actors.optimization.lr_schedulers import LRSchedulerConfig
from ..actors.optimization.progress import Progress
from ..actors.ranks.world import World
from ..actors.wiring import Wiring
from ..bus.actor import Actor
from ..bus.system.paths import FolderText
from ..bus.system.streams import notify_once
from ..loggers.logger import Logger
from ..loops import FitLoop
from ..loops.optimizer import OptimizerLoop
from ..sinks.logger_sink import LoggerSink
from ..sinks.progress_bar import ProgressBar
from ..sinks.silent_logger import SilentLogger
from ..sinks.sink import Sink
from .assigned import Assigned, limit_of, validate_after, validate_every
from .data_properties import DataProperties
from .for_loggers import ExperimentSink
from .participants import Participants
from .stages import Function


class TrainerProperties(DataProperties):
    """Reads the parts of a trainer; holds no state of its own.

    Attributes:
        world: which of the processes that train together this one is.
        collectives: what users have the processes exchange; ``strategy`` reads as this.
        epoch_counter: the FitLoop that ``fit`` runs; None if the user's own loop contains none.
        max_epochs_given, max_steps_given: the Trainer's arguments, for such a loop.
        silent_loggers: replace loggers that were given but are to write nothing.
        participants: callbacks, actors and sinks.
        wiring: who handles which hook.
        default_root_dir, recording, strict_recording, control, drain_timeout, hang_timeout,
            inference_mode, record_system, record_console, enable_autolog_hparams,
            record_code_diff: arguments of the Trainer.
        config: the arguments that the trainer was made with, for the log.
        announced_iterations: number of iterations of loops that show theirs.
    """

    _arguments: dict[str, Any]  # what the Trainer was made with
    _defaults: dict[str, Any]  # of its arguments, as plain values
    config: dict[str, Any]
    world: World
    collectives: Collectives
    epoch_counter: FitLoop | None
    max_epochs_given: int | None
    max_steps_given: int
    silent_loggers: Sequence[SilentLogger]
    participants: Participants
    wiring: Wiring
    default_root_dir: FolderText
    recording: Literal["all", "metrics", "off"]
    strict_recording: bool
    record_system: bool | float
    record_console: bool
    record_code_diff: bool
    control: bool
    drain_timeout: float
    hang_timeout: float | None
    inference_mode: bool
    enable_autolog_hparams: bool
    announced_iterations: int
    _shown_epoch: int | None = None
    _device_ids: list[int]

    if not TYPE_CHECKING:  # type checkers have to report unknown names

        def __getattr__(self, name: str) -> Any:
            """Return an argument that has no property of its own, as given; also one of 1.x."""
            arguments = self.__dict__.get("_arguments", {})
            if name in arguments:
                return arguments[name]
            if name in FORMER_NAMES and arguments:
                return self._given_formerly.get(name, default_of_former(name))
            if isinstance(own := getattr(type(self), name, None), property):
                return self._error_again(own, sys._getframe(1))
            known = {*arguments, *dir(self)}
            near = [] if name.startswith("_") else get_close_matches(name, sorted(known))
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise AttributeError(f"Trainer has no attribute {name!r}{hint}")

        def _error_again(self, own: property, reader: FrameType) -> Any:
            """Raise the error in a property, which Python has dropped: it runs once more for it.

            Properties that failed because they read this one raise the same, and run no more.
            """
            failed = self.__dict__.pop("_failed", None)
            if failed is not None and failed.made_fail(own):
                self.__dict__["_failed"] = _Failed(failed.error, reader, reader.f_lineno)
                raise failed.error
            try:
                return own.fget(self)
            except AttributeError as error:
                self.__dict__["_failed"] = _Failed(error, reader, reader.f_lineno)
                raise

    # -- where it is -------------------------------------------------------------------------

    @property
    def current_epoch(self) -> int:
        """Number of completed epochs, which is the index of the current one."""
        if self._shown_epoch is not None:
            return self._shown_epoch
        return self.place.epoch if self.epoch_counter is None else self.epoch_counter.current_epoch

    @contextmanager
    def showing_epoch(self, epoch: int) -> Iterator[None]:
        """Have ``current_epoch`` be another one within, for hooks of the user.

        Args:
            epoch: the epoch.
        """
        former, self._shown_epoch = self._shown_epoch, epoch
        try:
            yield
        finally:
            self._shown_epoch = former

    @property
    def global_step(self) -> int:
        """Number of completed steps of all optimizers: with two of them, a batch counts as two."""
        return self.optimization_progress.step.total.completed

    @property
    def should_stop(self) -> bool:
        """True if training ends at the next safe point, once min_epochs and min_steps are reached.

        Set it to True to stop training, to False to withdraw all requests to stop.
        """
        return self.stops.any_here

    @should_stop.setter
    def should_stop(self, value: bool) -> None:
        if value:
            self.stops.request("should_stop", "")
        else:
            self.stops.withdraw_all()

    @property
    def stop_reason(self) -> str:
        """Why training ends, for the log."""
        return self.stops.reason

    @stop_reason.setter
    def stop_reason(self, reason: str) -> None:
        self.stops.reason = reason

    def ask_to_stop(self, who: object, reason: str, alike: bool = False) -> None:
        """Request that training ends, as ``should_stop`` does.

        The same object can withdraw the request until min_epochs and min_steps are reached.

        Args:
            who: object that makes the request.
            reason: why training is to end, for the log.
            alike: all ranks make this request at the same place, so that they need not agree on it.
        """
        if alike:
            self.stops.add(id(who), reason)
        else:
            self.stops.request(id(who), reason)

    def agreed(self, what: str, value: Any) -> Any:
        """Return the value of rank 0, on all ranks, which call this at the same point.

        Args:
            what: what it is, for errors.
            value: plain data.
        """
        return self.group.broadcast(what, value)

    def withdraw_stop(self, who: object) -> None:
        """Withdraw the request that an object made with ``ask_to_stop``; others remain."""
        self.stops.withdraw(id(who))

    @property
    def may_stop(self) -> bool:
        """True once min_epochs and min_steps are reached."""
        return self.epoch_counter is None or self.epoch_counter.may_stop

    @property
    def has_time_limit(self) -> bool:
        """True if a Timer ends training, such as that of ``max_time``."""
        return self.participants.limits_time

    @property
    def training(self) -> bool:
        """True during the training stage of ``fit``."""
        return self.function == "fit" and self.place.stage == "train"

    @training.setter
    def training(self, value: bool) -> None:
        """Take what loops written for Lightning 1.x announce; each loop sets it when it runs."""

    @property
    def validating(self) -> bool:
        """True while validation runs, by itself or within ``fit``."""
        return self.place.stage == "validate" and self.function is not None

    @validating.setter
    def validating(self, value: bool) -> None:
        """Take what loops written for Lightning 1.x announce; each loop sets it when it runs."""

    @property
    def sanity_checking(self) -> bool:
        """True while validation runs as a sanity check before training."""
        return self.loaders.sanity_checking

    @property
    def testing(self) -> bool:
        """True while a test runs."""
        return self.function == "test"

    @testing.setter
    def testing(self, value: bool) -> None:
        """Take what loops written for Lightning 1.x announce; each loop sets it when it runs."""

    @property
    def predicting(self) -> bool:
        """True while prediction runs."""
        return self.function == "predict"

    @property
    def evaluating(self) -> bool:
        """True while validation or a test runs."""
        return self.validating or self.testing

    @property
    def is_last_batch(self) -> bool:
        """True if the current training batch is the last of its epoch."""
        return bool(getattr(self.epoch_loop, "is_last_batch", False))

    @property
    def epoch_loop(self) -> Any:
        """The loop over the batches of a training epoch; None if the user's own loop has none."""
        return None if self.epoch_counter is None else self.epoch_counter.epoch_loop

    @property
    def batch_progress(self) -> Progress | None:
        """The counters of an epoch's training batches; None if the user's own loop has none."""
        return getattr(self.epoch_loop, "batch_progress", None)

    @property
    def is_global_zero(self) -> bool:
        """True in the process of rank 0."""
        return self.world.is_global_zero

    @property
    def global_rank(self) -> int:
        """Rank of this process among all processes."""
        return self.world.rank

    @property
    def local_rank(self) -> int:
        """Rank of this process among those of this machine."""
        return self.world.local_rank

    @property
    def node_rank(self) -> int:
        """Index of this machine."""
        return self.world.node_rank

    @property
    def num_nodes(self) -> int:
        """Number of machines."""
        return self.world.num_nodes

    @property
    def world_size(self) -> int:
        """Number of processes."""
        return self.world.size

    @property
    def num_devices(self) -> int:
        """Number of devices of this machine that train, each in a process of its own."""
        return self.world.local_size

    @property
    def device_ids(self) -> list[int]:
        """Indices of the devices of this machine that train, each in a process of its own."""
        return list(self._device_ids)

    def _repr_html_(self) -> str:
        """Return the run for a notebook, as it is now; before it begins, the arguments given."""
        run = self.run_folder
        if run is not None:
            from ..bus.library.run import Run  # not needed to train

            return Run(run.path)._repr_html_()
        given = ", ".join(f"{name}={self.config[name]}" for name in sorted(self.changed_arguments))
        return f"<code>Trainer({html.escape(given)})</code> has not run yet"

    @property
    def log_dir(self) -> str | None:
        """Folder of the first logger, if it is a Logger, else of the run; None without either."""
        first = self.logger
        if isinstance(first, Logger):
            return first.log_dir or first.save_dir
        if self.run_folder:
            return str(self.run_folder.path)
        if self.function is None and self.recording != "off":
            notify_once(
                "nightbus: trainer.log_dir is None before the first run: it is the run's folder, "
                "which is made when the run begins"
            )
        return None

    @property
    def arguments(self) -> dict[str, Any]:
        """The Trainer's arguments as they hold, those with defaults included."""
        return self._arguments

    @property
    def changed_arguments(self) -> tuple[str, ...]:
        """Names of the Trainer's arguments that differ from their defaults."""
        return tuple(name for name, value in self.config.items() if value != self._defaults[name])

    def without_gradients(self) -> AbstractContextManager[Any]:
        """Return the context in which an evaluation runs."""
        if self.inference_mode and self.function != "fit":
            return torch.inference_mode()
        return torch.no_grad()

    # -- loops and limits --------------------------------------------------------------------

    def loop_of(self, function: Function) -> Any:
        """Return the loop that ``fit``, ``validate``, ``test`` or ``predict`` runs."""
        return getattr(self, f"{function}_loop")

    def find_epoch_counter(self) -> None:
        """Find the FitLoop, which counts epochs; it may be inside a loop that the user wrote."""
        fit_loops = (loop for loop in self.fit_loop.walk() if isinstance(loop, FitLoop))
        self.epoch_counter = next(fit_loops, None)

    @property
    def max_epochs(self) -> int:
        """Maximum number of epochs; -1 for no limit."""
        counter = self.epoch_counter
        found = self.max_epochs_given if counter is None else counter.max_epochs
        return -1 if found is None else int(found)

    @property
    def max_steps(self) -> int:
        """Maximum number of optimizer steps; -1 for no limit."""
        counter = self.epoch_counter
        return self.max_steps_given if counter is None else counter.max_steps

    @property
    def estimated_stepping_batches(self) -> float:
        """Number of optimizer steps that ``fit`` will take, as far as known; otherwise inf."""
        batches, epochs = self.loaders.num_training_batches, self.max_epochs
        if batches is None or epochs < 0:
            return self.max_steps if self.max_steps >= 0 else float("inf")
        steps: int = epochs * -(-batches // self.accumulate_grad_batches)
        return min(steps, self.max_steps) if self.max_steps >= 0 else steps

    @property
    def min_epochs(self) -> int | None:
        """Minimum number of epochs, until which a request to stop waits."""
        counter = self.epoch_counter
        return None if counter is None else counter.min_epochs

    @property
    def min_steps(self) -> int | None:
        """Minimum number of optimizer steps, until which a request to stop waits."""
        counter = self.epoch_counter
        return None if counter is None else counter.min_steps

    @property
    def is_accumulating(self) -> bool:
        """True between the batches whose gradients are accumulated for one optimizer step."""
        loops = self.fit_loop.walk()
        return any(isinstance(loop, OptimizerLoop) and loop.is_accumulating for loop in loops)

    # -- arguments that may be assigned ---------------------------------------------------------

    limit_train_batches = limit_of("train")
    limit_val_batches = limit_of("validate")
    limit_test_batches = limit_of("test")
    limit_predict_batches = limit_of("predict")
    val_check_interval = Assigned(validate_after)
    check_val_every_n_epoch = Assigned(validate_every)
    num_sanity_val_steps = Assigned(
        lambda trainer, value: trainer.loaders.set_sanity_steps(value),
        lambda trainer: steps if (steps := trainer.loaders.num_sanity_steps) >= 0 else float("inf"),
    )
    reload_dataloaders_every_n_epochs = Assigned(
        lambda trainer, value: trainer.loaders.reload_every(value)
    )
    log_every_n_steps = Assigned(
        lambda trainer, value: trainer.metrics.set_log_every_n_steps(value)
    )
    overfit_batches = Assigned()
    precision = Assigned()
    accelerator = Assigned(
        read=lambda trainer: accelerator_of(trainer.device.device, trainer.arguments["accelerator"])
    )
    devices = Assigned()
    strategy = Assigned(read=lambda trainer: trainer.collectives)
    max_time = Assigned()
    enable_progress_bar = Assigned()
    enable_model_summary = Assigned()
    multiple_trainloader_mode = Assigned()
    max_media_bytes = Assigned()
    barebones = Assigned()

    @property
    def precision_plugin(self) -> Device:
        """What gives steps their precision: ``scaler``, ``forward_context()``, ``precision``."""
        return self.device

    # -- optimizers --------------------------------------------------------------------------

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimizers, as ``configure_optimizers`` returned them."""
        return self.optimization.optimizers

    @optimizers.setter
    def optimizers(self, optimizers: list[torch.optim.Optimizer]) -> None:
        if self.function != "fit":
            self.optimization.hold_optimizers(optimizers)
            return
        self.optimization.replace_optimizers(optimizers)
        self.wiring.connect()  # how a step is made depends on them

    @property
    def lightning_optimizers(self) -> list[LightningOptimizer]:
        """The optimizers, as ``self.optimizers()`` returns them."""
        return self.optimization.lightning_optimizers

    @property
    def lr_scheduler_configs(self) -> list[LRSchedulerConfig]:
        """The learning-rate schedulers and their options."""
        return self.optimization.schedulers

    @lr_scheduler_configs.setter
    def lr_scheduler_configs(self, schedulers: list[LRSchedulerConfig]) -> None:
        self.optimization.replace_schedulers(schedulers)

    # -- metrics -----------------------------------------------------------------------------

    @property
    def callback_metrics(self) -> dict[str, torch.Tensor]:
        """Latest value of each metric, as tensors of shape ()."""
        return self.metrics.callback_metrics

    @property
    def progress_bar_metrics(self) -> dict[str, float]:
        """Latest value of each metric that the progress bar shows."""
        return self.metrics.progress_bar_metrics

    @property
    def logged_metrics(self) -> dict[str, torch.Tensor]:
        """Latest value of each metric that was sent to sinks."""
        return self.metrics.logged_metrics

    # -- participants ------------------------------------------------------------------------

    @property
    def callbacks(self) -> list[Callback]:
        """The callbacks, without those of the module's ``configure_callbacks``."""
        return self.participants.callbacks

    @callbacks.setter
    def callbacks(self, callbacks: list[Callback]) -> None:
        self.participants.callbacks = callbacks

    @property
    def actors(self) -> list[Actor]:
        """The actors that were given to the Trainer or attached."""
        return self.participants.actors

    @actors.setter
    def actors(self, actors: list[Actor]) -> None:
        self.participants.actors = actors

    @property
    def callbacks_in_order(self) -> list[Callback]:
        """All callbacks, including the module's; those that save checkpoints are last."""
        return self.participants.callbacks_in_order

    @property
    def saved_participants(self) -> list[Actor]:
        """Callbacks and actors, whose state a checkpoint contains."""
        return self.participants.saved

    @property
    def sinks(self) -> list[Sink]:
        """The sinks, without the progress bar."""
        return self.participants.sinks

    @sinks.setter
    def sinks(self, sinks: list[Sink]) -> None:
        self.participants.sinks = sinks

    @property
    def progress_bar(self) -> ProgressBar | None:
        """The progress bar, or None."""
        return self.participants.progress_bar

    @property
    def progress_bar_callback(self) -> ProgressBarBase | None:
        """The callback that sets the bar or draws one; None if there is no bar."""
        bars = (entry for entry in self.callbacks if isinstance(entry, ProgressBarBase))
        return next(bars, None)

    @property
    def logger(self) -> Any:
        """The first logger that a sink wraps, else the first sink; None if there is no sink."""
        return next(iter(self.loggers), None)

    @property
    def loggers(self) -> list[Any]:
        """The loggers that sinks wrap, then the other sinks.

        With ``fast_dev_run``, an object that accepts the calls of a logger and writes nothing.
        """
        given = [sink for sink in self.sinks if not isinstance(sink, ExperimentSink)]
        wrapped = [sink.logger for sink in given if isinstance(sink, LoggerSink)]
        others = [sink for sink in given if not isinstance(sink, LoggerSink)]
        return [*wrapped, *others] or list(self.silent_loggers)

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

    @property
    def checkpoint_extension(self) -> str:
        """What the names of the run's own checkpoints end in; mostly empty."""
        return (self.checkpoint_callback or Checkpoint).FILE_EXTENSION

    def run_saved(self, path: Path) -> None:
        """Take note of the run's newest checkpoint."""
        for callback in self.callbacks:
            if isinstance(callback, RunCheckpoint):
                callback.follow(path)
                callback.tell_loggers(self.loggers)

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print above the progress bar, in the process of rank 0 only.

        Args:
            *args: as for the built-in ``print``.
            **kwargs: as for the built-in ``print``.
        """
        if self.is_global_zero:
            print(*args, **kwargs)

    @property
    def writes_predictions_at_end(self) -> bool:
        """True if a callback needs all predictions at the end of the epoch."""
        return any(
            isinstance(callback, BasePredictionWriter) and callback.interval.on_epoch
            for callback in self.callbacks_in_order
        )


class _Failed(NamedTuple):
    """A property that failed, and where it was read."""

    error: AttributeError
    reader: FrameType
    line: int

    def made_fail(self, other: property) -> bool:
        """Return whether another property read this one, and went no further."""
        code = getattr(other.fget, "__code__", None)
        return self.reader.f_code is code and self.reader.f_lineno == self.line
