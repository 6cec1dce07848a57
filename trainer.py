"""The Trainer: puts loops, module, data, actors and sinks on one bus and runs them.

It is the one place, besides the facade and the command line, that knows all of the package.
"""

import inspect
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from .actors.arguments import (
    as_plain,
    check_at_least,
    check_choice,
    check_devices,
    check_seconds,
    parse_max_time,
    refuse_unknown,
)
from .actors.callback import Callback
from .actors.callbacks.checkpoint import Checkpoint
from .actors.callbacks.model_summary import ModelSummary
from .actors.callbacks.prediction_writer import BasePredictionWriter
from .actors.checkpoint_files import find_checkpoint
from .actors.checkpointer import Checkpointer
from .actors.combined_loader import CombineMode
from .actors.datamodule import LightningDataModule
from .actors.device import Device
from .actors.hooks import (
    HOOKS,
    HookOwners,
    check_subscriptions,
    destinations_of,
    hook_handlers,
    is_overridden,
    takes_argument,
)
from .actors.lightning_optimizer import LightningOptimizer, OptimizerToggle, default_step
from .actors.loaders import Loaders
from .actors.lr_schedulers import LRSchedulerConfig, LRSchedulers
from .actors.metrics import Metrics
from .actors.module import LightningModule
from .actors.optimizers import ConfiguredOptimizers, parse_optimizers
from .actors.predictions import Predictions
from .actors.results import Result
from .actors.slurm import check_requeue, requeue_job
from .actors.stop_signals import PREEMPTED_EXIT_CODE, StopSignals
from .actors.versions import package_versions
from .actors.worker_seeds import seed_workers
from .bus.actor import Actor
from .bus.black_box import BlackBox
from .bus.bus import Bus
from .bus.control import Steered
from .bus.control_protocol import RunStatus
from .bus.cursor import Position
from .bus.errors import CheckpointError, RunFolderError, UsageError
from .bus.events import (
    Command,
    DeadLetter,
    Ending,
    Fault,
    Fork,
    LoopAdvanced,
    LoopEnded,
    LoopStarted,
    Plain,
    Put,
    RunStarted,
    Scalar,
    Stage,
)
from .bus.flight_recorder import FlightRecorder
from .bus.lineage import logs_before
from .bus.log_writer import LogIdentity, LogWriter
from .bus.logging_setup import bind_run, get_logger, level, tell_user
from .bus.media import DEFAULT_MEDIA_BYTES, LARGEST_MEDIA_BYTES
from .bus.observer import Observer, describe
from .bus.place import Place
from .bus.reply import Reply, check_deadline
from .bus.routes import HookHandler
from .bus.run_folder import AttemptLock, RunFolder, list_runs
from .bus.segments import UnnamedStore
from .bus.statistics import BusStatistics
from .loops import (
    HOOK_GROUPS,
    EvaluationLoop,
    FitLoop,
    Loop,
    OptimizationProgress,
    PredictionLoop,
    TrainingStepLoop,
)
from .loops.optimizer import OptimizerLoop
from .loops.running_loss import RunningLoss
from .sinks.file_sink import FileSink
from .sinks.given import make_sinks
from .sinks.logger_sink import LoggerSink
from .sinks.progress_bar import ProgressBar
from .sinks.refill import refill
from .sinks.sink import Sink

_log = get_logger("nightbus.trainer")

Function = Literal["fit", "validate", "test", "predict"]
_ANY_STEP_ARGUMENTS = ("batch", "batch_idx", "optimizer_idx", "hiddens")
_STAGE_OF: dict[str, Stage] = {
    "fit": "train",
    "validate": "validate",
    "test": "test",
    "predict": "predict",
}


class _EvaluationHooks(NamedTuple):
    """Names of one stage's hooks, put together once instead of for each batch."""

    batch_start: str
    step: str
    step_end: str
    batch_end: str

    @classmethod
    def of(cls, kind: str) -> "_EvaluationHooks":
        return cls(
            f"on_{kind}_batch_start", f"{kind}_step", f"{kind}_step_end", f"on_{kind}_batch_end"
        )


class Trainer:
    """Runs a LightningModule.

    Args:
        max_epochs: at most so many epochs; 1000 when neither this nor max_steps is given, -1 for
            no limit.
        min_epochs: a stop is not honoured before so many epochs.
        max_steps: at most so many optimizer steps; -1 for no limit.
        min_steps: a stop is not honoured before so many optimizer steps.
        max_time: at most so long: ``"DD:HH:MM:SS"``, a timedelta, or a dict of its arguments.
        limit_train_batches: a number of batches (int) or a share of them (float).
        limit_val_batches: the same for validation.
        limit_test_batches: the same for testing.
        limit_predict_batches: the same for prediction.
        val_check_interval: validate after so many batches (int) or this share of an epoch (float).
        check_val_every_n_epoch: validate only in every n-th epoch.
        num_sanity_val_steps: validation batches to run before training; -1 for all.
        fast_dev_run: one batch (True) or so many of everything, nothing written but the log.
        overfit_batches: train on so many batches, or this share, in a fixed order.
        accumulate_grad_batches: batches for each optimizer step.
        gradient_clip_val: largest gradient norm or value; None does not clip.
        gradient_clip_algorithm: ``norm`` or ``value``.
        log_every_n_steps: how often step values from ``log`` go to sinks.
        precision: ``32-true``, ``bf16-mixed`` or ``16-mixed``.
        accelerator: ``auto``, ``cpu``, ``gpu`` or ``mps``.
        devices: one, so far.
        deterministic: use deterministic algorithms only.
        benchmark: let cudnn find the fastest algorithms.
        detect_anomaly: find the operation whose backward gave NaN; slow.
        enable_progress_bar: show progress on stderr.
        enable_model_summary: show the module's children and sizes when fit begins.
        enable_checkpointing: save the run at each epoch's end and when it stops, and keep the
            newest two.
        callbacks: callbacks, in the order in which their hooks run.
        actors: actors, in the step and beside it.
        sinks: where events go. A function is called with each put.
        logger: True adds a CSV sink unless there is one; False adds none. A logger of Lightning, or
            a list of them, is wrapped as a sink.
        default_root_dir: where the folder ``runs`` is; the working directory by default.
        run_name: what the run's folder is called, with an id behind it; the module's class by
            default.
        recording: ``all`` keeps every event; ``metrics`` leaves out hooks that no live observer
            wants; ``off`` keeps nothing, though live observers still see everything they want. The
            last 2,000 events are in memory in any case, and written out when the run crashes,
            hangs or gets SIGQUIT; see docs/hangs.md.
        strict_recording: end the run in good order when the disk does not take its events any more,
            instead of training on and saying at the end what is missing.
        control: serve a socket in the run's folder, for ``nightbus send``; only its owner can use
            it. Without a folder there is none.
        reload_dataloaders_every_n_epochs: ask for new dataloaders so often; 0 for never.
        multiple_trainloader_mode: how several training loaders are read together; see
            CombinedLoader.
        prepare_data_per_node: ``prepare_data`` runs on each machine; if False, on the first only.
            There is one machine, so far.
        max_media_bytes: what an image, figure, histogram, text or table may take in the log,
            encoded; at most 1,000,000.
        drain_timeout: how long sinks may take to finish at the end, in s.
        slurm_requeue: on SIGUSR1, which ``sbatch --signal=USR1@90`` sends before the time is over,
            put the job back into SLURM's queue after saving; train with ``ckpt_path="last"``.
        hang_timeout: when a step, an evaluation batch, the set-up or what is between them takes
            longer than this, in s, where every thread is is written into the run's folder, and the
            run goes on; None looks for no hangs. See docs/hangs.md.

    Raises:
        UsageError: an argument makes no sense; the message says what does.
    """

    def __init__(
        self,
        *,
        max_epochs: int | None = None,
        min_epochs: int | None = None,
        max_steps: int = -1,
        min_steps: int | None = None,
        max_time: str | timedelta | dict[str, int] | None = None,
        limit_train_batches: float = 1.0,
        limit_val_batches: float = 1.0,
        limit_test_batches: float = 1.0,
        limit_predict_batches: float = 1.0,
        val_check_interval: float = 1.0,
        check_val_every_n_epoch: int = 1,
        num_sanity_val_steps: int = 2,
        fast_dev_run: bool | int = False,
        overfit_batches: float = 0.0,
        accumulate_grad_batches: int = 1,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: Literal["norm", "value"] = "norm",
        log_every_n_steps: int = 50,
        precision: str | int = "32-true",
        accelerator: str = "auto",
        devices: Any = "auto",
        deterministic: bool = False,
        benchmark: bool = False,
        detect_anomaly: bool = False,
        enable_progress_bar: bool = True,
        enable_model_summary: bool = True,
        enable_checkpointing: bool = True,
        callbacks: Callback | Sequence[Callback] | None = None,
        actors: Sequence[Actor] = (),
        sinks: Sequence[Sink | Callable[[Any], Any]] = (),
        logger: Any = True,
        default_root_dir: str | os.PathLike[str] | None = None,
        run_name: str | None = None,
        recording: Literal["all", "metrics", "off"] = "all",
        strict_recording: bool = False,
        control: bool = True,
        reload_dataloaders_every_n_epochs: int = 0,
        multiple_trainloader_mode: CombineMode = "max_size_cycle",
        prepare_data_per_node: bool = True,
        drain_timeout: float = 30.0,
        max_media_bytes: int = DEFAULT_MEDIA_BYTES,
        slurm_requeue: bool = False,
        hang_timeout: float | None = None,
        **unknown: Any,
    ) -> None:
        arguments = {
            name: value
            for name, value in locals().items()
            if name not in ("self", "unknown", "__class__")
        }
        refuse_unknown(unknown, list(arguments))
        level()  # NIGHTBUS_LOG is checked now, not when there is something to say
        self._config = as_plain(arguments)
        if isinstance(callbacks, Callback):
            callbacks = [callbacks]
        self.callbacks: list[Callback] = list(callbacks or [])
        for callback in self.callbacks:
            if is_overridden(callback, "on_init_start"):
                callback.on_init_start(self)
        self.actors: list[Actor] = list(actors)
        if check_at_least("max_media_bytes", max_media_bytes, 0) > LARGEST_MEDIA_BYTES:  # type: ignore[operator]
            raise UsageError(
                f"max_media_bytes={max_media_bytes}: the log takes at most {LARGEST_MEDIA_BYTES}"
            )
        check_devices(devices)
        if slurm_requeue:
            check_requeue()
        self.slurm_requeue = slurm_requeue
        self.device = Device(accelerator, precision)
        self.recording = check_choice("recording", recording, ("all", "metrics", "off"))
        self.strict_recording = strict_recording
        self.control = control
        self.enable_checkpointing = enable_checkpointing
        self.loaders = Loaders(
            {
                "train": limit_train_batches,
                "validate": limit_val_batches,
                "test": limit_test_batches,
                "predict": limit_predict_batches,
            },
            overfit_batches,
            val_check_interval,
            check_val_every_n_epoch,
            num_sanity_val_steps,
            reload_dataloaders_every_n_epochs,
            multiple_trainloader_mode,
        )
        self.prepare_data_per_node = prepare_data_per_node
        self.accumulate_grad_batches = (
            check_at_least("accumulate_grad_batches", accumulate_grad_batches, 1) or 1
        )
        self.gradient_clip_val = gradient_clip_val
        self.gradient_clip_algorithm = check_choice(
            "gradient_clip_algorithm", gradient_clip_algorithm, ("norm", "value")
        )
        self.deterministic = deterministic
        self.benchmark = benchmark
        self.detect_anomaly = detect_anomaly
        self.drain_timeout = drain_timeout
        self.hang_timeout = check_seconds("hang_timeout", hang_timeout)
        self.run_name = run_name
        self.default_root_dir = Path(default_root_dir or Path.cwd())
        self.max_time_s = parse_max_time(max_time)
        max_epochs, max_steps = self._apply_fast_dev_run(fast_dev_run, max_epochs, max_steps)
        made = make_sinks(sinks, logger)
        self.sinks: list[Sink] = [] if self.fast_dev_run else made
        self.progress_bar = ProgressBar() if enable_progress_bar else None
        if enable_model_summary:
            self.callbacks.append(ModelSummary())
        check_at_least("max_epochs", max_epochs, -1)
        self.optimization_progress = OptimizationProgress()
        self._fit_loop: Any = FitLoop(
            check_at_least("min_epochs", min_epochs, 0),
            None if max_epochs == -1 else max_epochs,
            check_at_least("min_steps", min_steps, 0),
            max_steps,
        )
        self.validate_loop: Any = EvaluationLoop("validate")
        self.test_loop: Any = EvaluationLoop("test")
        self.predict_loop: Any = PredictionLoop()
        self._epoch_counter: FitLoop | None = self._fit_loop
        self._fit_loop.attach(self)
        self.evaluation_hooks = {k: _EvaluationHooks.of(k) for k in ("validation", "test")}
        self.checkpointer = Checkpointer(self)
        self.place = Place()
        self.bus = Bus(self.place)
        self.routes = self.bus.routes
        self.metrics = Metrics(self.bus, log_every_n_steps, max_media_bytes)
        self.should_stop = False
        self.stop_reason = ""
        self.paused = False
        self.interrupted = False
        self.attempt = -1
        self.run_folder: RunFolder | None = None
        self.datamodule: LightningDataModule | None = None
        self.optimizers: list[torch.optim.Optimizer] = []
        self.lightning_optimizers: list[LightningOptimizer] = []
        self.stepping_optimizers: list[Any] = []
        self.lr_scheduler_configs: list[LRSchedulerConfig] = []
        self._configured = ConfiguredOptimizers([], [], [])
        self._cycle: list[int] = []
        self._all_optimizers: Sequence[int] = (0,)
        self.optimizer_toggle = OptimizerToggle([])
        self.module_toggle: LightningModule | None = None  # that toggles in its own way
        self._schedulers = LRSchedulers([], self.routes, dict, [])
        self.has_step_schedulers = False
        self.optimizes_manually = False
        self.passes_optimizer_idx = False
        self.truncated_bptt_steps = 0
        self.has_plain_training_step = True
        self._step_arguments = list(_ANY_STEP_ARGUMENTS)
        self._max_epochs, self._max_steps = self.max_epochs, self.max_steps  # as they were given
        self.predictions = Predictions()
        self.logs_collected_training = False
        self._loop_hooks: set[str] = set()
        self._has_loops_of_users = False
        self.has_training_step_end = False
        self.has_step_end = {"validation": False, "test": False}
        self.keeps_training_outputs = False
        self.wants_training_outputs = False
        self.running_loss: RunningLoss | None = None
        self._module: LightningModule | None = None
        self._module_callbacks: list[Callback] = []
        self._deadline_s: float | None = None
        self._signals = StopSignals(self._on_signal, self._has_safe_points)
        self.is_training_under_way = False
        self._iterations = 0  # of loops that show theirs
        self._to_attach: deque[Actor] = deque()
        self._to_detach: deque[Actor] = deque()
        self._function: Function | None = None
        self._store: UnnamedStore | Any = None
        for callback in self.callbacks:
            if is_overridden(callback, "on_init_end"):
                callback.on_init_end(self)

    def _apply_fast_dev_run(
        self, fast_dev_run: bool | int, max_epochs: int | None, max_steps: int
    ) -> tuple[int | None, int]:
        self.fast_dev_run = fast_dev_run
        if fast_dev_run:
            batches = int(fast_dev_run)
            self.loaders.run_batches(batches)
            self.enable_checkpointing = False
            return 1, batches
        if max_epochs is None and max_steps == -1:
            _log.info("neither max_epochs nor max_steps was given; at most 1000 epochs are run")
            return 1000, max_steps
        return max_epochs, max_steps

    # -- what users call ---------------------------------------------------------------------

    def fit(
        self,
        model: LightningModule,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | os.PathLike[str] | None = None,
    ) -> None:
        """Train, and validate on the way.

        Args:
            model: what to train.
            train_dataloaders: one loader or a collection of them; or a LightningDataModule.
            val_dataloaders: one loader or several.
            datamodule: instead of loaders.
            ckpt_path: resume from this checkpoint, in a new attempt of its run; ``last`` for the
                newest of the newest run of this name, without which training begins anew; ``best``
                for what ModelCheckpoint held to be best.

        Raises:
            NightbusError: the set-up makes no sense; and whatever user code raises.
        """
        loaders = {"train": train_dataloaders, "validate": val_dataloaders}
        self._run("fit", self._fit, model, loaders, datamodule, ckpt_path)

    def validate(
        self,
        model: LightningModule | None = None,
        dataloaders: Any = None,
        ckpt_path: str | os.PathLike[str] | None = None,
        verbose: bool = True,
        datamodule: LightningDataModule | None = None,
    ) -> list[dict[str, Scalar]]:
        """Validate once.

        Args:
            model: what to validate; that of the last run by default.
            dataloaders: one loader or several; or a LightningDataModule.
            ckpt_path: take the weights from this checkpoint; ``last`` and ``best`` as for ``fit``.
            verbose: print the metrics.
            datamodule: instead of loaders.

        Returns:
            The epoch's metrics, a dict for each dataloader.
        """
        return self._evaluate("validate", model, dataloaders, ckpt_path, verbose, datamodule)

    def test(
        self,
        model: LightningModule | None = None,
        dataloaders: Any = None,
        ckpt_path: str | os.PathLike[str] | None = None,
        verbose: bool = True,
        datamodule: LightningDataModule | None = None,
    ) -> list[dict[str, Scalar]]:
        """Test once; arguments and result as for ``validate``."""
        return self._evaluate("test", model, dataloaders, ckpt_path, verbose, datamodule)

    def predict(
        self,
        model: LightningModule | None = None,
        dataloaders: Any = None,
        datamodule: LightningDataModule | None = None,
        return_predictions: bool = True,
        ckpt_path: str | os.PathLike[str] | None = None,
    ) -> Any:
        """Predict.

        Args:
            model: what to predict with; that of the last run by default.
            dataloaders: one loader or several; or a LightningDataModule.
            datamodule: instead of loaders.
            return_predictions: keep what ``predict_step`` returns.
            ckpt_path: take the weights from this checkpoint; ``last`` and ``best`` as for ``fit``.

        Returns:
            A list with an entry for each batch; a list of such lists for several loaders.
        """
        self.predict_loop.return_predictions = return_predictions
        loaders = {"predict": dataloaders}
        return self._run("predict", self._predict, model, loaders, datamodule, ckpt_path)

    def attach(self, actor: Actor) -> None:
        """Add an actor or sink while a run goes on, from any thread; it acts from the next safe
        point on. A sink gets the run from its start, an actor what comes from then on.
        """
        if self._function is None:
            (self.sinks if isinstance(actor, Sink) else self.actors).append(actor)  # type: ignore[arg-type]
        else:
            self._to_attach.append(actor)
            self.bus.attention = True

    def detach(self, actor: Actor) -> None:
        """Let an actor or sink go at the next safe point, from any thread; the log says so.

        Raises:
            UsageError: it is not attached.
        """
        if actor not in (*self.actors, *self.sinks):
            raise UsageError(f"{type(actor).__name__} is not attached to this trainer")
        if self._function is None:
            self._let_go(actor)
        else:
            self._to_detach.append(actor)
            self.bus.attention = True

    def _let_go(self, actor: Actor) -> None:
        self.actors = [entry for entry in self.actors if entry is not actor]
        self.sinks = [entry for entry in self.sinks if entry is not actor]

    def tell(self, target: str, command: Command) -> None:
        """Send a command to an actor, ``fit`` say, from any thread.

        What reaches nobody becomes a dead letter, an event in the log.
        """
        self.bus.post(target, command, "user", None)

    def ask(self, target: str, command: Command, timeout_s: float = 5.0) -> Any:
        """Send a command and wait for the reply; not from the training thread.

        Raises:
            AskTimeoutError: no reply within ``timeout_s``; there is always a deadline.
            ActorRaisedError: the handler raised; ``__cause__`` is what.
            UnknownActorError, UnhandledCommandError, MailboxFullError, CommandDroppedError,
                ActorStoppedError: there will be no reply.
        """
        check_deadline(timeout_s)
        reply = Reply()
        self.bus.post(target, command, "user", reply)
        return reply.wait(timeout_s)

    def statistics(self) -> BusStatistics:
        """Counts of the run's log, mailboxes and observers at this moment; from any thread. After
        the run they are what they were at its end.
        """
        return self.bus.statistics()

    def save_checkpoint(self, filepath: str | os.PathLike[str], weights_only: bool = False) -> None:
        """Save a checkpoint, a folder, at a path that does not exist yet; it is complete on disk
        when this returns.

        Between two steps or epochs, and after the run, it is exact: a run that is resumed from it
        goes on as if it had never ended. In a hook it is the state at that moment: a batch that is
        being worked on is repeated, and what was to follow it in the same batch is not done again.

        Args:
            filepath: where.
            weights_only: leave out what is needed to resume.

        Raises:
            CheckpointError: the state cannot be carried, or the disk failed.
        """
        self.checkpointer.save_now(Path(filepath), weights_only)

    # -- where we are ------------------------------------------------------------------------

    @property
    def lightning_module(self) -> LightningModule:
        """The module that runs, or ran last.

        Raises:
            UsageError: none ever did.
        """
        if self._module is None:
            raise UsageError(
                "no module was given yet; call fit, validate, test or predict with one"
            )
        return self._module

    @property
    def model(self) -> LightningModule:
        """The module that runs, or ran last."""
        return self.lightning_module

    @property
    def fit_loop(self) -> Any:
        """The loop that ``fit`` runs; assign your own.

        A FitLoop that was made without limits takes those of the one it replaces.
        """
        return self._fit_loop

    @fit_loop.setter
    def fit_loop(self, loop: Loop) -> None:
        if not isinstance(loop, Loop):
            raise UsageError(f"fit_loop takes a loop, not {type(loop).__name__}")
        former = self._epoch_counter
        self._fit_loop = loop
        loop.attach(self)
        self._find_fit_loop()
        if former is not None and self._epoch_counter is not None:
            self._epoch_counter.adopt_limits(former)

    def _find_fit_loop(self) -> None:
        """The FitLoop, which counts epochs, may be within a loop that the user wrote."""
        fit_loops = (loop for loop in self._fit_loop.walk() if isinstance(loop, FitLoop))
        self._epoch_counter = next(fit_loops, None)

    @property
    def current_epoch(self) -> int:
        """Epochs completed; the first is 0."""
        return (
            self.place.epoch if self._epoch_counter is None else self._epoch_counter.current_epoch
        )

    @property
    def global_step(self) -> int:
        """Optimizer steps completed, of all optimizers together: with two of them, a batch counts
        for two.
        """
        return self.optimization_progress.step.total.completed

    @property
    def max_epochs(self) -> int | None:
        """At most so many epochs."""
        counter = self._epoch_counter
        return self._max_epochs if counter is None else counter.max_epochs

    @property
    def max_steps(self) -> int:
        """At most so many optimizer steps; -1 for no limit."""
        counter = self._epoch_counter
        return self._max_steps if counter is None else counter.max_steps

    @property
    def may_stop(self) -> bool:
        """Whether min_epochs and min_steps are reached."""
        return self._epoch_counter is None or self._epoch_counter.may_stop

    @property
    def training(self) -> bool:
        """Whether a training batch is worked on, or could be."""
        return self._function == "fit" and self.place.stage == "train"

    @property
    def validating(self) -> bool:
        """Whether validation runs, by itself or within fit."""
        return self.place.stage == "validate" and self._function is not None

    @property
    def sanity_checking(self) -> bool:
        """Whether the validation before training runs."""
        return self.loaders.sanity_checking

    @property
    def testing(self) -> bool:
        """Whether a test runs."""
        return self._function == "test"

    @property
    def predicting(self) -> bool:
        """Whether prediction runs."""
        return self._function == "predict"

    @property
    def is_accumulating(self) -> bool:
        """Whether gradients of a step to come are there: an accumulation has begun."""
        loops = self.fit_loop.walk()
        return any(isinstance(loop, OptimizerLoop) and loop.is_accumulating for loop in loops)

    @property
    def is_last_batch(self) -> bool:
        """Whether the training batch is the epoch's last."""
        return bool(getattr(self._epoch_loop, "is_last_batch", False))

    @property
    def _epoch_loop(self) -> Any:
        return None if self._epoch_counter is None else self._epoch_counter.epoch_loop

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
    def train_dataloader(self) -> Any:
        """The loader training reads."""
        return self.loaders.training

    @property
    def val_dataloaders(self) -> list[Any]:
        """The loaders validation reads."""
        return self.loaders.evaluation("validate")

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
    def estimated_stepping_batches(self) -> float:
        """Optimizer steps that fit will take, as far as it can be known; inf when it cannot."""
        batches, epochs = self.num_training_batches, self.max_epochs
        if batches is None or epochs is None:
            return self.max_steps if self.max_steps >= 0 else float("inf")
        steps: int = epochs * -(-batches // self.accumulate_grad_batches)
        return min(steps, self.max_steps) if self.max_steps >= 0 else steps

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

    @property
    def logger(self) -> Any:
        """The first sink, or None; if that wraps a logger of Lightning, the logger."""
        return next(iter(self.loggers), None)

    @property
    def loggers(self) -> list[Any]:
        """The sinks; for those that wrap a logger of Lightning, the logger."""
        return [sink.logger if isinstance(sink, LoggerSink) else sink for sink in self.sinks]

    @property
    def checkpoint_callbacks(self) -> list[Checkpoint]:
        """The callbacks that save checkpoints."""
        return [entry for entry in self._callbacks_in_order() if isinstance(entry, Checkpoint)]

    @property
    def checkpoint_callback(self) -> Checkpoint | None:
        """The first callback that saves checkpoints, or None."""
        return next(iter(self.checkpoint_callbacks), None)

    @property
    def writes_predictions_at_end(self) -> bool:
        """Whether a callback wants all predictions at the epoch's end."""
        return any(
            isinstance(callback, BasePredictionWriter) and callback.writes_epochs
            for callback in self._callbacks_in_order()
        )

    @property
    def log_dir(self) -> str | None:
        """The run's folder."""
        return str(self.run_folder.path) if self.run_folder else None

    @property
    def has_deadline(self) -> bool:
        """Whether max_time was given."""
        return self._deadline_s is not None

    @property
    def out_of_time(self) -> bool:
        """Whether max_time is over."""
        return self._deadline_s is not None and time.monotonic() > self._deadline_s

    # -- a run -------------------------------------------------------------------------------

    def _run(
        self,
        function: Function,
        body: Callable[[dict[str, Any] | None], Any],
        model: LightningModule | None,
        loaders: dict[str, Any],
        datamodule: LightningDataModule | None,
        ckpt_path: str | os.PathLike[str] | None,
    ) -> Any:
        """Run ``body`` as one attempt: set-up, running, and an end that is always recorded."""
        self._adopt(model, loaders, datamodule)
        module, signals = self.lightning_module, self._signals
        how: Ending = "completed"
        reason = ""
        with signals:
            try:
                try:
                    checkpoint = self._open_run(function, ckpt_path)
                except BaseException as error:
                    how, reason = self._how_it_ended(error)
                    raise
                with self._black_box:
                    try:
                        with self._torch_settings():
                            signals.let_through()
                            self.bus.attention |= signals.save_requested  # while it was opened
                            result = body(checkpoint)
                        if function == "fit" and (self.should_stop or self.stop_reason):
                            how, reason = "stopped", self.stop_reason or "should_stop was set"
                    except BaseException as error:
                        how, reason = self._how_it_ended(error)
                        self._on_exception(function, error, how)
                        if how != "interrupted" or signals.at_once:
                            raise
                        self.interrupted = True
                        return None
                if signals.preempted:  # after the last safe point
                    raise SystemExit(PREEMPTED_EXIT_CODE)
                self.interrupted = signals.interrupted
                return result
            finally:
                # Not more than one signal raises before they are held: then the end comes all the
                # same.
                try:
                    signals.hold(self.bus.hurry)
                finally:
                    if self._function is not None:
                        self._close_run(how, reason)
                    module._attach(None)

    def _how_it_ended(self, error: BaseException) -> tuple[Ending, str]:
        if isinstance(error, KeyboardInterrupt):
            return "interrupted", "Ctrl-C"
        if isinstance(error, SystemExit) and self._signals.preempted:
            return "preempted", "SIGTERM"
        return "failed", f"{describe(error)[0]}: {error}"

    def _adopt(
        self,
        model: LightningModule | None,
        loaders: dict[str, Any],
        datamodule: LightningDataModule | None,
    ) -> None:
        """Check what the user gave, before anything is made."""
        if self._function is not None:
            raise UsageError(
                f"the trainer is running {self._function}; it runs one thing at a time"
            )
        if model is not None and not isinstance(model, LightningModule):
            raise UsageError(f"expected a LightningModule, not {type(model).__name__}")
        first = next(iter(loaders.values()))
        if isinstance(first, LightningDataModule):
            if datamodule is not None:
                raise UsageError("two datamodules were given")
            datamodule = first
            loaders = dict.fromkeys(loaders)
        if datamodule is not None and any(entry is not None for entry in loaders.values()):
            raise UsageError("give either dataloaders or a datamodule, not both")
        if datamodule is not None and not isinstance(datamodule, LightningDataModule):
            raise UsageError(f"expected a LightningDataModule, not {type(datamodule).__name__}")
        if model is not None:
            self._module = model
        module = self.lightning_module
        self.optimizes_manually = not module.automatic_optimization
        self._step_arguments = list(_ANY_STEP_ARGUMENTS)
        if datamodule is not None or model is not None:
            self.datamodule = datamodule
        self.loaders.begin(loaders, module, self.datamodule, lambda: self.routes)

    def _open_run(
        self, function: Function, ckpt_path: str | os.PathLike[str] | None
    ) -> dict[str, Any] | None:
        """Make or find the run's folder, begin an attempt, and start the bus."""
        module = self.lightning_module
        root = self.default_root_dir / "runs"
        name = self.run_name or type(module).__name__
        checkpoint, fork = None, None
        if ckpt_path is not None:
            checkpoint, fork = self._find_checkpoint(function, ckpt_path, root, name)
        if self.run_folder is None and self._needs_folder:
            self.run_folder = RunFolder.create(root, name)
        run = self.run_folder
        if function == "fit":
            self.checkpointer.begin(fork, checkpoint)
        records = self.recording != "off"
        earlier = logs_before(run, fork) if run is not None and records else []
        lock: AttemptLock | None = None
        if run is not None and records:
            lock = run.begin_attempt()
            if fork is not None:
                run.keep_fork(lock.attempt, fork)
        self.attempt = lock.attempt if lock else self.attempt + 1
        self._lock = lock
        self.place = Place()
        self.place.move(stage=_STAGE_OF[function], epoch=self.current_epoch, step=self.global_step)
        self.bus = Bus(self.place, earlier, run)
        self.bus.record_put = self.metrics.put
        self.bus.record_media = self.metrics.put_media
        self.routes = self.bus.routes
        self.routes.set_groups(HOOK_GROUPS)
        if self.recording != "all":
            self.bus.keep_last_events(FlightRecorder(self.place))
        self._black_box = BlackBox(
            self.bus,
            LogIdentity(run.info.id if run else "unnamed", self.attempt),
            self.default_root_dir,
            self.hang_timeout,
            lambda: self._iterations,
            lambda: self.paused,
        )
        self.metrics.begin(self.bus, self.lightning_module)
        self.running_loss = RunningLoss(self.metrics) if self.progress_bar else None
        self._function = function
        self._began_s = time.monotonic()
        self.should_stop, self.stop_reason = False, ""
        self.paused = self.interrupted = False
        try:
            self._register_everyone(function)
            if self._observers or records:
                self._open_log()
        except BaseException:
            self._function = None
            if lock:
                lock.release()
            raise
        bind_run(run.info.id if run else "unnamed", self.place)
        self.bus.emit(
            RunStarted,
            run.info.id if run else "unnamed",
            self.attempt,
            function,
            time.time_ns(),
            self._config,
            package_versions(),
            fork,
            self._hparams(),
        )
        self.bus.flush()
        if self.control:  # before an observer starts the thread, which looks once
            root_loop: Loop = getattr(self, f"{function}_loop")
            takes_commands = any(loop.safe_points for loop in root_loop.walk())
            self.bus.serve_control(Steered(function, takes_commands, self._status))
        for actor in self._observers:
            self._observe(actor)
        self.bus.start()
        return checkpoint

    def _find_checkpoint(
        self, function: Function, ckpt_path: str | os.PathLike[str], root: Path, name: str
    ) -> tuple[dict[str, Any] | None, Fork | None]:
        """What ``ckpt_path`` means, and where in which run that is gone on with."""
        best = [getattr(entry, "best_model_path", "") for entry in self.checkpoint_callbacks]
        found = find_checkpoint(ckpt_path, root, name, best)
        if found is None:
            if function != "fit":
                raise CheckpointError(
                    f"ckpt_path='last': no run called {name!r} in {root} has a checkpoint; give "
                    "the checkpoint's path, or the run's name with Trainer(run_name=...)"
                )
            _log.warning(
                "ckpt_path='last': no run of this name has a checkpoint, so training begins anew",
                run_name=name,
                folder=str(root),
            )
            return None, None
        state, run = found.state, found.run
        if run is None:  # saved elsewhere, by ModelCheckpoint(dirpath=...) say
            run = next((r for r in list_runs(root) if r.info.id == state.get("run")), None)
        # Of a checkpoint that lies in another run's folder, that run knows no attempt.
        if run is None or state.get("run") != run.info.id:
            return state, None
        if function != "fit" or "attempt" not in state:
            return state, None
        self.run_folder = run
        shown = str(found.path)
        if found.path.is_relative_to(run.path.resolve()):
            shown = str(found.path.relative_to(run.path.resolve()))
        return state, Fork(state["attempt"], state["seq"], shown)

    def _status(self) -> RunStatus:
        """Where the run is, for those who ask through its socket; called on the bus thread."""
        place, run = self.place, self.run_folder
        return RunStatus(
            pid=os.getpid(),
            run=run.info.id if run else "unnamed",
            attempt=self.attempt,
            fn=self._function or "",
            stage=place.stage,
            epoch=place.epoch,
            step=place.step,
            batch_idx=place.batch_idx,
            paused=self.paused,
            stopping=self.should_stop,
            may_stop=self.may_stop,
            running_s=time.monotonic() - self._began_s,
            dead_letters=self.bus.dead_letters,
        )

    def _hparams(self) -> dict[str, Plain]:
        """What module and datamodule saved for the log."""
        found: dict[str, Any] = {}
        for owner in (self.datamodule, self.lightning_module):
            if owner is not None and getattr(owner, "_logs_hparams", True):
                found |= owner.hparams
        return as_plain(found)

    @property
    def _needs_folder(self) -> bool:
        """Whether anything is written: the log, checkpoints, or a sink that has no other place."""
        return (
            self.recording != "off"
            or self.enable_checkpointing
            or any(sink.needs_run_folder for sink in self.sinks)
        )

    def _register_everyone(self, function: Function) -> None:
        module = self.lightning_module
        for name in ("fit", "validate", "test", "predict"):
            loop = getattr(self, f"{name}_loop")
            if not isinstance(loop, Loop):
                raise UsageError(f"{name}_loop is {type(loop).__name__}; expected a Loop")
            if isinstance(loop, EvaluationLoop):
                loop.serve(name)  # type: ignore[arg-type]
            loop.attach(self)
        self._find_fit_loop()
        root_loop: Loop = getattr(self, f"{function}_loop")
        loops = list(root_loop.walk())
        self._loop_hooks = set()
        self._observers: list[Actor] = []
        self.bus.register(module, "module")
        if self.datamodule is not None:
            self.bus.register(self.datamodule, "datamodule")
        for loop in loops:
            self._register_loop(loop)
        if function not in self.bus.addresses:
            self.bus.add_alias(function, root_loop._address)
        bar = [self.progress_bar] if self.progress_bar else []
        for actor in (*self.callbacks, *self.actors, *self.sinks, *bar):
            self.bus.register(actor)
        self._has_loops_of_users = any(not _is_built_in(loop) for loop in loops)
        for actor in self._everyone():
            self.metrics.heard |= destinations_of(actor)
            check_subscriptions(actor, self._has_loops_of_users)
            if hasattr(type(actor), "_trainer"):
                object.__setattr__(actor, "_trainer", self)
            if actor._is_observer():
                self._observers.append(actor)

    def _register_loop(self, loop: Loop) -> None:
        """Make a loop an actor of the run: addresses are unique, loops' names need not be."""
        name = loop.name or type(loop).__name__.lower()
        number = 1
        while name in self.bus.addresses:
            number += 1
            name = f"{loop.name or type(loop).__name__.lower()}-{number}"
        self.bus.register(loop, name)

    def loop_connected(self, loop: Loop, former: Loop | None) -> None:
        """A loop was put in another one's place, or was added, maybe in the middle of a run."""
        self._find_fit_loop()
        if self._function is None:
            return
        taken_over = former is not None and former._address in self.bus.addresses
        for entry in loop.walk():
            if entry._address in self.bus.addresses and entry._context is self.bus:
                continue
            if entry is loop and taken_over:
                assert former is not None
                self.bus.hand_over(former, loop)
            else:
                self._register_loop(entry)

    def _everyone(self) -> list[Actor]:
        bar = [self.progress_bar] if self.progress_bar else []
        data = [self.datamodule] if self.datamodule else []
        return [
            self.lightning_module,
            *data,
            *self.callbacks,
            *self._module_callbacks,
            *self.actors,
            *self.sinks,
            *bar,
        ]

    def _open_log(self) -> None:
        run, lock = self.run_folder, self._lock
        store = run.store(self.attempt) if run is not None and lock is not None else UnnamedStore()
        identity = LogIdentity(run.info.id if run else "unnamed", self.attempt)
        writer = LogWriter(store, identity, self.place)
        if self.strict_recording:
            writer.on_loss = self.bus.stop_run
        self.bus.open_log(writer, store)
        self.routes.set_writer(writer, None if self.recording == "all" else set())

    def _observe(self, actor: Actor) -> None:
        if isinstance(actor, Sink):
            records = self._lock is not None
            start = Position(0, 0) if records else Position(self.attempt, 0)
            keeps = records and actor is not self.progress_bar
            if actor is self.progress_bar:
                start = Position(self.attempt, 0)
            self.bus.observe(actor, start, keep_cursor=keeps)
        else:
            self.bus.observe(actor, Position(self.attempt, 0))

    def _close_run(self, how: Ending, reason: str) -> None:
        """Record the end, let sinks finish, and say what did not work."""
        self.is_training_under_way = False
        self.checkpointer.close()
        self.place.move(epoch=self.current_epoch, batch_idx=-1)
        for label, count in self.metrics.unheard.items():
            why = f"nobody takes values for this destination; {count} were put"
            self.bus.emit(DeadLetter, label, Put.__name__, why, source="trainer")
        try:
            unfinished = self.bus.close(self.drain_timeout, (how, reason))
        finally:
            if self.progress_bar is not None:
                self.progress_bar.stop()
            if self._lock:
                self._lock.release()
                self._lock = None
            self._function = None
            self.place.move(stage="")
            bind_run("", None)
        self._report(unfinished)
        signals = self._signals
        if signals.terminated_while_ending:
            raise SystemExit(PREEMPTED_EXIT_CODE)
        if signals.interrupts_while_ending:  # ended the wait for sinks; the run itself was over
            self.interrupted = True
        if signals.interrupts_while_ending > 1:
            raise KeyboardInterrupt

    def _report(self, unfinished: list[Observer]) -> None:
        """One readable message for each observer that has not seen everything, and for what is
        wrong with the log.
        """
        for problem in self.bus.log_problems:
            tell_user(f"nightbus: {problem}")
        for observer in unfinished:
            why = observer.gave_up or "the thread beside the step ended"
            rest = ""
            if self.run_folder is not None and observer.resumes:
                rest = f"; deliver the rest with: {self._refill(self.run_folder, observer)}"
            tell_user(f"nightbus: {observer.name} stopped early: {why}{rest}")

    def _refill(self, run: RunFolder, observer: Observer) -> str:
        sink = observer.actor
        folder = sink.folder if isinstance(sink, FileSink) else None
        try:
            return refill(run, observer.name, type(sink).__name__, folder).command
        except RunFolderError as error:  # its cursor was damaged meanwhile; the run itself is over
            return str(error)

    def _on_exception(self, function: Function, error: BaseException, how: Ending) -> None:
        """Tell callbacks, tear down, and record the fault; what fails here is a fault too."""
        hook = self.place.hook
        self.optimizer_toggle.end()
        if how == "failed":
            self.bus.emit(Fault, *describe(error), hook, source="module")
            if isinstance(error, Exception):
                self._black_box.crash(error)
        for step in (
            lambda: self.routes.call("on_exception", error),
            lambda: self._teardown(function),
        ):
            self._signals.rearm()
            try:
                step()
            except Exception as second:
                self.bus.emit(Fault, *describe(second), self.place.hook, source="trainer")
                error.add_note(f"while ending the run: {type(second).__name__}: {second}")

    def _on_signal(self) -> None:
        self.bus.attention = True

    def _has_safe_points(self) -> bool:
        """Whether a running loop will come to one."""
        return self.is_training_under_way or self.place.stage in ("validate", "test", "predict")

    @contextmanager
    def _torch_settings(self) -> Iterator[None]:
        with ExitStack() as stack:
            if self.deterministic:
                before = torch.are_deterministic_algorithms_enabled()
                stack.callback(torch.use_deterministic_algorithms, before)
                torch.use_deterministic_algorithms(True)
            if self.benchmark:
                stack.callback(
                    setattr, torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark
                )
                torch.backends.cudnn.benchmark = True
            if self.detect_anomaly:
                stack.enter_context(torch.autograd.set_detect_anomaly(True))
            yield

    # -- bodies ------------------------------------------------------------------------------

    def _set_up(self, function: Function, checkpoint: dict[str, Any] | None) -> None:
        """What all entry points begin with."""
        module, routes = self.lightning_module, self.routes
        module._attach(self)
        self._connect()
        if self.local_rank == 0 and (self.prepare_data_per_node or self.is_global_zero):
            routes.call("prepare_data")
        self._adopt_module_callbacks()
        routes.call("on_before_accelerator_backend_setup")
        routes.call("setup", function)
        if checkpoint is not None:
            routes.call("on_load_checkpoint", checkpoint)
        routes.call("configure_sharded_model")
        routes.call("configure_model")
        routes.call("on_configure_sharded_model")
        if checkpoint is not None:
            self.checkpointer.restore_module(checkpoint)
        module.to(self.device.device)
        routes.call("on_post_move_to_device")

    def _adopt_module_callbacks(self) -> None:
        self._module_callbacks = []
        found = self.routes.call("configure_callbacks")
        if not found:
            return
        added = [found] if isinstance(found, Callback) else list(found)
        kinds = {type(callback) for callback in added}
        self.callbacks = [entry for entry in self.callbacks if type(entry) not in kinds]
        self._module_callbacks = added
        for callback in added:
            self._enrol(callback)
        self._connect()

    def _enrol(self, actor: Actor) -> None:
        """Make an actor that came late a part of the run."""
        check_subscriptions(actor, self._has_loops_of_users)
        self.metrics.heard |= destinations_of(actor)
        self.bus.register(actor)
        if hasattr(type(actor), "_trainer"):
            object.__setattr__(actor, "_trainer", self)
        if actor._is_observer():
            if self.bus.writer is None:
                self._open_log()
            self._observe(actor)

    def _callbacks_in_order(self) -> list[Callback]:
        """Those that save checkpoints are last."""
        callbacks = [*self.callbacks, *self._module_callbacks]
        return sorted(callbacks, key=lambda callback: isinstance(callback, Checkpoint))

    def call_hook(self, name: str, *values: Any) -> Any:
        """Run a hook for a loop; see ``Loop.hook``."""
        if name not in HOOKS and name not in self._loop_hooks:
            if not name.startswith("on_"):
                raise UsageError(
                    f"a loop announces the hook {name!r}; hooks of its own are called on_..., "
                    "others are in nightbus.HOOKS"
                )
            self._loop_hooks.add(name)
            self._connect()
        return self.routes.call(name, *values)

    def _connect(self) -> None:
        """Work out who handles which hook."""
        module, datamodule = self.lightning_module, self.datamodule
        owners = HookOwners(self, module, datamodule, self._callbacks_in_order(), self.actors)
        defaults = self._default_hooks(module)
        handlers = hook_handlers(owners, defaults, self._step_arguments, self._loop_hooks)
        self.routes.set_handlers(handlers, defaults)
        self.has_training_step_end = is_overridden(module, "training_step_end")
        self.has_plain_training_step = not (
            self.device.autocasts or self.has_training_step_end or self.truncated_bptt_steps
        )
        self.logs_collected_training = is_overridden(module, "training_epoch_end")
        self.keeps_training_outputs = self.logs_collected_training or any(
            takes_argument(owner, "on_train_epoch_end", "outputs")
            for owner in (module, *owners.callbacks)
        )
        self.wants_training_outputs = (
            self.keeps_training_outputs or "on_train_batch_end" in handlers
        )
        self.has_step_end = {
            kind: is_overridden(module, f"{kind}_step_end") for kind in ("validation", "test")
        }

    def _default_hooks(self, module: LightningModule) -> dict[str, HookHandler]:
        """What is done for hooks that the module does not override."""
        defaults: dict[str, HookHandler] = {
            "backward": _backward,
            "optimizer_step": default_step(self.optimizers),
            "optimizer_zero_grad": _zero_grad,
            "lr_scheduler_step": module.lr_scheduler_step,
            "training_step": module.training_step,
            "predict_step": module.predict_step,
            "configure_optimizers": module.configure_optimizers,
        }
        if self.gradient_clip_val:
            defaults["configure_gradient_clipping"] = module.configure_gradient_clipping
        if self.device.moves_batches:
            defaults["transfer_batch_to_device"] = module.transfer_batch_to_device
        return defaults

    def keeps_evaluation_outputs(self, kind: str) -> bool:
        """Whether somebody wants the outputs of all evaluation steps."""
        return is_overridden(self.lightning_module, f"{kind}_epoch_end")

    def _fit(self, checkpoint: dict[str, Any] | None) -> None:
        module, routes = self.lightning_module, self.routes
        if self.max_time_s is not None:
            self._deadline_s = time.monotonic() + self.max_time_s
        self._set_up("fit", checkpoint)
        self.setup_optimizers()
        self.checkpointer.check_space()
        if checkpoint is not None:
            self.checkpointer.restore_training(checkpoint)
            self._begin_schedulers()
        self.place.move(epoch=self.current_epoch, step=self.global_step)
        routes.call("on_fit_start")
        routes.call("on_pretrain_routine_start")
        routes.call("on_pretrain_routine_end")
        if checkpoint is None:
            self._sanity_check()
        module.train()
        if self._epoch_counter is not None:
            self.loaders.training  # noqa: B018  asked for here, before on_train_start
        torch.set_grad_enabled(True)
        self.is_training_under_way = True
        self.fit_loop.run()
        self.is_training_under_way = False
        routes.call("on_fit_end")
        self._teardown("fit")

    def setup_optimizers(self) -> None:
        """Ask the module for its optimizers, and get ready to step them.

        ``fit`` does it when it begins; a loop that trains several times, on folds say, does it
        before each training.

        Raises:
            UsageError: what ``configure_optimizers`` returned makes no sense.
        """
        module = self.lightning_module
        self._check_manual_optimization()
        self._configured = parse_optimizers(self.routes.call("configure_optimizers"))
        self.optimizers = optimizers = self._configured.optimizers
        self.lr_scheduler_configs = self._configured.schedulers
        self._cycle = self._configured.cycle
        self._all_optimizers = range(len(optimizers))
        self.optimizer_toggle = OptimizerToggle(optimizers)
        overrides = ("toggle_optimizer", "untoggle_optimizer")
        toggles = any(is_overridden(module, name) for name in overrides)
        self.module_toggle = module if toggles else None
        self.passes_optimizer_idx = len(optimizers) > 1 and not self.optimizes_manually
        check_at_least("truncated_bptt_steps", module.truncated_bptt_steps, 0)
        self.truncated_bptt_steps = module.truncated_bptt_steps or 0
        if self.truncated_bptt_steps and self.accumulate_grad_batches > 1:
            raise UsageError(
                f"truncated_bptt_steps={self.truncated_bptt_steps} steps after each split of a "
                f"batch; accumulate_grad_batches={self.accumulate_grad_batches} cannot be combined "
                "with it"
            )
        self._step_arguments = ["batch", "batch_idx"]
        self._step_arguments += ["optimizer_idx"] if self.passes_optimizer_idx else []
        self._step_arguments += ["hiddens"] if self.truncated_bptt_steps else []
        self._check_training_step(module)
        self.optimization_progress.begin(len(optimizers))
        plain = not is_overridden(module, "optimizer_step") and self.device.scaler is None
        self.stepping_optimizers = [
            optimizer
            if plain
            else LightningOptimizer(optimizer, idx, self._step_plainly, self.optimizer_toggle)
            for idx, optimizer in enumerate(optimizers)
        ]
        self.lightning_optimizers = [
            LightningOptimizer(optimizer, idx, self._step_by_hand, self.optimizer_toggle)
            for idx, optimizer in enumerate(optimizers)
        ]
        self._connect()  # how a step is made depends on the optimizers
        self._begin_schedulers()

    def _check_manual_optimization(self) -> None:
        """Refuse what does nothing when the module optimizes by itself."""
        if self.optimizes_manually and self.gradient_clip_val:
            raise UsageError(
                f"gradient_clip_val={self.gradient_clip_val} does nothing with manual "
                "optimization; call self.clip_gradients(optimizer, gradient_clip_val=...) in "
                "training_step instead"
            )
        if self.optimizes_manually and self.accumulate_grad_batches > 1:
            raise UsageError(
                f"accumulate_grad_batches={self.accumulate_grad_batches} does nothing with manual "
                "optimization; step the optimizer every so many batches in training_step instead"
            )

    def _begin_schedulers(self) -> None:
        """Count steps for the schedulers from here on."""
        self._schedulers = LRSchedulers(
            [] if self.optimizes_manually else self.lr_scheduler_configs,
            self.routes,
            lambda: self.metrics.callback_metrics,
            self.optimization_progress.steps_by_optimizer,
        )
        self.has_step_schedulers = self._schedulers.wants_steps

    def _check_training_step(self, module: LightningModule) -> None:
        """Refuse a training_step that cannot know whose turn it is, or has no hidden states."""
        if not is_overridden(module, "training_step"):
            return
        loops = [loop for loop in self.fit_loop.walk() if isinstance(loop, TrainingStepLoop)]
        if not all(loop._asks_module for loop in loops):
            return  # a loop that the user wrote calls it in its own way
        parameters = inspect.signature(module.training_step).parameters.values()
        takes_any = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        names = {p.name for p in parameters}
        where = f"{type(module).__name__}.training_step({', '.join(p.name for p in parameters)})"
        if self.passes_optimizer_idx and not takes_any and "optimizer_idx" not in names:
            raise UsageError(
                f"configure_optimizers returned {len(self.optimizers)} optimizers, so "
                f"training_step is called for each, but {where} has no argument optimizer_idx; "
                "add it, or set self.automatic_optimization = False and step them yourself"
            )
        if self.truncated_bptt_steps and not takes_any and "hiddens" not in names:
            raise UsageError(
                f"truncated_bptt_steps={self.truncated_bptt_steps}, but {where} has no argument "
                "hiddens, the hidden states of the split before"
            )

    def check_dataloader_idx(self, step: str, num_dataloaders: int) -> None:
        """Refuse a step that cannot know which of several dataloaders a batch is from."""
        module = self.lightning_module
        if num_dataloaders < 2 or not is_overridden(module, step):
            return
        parameters = inspect.signature(getattr(module, step)).parameters.values()
        takes_any = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        if (
            not takes_any
            and len(parameters) < 3
            and "dataloader_idx" not in (p.name for p in parameters)
        ):
            raise UsageError(
                f"there are {num_dataloaders} dataloaders, but {type(module).__name__}.{step}"
                f"({', '.join(p.name for p in parameters)}) has no argument dataloader_idx; add "
                "dataloader_idx=0 as its last one"
            )

    def optimizer_turns(self) -> Sequence[int]:
        """Numbers of the optimizers that are used on this batch."""
        if not self._cycle:
            return self._all_optimizers
        counted = getattr(self._epoch_loop, "batch_progress", None)
        batch = counted.total.ready - 1 if counted is not None else self.place.batch_idx
        return (self._cycle[batch % len(self._cycle)],)

    def _step_plainly(self, optimizer: Any, optimizer_idx: int, closure: Any, **kwargs: Any) -> Any:
        """A step from within ``optimizer_step``, which the loop counts."""
        return self.device.step(optimizer, closure, **kwargs)

    def _step_by_hand(self, optimizer: Any, optimizer_idx: int, closure: Any, **kwargs: Any) -> Any:
        """A step that a module or a loop makes itself: announced and counted here."""
        progress, routes, scaler = self.optimization_progress, self.routes, self.device.scaler

        def announced() -> Any:
            loss = None
            if closure is not None:
                with torch.enable_grad():
                    loss = closure()
            if scaler is not None:
                scaler.unscale_(optimizer)
            routes.call("on_before_optimizer_step", optimizer, optimizer_idx)
            return loss

        counts = progress.step.total
        counts.ready += 1
        if closure is None:
            announced()
            result = self.device.step(optimizer, None, **kwargs)
        else:
            result = self.device.step(optimizer, announced, **kwargs)
        counts.completed += 1
        progress.steps_by_optimizer[optimizer_idx] += 1
        self.place.complete_step(counts.completed)
        return result

    def backward_by_hand(self, loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        """What ``manual_backward`` does."""
        routes, scaler = self.routes, self.device.scaler
        if scaler is not None:
            loss = scaler.scale(loss)
        routes.call("on_before_backward", loss)
        if args or kwargs:
            loss.backward(*args, **kwargs)
        else:
            routes.call("backward", loss, None, None)
        routes.call("on_after_backward")

    def _sanity_check(self) -> None:
        val_loop = getattr(self._epoch_loop, "val_loop", None)
        if val_loop is None or not self.loaders.wants_sanity_check:
            return
        self.loaders.sanity_checking = self.metrics.muted = True
        self.routes.call("on_sanity_check_start")
        with self.in_stage("sanity_check"):
            val_loop.run()
            self.metrics.drop_stage()
        self.routes.call("on_sanity_check_end")
        self.loaders.sanity_checking = self.metrics.muted = False

    def _evaluate(
        self,
        function: Literal["validate", "test"],
        model: LightningModule | None,
        dataloaders: Any,
        ckpt_path: str | os.PathLike[str] | None,
        verbose: bool,
        datamodule: LightningDataModule | None,
    ) -> list[dict[str, Scalar]]:
        def body(checkpoint: dict[str, Any] | None) -> list[dict[str, Scalar]]:
            self._set_up(function, checkpoint)
            if not self.loaders.evaluation(function):
                raise UsageError(f"there is no dataloader to {function} with")
            loop: EvaluationLoop = getattr(self, f"{function}_loop")
            results = loop.run()
            self._teardown(function)
            return results

        loaders: dict[str, Any] = {function: dataloaders}
        results: list[dict[str, Scalar]] = (
            self._run(function, body, model, loaders, datamodule, ckpt_path) or []
        )
        if verbose and results:
            _print_results(function, results)
        return results

    def _predict(self, checkpoint: dict[str, Any] | None) -> Any:
        self._set_up("predict", checkpoint)
        if not self.loaders.evaluation("predict"):
            raise UsageError("there is no dataloader to predict with")
        predictions = self.predict_loop.run()
        self._teardown("predict")
        return predictions

    def _teardown(self, function: Function) -> None:
        self.routes.call("teardown", function)
        getattr(self, f"{function}_loop").teardown()

    # -- data --------------------------------------------------------------------------------

    def move_batch(self, batch: Any, dataloader_idx: int) -> Any:
        """A batch on the device, through the three transfer hooks."""
        routes = self.routes
        if (hook := routes.on_before_batch_transfer) is not None:
            moved = hook(batch, dataloader_idx)
            batch = batch if moved is None else moved
        if (hook := routes.transfer_batch_to_device) is not None:
            moved = hook(batch, self.device.device, dataloader_idx)
            batch = batch if moved is None else moved
        if (hook := routes.on_after_batch_transfer) is not None:
            moved = hook(batch, dataloader_idx)
            batch = batch if moved is None else moved
        return batch

    def log_epoch_end(self, returned: Any, outputs: Any, step: str) -> dict[int, dict[str, Scalar]]:
        """Log what came of an epoch's results.

        Args:
            returned: by ``*_epoch_end``: a result, several, or a dict in the older style.
            outputs: what it was called with, logged from if it returned nothing.
            step: the step whose outputs they are.

        Returns:
            Values by dataloader index and metric name.
        """
        if isinstance(returned, Mapping):
            self.metrics.log_dicts(returned, is_epoch_end=True)
        results = outputs if returned is None else returned
        published: dict[int, dict[str, Scalar]] = {}
        for idx, result in enumerate(results if isinstance(results, list) else [results]):
            if isinstance(result, Result):
                self.place.move(dataloader_idx=idx if step != "training_step" else None)
                published[idx] = self.metrics.log_collected(result, step)
        self.place.move(dataloader_idx=0)
        return published

    # -- what loops ask ----------------------------------------------------------------------

    @contextmanager
    def in_stage(self, stage: Stage) -> Iterator[None]:
        """Be in another stage for a while, and then back where we were."""
        place = self.place
        before = place.stage, place.batch_idx, place.dataloader_idx
        place.move(stage=stage, batch_idx=-1)
        try:
            yield
        finally:
            place.move(stage=before[0], batch_idx=before[1], dataloader_idx=before[2])

    def announce_loop(self, name: str, total: int | None, unit: str, done: int = 0) -> None:
        """Record that a loop begins."""
        self.bus.emit(LoopStarted, None if total is None else total - done, unit, source=name)

    def announce_iteration(self, name: str, completed: int) -> None:
        """Record that a loop of the user's own did one more iteration."""
        self._iterations += 1
        self.bus.emit(LoopAdvanced, completed, source=name)

    def announce_loop_end(self, name: str, completed: int) -> None:
        """Record that a loop ended."""
        self.bus.emit(LoopEnded, completed, source=name)

    def begin_at(self, epochs: int, steps: int) -> None:
        """Go on where so many epochs and optimizer steps were done by another library."""
        if self._epoch_counter is not None:
            self._epoch_counter.epoch_progress.complete(epochs)
        self.optimization_progress.begin_at(steps)

    def step_schedulers(self) -> None:
        """After a batch: advance the schedulers whose optimizer has stepped."""
        steps = self.optimization_progress.steps_by_optimizer
        advanced = self._schedulers.after_batch(steps)
        self.optimization_progress.scheduler_step.total.completed += advanced

    def step_epoch_schedulers(self, epochs: int) -> None:
        """After an epoch, the so many-th: advance the schedulers that wait for it."""
        advanced = self._schedulers.after_epoch(epochs)
        self.optimization_progress.scheduler_step.total.completed += advanced

    def safe_point(self) -> None:
        """Between two steps: write what happened, and take commands."""
        bus = self.bus
        if bus.writer is not None:
            bus.flush()
        if bus.attention:
            self.at_safe_point()

    def between_batches(self) -> None:
        """Between two evaluation batches: write what happened; only signals are heeded."""
        self.bus.flush()
        if self.bus.attention:
            self._heed_signals()

    def at_safe_point(self) -> None:
        """What ``bus.attention`` asks for: Ctrl-C, newcomers, commands, a pause."""
        self.bus.attention = False
        while True:
            self._heed_signals()
            self.checkpointer.between_steps()
            while self._to_attach:
                actor = self._to_attach.popleft()
                (self.sinks if isinstance(actor, Sink) else self.actors).append(actor)  # type: ignore[arg-type]
                self._enrol(actor)
                self._connect()
            while self._to_detach:
                actor = self._to_detach.popleft()
                self._let_go(actor)
                self.bus.dismiss(actor, "detached")
                self._connect()
            self.bus.take_commands()
            self.bus.flush()
            if not self.paused:
                return
            self.bus.wait_for_command(0.1)

    def _heed_signals(self) -> None:
        signals = self._signals
        if signals.save_requested:
            signals.save_requested = False
            self._save_for_signal()
            if self.slurm_requeue:
                self.checkpointer.wait()
                requeue_job()
        if signals.ends_run:
            self._save_for_signal()
        signals.raise_if_asked()

    def _save_for_signal(self) -> None:
        """Save the run; that this fails does not keep it from ending."""
        if not self.checkpointer.can_save:
            return
        try:
            self.checkpointer.save_now()
        except CheckpointError as error:
            self.checkpointer.report(error)


def _backward(loss: torch.Tensor, optimizer: Any, optimizer_idx: int) -> None:
    loss.backward()


def _is_built_in(loop: Loop) -> bool:
    return type(loop).__module__.startswith(Loop.__module__.rpartition(".")[0] + ".")


def _zero_grad(epoch: int, batch_idx: int, optimizer: Any, optimizer_idx: int) -> None:
    optimizer.zero_grad()


def _print_results(function: str, results: list[dict[str, Scalar]]) -> None:
    for idx, values in enumerate(results):
        print(function if len(results) == 1 else f"{function}, dataloader {idx}")
        width = max(map(len, values), default=0)
        for name, value in values.items():
            print(f"  {name:<{width}}  {value:.6g}")


def seed_everything(seed: int = 0, workers: bool = False) -> int:
    """Seed Python's, NumPy's and torch's random number generators.

    Args:
        seed: an int from 0 to 2**32 - 1.
        workers: have the workers of training loaders seeded for each batch, with this seed and the
            batch's place in the run; so random augmentations are the same with any number of
            workers, and after a resume. That goes for a DataLoader with workers, over a dataset
            with ``__getitem__``, without a ``worker_init_fn``; not for subclasses of DataLoader.
            See docs/checkpoints.md.

    Returns:
        The seed.

    Raises:
        UsageError: it is out of range.
    """
    import random

    import numpy as np

    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise UsageError(f"seed={seed!r}: expected an int from 0 to {2**32 - 1}")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    seed_workers(seed if workers else None)
    return seed


__all__ = ["Trainer", "seed_everything"]
