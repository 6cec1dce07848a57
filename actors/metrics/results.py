"""TrainResult and EvalResult: returned by a step with what to log."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...bus.errors import MetricError, UsageError

Reduce = Callable[..., Any]
_OWN = ("minimize", "early_stop_on", "checkpoint_on", "hiddens")
_MONITORS = ("early_stop_on", "checkpoint_on")


class Logged(NamedTuple):
    """The options of one metric of a result.

    Attributes:
        prog_bar, logger: its destinations.
        on_step, on_epoch: when it is recorded.
        reduce_fx: reduces an epoch's values.
        tbptt_reduce_fx: reduces the values of one batch's splits.
        sync_dist: each step's value is reduced over ranks, too.
    """

    prog_bar: bool
    logger: bool
    on_step: bool
    on_epoch: bool
    reduce_fx: Reduce
    tbptt_reduce_fx: Reduce
    sync_dist: bool = False


class Result:
    """Metrics to log, and other values that a step keeps until the epoch ends.

    Attributes that you set are collected over the epoch: ``<train|validation|test>_epoch_end`` gets
    one result whose attributes hold all batches, tensors stacked (scalars) or concatenated along
    their first dimension, anything else in lists. Logged metrics are attributes too.

    Args:
        early_stop_on: value for EarlyStopping, of shape ().
        checkpoint_on: value for ModelCheckpoint, of shape ().
    """

    _logs_steps = True
    _logs_epochs = False

    def __init__(
        self, early_stop_on: Tensor | None = None, checkpoint_on: Tensor | None = None
    ) -> None:
        set_own = object.__setattr__
        set_own(self, "_logged", {})
        set_own(self, "_attributes", {})
        set_own(self, "_writes", [])
        set_own(self, "_size", 1)
        self.early_stop_on = _monitored("early_stop_on", early_stop_on)
        self.checkpoint_on = _monitored("checkpoint_on", checkpoint_on)
        self.hiddens: Any = None

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OWN:
            object.__setattr__(self, name, value)
        else:
            self._attributes[name] = value

    def __getattr__(self, name: str) -> Any:
        attributes = self.__dict__.get("_attributes", {})
        if name in attributes:
            return attributes[name]
        known = ", ".join(attributes) or "nothing"
        raise AttributeError(f"the result has no {name!r}; it has {known}")

    def __getitem__(self, name: str) -> Any:
        return self._attributes[name]

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self, name, value)

    def __contains__(self, name: str) -> bool:
        return name in self._attributes

    def __iter__(self) -> Iterator[str]:
        return iter(self._attributes)

    def keys(self) -> list[str]:
        """Return names of the attributes that were set, including logged metrics."""
        return list(self._attributes)

    def log(
        self,
        name: str,
        value: Any,
        prog_bar: bool = False,
        logger: bool = True,
        on_step: bool | None = None,
        on_epoch: bool | None = None,
        reduce_fx: Reduce = torch.mean,
        tbptt_reduce_fx: Reduce = torch.mean,
        tbptt_pad_token: int = 0,
        enable_graph: bool = False,
        sync_dist: bool = False,
        sync_dist_op: Any = "mean",
        sync_dist_group: Any = None,
    ) -> None:
        """Log a metric.

        Args:
            name: the metric.
            value: a number or a one-element tensor.
            prog_bar: show it in the progress bar.
            logger: pass it to sinks.
            on_step: record this step's value; the default for a TrainResult.
            on_epoch: record the epoch's reduction; the default for an EvalResult. With both,
                ``step_name`` and ``epoch_name`` are recorded.
            reduce_fx: torch.mean, weighted by batch size; any other function gets the epoch's
                values as a tensor of shape (N,).
            tbptt_reduce_fx: the same for the splits of one batch.
            tbptt_pad_token: accepted for code that pads; numbers need no padding.
            enable_graph: keep the value's graph in the result's attribute.
            sync_dist: reduce over processes; one process is supported so far, so the value is
                exact.
            sync_dist_op: see ``sync_dist``.
            sync_dist_group: see ``sync_dist``.

        Raises:
            MetricError: it would be logged neither on step nor on epoch.
        """
        step = self._logs_steps if on_step is None else on_step
        epoch = self._logs_epochs if on_epoch is None else on_epoch
        if not step and not epoch:
            raise MetricError(
                f"result.log({name!r}, on_step=False, on_epoch=False) would record nothing"
            )
        if isinstance(value, Tensor) and not enable_graph:
            value = value.detach()
        self._attributes[name] = value
        self._logged[name] = Logged(
            prog_bar, logger, step, epoch, reduce_fx, tbptt_reduce_fx, bool(sync_dist)
        )

    def log_dict(self, dictionary: Mapping[str, Any], **options: Any) -> None:
        """Call ``log`` for each item of a mapping.

        Args:
            dictionary: name -> value.
            options: of ``log``.
        """
        for name, value in dictionary.items():
            self.log(name, value, **options)

    def rename_keys(self, names: Mapping[str, str]) -> None:
        """Rename attributes and metrics.

        Args:
            names: old name -> new name.

        Raises:
            UsageError: there is no such attribute.
        """
        for old, new in names.items():
            if old not in self._attributes:
                raise UsageError(
                    f"rename_keys: the result has no {old!r}; it has {', '.join(self._attributes)}"
                )
            self._attributes[new] = self._attributes.pop(old)
            if old in self._logged:
                self._logged[new] = self._logged.pop(old)

    def drop_hiddens(self) -> None:
        """Drop the hidden states."""
        self.hiddens = None

    def logged(self) -> Iterator[tuple[str, Any, Logged]]:
        """Yield name, value and options of each metric."""
        for name, options in self._logged.items():
            yield name, self._attributes[name], options

    def detach(self) -> "Result":
        """Return a copy without graphs and hidden states, to be kept until the epoch ends."""
        copy = type(self)()
        object.__setattr__(copy, "_logged", dict(self._logged))
        for name, value in self._attributes.items():
            copy._attributes[name] = value.detach() if isinstance(value, Tensor) else value
        for name in (*_MONITORS, "_writes", "_size"):
            object.__setattr__(copy, name, getattr(self, name))
        return copy

    def reduced(self) -> Iterator[tuple[str, Any, Logged]]:
        """Yield the epoch's value of each metric, from a result that ``*_epoch_end`` returned."""
        return self.logged()

    def monitors(self) -> Iterator[tuple[str, Any]]:
        """Yield ``early_stop_on`` and ``checkpoint_on``, if given."""
        for name in _MONITORS:
            value = getattr(self, name)
            if value is not None:
                yield name, value

    def set_size(self, size: int) -> None:
        """Set the number of the batch's samples: the weight of its values in means."""
        object.__setattr__(self, "_size", size)

    @property
    def size(self) -> int:
        """Number of the batch's samples."""
        size: int = self.__dict__["_size"]
        return size


class TrainResult(Result):
    """Returned by ``training_step`` with what to minimize, monitor and log.

    The results of Lightning 0.9.

    Args:
        minimize: the loss, of shape (), with its graph; None skips the optimizer's step.
        early_stop_on: value for EarlyStopping.
        checkpoint_on: value for ModelCheckpoint; the loss if not given.
        hiddens: hidden states for the next split, with truncated back-propagation.

    Raises:
        UsageError: minimize has no graph.
    """

    def __init__(
        self,
        minimize: Tensor | None = None,
        early_stop_on: Tensor | None = None,
        checkpoint_on: Tensor | None = None,
        hiddens: Any = None,
    ) -> None:
        if minimize is not None:
            if not isinstance(minimize, Tensor):
                raise UsageError(
                    f"TrainResult(minimize={type(minimize).__name__}): expected a tensor, the loss"
                )
            if minimize.grad_fn is None and not minimize.requires_grad:
                raise UsageError(
                    "the metric in TrainResult(minimize=...) must have a computational graph; it "
                    "was detached, or computed without gradients"
                )
        super().__init__(early_stop_on, minimize if checkpoint_on is None else checkpoint_on)
        self.minimize = minimize
        self.hiddens = hiddens


class EvalResult(Result):
    """Returned by ``validation_step`` and ``test_step`` with what to monitor and log.

    Args:
        early_stop_on: value for EarlyStopping, instead of that of training.
        checkpoint_on: value for ModelCheckpoint, instead of that of training.
    """

    _logs_steps = False
    _logs_epochs = True

    def write(self, name: str, values: Any, filename: str = "predictions.pt") -> None:
        """Write values to a file when the epoch ends.

        The files are in the run's folder, one for each process, in the format safetensors: for
        ``predictions.pt``, ``predictions_rank_0.safetensors``. ``nightbus.load_predictions(path)``
        reads them: a list with a dict for each sample.

        Args:
            name: the name of the values.
            values: a tensor or list with an entry for each sample of the batch.
            filename: the file.
        """
        self.write_dict({name: values}, filename)

    def write_dict(self, predictions: Mapping[str, Any], filename: str = "predictions.pt") -> None:
        """Write several values of the same samples; see ``write``.

        Args:
            predictions: name -> values.
            filename: the file.

        Raises:
            UsageError: they differ in length.
        """
        lengths = {name: len(values) for name, values in predictions.items()}
        if len(set(lengths.values())) > 1:
            raise UsageError(f"write_dict got values of different lengths: {lengths}")
        self._writes.append((filename, dict(predictions)))

    def writes(self) -> Sequence[tuple[str, dict[str, Any]]]:
        """Return file name and values of each ``write``."""
        return list(self._writes)


def _monitored(name: str, value: Any) -> Any:
    if isinstance(value, Tensor):
        if value.numel() != 1:
            raise UsageError(f"{name} has shape {tuple(value.shape)}; one number is expected")
        return value.detach()
    return value


class CollectedResult(Result):
    """An epoch's results in one; ``*_epoch_end`` gets it, and may add to it.

    Args:
        results: those of each batch.
    """

    _logs_steps = False
    _logs_epochs = True

    def __init__(self, results: Sequence[Result]) -> None:
        super().__init__()
        names: dict[str, None] = {}
        for result in results:
            names |= dict.fromkeys(result._attributes)
            self._logged.update(result._logged)
        for name in names:
            parts = [result._attributes[name] for result in results if name in result]
            self._attributes[name] = stacked(parts)
        object.__setattr__(self, "_as_collected", dict(self._attributes))
        object.__setattr__(self, "_sizes", [result.size for result in results])

    def reduced(self) -> Iterator[tuple[str, Any, Logged]]:
        """Yield the epoch's value of each metric logged on epoch, reduced unless it is already."""
        for name, value, options in self.logged():
            if not options.on_epoch:
                continue
            untouched = self.__dict__["_as_collected"].get(name)
            is_stack = isinstance(value, Tensor) and value.numel() > 1
            if value is untouched or is_stack:
                value = self._reduce(value, options.reduce_fx)
            yield name, value, options

    def _reduce(self, value: Any, reduce_fx: Reduce) -> Any:
        values = torch.as_tensor(value, dtype=None if isinstance(value, Tensor) else torch.float64)
        sizes = self.__dict__["_sizes"]
        if reduce_fx is torch.mean and len(sizes) == values.numel():
            weights = torch.tensor(sizes, dtype=torch.float64, device=values.device)
            return (values.double().flatten() * weights).sum() / weights.sum()
        return reduce_fx(values)


def stacked(parts: Sequence[Any]) -> Any:
    """Return batches' values as one: scalars stacked, tensors concatenated, others in a list."""
    if parts and all(isinstance(part, Tensor) for part in parts):
        if all(part.dim() == 0 for part in parts):
            return torch.stack(list(parts))
        if all(part.dim() > 0 for part in parts):
            return torch.cat(list(parts))
    if parts and all(isinstance(part, int | float) for part in parts):
        return torch.tensor(parts)
    return list(parts)
