"""ThroughputMonitor: records batches and samples per second as metrics."""

from collections import deque
from collections.abc import Callable
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...bus.clock import monotonic
from ...bus.errors import UsageError
from ..arguments import check_at_least
from ..callback import Callback
from ..former_arguments import check_former

if TYPE_CHECKING:
    from ..module import LightningModule
    from ..trainer_type import Trainer


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
        self._batch_size_fn = batch_size_fn or first_dimension
        self._length_fn = length_fn
        self._available_flops = available_flops
        self._separator = separator
        self._window_size = window_size
        self._windows: dict[str, _Window] = {}
        self._training_paused_at: float | None = None

    def on_train_start(self, trainer: "Trainer", module: "LightningModule") -> None:
        self._begin("train")

    def on_train_batch_end(
        self,
        trainer: "Trainer",
        module: "LightningModule",
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self._take(trainer, module, "train", batch)

    def on_validation_start(self, trainer: "Trainer", module: "LightningModule") -> None:
        self._begin("validate")
        self._training_paused_at = monotonic()

    def on_validation_batch_end(
        self,
        trainer: "Trainer",
        module: "LightningModule",
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._take(trainer, module, "validate", batch)

    def on_validation_end(self, trainer: "Trainer", module: "LightningModule") -> None:
        if self._training_paused_at is not None and "train" in self._windows:
            self._windows["train"].forget(monotonic() - self._training_paused_at)
        self._training_paused_at = None

    def on_test_start(self, trainer: "Trainer", module: "LightningModule") -> None:
        self._begin("test")

    def on_test_batch_end(
        self,
        trainer: "Trainer",
        module: "LightningModule",
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._take(trainer, module, "test", batch)

    def on_predict_start(self, trainer: "Trainer", module: "LightningModule") -> None:
        self._begin("predict")

    def on_predict_batch_end(
        self,
        trainer: "Trainer",
        module: "LightningModule",
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._take(trainer, module, "predict", batch)

    def teardown(self, trainer: "Trainer", module: "LightningModule", stage: str) -> None:
        self._windows.clear()

    def _begin(self, stage: str) -> None:
        self._windows[stage] = _Window(self._window_size, monotonic())

    def _take(self, trainer: "Trainer", module: "LightningModule", stage: str, batch: Any) -> None:
        window = self._windows[stage]
        due = (window.batches + 1) % trainer.metrics.log_every_n_steps == 0
        if due and trainer.device.device.type == "cuda":
            torch.cuda.synchronize(trainer.device.device)  # kernels may still be running
        length = self._length_fn(batch) if self._length_fn is not None else 0
        window.add(self._batch_size_fn(batch), length, monotonic())
        if not due:
            return
        found = window.metrics(self._length_fn is not None)
        rate, flops = found.get("device/batches_per_sec"), getattr(module, "flops_per_batch", None)
        if flops is not None and rate is not None:
            found["device/flops_per_sec"] = rate * flops
            if self._available_flops:
                found["device/mfu"] = rate * flops / self._available_flops
        for name, value in found.items():
            shown = f"{stage}/{name}".replace("/", self._separator)
            self.put(shown, value, ("callbacks", "loggers"))


class _Window:
    """Counts the batches of a stage, and keeps the end times of the last ones."""

    def __init__(self, size: int, now: float) -> None:
        self._start = now
        # (time, samples by then, items by then)
        self._last: deque[tuple[float, int, int]] = deque(maxlen=size)
        self.batches = 0
        self._samples = 0
        self._items = 0

    def add(self, samples: int, items: int, now: float) -> None:
        self.batches += 1
        self._samples += samples
        self._items += items
        self._last.append((now, self._samples, self._items))

    def forget(self, seconds: float) -> None:
        """Exclude some seconds from the measurement."""
        self._start += seconds
        times = [(when + seconds, samples, items) for when, samples, items in self._last]
        self._last.clear()
        self._last.extend(times)

    def metrics(self, has_items: bool) -> dict[str, float]:
        """Return the metrics so far; rates need two batches."""
        first, last = self._last[0], self._last[-1]
        found: dict[str, float] = {
            "time": last[0] - self._start,
            "batches": self.batches,
            "samples": self._samples,
        }
        if has_items:
            found["lengths"] = self._items
        seconds = last[0] - first[0]
        if seconds <= 0:
            return found
        found["device/batches_per_sec"] = (len(self._last) - 1) / seconds
        found["device/samples_per_sec"] = (last[1] - first[1]) / seconds
        if has_items:
            found["device/items_per_sec"] = (last[2] - first[2]) / seconds
        return found


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
