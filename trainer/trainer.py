"""The Trainer: its arguments, what users call, and what loops ask of it."""

import os
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ..actors.arguments import (
    as_plain,
    check_at_least,
    check_choice,
    check_not_negative,
    check_seconds,
    listed,
    parse_devices,
    parse_max_time,
    refuse_unknown_of,
)
from ..actors.callback import Callback
from ..actors.callbacks.model_summary import ModelSummary
from ..actors.callbacks.timer import Timer
from ..actors.checkpointer import Checkpointer
from ..actors.checkpoints.weights_only import check_weights_only
from ..actors.data.combined_loader import CombineMode
from ..actors.data.validation_schedule import Interval
from ..actors.datamodule import LightningDataModule
from ..actors.device import Device
from ..actors.former_arguments import takes_former_arguments
from ..actors.loaders import Loaders
from ..actors.metrics.metrics import Metrics
from ..actors.metrics.predictions import Predictions
from ..actors.module import LightningModule
from ..actors.optimization.progress import OptimizationProgress
from ..actors.overrides import is_overridden
from ..actors.process.launchers import refuse_several_processes
from ..actors.process.slurm import check_requeue
from ..actors.run_optimization import RunOptimization
from ..actors.wiring import Wiring
from ..bus.actor import Actor
from ..bus.bus import Bus
from ..bus.errors import UsageError
from ..bus.events import Command, LoopAdvanced, LoopEnded, LoopStarted, Scalar
from ..bus.log.place import Place
from ..bus.log.writer import MAX_BUFFERED_EVENTS
from ..bus.mail.reply import Reply, check_deadline
from ..bus.media import DEFAULT_MEDIA_BYTES, LARGEST_MEDIA_BYTES
from ..bus.runs.run_folder import RunFolder
from ..bus.statistics import BusStatistics
from ..bus.system.logging_setup import get_logger, level
from ..bus.system.paths import as_path
from ..loops import EvaluationLoop, FitLoop, Loop, PredictionLoop, TrainingStepLoop
from ..loops.running_loss import RunningLoss
from ..loops.stop_requests import StopRequests
from ..sinks.given import make_sinks
from ..sinks.progress_bar import ProgressBar
from ..sinks.silent_logger import SilentLogger
from ..sinks.sink import Sink
from . import functions
from .copies import TrainerCopies
from .enrolment import Enrolment
from .for_loggers import ForLoggers
from .given import Given
from .open_run import OpenRun
from .participants import Participants
from .results_table import print_results
from .run import run
from .safe_points import SafePoints

_log = get_logger("nightbus.trainer")


class Trainer(TrainerCopies):
    """Runs a LightningModule.

    Args:
        max_epochs: at most so many epochs; 1000 when nothing limits training: neither this nor
            max_steps, max_time or a Timer with a duration; -1 for no limit.
        min_epochs: a stop is not honoured before so many epochs.
        max_steps: at most so many optimizer steps; -1 for no limit.
        min_steps: a stop is not honoured before so many optimizer steps.
        max_time: at most so long: ``"DD:HH:MM:SS"``, a timedelta, or a dict of its arguments.
        limit_train_batches: a number of batches (int) or a share of them (float).
        limit_val_batches: the same for validation.
        limit_test_batches: the same for testing.
        limit_predict_batches: the same for prediction.
        val_check_interval: validate after so many batches (int), this share of an epoch (float), or
            so much time: ``"DD:HH:MM:SS"``, a timedelta, or a dict of its arguments.
        check_val_every_n_epoch: validate only in every n-th epoch; None counts the batches of
            val_check_interval over epochs.
        num_sanity_val_steps: validation batches to run before training; -1 for all.
        fast_dev_run: one batch (True) or so many of everything, nothing written but the log.
        overfit_batches: train on so many batches, or this share, in a fixed order.
        accumulate_grad_batches: batches for each optimizer step.
        gradient_clip_val: largest gradient norm or value; None does not clip.
        gradient_clip_algorithm: ``norm`` or ``value``.
        log_every_n_steps: how often step values from ``log`` go to sinks.
        precision: ``32-true``, ``bf16-mixed`` or ``16-mixed``; ``64-true``, ``bf16-true`` and
            ``16-true`` convert the weights and batches themselves.
        accelerator: ``auto``, ``cpu``, ``gpu`` or ``mps``.
        devices: one, so far: 1, ``auto``, or a list with the number of one.
        deterministic: use deterministic algorithms only; ``"warn"`` warns where there is none.
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
            several of them in any iterable, is wrapped as a sink. With fast_dev_run,
            ``self.logger`` takes whatever a logger does, and writes nothing.
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

    @takes_former_arguments
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
        val_check_interval: Interval | None = 1.0,
        check_val_every_n_epoch: int | None = 1,
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
        deterministic: bool | Literal["warn"] = False,
        benchmark: bool = False,
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
    ) -> None:
        refuse_several_processes()
        level()  # NIGHTBUS_LOG is checked now, not when there is something to say
        self.config = as_plain(self._arguments)
        self.participants = Participants(
            listed("callbacks", callbacks, Callback, "a nightbus.Callback"),
            listed("actors", actors, Actor, "a nightbus.Actor; callbacks go to callbacks="),
        )
        for callback in self.callbacks:
            if is_overridden(callback, "on_init_start"):
                callback.on_init_start(self)
        if check_at_least("max_media_bytes", max_media_bytes, 0) > LARGEST_MEDIA_BYTES:  # type: ignore[operator]
            raise UsageError(
                f"max_media_bytes={max_media_bytes}: the log takes at most {LARGEST_MEDIA_BYTES}"
            )
        if slurm_requeue:
            check_requeue()
        self.slurm_requeue = slurm_requeue
        self.device = Device(accelerator, precision, parse_devices(devices))
        self._arguments["precision"] = self.device.precision
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
        self.gradient_clip_val = check_not_negative("gradient_clip_val", gradient_clip_val)
        self.gradient_clip_algorithm = check_choice(
            "gradient_clip_algorithm", gradient_clip_algorithm, ("norm", "value")
        )
        self.deterministic = check_choice("deterministic", deterministic, (True, False, "warn"))
        self.benchmark = benchmark
        self.detect_anomaly = detect_anomaly
        self.drain_timeout = drain_timeout
        self.hang_timeout = check_seconds("hang_timeout", hang_timeout)
        self.run_name = run_name
        self.default_root_dir = as_path(default_root_dir or Path.cwd())
        self.max_time_s = parse_max_time(max_time)
        max_epochs, max_steps = self._apply_fast_dev_run(fast_dev_run, max_epochs, max_steps)
        made = make_sinks(sinks, logger)
        self.silent_loggers = [SilentLogger()] if made and self.fast_dev_run else []
        if not self.fast_dev_run:
            self.sinks = made
        self.participants.progress_bar = ProgressBar() if enable_progress_bar else None
        has_summary = any(isinstance(entry, ModelSummary) for entry in self.callbacks)
        if enable_model_summary and not has_summary:
            self.callbacks.append(ModelSummary())
        fit_loop = FitLoop(
            check_at_least("min_epochs", min_epochs, 0),
            max_epochs,
            check_at_least("min_steps", min_steps, 0),
            max_steps,
        )
        self._make_loops(fit_loop)
        self._make_parts(log_every_n_steps, max_media_bytes, OptimizationProgress())
        self._set_initial_state()
        for callback in self.callbacks:
            if is_overridden(callback, "on_init_end"):
                callback.on_init_end(self)

    def _make_loops(self, fit_loop: FitLoop) -> None:
        self.max_epochs_given, self.max_steps_given = fit_loop.max_epochs, fit_loop.max_steps
        self._fit_loop: Any = fit_loop
        self.epoch_counter: FitLoop | None = fit_loop
        fit_loop.attach(self)
        self.validate_loop: Any = EvaluationLoop("validate")
        self.test_loop: Any = EvaluationLoop("test")
        self.predict_loop: Any = PredictionLoop()

    def _make_parts(
        self, log_every_n_steps: int, max_media_bytes: int, progress: OptimizationProgress
    ) -> None:
        """Make what the trainer is composed of; most parts know it, and each other through it."""
        self.place = Place()
        self.bus = Bus(self.place)
        self.routes = self.bus.routes
        self.metrics = Metrics(self.bus, log_every_n_steps, max_media_bytes)
        self.predictions = Predictions()
        self.optimization_progress = progress
        self.optimization = RunOptimization(self)
        self.wiring = Wiring(self, self.optimization)
        self.checkpointer = Checkpointer(self, self.optimization)
        self.for_loggers = ForLoggers(
            self.metrics, self.participants, lambda: self.open_run is not None
        )
        self.enrolment = Enrolment(self, self.for_loggers)
        self.safe_points = SafePoints(
            self, self.checkpointer, self._take_part, self._leave, self.slurm_requeue
        )

    def _set_initial_state(self) -> None:
        """As long as nothing ran."""
        self._module: LightningModule | None = None
        self.datamodule: LightningDataModule | None = None
        self.ckpt_path: str | os.PathLike[str] | None = None
        self.run_folder: RunFolder | None = None
        self.open_run: OpenRun | None = None
        self.attempt = -1
        self.running_loss: RunningLoss | None = None
        self.stops = StopRequests()
        self.paused = False
        self.interrupted = False
        self.is_training_under_way = False
        self.announced_iterations = 0  # of loops that show theirs
        self._deadline_s: float | None = None

    def _apply_fast_dev_run(
        self, fast_dev_run: bool | int, max_epochs: int | None, max_steps: int
    ) -> tuple[int | None, int]:
        if not isinstance(fast_dev_run, bool):
            check_at_least("fast_dev_run", fast_dev_run, 0)
        self.fast_dev_run = fast_dev_run
        if fast_dev_run:
            batches = int(fast_dev_run)
            self.loaders.run_batches(batches)
            self.enable_checkpointing = False
            limits = (f"limit_{stage}_batches" for stage in ("train", "val", "test", "predict"))
            self._arguments |= {**dict.fromkeys(limits, batches), "num_sanity_val_steps": 0}
            return 1, batches
        has_timer = any(
            isinstance(callback, Timer) and callback.time_remaining() is not None
            for callback in self.callbacks
        )
        is_limited = has_timer or self.max_time_s is not None or max_steps not in (-1, None)
        if max_epochs is None and not is_limited:
            _log.info("neither max_epochs nor max_steps was given; at most 1000 epochs are run")
            return 1000, max_steps
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
        """Train, and validate on the way.

        Args:
            model: what to train.
            train_dataloaders: one loader or a collection of them; or a LightningDataModule.
            val_dataloaders: one loader or several.
            datamodule: instead of loaders.
            ckpt_path: resume from this checkpoint, in a new attempt of its run; ``last`` for the
                newest of the newest run of this name, without which training begins anew; ``best``
                for what ModelCheckpoint held to be best.
            weights_only: None and True, for code written for Lightning: nothing in a checkpoint is
                ever run, and all of it is read. What False changes, nothing, is said once.

        Raises:
            NightbusError: the set-up makes no sense; and whatever user code raises.
        """
        refuse_unknown_of("fit", unknown, self.fit)
        if model is None:
            raise UsageError(
                "fit() needs the module to train: trainer.fit(module, train_dataloaders), or "
                "trainer.fit(module, datamodule=...)"
            )
        check_weights_only("fit", weights_only)
        loaders = {"train": train_dataloaders, "validate": val_dataloaders}
        given = Given(model, loaders, datamodule, ckpt_path)
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
        """Validate once.

        Args:
            model: what to validate; that of the last run by default.
            dataloaders: one loader or several; or a LightningDataModule.
            ckpt_path: take the weights from this checkpoint; ``last`` and ``best`` as for ``fit``.
                After training, and with neither a model nor this, the first ModelCheckpoint's best
                is taken; without a ModelCheckpoint, the weights that training ended with.
            verbose: print the metrics.
            datamodule: instead of loaders.
            weights_only: as for ``fit``.

        Returns:
            The epoch's metrics, a dict for each dataloader.
        """
        refuse_unknown_of("validate", unknown, self.validate)
        check_weights_only("validate", weights_only)
        given = Given(model, {"validate": dataloaders}, datamodule, ckpt_path)
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
        """Test once; arguments and result as for ``validate``."""
        refuse_unknown_of("test", unknown, self.test)
        check_weights_only("test", weights_only)
        given = Given(model, {"test": dataloaders}, datamodule, ckpt_path)
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
        """Predict.

        Args:
            model: what to predict with; that of the last run by default, as for ``validate``.
            dataloaders: one loader or several; or a LightningDataModule.
            datamodule: instead of loaders.
            return_predictions: keep what ``predict_step`` returns; None does too.
            ckpt_path: take the weights from this checkpoint; ``last`` and ``best`` as for ``fit``.
            weights_only: as for ``fit``.

        Returns:
            A list with an entry for each batch; a list of such lists for several loaders.
        """
        self.predict_loop.return_predictions = return_predictions is not False
        refuse_unknown_of("predict", unknown, self.predict)
        check_weights_only("predict", weights_only)
        loaders = {"predict": dataloaders}
        given = Given(model, loaders, datamodule, ckpt_path)
        return run(self, "predict", partial(functions.predict, self), given)

    def _evaluate(
        self, function: Literal["validate", "test"], given: Given, verbose: bool
    ) -> list[dict[str, Scalar]]:
        results = run(self, function, partial(functions.evaluate, self, function), given) or []
        if verbose and results:
            print_results(function, results)
        return results

    def attach(self, actor: Actor) -> None:
        """Add an actor or sink while a run goes on, from any thread; it acts from the next safe
        point on. A sink gets the run from its start, an actor what comes from then on.
        """
        self.bus.check_is_here(f"{type(actor).__name__} was to be attached")
        if self.open_run is None:
            self.participants.add(actor)
        else:
            self.safe_points.attach_later(actor)

    def detach(self, actor: Actor) -> None:
        """Let an actor or sink go at the next safe point, from any thread; the log says so.

        Raises:
            UsageError: it is not attached.
        """
        if actor not in self.participants:
            raise UsageError(f"{type(actor).__name__} is not attached to this trainer")
        self.bus.check_is_here(f"{type(actor).__name__} was to be detached")
        if self.open_run is None:
            self.participants.remove(actor)
        else:
            self.safe_points.detach_later(actor)

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
        self.checkpointer.save_now(as_path(filepath), weights_only)

    # -- module and loops --------------------------------------------------------------------

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
        former = self.epoch_counter
        self._fit_loop = loop
        loop.attach(self)
        self.find_epoch_counter()
        if former is not None and self.epoch_counter is not None:
            self.epoch_counter.adopt_limits(former)

    def loop_connected(self, loop: Loop, former: Loop | None) -> None:
        """A loop was put in another one's place, or was added, maybe in the middle of a run."""
        self.find_epoch_counter()
        if self.open_run is not None:
            self.enrolment.connect_loop(loop, former)

    # -- a run -------------------------------------------------------------------------------

    def adopt(self, given: Given) -> None:
        """Take what a run is given, checked before anything is made.

        Raises:
            UsageError: it makes no sense, something runs already, or this is one of several
                processes.
        """
        refuse_several_processes()  # torch.distributed may have been initialised meanwhile
        if self.open_run is not None:
            raise UsageError(f"the trainer is running {self.function}; it runs one thing at a time")
        model, loaders, datamodule, self.ckpt_path = given.checked()
        if model is not None:
            self._module = model
        module = self.lightning_module
        self.optimization.begin(module)
        if datamodule is not None or model is not None:
            self.datamodule = datamodule
        self.loaders.begin(loaders, module, self.datamodule, lambda: self.routes)

    def carry_on(self, opened: OpenRun) -> None:
        """Go on in a run that was opened."""
        self.open_run = opened
        self.attempt, self.place, self.bus = opened.attempt, opened.place, opened.bus
        self.routes = self.bus.routes
        self.stops = StopRequests()
        self.paused = self.interrupted = False

    def take_in(self, actor: Actor) -> None:
        """Have an actor that came late take part in the run."""
        assert self.open_run is not None
        self.enrolment.enrol(actor, self.open_run)

    def _take_part(self, actor: Actor) -> None:
        self.participants.add(actor)
        self.take_in(actor)
        self.wiring.connect()

    def _leave(self, actor: Actor) -> None:
        self.participants.remove(actor)
        self.bus.dismiss(actor, "detached")
        self.wiring.connect()

    def begin_max_time(self) -> None:
        """Let max_time, if there is one, begin now."""
        if self.max_time_s is not None:
            self._deadline_s = time.monotonic() + self.max_time_s

    @property
    def has_deadline(self) -> bool:
        """Whether max_time was given."""
        return self._deadline_s is not None

    @property
    def out_of_time(self) -> bool:
        """Whether max_time is over."""
        return self._deadline_s is not None and time.monotonic() > self._deadline_s

    # -- what loops ask ----------------------------------------------------------------------

    def setup_optimizers(self) -> None:
        """Ask the module for its optimizers, and get ready to step them.

        ``fit`` does it when it begins; a loop that trains several times, on folds say, does it
        before each training.

        Raises:
            UsageError: what ``configure_optimizers`` returned makes no sense.
        """
        loops = self.fit_loop.walk()
        self.optimization.set_up(
            all(loop._asks_module for loop in loops if isinstance(loop, TrainingStepLoop))
        )
        self.wiring.connect()  # how a step is made depends on the optimizers
        self.optimization.begin_schedulers()

    def move_batch(self, batch: Any, dataloader_idx: int) -> Any:
        """A batch on the device, through the three transfer hooks."""
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
        """Record that a loop begins."""
        self.bus.emit(LoopStarted, None if total is None else total - done, unit, source=name)

    def announce_iteration(self, name: str, completed: int) -> None:
        """Record that a loop of the user's own did one more iteration."""
        self.announced_iterations += 1
        self.bus.emit(LoopAdvanced, completed, source=name)

    def announce_loop_end(self, name: str, completed: int) -> None:
        """Record that a loop ended."""
        self.bus.emit(LoopEnded, completed, source=name)

    def write_predictions(self) -> None:
        """Write what EvalResults had to be written."""
        folder = self.run_folder.path if self.run_folder else None
        self.predictions.write(self.default_root_dir, folder, self.global_rank)

    def begin_at(self, epochs: int, steps: int) -> None:
        """Go on where so many epochs and optimizer steps were done by another library."""
        if self.epoch_counter is not None:
            self.epoch_counter.epoch_progress.complete(epochs)
        self.optimization_progress.begin_at(steps)

    def safe_point(self) -> None:
        """Between two steps: write what happened, and take commands."""
        bus, place = self.bus, self.place
        if (notes := place.notes) is not None:
            looked_ns, place.looked_ns = place.looked_ns, 0
            # Most steps of a fast run leave nothing to do: calling end_step, to look at the clock
            # once more, would be a tenth of what recording costs.
            if not 0 < looked_ns <= place.due_ns or len(notes.words) > MAX_BUFFERED_EVENTS:
                bus.end_step()
        if bus.attention:
            self.safe_points.attend()

    def between_batches(self) -> None:
        """Between two evaluation batches: write what happened; only signals are heeded."""
        self.bus.end_step()
        if self.bus.attention:
            self.safe_points.heed_signals()
