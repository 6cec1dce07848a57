"""The logger methods of Lightning that modules and scripts may call on a sink."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from ..bus.errors import OutsideRunError, UsageError
from ..bus.media import EncodedMedia
from ..bus.system.streams import notify_user


class ForLoggers(Protocol):
    """Records what a module gives to a sink as if it were a logger."""

    def record(self, sink: object, metrics: Mapping[str, Any], step: int | None) -> None:
        """Record metrics for all sinks.

        Args:
            sink: whose method was called.
            metrics: name -> value.
            step: the step they belong to; None for the current one.
        """

    def record_media(
        self, sink: object, media: Mapping[str, EncodedMedia], step: int | None
    ) -> None:
        """Record media for all sinks.

        Args:
            sink: whose method was called.
            media: kind and bytes of each, by name.
            step: the step they belong to; None for the current one.
        """

    def is_recording(self) -> bool:
        """Return whether a run is open and this is its training thread."""

    def experiment_of(self, run: Path) -> Any:
        """Return a SummaryWriter for a run's folder; None where there cannot be one.

        Args:
            run: the folder.
        """

    def record_hyperparameters(self, sink: object, given: Mapping[str, Any]) -> None:
        """Record hyperparameters that the run's first event does not have.

        Args:
            sink: whose method was called.
            given: name -> value.
        """


class _OfTensorBoard:
    """Descriptor of an attribute that only a TensorBoardLogger uses: setting it says so, once."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, sink: object | None, owner: type) -> Any:
        if sink is None:
            return self
        if self._name not in vars(sink):
            raise AttributeError(f"{owner.__name__} has no attribute {self._name!r}")
        return vars(sink)[self._name]

    def __set__(self, sink: object, value: Any) -> None:
        if self._name not in vars(sink):
            notify_user(
                f"nightbus: {self._name} = {value!r} changes nothing on a {type(sink).__name__}; "
                "for TensorBoard, write "
                f"Trainer(logger=nb.TensorBoardLogger('logs', {self._name[1:]}={value!r}))"
            )
        vars(sink)[self._name] = value


class LoggerCalls:
    """The methods of a Lightning logger, for code that was written for one.

    What is recorded is for all sinks of the trainer: if code calls several sinks with the same
    values in turn, only the first call records them.

    Attributes:
        hyperparameters: given by ``log_hyperparams``; recorded at the start of each later run.
    """

    hyperparameters: Mapping[str, Any] = {}
    _nightbus_for_loggers: ForLoggers | None = None  # while it is in a run
    _log_graph = _OfTensorBoard()
    _default_hp_metric = _OfTensorBoard()

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Record metrics for all sinks, as ``put`` does; only on the training thread.

        Args:
            metrics: name -> value.
            step: the step they belong to, at least 0; the current step if not given.

        Raises:
            OutsideRunError: no run is active.
            UsageError: step is not an int of at least 0.
        """
        if self._nightbus_for_loggers is None:
            raise OutsideRunError(
                f"{type(self).__name__}.log_metrics() was called outside a run; call it in a hook, "
                "or record with self.log or self.put there"
            )
        if step is not None and (isinstance(step, bool) or not isinstance(step, int) or step < 0):
            raise UsageError(f"log_metrics(step={step!r}): expected an int of at least 0")
        self._nightbus_for_loggers.record(self, metrics, step)

    def log_hyperparams(self, params: Any, metrics: Mapping[str, Any] | None = None) -> None:
        """Record hyperparameters.

        Before a run they are recorded at its start, together with those that the module saves.
        During a
        run, those that it has not recorded yet are recorded as a text.

        Args:
            params: a mapping, or an object with the values as attributes, such as a Namespace.
            metrics: recorded as by ``log_metrics``; only in a run.

        Raises:
            UsageError: params is neither.
        """
        if isinstance(params, Mapping):
            given = dict(params)
        elif hasattr(params, "__dict__"):
            given = dict(vars(params))
        else:
            raise UsageError(
                f"log_hyperparams expects a mapping or a Namespace, not {type(params).__name__}"
            )
        if self._nightbus_for_loggers is not None:
            self._nightbus_for_loggers.record_hyperparameters(self, given)
        self.hyperparameters = {**self.hyperparameters, **given}
        if metrics:
            self.log_metrics(metrics)

    def log_graph(self, model: Any, input_array: Any = None) -> None:
        """Do nothing: a ``TensorBoardLogger(log_graph=True)`` writes the graph.

        Args:
            model: the module.
            input_array: a batch with which it would be traced.
        """

    def save(self) -> None:
        """Do nothing: sinks write by themselves."""

    def finalize(self, status: str) -> None:
        """Do nothing: the end of a run is recorded by itself."""
