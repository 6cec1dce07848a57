"""ThroughputMonitor: records batches and samples per second as metrics."""

from collections.abc import Callable
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...bus.clock import monotonic
from ...bus.errors import UsageError
from ...bus.system.logging_setup import get_logger
from ..arguments import check_at_least
from ..callback import Callback
from ..former_arguments import check_former
from ..throughput import Counts, Throughput

if TYPE_CHECKING:
    from ..module import LightningModule
    from ..trainer_type import Trainer

_log = get_logger("nightbus.throughput_monitor", of_all_ranks=True)


class ThroughputMonitor(Callback):
    """Records the speed of each stage, every ``log_every_n_steps`` batches.

    Metrics of training are ``train/device/batches_per_sec`` and ``train/device/samples_per_sec``,
    over the last ``window_size`` batches; ``train/time``, ``train/batches`` and ``train/samples``
    count from the stage's start. The others are named ``validate/...``, ``test/...`` and
    ``predict/...``. Training does not include the time of validation. With ``length_fn`` there are
    ``train/lengths`` and ``train/device/items_per_sec`` too. If the module has an attribute
    ``flops_per_batch``, there is ``train/device/flops_per_sec``, and with ``available_flops`` the
    share of it, ``train/device/mfu``. All are those of one process.

    Args:
        batch_size_fn: batch -> number of samples; the first dimension of the batch's first tensor
            by default.
        window_size: number of batches over which rates are measured; at least 2.
        length_fn: batch -> number of items, such as tokens; None to leave them out.
        available_flops: floating-point operations per second that the device could do.
        separator: stands between the parts of the names.
        former: ``world_size`` of Lightning, without effect: the Trainer knows it.

    Raises:
        UsageError: an argument is wrong.
    """

    why_not_replayed = (
        "it counts the samples of live batches, which a log does not hold; its measurements are "
        "among the run's metrics"
    )

    def __init__(
        self,
        batch_size_fn: Callable[[Any], int] | None = None,
        length_fn: Callable[[Any], int] | None = None,
        window_size: int = 100,
        available_flops: float | None = None,
        separator: str = "/",
        **former: Any,
    ) -> None:
        former.pop("world_size", None)
        check_former("ThroughputMonitor", former, list(signature(type(self)).parameters))
        for name, function in (("batch_size_fn", batch_size_fn), ("length_fn", length_fn)):
            if function is not None and not callable(function):
                raise UsageError(
                    f"{name}={function!r}: expected a function that returns how many samples, or "
                    "items, a batch holds"
                )
        if window_size is None:
            raise UsageError("window_size=None: expected an int of at least 2")
        check_at_least("window_size", window_size, 2)
        self._said_no_flops = False
        self._batch_size_fn = batch_size_fn or first_dimension
        self._length_fn = length_fn
        self._available_flops = available_flops
        self._separator = separator
        self._window_size = window_size
        self._windows: dict[str, _Measured] = {}
        self._training_paused_at: float | None = None

    def on_train_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        self._begin("train")

    def on_train_batch_end(
        self,
        trainer: "Trainer",
        pl_module: "LightningModule",
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self._take(trainer, pl_module, "train", batch)

    def on_validation_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        self._begin("validate")
        self._training_paused_at = monotonic()

    def on_validation_batch_end(
        self,
        trainer: "Trainer",
        pl_module: "LightningModule",
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._take(trainer, pl_module, "validate", batch)

    def on_validation_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        if self._training_paused_at is not None and "train" in self._windows:
            self._windows["train"].forget(monotonic() - self._training_paused_at)
        self._training_paused_at = None

    def on_test_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        self._begin("test")

    def on_test_batch_end(
        self,
        trainer: "Trainer",
        pl_module: "LightningModule",
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._take(trainer, pl_module, "test", batch)

    def on_predict_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        self._begin("predict")

    def on_predict_batch_end(
        self,
        trainer: "Trainer",
        pl_module: "LightningModule",
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._take(trainer, pl_module, "predict", batch)

    def teardown(self, trainer: "Trainer", pl_module: "LightningModule", stage: str) -> None:
        self._windows.clear()

    def _begin(self, stage: str) -> None:
        self._windows[stage] = _Measured(self._window_size, monotonic())

    def _take(
        self, trainer: "Trainer", pl_module: "LightningModule", stage: str, batch: Any
    ) -> None:
        window = self._windows[stage]
        due = (window.batches + 1) % trainer.metrics.log_every_n_steps == 0
        if due and trainer.device.device.type == "cuda":
            torch.cuda.synchronize(trainer.device.device)  # kernels may still be running
        length = None if self._length_fn is None else self._length_fn(batch)
        flops = getattr(pl_module, "flops_per_batch", None)
        if flops is None and not self._said_no_flops:
            self._said_no_flops = True
            _log.warning(
                "ThroughputMonitor records no operations per second: the module has no "
                "`flops_per_batch`; measure_flops returns it"
            )
        window.add(self._batch_size_fn(batch), length, flops, monotonic())
        if not due:
            return
        window.available_flops = self._available_flops
        for name, value in window.compute().items():
            shown = f"{stage}/{name}".replace("/", self._separator)
            self.put(shown, value, ("callbacks", "loggers"))


class _Measured(Throughput):
    """The batches of a stage."""

    needs_full_window = False

    def __init__(self, size: int, now: float) -> None:
        super().__init__(window_size=size)
        self._start = now
        self.batches = self._samples = self._items = 0

    def add(self, samples: int, items: int | None, flops: int | None, now: float) -> None:
        """Count a batch that ends now."""
        self.batches += 1
        self._samples += samples
        self._items += items or 0
        lengths = None if items is None else self._items
        # Without the checks of update: a batch that is empty must not end a run.
        self._add(Counts(now - self._start, self.batches, self._samples, lengths), flops)

    def forget(self, seconds: float) -> None:
        """Exclude some seconds from the measurement."""
        self._start += seconds


def first_dimension(batch: Any) -> int:
    """Return the number of samples in a batch: the first dimension of its first tensor.

    Raises:
        UsageError: there is no such tensor.
    """
    size = _size_of(batch)
    if size is None:
        raise UsageError(
            f"ThroughputMonitor finds no tensor in a batch of type {type(batch).__name__}; give "
            "batch_size_fn"
        )
    return size


def _size_of(batch: Any) -> int | None:
    if isinstance(batch, Tensor):
        return batch.shape[0] if batch.dim() else 1
    entries = batch.values() if isinstance(batch, dict) else batch
    if not isinstance(batch, dict | list | tuple):
        return None
    return next((size for entry in entries if (size := _size_of(entry)) is not None), None)
