"""An open run: the lock of its folder, its log, its bus, and its observers."""

import os
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..actors.arguments import as_plain
from ..actors.hyperparameter_values import items_of, without_omegaconf
from ..actors.hyperparameters import HyperparametersMixin, hyperparameters_of
from ..actors.process.code_state import code_diff
from ..actors.process.environment import code_folder, environment, loaded_versions
from ..actors.ranks.group import Group
from ..bus.actor import Actor
from ..bus.bus import Bus
from ..bus.console_recording import ConsoleRecording
from ..bus.control.protocol import RunStatus
from ..bus.control.server import Steered
from ..bus.copies import StaysInRun
from ..bus.crash.black_box import BlackBox
from ..bus.errors import RunFolderError
from ..bus.events import DeadLetter, Ending, Fork, Plain, Put, RunStarted
from ..bus.log.fast_flush import FastLogWriter
from ..bus.log.flight_recorder import FlightRecorder
from ..bus.log.place import Place
from ..bus.log.segments import FolderStore, UnnamedStore
from ..bus.log.writer import LogIdentity, LogWriter
from ..bus.observer import Observer
from ..bus.runs.cursor import Position
from ..bus.runs.kept_summary import keep_summary
from ..bus.runs.lineage import logs_before
from ..bus.runs.run_folder import AttemptLock, RunFolder
from ..bus.system.gpu_usage import GpuUsage
from ..bus.system.logging_setup import bind_run, get_logger
from ..bus.system.streams import keep_standard_numbers, notify_once, notify_user
from ..bus.system.usage import MachineUsage, ProcessUsage, Reading
from ..sinks.file_sink import FileSink
from ..sinks.refill import refill
from ..sinks.sink import Sink
from .for_loggers import ForLoggers
from .missed_names import missed_names
from .properties import TrainerProperties
from .stages import STAGE_OF, Function

_log = get_logger("nightbus.open_run")


class OpenRun(StaysInRun):
    """One attempt of a trainer's run, from its lock to its recorded end.

    Args:
        trainer: owner of the run; its run folder exists, if it needs one.
        for_loggers: holds the hyperparameters that were given to sinks before the run.
        function: function that runs.
        fork: event of an earlier attempt behind which the run continues; None unless it resumes.

    Attributes:
        function: function that runs.
        attempt: number of the attempt.
        place: where training is.
        bus: bus of the run.
        black_box: records the stacks of all threads and the last events of a crash or hang.
    """

    def __init__(
        self,
        trainer: TrainerProperties,
        for_loggers: ForLoggers,
        function: Function,
        fork: Fork | None,
    ) -> None:
        keep_standard_numbers()
        self.function = function
        self._trainer, self._for_loggers, self._fork = trainer, for_loggers, fork
        run = trainer.run_folder
        self._id = run.info.id if run else "unnamed"
        self._began_s = time.monotonic()
        self._lock: AttemptLock | None = None
        self._console: ConsoleRecording | None = None
        self.attempt = trainer.attempt + 1
        earlier = []
        if run is not None and trainer.recording != "off":
            earlier = logs_before(run, fork, trainer.global_rank)
            self._lock = _begin_or_join_attempt(run, trainer.group)
            self.attempt = self._lock.attempt
            if fork is not None and trainer.is_global_zero:
                run.keep_fork(self.attempt, fork)
        counter = trainer.epoch_counter
        self.place = Place(trainer.global_rank)
        self.place.move(
            stage=STAGE_OF[function],
            epoch=0 if counter is None else counter.current_epoch,
            step=trainer.global_step,
        )
        self.bus = Bus(self.place, earlier, run)
        if trainer.recording != "all":
            self.bus.keep_last_events(FlightRecorder(self.place))
        self._identity = LogIdentity(
            self._id, self.attempt, trainer.global_rank, trainer.world_size
        )
        self.bus.watch(
            lambda: (
                None if trainer.paused else (self.place.as_tuple(), trainer.announced_iterations)
            )
        )
        self.black_box = BlackBox(
            self.bus,
            self._identity,
            Path(trainer.default_root_dir),
            trainer.hang_timeout,
            lambda: trainer.announced_iterations,
            lambda: trainer.paused or (trainer.world_size > 1 and self.place.batch_idx >= 0),
        )

    @property
    def is_left(self) -> bool:
        """True in a forked child of the process that owns the run."""
        return self.bus.is_left

    @property
    def records(self) -> bool:
        """True if events are recorded in the run's folder."""
        return self._lock is not None

    # -- begin -------------------------------------------------------------------------------

    def open_log(self) -> None:
        """Start to record events, in the run's folder or for live observers only."""
        trainer, run = self._trainer, self._trainer.run_folder
        store: FolderStore | UnnamedStore = UnnamedStore()
        if run is not None and self.records:
            store = run.store(self.attempt, trainer.global_rank)
        hooks = None if trainer.recording == "all" else set[str]()
        kind = FastLogWriter if trainer.recording == "all" else LogWriter
        flight = self.bus.flight
        writer = kind(store, self._identity, self.place, hooks=hooks, flight=flight)
        writer.not_finite = trainer.metrics.warn_not_finite
        if trainer.strict_recording:
            writer.on_loss = self.bus.stop_run
        self.bus.open_log(writer, store)

    def start(self, config: dict[str, Plain], observers: Sequence[Actor]) -> None:
        """Record the begin, and start the bus thread, if anything works on it.

        Args:
            config: arguments of the Trainer, for the log.
            observers: actors that work on the bus thread.
        """
        bind_run(self._id, self.place)
        run = self._trainer.run_folder
        self._for_loggers.begin_experiments(
            self._trainer.lightning_module, None if run is None else run.path / "checkpoints"
        )
        self.bus.emit(
            RunStarted,
            self._id,
            self.attempt,
            self.function,
            time.time_ns(),
            config,
            loaded_versions(),
            self._fork,
            self._hparams(),
            self._trainer.changed_arguments,
            environment(),
        )
        if self._trainer.record_code_diff and self._trainer.is_global_zero and self.records:
            assert run is not None
            run.keep_code_diff(self.attempt, code_diff(code_folder()))
        metrics = self._trainer.metrics
        self.bus.admission.take_puts(metrics.put, metrics.put_media, metrics.emit)
        self.bus.flush()
        if (
            self._trainer.control and self._trainer.is_global_zero
        ):  # before an observer starts the thread, which checks this once
            root_loop = self._trainer.loop_of(self.function)
            takes_commands = any(loop.safe_points for loop in root_loop.walk())
            self.bus.serve_control(Steered(self.function, takes_commands, self._status))
        wanted = self._trainer.record_system
        if wanted and self.records:
            self.bus.record_system(self._usage(), None if wanted is True else wanted)
        if self._trainer.record_console and self.records:
            self._console = self.bus.record_console()
        for actor in observers:
            self.observe(actor)
        self.bus.start()

    def _usage(self) -> list[Callable[[], Reading]]:
        """Return what is read of the machine: by the first rank on it, what all ranks share."""
        trainer = self._trainer
        sources = [ProcessUsage(time.monotonic).read]
        if trainer.world.local_rank == 0:
            folder = trainer.run_folder
            disk = Path(trainer.default_root_dir) if folder is None else folder.path
            sources.append(MachineUsage(time.monotonic, disk).read)
        if (gpu := trainer.device.gpu) is not None:
            sources.append(GpuUsage(*gpu).read)
        return sources

    def observe(self, actor: Actor) -> None:
        """Start an actor on the bus thread; a sink receives the run's events from its start."""
        is_bar = actor is self._trainer.progress_bar
        if isinstance(actor, Sink) and self.records and not is_bar and actor._reads_log():
            self.bus.observe(actor, Position(0, 0), keep_cursor=True)
        else:
            self.bus.observe(actor, Position(self.attempt, 0))

    def _hparams(self) -> dict[str, Plain]:
        """Collect the hyperparameters of module, datamodule and sinks for the log."""
        owned = hyperparameters_of_run(self._trainer)
        for own, other in pairwise(owned):
            _say_other_values(as_plain(own), as_plain(other))
        for owner in (self._trainer.datamodule, self._trainer.lightning_module):
            _say_changed_values(owner)
        found = {name: value for own in owned for name, value in own.items()}
        found |= self._for_loggers.hyperparameters
        recorded = as_plain(found)
        self._for_loggers.begin(recorded, found)
        return recorded

    def _status(self) -> RunStatus:
        """Return where the run is, for clients of its socket; called on the bus thread."""
        trainer, place = self._trainer, self.place
        return RunStatus(
            pid=os.getpid(),
            run=self._id,
            attempt=self.attempt,
            fn=self.function,
            stage=place.stage,
            epoch=place.epoch,
            step=place.step,
            batch_idx=place.batch_idx,
            paused=trainer.paused,
            stopping=trainer.should_stop,
            may_stop=trainer.may_stop,
            running_s=time.monotonic() - self._began_s,
            dead_letters=self.bus.post_office.dead_letters,
        )

    # -- end ---------------------------------------------------------------------------------

    def release(self) -> None:
        """Release the lock, so that other attempts of the run can begin."""
        if self._lock:
            self._lock.release()
            self._lock = None

    def close(self, how: Ending, reason: str) -> list[Observer]:
        """Record the end, and let sinks finish.

        Args:
            how: how the run ended.
            reason: why it ended; empty if it completed.

        Returns:
            The observers that have not received all events.
        """
        if self._console is not None:
            self.bus.end_console(self._console)
        for label, count in self._trainer.metrics.unheard.items():
            why = f"nobody takes values for this destination; {count} were put"
            self.bus.emit(DeadLetter, label, Put.__name__, why, source="trainer")
        try:
            return self.bus.close(self._trainer.drain_timeout, (how, reason))
        finally:
            if self._trainer.progress_bar is not None and not self.is_left:
                self._trainer.progress_bar.stop()
            self._end_attempt()

    def _end_attempt(self) -> None:
        """Release the lock, and keep the run in short, as it has ended."""
        has_ended = self._lock is not None and self._trainer.is_global_zero and not self.is_left
        self.release()
        if has_ended and (run := self._trainer.run_folder) is not None:
            keep_summary(run)

    def report_missed_names(self) -> None:
        """Report which metrics actors waited for and nobody put.

        Only for a fit from its start: a resumed one may have put them before, and other functions
        have other metrics.
        """
        trainer = self._trainer
        if self.function != "fit" or self._fork is not None or not trainer.is_global_zero:
            return
        everyone = [trainer.lightning_module, *trainer.participants.beside_module]
        every = trainer.log_every_n_steps  # 0 means that no value of a step is wanted
        thinned = sorted(set(trainer.metrics.thinned))
        has_sinks = any(sink.destination == "loggers" for sink in trainer.sinks)
        if thinned and has_sinks and trainer.global_step < every:
            notify_user(
                f"nightbus: sinks got no value of {', '.join(thinned)}: log_every_n_steps={every}, "
                f"and the run had only {trainer.global_step} steps; set a smaller log_every_n_steps"
            )
        for line in missed_names(everyone, trainer.metrics.names):
            notify_user(f"nightbus: {line}")

    def report(self, unfinished: Sequence[Observer]) -> None:
        """Report problems of the log, and each observer that has not received all events."""
        for problem in self.bus.log_problems:
            notify_user(f"nightbus: {problem}")
        run = self._trainer.run_folder
        for observer in unfinished:
            why = observer.gave_up or "the bus thread ended"
            rest = ""
            if run is not None and run.is_there and observer.resumes:
                rest = f"; {_how_it_gets_the_rest(run, observer)}"
            notify_user(f"nightbus: {observer.name} stopped early: {why}{rest}")


def hyperparameters_of_run(trainer: TrainerProperties) -> list[dict[str, Any]]:
    """Return the hyperparameters of the datamodule and the module that are to be recorded.

    Args:
        trainer: has both.
    """
    if not trainer.enable_autolog_hparams:
        return []
    return [
        without_omegaconf(hyperparameters_of(owner))
        for owner in (trainer.datamodule, trainer.lightning_module)
        if owner is not None and getattr(owner, "_logs_hparams", True)
    ]


def _begin_or_join_attempt(run: RunFolder, group: Group) -> AttemptLock:
    """Begin an attempt on rank 0, and take part in it on the others."""
    begun: list[AttemptLock] = []

    def begin() -> int:
        begun.append(run.begin_attempt())
        return begun[0].attempt

    attempt = group.decide("the attempt", begin)
    return begun[0] if begun else run.join_attempt(attempt, group.world.rank)


def _how_it_gets_the_rest(run: RunFolder, observer: Observer) -> str:
    sink = observer.actor
    folder = sink.folder if isinstance(sink, FileSink) else None
    try:
        return refill(run, observer.name, type(sink).__name__, folder).advice
    except RunFolderError as error:  # its cursor was damaged since; the run itself is over
        return str(error)


def _say_changed_values(owner: HyperparametersMixin | None) -> None:
    """Say which hyperparameters of a module or datamodule are no longer those of its ``__init__``.

    Args:
        owner: the module or datamodule.
    """
    if owner is None or "_hparams_initial" not in vars(owner):
        return
    now, before = (
        as_plain(without_omegaconf(items_of(given) or {}))
        for given in (owner.hparams, owner.hparams_initial)
    )
    changed = sorted(str(name) for name in now.keys() & before if now[name] != before[name])
    if changed:
        notify_once(
            f"nightbus: hyperparameters of {type(owner).__name__} were changed since its __init__: "
            f"{', '.join(changed)}; loggers and checkpoints get them as they are now, and "
            "hparams_initial has the others"
        )


def _say_other_values(datamodules: dict[str, Plain], modules: dict[str, Plain]) -> None:
    names = [name for name in datamodules.keys() & modules if datamodules[name] != modules[name]]
    if names:
        _log.warning(
            "the datamodule and the module have hyperparameters of the same name with other "
            "values; the log has those of the module",
            names=", ".join(sorted(map(str, names))),
        )
