"""ThroughputMonitor: records batches and samples per second as metrics."""

from collections import deque
from collections.abc import Callable
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
    ``predict/...``. Training does not include the time of validation.

    Args:
        batch_size_fn: batch -> number of samples; the first dimension of the batch's first tensor
            by default.
        window_size: number of batches over which rates are measured; at least 2.
        former: arguments of Lightning, accepted if they mean the default.

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
        window_size: int = 100,
        **former: Any,
    ) -> None:
        check_former("ThroughputMonitor", former, ("batch_size_fn", "window_size"))
        if batch_size_fn is not None and not callable(batch_size_fn):
            raise UsageError(
                f"batch_size_fn={batch_size_fn!r}: expected a function that returns how many "
                "samples a batch holds"
            )
        if window_size is None:
            raise UsageError("window_size=None: expected an int of at least 2")
        check_at_least("window_size", window_size, 2)
        self._batch_size_fn = batch_size_fn or first_dimension
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
        self._take(trainer, "train", batch)

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
        self._take(trainer, "validate", batch)

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
        self._take(trainer, "test", batch)

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
        self._take(trainer, "predict", batch)

    def teardown(self, trainer: "Trainer", module: "LightningModule", stage: str) -> None:
        self._windows.clear()

    def _begin(self, stage: str) -> None:
        self._windows[stage] = _Window(self._window_size, monotonic())

    def _take(self, trainer: "Trainer", stage: str, batch: Any) -> None:
        window = self._windows[stage]
        due = (window.batches + 1) % trainer.metrics.log_every_n_steps == 0
        if due and trainer.device.device.type == "cuda":
            torch.cuda.synchronize(trainer.device.device)  # kernels may still be running
        window.add(self._batch_size_fn(batch), monotonic())
        if due:
            for name, value in window.metrics().items():
                self.put(f"{stage}/{name}", value, ("callbacks", "loggers"))


class _Window:
    """Counts the batches of a stage, and keeps the end times of the last ones."""

    def __init__(self, size: int, now: float) -> None:
        self._start = now
        self._last: deque[tuple[float, int]] = deque(maxlen=size)  # (time, samples by then)
        self.batches = 0
        self._samples = 0

    def add(self, samples: int, now: float) -> None:
        self.batches += 1
        self._samples += samples
        self._last.append((now, self._samples))

    def forget(self, seconds: float) -> None:
        """Exclude some seconds from the measurement."""
        self._start += seconds
        times = [(when + seconds, samples) for when, samples in self._last]
        self._last.clear()
        self._last.extend(times)

    def metrics(self) -> dict[str, float]:
        """Return the metrics so far; rates need two batches."""
        first, last = self._last[0], self._last[-1]
        counts = {
            "time": last[0] - self._start,
            "batches": self.batches,
            "samples": self._samples,
        }
        seconds = last[0] - first[0]
        if seconds <= 0:
            return counts
        return counts | {
            "device/batches_per_sec": (len(self._last) - 1) / seconds,
            "device/samples_per_sec": (last[1] - first[1]) / seconds,
        }


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
