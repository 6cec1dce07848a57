"""Records metrics and hyperparameters of sinks that are used as loggers of Lightning."""

import json
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..actors.arguments import as_plain
from ..actors.metrics.metrics import Metrics
from ..bus.actor import actor_name
from ..bus.media import EncodedMedia, encode_text
from ..bus.secrets.redaction import redact_setting
from ..bus.system.streams import notify_user
from ..loggers.folder_logger import FolderLogger
from ..loggers.logger import Logger, RecordedLogger
from ..loggers.tensorboard_logger import TensorBoardLogger
from ..loggers.wandb_logger import WandbLogger
from ..sinks.logger_sink import LoggerSink
from ..sinks.sink import Sink
from ..sinks.tensorboard import TensorBoard
from .participants import Participants


class ExperimentSink(LoggerSink):
    """Brings a run to the event files of a sink's ``experiment``; none of the user's loggers."""


class ForLoggers:
    """Records the calls of logger methods in the trainer's run, once for all of its sinks.

    Args:
        metrics: records the values.
        participants: contains the sinks.
        is_running: returns whether a run is open.
        enrol: makes a sink a part of the run that is open.
    """

    def __init__(
        self,
        metrics: Metrics,
        participants: Participants,
        is_running: Callable[[], bool],
        enrol: Callable[[Sink], None],
    ) -> None:
        self._metrics, self._participants = metrics, participants
        self._is_running, self._enrol = is_running, enrol
        self._recorded: Mapping[str, Any] = {}
        self._found: Mapping[str, Any] = {}
        self._event_files: ExperimentSink | None = None  # added where an experiment was used
        self._thread = threading.get_ident()
        # Step and name -> whose call recorded a value, and the value.
        self._of_step: dict[tuple[int, str], tuple[object, Any]] = {}

    def begin(self, recorded: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        """Remember the hyperparameters of a new run.

        Args:
            recorded: hyperparameters that the run's first event has.
            found: the same with their structure.
        """
        self._recorded, self._found = recorded, found
        self._thread = threading.get_ident()
        self._of_step.clear()
        for sink in self._participants.sinks:
            if isinstance(sink, LoggerSink):
                sink.hparams_of_run = redact_setting("", found)

    def begin_experiments(self, module: object, checkpoints: Path | None) -> None:
        """Have loggers begin, show them the module, and link the checkpoints where they write.

        Args:
            module: the module that runs.
            checkpoints: folder of the run's checkpoints; None if it has none.
        """
        loggers = [s.logger for s in self._participants.sinks if isinstance(s, LoggerSink)]
        # W&B first: it follows the writers of TensorBoard that are made after its own run.
        for logger in sorted(loggers, key=lambda logger: not isinstance(logger, WandbLogger)):
            if isinstance(logger, RecordedLogger):
                _ = logger.experiment
        for logger in loggers:
            if isinstance(logger, Logger):
                logger.log_graph(module)
            if isinstance(logger, FolderLogger) and checkpoints is not None:
                logger.link_checkpoints(checkpoints, self._folders_of_callbacks())

    def _folders_of_callbacks(self) -> set[str]:
        """Return the folders that callbacks save checkpoints in."""
        found = (getattr(entry, "dirpath", None) for entry in self._participants.callbacks_in_order)
        return {os.path.abspath(folder) for folder in found if isinstance(folder, str)}

    def experiment_of(self, run: Path) -> Any:
        """Return a SummaryWriter for a run's folder, as the default logger of Lightning has one.

        From its first use on, the run has a TensorBoardLogger, which gets all from the start.

        Args:
            run: the folder.

        Returns:
            The writer; None on other threads, where TensorBoard is not installed, and where a sink
            writes event files itself.
        """
        if threading.get_ident() != self._thread:
            return None
        if self._event_files is None:
            has_library = any(map(find_spec, ("tensorboard", "tensorboardX")))
            if not has_library or any(isinstance(s, TensorBoard) for s in self._participants.sinks):
                return None
            logger = TensorBoardLogger(run.parent, "", run.name)
            self._event_files = sink = ExperimentSink(logger)
            sink.hparams_of_run = redact_setting("", self._found)
            self._participants.add(sink)
            if self._is_running():
                self._enrol(sink)
        return self._event_files.logger.experiment

    def forget_experiment(self) -> None:
        """Remove the TensorBoardLogger that the last run got for its ``experiment``.

        A copy of the trainer has one that it did not add.
        """
        for sink in list(self._participants.sinks):
            if isinstance(sink, ExperimentSink):
                sink.logger.finalize("success")
                self._participants.remove(sink)
        self._event_files = None

    def is_recording(self) -> bool:
        """Return whether a run is open and this is its training thread."""
        return self._is_running() and threading.get_ident() == self._thread

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Hyperparameters that were given to sinks and loggers before the run."""
        found: dict[str, Any] = {}
        for sink in self._participants.sinks:
            found |= sink.hyperparameters
            if isinstance(sink, LoggerSink):
                own = getattr(sink.logger, "hyperparameters", {})
                found |= own if isinstance(own, Mapping) else {}  # a user's may mean something else
        return found

    def record(self, sink: object, metrics: Mapping[str, Any], step: int | None) -> None:
        """Record metrics; after a run, in event files of TensorBoard alone.

        Args:
            sink: sink whose method was called.
            metrics: values by name.
            step: step of the values; None for the current one.
        """
        if not self._is_running() and self._write_after_run(sink, metrics, step):
            return
        with self._at(step):
            for name, value in metrics.items():
                if self._is_first(sink, name, value):
                    self._metrics.put(_name_of(sink), name, value, ("loggers",))

    def _write_after_run(self, sink: object, metrics: Mapping[str, Any], step: int | None) -> bool:
        """Write metrics that came after the run's end beside it, and return whether it could be.

        The log of a run ends with it, and all that is made of a log with that.
        """
        run = sink._run_path_or_none() if isinstance(sink, Sink) else None
        if run is None or self.experiment_of(run) is None or self._event_files is None:
            return False
        with self._at(step):
            new = {name: v for name, v in metrics.items() if self._is_first(sink, name, v)}
        if not new:
            return True
        logger = self._event_files.logger
        logger.log_metrics(new, step)
        logger.save()
        # The writer has a thread; it refers to the trainer, and its file does not.
        weakref.finalize(self, logger.experiment.file_writer.close)
        notify_user(
            f"nightbus: {', '.join(new)} came after the run's end: written to TensorBoard's "
            f"event files in {run}, and to no other file; record it in on_fit_end at the latest"
        )
        return True

    def record_media(
        self, sink: object, media: Mapping[str, EncodedMedia], step: int | None
    ) -> None:
        """Record media.

        Args:
            sink: sink whose logger was called.
            media: kind and bytes of each, by name.
            step: their step; None for the current one.
        """
        with self._at(step):
            for name, content in media.items():
                if self._is_first(sink, name, content):
                    self._metrics.put_media(_name_of(sink), name, content)

    @contextmanager
    def _at(self, step: int | None) -> Iterator[None]:
        """Have what is recorded belong to a step."""
        known = self._metrics
        before = known.step
        known.step = before if step is None else int(step)
        try:
            yield
        finally:
            known.step = before

    def record_hyperparameters(self, sink: object, given: Mapping[str, Any]) -> None:
        """Record hyperparameters that the run has not recorded yet, as a text.

        Args:
            sink: sink whose method was called.
            given: hyperparameters by name.
        """
        if not self._is_running():  # the next run records them when it begins
            return
        plain = as_plain(given)
        fresh = {name: value for name, value in plain.items() if self._recorded.get(name) != value}
        if not fresh:
            return
        self._recorded = {**self._recorded, **fresh}
        text = json.dumps(fresh, indent=1, default=str)
        name = "hyperparameters"
        self._metrics.put_media(_name_of(sink), name, encode_text(name, text))

    def _is_first(self, sink: object, name: str, value: Any) -> bool:
        """Return whether no other sink was given the same value: all get it from the log."""
        known = self._metrics
        place = (known.step, name) if known.step >= 0 else (known.bus.place.step, name)
        if self._of_step and place[0] != next(iter(self._of_step))[0]:
            self._of_step.clear()
        whose, before = self._of_step.setdefault(place, (sink, value))
        if whose is sink or not _is_same(before, value):
            self._of_step[place] = (sink, value)
            return True
        return False


def _is_same(before: Any, value: Any) -> bool:
    """Return whether two values are the same; tensors only if they are one, for want of a copy."""
    plain = (int, float, tuple)
    return before is value or (isinstance(value, plain) and before == value)


def _name_of(sink: object) -> str:
    assert isinstance(sink, Sink)
    return actor_name(sink)
