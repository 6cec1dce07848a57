"""The Trainer: its arguments, the methods that users call, and those that loops call."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

from ..actors.arguments import (
    as_plain,
    check_at_least,
    check_choice,
    check_not_negative,
    check_seconds,
    listed,
    refuse_unknown_of,
)
from ..actors.callback import Callback
from ..actors.checkpoints.weights_only import check_weights_only
from ..actors.collectives import Collectives, DDPCollectives
from ..actors.data.combined_loader import CombineMode
from ..actors.data.validation_schedule import Interval
from ..actors.datamodule import LightningDataModule
from ..actors.device import Device
from ..actors.former_arguments import loaders_given, takes_former_arguments
from ..actors.loaders import Loaders
from ..actors.metrics.metrics import Metrics
from ..actors.metrics.predictions import Predictions
from ..actors.metrics.unlogged import UnloggedMetrics
from ..actors.module import LightningModule
from ..actors.optimization.progress import OptimizationProgress
from ..actors.overrides import is_overridden
from ..actors.process.slurm import check_requeue
from ..actors.process.torch_settings import measure_algorithms
from ..actors.profilers.choice import parse_profiler
from ..actors.profilers.profiler import Profiler
from ..actors.ranks.devices import parse_devices
from ..actors.ranks.group import AloneGroup, Group
from ..actors.ranks.strategy import DDPStrategy, parse_strategy
from ..actors.run_optimization import RunOptimization
from ..actors.saving.checkpointer import Checkpointer
from ..actors.saving.users_save import line_of_caller, save_for_user
from ..actors.wiring import Wiring
from ..bus.actor import Actor
from ..bus.bus import Bus
from ..bus.errors import ArgumentTypeError, NoModuleError, UsageError
from ..bus.events import Command, LoopAdvanced, LoopEnded, LoopStarted, Scalar
from ..bus.log.place import Place
from ..bus.mail.reply import Reply, check_deadline
from ..bus.media import DEFAULT_MEDIA_BYTES, LARGEST_MEDIA_BYTES
from ..bus.runs.marks import MAX_GROUP, checked_tags, checked_text
from ..bus.runs.run_folder import RunFolder, RunInfo
from ..bus.statistics import BusStatistics
from ..bus.system.logging_setup import bind_rank, get_logger, level
from ..bus.system.paths import FolderText, as_path
from ..loops import EvaluationLoop, FitLoop, Loop, PredictionLoop, TrainingStepLoop
from ..loops.results_table import print_any_results
from ..loops.running_loss import RunningLoss
from ..loops.stop_requests import StopRequests
from ..sinks.factory import make_sinks
from ..sinks.silent_logger import SilentLogger
from ..sinks.sink import Sink
from . import functions
from .assigned import AttachedLoop
from .call_arguments import CallArguments
from .command_line import CommandLine
from .copies import TrainerCopies
from .enrolment import Enrolment
from .for_loggers import ForLoggers
from .former_names import FormerNames
from .launch import launch_and_join
from .open_run import OpenRun
from .participants import Participants, bar_of
from .run import ending_with_others, run
from .safe_points import SafePoints
from .state import TrainerState
from .tuner.former import Tunes

_log = get_logger("nightbus.trainer")

_DEFAULT_EPOCHS = 1000


class Trainer(TrainerCopies, Tunes, FormerNames, CommandLine):
    """Trains, validates, tests and predicts with a LightningModule, and records the run.

    Args:
        max_epochs: maximum number of epochs; -1 for no limit. The default is 1000 if nothing else
            limits training: no max_steps, no max_time and no Timer with a duration.
        min_epochs: minimum number of epochs; a request to stop waits until they are completed.
        max_steps: maximum number of optimizer steps; -1 for no limit.
        min_steps: minimum number of optimizer steps; a request to stop waits until they are
            completed.
        max_time: maximum duration of training: ``"DD:HH:MM:SS"``, a timedelta, or a dict of a
            timedelta's arguments. It adds a Timer to the callbacks, unless one with a duration is
            among them.
        limit_train_batches: number (int) or fraction (float) of the training batches of an epoch.
        limit_val_batches: the same for validation.
        limit_test_batches: the same for testing.
        limit_predict_batches: the same for prediction.
        val_check_interval: interval between validations: a number of batches (int), a fraction of
            an epoch (float), or a duration: ``"DD:HH:MM:SS"``, a timedelta, or a dict of a
            timedelta's arguments.
        check_val_every_n_epoch: validate only in every n-th epoch; None counts the batches of
            val_check_interval across epochs.
        num_sanity_val_steps: number of validation batches to run before training; -1 for all.
        fast_dev_run: run one batch (True) or this number of batches of everything, and write
            nothing but the log.
        overfit_batches: train on this number (int) or fraction (float) of the batches, in a fixed
            order.
        accumulate_grad_batches: number of batches for each optimizer step; a dict of epoch ->
            number of batches adds a GradientAccumulationScheduler.
        gradient_clip_val: maximum gradient norm or value; None does not clip.
        gradient_clip_algorithm: ``norm`` or ``value``; None for ``norm``.
        log_every_n_steps: interval in steps at which step values from ``log`` go to sinks; 0 for
            no step values, so that they get those of epochs only.
        precision: ``32-true``, ``bf16-mixed`` or ``16-mixed``; ``64-true``, ``bf16-true`` and
            ``16-true`` convert the weights and batches themselves.
        accelerator: ``auto``, ``cpu``, ``gpu`` or ``mps``.
        devices: number of devices of this machine, each of which gets a process of its own; -1 for
            all, or a list of their indices. On the CPU, the number of processes. ``auto`` means
            as many as a launcher such as torchrun has started, or one. See docs/distributed.md.
        num_nodes: number of machines, whose processes a launcher must start; by default the number
            that the launcher gives.
        strategy: how several processes train: ``auto``, ``ddp``,
            ``ddp_find_unused_parameters_true`` or a DDPStrategy.
        deterministic: use deterministic algorithms only; ``"warn"`` warns about an operation that
            has none.
        benchmark: let cuDNN choose the fastest algorithms by measuring them, from now on; None
            leaves ``torch.backends.cudnn.benchmark`` as it is, or False with ``deterministic``.
        detect_anomaly: report the operation whose backward pass produced NaN; slow.
        enable_progress_bar: show progress on stderr.
        enable_model_summary: show the module's children and their sizes when fit begins.
        enable_checkpointing: save the run at the end of each epoch and when it stops, and keep the
            newest two checkpoints. ``checkpoint_callback.best_model_path`` is the newest, unless a
            callback that saves checkpoints is given.
        callbacks: callbacks, in the order in which their hooks run.
        actors: actors, whose methods run on the training thread or on the bus thread.
        sinks: destinations of events. A function is called with each put.
        logger: True adds a CSV sink unless there is one; False adds none. A Lightning logger, or
            any iterable of them, is wrapped as a sink. With fast_dev_run, ``self.logger`` accepts
            the calls of a logger and writes nothing.
        default_root_dir: parent of the folder ``runs``; the working directory by default.
        run_name: first part of the name of the run's folder, which ends in an id; the module's
            class by default.
        tags: words by which the run is found: a text, or several. ``nightbus tag`` changes them.
        notes: a text about the run. ``nightbus note`` changes it.
        group: name of the runs that this one belongs to, such as a sweep.
        recording: ``all`` records every event; ``metrics`` leaves out hooks that no live observer
            wants; ``off`` records nothing, but live observers still receive every event they want.
            The last 2,000 events are kept in memory in any case, and are written to disk when the
            run crashes, hangs or gets SIGQUIT; see docs/hangs.md.
        strict_recording: stop the run in good order when its events can no longer be written to
            disk, instead of continuing and reporting at the end what is missing.
        record_system: record what the process and its machine use, every 5 seconds, or as many as
            are given: processor, memory, disk, network and, with nvidia-ml-py, the GPU; see
            docs/metrics.md.
        record_console: record what the process prints on standard output and error, line by line,
            without secrets; see docs/metrics.md.
        record_code_diff: keep, in the run's folder, what ``git diff`` says of the script's code, at
            most 200 kB, without secrets; ``nb.open_run(...).code_diff`` returns it.
        control: serve a socket in the run's folder for ``nightbus send``; only the owner of the
            folder can use it. A run without a folder has no socket.
        reload_dataloaders_every_n_epochs: interval in epochs at which new dataloaders are
            requested; those of validation at the first validation that is so many epochs after
            they were. 0 for never.
        multiple_trainloader_mode: how batches of several training loaders are combined; see
            CombinedLoader.
        prepare_data_per_node: call ``prepare_data`` on each machine; if False, on the first only.
        use_distributed_sampler: on several ranks, give each rank a part of the data: in training as
            torch's DistributedSampler does, in evaluation and prediction so that each sample is
            read exactly once. A loader with a DistributedSampler keeps it. With False, and for a
            stream (IterableDataset), you divide the data yourself.
        sync_batchnorm: on several ranks with GPUs, normalise by the batches of all ranks: when fit
            begins, torch's SyncBatchNorm replaces the module's BatchNorms.
        max_media_bytes: maximum encoded size of an image, figure, histogram, text or table in the
            log, in bytes; 1,000,000 or less.
        drain_timeout: how long sinks may take to finish at the end, in seconds.
        slurm_requeue: put the job back into SLURM's queue after saving on SIGUSR1, which
            ``sbatch --signal=USR1@90`` sends before the time limit; train with
            ``ckpt_path="last"``.
        hang_timeout: duration in seconds after which a step, an evaluation batch, the set-up or
            the work between them counts as hanging: the stacks of all threads are written into the
            run's folder, and the run continues. None disables this. See docs/hangs.md.
        inference_mode: run ``validate``, ``test`` and ``predict`` in torch's inference mode, whose
            tensors cannot be used for gradients later; False only leaves out gradients, which
            ``torch.enable_grad()`` brings back. Validation within ``fit`` always does the latter.
        enable_autolog_hparams: record the hyperparameters that the module and the datamodule save,
            for sinks and loggers; checkpoints have them either way.
        barebones: measure speed alone: no event log, checkpoints, sinks, progress bar, summary,
            sanity check or control socket, and ``self.log`` records nothing. Asking for one of them
            as well is an error.
        profiler: measure what hooks take, and show it when a function ends: ``simple`` (the time
            of each), ``advanced`` (of each function in it), ``pytorch`` (the operations of some
            steps, and a trace of them in the run's folder), or a Profiler. It costs time; the log
            has the time of each hook anyway, see ``nightbus show``.

    Raises:
        UsageError: an argument is invalid; the message says which values are valid.
    """

    @takes_former_arguments
    def __init__(
        self,
        *,
        max_epochs: int | None = None,
        min_epochs: int | None = None,
        max_steps: int = -1,
        min_steps: int | None = None,
        max_time: str | timedelta | dict[str, int] | None = None,
        limit_train_batches: int | float = 1.0,
        limit_val_batches: int | float = 1.0,
        limit_test_batches: int | float = 1.0,
        limit_predict_batches: int | float = 1.0,
        val_check_interval: Interval | None = 1.0,
        check_val_every_n_epoch: int | None = 1,
        num_sanity_val_steps: int = 2,
        fast_dev_run: bool | int = False,
        overfit_batches: int | float = 0.0,
        accumulate_grad_batches: int | Mapping[int, int] = 1,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: Literal["norm", "value"] | None = None,
        log_every_n_steps: int = 50,
        precision: str | int = "32-true",
        accelerator: str = "auto",
        devices: Any = "auto",
        num_nodes: int | None = None,
        strategy: str | DDPStrategy = "auto",
        deterministic: bool | Literal["warn"] = False,
        benchmark: bool | None = None,
        detect_anomaly: bool = False,
        enable_progress_bar: bool = True,
        enable_model_summary: bool = True,
        enable_checkpointing: bool = True,
        callbacks: Callback | Sequence[Callback] | None = None,
        actors: Actor | Sequence[Actor] = (),
        sinks: Sink | Callable[[Any], Any] | Sequence[Sink | Callable[[Any], Any]] = (),
        logger: Any = True,
        default_root_dir: str | os.PathLike[str] | None = None,
        run_name: str | None = None,
        tags: str | Sequence[str] = (),
        notes: str = "",
        group: str = "",
        recording: Literal["all", "metrics", "off"] = "all",
        strict_recording: bool = False,
        record_system: bool | float = True,
        record_console: bool = False,
        record_code_diff: bool = False,
        control: bool = True,
        reload_dataloaders_every_n_epochs: int = 0,
        multiple_trainloader_mode: CombineMode = "max_size_cycle",
        prepare_data_per_node: bool = True,
        use_distributed_sampler: bool = True,
        sync_batchnorm: bool = False,
        drain_timeout: float = 30.0,
        max_media_bytes: int = DEFAULT_MEDIA_BYTES,
        slurm_requeue: bool = False,
        hang_timeout: float | None = None,
        inference_mode: bool = True,
        enable_autolog_hparams: bool = True,
        barebones: bool = False,
        profiler: Profiler | str | None = None,
    ) -> None:
        asked = parse_devices(devices, accelerator)
        self.world = asked.world(check_at_least("num_nodes", num_nodes, 1))
        bind_rank(self.world.rank)
        self.ddp: DDPStrategy = parse_strategy(strategy, self.world.size)
        level()  # checks NIGHTBUS_LOG now rather than at the first message
        self.config = as_plain(self._arguments)
        self.participants = Participants(
            listed("callbacks", callbacks, Callback, "a nightbus.Callback"),
            listed("actors", actors, Actor, "a nightbus.Actor; callbacks go to callbacks="),
        )
        self.participants.add_former(self._former)
        self._call_on_init("on_init_start")
        _check_media_bytes(max_media_bytes)
        if slurm_requeue:
            check_requeue()
        self.slurm_requeue = slurm_requeue
        self.device = Device(accelerator, precision, asked.index_of(self.world, accelerator))
        self._device_ids = asked.of_machine(self.world)
        self._arguments["precision"] = self.device.precision
        self.recording = check_choice("recording", recording, ("all", "metrics", "off"))
        self.strict_recording = strict_recording
        self.record_console = record_console
        is_switch = isinstance(record_system, bool)
        self.record_system = (
            record_system if is_switch else check_seconds("record_system", record_system) or False
        )
        self.record_code_diff = record_code_diff
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
        self.loaders.use_distributed_sampler = use_distributed_sampler
        self.profiler = parse_profiler(profiler)
        self.sync_batchnorm, self.inference_mode = sync_batchnorm, inference_mode
        self.enable_autolog_hparams = enable_autolog_hparams
        self.prepare_data_per_node = prepare_data_per_node
        self._set_gradients(accumulate_grad_batches, gradient_clip_val, gradient_clip_algorithm)
        self.deterministic = check_choice(
            "deterministic",
            False if deterministic is None else deterministic,
            (True, False, "warn"),
        )
        self.benchmark = _checked_benchmark(benchmark, bool(deterministic))
        if self.benchmark is not None:
            measure_algorithms(self.benchmark)
        self.detect_anomaly = detect_anomaly
        self.drain_timeout = drain_timeout
        self.hang_timeout = check_seconds("hang_timeout", hang_timeout)
        self.run_name = run_name
        self.noted = RunInfo(
            *("", "", 0, []),
            tags=checked_tags(tags),
            notes=checked_text("notes", notes),
            group=checked_text("group", group, MAX_GROUP),
        )
        self.default_root_dir = FolderText(as_path(default_root_dir or Path.cwd()))
        self.participants.limit_time(max_time)
        self.has_default_epochs = False
        max_epochs, max_steps = self._apply_fast_dev_run(fast_dev_run, max_epochs, max_steps)
        self._set_outputs(make_sinks(sinks, logger), enable_progress_bar, enable_model_summary)
        fit_loop = FitLoop(
            check_at_least("min_epochs", min_epochs, 0),
            max_epochs,
            check_at_least("min_steps", min_steps, 0),
            max_steps,
        )
        self._make_loops(fit_loop)
        self._make_parts(log_every_n_steps, max_media_bytes, OptimizationProgress())
        self._set_initial_state()
        self._call_on_init("on_init_end")

    def _call_on_init(self, hook: Literal["on_init_start", "on_init_end"]) -> None:
        for callback in self.callbacks:
            if is_overridden(callback, hook):
                getattr(callback, hook)(self)

    def _set_gradients(
        self,
        accumulate_grad_batches: int | Mapping[int, int],
        gradient_clip_val: float | None,
        gradient_clip_algorithm: Literal["norm", "value"] | None,
    ) -> None:
        """Check and keep what is done to gradients before a step."""
        self.participants.check_accumulation(accumulate_grad_batches)
        if isinstance(accumulate_grad_batches, Mapping):
            scheduler = self.participants.accumulate(accumulate_grad_batches)
            accumulate_grad_batches = scheduler.get_accumulate_grad_batches(0)
        self.accumulate_grad_batches = (
            check_at_least("accumulate_grad_batches", accumulate_grad_batches, 1) or 1
        )
        self.gradient_clip_val = check_not_negative("gradient_clip_val", gradient_clip_val)
        if gradient_clip_algorithm is not None:
            check_choice("gradient_clip_algorithm", gradient_clip_algorithm, ("norm", "value"))
        self.gradient_clip_algorithm = gradient_clip_algorithm

    def _set_outputs(
        self, sinks: list[Sink], enable_progress_bar: bool, enable_model_summary: bool
    ) -> None:
        """Keep the destinations of events; a fast dev run and ranks but 0 write nothing."""
        writes = self.is_global_zero and not self.fast_dev_run
        self.silent_loggers = [SilentLogger()] if sinks and not writes else []
        if writes:
            self.sinks = sinks
        self.participants.progress_bar = bar_of(
            self.callbacks, enable_progress_bar, self.is_global_zero
        )
        self.participants.complete(
            enable_progress_bar, self._arguments["enable_checkpointing"], enable_model_summary
        )

    def _make_loops(self, fit_loop: FitLoop) -> None:
        self.max_epochs_given, self.max_steps_given = fit_loop.max_epochs, fit_loop.max_steps
        self._fit_loop: Any = fit_loop
        self.epoch_counter: FitLoop | None = fit_loop
        fit_loop.attach(self)
        self.validate_loop = EvaluationLoop("validate")
        self.test_loop = EvaluationLoop("test")
        self.predict_loop = PredictionLoop()

    def _make_parts(
        self, log_every_n_steps: int, max_media_bytes: int, progress: OptimizationProgress
    ) -> None:
        """Make the parts of the trainer."""
        self.group: Group = AloneGroup()
        self.state = TrainerState(lambda: self.place)
        self.collectives = self._made_collectives()
        self.place = Place(self.world.rank)
        self.bus = Bus(self.place)
        self.routes = self.bus.routes
        kind = UnloggedMetrics if self._arguments["barebones"] else Metrics
        self.metrics = kind(self.bus, log_every_n_steps, max_media_bytes)
        self.predictions = Predictions()
        self.optimization_progress = progress
        self.optimization = RunOptimization(self)
        self.wiring = Wiring(self, self.optimization)
        self.checkpointer = Checkpointer(self, self.optimization)
        self.for_loggers = ForLoggers(
            self.metrics, self.participants, lambda: self.open_run is not None, self.enrol
        )
        self.enrolment = Enrolment(self, self.for_loggers)
        self.safe_points = SafePoints(
            self,
            self.checkpointer,
            self._attach_now,
            self._detach_now,
            self._end_epoch_now,
            self.slurm_requeue,
        )

    def _made_collectives(self) -> Collectives:
        """Make what ``trainer.strategy`` is: a DDPStrategy too, if one was asked for or is used."""
        is_ddp = self._arguments["strategy"] not in (None, "auto", "single_device")
        if is_ddp or self.world.size > 1:
            return DDPCollectives(self.ddp, self.world, self.device, self._exchanging, self)
        return Collectives(self.world, self.device, self._exchanging, self)

    def _set_initial_state(self) -> None:
        """Set the attributes of a trainer that has not run yet."""
        self._module: LightningModule | None = None
        self.datamodule: LightningDataModule | None = None
        self.ckpt_path: str | os.PathLike[str] | None = None
        self._used_checkpoints = {}
        self.run_folder: RunFolder | None = None
        self.open_run: OpenRun | None = None
        self.attempt = -1
        self.running_loss: RunningLoss | None = None
        self.stops = StopRequests()
        self.paused = False
        self.interrupted = False
        self.is_training_under_way = False
        self.announced_iterations = 0  # of loops that show their iterations

    def _apply_fast_dev_run(
        self, fast_dev_run: bool | int, max_epochs: int | None, max_steps: int
    ) -> tuple[int | None, int]:
        if not isinstance(fast_dev_run, bool):
            check_at_least("fast_dev_run", fast_dev_run, 0)
        self.fast_dev_run = True if fast_dev_run == 1 else fast_dev_run
        if fast_dev_run:
            batches = int(fast_dev_run)
            self.loaders.run_batches(batches)
            self.enable_checkpointing = False
            limits = (f"limit_{stage}_batches" for stage in ("train", "val", "test", "predict"))
            self._arguments |= {
                **dict.fromkeys(limits, batches),
                "num_sanity_val_steps": 0,
                "val_check_interval": 1.0,
                "check_val_every_n_epoch": 1,
            }
            return 1, batches
        is_limited = self.has_time_limit or max_steps not in (-1, None)
        if max_epochs is None and not is_limited:
            self.has_default_epochs = True
            return _DEFAULT_EPOCHS, max_steps
        return max_epochs, max_steps

    # -- what users call ---------------------------------------------------------------------

    def fit(
        self,
        model: LightningModule | None = None,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | os.PathLike[str] | None = None,
        weights_only: bool | None = None,
        **unknown: Any,
    ) -> None:
        """Train the module, and validate it at the configured intervals.

        Args:
            model: module to train.
            train_dataloaders: one loader or a collection of them; or a LightningDataModule.
            val_dataloaders: one loader or several.
            datamodule: source of the loaders if none are given.
            ckpt_path: checkpoint to resume from, in a new attempt of its run. ``last`` is the
                newest checkpoint of the newest run with this run's name; if there is none,
                training begins from scratch. ``best`` is the best checkpoint of ModelCheckpoint.
            weights_only: accepted for code written for Lightning, without effect: a checkpoint is
                always read completely and never executed. False logs a warning once.
            **unknown: refused.

        Raises:
            UsageError: an argument is missing or invalid.
            NightbusError: the set-up is invalid. Exceptions of user code are passed on.
        """
        train_dataloaders = loaders_given("fit", train_dataloaders, unknown)
        refuse_unknown_of("fit", unknown, self.fit)
        if model is None:
            raise UsageError(
                "fit() needs the module to train: trainer.fit(module, train_dataloaders), or "
                "trainer.fit(module, datamodule=...)"
            )
        check_weights_only("fit", weights_only)
        if ckpt_path is None:
            ckpt_path = self._former.get("resume_from_checkpoint")
        loaders = {"train": train_dataloaders, "validate": val_dataloaders}
        given = CallArguments(model, loaders, datamodule, ckpt_path)
        run(self, "fit", partial(functions.fit, self), given)

    def validate(
        self,
        model: LightningModule | None = None,
        dataloaders: Any = None,
        ckpt_path: str | os.PathLike[str] | None = None,
        verbose: bool = True,
        datamodule: LightningDataModule | None = None,
        weights_only: bool | None = None,
        **unknown: Any,
    ) -> list[dict[str, Scalar]]:
        """Run validation once.

        Args:
            model: module to validate; that of the last run by default.
            dataloaders: one loader or several; or a LightningDataModule.
            ckpt_path: checkpoint to take the weights from; ``last`` and ``best`` as for ``fit``.
                After training, if neither a model nor this is given, the weights are those of the
                best checkpoint of the first ModelCheckpoint; without one, of the run's newest; if
                none was saved, those at the end of training.
            verbose: print the metrics.
            datamodule: source of the loaders if none are given.
            weights_only: as for ``fit``.
            **unknown: refused.

        Returns:
            The epoch's metrics, a dict for each dataloader.

        Raises:
            NightbusError: the set-up is invalid. Exceptions of user code are passed on.
        """
        dataloaders = loaders_given("validate", dataloaders, unknown)
        refuse_unknown_of("validate", unknown, self.validate)
        check_weights_only("validate", weights_only)
        given = CallArguments(model, {"validate": dataloaders}, datamodule, ckpt_path)
        return self._evaluate("validate", given, verbose)

    def test(
        self,
        model: LightningModule | None = None,
        dataloaders: Any = None,
        ckpt_path: str | os.PathLike[str] | None = None,
        verbose: bool = True,
        datamodule: LightningDataModule | None = None,
        weights_only: bool | None = None,
        **unknown: Any,
    ) -> list[dict[str, Scalar]]:
        """Run the test once.

        Args:
            model: module to test; that of the last run by default.
            dataloaders: one loader or several; or a LightningDataModule.
            ckpt_path: checkpoint to take the weights from, as for ``validate``.
            verbose: print the metrics.
            datamodule: source of the loaders if none are given.
            weights_only: as for ``fit``.
            **unknown: refused.

        Returns:
            The epoch's metrics, a dict for each dataloader.

        Raises:
            NightbusError: the set-up is invalid. Exceptions of user code are passed on.
        """
        dataloaders = loaders_given("test", dataloaders, unknown)
        refuse_unknown_of("test", unknown, self.test)
        check_weights_only("test", weights_only)
        given = CallArguments(model, {"test": dataloaders}, datamodule, ckpt_path)
        return self._evaluate("test", given, verbose)

    def predict(
        self,
        model: LightningModule | None = None,
        dataloaders: Any = None,
        datamodule: LightningDataModule | None = None,
        return_predictions: bool | None = True,
        ckpt_path: str | os.PathLike[str] | None = None,
        weights_only: bool | None = None,
        **unknown: Any,
    ) -> Any:
        """Run prediction once.

        Args:
            model: module to predict with; that of the last run by default, as for ``validate``.
            dataloaders: one loader or several; or a LightningDataModule.
            datamodule: source of the loaders if none are given.
            return_predictions: return the results of ``predict_step``; None means True.
            ckpt_path: checkpoint to take the weights from, as for ``validate``.
            weights_only: as for ``fit``.
            **unknown: refused.

        Returns:
            A list with an entry for each batch; for several loaders, a list of such lists. None if
            ``return_predictions`` is False.

        Raises:
            NightbusError: the set-up is invalid. Exceptions of user code are passed on.
        """
        self.predict_loop.return_predictions = return_predictions is not False
        refuse_unknown_of("predict", unknown, self.predict)
        check_weights_only("predict", weights_only)
        loaders = {"predict": dataloaders}
        given = CallArguments(model, loaders, datamodule, ckpt_path)
        return run(self, "predict", partial(functions.predict, self), given)

    def _evaluate(
        self, function: Literal["validate", "test"], given: CallArguments, verbose: bool
    ) -> list[dict[str, Scalar]]:
        results = run(self, function, partial(functions.evaluate, self, function), given) or []
        if verbose and results and self.is_global_zero:
            loop: Loop = getattr(self, f"{function}_loop")
            getattr(loop, "print_results", partial(print_any_results, function))(results)
        return results

    def attach(self, actor: Actor) -> None:
        """Add an actor or sink, at the next safe point if a run is open; from any thread.

        A sink receives the run's events from its start, an actor those after the safe point. Of
        several ranks, rank 0 alone has sinks; on others, nothing is done with one.
        """
        if isinstance(actor, Sink) and not self.is_global_zero:
            return
        self.bus.check_is_here(f"{type(actor).__name__} was to be attached")
        if self.open_run is None:
            self.participants.add(actor)
        else:
            self.safe_points.attach_later(actor)

    def detach(self, actor: Actor) -> None:
        """Remove an actor or sink, at the next safe point if a run is open; from any thread.

        The removal is recorded in the log.

        Raises:
            UsageError: the actor is not attached.
        """
        if isinstance(actor, Sink) and not self.is_global_zero:
            return
        if actor not in self.participants:
            raise UsageError(f"{type(actor).__name__} is not attached to this trainer")
        self.bus.check_is_here(f"{type(actor).__name__} was to be detached")
        if self.open_run is None:
            self.participants.remove(actor)
        else:
            self.safe_points.detach_later(actor)

    def tell(self, target: str, command: Command) -> None:
        """Send a command to an actor, from any thread, without waiting for a reply.

        A command that reaches no actor becomes a dead letter, which is recorded in the log.

        Args:
            target: address of the actor, for example ``"fit"``.
            command: command to send.
        """
        self.bus.post(target, command, "user", None)

    def ask(self, target: str, command: Command, timeout_s: float = 5.0) -> Any:
        """Send a command to an actor and wait for the reply; not from the training thread.

        Args:
            target: address of the actor, for example ``"fit"``.
            command: command to send.
            timeout_s: how long to wait, in seconds; there is always a deadline.

        Returns:
            What the actor's handler returned.

        Raises:
            AskTimeoutError: there was no reply within ``timeout_s``.
            ActorRaisedError: the handler raised; ``__cause__`` is its exception.
            UnknownActorError, UnhandledCommandError, MailboxFullError, CommandDroppedError,
                ActorStoppedError: there will be no reply.
        """
        check_deadline(timeout_s)
        reply = Reply()
        self.bus.post(target, command, "user", reply)
        return reply.wait(timeout_s)

    def statistics(self) -> BusStatistics:
        """Count what is in the run's log, mailboxes and observers now; from any thread.

        After the run, the counts are those at its end.
        """
        return self.bus.statistics()

    def save_checkpoint(self, filepath: str | os.PathLike[str], weights_only: bool = False) -> None:
        """Save a checkpoint, which is a folder; it is complete on disk when this returns.

        Between two steps or epochs, and after the run, the checkpoint is exact: a run that is
        resumed from it continues as if it had never ended. Within a hook it holds the state at that
        moment: a resumed run repeats a batch that was in progress, and skips the hooks that
        followed the save in a batch that was already counted.

        On several ranks, call it on all ranks at the same point, with the same path: the checkpoint
        holds the state of all. If only some ranks call it, they wait 10 seconds for the others.
        Then rank 0 saves its own state, and a warning names the line.

        Args:
            filepath: path of the checkpoint; must not exist yet.
            weights_only: leave out what is needed to resume.

        Raises:
            CheckpointError: a value in the state cannot be saved, or the disk failed.
            NoModuleError: no module was given yet.
        """
        if self._module is None:
            raise NoModuleError(
                f"save_checkpoint({os.fspath(filepath)!r}): no module was given yet, so there is "
                "nothing to save; call fit, validate, test or predict with one before"
            )
        path, line = as_path(filepath), line_of_caller(1)
        save_for_user(self.checkpointer, self.group, path, weights_only, line)

    def init_module(self, empty_init: bool | None = None) -> AbstractContextManager[None]:
        """Make modules within on the device of the run, in the precision of its weights.

        Large modules need memory in one place only, and their weights are not converted later::

            with trainer.init_module():
                module = Net()

        Args:
            empty_init: leave weights uninitialised, because a checkpoint will replace them.

        Returns:
            The context.
        """
        return self.device.new_module(bool(empty_init))

    # -- between the ranks -------------------------------------------------------------------

    def barrier(self, name: str | None = None) -> None:
        """Wait until all ranks have called this, without a time limit.

        Like ``broadcast``, ``all_gather`` and ``reduce``, it is called on all ranks, in the same
        order, on the thread that trains, within a run or not. If no run has begun yet, the ranks
        join, and are started, as for a run. In one process it does nothing.

        Args:
            name: what they wait for, for errors.

        Raises:
            RankMismatchError: another rank calls something else.
            UsageError: this is another thread than the one that trains.
        """
        self.collectives.barrier(name)

    def broadcast(self, value: Any, src: int = 0) -> Any:
        """Give all ranks the value of one; nothing is pickled.

        Args:
            value: the value: anything that a checkpoint can hold, with tensors of any size;
                ignored on other ranks.
            src: the rank whose value it is.

        Returns:
            The value of that rank.

        Raises:
            RankMismatchError: another rank calls something else.
            UsageError: there is no such rank, the value has another type, or this is another
                thread than the one that trains.
        """
        return self.collectives.broadcast(value, src)

    def all_gather(self, data: Any, group: Any = None, sync_grads: bool = False) -> Any:
        """Give each rank the tensors of all ranks.

        Args:
            data: tensors or numbers, in any nesting of containers; the same number of them, with
                the same shapes and types, on all ranks.
            group: None; use torch.distributed for a part of the ranks.
            sync_grads: let gradients flow back to the ranks that the tensors come from.

        Returns:
            The same containers, with tensors of shape (world_size, *shape) on the device of the
            run; of shape (*shape) if there is one process only.

        Raises:
            RankMismatchError: another rank calls something else, or its tensors differ in shape or
                type.
            UsageError: this is another thread than the one that trains.
        """
        return self.collectives.all_gather(data, group, sync_grads)

    def reduce(self, tensor: Any, reduce_op: str = "mean") -> Any:
        """Reduce tensors of all ranks to one.

        Args:
            tensor: tensors or numbers, as for ``all_gather``; they are not changed.
            reduce_op: ``mean``, ``sum`` or ``max``.

        Returns:
            The same containers, with the reduced tensors, which are the same on all ranks.

        Raises:
            RankMismatchError: another rank calls something else, or its tensors differ in shape or
                type.
            UsageError: there is no such reduction, or this is another thread than the one that
                trains.
        """
        return self.collectives.reduce(tensor, reduce_op=reduce_op)

    @contextmanager
    def _exchanging(self, what: str) -> Iterator[Group]:
        """Give the group of all ranks for an exchange, if this thread may begin one.

        Args:
            what: the exchange, for errors.
        """
        self.bus.check_is_here(f"{what} was called")
        if self.open_run is not None:
            self.bus.admission.check_is_training_thread(what)
            yield self.group
            return
        with ending_with_others(self):
            if self.group.world.size != self.world.size:
                self.join_ranks()
            yield self.group

    # -- module and loops --------------------------------------------------------------------

    @property
    def lightning_module(self) -> LightningModule:
        """The module that runs, or ran last; None before that."""
        return cast("LightningModule", self._module)  # of a run, in which most ask for it

    @property
    def model(self) -> Any:
        """The module that runs, or ran last; None before that.

        Between two runs it can be assigned, for ``validate``, ``test`` and ``predict``.
        """
        return self._module

    @model.setter
    def model(self, model: LightningModule) -> None:
        if self.open_run is not None:
            raise UsageError(
                f"trainer.model was assigned during {self.function}, which runs another module; "
                "assign it before, or give it to the next call"
            )
        self._module = CallArguments(model, {"train": None}, None, None).checked().model

    validate_loop = AttachedLoop()
    test_loop = AttachedLoop()
    predict_loop: Any = AttachedLoop()

    @property
    def fit_loop(self) -> Any:
        """The loop that ``fit`` runs; assign a loop of your own to replace it.

        A FitLoop made without limits takes the limits of the loop that it replaces.
        """
        return self._fit_loop

    @fit_loop.setter
    def fit_loop(self, loop: Loop) -> None:
        if not isinstance(loop, Loop):
            raise UsageError(f"fit_loop is {type(loop).__name__}; expected a nightbus.Loop")
        former = self.epoch_counter
        self._fit_loop = loop
        loop.attach(self)
        self.find_epoch_counter()
        if former is not None and self.epoch_counter is not None:
            self.epoch_counter.copy_limits(former)

    def loop_connected(self, loop: Loop, former: Loop | None) -> None:
        """Connect a loop that was added, or that replaced another, possibly during a run.

        Args:
            loop: the new loop.
            former: the loop that it replaced; None if it was added.
        """
        self.find_epoch_counter()
        if self.open_run is not None:
            self.enrolment.connect_loop(loop, former)

    # -- a run -------------------------------------------------------------------------------

    def set_arguments(self, given: CallArguments) -> None:
        """Check and keep the arguments of a run, before anything is created for it.

        Raises:
            UsageError: the arguments are invalid, or the trainer is running already.
        """
        if self.open_run is not None:
            raise UsageError(
                f"the trainer is running {self.function}; it runs one thing at a time: do this "
                f"when {self.function} has ended, or with another Trainer"
            )
        model, loaders, datamodule, self.ckpt_path = given.checked()
        if model is not None:
            self._module = model
        if self._module is None:
            raise ArgumentTypeError(
                "no module was given yet; call fit, validate, test or predict with one"
            )
        module = self._module
        self.optimization.begin(module)
        if datamodule is not None or model is not None:
            self.datamodule = datamodule
        self.loaders.begin(loaders, module, self.datamodule, lambda: self.routes)

    def join_ranks(self) -> None:
        """Join the other ranks, and start them before if no launcher has."""
        self.device.make_current()
        backends = self.ddp.backends(self.device.device.type)
        self.group = launch_and_join(self.world, backends, self.ddp.timeout)
        self.metrics.group = self.group
        self.loaders.read_parts(self.group)

    def enter_run(self, opened: OpenRun) -> None:
        """Use the bus and the place of a run that was opened."""
        self.open_run = opened
        self.attempt, self.place, self.bus = opened.attempt, opened.place, opened.bus
        self.routes = self.bus.routes
        self.stops = StopRequests()
        self.paused = self.interrupted = False

    def enrol(self, actor: Actor) -> None:
        """Make an actor that was added during the run a part of it."""
        assert self.open_run is not None
        self.enrolment.enrol(actor, self.open_run)

    def _attach_now(self, actor: Actor) -> None:
        self.participants.add(actor)
        self.enrol(actor)
        self.wiring.connect()

    def _detach_now(self, actor: Actor) -> None:
        self.participants.remove(actor)
        self.bus.remove(actor, "detached")
        self.wiring.connect()

    def _end_epoch_now(self) -> None:
        if self.epoch_loop is not None:
            self.epoch_loop.is_last_batch = True

    # -- what loops call ---------------------------------------------------------------------

    def setup_optimizers(self) -> None:
        """Call ``configure_optimizers`` and prepare to step the optimizers that it returns.

        ``fit`` does this when it begins. A loop that trains several times, for example on folds,
        calls it before each training.

        Raises:
            UsageError: ``configure_optimizers`` returned something invalid.
        """
        loops = self.fit_loop.walk()
        self.optimization.set_up(
            all(loop.asks_module for loop in loops if isinstance(loop, TrainingStepLoop))
        )
        self.wiring.connect()  # how a step is made depends on the optimizers
        self.optimization.begin_schedulers()

    def move_batch(self, batch: Any, dataloader_idx: int) -> Any:
        """Move a batch to the device, through the three transfer hooks.

        Args:
            batch: batch as the loader returned it, of any structure.
            dataloader_idx: index of its loader.

        Returns:
            The batch on the device.
        """
        routes = self.routes
        batch = self.device.converted(batch)
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

    def announce_loop(self, name: str, total: int | None, unit: str, done: int = 0) -> None:
        """Record that a loop begins.

        Args:
            name: name of the loop.
            total: number of its iterations; None if unknown.
            unit: what an iteration is, for example ``"fold"``.
            done: number of iterations already completed, in a resumed run.
        """
        self.bus.emit(LoopStarted, None if total is None else total - done, unit, source=name)

    def announce_iteration(self, name: str, completed: int) -> None:
        """Record that a user-defined loop completed one more iteration.

        Args:
            name: name of the loop.
            completed: number of iterations that it has completed.
        """
        self.announced_iterations += 1
        self.bus.emit(LoopAdvanced, completed, source=name)

    def announce_loop_end(self, name: str, completed: int) -> None:
        """Record that a loop ended.

        Args:
            name: name of the loop.
            completed: number of iterations that it has completed.
        """
        self.bus.emit(LoopEnded, completed, source=name)

    def write_predictions(self) -> None:
        """Write the predictions that EvalResults collected to files."""
        folder = self.run_folder.path if self.run_folder else None
        self.predictions.write(Path(self.default_root_dir), folder, self.global_rank)

    def begin_at(self, epochs: int, steps: int) -> None:
        """Start counting at the epochs and steps that a checkpoint of another library has.

        Args:
            epochs: number of completed epochs.
            steps: number of completed optimizer steps.
        """
        if self.epoch_counter is not None:
            self.epoch_counter.epoch_progress.complete(epochs)
        self.optimization_progress.begin_at(steps)

    def safe_point(self) -> None:
        """Write what happened and take commands; called between two steps."""
        self.bus.end_step()
        if self.safe_points.come():
            self.safe_points.attend()

    @property
    def count_point(self) -> Callable[[int], bool] | None:
        """Counts a safe point of several ranks; see SafePoints."""
        return self.safe_points.count_point

    def attend(self) -> None:
        """Do what was requested, at a safe point that was counted."""
        self.safe_points.attend()

    def between_batches(self) -> None:
        """Write what happened and handle signals; called between two evaluation batches."""
        self.bus.end_step()
        if self.safe_points.come():
            self.safe_points.attend_between_batches()

    def attend_between_batches(self) -> None:
        """Do what was requested, between evaluation batches, at a safe point that was counted."""
        self.safe_points.attend_between_batches()

    def wait_for_others(self) -> None:
        """Wait, at the end of an evaluation, for ranks that have more batches."""
        self.safe_points.wait_for_others()

    def ends_epoch_here(self) -> bool:
        """Have the training epoch end early; return whether it ends at this batch.

        On several ranks it continues until all ranks end it.
        """
        return self.safe_points.ends_epoch_here()

    def share_stops(self) -> None:
        """Take the requests to stop of other ranks, at the end of an epoch."""
        self.safe_points.share_stops()


def _check_media_bytes(max_media_bytes: int) -> None:
    check_at_least("max_media_bytes", max_media_bytes, 0)
    if max_media_bytes > LARGEST_MEDIA_BYTES:
        raise UsageError(
            f"max_media_bytes={max_media_bytes} is too large; expected at most "
            f"{LARGEST_MEDIA_BYTES}, the maximum size in the log"
        )


def _checked_benchmark(benchmark: bool | None, is_deterministic: bool) -> bool | None:
    check_choice("benchmark", benchmark, (True, False, None))
    if benchmark and is_deterministic:
        _log.warning(
            "benchmark=True and deterministic= were given: which algorithms cuDNN finds fastest "
            "may differ from run to run, so that results do; leave benchmark out"
        )
    return False if benchmark is None and is_deterministic else benchmark
