"""Logger: the base of loggers, with the methods and properties that Lightning's have."""

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

from ..actors.process.rank_zero import is_main
from ..bus.events import Media
from ..bus.system.paths import refuse_address
from ..sinks.logger_sink import LoggerSink
from ..sinks.silent_logger import SilentLogger

T = TypeVar("T")

# Training and the bus may both be the first to use a logger's experiment.
_making = threading.RLock()


class Logger(ABC):
    """Base class of loggers; ``Trainer(logger=...)`` takes it as a sink.

    Define ``name``, ``version``, ``log_metrics`` and ``log_hyperparams``. The others have defaults.
    During a run the methods are called on the bus thread, with what the log has.
    """

    _sink: LoggerSink | None = None

    @property
    @abstractmethod
    def name(self) -> str | None:
        """Name of the experiment."""

    @property
    @abstractmethod
    def version(self) -> int | str | None:
        """Version of the experiment."""

    @property
    def root_dir(self) -> str | None:
        """Folder of all versions of the experiment; None if there is none."""
        return None

    @property
    def log_dir(self) -> str | None:
        """Folder of this version; None if there is none."""
        return None

    @property
    def save_dir(self) -> str | None:
        """Folder in which experiments are saved; None if nothing is saved here."""
        return self.log_dir

    @property
    def group_separator(self) -> str:
        """What stands between a group and a name within it."""
        return "/"

    @abstractmethod
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Log metrics.

        Args:
            metrics: value of each metric.
            step: step of the values.
        """

    @abstractmethod
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Log hyperparameters.

        Args:
            params: a mapping or a Namespace.
            *args: what a logger takes besides.
            **kwargs: what a logger takes besides.
        """

    def log_graph(  # noqa: B027  (subclasses need not have it)
        self, model: Any, input_array: Any = None
    ) -> None:
        """Log the graph of a module's operations; nothing by default.

        Args:
            model: the module.
            input_array: a batch with which it is traced.
        """

    def log_media(self, media: Media) -> None:  # noqa: B027  (subclasses need not have it)
        """Log an image, figure, histogram, text or table; nothing by default.

        Args:
            media: event of the log; ``nightbus.bus.media.decoded`` returns what it holds.
        """

    def save(self) -> None:  # noqa: B027  (subclasses need not have it)
        """Write what is held back; nothing by default."""

    def close(self) -> None:
        """Call ``save``; the name of it in Lightning 1.x."""
        self.save()

    def finalize(self, status: str) -> None:
        """End the experiment, after ``save``.

        Args:
            status: ``success`` or ``failed``.
        """
        self.save()

    def after_save_checkpoint(  # noqa: B027  (subclasses need not have it)
        self, checkpoint_callback: Any
    ) -> None:
        """Handle a checkpoint that was saved; nothing by default.

        Args:
            checkpoint_callback: the ModelCheckpoint that saved it.
        """

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the run that the logger serves."""
        return {name: value for name, value in vars(self).items() if name != "_sink"}


class RecordedLogger(Logger):
    """A logger whose calls in a run are recorded, for the log and for all sinks.

    What is recorded comes back on the bus thread, and is written then. Outside a run, calls are
    written at once.

    Args:
        prefix: stands before each metric's name, with a ``-`` between them.

    Attributes:
        hyperparameters: given by ``log_hyperparams``; recorded at the start of each later run.
    """

    LOGGER_JOIN_CHAR = "-"

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._experiment: Any = None
        self.hyperparameters: dict[str, Any] = {}

    @property
    @abstractmethod
    def experiment(self) -> Any:
        """The object that writes."""

    @abstractmethod
    def write_metrics(self, metrics: Mapping[str, Any], step: int | None) -> None:
        """Write metrics.

        Args:
            metrics: value of each metric.
            step: step of the values; None if none was given.
        """

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log metrics.

        Args:
            metrics: value of each metric: a number or a tensor of one element.
            step: step of the values; in a run, the current one by default.
        """
        if not is_main():
            return
        if not self._record(lambda sink: sink.record_call(metrics, step)):
            self.write_metrics(metrics, step)

    def log_image(self, key: str, images: list[Any], step: int | None = None) -> None:
        """Log images.

        Args:
            key: their name; several are numbered: ``key/0``.
            images: tensors, arrays, Pillow images or matplotlib figures.
            step: their step; in a run, the current one by default.
        """
        from .media_of_calls import images_of

        if not isinstance(images, list):
            raise TypeError(f"Expected a list as images, found {type(images)}")
        self.log_encoded(images_of(key, images), step)

    def log_encoded(self, media: Mapping[str, tuple[Any, bytes]], step: int | None) -> bool:
        """Record media in the run that is open.

        Args:
            media: kind and bytes of each, by name.
            step: their step; the current one if None.

        Returns:
            Whether a run is open.
        """
        return self._record(lambda sink: sink.record_media(media, step))

    def remember_hyperparams(self, params: Any) -> dict[str, Any]:
        """Keep hyperparameters for later runs, and record those that this run does not have.

        Args:
            params: a mapping or a Namespace.

        Returns:
            The same as a dict.
        """
        given = as_dict(params)
        self.hyperparameters |= given
        self._record(lambda sink: sink.record_hyperparameters(given))
        return given

    @property
    def is_recorded(self) -> bool:
        """True on the training thread of an open run."""
        return self._sink is not None and self._sink.records_calls

    def _record(self, call: Callable[[LoggerSink], None]) -> bool:
        """Record a call if a run is open, and return whether one is."""
        sink = self._sink
        if sink is None or not sink.records_calls:
            return False
        call(sink)
        return True

    def _prefixed(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        if not self._prefix:
            return dict(metrics)
        return {f"{self._prefix}{self.LOGGER_JOIN_CHAR}{k}": v for k, v in metrics.items()}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what writes: a copy opens its own."""
        return {**super().__getstate__(), "_experiment": None}


def rank_zero_experiment(function: Callable[[Any], T]) -> Callable[[Any], T | SilentLogger]:
    """Make ``experiment`` a writer on rank 0 only; others get an object that does nothing.

    One thread at a time runs the getter, so that it makes one writer.

    Args:
        function: getter of the property.

    Returns:
        The getter that looks at the rank.
    """

    @wraps(function)
    def experiment(self: Any) -> T | SilentLogger:
        if not is_main():
            return SilentLogger()
        with _making:
            return function(self)

    return experiment


def as_dict(params: Any) -> dict[str, Any]:
    """Return hyperparameters as a dict.

    Args:
        params: a mapping, a Namespace or None.
    """
    if params is None:
        return {}
    return dict(params) if isinstance(params, Mapping) else dict(vars(params))


def flattened(params: Mapping[Any, Any], before: str = "") -> dict[str, Any]:
    """Return nested hyperparameters as one level, with ``/`` between the names.

    Args:
        params: the hyperparameters.
        before: name of the group that they are in.
    """
    flat: dict[str, Any] = {}
    for key, value in params.items():
        name = f"{before}{key}"
        inner = value if isinstance(value, Mapping) else None
        if type(value).__name__ == "Namespace":
            inner = vars(value)
        flat |= {name: value} if inner is None else flattened(inner, f"{name}/")
    return flat


def as_folder(path: str | os.PathLike[str]) -> str:
    """Return a folder's path with ``~`` and variables of the environment replaced.

    Args:
        path: the folder.

    Raises:
        UsageError: it is the address of something elsewhere.
    """
    refuse_address(path)
    return os.path.expanduser(os.path.expandvars(os.fspath(path)))
